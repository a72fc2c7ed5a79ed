//! The recorder of one scrape: writes what it is told as lines of Prometheus's text format 0.0.4.
//!
//! It keeps no series, so that one which is not told any more is gone. A handle is told once.

use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString,
    Unit,
};

/// What is written and not yet taken.
#[derive(Debug, Default)]
pub(super) struct Page(Arc<Pen>);

#[derive(Debug, Default)]
struct Pen(Mutex<Text>);

#[derive(Debug, Default)]
struct Text {
    lines: String,
    /// The sample that a handle was given for.
    head: String,
}

impl Page {
    /// How much is written, in bytes.
    pub(super) fn len(&self) -> usize {
        self.0.text().lines.len()
    }

    /// Takes what is written.
    pub(super) fn take(&self) -> String {
        std::mem::take(&mut self.0.text().lines)
    }

    fn describe(&self, name: &KeyName, kind: &str, help: &str) {
        let lines = &mut self.0.text().lines;
        lines.extend(["# HELP ", name.as_str(), " "]);
        escape(lines, help, false);
        lines.extend(["\n# TYPE ", name.as_str(), " ", kind, "\n"]);
    }

    fn begin(&self, key: &Key) {
        let head = &mut self.0.text().head;
        head.clear();
        head.push_str(key.name());
        let mut before = '{';
        for label in key.labels() {
            head.push(before);
            head.extend([label.key(), "=\""]);
            escape(head, label.value(), true);
            head.push('"');
            before = ',';
        }
        if before == ',' {
            head.push('}');
        }
    }
}

/// Writes `text` with what would end it escaped: in help texts `\` and line feeds, in label values
/// quotes too.
fn escape(out: &mut String, text: &str, quotes: bool) {
    // Nearly always there is none, and bytes are faster to look through than characters.
    if !text.bytes().any(|b| matches!(b, b'\\' | b'\n' | b'"')) {
        out.push_str(text);
        return;
    }
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\\' => out.push_str("\\\\"),
            '"' if quotes => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}

impl Pen {
    fn text(&self) -> MutexGuard<'_, Text> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, value: impl fmt::Display) {
        let mut text = self.text();
        let Text { lines, head } = &mut *text;
        lines.push_str(head);
        // A `String` takes everything.
        writeln!(lines, " {value}").ok();
    }
}

impl CounterFn for Pen {
    fn increment(&self, value: u64) {
        self.tell(value);
    }

    fn absolute(&self, value: u64) {
        self.tell(value);
    }
}

impl GaugeFn for Pen {
    fn increment(&self, value: f64) {
        self.tell(value);
    }

    fn decrement(&self, value: f64) {
        self.tell(-value);
    }

    fn set(&self, value: f64) {
        self.tell(value);
    }
}

impl Recorder for Page {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&key, "counter", &help);
    }

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&key, "gauge", &help);
    }

    fn describe_histogram(&self, key: KeyName, _: Option<Unit>, help: SharedString) {
        self.describe(&key, "histogram", &help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.begin(key);
        Counter::from_arc(Arc::clone(&self.0))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.begin(key);
        Gauge::from_arc(Arc::clone(&self.0))
    }

    /// Single values are not taken: buckets are told as they are.
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::{Kind, Metric, label, told_to};

    const GAUGE: Metric = Metric {
        name: "x_bytes",
        kind: Kind::Gauge,
        labels: &["a", "b"],
        help: "A \\ and \"quotes\"\nof two lines.",
    };

    #[test]
    fn lines_are_those_of_the_text_format() {
        let page = Page::default();
        told_to(&page, || {
            GAUGE.describe();
            GAUGE.set(vec![], 0.25);
            GAUGE.set(vec![label("a", "1")], 3.0);
            GAUGE.count(vec![label("a", "x\\y"), label("b", "\"\n")], u64::MAX);
        });
        let expected = "# HELP x_bytes A \\\\ and \"quotes\"\\nof two lines.\n\
                        # TYPE x_bytes gauge\n\
                        x_bytes 0.25\n\
                        x_bytes{a=\"1\"} 3\n\
                        x_bytes{a=\"x\\\\y\",b=\"\\\"\\n\"} 18446744073709551615\n";
        assert_eq!(page.len(), expected.len());
        assert_eq!(page.take(), expected);
        assert_eq!(page.len(), 0);
    }
}
