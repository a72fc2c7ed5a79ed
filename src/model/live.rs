//! What is true of an endpoint or a service right now: written by every request, shared by all
//! threads, carried over from table to table.
//!
//! Moments are microseconds or milliseconds of one clock that starts with the process; 0 is before
//! everything. Invariant: one atomic for each fact, never a lock; the line of a `Gate` has one of its
//! own, for when all slots are taken.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use tokio::sync::Notify;

use super::copies::Copies;
use super::count::{Attempts, Cells, Tally};
use super::gate::Gate;

/// What all threads must agree on about an endpoint: facts that change together share a cache
/// line.
#[derive(Debug, Default)]
pub struct Live {
    /// Requests in flight, from the choice of the endpoint to the last byte of the answer.
    pub inflight: CachePadded<AtomicU32>,
    /// How fast it answers; changes with every answer.
    pub pace: CachePadded<Pace>,
    /// Whether it takes requests; read by every choice, changed rarely.
    pub condition: CachePadded<Condition>,
    /// What its attempts came to.
    pub counts: Cells<Attempts>,
}

/// How fast an endpoint answers. Packed numbers are read and written by `policy::balance` alone.
#[derive(Debug, Default)]
pub struct Pace {
    /// The average response time and when it was last fed, packed.
    pub average: AtomicU64,
    /// What failures still cost and since when, packed.
    pub penalty: AtomicU64,
    /// Requests that wait for the head of their answer.
    pub waiting: AtomicU32,
    /// When, in microseconds, an answer came last or the first of those waiting began to wait.
    pub moved_us: AtomicU64,
    /// Credit in the smooth weighted turn.
    pub credit: AtomicI64,
}

/// Whether an endpoint takes requests, and what speaks against it.
#[derive(Debug, Default)]
pub struct Condition {
    /// A `Health`, packed.
    state: AtomicU64,
    /// Connect errors in a row.
    pub connect_errors: AtomicU32,
    /// Failed answers in a row.
    pub failures: AtomicU32,
    /// How often in a row it was ejected.
    pub ejections: AtomicU32,
    /// How often it was ejected at all.
    pub ejected: AtomicU32,
    /// When, in milliseconds, an answer last proved it healthy.
    pub proven_ms: AtomicU64,
}

/// Whether an endpoint takes requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It does.
    #[default]
    Up,
    /// Connecting failed: it does not until a probe succeeds.
    Down,
    /// It failed too often in a row: it does not for a while.
    Ejected,
}

impl State {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Ejected => "ejected",
        }
    }
}

/// A state, and since when it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The state.
    pub state: State,
    /// Since when, in milliseconds; 0 since it is known.
    pub since_ms: u64,
}

impl Health {
    fn pack(self) -> u64 {
        let tag = match self.state {
            State::Up => 0,
            State::Down => 1,
            State::Ejected => 2,
        };
        (self.since_ms << 2) | tag
    }

    fn unpack(packed: u64) -> Self {
        let state = match packed & 3 {
            0 => State::Up,
            1 => State::Down,
            _ => State::Ejected,
        };
        Self {
            state,
            since_ms: packed >> 2,
        }
    }
}

impl Condition {
    /// Whether it takes requests, and since when.
    #[must_use]
    pub fn health(&self) -> Health {
        Health::unpack(self.state.load(Ordering::Relaxed))
    }

    /// Goes from the state that was seen to another; false where somebody else was faster.
    pub fn turn(&self, seen: Health, next: Health) -> bool {
        self.state
            .compare_exchange(
                seen.pack(),
                next.pack(),
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .is_ok()
    }
}

/// The requests that wait for a place on an endpoint of one version, where `max_conns` are taken.
#[derive(Debug, Default)]
pub struct Crowd {
    /// How many they are.
    pub queued: AtomicU32,
    /// Wakes the one that waits longest when a place is free.
    pub freed: Notify,
}

/// What all threads must agree on about a service.
#[derive(Debug, Default)]
pub struct ServiceLive {
    /// Requests so far: what the retry budget is a share of.
    pub requests: CachePadded<AtomicU64>,
    /// What the retry budget remembers, packed by `policy::retry`.
    pub budget: CachePadded<Budget>,
    /// Requests that wait for a place, over all versions: what `queue` bounds.
    pub waiting: AtomicU32,
    /// Wakes all that wait, for a place or for an endpoint (`hold`), when an endpoint comes back or
    /// the service changes.
    pub changed: Notify,
    /// Its rate limit, where all its requests are counted together.
    pub rate: CachePadded<Metered>,
    /// Its slots (`concurrency`).
    pub gate: Gate,
    /// What requests came to that ended before a version was chosen.
    pub counts: Cells<Tally>,
    /// What became of its shadow copies.
    pub copies: Copies,
}

/// Requests that are counted together against a rate; numbers are written by `policy::gcra` and
/// `policy::share` alone.
#[derive(Debug, Default)]
pub struct Metered {
    /// When the next request is due.
    pub cell: AtomicU64,
    /// Requests since the quota was last leased, where it is shared between gateways.
    pub demand: AtomicU64,
    /// This gateway's share, and until when it holds, packed.
    pub lease: AtomicU64,
}

/// The running window of a retry budget.
#[derive(Debug, Default)]
pub struct Budget {
    /// The window's number, and how many requests had come when it began, packed.
    pub window: AtomicU64,
    /// The window's number, and the repeats in it, packed.
    pub repeats: AtomicU64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_turns_once() {
        let condition = Condition::default();
        let up = condition.health();
        assert_eq!(up, Health::default());
        let down = Health {
            state: State::Down,
            since_ms: 12,
        };
        assert!(condition.turn(up, down));
        assert!(!condition.turn(up, down), "somebody was faster");
        assert_eq!(condition.health(), down);
        let ejected = Health {
            state: State::Ejected,
            since_ms: u64::MAX >> 2,
        };
        assert!(condition.turn(down, ejected));
        assert_eq!(condition.health(), ejected);
    }
}
