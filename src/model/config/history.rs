//! What of the texts in force changed in a batch, field by field.

use super::Batch;
use super::slot::Packed;
use crate::model::change::{self, Change};
use crate::model::keys::Object;

/// The changes of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The first of them, `CHANGES_MAX` at most.
    pub changes: Vec<Change>,
    /// Whether there are more.
    pub more: bool,
}

/// The most changes of a batch that are told field by field.
pub const CHANGES_MAX: usize = 1_000;

impl Batch {
    /// Takes note of what an object said and says.
    pub(super) fn note(&mut self, object: &Object, old: Option<&Packed>, new: Option<&Packed>) {
        if !object.is_by_people() {
            return;
        }
        if self.history.changes.len() >= CHANGES_MAX {
            self.history.more = true;
            return;
        }
        let unpack = |packed: Option<&Packed>| packed.map(Packed::unpack).unwrap_or_default();
        let found = change::difference(object, &unpack(old), &unpack(new));
        self.history.changes.extend(found);
        self.history.more |= self.history.changes.len() > CHANGES_MAX;
        self.history.changes.truncate(CHANGES_MAX);
    }
}
