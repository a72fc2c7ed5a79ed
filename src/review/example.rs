//! An example: a request, what both versions made of it, and the lines that repeat it.

use serde::{Deserialize, Serialize};

use super::Heard;
use crate::judge::compare::{Differences, Ending};
use crate::model::decode::Fields;
use crate::model::shell::quoted;
use crate::shadow::{Body, Encoding, Record, Request};

/// The most of an answer that an example keeps, in bytes.
const ANSWER_MAX: usize = 16 << 10;

/// One example.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Example {
    /// The request's `x-request-id`.
    pub id: String,
    /// When it was compared, in Unix milliseconds.
    pub at_ms: u64,
    /// Of which kinds it is one: `path.<pointer>`, `class.<class>`.
    pub kinds: Vec<String>,
    /// Where the answers differ.
    pub differences: Vec<Place>,
    /// What was asked.
    pub request: Request,
    /// What the client was answered.
    pub base: Told,
    /// What the candidate answered.
    pub candidate: Told,
    /// The command that asks the candidate again.
    pub curl: String,
    /// The command that asks `base` again.
    pub curl_base: String,
}

/// A difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Where.
    pub path: String,
    /// In which way.
    pub kind: String,
    /// What `base` has there.
    pub base: String,
    /// What the candidate has there.
    pub candidate: String,
}

/// What came of a request, as an example and a pair keep it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// `whole`, or how else it ended.
    pub ending: String,
    /// The status; 0 where no answer began.
    pub status: u16,
    /// The answer's `content-type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The body.
    #[serde(flatten)]
    pub body: Body,
}

impl Told {
    /// What was heard, at most so many bytes of the body.
    #[must_use]
    pub fn of(heard: &Heard, most: usize) -> Self {
        let bytes = heard.body.len() as u64;
        let kept = heard.body.get(..most).unwrap_or(&heard.body);
        // A text that is cut within a letter is still a text.
        let kept = match std::str::from_utf8(kept) {
            Err(error) if error.error_len().is_none() => kept.get(..error.valid_up_to()),
            _ => Some(kept),
        };
        let kept = kept.unwrap_or_default().to_vec();
        Self {
            ending: name(heard.ending).to_owned(),
            status: heard.status,
            content_type: heard.content_type.clone(),
            body: Body::of(kept, bytes, heard.ending == Ending::Whole),
        }
    }
}

/// The name of an ending in examples.
fn name(ending: Ending) -> &'static str {
    match ending {
        Ending::Whole => "whole",
        Ending::TooLarge => "too_large",
        Ending::Connect => "connect",
        Ending::Timeout => "timeout",
        Ending::Reset => "reset",
        Ending::Cut => "cut",
    }
}

impl Example {
    /// The fields of the entry of an example. `urls` are where `base` and the candidate were, or
    /// would be, asked.
    #[must_use]
    pub fn fields(
        record: &Record,
        at_ms: u64,
        kinds: &[String],
        differences: Option<&Differences>,
        (base, candidate): (&Heard, &Heard),
        urls: (&str, &str),
    ) -> Vec<(&'static str, String)> {
        let places = differences.into_iter().flatten().map(|(path, it)| Place {
            path: path.to_string(),
            kind: it.kind.name().to_owned(),
            base: it.base.to_string(),
            candidate: it.candidate.to_string(),
        });
        let places: Vec<Place> = places.collect();
        vec![
            ("id", record.id.clone()),
            ("at_ms", at_ms.to_string()),
            ("kinds", json(&kinds)),
            ("differences", json(&places)),
            ("request", json(&record.request)),
            ("base", json(&Told::of(base, ANSWER_MAX))),
            ("candidate", json(&Told::of(candidate, ANSWER_MAX))),
            ("curl", curl(&record.id, &record.request, urls.1)),
            ("curl_base", curl(&record.id, &record.request, urls.0)),
        ]
    }

    /// The example that stands in these fields.
    #[must_use]
    pub fn parse(fields: &Fields) -> Option<Self> {
        let text = |name: &str| fields.get(name).map(String::as_str);
        Some(Self {
            id: text("id")?.to_owned(),
            at_ms: text("at_ms")?.parse().ok()?,
            kinds: serde_json::from_str(text("kinds")?).ok()?,
            differences: serde_json::from_str(text("differences")?).ok()?,
            request: serde_json::from_str(text("request")?).ok()?,
            base: serde_json::from_str(text("base")?).ok()?,
            candidate: serde_json::from_str(text("candidate")?).ok()?,
            curl: text("curl")?.to_owned(),
            curl_base: text("curl_base")?.to_owned(),
        })
    }
}

pub(super) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts and numbers are JSON")
}

/// The command that repeats a request at a URL, for a shell as POSIX has it.
fn curl(id: &str, request: &Request, url: &str) -> String {
    let mut words = vec!["curl -s".to_owned()];
    if request.body.body.is_empty() || request.method != "POST" {
        words.push(format!("-X {}", quoted(&request.method)));
    }
    words.push(quoted(url));
    let mut header = |name: &str, value: &str| {
        words.push(format!("-H {}", quoted(&format!("{name}: {value}"))));
    };
    for (name, value) in &request.headers {
        let sent = ["content-type", "accept", "accept-language"].contains(&name.as_str());
        if sent || (name.starts_with("x-") && name != "x-request-id") {
            header(name, value);
        }
    }
    header("x-request-id", id);
    header("x-smartlink-shadow", "1");
    let line = words.join(" ");
    match request.body.encoding {
        _ if request.body.body.is_empty() => line,
        Encoding::Utf8 => format!("{line} --data-binary {}", quoted(&request.body.body)),
        Encoding::Base64 => {
            format!(
                "printf %s {} | base64 -d | {line} --data-binary @-",
                request.body.body
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_repeats_the_request() {
        let mut request = Request {
            method: "POST".to_owned(),
            headers: [
                ("content-type".to_owned(), "application/json".to_owned()),
                ("user-agent".to_owned(), "x".to_owned()),
            ]
            .into(),
            body: Body::of(b"{\"a\": \"it's\"}".to_vec(), 13, true),
            ..Request::default()
        };
        assert_eq!(
            curl("r-1", &request, "http://h/p"),
            "curl -s 'http://h/p' -H 'content-type: application/json' -H 'x-request-id: r-1' \
             -H 'x-smartlink-shadow: 1' --data-binary '{\"a\": \"it'\\''s\"}'"
        );
        request.body = Body::of(b"\xff".to_vec(), 1, true);
        assert!(curl("r-1", &request, "u").starts_with("printf %s /w== | base64 -d | curl "));
        request.body = Body::default();
        request.method = "GET".to_owned();
        assert!(curl("r-1", &request, "u").starts_with("curl -s -X 'GET' 'u' "));
    }

    #[test]
    fn a_body_cut_within_a_letter_stays_text() {
        let mut heard = Heard::nothing(Ending::Whole, std::time::Duration::ZERO);
        heard.body = "aé".as_bytes().to_vec();
        let told = Told::of(&heard, 2);
        assert_eq!((told.body.body.as_str(), told.body.truncated), ("a", true));
    }
}
