//! One configuration object: its fields in, the value of its kind out.

use super::alert::{self, Alert};
use super::decode::{ConfigError, Decoded, FIELDS_MAX, Fields};
use super::endpoint::{self, Endpoints};
use super::issuer::{self, Issuer};
use super::keys::{Keys, Object};
use super::pilot::{self, Trial};
use super::rollout::{self, Rollout};
use super::route::{self, Route};
use super::settings::{self, Settings};
use super::shadow::{self, Shadow};
use super::token::{self, Token};
use super::weights::{self, Weights};

/// What a configuration hash says, by kind.
#[derive(Clone, Debug)]
pub enum Value {
    /// `defaults`.
    Defaults(Settings),
    /// `endpoints:<svc>`.
    Endpoints(Endpoints),
    /// `weights:<svc>`.
    Weights(Weights),
    /// `service:<svc>`.
    Service(Settings),
    /// `route:<id>`.
    Route(Route),
    /// `token:<hash>`.
    Token(Token),
    /// `issuer:<id>`.
    Issuer(Issuer),
    /// `shadow:<svc>`.
    Shadow(Shadow),
    /// `rollout:<svc>`.
    Rollout(Rollout),
    /// `pilot:<svc>`; none where no trial is on.
    Pilot(Option<Trial>),
    /// `alert:<id>`.
    Alert(Alert),
}

/// Decodes a hash as what its key says it is: the value where nothing is wrong, and everything
/// that is. Errors name a token's key by its first digits only.
#[must_use]
pub fn decode_object(keys: &Keys, object: &Object, fields: &Fields) -> Decoded<Value> {
    let key = &keys.shown(object);
    if fields.len() > FIELDS_MAX {
        let error = ConfigError {
            key: key.clone(),
            field: None,
            message: format!("want at most {FIELDS_MAX} fields, got {}", fields.len()),
        };
        return (None, vec![error]);
    }
    match object {
        Object::Defaults => as_value(Value::Defaults, settings::decode(key, fields)),
        Object::Service(_) => as_value(Value::Service, settings::decode(key, fields)),
        Object::Endpoints(_) => as_value(Value::Endpoints, endpoint::decode(key, fields)),
        Object::Weights(_) => as_value(Value::Weights, weights::decode(key, fields)),
        Object::Route(id) => as_value(Value::Route, route::decode(key, id, fields)),
        Object::Token(hash) => as_value(Value::Token, token::decode(key, hash, fields)),
        Object::Issuer(_) => as_value(Value::Issuer, issuer::decode(key, fields)),
        Object::Shadow(name) => as_value(Value::Shadow, shadow::decode(key, name, fields)),
        Object::Rollout(_) => as_value(Value::Rollout, rollout::decode(key, fields)),
        Object::Pilot(_) => as_value(Value::Pilot, pilot::decode(key, fields)),
        Object::Alert(_) => as_value(Value::Alert, alert::decode(key, fields)),
    }
}

fn as_value<T>(kind: fn(T) -> Value, (value, errors): Decoded<T>) -> Decoded<Value> {
    (value.map(kind), errors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::keys::Parsed;

    /// The messages about a hash, `field: message` each; empty where it is good.
    fn mistakes(key: &str, pairs: &[(&str, &str)]) -> Vec<String> {
        let keys = Keys::new("smartlink:");
        let Parsed::Object(object) = keys.parse(&format!("smartlink:{key}")) else {
            panic!("{key} is no configuration key");
        };
        let fields = pairs
            .iter()
            .map(|(field, text)| ((*field).to_owned(), (*text).to_owned()))
            .collect();
        let (value, errors) = decode_object(&keys, &object, &fields);
        assert_eq!(value.is_some(), errors.is_empty(), "{key} {errors:?}");
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn good_hashes_decode() {
        let none: Vec<String> = Vec::new();
        for (key, pairs) in [
            (
                "endpoints:a",
                &[("http://127.0.0.1:8000/get_lng_lat/", "base")][..],
            ),
            (
                "endpoints:a",
                &[("https://[::1]:8443", "v-1 weight=3 backup max_conns=9")],
            ),
            (
                "endpoints:a",
                &[("http://my_host", "base off"), ("HTTP://h:80/", "b drain")],
            ),
            ("weights:a", &[("base", "90"), ("candidate", "10")]),
            ("defaults", &[("cors", "*"), ("sticky", "json:/user")]),
            (
                "service:a",
                &[("timeout", "1.5s"), ("balance", "hash:header:X-User")],
            ),
            (
                "route:a",
                &[("service", "s"), ("path", "/geo/"), ("strip_prefix", "on")],
            ),
            (
                "route:a",
                &[
                    ("service", "s"),
                    ("path_regex", "/v(\\d+)/x"),
                    ("rewrite", "/$1"),
                ],
            ),
            (
                "route:a",
                &[("service", "s"), ("header.X-A", "*"), ("query.k", "v")],
            ),
        ] {
            assert_eq!(mistakes(key, pairs), none);
        }
    }

    #[test]
    fn all_mistakes_of_a_hash_are_named_at_once() {
        let errors = mistakes(
            "service:ner",
            &[
                ("timeout", "soon"),
                ("retrys", "2"),
                ("balance", "leasttime"),
            ],
        );
        assert_eq!(
            errors,
            [
                "smartlink:service:ner balance: want one of least_time, round_robin, weighted, \
                 least_conn, random (did you mean least_time?), or hash:<key>, got \"leasttime\"",
                "smartlink:service:ner timeout: want a duration such as 250ms, 30s, 5m or 1h, at \
                 least 1ms, at most 87600h (10 years), got \"soon\"",
                "smartlink:service:ner retrys: unknown field, did you mean retries?",
            ]
        );
    }
}
