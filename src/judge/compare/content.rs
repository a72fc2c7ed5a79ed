//! What a body is: JSON, server-sent events, text or bytes.

use std::str;

use serde_json::Value as Json;

use super::{Ending, Side};

/// A body, read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content<'a> {
    /// Nothing to read: no whole answer.
    None,
    /// A JSON document.
    Json(Json),
    /// Server-sent events: each one's data, and the text that stands in them where it is asked for.
    Events(Json, Option<String>),
    /// Text of any other kind, also JSON too large or too deep to be walked.
    Text(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
}

/// The deepest nesting walked; `serde_json` reads 127 levels.
const DEPTH_MAX: usize = 120;

/// The most values walked: far more than a record holds, and a bound on memory.
const VALUES_MAX: usize = 250_000;

impl<'a> Content<'a> {
    pub(super) fn read(side: &Side<'a>, sse_text: Option<&str>) -> Self {
        if side.ending != Ending::Whole {
            return Self::None;
        }
        let Ok(text) = str::from_utf8(side.body) else {
            return Self::Bytes(side.body);
        };
        if media_type(side.content_type) == "text/event-stream" {
            return events(text, sse_text);
        }
        // Not every server says what it sends, so an object or array counts as what it is.
        let says_json = media_type(side.content_type).ends_with("json");
        if (says_json || text.trim_ascii_start().starts_with(['{', '[']))
            && let Some(value) = json(text)
        {
            return Self::Json(value);
        }
        Self::Text(text)
    }

    /// How much structure it has: a stream of events more than one document, a document more than
    /// text. What has failed tends to have less: an error page, one JSON object for a stream.
    pub(super) fn structure(&self) -> u8 {
        match self {
            Self::None | Self::Text(_) | Self::Bytes(_) => 0,
            Self::Json(_) => 1,
            Self::Events(..) => 2,
        }
    }

    /// Its name in a difference of types.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Json(_) => "JSON",
            Self::Events(..) => "server-sent events",
            Self::Text(_) => "text",
            Self::Bytes(_) => "bytes",
        }
    }
}

/// `application/json` of `Application/JSON; charset=utf-8`.
pub(super) fn media_type(content_type: Option<&str>) -> String {
    let whole = content_type.unwrap_or_default();
    let essence = whole.split_once(';').map_or(whole, |(essence, _)| essence);
    essence.trim().to_ascii_lowercase()
}

/// A JSON document that may be walked.
fn json(text: &str) -> Option<Json> {
    values(text)?;
    serde_json::from_str(text).ok()
}

/// How many values `text` has at most, read as JSON; `None` where they are more, or nested deeper,
/// than may be walked. Brackets and commas inside of strings do not count.
fn values(text: &str) -> Option<usize> {
    let (mut depth, mut values) = (0_usize, 1_usize);
    let (mut inside, mut escaped) = (false, false);
    for byte in text.bytes() {
        if inside {
            (inside, escaped) = (escaped || byte != b'"', !escaped && byte == b'\\');
            continue;
        }
        match byte {
            b'"' => inside = true,
            b'[' | b'{' => {
                depth += 1;
                values += 1;
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => continue,
        }
        if depth > DEPTH_MAX || values > VALUES_MAX {
            return None;
        }
    }
    Some(values)
}

/// The data of each event (HTML Living Standard, 9.2.6) as JSON where it is, else as text. A stream
/// that ends without a blank line would drop its last event; here that is compared too.
fn events<'a>(text: &'a str, sse_text: Option<&str>) -> Content<'a> {
    let mut events = Vec::new();
    let mut left = VALUES_MAX;
    let mut data = None::<String>;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for line in lines(text).chain([""]) {
        if line.is_empty() {
            if let Some(data) = data.take() {
                let Some(rest) = values(&data).and_then(|values| left.checked_sub(values)) else {
                    return Content::Text(text);
                };
                left = rest;
                events.push(serde_json::from_str(&data).unwrap_or(Json::String(data)));
            }
        } else if let Some(value) = data_of(line) {
            data = Some(match data {
                Some(before) => before + "\n" + value,
                None => value.to_owned(),
            });
        }
    }
    let joined = sse_text.and_then(|pointer| joined(&events, pointer));
    Content::Events(Json::Array(events), joined)
}

/// Lines that end in a line feed, a carriage return, or both.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n')
        .flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

/// The value of a `data` line.
fn data_of(line: &str) -> Option<&str> {
    let (field, value) = line.split_once(':').unwrap_or((line, ""));
    (field == "data").then(|| value.strip_prefix(' ').unwrap_or(value))
}

/// The texts at `pointer`, one after the other; `None` where no event has any.
fn joined(events: &[Json], pointer: &str) -> Option<String> {
    let mut texts = events
        .iter()
        .filter_map(|event| event.pointer(pointer)?.as_str())
        .peekable();
    texts.peek()?;
    Some(texts.collect())
}
