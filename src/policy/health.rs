//! What an exchange says about the health of its endpoint, and what follows from it.
//!
//! Connect errors take an endpoint down at once, on the thread that saw them. Ejection is judged in
//! one place, by the control half, which sees the whole pool: here it is only asked for.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::model::live::{Health, State};
use crate::model::name::{ServiceName, VersionName};
use crate::model::settings::Effective;
use crate::model::table::Endpoint;

/// What an exchange saw of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// No connection could be made.
    ConnectFailed,
    /// An answer that is not a failure.
    Answered,
    /// A failure after the connection was there: a 5xx, a reset, a timeout, a broken answer.
    Failed,
}

/// What should happen to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It was taken down: whoever probes must bring it back.
    Down,
    /// It failed so often in a row that it should be ejected, if its pool allows.
    Suspect,
}

/// A finding on its way to the control half.
#[derive(Clone, Debug)]
pub struct Report {
    /// Whose endpoint it is.
    pub service: ServiceName,
    /// The version it serves.
    pub version: VersionName,
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// What was found.
    pub finding: Finding,
    /// In a few words, for people.
    pub why: String,
}

/// Takes note of what was seen at `now_ms`; `Some` where something must follow.
pub fn observe(
    endpoint: &Endpoint,
    settings: &Effective,
    seen: Seen,
    now_ms: u64,
) -> Option<Finding> {
    let condition = &endpoint.live.condition;
    match seen {
        Seen::Answered => {
            // Mostly read: the line stays shared between the threads.
            for row in [&condition.connect_errors, &condition.failures] {
                if row.load(Ordering::Relaxed) != 0 {
                    row.store(0, Ordering::Relaxed);
                }
            }
            if now_ms.saturating_sub(condition.proven_ms.load(Ordering::Relaxed)) >= PROOF_MS {
                condition.proven_ms.store(now_ms, Ordering::Relaxed);
            }
            None
        }
        Seen::ConnectFailed => {
            let row = condition.connect_errors.fetch_add(1, Ordering::Relaxed) + 1;
            let health = condition.health();
            if row < settings.fall || health.state == State::Down {
                return None;
            }
            let down = Health {
                state: State::Down,
                since_ms: now_ms,
            };
            condition.turn(health, down).then_some(Finding::Down)
        }
        Seen::Failed => {
            let row = condition.failures.fetch_add(1, Ordering::Relaxed) + 1;
            let limit = settings.eject_5xx?;
            (row >= limit && condition.health().state == State::Up).then_some(Finding::Suspect)
        }
    }
}

/// How often a proof of health is written down: a probe that is skipped a little late costs
/// nothing, a cache line written by every request does.
const PROOF_MS: u64 = 100;
