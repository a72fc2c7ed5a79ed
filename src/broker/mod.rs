//! Kafka: shadow records in, by a producer, and out again, by a consumer of a group. The only room
//! that knows which client library we use; without the cargo feature `kafka` it knows none, and every
//! door says so.
//!
//! Invariant: nothing here waits for a broker on the caller's thread.

#[cfg(not(feature = "kafka"))]
mod absent;
#[cfg(feature = "kafka")]
mod consumer;
#[cfg(feature = "kafka")]
mod producer;

use std::collections::BTreeMap;
use std::time::Duration;

#[cfg(not(feature = "kafka"))]
pub use absent::{Consumer, Producer};
#[cfg(feature = "kafka")]
pub use consumer::Consumer;
#[cfg(feature = "kafka")]
pub use producer::Producer;

/// Whether this program can speak with Kafka at all.
pub const IS_BUILT_IN: bool = cfg!(feature = "kafka");

/// What can go wrong between us and Kafka.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program has no Kafka in it.
    #[error("this program was built without Kafka")]
    NotBuiltIn,
    /// A step failed.
    #[error("cannot {step}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// Why it failed.
        source: Reason,
    },
}

/// Why something failed, in the library's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Reason(String);

/// A record for a topic.
#[derive(Clone, Copy, Debug)]
pub struct Message<'m> {
    /// The topic.
    pub topic: &'m str,
    /// Its key: records of one key stay in one partition.
    pub key: &'m str,
    /// Its headers.
    pub headers: &'m [(&'m str, &'m str)],
    /// Its value.
    pub value: &'m [u8],
}

/// Why a record was not taken.
#[derive(Debug)]
pub enum Refused {
    /// Too much is on its way already.
    Full,
    /// It never will be.
    ForGood(Error),
}

/// What became of a record: what it was sent with, and whether the brokers have it.
#[derive(Debug)]
pub struct Report<T> {
    /// What it was sent with.
    pub ticket: T,
    /// Whether the brokers have it, and all copies that they are to keep.
    pub delivered: bool,
}

/// Who consumes what.
#[derive(Clone, Debug)]
pub struct Membership {
    /// Brokers to begin with: `host:port`, commas between.
    pub servers: String,
    /// The topic.
    pub topic: String,
    /// The group that shares its partitions.
    pub group: String,
    /// After how long a silent member's partitions go to others.
    pub silence: Duration,
}

/// What became of our share of the partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Move {
    /// These are ours, and wait for `begin`.
    Assigned(Vec<i32>),
    /// None is ours any more.
    Revoked,
}

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Where it stands.
    pub partition: i32,
    /// And as which one.
    pub offset: i64,
    /// Its value; empty where it has none.
    pub value: Vec<u8>,
}

/// For each partition of a topic the first offset that still stands, and the one that comes next.
pub type Marks = BTreeMap<i32, (i64, i64)>;
