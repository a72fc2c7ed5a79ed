//! What the hashes of a service and of a gateway say. What is not understood is as if it were
//! absent: a view shows what it can.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::decode::Fields;
use crate::model::endpoint::{self, Duty};
use crate::model::name::ServiceName;
use crate::model::weights;
use crate::stats::live::EndpointGauge;

/// The hashes of one service; those that were not read are empty.
#[derive(Clone, Debug, Default)]
pub struct Hashes {
    /// `live:<svc>`.
    pub live: Fields,
    /// `health:<svc>`.
    pub health: Fields,
    /// `weights:<svc>`.
    pub weights: Fields,
    /// `live:<svc>:endpoints`.
    pub live_endpoints: Fields,
    /// `endpoints:<svc>`.
    pub endpoints: Fields,
}

/// A service, as far as it is known.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Requests per second that were turned away before a version was chosen.
    pub rejected_rps: f64,
    /// Its versions by name.
    pub versions: Vec<Version>,
    /// Endpoints whose version is not known: only their health was read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unplaced: Vec<Endpoint>,
    /// Gateways that have a say in its health.
    #[serde(skip)]
    pub gateways: BTreeSet<String>,
}

/// A version over the last ten seconds, all gateways together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Version {
    /// Its name.
    pub name: String,
    /// Requests per second.
    pub rps: f64,
    /// The share of them that failed, 0 to 1.
    pub error_rate: f64,
    /// Median of the latency in milliseconds; none without requests.
    pub p50_ms: Option<f64>,
    /// 90 % were answered in this time.
    pub p90_ms: Option<f64>,
    /// 99 % were answered in this time.
    pub p99_ms: Option<f64>,
    /// Requests in flight.
    pub inflight: u64,
    /// Its part of the requests, 0 to 1; none where nothing was asked.
    pub share: Option<f64>,
    /// The part its weight asks for, 0 to 1; none where the weights are no good.
    pub wished: Option<f64>,
    /// Its endpoints by URL.
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint, all gateways together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Endpoint {
    /// Its URL.
    pub url: String,
    /// The worst state that a gateway holds.
    pub state: State,
    /// Since when, Unix milliseconds; 0 is not known.
    pub since_ms: u64,
    /// In a few words, for people.
    pub why: String,
    /// How many gateways hold that state, of how many.
    pub held_by: (usize, usize),
    /// Requests in flight.
    pub inflight: u64,
    /// Attempts of the last ten seconds.
    pub requests: u64,
    /// Those among them that failed.
    pub errors: u64,
    /// The moving average of its response times.
    pub ewma_ms: Option<f64>,
}

/// Whether an endpoint takes requests, the worse the later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No gateway says anything.
    #[default]
    Unknown,
    /// It does.
    Up,
    /// Taken out by a person.
    Off,
    /// Finishes what runs.
    Drain,
    /// Failed too often in a row.
    Ejected,
    /// Connecting fails.
    Down,
}

impl State {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Off => "off",
            Self::Drain => "drain",
            Self::Ejected => "ejected",
            Self::Down => "down",
        }
    }

    /// Whether it takes no requests because something is wrong with it.
    #[must_use]
    pub fn is_broken(self) -> bool {
        matches!(self, Self::Ejected | Self::Down)
    }

    fn parse(word: &str) -> Self {
        match word {
            "up" => Self::Up,
            "off" => Self::Off,
            "drain" => Self::Drain,
            "ejected" => Self::Ejected,
            "down" => Self::Down,
            _ => Self::Unknown,
        }
    }
}

/// A gateway's own hash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Gateway {
    /// Its name.
    pub instance: String,
    /// Where it listens.
    pub address: String,
    /// Its release.
    pub version: String,
    /// When it started, Unix milliseconds.
    pub started_ms: u64,
    /// Its last sign of life, Unix milliseconds by Redis's clock.
    pub heartbeat_ms: u64,
    /// How many tables it has put in force since its start.
    pub revision: u64,
    /// What its table holds: equal where tables are equal.
    pub digest: String,
    /// How it notices changes: `notifications` or `polling`.
    pub watch: String,
}

