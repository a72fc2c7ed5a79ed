//! Reading so that no `EXEC` is ever seen in part.
//!
//! Each script call reads its keys at one moment and rings afterwards; what is heard before the
//! ring happened before that moment. Keys that were heard and not read in that call are read in
//! the next one, together with the others as far as one call holds them. When nothing is left over, all that was read stands as of the last ring: a key
//! read earlier that had changed since would have been heard.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Watcher, chain, union};
use crate::model::config::{Extent, Sight};
use crate::model::decode::Raw;
use crate::model::keys::{Keys, Parsed};
use crate::store::{CHUNK, Change, Error, Event, Scan};

/// What stands under a key, and how we came to look.
pub(super) type Found = BTreeMap<String, (Raw, Sight)>;

/// What stands under a key, where that is news.
type Met = BTreeMap<String, Raw>;

/// How long a ring may take; it comes before the answer of the script that rang, unless the
/// hearing connection is slow.
const RING: Duration = Duration::from_millis(100);
/// Calls before what was read is taken as it is: only a storm of writes gets this far.
const ROUNDS: usize = 8;
/// Keys met in one step of a full walk: about a millisecond of Redis's time.
const WALK: u32 = 5000;

impl Watcher {
    /// Reads the keys that changed, and applies them.
    pub(super) async fn read_dirty(&mut self) {
        match self.read(Met::new(), Vec::new()).await {
            Ok(found) => self.apply(found, Extent::Part),
            // The hints are used up, so everything is in doubt.
            Err(error) => self.failed(&error),
        }
    }

    /// Reads everything that is known or found, and applies it as one batch.
    pub(super) async fn read_all(&mut self) {
        self.full = false;
        let began = Instant::now();
        let began_ms = self.proof.begin();
        let read = match self.walk().await {
            Ok((met, left)) => self.read(met, union(left, self.unmet())).await,
            Err(error) => Err(error),
        };
        self.sweep.walked(began.elapsed());
        match read {
            Ok(found) => {
                self.apply(found, Extent::All);
                self.has_read_all = true;
                self.proof.read(began_ms);
                if self.errors_unsure {
                    self.publish_all_errors().await;
                }
                self.regained();
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Keys that the walk did not meet and that should be there, or may be.
    fn unmet(&self) -> Vec<String> {
        let keys: &Keys = self.store.keys();
        let objects = self.config.unmet().map(|object| keys.object(&object));
        let bad_names = self.config.bad_names().map(str::to_owned);
        objects.chain(bad_names).collect()
    }

    /// Goes through all keys and reads them, but for the last of them, which are left to be read
    /// together with what changed meanwhile. What stands as it did is not kept.
    async fn walk(&mut self) -> Result<(Met, Vec<String>), Error> {
        let mut scan = Scan::new(WALK);
        let mut met = Met::new();
        let mut keys = Vec::new();
        loop {
            keys.extend(self.store.scan(&mut scan).await?);
            let whole = keys.len().saturating_sub(1) / CHUNK * CHUNK;
            let left = keys.split_off(whole);
            for chunk in keys.chunks(CHUNK) {
                let loaded = self.store.load(chunk, None).await?;
                for (key, raw) in chunk.iter().zip(loaded.raws) {
                    self.meet(key, raw, &mut met);
                }
                self.breathe().await;
            }
            keys = left;
            if scan.is_at_start() {
                return Ok((met, keys));
            }
        }
    }

    fn meet(&mut self, key: &str, raw: Raw, met: &mut Met) {
        let left = match self.store.keys().parse(key) {
            Parsed::Object(object) => self.config.note(&object, raw),
            Parsed::BadName | Parsed::Other => Some(raw),
        };
        if let Some(raw) = left {
            met.insert(key.to_owned(), raw);
        }
    }

    /// Reads `keys` and whatever is dirty, consistently; `found` was read before.
    pub(super) async fn read(&mut self, mut found: Met, keys: Vec<String>) -> Result<Found, Error> {
        let mut removed = BTreeSet::new();
        let mut wanted = union(keys, self.take_dirty(&mut removed));
        for _ in 0..ROUNDS {
            let Some((last, before)) = split_last_chunk(&wanted) else {
                break;
            };
            for chunk in before.chunks(CHUNK) {
                let loaded = self.store.load(chunk, None).await?;
                found.extend(chunk.iter().cloned().zip(loaded.raws));
                self.breathe().await;
            }
            let ring = self.next_ring();
            let loaded = self.store.load(last, ring).await?;
            found.extend(last.iter().cloned().zip(loaded.raws));
            let came = match ring.filter(|_| loaded.rung) {
                Some(ring) => self.await_ring(ring).await,
                None => false,
            };
            // Without a ring nobody knows what happened before and what after.
            let covered: BTreeSet<&String> = last.iter().filter(|_| came).collect();
            let heard = self.take_dirty(&mut removed);
            wanted = heard
                .into_iter()
                .filter(|key| !covered.contains(key))
                .collect();
            // Writers that never pause would change the rest while a part is read: what fits into
            // one call is read together, at one moment.
            if !wanted.is_empty() && wanted.len() + found.len() <= CHUNK {
                wanted = union(wanted, found.keys().cloned());
            }
        }
        // After the last round some may be left: they are read in the next turn.
        for key in wanted {
            self.mark(key, Change::Written);
        }
        let seen = found.into_iter().map(|(key, raw)| {
            let sight = if removed.contains(&key) {
                Sight::Named
            } else {
                Sight::Read
            };
            (key, (raw, sight))
        });
        Ok(seen.collect())
    }

    fn take_dirty(&mut self, removed: &mut BTreeSet<String>) -> Vec<String> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty
            .into_iter()
            .map(|(key, change)| {
                if change == Change::Removed {
                    removed.insert(key.clone());
                }
                key
            })
            .collect()
    }

    /// The number of the next ring; none while there is nobody to hear it.
    fn next_ring(&mut self) -> Option<u64> {
        self.ring += 1;
        self.pulse.hearing.then_some(self.ring)
    }

    /// Takes in all that happened before the ring; whether it came.
    async fn await_ring(&mut self, ring: u64) -> bool {
        let end = Instant::now() + RING;
        loop {
            match timeout_at(end, self.events.next()).await {
                Ok(Some(Event::Ring(heard))) if heard == ring => return true,
                Ok(Some(event)) => self.hear(event),
                Ok(None) | Err(_) => return false,
            }
        }
    }

    /// A reading failed: everything is read again when Redis answers.
    pub(super) fn failed(&mut self, error: &Error) {
        self.full = true;
        self.sweep.not_before(Instant::now() + super::BEAT);
        if error.is_refused() {
            self.refused_to_read(&chain(error));
        } else {
            self.lost(&chain(error));
        }
    }
}

/// The keys of the last call, and all before them.
fn split_last_chunk(keys: &[String]) -> Option<(&[String], &[String])> {
    let at = keys.len().checked_sub(1)? / CHUNK * CHUNK;
    let (before, last) = keys.split_at_checked(at)?;
    Some((last, before))
}
