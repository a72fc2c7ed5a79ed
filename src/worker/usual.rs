//! Whether users wait for a version longer than usual: then its copies wait, too.
//!
//! What is usual is the median of its live p99 over the last ten minutes. A level that lasts becomes
//! usual itself after half of that, so that copies are held up for some minutes and never for good.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// How long a look is remembered.
const REMEMBERED: Duration = Duration::from_mins(10);
/// So many looks say what is usual; less say nothing.
const LOOKS_MIN: usize = 30;
/// A p99 of fewer requests says nothing.
const REQUESTS_MIN: f64 = 100.0;
/// So many times what is usual is too long.
const STRAINED: f64 = 2.0;
/// What a live p99 is made of, in seconds.
const WINDOW_S: f64 = 10.0;

/// The live p99 of a version, as it was at each look.
#[derive(Debug, Default)]
pub(super) struct Usual {
    looks: VecDeque<(Instant, f64)>,
    strained: bool,
}

impl Usual {
    /// Looks at what gateways say now: requests a second and p99 of the last ten seconds.
    pub(super) fn look(&mut self, now: Instant, rps: f64, p99_ms: Option<f64>) {
        let old = |(at, _): &(Instant, f64)| now.duration_since(*at) > REMEMBERED;
        while self.looks.front().is_some_and(old) {
            self.looks.pop_front();
        }
        self.strained = false;
        let says = |p99: &f64| p99.is_finite() && rps * WINDOW_S >= REQUESTS_MIN;
        let Some(p99) = p99_ms.filter(says) else {
            return;
        };
        self.strained = self.usual().is_some_and(|usual| p99 >= STRAINED * usual);
        self.looks.push_back((now, p99));
    }

    /// Whether users waited too long at the last look.
    pub(super) fn is_strained(&self) -> bool {
        self.strained
    }

    fn usual(&self) -> Option<f64> {
        if self.looks.len() < LOOKS_MIN {
            return None;
        }
        let mut all: Vec<f64> = self.looks.iter().map(|(_, p99)| *p99).collect();
        let (_, median, _) = all.select_nth_unstable_by(self.looks.len() / 2, f64::total_cmp);
        Some(*median)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: [usize; 0] = [];

    /// At which of these looks, one a second, users waited too long.
    fn strained(looks: impl IntoIterator<Item = (f64, f64)>) -> Vec<usize> {
        let (begin, mut usual) = (Instant::now(), Usual::default());
        let mut found = Vec::new();
        for (at, (rps, p99)) in looks.into_iter().enumerate() {
            usual.look(begin + Duration::from_secs(at as u64), rps, Some(p99));
            if usual.is_strained() {
                found.push(at);
            }
        }
        found
    }

    #[test]
    fn a_p99_of_twice_what_is_usual_is_too_long() {
        let level = |p99: f64, looks: usize| std::iter::repeat_n((50.0, p99), looks);
        assert_eq!(strained(level(40.0, 1_000)), NEVER);
        let wobbling = (0..1_000).map(|at| (50.0, 40.0 + f64::from(at % 7) * 6.0));
        assert_eq!(strained(wobbling), NEVER);
        let peak = level(40.0, 60).chain(level(80.0, 3)).chain(level(79.0, 9));
        assert_eq!(strained(peak), [60, 61, 62]);
        // What is usual is not known yet.
        assert_eq!(strained(level(40.0, 29).chain(level(400.0, 1))), NEVER);
        assert_eq!(strained(level(40.0, 30).chain(level(400.0, 1))), [30]);
    }

    #[test]
    fn a_level_that_lasts_becomes_usual() {
        let level = |p99: f64, looks: usize| std::iter::repeat_n((50.0, p99), looks);
        let found = strained(level(40.0, 600).chain(level(90.0, 900)));
        assert_eq!(found.first(), Some(&600));
        let last = found.last().expect("some");
        assert!((850..=950).contains(last), "{last}");
    }

    #[test]
    fn few_requests_say_nothing() {
        let few = std::iter::repeat_n((9.0, 40.0), 60).chain([(9.0, 4_000.0)]);
        assert_eq!(strained(few), NEVER);
        let mut usual = Usual::default();
        usual.look(Instant::now(), 50.0, None);
        assert!(!usual.is_strained());
    }
}
