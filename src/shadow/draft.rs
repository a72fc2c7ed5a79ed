//! A copy on its way from its request to the shipper: everything in it is its own, so that it keeps
//! no buffer of a connection alive.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method};

use super::record::{Answer, Body, ChosenBy, Headers, Outcome, Record, Request, Schema};
use super::redact::{self, Left, Secret};
use super::room::Held;
use crate::model::name::VersionName;
use crate::model::shadow::Shadow;
use crate::model::table::Service;

/// What a copy takes beside its texts and bodies, roughly.
pub const OVERHEAD: usize = 1_024;

/// A copy. Nothing secret is in it any more.
#[derive(Debug)]
pub struct Draft {
    /// The service, as it was when the request came.
    pub service: Arc<Service>,
    /// What is copied of it.
    pub policy: Arc<Shadow>,
    /// The version that was asked last.
    pub version: VersionName,
    /// The revision of the table.
    pub revision: u64,
    /// The request's `x-request-id`.
    pub id: Box<str>,
    /// Why it is recorded.
    pub chosen_by: ChosenBy,
    /// How it went.
    pub course: Course,
    /// What was asked.
    pub asked: Asked,
    /// What was answered.
    pub answered: Option<Answered>,
    /// What was left out.
    pub redacted: Vec<String>,
    /// What it takes of the room.
    pub held: Held,
}

/// How a request went; times in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Course {
    /// When its head was here, in Unix milliseconds.
    pub started_ms: u64,
    /// How long it waited.
    pub queue_us: u64,
    /// How long the connection took.
    pub connect_us: u64,
    /// Until the head of the answer.
    pub first_byte_us: Option<u64>,
    /// Until its end.
    pub total_us: u64,
    /// How often an endpoint was asked.
    pub attempts: u32,
    /// How it ended.
    pub outcome: Outcome,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub target: Box<str>,
    /// What follows the path of an endpoint URL.
    pub path: Option<Box<str>>,
    /// Header lines.
    pub lines: Lines,
    /// The body.
    pub body: Kept,
}

/// An answer.
#[derive(Debug)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// Header lines.
    pub lines: Lines,
    /// The body.
    pub body: Kept,
    /// When server-sent events were here.
    pub events_ms: Vec<u64>,
}

/// Header lines in one piece: `name:value`, each ended by a line feed, which no value holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines(Vec<u8>);

/// What was kept of a body.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// Its beginning.
    pub bytes: Vec<u8>,
    /// How many bytes passed.
    pub passed: u64,
    /// Nothing follows.
    pub complete: bool,
    /// Something in it was replaced: its length says nothing about what passed.
    pub replaced: bool,
}

impl Lines {
    /// All headers but those that are left out, whose names go to `redacted`.
    #[must_use]
    pub fn of(headers: &HeaderMap, left_out: &[HeaderName], redacted: &mut Vec<String>) -> Self {
        let room = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 2);
        let mut lines = Vec::with_capacity(room.sum());
        for (name, value) in headers {
            if left_out.contains(name) {
                let word = format!("header {name}");
                if !redacted.contains(&word) {
                    redacted.push(word);
                }
                continue;
            }
            lines.extend_from_slice(name.as_str().as_bytes());
            lines.push(b':');
            lines.extend_from_slice(value.as_bytes());
            lines.push(b'\n');
        }
        Self(lines)
    }

    /// How many bytes they are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn into_headers(self) -> Headers {
        let mut headers = Headers::new();
        for line in self.0.split(|byte| *byte == b'\n') {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else {
                continue;
            };
            let (name, value) = line.split_at(colon);
            let value = value.iter().skip(1).map(|&byte| char::from(byte));
            let value: String = value.collect();
            let name = String::from_utf8_lossy(name).into_owned();
            headers
                .entry(name)
                .and_modify(|before| {
                    before.push_str(", ");
                    before.push_str(&value);
                })
                .or_insert(value);
        }
        headers
    }
}

