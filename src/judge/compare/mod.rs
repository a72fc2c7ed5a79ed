//! Two answers to one request: what each comes to by itself, and where they differ.
//!
//! Invariant: the work is bounded by the size of the answers whatever stands in them, and swapping
//! the sides swaps the verdict: nothing that can happen to both counts against one only.

mod alike;
mod class;
mod content;
mod hash;
mod order;
mod path;
mod rules;
mod walk;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use class::Pair;
pub use rules::Rules;

pub use crate::model::comparison::Class;

use class::classes;
use content::Content;
use walk::Walk;

/// One side of a comparison: what came of a request.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// How it ended.
    pub ending: Ending,
    /// The status; 0 where no answer began.
    pub status: u16,
    /// The answer's `content-type`.
    pub content_type: Option<&'a str>,
    /// The answer's body, as it came.
    pub body: &'a [u8],
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a whole answer.
    Whole,
    /// With a whole answer of which only the beginning was kept.
    TooLarge,
    /// Without a connection.
    Connect,
    /// Not in time, also between two pieces of the body.
    Timeout,
    /// The connection broke before the answer began.
    Reset,
    /// The answer broke off.
    Cut,
}

/// What a comparison says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What the answer of `base` comes to.
    pub base: Class,
    /// What the answer of the candidate comes to.
    pub candidate: Class,
    /// Which of them is bad.
    pub pair: Pair,
    /// Where the answers differ; `None`: they cannot be compared, because one is bad or cut.
    pub differences: Option<Differences>,
}

/// Where two answers differ, by path; empty: nowhere.
///
/// A path is a JSON pointer in which `*` stands for every item of an array, or one of `status`,
/// `content-type` and `body`; `other` is what differs beyond the most paths.
pub type Differences = BTreeMap<Box<str>, Difference>;

/// A difference at a path: the first one, where there are several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// In which way.
    pub kind: Kind,
    /// What `base` has there, cut to [`SHOWN_MAX`] bytes; empty: nothing.
    pub base: Box<str>,
    /// What the candidate has there, likewise.
    pub candidate: Box<str>,
}

/// In which way two values differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Another type.
    Type,
    /// The candidate has none.
    Missing,
    /// Only the candidate has one.
    Extra,
    /// Another value.
    Value,
    /// An array of another length.
    Length,
    /// An array of the same items in another order.
    Order,
}

impl Kind {
    /// Its name in examples and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Value => "value",
            Self::Length => "length",
            Self::Order => "order",
        }
    }
}

/// The most paths told apart, in one pair and over all.
pub const PATHS_MAX: usize = 500;

/// The path of all differences beyond the most.
pub const OTHER: &str = "other";

/// The most bytes of a value that a difference shows.
pub const SHOWN_MAX: usize = 256;

/// Compares two answers to the same request.
#[must_use]
pub fn compare(rules: &Rules, base: &Side<'_>, candidate: &Side<'_>) -> Verdict {
    let contents = (
        Content::read(base, rules.sse_text()),
        Content::read(candidate, rules.sse_text()),
    );
    let (base_class, candidate_class) =
        classes(rules, (base, &contents.0), (candidate, &contents.1));
    let pair = Pair::of(
        rules.is_bad(base_class, candidate.status),
        rules.is_bad(candidate_class, base.status),
    );
    let whole = [base, candidate].map(|side| side.ending) == [Ending::Whole; 2];
    // Another format is a bad answer, and a difference too: it may be what the candidate is for.
    let format = matches!(
        (base_class, candidate_class),
        (Class::Ok, Class::BadJson) | (Class::BadJson, Class::Ok)
    );
    let comparable = whole && (pair == Pair::BothOk || format);
    let differences = comparable.then(|| {
        let mut walk = Walk::new(rules);
        walk.heads(base, candidate);
        walk.contents(&contents.0, &contents.1);
        walk.into_differences()
    });
    Verdict {
        base: base_class,
        candidate: candidate_class,
        pair,
        differences,
    }
}
