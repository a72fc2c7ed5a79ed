//! What is live of a service: rates, latencies and loads of the last ten seconds, put together of
//! what all gateways say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::histogram;

/// How many whole seconds are looked back.
pub const SECONDS: u64 = 10;

/// For how many seconds what a gateway said of its loads is believed.
pub const BELIEVED_S: u64 = 3;

/// Fine buckets and errors of some seconds, as they stand in Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fine {
    latency: BTreeMap<u16, u64>,
    errors: u64,
}

impl Fine {
    /// Takes the fields of a hash of fine buckets; what is none is left out.
    pub fn parse<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut fine = Self::default();
        for (field, count) in fields {
            let Ok(count) = count.parse::<u64>() else {
                continue;
            };
            let bucket = match field {
                "errors" => {
                    fine.errors += count;
                    continue;
                }
                "inf" => histogram::BUCKETS,
                bound => match bound.parse() {
                    Ok(bound) => histogram::bucket(bound),
                    Err(_) => continue,
                },
            };
            *fine.latency.entry(narrow(bucket)).or_default() += count;
        }
        fine
    }

    /// Adds what another second holds.
    pub fn add(&mut self, more: &Self) {
        for (bucket, count) in &more.latency {
            *self.latency.entry(*bucket).or_default() += count;
        }
        self.errors += more.errors;
    }

    /// The buckets that were hit, and how often.
    pub fn buckets(&self) -> impl Iterator<Item = (u16, u64)> {
        self.latency.iter().map(|(bucket, count)| (*bucket, *count))
    }

    /// How many requests there were.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.latency.values().sum()
    }

    /// How many of them failed.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// How many of them took longer than so many microseconds, as far as buckets tell.
    #[must_use]
    pub fn slower_than(&self, us: u64) -> u64 {
        let limit = narrow(histogram::bucket(us));
        self.latency
            .range(limit..)
            .skip_while(|(bucket, _)| **bucket == limit)
            .map(|(_, count)| count)
            .sum()
    }

    /// The `q` quantile of response times in microseconds; none without requests.
    #[must_use]
    pub fn quantile_us(&self, q: f64) -> Option<f64> {
        let latency: Vec<(u16, u64)> = self.latency.iter().map(|(b, n)| (*b, *n)).collect();
        histogram::quantile(&latency, q)
    }
}

fn narrow(bucket: usize) -> u16 {
    u16::try_from(bucket).unwrap_or(u16::MAX)
}

/// What one gateway says of the loads of one service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Gauge {
    /// When it said so, Unix seconds.
    pub at_s: u64,
    /// Requests of the last ten seconds that were turned away before a version was chosen.
    #[serde(default)]
    pub rejected: u64,
    /// Versions and their requests in flight.
    pub versions: BTreeMap<String, u64>,
    /// Endpoints by URL.
    pub endpoints: BTreeMap<String, EndpointGauge>,
}

/// What is live of one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EndpointGauge {
    /// The version it serves.
    pub version: String,
    /// `up`, `drain`, `ejected` or `down`; over several gateways the worst.
    pub state: String,
    /// Requests in flight.
    pub inflight: u64,
    /// Attempts of the last ten seconds.
    pub requests: u64,
    /// Those among them that failed.
    pub errors: u64,
    /// The moving average of response times; over several gateways weighted by requests. None
    /// before the first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ewma_ms: Option<f64>,
}

/// Puts together what gateways say of one service; what is too old is left out.
#[must_use]
pub fn merge(gauges: &[Gauge], now_s: u64) -> Gauge {
    let mut merged = Gauge {
        at_s: now_s,
        ..Gauge::default()
    };
    let believed = gauges
        .iter()
        .filter(|gauge| gauge.at_s + BELIEVED_S >= now_s);
    for gauge in believed {
        merged.rejected += gauge.rejected;
        for (version, inflight) in &gauge.versions {
            *merged.versions.entry(version.clone()).or_default() += inflight;
        }
        for (url, endpoint) in &gauge.endpoints {
            match merged.endpoints.get_mut(url) {
                Some(known) => known.add(endpoint),
                None => drop(merged.endpoints.insert(url.clone(), endpoint.clone())),
            }
        }
    }
    merged
}

impl EndpointGauge {
    #[expect(
        clippy::cast_precision_loss,
        reason = "requests of ten seconds, as weights"
    )]
    fn add(&mut self, more: &Self) {
        if rank(&more.state) > rank(&self.state) {
            self.state.clone_from(&more.state);
        }
        self.ewma_ms = match (self.ewma_ms, more.ewma_ms) {
            (Some(ours), Some(theirs)) => {
                // Who asked nobody lately still has a say, a small one.
                let (one, other) = (self.requests as f64 + 0.01, more.requests as f64 + 0.01);
                Some((ours * one + theirs * other) / (one + other))
            }
            (ours, theirs) => ours.or(theirs),
        };
        self.inflight += more.inflight;
        self.requests += more.requests;
        self.errors += more.errors;
    }
}

