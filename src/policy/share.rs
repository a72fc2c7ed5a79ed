//! A quota that gateways share: each has a share of it on lease, and counts against that alone.
//!
//! With a share `s` of a quota a gateway lets requests in `1/s` times as far apart as the quota says,
//! with the same tolerance in time: so all gateways together let in what one would, and of a burst
//! each has its part. Without a lease, at first or because Redis is away, its share is an equal part
//! for each gateway of the fleet as it was last known.

use std::sync::atomic::{AtomicU64, Ordering};

use super::gcra::{self, Standing, Terms};
use crate::model::quota::Quota;

/// All of a quota.
pub const WHOLE: u64 = 1 << SHARE_BITS;
const SHARE_BITS: u32 = 20;

/// The most that a gateway asks for, in quotas: more tells nothing new.
const WANT_MAX: f64 = 1_000.0;
/// How much more than it could use a gateway asks for: room to grow until it asks again.
const HEADROOM: f64 = 1.25;
/// How fast what is asked follows what comes.
const FOLLOWS: f64 = 0.5;

/// A share, and until when it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Of `WHOLE`.
    pub share: u64,
    /// In milliseconds.
    pub until_ms: u64,
}

impl Lease {
    /// As it stands in an atomic.
    #[must_use]
    pub fn pack(self) -> u64 {
        (self.until_ms << (SHARE_BITS + 1)) | self.share.min(WHOLE)
    }

    /// The same back.
    #[must_use]
    pub fn unpack(packed: u64) -> Self {
        Self {
            share: packed & (2 * WHOLE - 1),
            until_ms: packed >> (SHARE_BITS + 1),
        }
    }

    /// The share now: without one that holds, that of a fleet of so many.
    #[must_use]
    pub fn share_at(self, now_ms: u64, fleet: u32) -> u64 {
        if now_ms < self.until_ms {
            self.share
        } else {
            WHOLE / u64::from(fleet.max(1))
        }
    }
}

/// The terms under this share; `None` where it lets nobody in.
#[must_use]
pub fn terms(quota: &Quota, share: u64) -> Option<Terms> {
    let spacing = (u128::from(quota.spacing) * u128::from(WHOLE)).checked_div(share.into())?;
    Some(Terms {
        spacing: u64::try_from(spacing).unwrap_or(u64::MAX),
        tolerance: quota.tolerance,
    })
}

/// Counts a request against a share.
pub fn take(cell: &AtomicU64, quota: &Quota, share: u64, now_us: u64, again_us: u64) -> Standing {
    match terms(quota, share) {
        Some(terms) => gcra::take(cell, terms, now_us),
        // Others have all of it until this gateway asks again.
        None => Standing {
            wait_us: Some(again_us),
            left: 0,
            reset_us: again_us,
        },
    }
}

/// A share grows: what may come at once stays as many requests as before.
pub fn grow(cell: &AtomicU64, quota: &Quota, before: u64, after: u64, now_us: u64) {
    if after <= before {
        return;
    }
    let now = gcra::ticks(now_us);
    let tolerance = quota.tolerance;
    let settle = |due: u64| {
        let used = due.saturating_sub(now).min(tolerance);
        let left = u128::from(tolerance - used) * u128::from(before) / u128::from(after);
        let left = u64::try_from(left).unwrap_or(u64::MAX);
        Some(due.max(now.saturating_add(tolerance - left)))
    };
    // It always succeeds: the closure never says no.
    cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, settle)
        .ok();
}

/// How much a gateway could use of a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Appetite {
    per_s: f64,
}

impl Appetite {
    /// So many requests came in so many seconds.
    pub fn feed(&mut self, requests: u64, seconds: f64) {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let now = requests as f64 / seconds.max(0.001);
        self.per_s += (now - self.per_s) * if self.per_s == 0.0 { 1.0 } else { FOLLOWS };
    }

