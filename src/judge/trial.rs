//! A candidate on trial under live traffic: its counters and those of `base`, by the share under
//! which each request's version was chosen, and what they say.
//!
//! The share belongs to each count: rates under different shares must not be mixed, because the
//! times under them were different too (Simpson 1951).

use std::collections::BTreeMap;

use super::assignment;
use super::betting::{Bet, Wealth, live};

/// The counters of a trial.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trial {
    /// By the candidate's share in thousandths.
    pub shares: BTreeMap<u16, Arms>,
}

/// What both versions did under one share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arms {
    /// The candidate.
    pub candidate: Arm,
    /// The version it is compared with.
    pub base: Arm,
}

/// What one version did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arm {
    /// Requests for which this version was chosen.
    pub requests: u64,
    /// Of these, bad ones.
    pub bad: u64,
    /// Of these, those slower than each of the three frozen bounds.
    pub over: [u64; 3],
    /// First requests of callers who stay in their version.
    pub first: u64,
    /// Of these, bad ones.
    pub first_bad: u64,
}

/// What is independent of each other: requests, or, where callers stay in a version, callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Each request.
    Request,
    /// The first request of each caller.
    Caller,
}

/// The frozen bounds of a trial: near the p50, p90 and p99 of `base`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Near the p50.
    P50,
    /// Near the p90.
    P90,
    /// Near the p99.
    P99,
}

/// Parts of the chance of a false rollback that each question may use up; together all of it.
pub mod part {
    /// Bad answers in shadow.
    pub const SHADOW_ERRORS: f64 = 0.25;
    /// Different answers in shadow.
    pub const SHADOW_ANSWERS: f64 = 0.2;
    /// Bad requests of users.
    pub const LIVE_ERRORS: f64 = 0.35;
    /// Slow requests of users, for each of the three bounds.
    pub const LIVE_LATENCY: f64 = 0.2 / 3.0;
}

/// ln E from which on something is proven, where it may be wrong with this probability.
#[must_use]
pub fn ln_needed(probability: f64) -> f64 {
    -probability.ln()
}