/// The worse, the higher.
fn rank(state: &str) -> u8 {
    match state {
        "up" => 0,
        "drain" => 1,
        "ejected" => 2,
        _ => 3,
    }
}

/// Fields of the live hash of a service: `<version>.rps` and so on for each version of the gauge,
/// with what was counted of it in the last ten seconds; and `rejected_rps`, which is of no version.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "requests of ten seconds")]
pub fn fields(gauge: &Gauge, counted: &BTreeMap<String, Fine>) -> Vec<(String, String)> {
    let nothing = Fine::default();
    let of = |version: &String| counted.get(version).unwrap_or(&nothing);
    let all: u64 = gauge
        .versions
        .keys()
        .map(|version| of(version).requests())
        .sum();
    let rejected = gauge.rejected as f64 / SECONDS as f64;
    let mut fields = vec![("rejected_rps".to_owned(), decimal(rejected))];
    for (version, inflight) in &gauge.versions {
        let fine = of(version);
        let requests = fine.requests() as f64;
        let part = |of: f64| if of > 0.0 { requests / of } else { 0.0 };
        let error_rate = if requests > 0.0 {
            fine.errors as f64 / requests
        } else {
            0.0
        };
        let mut field = |name: &str, value| fields.push((format!("{version}.{name}"), value));
        field("rps", decimal(requests / SECONDS as f64));
        field("error_rate", decimal(error_rate));
        for (name, q) in [("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99)] {
            if let Some(us) = fine.quantile_us(q) {
                field(name, decimal(us / 1000.0));
            }
        }
        field("inflight", inflight.to_string());
        field("share", decimal(part(all as f64)));
    }
    fields
}

/// Plain decimal text with as many places as say something: four, and none that is 0 at the end.
fn decimal(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine(counts: &[(&str, &str)]) -> Fine {
        Fine::parse(counts.iter().copied())
    }

    fn gauge(at_s: u64, versions: &[(&str, u64)]) -> Gauge {
        let versions = versions.iter();
        Gauge {
            at_s,
            rejected: 5,
            versions: versions.map(|(name, n)| ((*name).to_owned(), *n)).collect(),
            endpoints: BTreeMap::new(),
        }
    }

    #[test]
    fn a_version_without_requests_has_no_latency() {
        let counted = [("base".to_owned(), fine(&[("200", "30"), ("errors", "3")]))].into();
        let fields = fields(&gauge(5, &[("base", 2), ("candidate", 0)]), &counted);
        let fields: BTreeMap<_, _> = fields
            .iter()
            .map(|(f, v)| (f.as_str(), v.as_str()))
            .collect();
        for (field, expected) in [
            ("rejected_rps", Some("0.5")),
            ("base.rps", Some("3")),
            ("base.error_rate", Some("0.1")),
            ("base.p50_ms", Some("0.198")),
            ("base.inflight", Some("2")),
            ("base.share", Some("1")),
            ("candidate.rps", Some("0")),
            ("candidate.error_rate", Some("0")),
            ("candidate.p99_ms", None),
            ("candidate.inflight", Some("0")),
            ("candidate.share", Some("0")),
        ] {
            assert_eq!(fields.get(field).copied(), expected, "{field}");
        }
        assert_eq!(fields.len(), 1 + 7 + 4);
    }

    #[test]
    fn gateways_add_up_and_the_dead_are_not_believed() {
        let mut one = gauge(100, &[("base", 3)]);
        let endpoint = |state: &str, requests, ewma_ms| EndpointGauge {
            version: "base".to_owned(),
            state: state.to_owned(),
            inflight: 1,
            requests,
            errors: 1,
            ewma_ms,
        };
        one.endpoints
            .insert("http://h/".to_owned(), endpoint("up", 300, Some(10.0)));
        let mut two = gauge(98, &[("base", 4)]);
        two.endpoints
            .insert("http://h/".to_owned(), endpoint("ejected", 100, Some(30.0)));
        let dead = gauge(96, &[("base", 50), ("gone", 1)]);
        let merged = merge(&[one, two, dead], 100);
        assert_eq!(merged.versions, [("base".to_owned(), 7)].into());
        assert_eq!(merged.rejected, 10);
        let endpoint = &merged.endpoints["http://h/"];
        assert_eq!((endpoint.state.as_str(), endpoint.inflight), ("ejected", 2));
        assert_eq!((endpoint.requests, endpoint.errors), (400, 2));
        let ewma_ms = endpoint.ewma_ms.expect("known");
        assert!((ewma_ms - 15.0).abs() < 0.01, "{ewma_ms}");
    }

    #[test]
    fn foreign_fields_are_left_out() {
        let sum = fine(&[
            ("200", "1"),
            ("x", "5"),
            ("104", "many"),
            ("inf", "2"),
            ("errors", "1"),
        ]);
        assert_eq!((sum.requests(), sum.errors), (3, 1));
    }
}
