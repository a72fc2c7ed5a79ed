//! A candidate that has everything, compared with what `base` was while both could be chosen.
//!
//! H0: for some rate p, `base` failed at least p of its requests and the candidate fails at most
//! p + m of its own. Nobody knows p; the counts of `base`, few or many, say something about it. So
//! for each p two bets follow each other, the second with what the first left: one on the counts of
//! `base` against "at least p", one on those of the candidate against "at most p + m". Where p is the
//! rate of `base`, nobody gets rich by both together, and the least of all p has no more than that:
//!
//! ```text
//! E      = min over p of B(p) · C(p)
//! B(p)   = ½ + ½ · mean over f of Π (1 + λ_f (p − y)),        λ_f = f / (1 − p)
//! C(p)   = ⅒ + 9⁄10 · mean over f of Π (1 + λ_f (y − p − m)), λ_f = f / (p + m)
//! ```
//!
//! y is 1 for a bad request, else 0. Under H0 the chance that E ever reaches 1/α is at most α (Ville
//! 1939), however little is known of `base` and whenever its counts were frozen. A part of the money
//! is never staked: half of it where `base` is well known and the first bet can only lose, a tenth
//! where the candidate is as good as it may be at a p that `base` rules out.
//!
//! Waudby-Smith and Ramdas, JRSS-B 86(1), 2024 (each bet); Wasserman, Ramdas and Balakrishnan,
//! *Universal inference*, PNAS 117(29), 2020 (the least over what is not known). An upper bound for
//! `base` at α/2 and the candidate held to it at α/2 would be right too; it needs up to three times
//! the requests.
//!
//! Invariant: a pure function of counters.

use super::betting::Bet;

/// The chance that a candidate is taken back which fails at most so much more.
pub const ALPHA: f64 = 0.001;
/// m: how much more often than `base` it may fail.
pub const MARGIN: f64 = 0.02;

/// The values of y.
const REQUEST: [f64; 2] = [1.0, 0.0];
/// The part of the money that is not staked on the counts of `base`.
const BASE_KEPT: f64 = 0.5;
/// The part that is not staked on those of the candidate.
const CANDIDATE_KEPT: f64 = 0.1;
/// Into how many cells the range of p + m is cut, from m to 1, each ending 0.8 % above its beginning.
/// B grows with p and C falls, so that B at the beginning of a cell times C at its end is the least
/// in it, or less.
const CELLS: u32 = 512;

/// How many requests were bad, and how many there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bad ones.
    pub bad: u64,
    /// All.
    pub all: u64,
}

impl Counts {
    fn by_value(self) -> [u64; 2] {
        [self.bad, self.all.saturating_sub(self.bad)]
    }
}

/// ln E that the candidate, alone, fails more than `MARGIN` more often than `base` did.
#[must_use]
pub fn harm(base: Counts, candidate: Counts) -> f64 {
    let (base, candidate) = (base.by_value(), candidate.by_value());
    let least_in = |from: u32, to: u32| {
        let of_base = Bet::safety(&REQUEST, edge(from) - MARGIN).ln_e(&base);
        let of_candidate = Bet::harm(&REQUEST, edge(to)).ln_e(&candidate);
        with_kept(BASE_KEPT, of_base) + with_kept(CANDIDATE_KEPT, of_candidate)
    };
    search(&least_in, (least_in(0, CELLS), 0, CELLS), f64::INFINITY)
}

/// The least in cells of which is known that there is no less than `bound`; what is known already
/// where that is less.
fn search(
    least_in: &impl Fn(u32, u32) -> f64,
    (bound, from, to): (f64, u32, u32),
    known: f64,
) -> f64 {
    if bound >= known || to - from == 1 {
        return known.min(bound);
    }
    let middle = from.midpoint(to);
    let left = (least_in(from, middle), from, middle);
    let right = (least_in(middle, to), middle, to);
    let (first, second) = if left.0 <= right.0 {
        (left, right)
    } else {
        (right, left)
    };
    search(least_in, second, search(least_in, first, known))
}

/// Where a cell begins, and the one before ends: p + m.
fn edge(cell: u32) -> f64 {
    MARGIN.powf(1.0 - f64::from(cell) / f64::from(CELLS))
}

/// The logarithm of all one has, where a part was kept and the rest became e^`ln_e` times as much.
fn with_kept(part: f64, ln_e: f64) -> f64 {
    let (kept, staked) = (part.ln(), (1.0 - part).ln() + ln_e);
    kept.max(staked) + (-(kept - staked).abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(bad: u64, all: u64) -> Counts {
        Counts { bad, all }
    }

    /// After how many requests, of which so many fail, it is proven.
    fn proven_after(base: Counts, every: u64) -> u64 {
        let needed = -ALPHA.ln();
        let proven = |n: &u64| harm(base, counts(n.div_ceil(every), *n)) >= needed;
        (1..100_000).find(proven).unwrap()
    }

    #[test]
    fn harm_is_proven_as_soon_as_base_is_known_well_enough() {
        for (base, every, wanted) in [
            (counts(10, 10_000), 1, 3..=3),
            (counts(10, 10_000), 5, 26..=36),
            (counts(10, 10_000), 20, 650..=750),
            (counts(0, 100), 1, 3..=4),
            (counts(0, 100), 5, 60..=90),
            (counts(1, 1_000), 20, 800..=950),
        ] {
            let needed = proven_after(base, every);
            assert!(wanted.contains(&needed), "{base:?} {every}: {needed}");
        }
    }

    #[test]
    fn without_base_nothing_is_proven() {
        for all in [1, 100, 1 << 50] {
            assert!(harm(counts(0, 0), counts(all, all)) < 1.0);
            assert!(harm(counts(all, all), counts(all, all)) < 1.0);
        }
    }

    #[test]
    fn no_count_overflows() {
        let many = 1 << 50;
        for base in [counts(0, many), counts(many / 2, many), counts(many, many)] {
            for candidate in [counts(0, many), counts(many / 2, many), counts(many, many)] {
                assert!(harm(base, candidate).is_finite(), "{base:?} {candidate:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn who_fails_hardly_more_is_not_accused(
            (base_all, base_bad) in (1..100_000_u64).prop_flat_map(|all| (Just(all), 0..=all)),
            (all, bad) in (1..100_000_u64).prop_flat_map(|all| (Just(all), 0..=all)),
        ) {
            #[expect(clippy::cast_precision_loss, reason = "counts are small")]
            let rate = |bad: u64, all: u64| bad as f64 / all as f64;
            let is_worse = rate(bad, all) > rate(base_bad, base_all) + MARGIN;
            let ln_e = harm(counts(base_bad, base_all), counts(bad, all));
            prop_assert!(is_worse || ln_e <= 1e-9, "{ln_e}");
        }

        #[test]
        fn more_harm_and_a_better_base_never_lower_the_evidence(
            base_bad in 0..50_u64, base_good in 0..5_000_u64,
            bad in 0..500_u64, good in 0..5_000_u64, moved in 0..500_u64,
        ) {
            let before = harm(counts(base_bad, base_bad + base_good), counts(bad, bad + good));
            let worse = counts(bad + moved.min(good), bad + good);
            let after = harm(counts(base_bad, base_bad + base_good), worse);
            prop_assert!(after >= before - 1e-9);
            let better = counts(base_bad - moved.min(base_bad), base_bad + base_good);
            prop_assert!(harm(better, counts(bad, bad + good)) >= before - 1e-9);
        }
    }
}
