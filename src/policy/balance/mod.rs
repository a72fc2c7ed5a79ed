//! Which endpoint of a version takes this request: one balancer a file.

pub mod round_robin;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::model::endpoint::Duty;
use crate::model::live::State;
use crate::model::settings::Effective;
use crate::model::table::{Endpoint, Version};

/// What a choice depends on, beside the endpoints.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The settings of the service.
    pub settings: &'a Effective,
    /// The time, in microseconds of the clock of `model::live`.
    pub now_us: u64,
    /// The endpoints that were tried for this request, by their `pool`.
    pub tried: &'a [u64],
    /// A random number, new for every choice.
    pub random: u64,
    /// The hash of the request's key, where `balance` is `hash:` and the request has one.
    pub key: Option<u64>,
}

/// What came of a choice.
#[derive(Clone, Copy, Debug)]
pub enum Picked<'v> {
    /// This one.
    Endpoint(&'v Arc<Endpoint>),
    /// Somebody is up, but everybody who is has as many requests as `max_conns` allows.
    Full,
    /// Nobody is up who was not tried.
    Nobody,
}

/// The endpoint for the next attempt, none that was tried before. Backups stand in only when no
/// active endpoint is up.
#[must_use]
pub fn pick<'v>(version: &'v Version, ask: &Ask<'_>) -> Picked<'v> {
    let among = |duty: Duty| {
        version.endpoints.iter().filter(move |endpoint| {
            endpoint.spec.duty == duty
                && endpoint.spec.weight > 0
                && endpoint.live.condition.health().state == State::Up
                && !ask.tried.contains(&endpoint.pool)
        })
    };
    let free = |duty: Duty| {
        among(duty).filter(|endpoint| {
            let inflight = endpoint.live.inflight.load(Ordering::Relaxed);
            endpoint.spec.max_conns.is_none_or(|most| inflight < most)
        })
    };
    for duty in [Duty::Active, Duty::Backup] {
        if let Some(endpoint) = round_robin::pick(&version.rotor, || free(duty)) {
            return Picked::Endpoint(endpoint);
        }
        if among(duty).next().is_some() {
            return Picked::Full;
        }
    }
    Picked::Nobody
}
