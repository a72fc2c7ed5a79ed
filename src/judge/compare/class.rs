//! What each side of a pair comes to.

use super::content::Content;
use super::rules::Rules;
use super::{Class, Ending, Side};

/// Which sides of a pair are bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pair {
    /// Neither.
    BothOk,
    /// Only the candidate.
    CandidateBadOnly,
    /// Only `base`.
    BaseBadOnly,
    /// Both.
    BothBad,
}

impl Pair {
    /// The pair of two sides, each bad or not.
    #[must_use]
    pub fn of(base_bad: bool, candidate_bad: bool) -> Self {
        match (base_bad, candidate_bad) {
            (false, false) => Self::BothOk,
            (false, true) => Self::CandidateBadOnly,
            (true, false) => Self::BaseBadOnly,
            (true, true) => Self::BothBad,
        }
    }

    /// Its name among the counters.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BothOk => "both_ok",
            Self::CandidateBadOnly => "candidate_bad_only",
            Self::BaseBadOnly => "base_bad_only",
            Self::BothBad => "both_bad",
        }
    }
}

/// The classes of both sides. That an answer is not JSON can only be said beside another that is:
/// then it is bad, whichever side it is on.
pub(super) fn classes(
    rules: &Rules,
    base: (&Side<'_>, &Content<'_>),
    candidate: (&Side<'_>, &Content<'_>),
) -> (Class, Class) {
    (
        class(rules, base, candidate.1),
        class(rules, candidate, base.1),
    )
}

fn class(rules: &Rules, (side, content): (&Side<'_>, &Content<'_>), other: &Content<'_>) -> Class {
    match side.ending {
        Ending::Connect => return Class::Connect,
        Ending::Timeout => return Class::Timeout,
        Ending::Reset => return Class::Reset,
        Ending::Cut => return Class::Cut,
        Ending::Whole | Ending::TooLarge => {}
    }
    match side.status {
        400..=499 => return Class::Http4xx,
        500.. => return Class::Http5xx,
        _ => {}
    }
    if side.ending == Ending::TooLarge {
        return Class::TooLarge;
    }
    match content {
        Content::Json(answer) if rules.has_failed(answer) => Class::Business,
        _ if content.structure() < other.structure() => Class::BadJson,
        _ if !rules.admits(content) => Class::BadSchema,
        _ => Class::Ok,
    }
}
