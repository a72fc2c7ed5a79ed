//! What the gateway counts of itself, beside the requests it serves.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one process; whoever counts holds a reference, and nobody waits.
#[derive(Debug, Default)]
pub struct Meters {
    /// Client connections that were accepted.
    pub accepted: Meter,
    /// Client connections that were closed.
    pub closed: Meter,
    /// Lines of the access log that were not written.
    pub lines_dropped: Meter,
    /// Spans that a collector took.
    pub spans_sent: Meter,
    /// Spans for which there was no room.
    pub spans_dropped: Meter,
    /// Spans that no collector took.
    pub spans_failed: Meter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Meter(AtomicU64);

impl Meter {
    /// Counts so many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many there were.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
