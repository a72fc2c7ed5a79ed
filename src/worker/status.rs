//! How far a lane is, for people who watch.

use super::meter::Meter;
use crate::model::name::{ServiceName, VersionName};
use crate::store::Finding;

/// What a lane is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doing {
    /// It compares, or would.
    #[default]
    Comparing,
    /// The candidate cannot be reached.
    Waiting,
}

impl Doing {
    /// Its name in `smartlink:shadow-results`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Comparing => "comparing",
            Self::Waiting => "waiting_for_candidate",
        }
    }
}

/// How far a lane of this worker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The service.
    pub service: ServiceName,
    /// The candidate.
    pub candidate: VersionName,
    /// Pairs that this worker counted.
    pub counted: u64,
    /// Of these, pairs whose answers were compared and differ.
    pub differing: u64,
    /// Of these, pairs in which only the candidate's answer is bad.
    pub bad: u64,
    /// Records that this worker skipped.
    pub skipped: u64,
    /// Records that could not be compared.
    pub dead: u64,
    /// Records being worked on.
    pub in_flight: usize,
    /// Records that some worker has now.
    pub pending: u64,
    /// Records that nobody has had yet, where Redis can tell.
    pub waiting: Option<u64>,
    /// Records that were trimmed before anybody read them.
    pub lost: u64,
    /// Whether the scorer says too little.
    pub unscored: bool,
    /// Whether it waits because users come first.
    pub yielding: bool,
    /// What was counted since it began.
    pub meter: Meter,
    /// What it is doing.
    pub doing: Doing,
}

impl Status {
    pub(super) fn new(service: ServiceName, candidate: VersionName) -> Self {
        Self {
            service,
            candidate,
            counted: 0,
            differing: 0,
            bad: 0,
            skipped: 0,
            dead: 0,
            in_flight: 0,
            pending: 0,
            waiting: None,
            lost: 0,
            unscored: false,
            yielding: false,
            meter: Meter::default(),
            doing: Doing::Comparing,
        }
    }

    /// Adds what was counted.
    pub(super) fn note(&mut self, finding: &Finding) {
        self.meter.record(finding);
        let has = |name: &str| finding.counts.iter().any(|(field, _)| field == name);
        self.counted += u64::from(has("counted"));
        self.bad += u64::from(has("candidate_bad_only"));
        self.differing += u64::from(has("compared") && !has("equal"));
        self.dead += u64::from(has("dead"));
        let skipped = finding.counts.iter();
        let skipped = skipped.filter(|(field, _)| field.starts_with("skipped_"));
        self.skipped += skipped.count() as u64;
    }
}
