//! What all threads count against limits, beside what stands with a service: by key, and by caller.
//!
//! Each table is made when the first limit needs it, and takes memory page by page as keys come.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::cells::{Cells, Slot};

/// Slots for a million keys that are at work at once, at most 32 MiB.
const KEYS: usize = 1 << 21;
/// Slots for callers with requests in flight, at most 1 MiB.
const BUSY: usize = 1 << 16;

/// The tables.
#[derive(Debug, Default)]
pub struct Quotas {
    keys: OnceLock<Cells>,
    callers: OnceLock<Cells>,
    busy: OnceLock<Cells>,
}

impl Quotas {
    /// The cell of a key of a service.
    pub fn of_key(&self, key: u64) -> Slot<'_> {
        self.keys.get_or_init(|| Cells::new(KEYS, 1)).take(key)
    }

    /// The cell of a caller's own rate. Strangers cannot make up callers, so that they push nobody
    /// out here.
    pub fn of_caller(&self, caller: u64) -> Slot<'_> {
        self.callers
            .get_or_init(|| Cells::new(KEYS, 1))
            .take(caller)
    }

    /// Counts one more request in flight of a caller that may have so many; gives the place where it
    /// is counted, for `end`. A caller whose slots all others use counts where one of these does: it
    /// may have to wait for that one, and is never let in without limit.
    pub fn begin(&self, caller: u64, most: u32) -> Option<usize> {
        let busy = self.busy.get_or_init(|| Cells::new(BUSY, 1));
        let slot = busy.take(caller);
        let more = |now: u64| (now < u64::from(most)).then(|| now + 1);
        let counted = (slot.cell()).fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        counted.ok().map(|_| slot.place())
    }

    /// A request that was counted there is over.
    pub fn end(&self, place: usize) {
        if let Some(slot) = self.busy.get().and_then(|busy| busy.at(place)) {
            slot.cell().fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// How many requests a caller has in flight.
    #[must_use]
    pub fn in_flight(&self, caller: u64) -> u64 {
        let slot = self.busy.get().and_then(|busy| busy.find(caller));
        slot.map_or(0, |slot| AtomicU64::load(slot.cell(), Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_in_flight_are_counted_by_caller() {
        let quotas = Quotas::default();
        let places: Vec<_> = (0..3).map(|_| quotas.begin(7, 2)).collect();
        assert!(places[0].is_some() && places[1].is_some() && places[2].is_none());
        assert!(quotas.begin(8, 1).is_some());
        assert_eq!((quotas.in_flight(7), quotas.in_flight(8)), (2, 1));
        for place in places.into_iter().flatten() {
            quotas.end(place);
        }
        assert_eq!(quotas.in_flight(7), 0);
        assert!(quotas.begin(7, 2).is_some());
    }
}
