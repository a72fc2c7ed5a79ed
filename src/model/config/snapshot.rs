//! What is in force, as text: enough to serve without Redis.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::discriminant;

use serde::{Deserialize, Serialize};

use super::roster::Roster;
use super::slot::{Good, is_closing, is_judged};
use super::{Applied, Config, Sight, token_of};
use crate::model::decode::{ConfigError, Fields, Raw};
use crate::model::keys::{Object, Parsed};
use crate::model::tokens::Tokens;

/// What is in force, by key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The fields in force, also of what vanished.
    pub objects: BTreeMap<String, Fields>,
    /// Tokens in force, likewise; they are shared with the table until they are written.
    #[serde(default)]
    pub tokens: Tokens,
    /// Keys whose mistake closes something, for want of a last good state, and why.
    pub closed: BTreeMap<String, String>,
    /// Keys that vanished without an order and are still in force.
    pub vanished: BTreeSet<String>,
}

impl Config {
    /// What is in force, for a restart without Redis.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot {
            tokens: self.roster.tokens().clone(),
            ..Snapshot::default()
        };
        for (object, slot) in &self.slots {
            let key = self.keys.object(object);
            match &slot.good {
                Good::Text(text) => {
                    snapshot.objects.insert(key, text.fields.unpack());
                }
                Good::Nothing | Good::Absence => {
                    let closing = slot.closes().filter(|_| is_closing(object));
                    snapshot
                        .closed
                        .extend(closing.map(|error| (key, reason(error))));
                }
            }
        }
        let vanished = self.vanished.iter().map(|object| self.keys.object(object));
        snapshot.vanished = vanished.collect();
        snapshot
    }

    /// The journey from the empty table to what a snapshot holds: for a book that is new. Keys
    /// that are none of ours are left out.
    #[must_use]
    pub fn restore(&mut self, snapshot: Snapshot, seed: u64) -> Applied {
        let mut batch = self.begin(seed);
        batch.load = true;
        batch.restored = true;
        self.restore_tokens(snapshot.tokens);
        let texts = snapshot.objects.into_iter();
        let texts = texts.map(|(key, fields)| (key, Raw::Hash(fields)));
        let closed = snapshot.closed.into_iter();
        let closed = closed.map(|(key, why)| (key, Raw::Unreadable(why)));
        for (key, raw) in texts.chain(closed) {
            let Parsed::Object(object) = self.keys.parse(&key) else {
                continue;
            };
            self.take(object.clone(), raw, Sight::Read, &mut batch);
            // These were in force together, even where they would not be taken so today.
            if is_judged(&object)
                && let Some(slot) = self.slots.get_mut(&object)
            {
                slot.adopt();
            }
        }
        for key in &snapshot.vanished {
            if let Parsed::Object(object) = self.keys.parse(key)
                && self.is_known(&object)
            {
                self.vanished.insert(object);
            }
        }
        self.settle(batch)
    }

    fn restore_tokens(&mut self, tokens: Tokens) {
        let marks = tokens.iter().map(|(hash, token)| {
            let object = token_of(hash);
            self.mark_of(&object, token)
        });
        self.digest = marks.fold(self.digest, u128::wrapping_add);
        self.noted += tokens.len();
        let kind = discriminant(&Object::Token(Box::default()));
        self.counts.insert(kind, tokens.len());
        self.roster = Roster::new(tokens, self.batch);
    }
}

/// A mistake in words that do not repeat its key.
fn reason(error: &ConfigError) -> String {
    match &error.field {
        Some(field) => format!("{field}: {}", error.message),
        None => error.message.clone(),
    }
}
