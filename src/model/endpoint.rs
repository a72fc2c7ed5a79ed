//! Endpoints: the addresses that serve a version of a service.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::decode::{Decoded, Decoder, Fields, Wanted, quote};
use super::name::VersionName;
use super::value;
use super::weights::WEIGHT_MAX;

/// What one field of `endpoints:<svc>` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSpec {
    /// The URL exactly as the operator wrote it; stats and health name the endpoint by it.
    pub url: Box<str>,
    /// The URL in parts.
    pub target: Target,
    /// The version it serves.
    pub version: VersionName,
    /// Its share among the endpoints of its version; 0 takes nothing.
    pub weight: u32,
    /// Whether it takes requests.
    pub duty: Duty,
    /// The most requests in flight per gateway, where limited.
    pub max_conns: Option<u32>,
}

/// Whether and when an endpoint takes requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Duty {
    /// Takes requests.
    #[default]
    Active,
    /// Takes requests only when no active endpoint of its version is up.
    Backup,
    /// Takes no new requests, finishes what runs.
    Drain,
    /// As if it were not there.
    Off,
}

/// An endpoint URL in parts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Whether the upstream speaks TLS.
    pub tls: bool,
    /// Host name or address, as written, IPv6 without brackets.
    pub host: Box<str>,
    /// Whether the host is an address, so that there is no name to look up.
    pub is_address: bool,
    /// Port, 80 or 443 where the URL names none.
    pub port: u16,
    /// The `host[:port]` of the URL, as `Host` header.
    pub authority: Box<str>,
    /// The path as written, at least `/`.
    pub path: Box<str>,
}

/// The decoded `endpoints:<svc>`: URL to endpoint, in the order of the URLs.
pub type Endpoints = BTreeMap<Box<str>, EndpointSpec>;

/// How many requests an endpoint may be limited to.
const MAX_CONNS_MAX: u32 = 1_000_000;

/// Decodes `endpoints:<svc>`.
#[must_use]
pub fn decode(key: &str, fields: &Fields) -> Decoded<Endpoints> {
    let mut decoder = Decoder::new(key, fields);
    let named = decoder.take_all(
        |text| value::url(text).map(|target| (Box::from(text), target)),
        role,
    );
    let endpoints = named
        .into_iter()
        .map(|((url, target), role): ((Box<str>, _), _)| {
            let spec = EndpointSpec {
                url: url.clone(),
                target,
                version: role.version,
                weight: role.weight,
                duty: role.duty,
                max_conns: role.max_conns,
            };
            (url, spec)
        });
    let endpoints = endpoints.collect();
    decoder.finish(Some(endpoints))
}

/// What the value of a field says.
struct Role {
    version: VersionName,
    weight: u32,
    duty: Duty,
    max_conns: Option<u32>,
}

/// The words after the version that say whether it takes requests.
const DUTIES: [(&str, Duty); 3] = [
    ("backup", Duty::Backup),
    ("drain", Duty::Drain),
    ("off", Duty::Off),
];

/// `<version> [weight=N] [backup] [drain] [off] [max_conns=N]`
fn role(text: &str) -> Result<Role, Wanted> {
    const FORM: &str = "<version> [weight=N] [backup | drain | off] [max_conns=N]";
    let mut words = text.split_whitespace();
    let first = words.next().unwrap_or_default();
    let version = value::name(first)
        .ok()
        .filter(|_| duty(first).is_none())
        .ok_or_else(|| format!("{FORM}, the version first"))?;
    let (mut weight, mut said_duty, mut max_conns) = (None, None, None);
    for word in words {
        let repeated = match word.split_once('=') {
            Some(("weight", number)) => weight.replace(counted(number, 0..=WEIGHT_MAX)?).is_some(),
            Some(("max_conns", number)) => max_conns
                .replace(counted(number, 1..=MAX_CONNS_MAX)?)
                .is_some(),
            _ => {
                let duty = duty(word).ok_or_else(|| format!("{FORM} (not {})", quote(word)))?;
                said_duty.replace(duty).is_some()
            }
        };
        if repeated {
            return Err(format!("{FORM}, each at most once"));
        }
    }
    Ok(Role {
        version,
        weight: weight.unwrap_or(1),
        duty: said_duty.unwrap_or_default(),
        max_conns,
    })
}

fn duty(word: &str) -> Option<Duty> {
    let known = DUTIES.iter().find(|(name, _)| *name == word);
    known.map(|(_, duty)| *duty)
}

fn counted(text: &str, range: RangeInclusive<u32>) -> Result<u32, Wanted> {
    value::whole(range)(text).map_err(|wanted| format!("{wanted} after ="))
}