impl Gateway {
    /// What its hash says; `None` where there is none.
    #[must_use]
    pub fn parse(instance: &str, fields: &Fields) -> Option<Self> {
        let text = |field: &str| fields.get(field).cloned().unwrap_or_default();
        let number = |field: &str| text(field).parse().unwrap_or_default();
        (!fields.is_empty()).then(|| Self {
            instance: instance.to_owned(),
            address: text("address"),
            version: text("version"),
            started_ms: number("started_ms"),
            heartbeat_ms: number("heartbeat_ms"),
            revision: number("revision"),
            digest: text("digest"),
            watch: text("watch"),
        })
    }
}

/// What `health:<svc>` says of one endpoint.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Health {
    state: String,
    since_ms: u64,
    why: String,
    gateways: BTreeMap<String, String>,
}

impl Service {
    /// Puts together what was read of a service.
    #[must_use]
    pub fn parse(name: &ServiceName, hashes: &Hashes) -> Self {
        let mut versions: BTreeMap<String, Version> = BTreeMap::new();
        for (field, text) in &hashes.live {
            let Some((version, field)) = field.rsplit_once('.') else {
                continue;
            };
            named(&mut versions, version).take(field, text);
        }
        let (mut unplaced, mut gateways) = (Vec::new(), BTreeSet::new());
        for (url, (version, endpoint)) in endpoints(hashes, &mut gateways) {
            match version {
                Some(version) => named(&mut versions, &version)
                    .endpoints
                    .push(Endpoint { url, ..endpoint }),
                None => unplaced.push(Endpoint { url, ..endpoint }),
            }
        }
        wish(&mut versions, &hashes.weights);
        let asked: f64 = versions.values().map(|version| version.rps).sum();
        if asked <= 0.0 {
            for version in versions.values_mut() {
                version.share = None;
            }
        }
        Self {
            name: name.to_string(),
            rejected_rps: positive(hashes.live.get("rejected_rps")).unwrap_or_default(),
            versions: versions.into_values().collect(),
            unplaced,
            gateways,
        }
    }

    /// All its endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        let placed = self.versions.iter().flat_map(|version| &version.endpoints);
        placed.chain(&self.unplaced)
    }
}

fn named<'v>(versions: &'v mut BTreeMap<String, Version>, name: &str) -> &'v mut Version {
    versions.entry(name.to_owned()).or_insert_with(|| Version {
        name: name.to_owned(),
        ..Version::default()
    })
}

/// A number that can be a rate or a time.
fn positive(text: Option<impl AsRef<str>>) -> Option<f64> {
    let number = text?.as_ref().parse::<f64>().ok();
    number.filter(|n| n.is_finite() && *n >= 0.0)
}

impl Version {
    /// Takes one field of the live hash.
    fn take(&mut self, field: &str, text: &str) {
        let number = positive(Some(text));
        match field {
            "rps" => self.rps = number.unwrap_or_default(),
            "error_rate" => self.error_rate = number.unwrap_or_default(),
            "p50_ms" => self.p50_ms = number,
            "p90_ms" => self.p90_ms = number,
            "p99_ms" => self.p99_ms = number,
            "inflight" => self.inflight = text.parse().unwrap_or_default(),
            "share" => self.share = number,
            _ => {}
        }
    }
}

