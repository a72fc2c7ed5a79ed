//! The book of all configuration objects: what stands in Redis, what of it is in force, and what
//! is wrong with the rest.
//!
//! Invariant: a mistake in one object never changes what is in force for another.

use std::sync::Arc;

use super::decode::{ConfigError, Raw};
use super::keys::{Keys, Object};
use super::table::Table;

/// How sure we are that something that is absent was meant to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// A notification named the key: an absence is an order.
    Named,
    /// Seen by reading: an absence is an order only while other known keys still stand.
    Read,
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