impl Trial {
    /// The counters in a hash of fields `<share in thousandths>.<version>.<count>`; other fields,
    /// and other versions than these two, are passed over.
    pub fn from_fields<'f>(
        fields: impl IntoIterator<Item = (&'f str, &'f str)>,
        base: &str,
        candidate: &str,
    ) -> Self {
        let mut trial = Self::default();
        for (field, text) in fields {
            let parse = || {
                let (share, rest) = field.split_once('.')?;
                let (version, count) = rest.rsplit_once('.')?;
                Some((
                    share.parse::<u16>().ok()?,
                    version,
                    count,
                    text.parse().ok()?,
                ))
            };
            let Some((share, version, count, number)) = parse() else {
                continue;
            };
            if share > 1000 || (version != base && version != candidate) {
                continue;
            }
            let arms = trial.shares.entry(share).or_default();
            let arm = if version == candidate {
                &mut arms.candidate
            } else {
                &mut arms.base
            };
            arm.set(count, number);
        }
        trial
    }

    /// ln E that the candidate's rate of bad requests is more than `tolerance` above that of
    /// `base`.
    #[must_use]
    pub fn harm(&self, unit: Unit, tolerance: f64) -> f64 {
        let bet = |values: &[f64]| Bet::harm(values, tolerance);
        self.ln_e(bet, 0.0, |arm| arm.bad_of(unit))
    }

    /// ln E that the candidate's rate of bad requests is less than `margin` above that of `base`.
    #[must_use]
    pub fn safety(&self, unit: Unit, margin: f64) -> f64 {
        let bet = |values: &[f64]| Bet::safety(values, margin);
        self.ln_e(bet, 0.0, |arm| arm.bad_of(unit))
    }

    /// ln E that the candidate is slower than it may be: that more of its requests are over its
    /// bound than of the requests of `base` over theirs. `centre` is the part of `base` that was
    /// over it when the bound was frozen.
    #[must_use]
    pub fn slowness(&self, bound: Bound, centre: f64) -> f64 {
        let bet = |values: &[f64]| Bet::harm(values, 0.0);
        self.ln_e(bet, centre, |arm| {
            let [p50, p90, p99] = arm.over;
            let over = match bound {
                Bound::P50 => p50,
                Bound::P90 => p90,
                Bound::P99 => p99,
            };
            (over, arm.requests)
        })
    }

    /// ln E that requests, or callers, were not divided as the weights say; see
    /// [`assignment::DOUBT`].
    #[must_use]
    pub fn misdivided(&self, unit: Unit) -> f64 {
        let split = |(share, arms): (f64, &Arms)| {
            assignment::ln_e(share, arms.candidate.all_of(unit), arms.base.all_of(unit))
        };
        self.compared().map(split).sum()
    }

    /// Requests, or callers, for which the candidate was chosen, under any share.
    #[must_use]
    pub fn of_candidate(&self, unit: Unit) -> u64 {
        let arms = self.shares.values();
        arms.map(|arms| arms.candidate.all_of(unit)).sum()
    }

    /// The same of both versions.
    #[must_use]
    pub fn of_both(&self, unit: Unit) -> u64 {
        let base = self.shares.values().map(|arms| arms.base.all_of(unit));
        self.of_candidate(unit) + base.sum::<u64>()
    }

    /// Shares under which both versions could be chosen: others compare nothing.
    fn compared(&self) -> impl Iterator<Item = (f64, &Arms)> {
        let both = self.shares.range(1..1000);
        both.map(|(share, arms)| (f64::from(*share) / 1000.0, arms))
    }

    fn ln_e(
        &self,
        bet: impl Fn(&[f64]) -> Bet,
        centre: f64,
        counts: impl Fn(&Arm) -> (u64, u64),
    ) -> f64 {
        let mut wealth: Option<Wealth> = None;
        for (share, arms) in self.compared() {
            let bet = bet(&live(share, centre));
            let ((bad, all), (base_bad, base_all)) = (counts(&arms.candidate), counts(&arms.base));
            let counts = [
                bad,
                all.saturating_sub(bad),
                base_bad,
                base_all.saturating_sub(base_bad),
            ];
            let before = wealth.take().unwrap_or_else(|| bet.start());
            wealth = Some(bet.after(before, &counts));
        }
        wealth.map_or(0.0, |wealth| wealth.ln_e())
    }
}

impl Arm {
    fn set(&mut self, count: &str, number: u64) {
        let [p50, p90, p99] = &mut self.over;
        let place = match count {
            "requests" => &mut self.requests,
            "bad" => &mut self.bad,
            "over_50" => p50,
            "over_90" => p90,
            "over_99" => p99,
            "first" => &mut self.first,
            "first_bad" => &mut self.first_bad,
            _ => return,
        };
        *place = number;
    }

    /// All that are independent of each other.
    fn all_of(&self, unit: Unit) -> u64 {
        self.bad_of(unit).1
    }

    /// Bad ones, and all.
    fn bad_of(&self, unit: Unit) -> (u64, u64) {
        match unit {
            Unit::Request => (self.bad, self.requests),
            Unit::Caller => (self.first_bad, self.first),
        }
    }
}