impl Kept {
    /// Takes out what must not stand in it; what that was goes to `redacted`.
    pub fn redact(
        &mut self,
        policy: &Shadow,
        secret: &Secret,
        events: bool,
        redacted: &mut Vec<String>,
    ) {
        match redact::body(
            &self.bytes,
            &policy.redact_json,
            policy.redact,
            secret,
            events,
        ) {
            Left::AsItWas => {}
            Left::Other(bytes, pointers) => {
                self.bytes = bytes;
                self.replaced = true;
                for pointer in pointers {
                    if !redacted.contains(&pointer) {
                        redacted.push(pointer);
                    }
                }
            }
            Left::Nothing => {
                self.bytes = Vec::new();
                self.complete = false;
            }
        }
    }

    /// Whether it is the whole body, as it passed.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.complete && !self.replaced && self.bytes.len() as u64 == self.passed
    }

    fn is_cut(&self) -> bool {
        !self.complete || (!self.replaced && (self.bytes.len() as u64) < self.passed)
    }

    fn into_body(self) -> Body {
        let truncated = self.is_cut();
        let mut body = Body::of(self.bytes, self.passed, self.complete);
        body.truncated = truncated;
        body
    }
}

impl Draft {
    /// Whether one of its bodies was cut.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        let answer = self.answered.as_ref();
        self.asked.body.is_cut() || answer.is_some_and(|answer| answer.body.is_cut())
    }

    /// Whether the request can be sent again as it was.
    #[must_use]
    pub fn is_replayable(&self) -> bool {
        self.asked.body.is_whole()
    }

    /// The record, written by this life of this gateway as number `sequence` of its service; and
    /// what it took of the room.
    #[must_use]
    pub fn into_record(self, gateway: &str, epoch: u64, sequence: u64) -> (Record, Held) {
        let replayable = self.is_replayable();
        let versions = self.service.versions.iter();
        let share = versions.map(|version| (version.name.to_string(), version.weight));
        let Course {
            started_ms,
            queue_us,
            connect_us,
            first_byte_us,
            total_us,
            attempts,
            outcome,
        } = self.course;
        let record = Record {
            schema: Schema::V1,
            id: self.id.into(),
            gateway: gateway.to_owned(),
            epoch,
            sequence,
            service: self.service.name.to_string(),
            version: self.version.to_string(),
            share: share.collect(),
            revision: self.revision,
            chosen_by: self.chosen_by,
            started_ms,
            queue_us,
            connect_us,
            first_byte_us,
            total_us,
            attempts,
            outcome,
            request: Request {
                method: self.asked.method.to_string(),
                target: self.asked.target.into(),
                path: self.asked.path.map(String::from),
                headers: self.asked.lines.into_headers(),
                body: self.asked.body.into_body(),
            },
            answer: self.answered.map(|answer| Answer {
                status: answer.status,
                headers: answer.lines.into_headers(),
                body: answer.body.into_body(),
                events_ms: answer.events_ms,
            }),
            redacted: self.redacted,
            replayable,
        };
        (record, self.held)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::{AUTHORIZATION, CONTENT_TYPE, VIA};

    use super::*;

    #[test]
    fn headers_keep_every_byte_and_lose_what_is_left_out() {
        let mut headers = HeaderMap::new();
        headers.append(VIA, HeaderValue::from_static("1.1 a"));
        headers.append(VIA, HeaderValue::from_static("1.1 b:c"));
        headers.append(
            CONTENT_TYPE,
            HeaderValue::from_bytes(b"\xe9\t").expect("a value"),
        );
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer y"));
        let mut redacted = Vec::new();
        let lines = Lines::of(&headers, &[AUTHORIZATION], &mut redacted);
        let wanted = [
            ("content-type".to_owned(), "\u{e9}\t".to_owned()),
            ("via".to_owned(), "1.1 a, 1.1 b:c".to_owned()),
        ];
        assert_eq!(lines.into_headers(), wanted.into());
        assert_eq!(redacted, ["header authorization"]);
    }

    #[test]
    fn a_body_is_whole_cut_or_replaced() {
        for (bytes, passed, complete, replaced, whole, truncated) in [
            (&b"ab"[..], 2, true, false, true, false),
            (b"ab", 3, true, false, false, true),
            (b"ab", 2, false, false, false, true),
            (b"ab", 9, true, true, false, false),
            (b"", 0, true, false, true, false),
        ] {
            let kept = Kept {
                bytes: bytes.to_vec(),
                passed,
                complete,
                replaced,
            };
            assert_eq!(kept.is_whole(), whole, "{kept:?}");
            assert_eq!(kept.into_body().truncated, truncated);
        }
    }
}
