//! The table in force, the health of its endpoints and the config errors, as JSON.

use std::sync::atomic::Ordering;

use serde_json::{Map, Value, json};

use crate::control::prober::Board;
use crate::control::status::{Standing, Status};
use crate::model::endpoint::Duty;
use crate::model::name::Name;
use crate::model::route::{HostMatch, PathMatch, Route};
use crate::model::table::{Endpoint, Service, Table, Version};
use crate::policy::balance::least_time;
use crate::store::LiveHashes;

/// The table in force.
pub(super) fn table(table: &Table, status: &Status) -> Value {
    let mut services: Vec<_> = table.services.iter().collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    let services: Map<_, _> = services
        .into_iter()
        .map(|it| (it.name.to_string(), service(it)))
        .collect();
    let routes: Vec<_> = table.routes.routes.iter().map(|it| route(it)).collect();
    json!({
        "revision": table.revision,
        "digest": table.digest,
        "loaded": table.loaded,
        "watch": status.watch().to_string(),
        "watch_proof_ms": status.proof_ms(),
        "redis": if status.is_connected() { "connected" } else { "lost" },
        "vanished": status.is_vanished(),
        "errors": status.errors().len(),
        "misconfigured": table.defaults_misconfigured,
        "services": services,
        "routes": routes,
    })
}

fn service(service: &Service) -> Value {
    let sum: u64 = service.versions.iter().map(|it| u64::from(it.weight)).sum();
    let versions: Map<_, _> = service
        .versions
        .iter()
        .map(|it| (it.name.to_string(), version(it, sum)))
        .collect();
    json!({
        "enabled": service.settings.enabled,
        "misconfigured": service.misconfigured,
        "versions": versions,
    })
}

fn version(version: &Version, sum: u64) -> Value {
    let endpoints: Map<_, _> = version
        .endpoints
        .iter()
        .map(|it| (it.spec.url.to_string(), endpoint(it)))
        .collect();
    let share = match sum {
        0 => 0.0,
        #[expect(clippy::cast_precision_loss, reason = "shown to people")]
        _ => f64::from(version.weight) / sum as f64,
    };
    json!({ "weight": version.weight, "share": share, "endpoints": endpoints })
}

fn endpoint(endpoint: &Endpoint) -> Value {
    let duty = match endpoint.spec.duty {
        Duty::Active => "active",
        Duty::Backup => "backup",
        Duty::Drain => "drain",
        Duty::Off => "off",
    };
    json!({
        "weight": endpoint.spec.weight,
        "duty": duty,
        "max_conns": endpoint.spec.max_conns,
        "inflight": endpoint.live.inflight.load(Ordering::Relaxed),
    })
}

/// How this gateway finds each endpoint.
pub(super) fn health(table: &Table, board: &Board) -> Value {
    let mut services: Vec<_> = table.services.iter().collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    let mut endpoints = Vec::new();
    for service in services {
        for version in &service.versions {
            for endpoint in &version.endpoints {
                let shown = board.show(endpoint);
                let average = least_time::average(&endpoint.live);
                endpoints.push(json!({
                    "service": service.name.as_str(),
                    "version": version.name.as_str(),
                    "endpoint": endpoint.spec.url,
                    "state": shown.state,
                    "since_ms": shown.since_ms,
                    "why": &*shown.why,
                    "inflight": endpoint.live.inflight.load(Ordering::Relaxed),
                    "ewma_ms": average.map(|it| it.as_secs_f64() * 1e3),
                }));
            }
        }
    }
    json!({ "revision": table.revision, "endpoints": endpoints })
}

/// What is live, by service: numbers of each version, and what is said of each endpoint.
pub(super) fn live(live: &[(Name, LiveHashes)]) -> Value {
    let services: Map<_, _> = (live.iter())
        .map(|(service, hashes)| (service.to_string(), live_of(hashes)))
        .collect();
    json!({ "services": services })
}

fn live_of(hashes: &LiveHashes) -> Value {
    // Plain decimals, and what is said of an endpoint, are JSON as they stand.
    let parsed = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
    let (mut service, mut versions) = (Map::new(), Map::new());
    for (field, text) in &hashes.versions {
        let Some((version, number)) = field.rsplit_once('.') else {
            service.insert(field.clone(), parsed(text));
            continue;
        };
        let version = versions.entry(version).or_insert_with(|| json!({}));
        version[number] = parsed(text);
    }
    let endpoints = hashes.endpoints.iter();
    let endpoints: Map<_, _> = endpoints
        .map(|(url, text)| (url.clone(), parsed(text)))
        .collect();
    service.insert("versions".to_owned(), versions.into());
    service.insert("endpoints".to_owned(), endpoints.into());
    service.into()
}

fn route(route: &Route) -> Value {
    let (path, path_regex) = match &route.path {
        PathMatch::Any => (None, None),
        PathMatch::Exact(path) | PathMatch::Prefix(path) => (Some(&**path), None),
        PathMatch::Regex(regex) => (None, Some(regex.as_str())),
    };
    let host = match &route.host {
        HostMatch::Any => None,
        HostMatch::Exact(host) => Some(host.to_string()),
        HostMatch::Below(domain) => Some(format!("*{domain}")),
    };
    let methods: Vec<_> = route.methods.iter().map(http::Method::as_str).collect();
    json!({
        "id": route.id.as_str(),
        "service": route.service.as_str(),
        "path": path,
        "path_regex": path_regex,
        "host": host,
        "methods": methods,
        "version": route.version.as_ref().map(Name::as_str),
        "priority": route.priority,
    })
}

/// What is wrong in the hashes.
pub(super) fn errors(errors: &[Standing]) -> Value {
    errors
        .iter()
        .map(|standing| {
            json!({
                "key": standing.error.key,
                "field": standing.error.field,
                "message": standing.error.message,
                "since": standing.since,
            })
        })
        .collect()
}