/// The place of the bound nearest to each of p50, p90 and p99 in a histogram, given as how many
/// requests of `base` fell under each of its rising bounds and not under the one before; and the
/// part of them above it. `None` where nothing was counted.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub fn freeze(counts: &[u64]) -> Option<[(usize, f64); 3]> {
    let all: u64 = counts.iter().sum();
    if all == 0 {
        return None;
    }
    let mut under = 0;
    let above: Vec<f64> = (counts.iter())
        .map(|count| {
            under += count;
            (all - under) as f64 / all as f64
        })
        .collect();
    let nearest = |wanted: f64| {
        let far = |above: &f64| (above - wanted).abs();
        let places = above.iter().copied().enumerate();
        let place = places.min_by(|(_, a), (_, b)| far(a).total_cmp(&far(b)));
        place.unwrap_or_default()
    };
    Some([nearest(0.5), nearest(0.1), nearest(0.01)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(fields: &[(&str, &str)]) -> Trial {
        Trial::from_fields(fields.iter().copied(), "base", "v1.2")
    }

    #[test]
    fn counters_are_read_by_share_and_version() {
        let read = trial(&[
            ("50.v1.2.requests", "100"),
            ("50.v1.2.bad", "3"),
            ("50.base.requests", "1900"),
            ("50.base.over_90", "190"),
            ("250.base.first_bad", "2"),
            ("50.other.requests", "7"),
            ("1001.base.requests", "7"),
            ("50.base.unheard", "7"),
            ("50.base.bad", "-7"),
            ("trial", "4"),
        ]);
        assert_eq!(read.shares.len(), 2);
        let arms = read.shares[&50];
        assert_eq!((arms.candidate.requests, arms.candidate.bad), (100, 3));
        assert_eq!((arms.base.requests, arms.base.over), (1900, [0, 190, 0]));
        assert_eq!(read.shares[&250].base.first_bad, 2);
        assert_eq!(read.of_candidate(Unit::Request), 100);
        assert_eq!(read.of_both(Unit::Request), 2000);
    }

    #[test]
    fn shares_that_compare_nothing_say_nothing() {
        let fields = [
            ("0.base.requests", "9"),
            ("1000.v1.2.requests", "9"),
            ("1000.v1.2.bad", "9"),
        ];
        let trial = trial(&fields);
        assert!(trial.harm(Unit::Request, 0.001).abs() < 1e-12);
        assert!(trial.safety(Unit::Request, 0.01).abs() < 1e-12);
        assert!(trial.misdivided(Unit::Request).abs() < 1e-12);
    }

    #[test]
    fn each_question_has_its_answer() {
        let trial = trial(&[
            ("250.v1.2.requests", "1000"),
            ("250.v1.2.bad", "40"),
            ("250.v1.2.over_50", "700"),
            ("250.v1.2.over_90", "100"),
            ("250.base.requests", "3000"),
            ("250.base.bad", "3"),
            ("250.base.over_50", "1500"),
            ("250.base.over_90", "300"),
        ]);
        let alpha = |part: f64| ln_needed(0.01 * part);
        assert!(trial.harm(Unit::Request, 0.001) > alpha(part::LIVE_ERRORS));
        assert!(trial.safety(Unit::Request, 0.01) < 0.0);
        assert!(trial.slowness(Bound::P50, 0.5) > alpha(part::LIVE_LATENCY));
        assert!(trial.slowness(Bound::P90, 0.1) < 1.0);
        assert!(trial.misdivided(Unit::Request) < 1.0);
        assert!(trial.harm(Unit::Caller, 0.001).abs() < 1e-12);
    }

    #[test]
    fn all_parts_are_the_whole() {
        let parts = part::SHADOW_ERRORS + part::SHADOW_ANSWERS + part::LIVE_ERRORS;
        assert!((parts + 3.0 * part::LIVE_LATENCY - 1.0).abs() < 1e-12);
        assert!((ln_needed(0.01 * part::LIVE_ERRORS).exp() - 285.7).abs() < 0.1);
    }

    #[test]
    fn bounds_are_frozen_where_base_is() {
        assert_eq!(freeze(&[0, 0]), None);
        let frozen = freeze(&[10, 40, 30, 10, 9, 1]).unwrap();
        assert_eq!(frozen.map(|(at, _)| at), [1, 3, 4]);
        let exact = frozen.iter().zip([0.5, 0.1, 0.01]);
        assert!(
            exact
                .into_iter()
                .all(|((_, above), wanted)| (above - wanted).abs() < 1e-12)
        );
    }
}
