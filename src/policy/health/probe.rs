//! When an endpoint is probed, and what the results come to.

use std::time::Duration;

use crate::model::live::State;

/// The first probe of an endpoint that is down comes this long after.
const FIRST: Duration = Duration::from_millis(100);
/// Probes of an endpoint that is down come at least this often, where others of its pool serve.
const SLOWEST: Duration = Duration::from_secs(1);
/// The same where nobody of its pool serves: requests wait for this.
const URGENT: Duration = Duration::from_millis(250);

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed {
    /// As it should.
    Good,
    /// In any other way.
    Bad,
}

/// How the last probes of an endpoint ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Good ones since the last bad one.
    pub good: u32,
    /// Bad ones since the last good one.
    pub bad: u32,
}

impl Row {
    /// Counts a result; `Some` where the endpoint, which is in `state`, turns: up after `rise` good
    /// ones, down after `fall` bad ones. An ejected one is probed when its time is over.
    #[must_use]
    pub fn count(&mut self, probed: Probed, state: State, fall: u32, rise: u32) -> Option<State> {
        *self = match probed {
            Probed::Good => Self {
                good: self.good.saturating_add(1),
                bad: 0,
            },
            Probed::Bad => Self {
                good: 0,
                bad: self.bad.saturating_add(1),
            },
        };
        let turned = match state {
            State::Down | State::Ejected if self.good >= rise.max(1) => Some(State::Up),
            State::Up | State::Ejected if self.bad >= fall.max(1) => Some(State::Down),
            _ => None,
        };
        if turned.is_some() {
            *self = Self::default();
        }
        turned
    }
}

/// Whether anybody serves beside an endpoint that is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// Somebody of its pool is up.
    Serve,
    /// Nobody is: requests wait or fail.
    None,
}

/// How long until the next probe of an endpoint that is down: short at first, twice as long after
/// each bad one, and soon again after a good one. `row` is what the last probes came to.
#[must_use]
pub fn retry_after(row: Row, others: Others, health_interval: Duration, random: u64) -> Duration {
    let slowest = match others {
        Others::Serve => SLOWEST,
        Others::None => URGENT,
    };
    let grown = FIRST.saturating_mul(1_u32 << row.bad.min(8));
    jittered(grown.min(slowest).min(health_interval), random)
}

/// How long until the next active check.
#[must_use]
pub fn check_after(health_interval: Duration, random: u64) -> Duration {
    jittered(health_interval, random)
}

/// How long until the first active check of an endpoint that is new: anywhere in the interval, so
/// that a gateway that starts does not check everybody at once.
#[must_use]
pub fn first_check_after(health_interval: Duration, random: u64) -> Duration {
    health_interval.mul_f64(part(random))
}

/// Whether a check may be left out, because requests were answered within the interval: then how
/// long until the proof is an interval old.
#[must_use]
pub fn proven_for(proven_ms: u64, now_ms: u64, health_interval: Duration) -> Option<Duration> {
    let age = Duration::from_millis(now_ms.saturating_sub(proven_ms));
    let left = health_interval.checked_sub(age)?;
    (proven_ms > 0 && !left.is_zero()).then_some(left)
}

/// Up to a tenth more or less, so that gateways and endpoints do not fall in step.
fn jittered(length: Duration, random: u64) -> Duration {
    length.mul_f64(0.9 + 0.2 * part(random))
}

/// A number in [0, 1).
fn part(random: u64) -> f64 {
    f64::from(u32::try_from(random >> 32).unwrap_or(0)) / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLE: u64 = 1 << 63;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn fall_and_rise_count_results_in_a_row() {
        use Probed::{Bad, Good};
        use State::{Down, Ejected, Up};
        for (state, fall, rise, results, turns_to) in [
            (Up, 1, 1, vec![Bad], Some(Down)),
            (Up, 3, 1, vec![Bad, Bad], None),
            (Up, 3, 1, vec![Bad, Bad, Bad], Some(Down)),
            (Up, 3, 1, vec![Bad, Bad, Good, Bad], None),
            (Up, 1, 1, vec![Good, Good], None),
            (Down, 1, 1, vec![Good], Some(Up)),
            (Down, 1, 2, vec![Good], None),
            (Down, 1, 2, vec![Good, Bad, Good], None),
            (Down, 1, 2, vec![Bad, Good, Good], Some(Up)),
            (Ejected, 1, 1, vec![Good], Some(Up)),
            (Ejected, 1, 2, vec![Good], None),
            (Ejected, 2, 1, vec![Bad, Bad], Some(Down)),
        ] {
            let mut row = Row::default();
            let mut last = None;
            for result in &results {
                last = row.count(*result, state, fall, rise);
            }
            assert_eq!(last, turns_to, "{state:?} {fall} {rise} {results:?}");
            assert!(last.is_none() || row == Row::default(), "it begins anew");
        }
    }

    #[test]
    fn probes_are_quick_at_first_and_never_slower_than_the_interval() {
        let bad = |bad| Row { good: 0, bad };
        for (row, others, interval, expected) in [
            (bad(0), Others::Serve, 5000, 100),
            (bad(1), Others::Serve, 5000, 200),
            (bad(3), Others::Serve, 5000, 800),
            (bad(4), Others::Serve, 5000, 1000),
            (bad(u32::MAX), Others::Serve, 5000, 1000),
            (bad(9), Others::None, 5000, 250),
            (bad(9), Others::Serve, 300, 300),
            (bad(0), Others::Serve, 50, 50),
            (Row { good: 1, bad: 0 }, Others::Serve, 5000, 100),
        ] {
            let got = retry_after(row, others, ms(interval), MIDDLE);
            assert_eq!(got, ms(expected), "{row:?} {others:?} {interval}");
        }
    }

    #[test]
    fn checks_come_a_tenth_early_or_late() {
        for (random, expected) in [(0, 4500), (MIDDLE, 5000)] {
            assert_eq!(check_after(ms(5000), random), ms(expected));
        }
        let latest = check_after(ms(5000), u64::MAX);
        assert!(latest > ms(5499) && latest <= ms(5500), "{latest:?}");
        assert_eq!(first_check_after(ms(5000), 0), ms(0));
        assert_eq!(first_check_after(ms(5000), MIDDLE), ms(2500));
    }

    #[test]
    fn traffic_proves_health_for_one_interval() {
        for (proven, now, left) in [
            (0, 100, None),
            (1000, 1000, Some(5000)),
            (1000, 3500, Some(2500)),
            (1000, 5999, Some(1)),
            (1000, 6000, None),
            (1000, 600_000, None),
        ] {
            let got = proven_for(proven, now, ms(5000));
            assert_eq!(got, left.map(ms), "{proven} {now}");
        }
    }
}
