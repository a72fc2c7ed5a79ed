//! A page of Prometheus's text format 0.0.4, read strictly: what a scraper may refuse, panics.

use std::collections::{BTreeMap, BTreeSet};

/// Names and values in the order of the line.
type Labels = Vec<(String, String)>;

/// One line with a value.
#[derive(Clone, Debug)]
pub struct Sample {
    pub name: String,
    labels: Labels,
    pub value: f64,
}

impl Sample {
    /// The value of that label; empty where there is none, which means the same.
    pub fn label(&self, name: &str) -> &str {
        let label = self.labels.iter().find(|(label, _)| label == name);
        label.map_or("", |(_, value)| value)
    }

    /// The names of its labels as written.
    pub fn label_names(&self) -> Vec<&str> {
        self.labels.iter().map(|(name, _)| name.as_str()).collect()
    }

    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels
            .iter()
            .all(|(name, value)| self.label(name) == *value)
    }
}

#[derive(Debug)]
struct Family {
    name: String,
    kind: String,
    samples: Vec<Sample>,
}

/// A page.
#[derive(Debug)]
pub struct Page(Vec<Family>);

impl Page {
    /// Reads a page; panics where it breaks the format.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line has no end");
        let mut families: Vec<Family> = Vec::new();
        let mut help = None;
        for line in text.strip_suffix('\n').expect("it has one").split('\n') {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, text) = rest.split_once(' ').expect("a text of help");
                assert!(help.is_none() && !text.is_empty(), "{line}");
                help = Some(name);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                assert_eq!(help.take(), Some(name), "HELP stands before TYPE: {line}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                let known = families.iter().any(|family| family.name == name);
                assert!(!known, "twice: {line}");
                families.push(Family {
                    name: name.to_owned(),
                    kind: kind.to_owned(),
                    samples: Vec::new(),
                });
            } else {
                let sample = sample(line).unwrap_or_else(|| panic!("no sample: {line:?}"));
                let family = families.last_mut().expect("a type comes first");
                assert!(help.is_none() && family.owns(&sample.name), "{line}");
                family.samples.push(sample);
            }
        }
        families.iter().for_each(Family::check);
        Self(families)
    }

    /// The names of all families in order.
    pub fn families(&self) -> Vec<&str> {
        self.0.iter().map(|family| family.name.as_str()).collect()
    }

    /// The samples of a family.
    pub fn family(&self, name: &str) -> &[Sample] {
        let family = self.0.iter().find(|family| family.name == name);
        family.map_or(&[], |family| &family.samples)
    }

    fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.0.iter().flat_map(|family| &family.samples)
    }

    /// The samples of that name with these labels.
    pub fn of(&self, name: &str, labels: &[(&str, &str)]) -> Vec<&Sample> {
        let samples = self.samples().filter(|sample| sample.name == name);
        samples.filter(|sample| sample.has(labels)).collect()
    }

    /// Their sum.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let samples = self.of(name, labels);
        samples.iter().map(|sample| sample.value).sum()
    }

    /// How many samples have these labels.
    pub fn with(&self, labels: &[(&str, &str)]) -> usize {
        self.samples().filter(|sample| sample.has(labels)).count()
    }

    /// Whether this is so of all samples.
    pub fn all(&self, is: impl FnMut(&Sample) -> bool) -> bool {
        self.samples().all(is)
    }
}

impl Family {
    fn owns(&self, name: &str) -> bool {
        let part = name.strip_prefix(&self.name);
        match self.kind.as_str() {
            "histogram" => matches!(part, Some("_bucket" | "_sum" | "_count")),
            _ => part == Some(""),
        }
    }

