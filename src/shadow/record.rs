//! One record: a request and its answer, as every sink gets them. `schemas/shadow_record.json` says
//! the same in JSON Schema.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

/// Header lines by name in lower case. Lines of the same name are joined by `, `; a byte above 127
/// is the character of that number (ISO 8859-1).
pub type Headers = BTreeMap<String, String>;

/// One request and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Always the same.
    pub schema: Schema,
    /// The request's `x-request-id`.
    pub id: String,
    /// The gateway that wrote it.
    pub gateway: String,
    /// When that gateway started, in Unix milliseconds: with `gateway` it names one life.
    pub epoch: u64,
    /// Counts the records of this service that this life handed to the sink, from 1 and without
    /// holes.
    pub sequence: u64,
    /// The service.
    pub service: String,
    /// The version that was asked.
    pub version: String,
    /// The weights in force when it was chosen, of all versions of the service.
    pub share: BTreeMap<String, u32>,
    /// The revision of the table that chose it.
    pub revision: u64,
    /// Why it was recorded.
    pub chosen_by: ChosenBy,
    /// When the request's head was here, in Unix milliseconds.
    pub started_ms: u64,
    /// How long it waited for an endpoint or a place on one.
    pub queue_us: u64,
    /// How long the connection took; 0 for a kept one.
    pub connect_us: u64,
    /// From the request's head to that of the answer; none where no upstream answered.
    pub first_byte_us: Option<u64>,
    /// From the request's head to the end of the answer.
    pub total_us: u64,
    /// How often an endpoint was asked.
    pub attempts: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// What was asked.
    pub request: Request,
    /// What the client was answered; none where nothing was.
    pub answer: Option<Answer>,
    /// What was left out: `header NAME`, or the pointer of a part of a JSON body.
    pub redacted: Vec<String>,
    /// Whether the request can be sent again as it was.
    pub replayable: bool,
}

/// The form of records. One that means something else gets another name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Schema {
    /// This one.
    #[default]
    #[serde(rename = "smartlink.shadow.v1")]
    V1,
}

/// Why a request was recorded. Only those of the sample are a fair picture of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChosenBy {
    /// By `sample`.
    #[default]
    Sample,
    /// By `keep failures`.
    Failure,
    /// By `keep slow`.
    Slow,
    /// Its caller asked for it.
    Caller,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// With a whole answer, whose status is no server error.
    #[default]
    Ok,
    /// With a whole answer, whose status is 500 or above.
    Status,
    /// No endpoint could be reached.
    Connect,
    /// The head of the answer did not come in time.
    Timeout,
    /// The answer or the request paused for too long.
    Stall,
    /// The upstream closed before the head of its answer, or broke the protocol.
    Reset,
    /// The answer broke off after its head.
    Cut,
    /// The client left before the end.
    ClientLeft,
    /// Not at all yet: the first of the two records of `records both`, without an answer.
    Begun,
}

/// What was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The method.
    pub method: String,
    /// Path and query as the client sent them.
    pub target: String,
    /// Path and query that follow the path of an endpoint URL; none where nothing does, as on the
    /// named entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its headers.
    pub headers: Headers,
    /// Its body.
    #[serde(flatten)]
    pub body: Body,
}

/// What was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers, as they came from upstream.
    pub headers: Headers,
    /// Its body.
    #[serde(flatten)]
    pub body: Body,
    /// When each server-sent event was here, since the request's head; the first 1,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events_ms: Vec<u64>,
}

/// A body, or its beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// The bytes that were kept, written as `encoding` says.
    pub body: String,
    /// How.
    pub encoding: Encoding,
    /// How many bytes passed.
    pub bytes: u64,
    /// How many of them were kept.
    pub kept: u64,
    /// Whether this is not the whole body: some of it was not kept, or did not pass.
    pub truncated: bool,
}

/// How a body is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// As it is.
    #[default]
    Utf8,
    /// In base64 (RFC 4648 section 4), because it is no text.
    Base64,
}

impl Body {
    /// A body of which these bytes were kept, of so many that passed; `complete` where none
    /// followed that did not pass.
    #[must_use]
    pub fn of(kept: Vec<u8>, bytes: u64, complete: bool) -> Self {
        let length = kept.len() as u64;
        let (body, encoding) = match String::from_utf8(kept) {
            Ok(text) => (text, Encoding::Utf8),
            Err(binary) => {
                let text = BASE64_STANDARD.encode(binary.as_bytes());
                (text, Encoding::Base64)
            }
        };
        Self {
            body,
            encoding,
            bytes,
            kept: length,
            truncated: length < bytes || !complete,
        }
    }

    /// The bytes that were kept; `None` where what stands there is no base64.
    #[must_use]
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        match self.encoding {
            Encoding::Utf8 => Some(self.body.as_bytes().to_vec()),
            Encoding::Base64 => BASE64_STANDARD.decode(&self.body).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_back_byte_by_byte() {
        for (kept, bytes, complete, encoding, truncated) in [
            (&b""[..], 0, true, Encoding::Utf8, false),
            (b"{\"a\": \"\\u00e9\"}", 15, true, Encoding::Utf8, false),
            ("é\u{0}".as_bytes(), 3, true, Encoding::Utf8, false),
            (b"\xff\x00", 2, true, Encoding::Base64, false),
            (
                "é".as_bytes().split_at(1).0,
                2,
                true,
                Encoding::Base64,
                true,
            ),
            (b"ab", 3, true, Encoding::Utf8, true),
            (b"ab", 2, false, Encoding::Utf8, true),
        ] {
            let body = Body::of(kept.to_vec(), bytes, complete);
            assert_eq!((body.encoding, body.truncated), (encoding, truncated));
            assert_eq!(body.kept, kept.len() as u64);
            let json = serde_json::to_string(&body).expect("JSON");
            let read: Body = serde_json::from_str(&json).expect("the same");
            assert_eq!(read, body);
            assert_eq!(read.to_bytes().as_deref(), Some(kept));
        }
    }

    #[test]
    fn what_is_no_base64_is_no_body() {
        let body = Body {
            body: "?".to_owned(),
            encoding: Encoding::Base64,
            ..Body::default()
        };
        assert_eq!(body.to_bytes(), None);
    }
}
