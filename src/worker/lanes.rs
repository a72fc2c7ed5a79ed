//! All lanes of one process.

use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Shared;
use super::desk::Job;
use super::feed::{Feed, Place};
use super::lane;
use super::status::Status;
use crate::model::name::{ServiceName, VersionName};

/// The most lanes of one process.
const LANES_MAX: usize = 1_000;

/// Of each candidate its lane, and where that reads.
pub(super) struct Lanes {
    shared: Rc<Shared>,
    stop: watch::Receiver<bool>,
    open: BTreeMap<(ServiceName, VersionName), Open>,
    running: JoinSet<()>,
}

/// A lane, or why there is none.
struct Open {
    place: Place,
    /// `None` where this process cannot read there.
    lane: Option<lane::Handle>,
}

impl Lanes {
    pub(super) fn new(shared: Rc<Shared>, stop: watch::Receiver<bool>) -> Self {
        Self {
            shared,
            stop,
            open: BTreeMap::new(),
            running: JoinSet::new(),
        }
    }

    /// The candidates of a job that are compared.
    pub(super) fn candidates<'a>(&'a self, job: &'a Job) -> &'a [VersionName] {
        let named = &self.shared.plan.candidates;
        if named.is_empty() {
            &job.policy.candidates
        } else {
            named
        }
    }

    /// Gives a candidate's lane what stands in the configuration now; opens it where there is none,
    /// or where the records are elsewhere by now, with what `feed` makes.
    pub(super) fn give(
        &mut self,
        of: (&ServiceName, &VersionName),
        job: &Rc<Job>,
        feed: impl FnOnce(&Place) -> Option<Feed>,
    ) {
        let place = Place::of(&job.policy);
        let key = (of.0.clone(), of.1.clone());
        let before = self.open.get(&key);
        if let Some(open) = before.filter(|open| open.place == place) {
            if let Some(lane) = &open.lane {
                lane.give(Rc::clone(job));
            }
            return;
        }
        if before.is_none() && self.open.len() >= LANES_MAX {
            return;
        }
        if let Some(lane) = before.and_then(|open| open.lane.as_ref()) {
            lane.end();
        }
        let lane = feed(&place).map(|feed| {
            let shared = Rc::clone(&self.shared);
            let (handle, lane) = lane::open(shared, key.clone(), Rc::clone(job));
            self.running.spawn_local(lane.run(feed, self.stop.clone()));
            handle
        });
        self.open.insert(key, Open { place, lane });
    }

    /// Whether there are candidates, and none of them can be read here.
    pub(super) fn lead_nowhere(&self) -> bool {
        !self.open.is_empty() && self.open.values().all(|open| open.lane.is_none())
    }

    /// How far each is.
    pub(super) fn statuses(&self) -> Vec<Status> {
        let lanes = self.open.values().filter_map(|open| open.lane.as_ref());
        lanes.map(lane::Handle::status).collect()
    }

    /// Waits for the end of one; whether that was the last. Never ends where there is none.
    pub(super) async fn ended(&mut self) -> bool {
        match self.running.join_next().await {
            Some(_ended) => self.running.is_empty(),
            None => std::future::pending().await,
        }
    }

    /// Waits for the end of all.
    pub(super) async fn all_ended(&mut self) {
        while self.running.join_next().await.is_some() {}
    }
}