/// Endpoints by URL, from all hashes that name them, with the version where one says it.
fn endpoints(
    hashes: &Hashes,
    gateways: &mut BTreeSet<String>,
) -> BTreeMap<String, (Option<String>, Endpoint)> {
    let mut endpoints: BTreeMap<String, (Option<String>, Endpoint)> = BTreeMap::new();
    for (url, json) in &hashes.health {
        let health: Health = serde_json::from_str(json).unwrap_or_default();
        let holding = health.gateways.values().filter(|it| **it == health.state);
        let (_, endpoint) = endpoints.entry(url.clone()).or_default();
        endpoint.held_by = (holding.count(), health.gateways.len());
        endpoint.state = State::parse(&health.state);
        endpoint.since_ms = health.since_ms;
        endpoint.why = health.why;
        gateways.extend(health.gateways.into_keys());
    }
    for (url, json) in &hashes.live_endpoints {
        let Ok(gauge) = serde_json::from_str::<EndpointGauge>(json) else {
            continue;
        };
        let (version, endpoint) = endpoints.entry(url.clone()).or_default();
        *version = Some(gauge.version).filter(|version| !version.is_empty());
        endpoint.state = endpoint.state.max(State::parse(&gauge.state));
        endpoint.inflight = gauge.inflight;
        endpoint.requests = gauge.requests;
        endpoint.errors = gauge.errors;
        endpoint.ewma_ms = gauge.ewma_ms;
    }
    // What stands there decides; a hash with a mistake still has good fields.
    for (url, text) in &hashes.endpoints {
        let one = BTreeMap::from([(url.clone(), text.clone())]);
        let spec = endpoint::decode("", &one)
            .0
            .and_then(|mut all| all.pop_first());
        let (version, endpoint) = endpoints.entry(url.clone()).or_default();
        let Some((_, spec)) = spec else {
            "not understood: see config errors".clone_into(&mut endpoint.why);
            continue;
        };
        *version = Some(spec.version.to_string());
        endpoint.state = match spec.duty {
            Duty::Off => State::Off,
            Duty::Drain => endpoint.state.max(State::Drain),
            Duty::Active | Duty::Backup => endpoint.state,
        };
    }
    if !hashes.endpoints.is_empty() {
        endpoints.retain(|url, _| hashes.endpoints.contains_key(url));
    }
    endpoints
}

