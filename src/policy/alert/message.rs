//! What a receiver is told, whatever its form.

use serde::Serialize;

use super::{Incident, Key, Tell};
use crate::model::alert::Kind;

/// The most of one text that is repeated, in bytes.
const TEXT_MAX: usize = 600;
/// The most incidents that are named in one message.
const NAMED_MAX: usize = 10;

/// One message; as JSON it is the form `json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// The alert by which it is told.
    pub alert: String,
    /// What is wrong.
    pub kind: Kind,
    /// Whether it goes on.
    pub state: Tell,
    /// The service; empty where it is about none, or several.
    pub service: String,
    /// The version; empty where it is about none, or several.
    pub version: String,
    /// The endpoint; empty where it is about none, or several.
    pub endpoint: String,
    /// Since when it is wrong, in Unix milliseconds.
    pub since_ms: u64,
    /// When this message was made, or when it was over, in Unix milliseconds.
    pub at_ms: u64,
    /// How often it happened, or how many incidents it is about.
    pub count: u64,
    /// What is wrong, in a sentence.
    pub why: String,
    /// The numbers behind it, with their units.
    pub evidence: String,
    /// The line that relieves it; empty where it is over.
    pub relief: String,
    /// The gateway that tells it.
    pub gateway: String,
}

impl Message {
    /// The message about these incidents of one kind, of which there is one at least.
    #[must_use]
    pub fn about(
        incidents: &[(&Key, &Incident)],
        tell: Tell,
        gateway: &str,
        now_ms: u64,
    ) -> Option<Self> {
        let (key, first) = incidents.first()?;
        let same = |of: fn(&(&Key, &Incident)) -> String| {
            let one = of(&(*key, *first));
            let all = incidents.iter().all(|it| of(it) == one);
            if all { one } else { String::new() }
        };
        let each = incidents.iter();
        let mut message = Self {
            alert: key.alert.to_string(),
            kind: key.kind,
            state: tell,
            service: same(|it| it.0.service.clone()),
            version: same(|it| it.1.facts.version.clone()),
            endpoint: same(|it| it.1.facts.endpoint.clone()),
            since_ms: each.clone().map(|it| it.1.since_ms).min().unwrap_or(now_ms),
            at_ms: match tell {
                Tell::Firing => now_ms,
                Tell::Over => each.map(|it| it.1.end_ms(now_ms)).max().unwrap_or(now_ms),
            },
            count: first.count(),
            why: bounded(&first.facts.why),
            evidence: bounded(&first.facts.evidence),
            relief: first.facts.relief.clone(),
            gateway: gateway.to_owned(),
        };
        if incidents.len() > 1 {
            message.tell_together(incidents);
        }
        if tell == Tell::Over {
            let lasted = message.at_ms.saturating_sub(message.since_ms);
            message.why = format!("over after {}: {}", duration(lasted), message.why);
            message.relief.clear();
        }
        Some(message)
    }

    fn tell_together(&mut self, incidents: &[(&Key, &Incident)]) {
        self.count = incidents.len() as u64;
        self.why = format!("{} incidents of this kind at once", incidents.len());
        let named = incidents.iter().take(NAMED_MAX);
        let mut lines: Vec<String> = named
            .map(|(key, it)| {
                let place = [&*key.service, &*key.part].join(" ");
                bounded(&format!("{}: {}", place.trim(), it.facts.why))
            })
            .collect();
        let more = incidents.len().saturating_sub(NAMED_MAX);
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        self.evidence = lines.join("\n");
    }

    /// A message that tries out the way to a receiver.
    #[must_use]
    pub fn test(alert: &str, gateway: &str, now_ms: u64) -> Self {
        Self {
            alert: alert.to_owned(),
            kind: Kind::EndpointDown,
            state: Tell::Firing,
            service: "test".to_owned(),
            version: String::new(),
            endpoint: String::new(),
            since_ms: now_ms,
            at_ms: now_ms,
            count: 1,
            why: "this is a test: nothing is wrong".to_owned(),
            evidence: "somebody ran smartlink check --alert".to_owned(),
            relief: String::new(),
            gateway: gateway.to_owned(),
        }
    }

    /// One line: what, where, and whether it goes on.
    #[must_use]
    pub fn title(&self) -> String {
        let state = match self.state {
            Tell::Firing => "FIRING",
            Tell::Over => "over",
        };
        let place = [&*self.service, &*self.version].join(" ");
        let place = place.trim();
        let gap = if place.is_empty() { "" } else { ": " };
        format!("smartlink {state} {}{gap}{place}", self.kind.as_str())
    }

    /// The lines below the title, for people.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.why.clone()];
        let mut line = |name: &str, text: &str| {
            if !text.is_empty() {
                lines.push(format!("{name}: {text}"));
            }
        };
        line("evidence", &self.evidence);
        line("service", &self.service);
        line("version", &self.version);
        line("endpoint", &self.endpoint);
        line("count", &self.count.to_string());
        line("since", &moment(self.since_ms));
        if self.state == Tell::Over {
            line("over", &moment(self.at_ms));
        }
        line("gateway", &self.gateway);
        line("relief", &self.relief);
        lines
    }

    /// Title and lines.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}\n{}", self.title(), self.lines().join("\n"))
    }
}

/// RFC 3339, UTC, whole seconds.
fn moment(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    let moment = jiff::Timestamp::from_second(seconds);
    moment.map_or_else(|_beyond| unix_ms.to_string(), |moment| moment.to_string())
}

/// A time in the units of settings, two of them at most: `1h 5m`, `12s`, `250ms`.
fn duration(millis: u64) -> String {
    let (s, ms) = (millis / 1000, millis % 1000);
    let two = |big: u64, unit: &str, small: u64, of: &str| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit} {small}{of}"),
    };
    match s {
        0 => format!("{ms}ms"),
        1..60 => format!("{s}s"),
        60..3600 => two(s / 60, "m", s % 60, "s"),
        _ => two(s / 3600, "h", s % 3600 / 60, "m"),
    }
}

fn bounded(text: &str) -> String {
    let end = text.floor_char_boundary(TEXT_MAX);
    let kept = text.get(..end).unwrap_or(text);
    if kept.len() < text.len() {
        format!("{kept}…")
    } else {
        kept.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_the_units_of_settings() {
        for (millis, wanted) in [
            (250, "250ms"),
            (12_345, "12s"),
            (192_000, "3m 12s"),
            (3_900_000, "1h 5m"),
            (7_200_000, "2h"),
        ] {
            assert_eq!(duration(millis), wanted);
        }
        assert_eq!(moment(1_700_000_000_500), "2023-11-14T22:13:20Z");
    }
}
