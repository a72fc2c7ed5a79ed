//! What came of a request: heard by the worker itself, or as it stands in a record.

use std::time::Duration;

use crate::judge::compare::{Ending, Side};
use crate::shadow::{Outcome, Record};

/// An answer, or the want of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// How it ended.
    pub ending: Ending,
    /// The status; 0 where no answer began.
    pub status: u16,
    /// The answer's `content-type`.
    pub content_type: Option<String>,
    /// The body, or its beginning.
    pub body: Vec<u8>,
    /// How long it took, without making the connection.
    pub took: Duration,
}

impl Heard {
    /// No answer, for this reason.
    #[must_use]
    pub fn nothing(ending: Ending, took: Duration) -> Self {
        Self {
            ending,
            status: 0,
            content_type: None,
            body: Vec::new(),
            took,
        }
    }

    /// What the record says of the answer that its client got.
    #[must_use]
    pub fn recorded(record: &Record) -> Self {
        let took = Duration::from_micros(record.total_us);
        let mut heard = Self::nothing(ending(record.outcome), took);
        let Some(answer) = &record.answer else {
            if heard.ending == Ending::Whole {
                heard.ending = Ending::Reset;
            }
            return heard;
        };
        heard.status = answer.status;
        heard.content_type = answer.headers.get("content-type").cloned();
        match answer.body.to_bytes() {
            Some(body) => heard.body = body,
            None => heard.ending = Ending::Cut,
        }
        if heard.ending == Ending::Whole && answer.body.truncated {
            heard.ending = Ending::TooLarge;
        }
        heard
    }

    /// One side of a comparison.
    #[must_use]
    pub fn side(&self) -> Side<'_> {
        Side {
            ending: self.ending,
            status: self.status,
            content_type: self.content_type.as_deref(),
            body: &self.body,
        }
    }
}

fn ending(outcome: Outcome) -> Ending {
    match outcome {
        Outcome::Ok | Outcome::Status => Ending::Whole,
        Outcome::Connect => Ending::Connect,
        Outcome::Timeout | Outcome::Stall => Ending::Timeout,
        Outcome::Reset => Ending::Reset,
        Outcome::Cut | Outcome::ClientLeft | Outcome::Begun => Ending::Cut,
    }
}
