//! A candidate on trial as requests are counted under one split.
//!
//! The counts belong to the table whose split chose the version, so that a gateway which learns of
//! other weights late still files each request under the share by which it was assigned.

use std::sync::Arc;

use super::count::{Cells, Count, Sheet};
use super::name::{ServiceName, VersionName};
use super::pilot::{Bounds, Trial};
use super::table::Version;

/// A trial under one split.
#[derive(Debug)]
pub struct OnTrial {
    plan: Arc<Trial>,
    share: u16,
    base: Arm,
    candidate: Arm,
}

/// One of the two versions that are compared.
#[derive(Debug)]
pub struct Arm {
    /// What its counts are filed under.
    pub tag: Arc<Tag>,
    /// From where on a request is slow, where anything is.
    pub slow: Option<Bounds>,
    /// What requests came to for which it was chosen.
    pub cells: Cells<Sheet<Marks>>,
}

/// What counts of a trial are filed under.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag {
    /// The service.
    pub service: ServiceName,
    /// The version on trial.
    pub candidate: VersionName,
    /// The number of the trial.
    pub number: u64,
    /// The candidate's share of what both versions get, in thousandths.
    pub share: u16,
    /// The version that was chosen.
    pub version: VersionName,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// `base`.
    Base,
    /// The candidate.
    Candidate,
}

/// What is counted of requests for which a version was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// All of them.
    Request,
    /// The version failed.
    Bad,
    /// Longer than the first bound.
    Over50,
    /// Longer than the second.
    Over90,
    /// Longer than the third.
    Over99,
}

/// How many there are.
pub const MARKS: usize = 5;

/// The bounds in their order.
pub const OVER: [Mark; 3] = [Mark::Over50, Mark::Over90, Mark::Over99];

/// The counts of one thread.
#[derive(Debug, Default)]
pub struct Marks([Count; MARKS]);

impl Marks {
    /// Counts one more; only for the one thread that writes.
    pub fn add(&self, mark: Mark) {
        if let Some(count) = self.0.get(mark as usize) {
            count.add(1);
        }
    }

    /// All counts, in the order of `Mark`.
    #[must_use]
    pub fn all(&self) -> [u64; MARKS] {
        std::array::from_fn(|at| self.0.get(at).map_or(0, Count::get))
    }
}

impl OnTrial {
    /// A trial of these versions of a service under their weights; nothing is counted yet.
    #[must_use]
    pub fn new(service: &ServiceName, plan: &Arc<Trial>, versions: &[Arc<Version>]) -> Self {
        let share = share(plan, versions);
        let arm = |version: VersionName, slow| Arm {
            tag: Arc::new(Tag {
                service: service.clone(),
                candidate: plan.candidate.clone(),
                number: plan.number,
                share,
                version,
            }),
            slow,
            cells: Cells::default(),
        };
        let slow = plan.slow.as_ref();
        Self {
            share,
            base: arm(VersionName::base(), slow.map(|slow| slow.base)),
            candidate: arm(plan.candidate.clone(), slow.map(|slow| slow.candidate)),
            plan: Arc::clone(plan),
        }
    }

    /// Whether counts of that plan under these weights belong among those here.
    #[must_use]
    pub fn goes_on(&self, plan: &Trial, versions: &[Arc<Version>]) -> bool {
        *self.plan == *plan && self.share == share(plan, versions)
    }

    /// The side on which that version is; none where it is another one.
    #[must_use]
    pub fn side(&self, version: &VersionName) -> Option<Side> {
        if version.is_base() {
            Some(Side::Base)
        } else {
            (*version == self.plan.candidate).then_some(Side::Candidate)
        }
    }

    /// The version on that side.
    #[must_use]
    pub fn arm(&self, side: Side) -> &Arm {
        match side {
            Side::Base => &self.base,
            Side::Candidate => &self.candidate,
        }
    }
}

/// The candidate's share of what both versions get, in thousandths, rounded: what other versions
/// get compares nothing.
fn share(plan: &Trial, versions: &[Arc<Version>]) -> u16 {
    let weight = |is: &dyn Fn(&VersionName) -> bool| {
        let mut versions = versions.iter();
        let found = versions.find(|version| is(&version.name));
        found.map_or(0, |version| u64::from(version.weight))
    };
    let candidate = weight(&|name: &VersionName| *name == plan.candidate);
    let both = candidate + weight(&VersionName::is_base);
    let share = (candidate * 1000 + both / 2).checked_div(both);
    share
        .and_then(|share| u16::try_from(share).ok())
        .unwrap_or(0)
}
