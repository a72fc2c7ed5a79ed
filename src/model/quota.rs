//! A quota: so many requests in so long, and so many at once.
//!
//! Time is counted in ticks of 1/64 ns, so that the time between two requests is exact for every
//! rate that divides 64 billion ticks, and for all others too long by less than a tick: a quota is
//! never exceeded, and missed by less than clocks differ. 64 bits of ticks are nine years.

use std::time::Duration;

use http::HeaderValue;

use super::settings::{Rate, RateBy, RateScope};

/// Ticks in a microsecond.
pub const TICKS_PER_US: u64 = 64_000;
const TICKS_PER_NS: u128 = 64;

/// No quota reaches farther ahead than this: two years.
const AHEAD_MAX: u64 = u64::MAX / 4;

/// How many requests in how long, and how many at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// What it was made of.
    pub rate: Rate,
    /// How many at once after a pause, at least 1.
    pub burst: u64,
    /// The time between two requests at the rate, in ticks: the increment T of ITU-T I.371.
    pub spacing: u64,
    /// How much earlier than that a request may come, in ticks: its tolerance, `burst - 1` times
    /// the spacing.
    pub tolerance: u64,
}

impl Quota {
    /// A quota; without a `burst` it is one second's worth, at least 1.
    #[must_use]
    pub fn new(rate: Rate, burst: Option<u32>) -> Self {
        let count = u128::from(rate.count.max(1));
        let spacing = narrow((rate.per.as_nanos() * TICKS_PER_NS).div_ceil(count)).max(1);
        let second = count * Duration::from_secs(1).as_nanos() / rate.per.as_nanos().max(1);
        let burst = burst.map_or_else(|| narrow(second), u64::from).max(1);
        Self {
            rate,
            burst,
            spacing,
            tolerance: (burst - 1).saturating_mul(spacing).min(AHEAD_MAX),
        }
    }

    /// Its item in the `RateLimit-Policy` header under that name
    /// (draft-ietf-httpapi-ratelimit-headers-10): `"service";q=100;w=1`.
    ///
    /// # Panics
    /// Where the name cannot stand in a header.
    #[must_use]
    pub fn policy(&self, name: &str) -> HeaderValue {
        let (count, seconds) = (self.rate.count, self.rate.per.as_secs());
        HeaderValue::from_str(&format!("\"{name}\";q={count};w={seconds}"))
            .expect("a name of ours, and digits")
    }
}

/// The rate limit of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimit {
    /// How many.
    pub quota: Quota,
    /// Whose requests are counted together.
    pub by: RateBy,
    /// Whether all gateways count together.
    pub scope: RateScope,
    /// What answers say of it.
    pub policy: HeaderValue,
}

impl RateLimit {
    /// What answers call it.
    pub const NAME: &'static str = "service";

    /// A limit of a service.
    #[must_use]
    pub fn new(quota: Quota, by: RateBy, scope: RateScope) -> Self {
        let policy = quota.policy(Self::NAME);
        Self {
            quota,
            by,
            scope,
            policy,
        }
    }
}

fn narrow(ticks: u128) -> u64 {
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(count: u64, seconds: u64, burst: Option<u32>) -> Quota {
        let per = Duration::from_secs(seconds);
        Quota::new(Rate { count, per }, burst)
    }

    #[test]
    fn a_quota_without_a_burst_takes_one_seconds_worth_and_at_least_one() {
        for (count, seconds, burst, wanted) in [
            (100, 1, None, 100),
            (6_000, 60, None, 100),
            (50_000, 3_600, None, 13),
            (10, 3_600, None, 1),
            (100, 1, Some(7), 7),
        ] {
            let made = quota(count, seconds, burst);
            assert_eq!(made.burst, wanted, "{count} in {seconds} s");
            assert_eq!(made.tolerance, (wanted - 1) * made.spacing);
        }
    }

    #[test]
    fn the_spacing_is_exact_or_too_long_by_less_than_a_tick() {
        let second = TICKS_PER_US * 1_000_000;
        assert_eq!(quota(100, 1, None).spacing, second / 100);
        assert_eq!(quota(50_000, 3_600, None).spacing * 50_000, second * 3_600);
        for count in [3, 7, 7_919, 999_983] {
            let spacing = quota(count, 1, None).spacing;
            assert!(spacing * count >= second && (spacing - 1) * count < second);
        }
        assert_eq!(quota(1_000_000_000_000, 1, None).spacing, 1);
        assert_eq!(quota(1, 3_600, Some(1_000_000)).tolerance, AHEAD_MAX);
    }

    #[test]
    fn a_policy_is_told_as_it_was_written() {
        let policy = quota(6_000, 60, Some(9)).policy("service");
        assert_eq!(policy, "\"service\";q=6000;w=60");
    }
}
