//! Background tasks: what keeps the routing table in step with Redis, and Redis in step with what
//! was counted.
//!
//! Invariant: nothing here is ever waited for by a request.

pub mod alerter;
mod complaint;
pub mod issuers;
pub mod live;
pub mod lookout;
pub mod outbox;
pub mod pilot;
pub mod prober;
pub mod quotas;
pub mod recorder;
pub mod shipper;
pub mod status;
pub mod watcher;

/// The error and its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
