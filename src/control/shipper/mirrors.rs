//! Records that are handed to who compares them in this process.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use super::book::Book;
use crate::model::copies::Fate;
use crate::model::name::ServiceName;
use crate::shadow::{Draft, Parcel};

/// The most records of a service that wait for a candidate: some seconds of calls at the usual rate.
/// More would keep the room from records of other services.
const WAITING_MAX: usize = 64;

/// Hands records over.
#[derive(Debug)]
pub(super) struct Mirrors {
    parcels: UnboundedSender<Parcel>,
    /// One clone for each record that waits, and ours.
    places: BTreeMap<ServiceName, Arc<()>>,
}

impl Mirrors {
    pub(super) fn new(parcels: UnboundedSender<Parcel>) -> Self {
        Self {
            parcels,
            places: BTreeMap::new(),
        }
    }

    /// Hands a record over, or drops it where too many wait, and counts which it was.
    pub(super) fn send(&mut self, draft: Draft, book: &mut Book) {
        let service = Arc::clone(&draft.service);
        let place = self.places.entry(service.name.clone()).or_default();
        if Arc::strong_count(place) > WAITING_MAX {
            return book.count(&service, Fate::DroppedQueue);
        }
        let place = Arc::clone(place);
        let (record, held) = book.write(draft);
        let parcel = Parcel {
            service: service.name.clone(),
            record,
            held,
            place,
        };
        let fate = if self.parcels.send(parcel).is_ok() {
            Fate::Delivered
        } else {
            book.take_back(&service.name);
            Fate::DroppedSink
        };
        book.count(&service, fate);
    }
}
