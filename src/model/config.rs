//! The book of all configuration objects: what stands in Redis, what of it is in force, and what
//! is wrong with the rest.
//!
//! Invariant: a mistake in one object never changes what is in force for another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::decode::{ConfigError, Fields, Raw};
use super::keys::{Keys, Object};
use super::table::Table;

/// How we came to look at an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// A notification named the key: an absence is an order.
    Named,
    /// Seen by reading: what an absence means depends on what else stands (see `Extent`).
    Read,
}

/// How much of what is known a batch of readings covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Some objects: an absence that no notification named is not obeyed but reported as
    /// `Applied::suspicious`.
    Part,
    /// Everything known and everything found: absences are orders, unless nothing that stood
    /// before still stands. The first such batch makes the table a loaded one.
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
    /// A batch of `Extent::Part` missed something that no notification named: read everything.
    pub suspicious: bool,
}

/// What is in force, as text, by key: enough to serve without Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The fields in force, also of what vanished.
    pub objects: BTreeMap<String, Fields>,
    /// Keys whose mistake closes something, for want of a last good state, and why.
    pub closed: BTreeMap<String, String>,
    /// Keys that vanished without an order and are still in force.
    pub vanished: BTreeSet<String>,
}

/// All objects.
#[derive(Debug)]
pub struct Config {
    keys: Keys,
    table: Arc<Table>,
}

impl Config {
    /// An empty book: its table is revision 0 and not loaded.
    #[must_use]
    pub fn new(keys: Keys) -> Self {
        Self {
            keys,
            table: Arc::default(),
        }
    }
}
