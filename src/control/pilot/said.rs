//! What hashes say, as a pilot needs it.

use std::collections::BTreeSet;

use crate::model::decode::{ConfigError, Fields};
use crate::model::endpoint::{Duty, Endpoints};
use crate::model::keys::{Keys, Object};
use crate::model::name::{Name, ServiceName};
use crate::model::object::{Value, decode_object};
use crate::model::weights::Weights;
use crate::policy::rollout::Unread;
use crate::telemetry;

/// Logs that something stands there which is no hash.
pub(super) fn no_hash(keys: &Keys, object: &Object) {
    telemetry::config_error(&ConfigError {
        key: keys.shown(object),
        field: None,
        message: Unread::NoHash.to_string(),
    });
}

/// What an object says, where nothing is wrong with it; what is, is logged.
pub(super) fn decoded(keys: &Keys, object: &Object, fields: &Fields) -> Option<Value> {
    let (value, mistakes) = decode_object(keys, object, fields);
    mistakes.iter().for_each(telemetry::config_error);
    value.filter(|_| mistakes.is_empty())
}

/// The weights, or what is wrong with them.
pub(super) fn weights_of(
    keys: &Keys,
    service: &ServiceName,
    fields: &Fields,
) -> (Weights, Option<Unread>) {
    let object = Object::Weights(service.clone());
    let (value, mistakes) = decode_object(keys, &object, fields);
    match value {
        Some(Value::Weights(weights)) if mistakes.is_empty() => (weights, None),
        _ => {
            let first = mistakes.first().map(ToString::to_string);
            let mistake = Unread::Mistake(first.unwrap_or_default());
            (Weights::new(), Some(mistake))
        }
    }
}

/// The candidate's endpoints, whether one may be up, and whether `base` has any.
pub(super) fn lineup(
    endpoints: &Endpoints,
    health: &Fields,
    candidate: &Name,
) -> (BTreeSet<String>, bool, bool) {
    let serves = |duty: Duty| matches!(duty, Duty::Active | Duty::Backup);
    let of = |version: &str| {
        let specs = endpoints.values();
        let specs = specs.filter(move |spec| spec.version.as_str() == version && serves(spec.duty));
        specs
            .map(|spec| spec.url.to_string())
            .collect::<BTreeSet<_>>()
    };
    let build = of(candidate.as_str());
    let is_down = |url: &String| {
        let state = health.get(url).and_then(|text| {
            let json: serde_json::Value = serde_json::from_str(text).ok()?;
            Some(json.get("state")?.as_str()? == "down")
        });
        state.unwrap_or(false)
    };
    let is_up = build.iter().any(|url| !is_down(url));
    (build, is_up, !of("base").is_empty())
}

/// Whether every gateway gave a life sign after that moment, and all have the same table.
pub(super) fn is_in_force(gateways: &[Fields], since_ms: u64) -> bool {
    let beat = |fields: &Fields| fields.get("heartbeat_ms")?.parse::<u64>().ok();
    let digests: BTreeSet<_> = gateways.iter().map(|fields| fields.get("digest")).collect();
    let all_beat = gateways.iter().all(|fields| beat(fields) > Some(since_ms));
    all_beat && digests.len() <= 1
}
