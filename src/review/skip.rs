//! Which records are not compared, and why.

use crate::model::name::VersionName;
use crate::shadow::{Outcome, Record};

/// How old records are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Those that are too old to say anything about now are skipped.
    #[default]
    Live,
    /// None is too old.
    History,
}

/// Why a record is not compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Skip {
    /// It is older than `max_age`.
    Age,
    /// The request cannot be sent again as it was.
    NotReplayable,
    /// It is the first of the two records of `records both`.
    Begun,
    /// Another version than `base` answered.
    Version,
    /// The client left before the answer was there.
    ClientLeft,
    /// The answer of `base` was cut or left out, so that there is nothing to compare with.
    Answer,
}

impl Skip {
    /// All of them, in the order of the books.
    pub const ALL: [Self; 6] = [
        Self::Age,
        Self::NotReplayable,
        Self::Begun,
        Self::Version,
        Self::ClientLeft,
        Self::Answer,
    ];

    /// Its name among the counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Age => "skipped_age",
            Self::NotReplayable => "skipped_not_replayable",
            Self::Begun => "skipped_begun",
            Self::Version => "skipped_version",
            Self::ClientLeft => "skipped_client_left",
            Self::Answer => "skipped_answer",
        }
    }
}

/// Why a record is not compared, where it is not; at this moment, in Unix milliseconds, and with
/// this `max_age` in milliseconds.
#[must_use]
pub fn skip(record: &Record, mode: Mode, now_ms: u64, max_age_ms: u64) -> Option<Skip> {
    let base = VersionName::parse(&record.version).is_some_and(|version| version.is_base());
    let age = now_ms.saturating_sub(record.started_ms);
    let redacted = (record.answer.as_ref()).is_some_and(|answer| {
        answer.body.truncated && answer.body.kept == 0 && answer.body.bytes > 0
    });
    if record.outcome == Outcome::Begun {
        Some(Skip::Begun)
    } else if !base {
        Some(Skip::Version)
    } else if !record.replayable {
        Some(Skip::NotReplayable)
    } else if record.outcome == Outcome::ClientLeft {
        Some(Skip::ClientLeft)
    } else if redacted {
        Some(Skip::Answer)
    } else if mode == Mode::Live && age > max_age_ms {
        Some(Skip::Age)
    } else {
        None
    }
}
