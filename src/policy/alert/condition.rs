//! The conditions: what of the facts is worth an alert, and the words for it.

use std::collections::BTreeMap;

use super::{Facts, Key, Seen, Sighting, relief};
use crate::model::alert::{Alert, Kind};
use crate::model::config::VANISHED;
use crate::model::keys::{Keys, Object, Parsed};
use crate::model::name::Name;
use crate::model::shell::word;
use crate::model::table::{Alerts, Table};

/// A rate that fired is over only below this part of its limit, so that one at the limit does not
/// come and go.
const HYSTERESIS: f64 = 0.8;
/// The most mistakes named in one message.
const MISTAKES_MAX: usize = 5;

/// How the mistake begins that names a receiver out of reach: it is no incident to be told.
pub const UNDELIVERED: &str = "messages do not arrive";

/// What every condition needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// How keys are called.
    pub keys: &'a Keys,
    /// The table in force, and the alerts in it.
    pub table: &'a Table,
}

/// An endpoint that is down, as the worst of all gateways sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// Its service.
    pub service: String,
    /// Its URL.
    pub endpoint: String,
    /// Since when, in Unix milliseconds.
    pub since_ms: u64,
    /// Why.
    pub why: String,
}

/// One event of the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Happened {
    /// Its kind.
    pub kind: String,
    /// The service; empty where it is about none.
    pub service: String,
    /// The version; empty where it is about none.
    pub version: String,
    /// The endpoint; empty where it is about none.
    pub endpoint: String,
    /// Which gateway saw it.
    pub gateway: String,
    /// What happened.
    pub why: String,
}

/// What was measured of a version over the window of an alert, all gateways together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Requests.
    pub requests: u64,
    /// Those that failed.
    pub errors: u64,
    /// Those that took longer than the limit.
    pub slow: u64,
    /// The 99th percentile of response times in milliseconds; none without requests.
    pub p99_ms: Option<f64>,
    /// Failed, and slow, in the newest second.
    pub newest: (u64, u64),
}

/// Endpoints that are down, or were since the last look.
#[must_use]
pub fn endpoint_down(scene: Scene<'_>, down: &[Down], happened: &[Happened]) -> Vec<Sighting> {
    let mut seen: BTreeMap<(&str, &str), Seen> = BTreeMap::new();
    for event in happened.iter().filter(|it| it.kind == "endpoint_down") {
        let at = seen.entry((&event.service, &event.endpoint)).or_default();
        *at.happened.entry(event.gateway.clone()).or_default() += 1;
        at.facts = Some(facts_of_down(
            scene,
            &event.service,
            &event.endpoint,
            &event.why,
        ));
    }
    for it in down {
        let at = seen.entry((&it.service, &it.endpoint)).or_default();
        at.bad = true;
        let mut facts = facts_of_down(scene, &it.service, &it.endpoint, &it.why);
        facts.since_ms = Some(it.since_ms);
        at.facts = Some(facts);
    }
    let seen = seen.into_iter();
    seen.flat_map(|((service, endpoint), seen)| {
        covering(
            &scene.table.alerts,
            Kind::EndpointDown,
            service,
            endpoint,
            &seen,
        )
    })
    .collect()
}

fn facts_of_down(scene: Scene<'_>, service: &str, endpoint: &str, why: &str) -> Facts {
    let known = scene.table.services.get(service);
    let versions = known.into_iter().flat_map(|service| &service.versions);
    let mut versions = versions.filter(|version| {
        let mut endpoints = version.endpoints.iter();
        endpoints.any(|it| &*it.spec.url == endpoint)
    });
    let version = versions.next();
    let evidence = version.map(|version| {
        let up = version.endpoints.iter().filter(|it| {
            let state = it.live.condition.health().state;
            &*it.spec.url != endpoint && state == crate::model::live::State::Up
        });
        let (up, all) = (up.count(), version.endpoints.len());
        format!("{up} of {all} endpoints of version {} are up", version.name)
    });
    Facts {
        version: version.map(|it| it.name.to_string()).unwrap_or_default(),
        endpoint: endpoint.to_owned(),
        why: format!("endpoint {endpoint} is down: {why}"),
        evidence: evidence.unwrap_or_default(),
        relief: known
            .map(|service| relief::endpoint(scene.keys, service, endpoint))
            .unwrap_or_default(),
        since_ms: None,
    }
}

