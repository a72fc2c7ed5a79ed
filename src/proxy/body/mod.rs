//! The bodies that pass through: a request's on its way up, an answer's on its way down.
//!
//! Invariant: no byte is changed, none is held longer than it takes the other side to accept it.

mod answer;
mod request;

use std::fmt;

pub(super) use self::answer::{AnswerBody, Terms};
pub(super) use self::request::{Fate, SendBody, Stream, read_failure};

/// A body was cut on purpose; the reason stands in the exchange's `Fate`.
#[derive(Debug)]
pub(super) struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body was cut")
    }
}

impl std::error::Error for Cut {}
