//! How answers of a candidate are compared with those of `base`: part of a shadow policy.

use std::fmt;
use std::sync::Arc;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value as Json;

use super::decode::{Decoder, Wanted};
use super::value::{self, json_pointer, limit, list, share, switch, word};

/// The comparing part of `shadow:<svc>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Classes of answers that count as bad.
    pub bad: Vec<Class>,
    /// Answers that say by their content that they failed.
    pub fail_when: Vec<FailWhen>,
    /// What every good answer fulfils.
    pub answer_schema: Option<AnswerSchema>,
    /// What is not compared.
    pub ignore: Vec<Ignored>,
    /// How far numbers may lie apart.
    pub tolerance: Vec<Tolerance>,
    /// Arrays compared as sets.
    pub unordered: Vec<Unordered>,
    /// How texts are compared.
    pub text: Vec<TextRule>,
    /// Whether a member that is null is the same as none.
    pub null_is_missing: bool,
    /// Where in each server-sent event a piece of the text stands.
    pub sse_text: Option<Box<str>>,
}

/// What an answer, or the want of one, comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Nothing is wrong with it by itself.
    Ok,
    /// Status 400 to 499.
    Http4xx,
    /// Status 500 and above.
    Http5xx,
    /// No connection.
    Connect,
    /// Not in time, or no more bytes in time.
    Timeout,
    /// The connection broke before the answer began.
    Reset,
    /// The answer broke off.
    Cut,
    /// Not JSON where the other side's answer is.
    BadJson,
    /// Not as `answer_schema` wants it.
    BadSchema,
    /// Fails by its content: `fail_when`.
    Business,
    /// Longer than what is kept, so that it cannot be compared.
    TooLarge,
}

impl Class {
    /// All classes, in the order in which reports name them.
    pub const ALL: [Self; 11] = [
        Self::Ok,
        Self::Http4xx,
        Self::Http5xx,
        Self::Connect,
        Self::Timeout,
        Self::Reset,
        Self::Cut,
        Self::BadJson,
        Self::BadSchema,
        Self::Business,
        Self::TooLarge,
    ];

    /// Its name in settings, counters and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Http4xx => "http_4xx",
            Self::Http5xx => "http_5xx",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Cut => "cut",
            Self::BadJson => "bad_json",
            Self::BadSchema => "bad_schema",
            Self::Business => "business",
            Self::TooLarge => "too_large",
        }
    }
}

/// An answer has failed where this value stands in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailWhen {
    /// Where.
    pub pointer: Box<str>,
    /// The value: the text of a string, or a number, `true`, `false` or `null` as JSON writes it.
    pub value: Box<str>,
}

/// What is not compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// A part of the answer and all below it.
    At(Box<str>),
    /// The status.
    Status,
    /// The type of the content.
    ContentType,
}

/// How far numbers may lie apart: by the absolute part and the relative part together.
#[derive(Clone, Debug, PartialEq)]
pub struct Tolerance {
    /// Where; `None`: everywhere.
    pub pointer: Option<Box<str>>,
    /// By how much.
    pub absolute: f64,
    /// By which share of the larger one.
    pub relative: f64,
}

/// An array compared as a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unordered {
    /// Where.
    pub pointer: Box<str>,
    /// The member by which items are matched; `None`: by their whole value.
    pub key: Option<Box<str>>,
}

/// How texts are compared.
#[derive(Clone, Debug, PartialEq)]
pub struct TextRule {
    /// Where; `None`: everywhere.
    pub pointer: Option<Box<str>>,
    /// What is no difference.
    pub allows: Allowance,
}

/// What is no difference between two texts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Allowance {
    /// White space at both ends.
    pub trim: bool,
    /// Upper and lower case.
    pub casefold: bool,
    /// Other words, as long as this share of all words is in both (Jaccard).
    pub similar: Option<f64>,
}

/// What every good answer fulfils: a JSON Schema, ready to be asked.
#[derive(Clone)]
pub struct AnswerSchema {
    text: Box<str>,
    validator: Arc<Validator>,
}

impl AnswerSchema {
    /// The schema written in `text`; patterns are matched in linear time, so that they have no
    /// look-around and no back references.
    pub fn parse(text: &str) -> Result<Self, Wanted> {
        if text.len() > SCHEMA_MAX {
            return Err("a JSON Schema of at most 64KiB".to_owned());
        }
        let schema: Json = serde_json::from_str(text)
            .ok()
            .filter(Json::is_object)
            .ok_or_else(|| "a JSON Schema, which is a JSON object".to_owned())?;
        let validator = jsonschema::options()
            .with_pattern_options(PatternOptions::regex())
            .build(&schema)
            .map_err(|error| format!("a JSON Schema that can be used ({error})"))?;
        Ok(Self {
            text: text.into(),
            validator: Arc::new(validator),
        })
    }

    /// Whether `answer` is as the schema wants it.
    #[must_use]
    pub fn admits(&self, answer: &Json) -> bool {
        self.validator.is_valid(answer)
    }
}

impl PartialEq for AnswerSchema {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for AnswerSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnswerSchema").field(&self.text).finish()
    }
}

/// The longest schema, in bytes.
const SCHEMA_MAX: usize = 64 << 10;

/// Classes that can be bad; an answer too large to be compared says nothing about its quality,
/// but an operator may see it otherwise.
const BAD: &[(&str, Class)] = &[
    ("http_4xx", Class::Http4xx),
    ("http_5xx", Class::Http5xx),
    ("connect", Class::Connect),
    ("timeout", Class::Timeout),
    ("reset", Class::Reset),
    ("cut", Class::Cut),
    ("bad_json", Class::BadJson),
    ("bad_schema", Class::BadSchema),
    ("business", Class::Business),
    ("too_large", Class::TooLarge),
];

