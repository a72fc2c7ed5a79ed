//! What is gone: when an absence is an order, when a doubt, and when everything vanished.

use std::mem::discriminant;

use super::roster::token_hash;
use super::slot::Slot;
use super::{Batch, Config};
use crate::model::keys::Object;

impl Config {
    /// Notes that an object was seen to stand in this batch, or to be written.
    pub(super) fn sight(&mut self, object: &Object, written: bool) {
        if let Some(slot) = self.slots.get_mut(object) {
            slot.seen = self.batch;
            slot.doubted = false;
            if written {
                slot.written = self.batch;
            }
        }
        if let Some(hash) = token_hash(object) {
            self.roster.sight(&hash, self.batch, written);
        }
    }

    /// The batch in which an object that is not deleted was last seen to stand.
    pub(super) fn seen(&self, object: &Object) -> Option<u64> {
        let slot = self.slots.get(object);
        let slot = slot.map(|slot| Some(slot.seen).filter(|_| !slot.is_deleted()));
        slot.unwrap_or_else(|| token_hash(object).and_then(|hash| self.roster.seen(&hash)))
    }

    /// Whether an object should have been there.
    pub(super) fn is_missed(&self, object: &Object) -> bool {
        self.seen(object).is_some_and(|seen| seen < self.batch) && !self.vanished.contains(object)
    }

    /// Remembers that these were missing once; whether there are any.
    pub(super) fn doubt(&mut self, missing: &[Object]) -> bool {
        for object in missing {
            if let Some(slot) = self.slots.get_mut(object) {
                slot.doubted = true;
            }
            if let Some(hash) = token_hash(object) {
                self.roster.doubt(&hash);
            }
        }
        !missing.is_empty()
    }

    /// What to make of objects that are gone without an order, after everything was read; whether
    /// to read again. That something was deleted shows in what stood before and still stands: it
    /// must have been written before the missing ones were last seen, for what was written later
    /// may have been written after everything was flushed. And it must have been read after they
    /// were missing, for the flush may fall into the middle of a reading.
    pub(super) fn resolve(&mut self, missing: Vec<Object>, batch: &mut Batch) -> bool {
        let seen = missing.iter().filter_map(|object| self.seen(object));
        let Some(last_seen) = seen.max() else {
            return false;
        };
        // What a program writes again and again says nothing about a flush.
        let is_pilot = |object: &Object| matches!(object, Object::Pilot(_));
        let stands = |seen: u64, written: u64| seen == self.batch && written <= last_seen;
        let stood = |slot: &Slot| stands(slot.seen, slot.written);
        let still_stands = (self.slots.iter())
            .any(|(object, slot)| !is_pilot(object) && stood(slot))
            || (self.roster.sightings()).any(|token| stands(token.seen, token.written));
        if !still_stands {
            self.vanished.extend(missing);
            return false;
        }
        let was_doubted = |object: &Object| {
            let hash = token_hash(object);
            self.slots.get(object).is_some_and(|slot| slot.doubted)
                || hash.is_some_and(|hash| self.roster.is_doubted(&hash))
        };
        let (gone, doubted): (Vec<_>, Vec<_>) = missing.into_iter().partition(was_doubted);
        for object in &gone {
            self.drop_object(object, batch);
        }
        self.doubt(&doubted)
    }

    /// Obeys a deletion. Weights whose absence may not fit wait for the judgement.
    pub(super) fn drop_object(&mut self, object: &Object, batch: &mut Batch) {
        self.vanished.remove(object);
        if !self.is_known(object) {
            return;
        }
        batch.touched.insert(object.clone());
        let slot = self.slots.get_mut(object);
        let waits =
            |slot: &&mut Slot| matches!(object, Object::Weights(_)) && slot.in_force().is_some();
        match slot.filter(waits) {
            Some(slot) => slot.delete(),
            None => self.remove(object, batch),
        }
    }

    pub(super) fn remove(&mut self, object: &Object, batch: &mut Batch) {
        let mut counted = self.take_out_token(object, batch);
        if let Some(slot) = self.slots.remove(object) {
            counted |= !slot.surplus;
            self.digest = self.digest.wrapping_sub(slot.mark);
            if slot.mark != 0 {
                batch.changed.insert(object.clone());
            }
            let was_known = self.table.loaded && !batch.restored;
            if let Some(last) = slot.into_last().filter(|_| was_known) {
                batch.note(object, Some(&last), None);
            }
        }
        if counted && let Some(count) = self.counts.get_mut(&discriminant(object)) {
            *count -= 1;
        }
    }
}
