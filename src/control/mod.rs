//! Background tasks: what keeps the routing table in step with Redis.
//!
//! Invariant: nothing here is ever waited for by a request.

pub mod outbox;
pub mod prober;
pub mod status;
pub mod watcher;
