//! Records that the gateway in this process hands over. They stand nowhere else: what waits here is
//! gone with the process.

use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::mpsc::UnboundedReceiver;

use super::Error;
use crate::shadow::Parcel;
use crate::store::{Log, Numbered, Taken};
use crate::worker::lane::Lane;

/// Records handed over, numbered as they come.
pub(in crate::worker) struct Handed {
    parcels: UnboundedReceiver<Rc<Parcel>>,
    /// The name of this life.
    life: Box<str>,
    number: u64,
    /// What is being worked on: it keeps its room until then.
    held: BTreeMap<String, Rc<Parcel>>,
}

impl Handed {
    /// What comes out of this queue, which is bounded by whoever fills it; `life` is a name that no
    /// other process has had.
    pub(in crate::worker) fn new(parcels: UnboundedReceiver<Rc<Parcel>>, life: &str) -> Self {
        Self {
            parcels,
            life: life.into(),
            number: 0,
            held: BTreeMap::new(),
        }
    }

    pub(super) fn next(&mut self, lane: &Lane, most: usize) -> Vec<Taken> {
        let working = lane.entries();
        self.held.retain(|entry, _| working.contains(entry));
        let mut taken = Vec::new();
        while taken.len() < most
            && let Ok(parcel) = self.parcels.try_recv()
        {
            let numbered = Numbered {
                log: Log::Life(self.life.clone()),
                number: self.number,
                from: self.number,
                origin: None,
            };
            self.number += 1;
            let entry = numbered.entry();
            taken.push(Taken {
                entry: entry.clone(),
                deliveries: 1,
                record: parcel.record.clone(),
                numbered: Some(numbered),
            });
            self.held.insert(entry, parcel);
        }
        taken
    }
}

/// Ready as soon as what they come to can be written.
pub(super) async fn open(lane: &Lane) -> Result<(), Error> {
    let asked = lane
        .comparisons()
        .count(lane.service(), lane.candidate(), "read");
    asked.await?;
    Ok(())
}
