//! What this gateway holds of its endpoints' health, for Redis and for the admin port.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::roster::Id;
use super::{millis, unix_ms};
use crate::model::endpoint::Duty;
use crate::model::live::State;
use crate::model::name::ServiceName;
use crate::model::table::Endpoint;

/// Where health is shown; cheap to clone.
#[derive(Clone, Debug)]
pub struct Board {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// When the clock of `model::live` starts, in Unix milliseconds.
    epoch_unix_ms: u64,
    facts: Mutex<Facts>,
    marked: Notify,
}

#[derive(Debug, Default)]
struct Facts {
    /// Services about which there is something new.
    marked: BTreeSet<ServiceName>,
    /// Why endpoints are in the state they are in, where it ever turned.
    whys: HashMap<Id, Arc<str>>,
}

/// An endpoint's health as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// `up`, `down`, `ejected` or `drain`.
    pub state: &'static str,
    /// Since when, in Unix milliseconds; since the gateway started where it never turned.
    pub since_ms: u64,
    /// In a few words; empty where it never turned.
    pub why: Arc<str>,
}

impl Board {
    /// An empty one; `epoch` is where the clock of `model::live` starts.
    #[must_use]
    pub fn new(epoch: Instant) -> Self {
        Self {
            shared: Arc::new(Shared {
                epoch_unix_ms: unix_ms().saturating_sub(millis(epoch.elapsed())),
                facts: Mutex::default(),
                marked: Notify::new(),
            }),
        }
    }

    /// How an endpoint is.
    #[must_use]
    pub fn show(&self, endpoint: &Endpoint) -> Shown {
        let health = endpoint.live.condition.health();
        let why = self.facts().whys.get(&Id::of(endpoint)).map(Arc::clone);
        let state = match health.state {
            State::Up if endpoint.spec.duty == Duty::Drain => "drain",
            state => state.as_str(),
        };
        Shown {
            state,
            since_ms: self.shared.epoch_unix_ms + health.since_ms,
            why: why.unwrap_or_default(),
        }
    }

    /// The endpoint turned, for this reason.
    pub(super) fn turned(&self, id: Id, service: &ServiceName, why: &str) {
        self.facts().whys.insert(id, why.into());
        self.mark(service);
    }

    /// The endpoint left the table.
    pub(super) fn forget(&self, id: Id) {
        self.facts().whys.remove(&id);
    }

    /// There is something new about a service.
    pub(super) fn mark(&self, service: &ServiceName) {
        self.facts().marked.insert(service.clone());
        self.shared.marked.notify_one();
    }

    /// Waits until a service is marked.
    pub(super) async fn marked(&self) {
        self.shared.marked.notified().await;
    }

    /// Takes the marks of all services that are marked.
    pub(super) fn take_marked(&self) -> BTreeSet<ServiceName> {
        std::mem::take(&mut self.facts().marked)
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        let facts = self.shared.facts.lock();
        facts.unwrap_or_else(PoisonError::into_inner)
    }
}
