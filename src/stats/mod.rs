//! From one finished request to what Redis is told: outcome, cells, differences, batches.
//!
//! Data-plane threads count in cells of their own (`Counter`); the flush side reads the cells and
//! takes differences (`Collector`), sums them by window and second (`Batch`), and keeps what Redis
//! may have to be told again (`Journal`).
//!
//! Invariant: values in, values out; no clock, no socket, no task.

pub mod batch;
mod collect;
mod counter;
pub mod histogram;
pub mod journal;
pub mod live;
mod meters;
mod outcome;
pub mod past;
mod sum;
pub mod track;
pub mod trial;

use std::fmt;

pub use collect::Collector;
pub use counter::{Attempt, Counter, counters};
pub use meters::{Meter, Meters};
pub use outcome::{ErrorKind, Outcome, Rejection};
pub use sum::{FIXED, FIXED_EARLY, Sum};

use crate::model::name::{ServiceName, VersionName};

/// What is counted together: a version of a service, or what ended before one was chosen.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    /// The service.
    pub service: ServiceName,
    /// The version; none where the request ended before one was chosen.
    pub version: Option<VersionName>,
}

impl fmt::Debug for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.version.as_ref().map_or("", VersionName::as_str);
        write!(f, "{}:{version}", self.service)
    }
}
