//! Whether an endpoint may be ejected, for how long, and how it returns.
//!
//! The idea is Envoy's outlier detection; two of its rules are not repeated. There a share of the
//! pool that rounds to none ejects nobody, which is every pool of three at 10 % (envoy#3263); here
//! one may always go where another is up. And an ejected endpoint returns on probation: the first
//! failure ejects it again.

use std::time::Duration;

use crate::model::endpoint::{Duty, EndpointSpec};
use crate::model::live::State;
use crate::model::table::Version;

/// The most an ejection grows: this many times `eject_time`, and not past `LONGEST`.
const GROWTH_MAX: u32 = 10;
/// The longest ejection, where `eject_time` itself is not longer.
const LONGEST: Duration = Duration::from_mins(5);

/// How the endpoints of a version stand that could take requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// Those that take requests.
    pub up: u32,
    /// Those that could not be reached.
    pub down: u32,
    /// Those that failed too often.
    pub ejected: u32,
}

impl Pool {
    /// The pool of a version; backups count, because they stand in for the others.
    #[must_use]
    pub fn of(version: &Version) -> Self {
        let mut pool = Self::default();
        for endpoint in version.endpoints.iter().filter(|it| serves(&it.spec)) {
            match endpoint.live.condition.health().state {
                State::Up => pool.up += 1,
                State::Down => pool.down += 1,
                State::Ejected => pool.ejected += 1,
            }
        }
        pool
    }
}

/// Whether an endpoint counts in its pool: it would take requests if it were up.
#[must_use]
pub fn serves(spec: &EndpointSpec) -> bool {
    spec.weight > 0 && matches!(spec.duty, Duty::Active | Duty::Backup)
}

/// Whether one of those that are up may be ejected now: never the last, and never more than the
/// share `max_ejected` of the pool, which is one at least unless it is 0.
#[must_use]
pub fn may_eject(pool: Pool, max_ejected: f64) -> bool {
    let all = pool.up + pool.down + pool.ejected;
    if pool.up < 2 || max_ejected <= 0.0 {
        return false;
    }
    // A share such as 29 % of 100 is a hair below the number that was meant.
    let share = (max_ejected * f64::from(all) + 1e-9).floor();
    f64::from(pool.ejected) < share.clamp(1.0, f64::from(all - 1))
}

/// The number of the ejection that begins now, from 1: `before` counts those that were, and one of
/// them is forgotten for each `eject_time` that the endpoint was up since.
#[must_use]
pub fn repeats(before: u32, up_for: Duration, eject_time: Duration) -> u32 {
    let forgotten = up_for.as_millis() / eject_time.as_millis().max(1);
    let forgotten = u32::try_from(forgotten).unwrap_or(u32::MAX);
    before.saturating_sub(forgotten).saturating_add(1)
}

/// How long the ejection with this number lasts: twice as long as the one before, bounded.
#[must_use]
pub fn length(eject_time: Duration, repeats: u32) -> Duration {
    let longest = eject_time.saturating_mul(GROWTH_MAX).min(LONGEST);
    let doubled = 1_u32 << repeats.saturating_sub(1).min(8);
    eject_time
        .saturating_mul(doubled)
        .min(longest.max(eject_time))
}

/// What the count of failures in a row stands at when an endpoint returns: one short of the next
/// ejection where it was ejected lately, so that one answer decides.
#[must_use]
pub fn probation(eject_5xx: Option<u32>, ejections: u32) -> u32 {
    match eject_5xx {
        Some(limit) if ejections > 0 => limit.saturating_sub(1),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(up: u32, down: u32, ejected: u32) -> Pool {
        Pool { up, down, ejected }
    }

    #[test]
    fn the_last_one_up_is_never_ejected() {
        for all in 1..=10 {
            for down in 0..all {
                let ejected = all - 1 - down;
                for share in [0.0, 0.1, 0.5, 1.0] {
                    assert!(!may_eject(pool(1, down, ejected), share), "{all} {down}");
                    assert!(!may_eject(pool(0, down + 1, ejected), share));
                }
            }
        }
    }

    #[test]
    fn pools_of_each_size_lose_as_many_as_their_share() {
        // The most that can be ejected, one after the other, when everybody fails.
        for (all, share, most) in [
            (1, 1.0, 0),
            (2, 1.0, 1),
            (3, 1.0, 2),
            (10, 1.0, 9),
            (2, 0.1, 1),
            (3, 0.1, 1),
            (10, 0.1, 1),
            (3, 0.34, 1),
            (3, 0.67, 2),
            (10, 0.3, 3),
            (10, 0.5, 5),
            (100, 0.29, 29),
            (2, 0.0, 0),
            (10, 0.0, 0),
        ] {
            let mut now = pool(all, 0, 0);
            while may_eject(now, share) {
                now = pool(now.up - 1, 0, now.ejected + 1);
            }
            assert_eq!(now.ejected, most, "{share} of {all}");
        }
    }

    #[test]
    fn those_that_are_down_leave_no_more_room() {
        assert!(may_eject(pool(2, 1, 0), 1.0));
        assert!(!may_eject(pool(1, 2, 0), 1.0));
        assert!(may_eject(pool(3, 7, 0), 0.1));
        assert!(!may_eject(pool(3, 6, 1), 0.1));
    }

    #[test]
    fn ejections_grow_and_are_bounded() {
        let secs = Duration::from_secs;
        for (eject_time, repeats, expected) in [
            (secs(10), 1, secs(10)),
            (secs(10), 2, secs(20)),
            (secs(10), 4, secs(80)),
            (secs(10), 5, secs(100)),
            (secs(10), u32::MAX, secs(100)),
            (secs(60), 4, secs(300)),
            (secs(3600), 3, secs(3600)),
            (Duration::from_millis(50), 3, Duration::from_millis(200)),
            (Duration::ZERO, 9, Duration::ZERO),
        ] {
            let got = length(eject_time, repeats);
            assert_eq!(got, expected, "{eject_time:?} {repeats}");
        }
    }

    #[test]
    fn a_healthy_time_is_forgiven_for() {
        let secs = Duration::from_secs;
        for (before, up_for, expected) in [
            (0, 0, 1),
            (1, 0, 2),
            (1, 9, 2),
            (1, 10, 1),
            (3, 15, 3),
            (3, 30, 1),
            (3, 1_000_000, 1),
            (u32::MAX, 0, u32::MAX),
        ] {
            let got = repeats(before, secs(up_for), secs(10));
            assert_eq!(got, expected, "{before} {up_for}");
        }
        assert_eq!(repeats(5, secs(0), Duration::ZERO), 6);
    }

    #[test]
    fn one_answer_decides_after_an_ejection() {
        assert_eq!(probation(Some(5), 1), 4);
        assert_eq!(probation(Some(1), 1), 0);
        assert_eq!(probation(Some(5), 0), 0, "it was only down");
        assert_eq!(probation(None, 3), 0);
    }
}