/// Mistakes that stand in hashes: those of one service are one incident, so are all that belong to
/// none. `errors` is place and message.
#[must_use]
pub fn config_error(
    scene: Scene<'_>,
    errors: &[(String, String)],
    happened: &[Happened],
) -> Vec<Sighting> {
    let mut groups: BTreeMap<String, Vec<(&str, &str)>> = BTreeMap::new();
    let errors = errors
        .iter()
        .filter(|(place, message)| place != VANISHED && !message.starts_with(UNDELIVERED));
    for (place, message) in errors {
        let key = place.split_once(' ').map_or(&**place, |(key, _)| key);
        let group = groups.entry(service_of(scene.keys, key)).or_default();
        group.push((place, message));
    }
    let mut sightings = Vec::new();
    for (service, mistakes) in groups {
        let Some((place, message)) = mistakes.first() else {
            continue;
        };
        let named = mistakes.iter().take(MISTAKES_MAX);
        let mut evidence: Vec<String> = named
            .map(|(place, message)| format!("{place}: {message}"))
            .collect();
        if let more @ 1.. = mistakes.len().saturating_sub(MISTAKES_MAX) {
            evidence.push(format!("and {more} more"));
        }
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for event in happened {
            if event.kind == "config_error" && event.service == service {
                *counts.entry(event.gateway.clone()).or_default() += 1;
            }
        }
        let seen = Seen {
            bad: true,
            happened: counts,
            facts: Some(Facts {
                why: format!("{place}: {message}; its last good state stays in force"),
                evidence: evidence.join("\n"),
                relief: relief::mistake(place),
                ..Facts::default()
            }),
        };
        sightings.extend(covering(
            &scene.table.alerts,
            Kind::ConfigError,
            &service,
            "",
            &seen,
        ));
    }
    sightings
}

/// The whole configuration is gone from Redis and nobody deleted it.
#[must_use]
pub fn config_vanished(scene: Scene<'_>, errors: &[(String, String)]) -> Vec<Sighting> {
    let Some((_, message)) = errors.iter().find(|(place, _)| place == VANISHED) else {
        return Vec::new();
    };
    let facts = Facts {
        why: message.clone(),
        evidence: format!(
            "{} services are served on",
            scene.table.services.iter().count()
        ),
        relief: format!(
            "smartlink forget-vanished --prefix {}",
            word(scene.keys.prefix())
        ),
        ..Facts::default()
    };
    let seen = Seen {
        bad: true,
        facts: Some(facts),
        ..Seen::default()
    };
    covering(&scene.table.alerts, Kind::ConfigVanished, "", "", &seen)
}

/// Kinds that are known from events alone: rollouts and dropped shadow copies.
#[must_use]
pub fn news(scene: Scene<'_>, kind: Kind, happened: &[Happened]) -> Vec<Sighting> {
    let mut seen: BTreeMap<&str, Seen> = BTreeMap::new();
    let of_kind = happened.iter().filter(|it| it.kind == kind.as_str());
    for event in of_kind.filter(|it| kind != Kind::Rollout || !is_on_its_way(&it.why)) {
        let at = seen.entry(&event.service).or_default();
        at.bad = true;
        *at.happened.entry(event.gateway.clone()).or_default() += 1;
        let relief = Name::parse(&event.service).map(|name| {
            if kind == Kind::Rollout {
                let key = scene.keys.object(&Object::Rollout(name));
                format!("redis-cli HSET {} state paused", word(&key))
            } else {
                let key = scene.keys.object(&Object::Shadow(name));
                format!("redis-cli HSET {} sample 10%", word(&key))
            }
        });
        at.facts = Some(Facts {
            version: event.version.clone(),
            why: event.why.clone(),
            evidence: String::new(),
            relief: relief.unwrap_or_default(),
            ..Facts::default()
        });
    }
    let seen = seen.into_iter();
    seen.flat_map(|(service, seen)| covering(&scene.table.alerts, kind, service, "", &seen))
        .collect()
}

