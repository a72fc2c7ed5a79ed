//! What a lane counts of itself since it began, for whoever scrapes the worker.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::judge::compare::Ending;
use crate::stats::histogram;
use crate::store::Finding;

/// Which version was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// The candidate.
    Candidate,
    /// `base`, once more.
    Base,
}

/// Calls of one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// By how they ended.
    pub ends: BTreeMap<&'static str, u64>,
    /// By fine bucket of the time that they took.
    pub times: BTreeMap<u16, u64>,
    /// How long they took together, in microseconds.
    pub us: u64,
}

/// What was counted since the lane began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// Records by what became of them: `counted`, `skipped_*`, `dead`.
    pub records: BTreeMap<String, u64>,
    /// Pairs by which side was bad.
    pub pairs: BTreeMap<String, u64>,
    /// Pairs that the scorer was asked about: `scored` and `unscored`.
    pub scores: BTreeMap<&'static str, u64>,
    /// Calls by whom was asked.
    pub calls: BTreeMap<Asked, Calls>,
}

impl Asked {
    /// Its name on the metric.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Base => "base",
        }
    }
}

impl Meter {
    /// A call ended.
    pub(super) fn call(&mut self, asked: Asked, ending: Ending, took: Duration) {
        let calls = self.calls.entry(asked).or_default();
        *calls.ends.entry(name(ending)).or_default() += 1;
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = u16::try_from(histogram::bucket(us)).unwrap_or(u16::MAX);
        *calls.times.entry(bucket).or_default() += 1;
        calls.us = calls.us.saturating_add(us);
    }

    /// A record was counted.
    pub(super) fn record(&mut self, finding: &Finding) {
        for (field, count) in &finding.counts {
            let fate = matches!(&**field, "counted" | "dead") || field.starts_with("skipped_");
            let pair = matches!(
                &**field,
                "both_ok" | "candidate_bad_only" | "base_bad_only" | "both_bad"
            );
            if fate {
                *self.records.entry(field.clone()).or_default() += count;
            } else if pair {
                *self.pairs.entry(field.clone()).or_default() += count;
            } else if field == "unscored" {
                *self.scores.entry("unscored").or_default() += count;
            } else if field.starts_with("score.") {
                *self.scores.entry("scored").or_default() += count;
            }
        }
    }
}

/// What a call came to.
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