impl Comparison {
    pub(super) fn take(d: &mut Decoder<'_>) -> Self {
        let failures = d.take("fail_when", limit(list(fail_when)));
        Self {
            bad: d.take("bad", list(word(BAD))).unwrap_or_else(usually_bad),
            fail_when: failures.map_or_else(standard_failure, |said| said.at().unwrap_or_default()),
            answer_schema: d.take("answer_schema", AnswerSchema::parse),
            ignore: d.take("ignore", list(ignored)).unwrap_or_default(),
            tolerance: d.take("tolerance", list(tolerance)).unwrap_or_default(),
            unordered: d.take("unordered", list(unordered)).unwrap_or_default(),
            text: d.take("text", text_rules).unwrap_or_default(),
            null_is_missing: d.take("null_is_missing", switch).unwrap_or(false),
            sse_text: d.take("sse_text", json_pointer),
        }
    }
}

impl Default for Comparison {
    fn default() -> Self {
        Self {
            bad: usually_bad(),
            fail_when: standard_failure(),
            answer_schema: None,
            ignore: Vec::new(),
            tolerance: Vec::new(),
            unordered: Vec::new(),
            text: Vec::new(),
            null_is_missing: false,
            sse_text: None,
        }
    }
}

fn usually_bad() -> Vec<Class> {
    let classes = BAD.iter().map(|(_, class)| *class);
    classes.filter(|class| *class != Class::TooLarge).collect()
}

/// An answer in the standard form says in `status` whether it succeeded.
fn standard_failure() -> Vec<FailWhen> {
    vec![FailWhen {
        pointer: "/status".into(),
        value: "false".into(),
    }]
}

/// `/code=500`.
fn fail_when(text: &str) -> Result<FailWhen, Wanted> {
    let parse = || {
        let (pointer, value) = text.split_once('=')?;
        let pointer = json_pointer(pointer).ok()?;
        let value = value::text(value.trim()).ok()?;
        Some(FailWhen { pointer, value })
    };
    parse().ok_or_else(|| "a JSON pointer and a value such as /status=false".to_owned())
}

fn ignored(text: &str) -> Result<Ignored, Wanted> {
    match text {
        "status" => Ok(Ignored::Status),
        "content-type" => Ok(Ignored::ContentType),
        _ => json_pointer(text)
            .map(Ignored::At)
            .map_err(|wanted| format!("{wanted}, status or content-type")),
    }
}

/// `0.01`, `1%`, `/score=0.01` or `/score=1%`.
fn tolerance(text: &str) -> Result<Tolerance, Wanted> {
    let parse = || {
        let (pointer, amount) = placed(text)?;
        let (absolute, relative) = if amount.ends_with('%') {
            (0.0, share(amount).ok()?)
        } else {
            (value::number(0.0..=1e15)(amount).ok()?, 0.0)
        };
        Some(Tolerance {
            pointer,
            absolute,
            relative,
        })
    };
    parse().ok_or_else(|| "0.01, 1%, /score=0.01 or /score=1%".to_owned())
}

/// `/data`, or `/data:id`.
fn unordered(text: &str) -> Result<Unordered, Wanted> {
    let (pointer, key) = match text.rsplit_once(':') {
        Some((pointer, key)) => (pointer, Some(key)),
        None => (text, None),
    };
    json_pointer(pointer)
        .and_then(|pointer| {
            let key = key.map(value::short_text).transpose()?;
            Ok(Unordered { pointer, key })
        })
        .map_err(|_wanted| "/data, or /data:id to match items by their id".to_owned())
}

/// `trim, /answer=trim, casefold, /summary=similar:0.9`: a word without a place belongs to the
/// place before it.
fn text_rules(text: &str) -> Result<Vec<TextRule>, Wanted> {
    let mut rules: Vec<TextRule> = Vec::new();
    for (pointer, allows) in list(text_rule)(text)? {
        match rules.last_mut() {
            Some(last) if pointer.is_none() => last.allows = last.allows.and(allows),
            _ => rules.push(TextRule { pointer, allows }),
        }
    }
    Ok(rules)
}

impl Allowance {
    fn and(self, more: Self) -> Self {
        Self {
            trim: self.trim || more.trim,
            casefold: self.casefold || more.casefold,
            similar: more.similar.or(self.similar),
        }
    }
}

fn text_rule(text: &str) -> Result<(Option<Box<str>>, Allowance), Wanted> {
    let parse = || {
        let (pointer, word) = placed(text)?;
        let mut allows = Allowance::default();
        match word.split_once(':') {
            None if word == "trim" => allows.trim = true,
            None if word == "casefold" => allows.casefold = true,
            Some(("similar", least)) => allows.similar = Some(share(least).ok()?),
            _ => return None,
        }
        Some((pointer, allows))
    };
    parse().ok_or_else(|| {
        "trim, casefold or similar:0.9, for one place such as /answer=trim".to_owned()
    })
}

/// The place before the last `=`, if there is one, and the rest.
fn placed(text: &str) -> Option<(Option<Box<str>>, &str)> {
    match text.rsplit_once('=') {
        Some((pointer, rest)) => Some((Some(json_pointer(pointer).ok()?), rest)),
        None => Some((None, text)),
    }
}
