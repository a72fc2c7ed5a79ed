//! What became of the shadow copies of a service, since this process knows the service.
//!
//! Invariant: one atomic for each count, never a lock.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

/// What may become of a request whose service has a shadow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// The sink took its record.
    Delivered,
    /// Its record was dropped because too many waited.
    DroppedQueue,
    /// It was dropped because those that waited held too much memory.
    DroppedMemory,
    /// It was dropped because the sink refuses it for good.
    DroppedSink,
    /// It was dropped because it waited for longer than `max_age`.
    DroppedAge,
    /// It was not to be recorded.
    NotSampled,
    /// One of its bodies was cut; counted beside the others.
    Truncated,
    /// It cannot be sent again as it was; counted beside the others.
    NotReplayable,
}

impl Fate {
    /// All of them, in the order of the books.
    pub const ALL: [Self; 8] = [
        Self::Delivered,
        Self::DroppedQueue,
        Self::DroppedMemory,
        Self::DroppedSink,
        Self::DroppedAge,
        Self::NotSampled,
        Self::Truncated,
        Self::NotReplayable,
    ];

    /// Its name, which is its field in the books.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::DroppedQueue => "dropped_queue",
            Self::DroppedMemory => "dropped_memory",
            Self::DroppedSink => "dropped_sink",
            Self::DroppedAge => "dropped_age",
            Self::NotSampled => "not_sampled",
            Self::Truncated => "truncated",
            Self::NotReplayable => "not_replayable",
        }
    }

    /// Whether a record was lost.
    #[must_use]
    pub fn is_drop(self) -> bool {
        matches!(
            self,
            Self::DroppedQueue | Self::DroppedMemory | Self::DroppedSink | Self::DroppedAge
        )
    }

    /// Whether it is one of those that every sampled record comes to exactly once.
    #[must_use]
    pub fn is_end(self) -> bool {
        self == Self::Delivered || self.is_drop()
    }
}

/// Counts by fate.
#[derive(Debug, Default)]
pub struct Copies {
    counts: CachePadded<[AtomicU64; Fate::ALL.len()]>,
    /// When the next record may be written at the latest, packed by `shadow::sample`.
    pub pace: CachePadded<AtomicU64>,
}

impl Copies {
    /// Counts this many more.
    pub fn count(&self, fate: Fate, more: u64) {
        if let Some(count) = self.counts.get(fate as usize) {
            count.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// How many there are by now.
    #[must_use]
    pub fn get(&self, fate: Fate) -> u64 {
        let count = self.counts.get(fate as usize);
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fate_has_a_count_of_its_own() {
        let copies = Copies::default();
        for (at, fate) in (1..).zip(Fate::ALL) {
            copies.count(fate, at);
        }
        for (at, fate) in (1..).zip(Fate::ALL) {
            assert_eq!(copies.get(fate), at, "{fate:?}");
        }
    }
}
