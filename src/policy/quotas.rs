//! What all threads count against limits, beside what stands with a service: by key, and by caller.
//!
//! Each table is made when the first limit needs it, and takes memory page by page as keys come.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::cells::{Cells, Slot};
use crate::model::table::Service;

/// Slots for a million keys that are at work at once, at most 32 MiB.
const KEYS: usize = 1 << 21;
/// Slots for keys whose quotas gateways share, at most 4 MiB.
const SHARED: usize = 1 << 17;
/// Slots for callers with requests in flight, at most 1 MiB.
const BUSY: usize = 1 << 16;

/// The tables.
#[derive(Debug, Default)]
pub struct Quotas {
    keys: OnceLock<Cells>,
    callers: OnceLock<Cells>,
    busy: OnceLock<Cells>,
    shared: OnceLock<Cells>,
    fleet: AtomicU32,
}

/// What is counted against a quota that gateways share.
#[derive(Clone, Copy, Debug)]
pub struct Meter<'m> {
    /// The cell, see `policy::gcra`.
    pub cell: &'m AtomicU64,
    /// Requests since they were counted last.
    pub demand: &'m AtomicU64,
    /// The share on lease, packed by `policy::share`.
    pub lease: &'m AtomicU64,
}

/// The first request for a shared quota since requests were counted: somebody should lease a share.
#[derive(Clone, Debug)]
pub struct Demand {
    /// Whose quota.
    pub service: Arc<Service>,
    /// Where it is one for each key: the key's number here, and its name in Redis.
    pub key: Option<(u64, String)>,
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

    /// What is counted of a shared quota: of the service, or of a key.
    pub fn meter<'q>(&'q self, service: &'q Service, key: Option<u64>) -> Meter<'q> {
        match key {
            None => of_service(service),
            Some(key) => of_slot(self.shared.get_or_init(|| Cells::new(SHARED, 3)).take(key)),
        }
    }

    /// The same, where it stands anywhere.
    #[must_use]
    pub fn metered<'q>(&'q self, service: &'q Service, key: Option<u64>) -> Option<Meter<'q>> {
        match key {
            None => Some(of_service(service)),
            Some(key) => self.shared.get()?.find(key).map(of_slot),
        }
    }

    /// How many gateways there are, as far as is known; 0 before anything is.
    #[must_use]
    pub fn fleet(&self) -> u32 {
        self.fleet.load(Ordering::Relaxed)
    }

    /// There are so many gateways.
    pub fn set_fleet(&self, fleet: u32) {
        self.fleet.store(fleet, Ordering::Relaxed);
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

fn of_service(service: &Service) -> Meter<'_> {
    let metered = &service.live.rate;
    Meter {
        cell: &metered.cell,
        demand: &metered.demand,
        lease: &metered.lease,
    }
}

fn of_slot(slot: Slot<'_>) -> Meter<'_> {
    Meter {
        cell: slot.cell(),
        demand: slot.word(1),
        lease: slot.word(2),
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