    /// What it asks for, of `WHOLE`: what it could use and a little more, one request a second at
    /// least.
    #[must_use]
    pub fn want(self, quota: &Quota) -> u64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no more digits")]
        let all = quota.rate.count as f64 / quota.rate.per.as_secs_f64();
        let want = ((self.per_s * HEADROOM + 1.0) / all).min(WANT_MAX);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and a thousand times a million"
        )]
        let parts = (want * WHOLE as f64) as u64;
        parts.max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::settings::Rate;

    const SECOND: u64 = 1_000_000;

    fn quota(count: u64, burst: u32) -> Quota {
        let per = Duration::from_secs(1);
        Quota::new(Rate { count, per }, Some(burst))
    }

    /// How many requests are let in at this moment.
    fn at_once(cell: &AtomicU64, quota: &Quota, share: u64, now_us: u64) -> u64 {
        (0..10_000)
            .take_while(|_| take(cell, quota, share, now_us, 1).wait_us.is_none())
            .count() as u64
    }

    #[test]
    fn a_lease_lapses_to_an_equal_part_of_the_fleet() {
        let lease = Lease {
            share: WHOLE,
            until_ms: 1 << 40,
        };
        assert_eq!(Lease::unpack(lease.pack()), lease);
        assert_eq!(lease.share_at(5, 3), WHOLE);
        assert_eq!(lease.share_at(1 << 40, 4), WHOLE / 4);
        assert_eq!(Lease::default().share_at(0, 0), WHOLE);
    }

    #[test]
    fn shares_together_let_in_what_one_gateway_would() {
        let quota = quota(100, 50);
        let shares = [WHOLE / 2, WHOLE / 8, WHOLE - WHOLE / 2 - WHOLE / 8];
        let cells: Vec<AtomicU64> = shares.iter().map(|_| AtomicU64::new(0)).collect();
        let mut made = 0;
        for now_us in (SECOND..11 * SECOND).step_by(1_000) {
            for (cell, share) in cells.iter().zip(shares) {
                made += u64::from(take(cell, &quota, share, now_us, 1).wait_us.is_none());
            }
        }
        // 50 at once and 100 a second; each gateway rounds its own part.
        assert!((1_045..=1_053).contains(&made), "{made}");
    }

    #[test]
    fn who_has_no_share_is_told_to_come_again() {
        let (cell, quota) = (AtomicU64::new(0), quota(100, 50));
        assert_eq!(take(&cell, &quota, 0, SECOND, 7).wait_us, Some(7));
        assert_eq!(cell.into_inner(), 0);
    }

    #[test]
    fn a_share_that_moves_to_and_fro_makes_no_burst_twice() {
        let quota = quota(100, 100);
        let (one, two) = (AtomicU64::new(0), AtomicU64::new(0));
        let mut made = at_once(&one, &quota, WHOLE / 2, SECOND);
        made += at_once(&two, &quota, WHOLE / 2, SECOND);
        assert!(made <= 101, "{made}");
        // The first is idle for long, and then gets all of it.
        let later = 100 * SECOND;
        grow(&one, &quota, WHOLE / 2, WHOLE, later);
        let burst = at_once(&one, &quota, WHOLE, later);
        assert!((50..=52).contains(&burst), "{burst}");
    }

    #[test]
    fn what_is_asked_follows_what_comes_and_is_never_nothing() {
        let quota = quota(100, 1);
        let mut appetite = Appetite::default();
        assert_eq!(appetite.want(&quota), WHOLE / 100);
        appetite.feed(5, 0.1);
        assert!((appetite.want(&quota).abs_diff(WHOLE * 635 / 1000)) < 2);
        for _ in 0..50 {
            appetite.feed(1_000_000, 0.1);
        }
        assert_eq!(appetite.want(&quota), WHOLE * 1_000);
        for _ in 0..50 {
            appetite.feed(0, 0.1);
        }
        assert_eq!(appetite.want(&quota), WHOLE / 100);
    }
}
