//! Which endpoint of a version takes this request: one balancer a file.

pub mod round_robin;

use std::sync::Arc;

use crate::model::endpoint::Duty;
use crate::model::table::{Endpoint, Version};

/// The endpoint for the next attempt, none that was tried before; `None` where nobody is left.
/// Backups stand in only when no active endpoint is left.
#[must_use]
pub fn pick<'v>(version: &'v Version, tried: &[u64]) -> Option<&'v Arc<Endpoint>> {
    let among = |duty: Duty| {
        version.endpoints.iter().filter(move |endpoint| {
            endpoint.spec.duty == duty
                && endpoint.spec.weight > 0
                && !tried.contains(&endpoint.pool)
        })
    };
    round_robin::pick(&version.rotor, || among(Duty::Active))
        .or_else(|| round_robin::pick(&version.rotor, || among(Duty::Backup)))
}