/// Which share each version is to have. Without weights all goes to `base`, or to the only one.
fn wish(versions: &mut BTreeMap<String, Version>, fields: &Fields) {
    let only = versions.len() == 1;
    if fields.is_empty() {
        let has_base = versions.contains_key("base");
        for version in versions.values_mut() {
            let all = version.name == "base" || only;
            version.wished = (has_base || only).then_some(f64::from(u8::from(all)));
        }
        return;
    }
    let Some(weights) = weights::decode("", fields).0 else {
        return;
    };
    let sum: f64 = weights.values().map(|weight| f64::from(*weight)).sum();
    if sum <= 0.0 {
        return;
    }
    for (name, weight) in &weights {
        // A version with a weight and no endpoint is worth a line.
        if *weight > 0 || versions.contains_key(name.as_str()) {
            named(versions, name.as_str()).wished = Some(f64::from(*weight) / sum);
        }
    }
    for version in versions.values_mut() {
        version.wished = version.wished.or(Some(0.0));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::name::Name;

    pub(in crate::top) fn fields(pairs: &[(&str, &str)]) -> Fields {
        let pairs = pairs.iter();
        pairs
            .map(|(field, text)| ((*field).to_owned(), (*text).to_owned()))
            .collect()
    }

    /// A canary in trouble, as the gateways write it.
    pub(in crate::top) fn canary() -> Hashes {
        Hashes {
            live: fields(&[
                ("rejected_rps", "1.5"),
                ("base.rps", "90.5"),
                ("base.error_rate", "0"),
                ("base.p50_ms", "12.25"),
                ("base.p90_ms", "20"),
                ("base.p99_ms", "40"),
                ("base.inflight", "2"),
                ("base.share", "0.78"),
                ("v1.2.rps", "22.5"),
                ("v1.2.error_rate", "0.125"),
                ("v1.2.p50_ms", "300"),
                ("v1.2.p99_ms", "1500"),
                ("v1.2.inflight", "9"),
                ("v1.2.share", "0.22"),
            ]),
            health: fields(&[
                (
                    "http://h:1/",
                    r#"{"state":"up","since_ms":5,"why":"","gateways":{"g1":"up","g2":"up"}}"#,
                ),
                (
                    "http://h:2/",
                    r#"{"state":"down","since_ms":60000,"why":"connection refused","gateways":{"g1":"down","g2":"up"}}"#,
                ),
            ]),
            weights: fields(&[("base", "90"), ("v1.2", "10")]),
            live_endpoints: fields(&[
                (
                    "http://h:1/",
                    r#"{"version":"base","state":"up","inflight":2,"requests":905,"errors":0,"ewma_ms":12.5}"#,
                ),
                (
                    "http://h:2/",
                    r#"{"version":"v1.2","state":"up","inflight":9,"requests":225,"errors":28,"ewma_ms":310}"#,
                ),
            ]),
            endpoints: fields(&[("http://h:1/", "base"), ("http://h:2/", "v1.2 weight=2")]),
        }
    }

    fn parse(hashes: &Hashes) -> Service {
        Service::parse(&Name::parse("a").expect("valid"), hashes)
    }

    #[test]
    fn a_field_is_split_at_its_last_dot() {
        let service = parse(&canary());
        let names: Vec<&str> = service.versions.iter().map(|v| v.name.as_str()).collect();
        assert_eq!(names, ["base", "v1.2"]);
        let candidate = &service.versions[1];
        assert!((candidate.error_rate - 0.125).abs() < 1e-9);
        assert_eq!((candidate.p99_ms, candidate.p90_ms), (Some(1500.0), None));
        assert_eq!((candidate.share, candidate.wished), (Some(0.22), Some(0.1)));
        let endpoint = &candidate.endpoints[0];
        assert_eq!(endpoint.state, State::Down);
        assert_eq!(endpoint.held_by, (1, 2));
        assert_eq!(endpoint.why, "connection refused");
        assert_eq!((endpoint.requests, endpoint.errors), (225, 28));
    }

    #[test]
    fn without_weights_all_is_wished_for_base_or_the_only_version() {
        for (endpoints, wished) in [
            (&[("http://h:1/", "base")][..], &[Some(1.0)][..]),
            (&[("http://h:1/", "x")], &[Some(1.0)]),
            (
                &[("http://h:1/", "base"), ("http://h:2/", "x")],
                &[Some(1.0), Some(0.0)],
            ),
            (&[("http://h:1/", "x"), ("http://h:2/", "y")], &[None, None]),
        ] {
            let service = parse(&Hashes {
                endpoints: fields(endpoints),
                ..Hashes::default()
            });
            let got: Vec<_> = service.versions.iter().map(|v| v.wished).collect();
            assert_eq!(got, wished, "{endpoints:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_as_if_absent() {
        let service = parse(&Hashes {
            live: fields(&[
                ("x", "1"),
                ("base.rps", "many"),
                ("base.p50_ms", "NaN"),
                (".rps", "-1"),
            ]),
            health: fields(&[("http://h:1/", "no JSON"), ("http://h:2/", "[]")]),
            weights: fields(&[("base", "lots")]),
            live_endpoints: fields(&[("http://h:1/", "{}")]),
            endpoints: fields(&[("http://h:1/", "base"), ("nonsense", "base")]),
        });
        assert_eq!(service.versions.len(), 2, "{service:?}");
        assert_eq!(service.unplaced.len(), 1);
        assert!(service.versions.iter().all(|v| v.wished.is_none()));
    }

    #[test]
    fn an_endpoint_that_is_off_is_off_whatever_its_health_was() {
        let mut hashes = canary();
        hashes
            .endpoints
            .insert("http://h:2/".to_owned(), "v1.2 off".to_owned());
        assert_eq!(parse(&hashes).versions[1].endpoints[0].state, State::Off);
        hashes.endpoints.remove("http://h:2/");
        assert_eq!(parse(&hashes).endpoints().count(), 1);
    }
}
