//! What a data-plane thread counts with.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};

use super::trial::{Caller, Clerk, clerks};
use super::{Collector, Outcome, Series};
use crate::model::count::{Cells, Scalar, Seat, Tally};
use crate::model::name::{ServiceName, VersionName};
use crate::model::table::{Endpoint, Service, Version};
use crate::model::trial::{Arm, Marks};

/// A cell that was made, and what it counts.
#[derive(Debug)]
pub(super) struct Birth {
    pub(super) series: Series,
    pub(super) tally: Arc<Tally>,
}

/// Counts for one thread, to which it may be moved and which it never leaves.
#[derive(Debug)]
pub struct Counter {
    seat: Seat,
    births: Sender<Birth>,
    trials: Clerk,
    /// Not to be shared: its cells have one writer.
    alone: PhantomData<Cell<()>>,
}

/// A counter for each of so many threads, and the side that reads what they count.
#[must_use]
pub fn counters(threads: usize) -> (Vec<Counter>, Collector) {
    let (births, born) = mpsc::channel();
    let (clerks, gatherer) = clerks(threads);
    let counters = Seat::all(threads)
        .zip(clerks)
        .map(|(seat, trials)| Counter {
            seat,
            births: births.clone(),
            trials,
            alone: PhantomData,
        });
    (counters.collect(), Collector::new(born, gatherer))
}

impl Counter {
    /// Counts how a request ended that was meant for this version. To be called once for each
    /// request.
    pub fn count_version(&self, version: &Version, outcome: &Outcome) {
        let name = Some(&version.name);
        self.count(&version.counts, &version.service, name, outcome);
    }

    /// Counts a request that ended before a version was chosen. To be called once for each request.
    pub fn count_service(&self, service: &Service, outcome: &Outcome) {
        self.count(&service.live.counts, &service.name, None, outcome);
    }

    /// Counts bytes of a request that was counted when its protocol was switched.
    pub fn carried(&self, version: &Version, bytes_in: u64, bytes_out: u64) {
        let name = Some(&version.name);
        let tally = self.tally(&version.counts, &version.service, name);
        tally.write(|counts| {
            counts.scalar(Scalar::BytesIn).add(bytes_in);
            counts.scalar(Scalar::BytesOut).add(bytes_out);
        });
    }

    fn count(
        &self,
        cells: &Cells<Tally>,
        service: &ServiceName,
        version: Option<&VersionName>,
        outcome: &Outcome,
    ) {
        let tally = self.tally(cells, service, version);
        tally.write(|counts| outcome.add_to(counts));
    }

    fn tally<'c>(
        &self,
        cells: &'c Cells<Tally>,
        service: &ServiceName,
        version: Option<&VersionName>,
    ) -> &'c Tally {
        cells.at(self.seat, |tally| {
            let birth = Birth {
                series: Series {
                    service: service.clone(),
                    version: version.cloned(),
                },
                tally: Arc::clone(tally),
            };
            // Nobody listens only where nobody will ever ask for the counts.
            drop(self.births.send(birth));
        })
    }

    /// Counts a request on that side of a trial.
    pub fn mark(&self, arm: &Arm, mark: impl FnOnce(&Marks)) {
        self.trials.mark(self.seat, arm, mark);
    }

    /// Tells of a caller who stays in a version: to be called for each of its requests, of which
    /// the first in a trial counts.
    pub fn meet(&self, arm: &Arm, caller: Caller) {
        self.trials.meet(arm, caller);
    }

    /// Counts how an attempt at an endpoint ended, and how many microseconds it took. To be called
    /// once for each attempt.
    pub fn attempted(&self, endpoint: &Endpoint, attempt: Attempt, took_us: u64) {
        let counts = endpoint.live.counts.at(self.seat, |_| {});
        counts.requests.add(1);
        counts.took_us.add(took_us);
        if attempt == Attempt::Failed {
            counts.errors.add(1);
        }
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// With an answer below 500, or because the client left.
    Fine,
    /// Without an answer, with a 5xx, or with one that was cut short.
    Failed,
}
