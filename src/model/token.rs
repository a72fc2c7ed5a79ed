//! Tokens: who may ask which services, and how much.

use std::sync::Arc;

use super::credential::{Credential, identity};
use super::decode::{Decoded, Decoder, Fields};
use super::keys::first_digits;
use super::networks::Networks;
use super::quota::Quota;
use super::settings::Limit;
use super::value::{self, limit, list, moment, name_glob, networks, switch, whole};

/// The largest burst and concurrency.
const COUNT_MAX: u32 = 1_000_000;

/// The decoded `token:<hex SHA-256>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Who presents it: named by the operator, or by the first digits of its hash.
    pub credential: Arc<Credential>,
    /// The services it opens: names, in which `*` stands for any run of characters.
    pub services: Vec<Box<str>>,
    /// From when on it is no longer good, in Unix milliseconds.
    pub expires_ms: Option<i64>,
    /// From when on it is good, in Unix milliseconds.
    pub not_before_ms: Option<i64>,
    /// Where it may be used from; empty: everywhere.
    pub allow_ip: Networks,
    /// Whether it is good at all.
    pub enabled: bool,
}

/// Decodes `token:<hash>`.
#[must_use]
pub fn decode(key: &str, hash: &str, fields: &Fields) -> Decoded<Token> {
    let mut decoder = Decoder::new(key, fields);
    let name = decoder.take("name", value::short_text);
    let services = decoder.require("services", list(name_glob));
    let expires_ms = decoder.take("expires", moment);
    let not_before_ms = decoder.take("not_before", moment);
    let rate = decoder.take("rate", limit(value::rate)).and_then(Limit::at);
    let burst = decoder.take("burst", whole(1..=COUNT_MAX));
    let concurrency = decoder.take("concurrency", limit(whole(1..=COUNT_MAX)));
    let allow_ip = decoder.take("allow_ip", networks).unwrap_or_default();
    let may_choose = decoder.take("may_choose", switch).unwrap_or(false);
    let enabled = decoder.take("enabled", switch).unwrap_or(true);
    if not_before_ms
        .zip(expires_ms)
        .is_some_and(|(from, to)| from >= to)
    {
        decoder.mistake(Some("expires"), "must come after not_before");
    }
    if burst.is_some() && !decoder.has("rate") {
        decoder.mistake(Some("burst"), "needs rate");
    }
    let token = services.map(|services| Token {
        credential: Arc::new(Credential {
            id: identity("token", name.as_deref().unwrap_or(hash)),
            name: name.unwrap_or_else(|| first_digits(hash).into()),
            quota: rate.map(|rate| Quota::new(rate, burst)),
            concurrency: concurrency.and_then(Limit::at),
            may_choose,
        }),
        services,
        expires_ms,
        not_before_ms,
        allow_ip,
        enabled,
    });
    decoder.finish(token)
}
