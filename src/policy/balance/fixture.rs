//! Pools for tests.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use http::HeaderValue;

use super::{Ask, Picked, pick};
use crate::model::endpoint::{Duty, EndpointSpec};
use crate::model::hash::spread;
use crate::model::live::{Health, State};
use crate::model::name::Name;
use crate::model::settings::{Balance, Effective, Settings};
use crate::model::table::{Endpoint, Version};
use crate::model::value;

/// A version with an endpoint for each weight, all of them up and idle.
pub(super) fn pool(weights: &[u32]) -> Version {
    pool_of(weights, |_| {})
}

/// The same, with more to say about each endpoint.
pub(super) fn pool_of(weights: &[u32], mut edit: impl FnMut(&mut EndpointSpec)) -> Version {
    let endpoints = weights.iter().zip(1..).map(|(weight, pool)| {
        let url = format!("http://10.0.0.{pool}/");
        let mut spec = EndpointSpec {
            target: value::url(&url).expect("a URL"),
            url: url.into(),
            version: Name::parse("base").expect("a name"),
            weight: *weight,
            duty: Duty::Active,
            max_conns: None,
        };
        edit(&mut spec);
        Arc::new(Endpoint {
            service: Name::parse("test").expect("a name"),
            host: HeaderValue::from_static("test"),
            pool,
            seed: spread(&[spec.url.as_bytes()]),
            spec,
            live: Arc::default(),
            group: Arc::default(),
            crowd: Arc::default(),
        })
    });
    Version {
        service: Name::parse("s").expect("a name"),
        name: Name::parse("base").expect("a name"),
        name_header: HeaderValue::from_static("base"),
        weight: 1,
        endpoints: endpoints.collect(),
        rotor: Arc::default(),
        crowd: Arc::default(),
        counts: Arc::default(),
    }
}

pub(super) fn settings(balance: Balance) -> Effective {
    Effective {
        balance,
        ..Effective::merge(&Settings::default(), &Settings::default())
    }
}

pub(super) fn ask(settings: &Effective, random: u64) -> Ask<'_> {
    Ask {
        settings,
        now_us: 1_000_000,
        tried: &[],
        random,
        key: None,
    }
}

/// The position of the endpoint that is picked; panics where none is.
pub(super) fn position(version: &Version, ask: &Ask<'_>) -> usize {
    let Picked::Endpoint(endpoint) = pick(version, ask) else {
        panic!("nobody was picked");
    };
    usize::try_from(endpoint.pool).expect("small") - 1
}

/// How often each endpoint is picked in so many requests, one at a time.
pub(super) fn hits(version: &Version, settings: &Effective, requests: u64) -> Vec<u64> {
    let mut hits = vec![0; version.endpoints.len()];
    for n in 0..requests {
        hits[position(version, &ask(settings, crate::model::hash::mix(n)))] += 1;
    }
    hits
}

pub(super) fn turn(version: &Version, position: usize, state: State) {
    let condition = &version.endpoints[position].live.condition;
    let next = Health { state, since_ms: 1 };
    assert!(condition.turn(condition.health(), next));
}

pub(super) fn load(version: &Version, inflight: &[u32]) {
    for (endpoint, inflight) in version.endpoints.iter().zip(inflight) {
        endpoint.live.inflight.store(*inflight, Relaxed);
    }
}
