//! How many requests in how long: the caller's own quota, then the service's.
//!
//! Answers say how their caller stands in the fields of draft-ietf-httpapi-ratelimit-headers-10:
//! `RateLimit-Policy: "service";q=100;w=1` and `RateLimit: "service";r=42;t=1`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};

use super::Caller;
use crate::model::quota::{Quota, RateLimit};
use crate::model::settings::{KeySource, RateBy, RateScope};
use crate::model::table::Service;
use crate::policy::gcra::{self, Standing, Terms};
use crate::policy::key;
use crate::policy::quotas::Demand;
use crate::policy::share::{self, Lease};
use crate::proxy::error::Error;
use crate::proxy::handler::Exchange;
use crate::proxy::worker::Worker;

const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// What answers call the caller's own quota.
const OWN: &str = "token";

const SECOND_US: u64 = 1_000_000;

/// When a gateway without a share may have one: shares are asked for as often.
const SHARES_AGAIN_US: u64 = 100_000;

/// How a caller stands, as its answer says it.
#[derive(Debug)]
pub(in crate::proxy) struct Told {
    policy: HeaderValue,
    limit: HeaderValue,
}

impl Told {
    /// Writes it on an answer; what an upstream said of its own limits is not ours to mix with.
    pub(in crate::proxy) fn write(self, head: &mut HeaderMap) {
        head.insert(POLICY, self.policy);
        head.insert(LIMIT, self.limit);
    }
}

/// The longest line: of two limits.
const LINE_MAX: usize = 128;

/// What is known of the limits that count a request. Every answer of a service with a limit pays
/// for its words: no formatter, and no memory but what the header keeps.
struct Words {
    policy: Option<HeaderValue>,
    line: [u8; LINE_MAX],
    len: usize,
}

impl Default for Words {
    fn default() -> Self {
        Self {
            policy: None,
            line: [0; LINE_MAX],
            len: 0,
        }
    }
}

impl Words {
    /// Adds what is known of one limit.
    fn add(&mut self, name: &str, policy: HeaderValue, standing: &Standing) {
        self.policy = Some(match self.policy.take() {
            None => policy,
            Some(before) => {
                self.push(b", ");
                let both = [before.as_bytes(), b", ", policy.as_bytes()].concat();
                HeaderValue::from_bytes(&both).unwrap_or(policy)
            }
        });
        let Standing { left, reset_us, .. } = *standing;
        let mut digits = itoa::Buffer::new();
        self.push(b"\"");
        self.push(name.as_bytes());
        self.push(b"\";r=");
        self.push(digits.format(left).as_bytes());
        self.push(b";t=");
        self.push(digits.format(seconds(reset_us)).as_bytes());
    }

    fn push(&mut self, part: &[u8]) {
        let end = self.len + part.len();
        if let Some(room) = self.line.get_mut(self.len..end) {
            room.copy_from_slice(part);
            self.len = end;
        }
    }

    fn finish(self) -> Option<Told> {
        let line = self.line.get(..self.len).unwrap_or_default();
        Some(Told {
            policy: self.policy?,
            limit: HeaderValue::from_bytes(line).ok()?,
        })
    }
}

/// Counts a request where there is something to count it against. `body` is as much of a JSON body
/// as is here.
pub(super) fn check(
    exchange: &Exchange,
    service: &Arc<Service>,
    caller: &Caller,
    parts: &Parts,
    body: &[Bytes],
) -> Result<(), Error> {
    let own = (caller.credential.as_ref()).and_then(|who| Some((who.id, who.quota.as_ref()?)));
    let limit = service.settings.rate.as_ref();
    if own.is_none() && limit.is_none() {
        return Ok(());
    }
    let worker = &exchange.worker;
    let now_us = worker.now_us();
    let mut words = Words::default();
    let mut taken = None;
    if let Some((id, quota)) = own {
        let slot = worker.quotas.of_caller(worker.seed.hash_one(id));
        let standing = gcra::take(slot.cell(), quota.into(), now_us);
        words.add(OWN, quota.policy(OWN), &standing);
        taken = Some((slot, quota));
        if let Some(wait_us) = standing.wait_us {
            exchange.state.told_limit.set(words.finish());
            return Err(Error::RateLimited("rate of the token", seconds(wait_us)));
        }
    }
    let mut refused = None;
    if let Some(limit) = limit {
        let standing = count(worker, service, limit, caller, parts, body, now_us);
        words.add(RateLimit::NAME, limit.policy.clone(), &standing);
        refused = standing.wait_us;
    }
    exchange.state.told_limit.set(words.finish());
    let Some(wait_us) = refused else {
        return Ok(());
    };
    // What the service refuses costs its caller nothing.
    if let Some((slot, quota)) = taken {
        gcra::give_back(slot.cell(), Terms::from(quota));
    }
    Err(Error::RateLimited("rate", seconds(wait_us)))
}

