//! The book of all configuration objects: what stands in Redis, what of it is in force, and what
//! is wrong with the rest.
//!
//! Invariant: a mistake in one object never changes what is in force for another.

mod absence;
mod build;
mod callers;
mod covered;
mod history;
mod judge;
mod precedence;
mod roster;
mod routes;
mod settle;
mod slot;
mod snapshot;
#[cfg(test)]
mod tests;

pub use history::{CHANGES_MAX, History};
pub use snapshot::Snapshot;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;

use super::decode::{ConfigError, Raw};
use super::keys::{Keys, Object};
use super::name::Name;
use super::pilot;
use super::table::Table;
use super::tokens::{self, TokenHash};
use super::visible;
use roster::{Roster, token_hash};
use slot::{Good, Slot};

/// The place among config errors that says that known keys vanished without an order.
pub const VANISHED: &str = "config_vanished";

/// The most objects of one kind: services, routes, ...; those beyond are mistakes. Of tokens there
/// may be `TOKENS_TIMES` as many.
pub const OBJECTS_MAX: usize = 100_000;

/// How many times as many tokens there may be as others.
const TOKENS_TIMES: usize = 20;

/// The most keys with bad names that are named at a time.
const BAD_NAMES_MAX: usize = 1_000;

/// How we came to look at an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// A notification said that the key was removed: an absence is an order.
    Named,
    /// A notification said that the key was written: what stands was written just now, and an
    /// absence is nobody's order.
    Written,
    /// Seen by reading: what an absence means depends on what else stands (see `Extent`).
    Read,
}

/// How much of what is known a batch of readings covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Some objects: an absence that no notification ordered is not obeyed but reported as
    /// `Applied::suspicious`.
    Part,
    /// Everything known and everything found. The first such batch makes the table a loaded one.
    /// An absence is an order where something that stood before was read later than the absence
    /// and still stands, so that nothing was flushed meanwhile: in the second reading that misses
    /// it. Where nothing that stood before stands, everything vanished.
    All,
}

/// One object as it was just read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Which object.
    pub object: Object,
    /// What stands there now.
    pub raw: Raw,
    /// How we came to look.
    pub sight: Sight,
}

/// What a batch of readings led to.
#[derive(Debug, Default)]
pub struct Applied {
    /// The next table, where anything in force changed.
    pub table: Option<Arc<Table>>,
    /// What changed, one short text each, for the log and the event: `service ner`, `route a`, ...
    pub changed: Vec<String>,
    /// Errors that are new or have a new text.
    pub errors_new: Vec<ConfigError>,
    /// Places (`ConfigError::place`) whose errors are gone.
    pub errors_gone: Vec<String>,
    /// Set when this batch began (`true`) or ended (`false`) the state in which everything known
    /// vanished without an order.
    pub vanished: Option<bool>,
    /// Something is missing and no notification ordered it: read everything, to be sure.
    pub suspicious: bool,
    /// What of the texts in force is another one, field by field; nothing where the table was not
    /// loaded before.
    pub history: History,
}

/// All objects.
#[derive(Debug)]
pub struct Config {
    keys: Keys,
    table: Arc<Table>,
    /// All objects but tokens that are in force as they stand.
    slots: BTreeMap<Object, Slot>,
    /// Tokens in force.
    roster: Roster,
    /// Tokens that were put in force without a batch, before anything was loaded.
    noted: usize,
    /// Objects that are in force although they are gone.
    vanished: BTreeSet<Object>,
    /// Routes in force, and whether they are in the table.
    routes: BTreeMap<Name, routes::RouteState>,
    defaults: settle::Defaults,
    /// Errors by the object that has them.
    errors: BTreeMap<Object, Vec<ConfigError>>,
    /// Keys of our kinds whose names break the form.
    bad_names: BTreeMap<String, ConfigError>,
    vanished_notice: Option<ConfigError>,
    /// How many objects of each kind are decoded.
    counts: HashMap<Discriminant<Object>, usize>,
    objects_max: usize,
    /// The sum of the marks of all slots.
    digest: u128,
    /// Counts batches.
    batch: u64,
    /// Counts connection pools.
    pools: u64,
}

/// What one batch touches on its way.
struct Batch {
    seed: u64,
    /// The table is loaded from now on.
    load: bool,
    was_vanished: bool,
    /// All of it was in force before.
    restored: bool,
    /// Objects to judge and name anew.
    touched: BTreeSet<Object>,
    /// Objects whose state in force is another one.
    changed: BTreeSet<Object>,
    history: History,
}

impl Config {
    /// An empty book: its table is revision 0 and not loaded.
    #[must_use]
    pub fn new(keys: Keys) -> Self {
        Self {
            keys,
            table: Arc::default(),
            slots: BTreeMap::new(),
            roster: Roster::default(),
            noted: 0,
            vanished: BTreeSet::new(),
            routes: BTreeMap::new(),
            defaults: settle::Defaults::default(),
            errors: BTreeMap::new(),
            bad_names: BTreeMap::new(),
            vanished_notice: None,
            counts: HashMap::new(),
            objects_max: OBJECTS_MAX,
            digest: 0,
            batch: 0,
            pools: 0,
        }
    }

