//! What the background tasks know about themselves, for the admin port and the gateway's hash.
//!
//! Invariant: reading it never waits.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::model::alert::Kind;
use crate::model::decode::ConfigError;
use crate::model::name::Name;

/// How changes in Redis are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// By keyspace notifications, which are known to arrive.
    Notifications,
    /// By reading everything every two seconds.
    Polling,
}

impl fmt::Display for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Notifications => "notifications",
            Self::Polling => "polling",
        })
    }
}

/// A config error, and since when it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What is wrong.
    pub error: ConfigError,
    /// Since when, RFC 3339.
    pub since: String,
}

/// What the alerter knows about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alerts {
    /// Whether this gateway judges for all.
    pub leads: bool,
    /// How many incidents go on, by alert and kind.
    pub open: BTreeMap<(Name, Kind), usize>,
    /// How messages went, by alert.
    pub told: BTreeMap<Name, Told>,
}

/// How the messages of one alert went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The receiver took them.
    pub sent: u64,
    /// It did not, and is asked again.
    pub failed: u64,
    /// It did not however often it was asked.
    pub lost: u64,
}

/// The state of the background tasks.
#[derive(Debug, Default)]
pub struct Status {
    notified: AtomicBool,
    proof_ms: AtomicU64,
    applied_ms: AtomicU64,
    connected: AtomicBool,
    vanished: AtomicBool,
    draining: AtomicBool,
    doubts: AtomicU64,
    errors: ArcSwap<Vec<Standing>>,
    alerts: ArcSwap<Alerts>,
}

impl Status {
    /// How changes are noticed; polling until the first proof.
    #[must_use]
    pub fn watch(&self) -> Watch {
        if self.notified.load(Ordering::Relaxed) {
            Watch::Notifications
        } else {
            Watch::Polling
        }
    }

    /// When it was last proven that changes are noticed, in Unix milliseconds; 0 is never.
    #[must_use]
    pub fn proof_ms(&self) -> u64 {
        self.proof_ms.load(Ordering::Relaxed)
    }

    /// When the table in force was applied, in Unix milliseconds; 0 is never.
    #[must_use]
    pub fn applied_ms(&self) -> u64 {
        self.applied_ms.load(Ordering::Relaxed)
    }

    /// Whether Redis answers.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Whether what is in force has vanished from Redis without an order.
    #[must_use]
    pub fn is_vanished(&self) -> bool {
        self.vanished.load(Ordering::Relaxed)
    }

    /// Whether the gateway is about to stop.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The config errors that stand, by place.
    #[must_use]
    pub fn errors(&self) -> Arc<Vec<Standing>> {
        self.errors.load_full()
    }

    /// What the alerter knows about itself.
    #[must_use]
    pub fn alerts(&self) -> Arc<Alerts> {
        self.alerts.load_full()
    }

    /// How often Redis may have lost what was written there: a new connection, a flush.
    #[must_use]
    pub fn doubts(&self) -> u64 {
        self.doubts.load(Ordering::Relaxed)
    }

    pub(super) fn doubt(&self) {
        self.doubts.fetch_add(1, Ordering::Relaxed);
    }

    /// The gateway is about to stop.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(super) fn set_watch(&self, watch: Watch) {
        self.notified
            .store(watch == Watch::Notifications, Ordering::Relaxed);
    }

    pub(super) fn set_proof_ms(&self, at: u64) {
        self.proof_ms.store(at, Ordering::Relaxed);
    }

    pub(super) fn set_applied_ms(&self, at: u64) {
        self.applied_ms.store(at, Ordering::Relaxed);
    }

    pub(super) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }

    pub(super) fn set_vanished(&self, vanished: bool) {
        self.vanished.store(vanished, Ordering::Relaxed);
    }

    pub(super) fn set_errors(&self, errors: Vec<Standing>) {
        self.errors.store(Arc::new(errors));
    }

    pub(super) fn set_alerts(&self, alerts: Alerts) {
        self.alerts.store(Arc::new(alerts));
    }
}