/// Counts against the limit of the service.
fn count(
    worker: &Worker,
    service: &Arc<Service>,
    limit: &RateLimit,
    caller: &Caller,
    parts: &Parts,
    body: &[Bytes],
    now_us: u64,
) -> Standing {
    let key = match &limit.by {
        RateBy::Service => None,
        RateBy::Key(source) => Some(key_of(source, caller, parts, body)),
    };
    let name = service.name.as_str();
    let number = (key.as_deref()).map(|key| worker.seed.hash_one((name, key)));
    if limit.scope == RateScope::Shared {
        return count_shared(
            worker,
            service,
            &limit.quota,
            number,
            key.as_deref(),
            now_us,
        );
    }
    let terms = Terms::from(&limit.quota);
    match number {
        None => gcra::take(&service.live.rate.cell, terms, now_us),
        Some(number) => gcra::take(worker.quotas.of_key(number).cell(), terms, now_us),
    }
}

/// Counts against this gateway's share, and says once in a while that a share is wanted.
fn count_shared(
    worker: &Worker,
    service: &Arc<Service>,
    quota: &Quota,
    number: Option<u64>,
    key: Option<&[u8]>,
    now_us: u64,
) -> Standing {
    let meter = worker.quotas.meter(service, number);
    if meter.demand.fetch_add(1, Ordering::Relaxed) == 0 {
        let demand = Demand {
            service: Arc::clone(service),
            key: number.zip(key.map(digest)),
        };
        if worker.demands.try_send(demand).is_err() {
            // Nobody was told: the next request tries again.
            meter.demand.store(0, Ordering::Relaxed);
        }
    }
    let lease = Lease::unpack(meter.lease.load(Ordering::Relaxed));
    let share = lease.share_at(now_us / 1_000, worker.quotas.fleet());
    share::take(meter.cell, quota, share, now_us, SHARES_AGAIN_US)
}

/// A key as all gateways call it in Redis, where it is not to be read.
fn digest(key: &[u8]) -> String {
    let hash = Sha256::digest(key);
    let mut text = String::with_capacity(32);
    for byte in hash.iter().take(16) {
        // Writing to a text cannot fail.
        write!(text, "{byte:02x}").ok();
    }
    text
}

/// The key that a request is counted by. All that have none are counted together.
fn key_of<'r>(
    source: &KeySource,
    caller: &'r Caller,
    parts: &'r Parts,
    body: &'r [Bytes],
) -> Cow<'r, [u8]> {
    let facts = key::Facts {
        headers: &parts.headers,
        query: parts.uri.query(),
        client: caller.address,
        caller: caller.credential.as_ref().map(|who| &who.id),
        body,
    };
    let key = match source {
        KeySource::Ip => Some(Cow::Owned(network(caller.address).to_vec())),
        _ => key::key(source, &facts),
    };
    key.unwrap_or_default()
}

/// What an address is counted by: one of IPv6 by its first 64 bits, for a household or a machine has
/// all that follow.
pub(super) fn network(address: IpAddr) -> [u8; 8] {
    match address {
        IpAddr::V4(four) => {
            let [a, b, c, d] = four.octets();
            [0, 0, 0, 0, a, b, c, d]
        }
        IpAddr::V6(six) => {
            let first = six.to_bits() >> 64;
            u64::try_from(first).unwrap_or_default().to_be_bytes()
        }
    }
}

/// Whole seconds, so that who waits them is let in.
fn seconds(us: u64) -> u64 {
    us.div_ceil(SECOND_US).max(1)
}

/// The number by which a line tells callers apart: who they are, else where they are.
pub(super) fn caller_number(worker: &Worker, caller: &Caller) -> u64 {
    match &caller.credential {
        Some(who) => worker.seed.hash_one((0_u8, who.id)),
        None => worker.seed.hash_one((1_u8, network(caller.address))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_network_count_together() {
        let of = |text: &str| network(text.parse().expect("an address"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:0:0:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    }

    #[test]
    fn who_waits_the_seconds_told_has_waited_long_enough() {
        for (us, wanted) in [(1, 1), (999_999, 1), (1_000_000, 1), (1_000_001, 2)] {
            assert_eq!(seconds(us), wanted, "{us}");
        }
    }

    #[test]
    fn two_limits_are_told_in_one_line_each() {
        let standing = |left, reset_us| Standing {
            wait_us: None,
            left,
            reset_us,
        };
        let policy = |text| HeaderValue::from_static(text);
        let mut words = Words::default();
        words.add(OWN, policy("\"token\";q=9;w=60"), &standing(8, 1));
        words.add(
            RateLimit::NAME,
            policy("\"service\";q=100;w=1"),
            &standing(0, 1_500_000),
        );
        let told = words.finish().expect("it is text");
        assert_eq!(told.policy, "\"token\";q=9;w=60, \"service\";q=100;w=1");
        assert_eq!(told.limit, "\"token\";r=8;t=1, \"service\";r=0;t=2");
        assert!(Words::default().finish().is_none());
        let mut longest = Words::default();
        for name in [OWN, RateLimit::NAME] {
            longest.add(name, policy("x"), &standing(u64::MAX, u64::MAX));
        }
        let told = longest.finish().expect("it is text");
        assert!(
            told.limit
                .to_str()
                .expect("text")
                .ends_with(";t=18446744073710")
        );
    }
}