    /// Takes note of what a walk through everything met, where that needs no batch: it stands as it
    /// did, or it is a good token before the first batch, and may be one of a million. What is left
    /// must come in the batch that ends the walk.
    #[must_use]
    pub fn note(&mut self, object: &Object, raw: Raw) -> Option<Raw> {
        if self.vanished.contains(object) || raw == Raw::Absent {
            return Some(raw);
        }
        if let Some(hash) = token_hash(object) {
            return self.note_token(object, &hash, raw);
        }
        let raw = as_kept(object, raw);
        let slot = self.slots.get_mut(object);
        match slot.filter(|slot| slot.stands_as(&raw)) {
            Some(slot) => {
                slot.seen = self.batch + 1;
                slot.doubted = false;
                None
            }
            None => Some(raw),
        }
    }

    /// Known objects that the walk did not meet whose end is now.
    pub fn unmet(&self) -> impl Iterator<Item = Object> {
        let now = self.batch + 1;
        let slots = self.slots.iter().filter(move |(_, slot)| slot.seen < now);
        let tokens = self.roster.tokens().iter().zip(self.roster.sightings());
        let tokens = tokens.filter(move |(_, sighting)| sighting.seen < now);
        let tokens = tokens.map(|((hash, _), _)| token_of(hash));
        (slots.map(|(object, _)| object.clone())).chain(tokens)
    }

    /// Takes what was read. `seed` comes from the system's random source, new for every batch.
    #[must_use]
    pub fn apply(&mut self, readings: Vec<Reading>, extent: Extent, seed: u64) -> Applied {
        let mut batch = self.begin(seed);
        let mut missing = Vec::new();
        for Reading { object, raw, sight } in readings {
            match (raw, sight) {
                (Raw::Absent, Sight::Named) => self.drop_object(&object, &mut batch),
                (Raw::Absent, _) => missing.push(object),
                (raw, sight) => self.take(object, raw, sight, &mut batch),
            }
        }
        missing.retain(|object| self.is_missed(object));
        batch.load = extent == Extent::All;
        let suspicious = match extent {
            Extent::Part => self.doubt(&missing),
            Extent::All => self.resolve(missing, &mut batch),
        };
        Applied {
            suspicious,
            ..self.settle(batch)
        }
    }

    /// Makes the table a loaded one, where a first complete load came in parts.
    #[must_use]
    pub fn mark_loaded(&mut self, seed: u64) -> Applied {
        let mut batch = self.begin(seed);
        batch.load = true;
        self.settle(batch)
    }

    /// Drops everything that vanished without an order.
    #[must_use]
    pub fn forget_vanished(&mut self, seed: u64) -> Applied {
        let mut batch = self.begin(seed);
        for object in std::mem::take(&mut self.vanished) {
            self.drop_object(&object, &mut batch);
        }
        self.settle(batch)
    }