/// Whether an event of a rollout says only that it goes on; the word before the colon is its state.
fn is_on_its_way(why: &str) -> bool {
    let on_its_way = ["waiting", "shadow", "running", "proof", "finish", "bake"];
    let state = why.split_once(':').map(|(state, _)| state);
    state.is_some_and(|state| on_its_way.contains(&state))
}

/// Redis, which is at `place`, is of no use to this gateway, because of `why`.
#[must_use]
pub fn redis_lost(scene: Scene<'_>, place: &str, why: &str) -> Vec<Sighting> {
    let facts = Facts {
        why: format!("{why}; traffic flows on as last configured"),
        evidence: format!("revision {} is in force", scene.table.revision),
        relief: format!("redis-cli -u {} PING", word(place)),
        ..Facts::default()
    };
    let seen = Seen {
        bad: true,
        facts: Some(facts),
        ..Seen::default()
    };
    covering(&scene.table.alerts, Kind::RedisLost, "", "", &seen)
}

/// How a version does over the window of one alert; `fires` says whether it is told already.
#[must_use]
pub fn rates(
    scene: Scene<'_>,
    (id, alert): (&Name, &Alert),
    (service, version): (&Name, &Name),
    measured: Measured,
    worst: Option<&str>,
    fires: impl Fn(&Key) -> bool,
) -> Vec<Sighting> {
    let mut sightings = Vec::new();
    if measured.requests < alert.min_requests {
        return sightings;
    }
    let mut see = |kind, is_bad: &dyn Fn(f64) -> bool, evidence: String, why: String, newest| {
        let key = Key {
            alert: id.clone(),
            kind,
            service: service.to_string(),
            part: version.to_string(),
        };
        let part = if fires(&key) { HYSTERESIS } else { 1.0 };
        if !alert.covers(kind, service.as_str()) || !is_bad(part) {
            return;
        }
        let known = scene.table.services.get(service.as_str());
        let facts = Facts {
            version: version.to_string(),
            why,
            evidence,
            relief: known
                .map(|it| relief::version(scene.keys, it, version, worst))
                .unwrap_or_default(),
            ..Facts::default()
        };
        let seen = Seen {
            bad: true,
            happened: [("all".to_owned(), newest)].into(),
            facts: Some(facts),
        };
        sightings.push(Sighting { key, seen });
    };
    let Measured {
        requests,
        errors,
        slow,
        p99_ms,
        newest,
    } = measured;
    #[expect(clippy::cast_precision_loss, reason = "requests of minutes")]
    let rate = errors as f64 / requests.max(1) as f64;
    let window = alert.window;
    see(
        Kind::ErrorRate,
        &|part| errors > 0 && rate >= alert.error_rate * part,
        format!("{errors} of {requests} requests in {window:?}"),
        format!(
            "{:.1}% of requests fail, the limit is {:.1}%",
            rate * 100.0,
            alert.error_rate * 100.0
        ),
        newest.0,
    );
    if let (Some(p99_ms), Some(limit)) = (p99_ms, alert.latency_p99) {
        let limit_ms = limit.as_secs_f64() * 1000.0;
        see(
            Kind::Latency,
            &|part| p99_ms >= limit_ms * part,
            format!("{slow} of {requests} requests in {window:?} took longer than {limit:?}"),
            format!("the 99th percentile is {p99_ms:.0}ms, the limit is {limit_ms:.0}ms"),
            newest.1,
        );
    }
    sightings
}

/// One sighting for each alert that covers it.
fn covering(alerts: &Alerts, kind: Kind, service: &str, part: &str, seen: &Seen) -> Vec<Sighting> {
    let covering = alerts.iter().filter(|(_, it)| it.covers(kind, service));
    let sightings = covering.map(|(id, _)| Sighting {
        key: Key {
            alert: id.clone(),
            kind,
            service: service.to_owned(),
            part: part.to_owned(),
        },
        seen: seen.clone(),
    });
    sightings.collect()
}

/// The service a key is about; empty where it is about none, or about several.
fn service_of(keys: &Keys, key: &str) -> String {
    match keys.parse(key) {
        Parsed::Object(
            Object::Endpoints(name)
            | Object::Weights(name)
            | Object::Service(name)
            | Object::Shadow(name)
            | Object::Rollout(name)
            | Object::Pilot(name),
        ) => name.to_string(),
        _ => String::new(),
    }
}
