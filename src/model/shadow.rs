//! Shadow policies: which requests and answers are copied, where to, and how they are compared.

use std::time::Duration;

use http::{HeaderName, Method, header};

use super::comparison::Comparison;
use super::decode::{Decoded, Decoder, Fields, Wanted};
use super::name::{ServiceName, VersionName};
use super::scorer::Scorer;
use super::settings::{Limit, Rate};
use super::value::{
    self, json_pointer, limit, list, nonzero_duration, nonzero_size, share, whole, word,
};

/// The decoded `shadow:<svc>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Shadow {
    /// Where copies go.
    pub to: Sink,
    /// The versions that are compared with `base`.
    pub candidates: Vec<VersionName>,
    /// The share of requests that is copied, 0 to 1.
    pub sample: f64,
    /// The most records.
    pub max_rate: Option<Rate>,
    /// How a request and its answer are written.
    pub records: Records,
    /// What is copied beside the sample.
    pub keep: Keep,
    /// How many bytes of a body are copied, each way.
    pub max_body: u64,
    /// The most records the stream holds.
    pub maxlen: u64,
    /// The most bytes the stream holds.
    pub max_bytes: u64,
    /// Older records are not compared any more.
    pub max_age: Duration,
    /// The Kafka topic.
    pub topic: Box<str>,
    /// The methods that are copied; empty: all.
    pub methods: Vec<Method>,
    /// Headers whose value is left out, with those that always are.
    pub redact_headers: Vec<HeaderName>,
    /// Parts of JSON bodies whose value is left out.
    pub redact_json: Vec<Box<str>>,
    /// How answers are compared.
    pub comparison: Comparison,
    /// What stands instead of such a part.
    pub redact: Redact,
    /// The judge outside.
    pub scorer: Option<Scorer>,
    /// The share of compared pairs offered to people, 0 to 1.
    pub label: f64,
    /// How many people judge each of them.
    pub reviewers: u32,
}

/// Where copies go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sink {
    /// A Redis Stream.
    #[default]
    Stream,
    /// A Kafka topic.
    Kafka,
    /// Straight to the candidate's endpoints.
    Mirror,
}

/// How a request and its answer are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Records {
    /// One record with both, after the answer.
    #[default]
    After,
    /// One record each.
    Both,
}

/// What stands instead of a part that is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redact {
    /// A keyed hash of it: equal values stay equal for as long as the gateway runs.
    #[default]
    Hash,
    /// Always the same word.
    Remove,
}

/// What is copied beside the sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// Failed requests.
    pub failures: bool,
    /// Requests that took longer.
    pub slow: Option<Duration>,
}

/// Headers that never leave the gateway in a copy.
const ALWAYS_REDACTED: [HeaderName; 5] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::SET_COOKIE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
];

const SINKS: &[(&str, Sink)] = &[
    ("stream", Sink::Stream),
    ("kafka", Sink::Kafka),
    ("mirror", Sink::Mirror),
];

const RECORDS: &[(&str, Records)] = &[("after", Records::After), ("both", Records::Both)];

const REDACT: &[(&str, Redact)] = &[("hash", Redact::Hash), ("remove", Redact::Remove)];

/// The most people who may be wanted for a pair.
const REVIEWERS_MAX: u32 = 100;

/// The most records a stream may be told to hold.
const MAXLEN_MAX: u64 = 100_000_000;

/// Decodes `shadow:<svc>`.
#[must_use]
pub fn decode(key: &str, service: &ServiceName, fields: &Fields) -> Decoded<Shadow> {
    let mut decoder = Decoder::new(key, fields);
    let d = &mut decoder;
    let topic = d.take("topic", topic);
    let shadow = Shadow {
        to: d.take("to", word(SINKS)).unwrap_or_default(),
        candidates: take_candidates(d),
        sample: d.take("sample", share).unwrap_or(1.0),
        max_rate: d.take("max_rate", limit(value::rate)).and_then(Limit::at),
        records: d.take("records", word(RECORDS)).unwrap_or_default(),
        keep: d.take("keep", keep).unwrap_or_default(),
        max_body: d.take("max_body", value::size).unwrap_or(64 << 10),
        maxlen: d.take("maxlen", whole(1..=MAXLEN_MAX)).unwrap_or(100_000),
        max_bytes: d.take("max_bytes", nonzero_size).unwrap_or(256 << 20),
        max_age: d
            .take("max_age", nonzero_duration)
            .unwrap_or(Duration::from_mins(10)),
        topic: topic.unwrap_or_else(|| format!("smartlink.shadow.{service}").into()),
        methods: d.take("methods", list(value::method)).unwrap_or_default(),
        redact_headers: take_redacted(d),
        redact_json: (d.take("redact_json", list(json_pointer))).unwrap_or_default(),
        comparison: Comparison::take(d),
        redact: d.take("redact", word(REDACT)).unwrap_or_default(),
        scorer: Scorer::take(d),
        label: d.take("label", share).unwrap_or(0.05),
        reviewers: d.take("reviewers", whole(1..=REVIEWERS_MAX)).unwrap_or(1),
    };
    decoder.finish(Some(shadow))
}

fn take_candidates(decoder: &mut Decoder<'_>) -> Vec<VersionName> {
    let candidates = decoder.take("candidate", list(candidate));
    candidates.unwrap_or_else(|| candidate("candidate").into_iter().collect())
}

/// A version that may be compared with `base`.
pub(crate) fn candidate(text: &str) -> Result<VersionName, Wanted> {
    let version = value::name(text)?;
    if version.is_base() {
        return Err("a version other than base, with which it is compared".to_owned());
    }
    Ok(version)
}

fn take_redacted(decoder: &mut Decoder<'_>) -> Vec<HeaderName> {
    let more = decoder.take("redact_headers", list(value::header_name));
    let mut redacted = ALWAYS_REDACTED.to_vec();
    redacted.extend(more.unwrap_or_default());
    redacted
}

fn topic(text: &str) -> Result<Box<str>, Wanted> {
    let valid = (1..=249).contains(&text.len())
        && ![".", ".."].contains(&text)
        && (text.bytes()).all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    valid
        .then(|| text.into())
        .ok_or_else(|| "a topic: letters, digits, _ . and -, at most 249".to_owned())
}

/// `failures`, `slow 5s` or both.
fn keep(text: &str) -> Result<Keep, Wanted> {
    let wanted = || "failures, slow 5s or both, separated by a comma".to_owned();
    let mut keep = Keep::default();
    for item in text.split(',').map(str::trim) {
        match item.split_once(' ') {
            None if item == "failures" => keep.failures = true,
            Some(("slow", time)) => {
                let time = nonzero_duration(time.trim_start());
                keep.slow = Some(time.map_err(|wanted| format!("after slow: {wanted}"))?);
            }
            _ => return Err(wanted()),
        }
    }
    Ok(keep)
}