    /// The table now.
    #[must_use]
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table)
    }

    /// All objects that were seen and not deleted, also what vanished: what to read again. Tokens
    /// in force come last.
    pub fn known(&self) -> impl Iterator<Item = Object> {
        self.known_singly().cloned().chain(self.known_tokens(None))
    }

    /// The known objects that are no tokens in force.
    pub fn known_singly(&self) -> impl Iterator<Item = &Object> {
        let in_force = |object: &Object| {
            let hash = token_hash(object);
            hash.is_some_and(|hash| self.roster.get(&hash).is_some())
        };
        self.slots.keys().filter(move |object| !in_force(object))
    }

    /// The tokens in force, in an order that stays: all, or those behind that one.
    pub fn known_tokens(&self, behind: Option<&Object>) -> impl Iterator<Item = Object> {
        let tokens = self.roster.tokens();
        let behind = behind.and_then(token_hash);
        let all = behind.is_none().then(|| tokens.iter());
        let some = behind.map(|hash| tokens.after(hash));
        let tokens = all.into_iter().flatten().chain(some.into_iter().flatten());
        tokens.map(|(hash, _)| token_of(hash))
    }

    /// How many objects are known; a token counts twice that is in force beside a mistake.
    #[must_use]
    pub fn known_count(&self) -> usize {
        self.slots.len() + self.roster.tokens().len()
    }

    /// Whether that object is among the known.
    #[must_use]
    pub fn is_known(&self, object: &Object) -> bool {
        let token = || token_hash(object).and_then(|hash| self.roster.get(&hash));
        self.slots.contains_key(object) || token().is_some()
    }

    /// All that is wrong.
    pub fn errors(&self) -> impl Iterator<Item = &ConfigError> {
        let objects = self.errors.values().flatten();
        objects
            .chain(self.bad_names.values())
            .chain(&self.vanished_notice)
    }

    /// Whether something that vanished without an order is still in force.
    #[must_use]
    pub fn is_vanished(&self) -> bool {
        !self.vanished.is_empty()
    }

    /// Names a key of our kinds whose name breaks the form.
    #[must_use]
    pub fn note_bad_name(&mut self, key: &str) -> Applied {
        let mut applied = Applied::default();
        let key = bounded(key);
        if self.bad_names.len() < BAD_NAMES_MAX && !self.bad_names.contains_key(key) {
            let error = bad_name(&self.keys, key);
            self.bad_names.insert(key.to_owned(), error.clone());
            applied.errors_new.push(error);
        }
        applied
    }

    /// Takes back `note_bad_name`, when the key is gone.
    #[must_use]
    pub fn clear_bad_name(&mut self, key: &str) -> Applied {
        let mut applied = Applied::default();
        if let Some(error) = self.bad_names.remove(bounded(key)) {
            let place = error.place();
            if !self.bad_names.values().any(|other| other.place() == place) {
                applied.errors_gone.push(place);
            }
        }
        applied
    }

    /// The keys noted as bad names, to see whether they still stand.
    pub fn bad_names(&self) -> impl Iterator<Item = &str> {
        self.bad_names.keys().map(String::as_str)
    }

    fn begin(&mut self, seed: u64) -> Batch {
        self.batch += 1;
        Batch {
            seed,
            load: false,
            was_vanished: self.is_vanished(),
            restored: false,
            touched: BTreeSet::new(),
            changed: BTreeSet::new(),
            history: History::default(),
        }
    }

    fn take(&mut self, object: Object, raw: Raw, sight: Sight, batch: &mut Batch) {
        if let Some(hash) = token_hash(&object) {
            return self.take_token((object, hash), raw, sight, batch);
        }
        let raw = as_kept(&object, raw);
        let returned = self.vanished.remove(&object);
        let served = self.absence_is_good(&object);
        let is_new = !self.slots.contains_key(&object);
        let slot = self
            .slots
            .entry(object.clone())
            .or_insert_with(|| Slot::new(self.batch));
        let same = slot.stands_as(&raw);
        slot.seen = self.batch;
        slot.doubted = false;
        if sight != Sight::Read || returned || !same {
            slot.written = self.batch;
        }
        if same {
            return;
        }
        let count = self.counts.entry(discriminant(&object)).or_default();
        let uncounted = is_new || slot.surplus;
        let most = self.objects_max;
        slot.surplus = uncounted && *count >= most;
        if slot.surplus {
            slot.refuse_surplus(&self.keys, &object, most);
        } else {
            *count += usize::from(uncounted);
            slot.take(&self.keys, &object, raw);
        }
        if is_new && served && !slot.is_good() {
            slot.good = Good::Absence;
        }
        batch.touched.insert(object);
    }

    /// Whether the absence of an object is a good state that is in force.
    fn absence_is_good(&self, object: &Object) -> bool {
        let service = |name: &Name| self.table.services.get(name.as_str());
        let serves = |name| service(name).is_some_and(|service| service.misconfigured.is_none());
        self.table.loaded
            && match object {
                Object::Defaults => true,
                Object::Service(name) => serves(name),
                _ => false,
            }
    }

    fn most(&self, object: &Object) -> usize {
        match object {
            Object::Token(_) => self.objects_max.saturating_mul(TOKENS_TIMES),
            _ => self.objects_max,
        }
    }
}

/// The part of what stands there that is looked at.
fn as_kept(object: &Object, raw: Raw) -> Raw {
    match (object, raw) {
        (Object::Pilot(_), Raw::Hash(fields)) => Raw::Hash(pilot::of_gateways(fields)),
        (_, raw) => raw,
    }
}

fn token_of(hash: &TokenHash) -> Object {
    Object::Token(tokens::digits(hash).into())
}

/// The part of a key that is kept of a bad name.
fn bounded(key: &str) -> &str {
    const LONGEST: usize = 256;
    key.get(..key.floor_char_boundary(LONGEST)).unwrap_or(key)
}

fn bad_name(keys: &Keys, key: &str) -> ConfigError {
    let meant = keys.meant(key);
    let kind = meant.map_or("token", |(_, kind)| kind);
    let tokens = format!("{}{kind}:", keys.prefix());
    // The name may be the token itself, written where its hash belongs.
    let is_token = meant.is_none_or(|(kind, _)| kind == "token") && key.starts_with(&tokens);
    let shown = if is_token {
        visible::escaped(&tokens, &[]).into_owned() + "…"
    } else {
        visible::escaped(key, &[]).into_owned()
    };
    let message = match meant {
        Some(("defaults", _)) => "no such key; did you mean defaults?".to_owned(),
        Some((kind, _)) => format!("no such kind of key; did you mean {kind}:<name>?"),
        None if is_token => {
            "the key wants the SHA-256 of the token as 64 lower-case hex digits".to_owned()
        }
        None => "the key wants a name of 1 to 128 letters, digits, and after the first also _ . -"
            .to_owned(),
    };
    ConfigError {
        key: shown,
        field: None,
        message,
    }
}