    fn check(&self) {
        let mut seen = BTreeSet::new();
        for sample in &self.samples {
            let mut labels = sample.labels.clone();
            labels.sort();
            assert!(seen.insert((&sample.name, labels)), "twice: {sample:?}");
        }
        match self.kind.as_str() {
            "counter" => {
                assert!(self.name.ends_with("_total"), "{}", self.name);
                let whole = |it: &Sample| it.value >= 0.0 && it.value.is_finite();
                assert!(self.samples.iter().all(whole), "{self:?}");
            }
            "gauge" => assert!(!self.name.ends_with("_total"), "{}", self.name),
            _ => self.check_histogram(),
        }
    }

    /// Buckets grow, the last is `+Inf`, and it is the count.
    fn check_histogram(&self) {
        let mut buckets: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
        for sample in self.part("_bucket") {
            let mut labels = sample.labels.clone();
            labels.retain(|(name, _)| name != "le");
            let bound = sample.label("le").parse().expect("a bound");
            let of = buckets.entry(labels).or_default();
            of.push((bound, sample.value));
        }
        assert_eq!(self.part("_sum").count(), buckets.len());
        assert_eq!(self.part("_count").count(), buckets.len());
        for (labels, buckets) in &buckets {
            let grow = buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1);
            assert!(grow, "{labels:?} {buckets:?}");
            let count = self.part("_count").find(|it| it.labels == *labels);
            let count = count.map(|it| (f64::INFINITY, it.value));
            assert_eq!(buckets.last().copied(), count, "{labels:?}");
        }
    }

    fn part(&self, part: &'static str) -> impl Iterator<Item = &Sample> {
        let samples = self.samples.iter();
        samples.filter(move |sample| sample.name.ends_with(part))
    }
}

/// `name{label="value",...} number`, with nothing around it.
fn sample(line: &str) -> Option<Sample> {
    let (name, mut rest) = name(line, |c| c == ':')?;
    let mut labels = Vec::new();
    if let Some(mut inside) = rest.strip_prefix('{') {
        loop {
            let (label, behind) = self::name(inside, |_| false)?;
            let (value, behind) = quoted(behind.strip_prefix("=\"")?)?;
            labels.push((label.to_owned(), value));
            if let Some(behind) = behind.strip_prefix('}') {
                rest = behind;
                break;
            }
            inside = behind.strip_prefix(',')?;
        }
    }
    let names: BTreeSet<_> = labels.iter().map(|(name, _)| name).collect();
    if names.len() != labels.len() {
        return None;
    }
    let number = rest.strip_prefix(' ')?;
    let plain = number
        .chars()
        .all(|c| c.is_ascii_digit() || ".-".contains(c));
    Some(Sample {
        name: name.to_owned(),
        labels,
        value: plain.then(|| number.parse().ok())??,
    })
}

fn name(text: &str, also: impl Fn(char) -> bool) -> Option<(&str, &str)> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || also(c);
    let end = text.find(|c| !fits(c))?;
    let (name, rest) = text.split_at(end);
    let first = name.chars().next()?;
    (!first.is_ascii_digit()).then_some((name, rest))
}

/// The text up to the closing quote, and what is behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    loop {
        match chars.next()? {
            (at, '"') => return Some((value, text.get(at + 1..)?)),
            (_, '\\') => value.push(match chars.next()?.1 {
                'n' => '\n',
                c @ ('\\' | '"') => c,
                _ => return None,
            }),
            (_, c) => value.push(c),
        }
    }
}

#[test]
fn what_breaks_the_format_is_no_sample() {
    for good in ["a 1", "a{b=\"c\"} 0.5", "a{b=\"\\\"\\\\\\n\",c=\"\"} -1"] {
        assert!(sample(good).is_some(), "{good}");
    }
    for bad in [
        "a",
        "a ",
        "a  1",
        "1a 1",
        "a{} 1",
        "a{b=\"c\"}1",
        "a{b=\"c\",} 1",
        "a{b=\"c} 1",
        "a{b=\"\\x\"} 1",
        "a{b=\"1\",b=\"2\"} 1",
        "a 1 2",
        "a one",
        "a 1e5 ",
        "a{b-c=\"1\"} 1",
    ] {
        assert!(sample(bad).is_none(), "{bad}");
    }
}
