//! The one test behind every verdict: betting against "the candidate is no worse".
//!
//! Z is a bounded difference between the candidate and `base` whose mean is 0 where both are
//! equal. Who believes that its mean is at most δ offers a fair bet: stake a part λ of all one has
//! on the next Z, and have 1 + λ(Z − δ) times as much after it. As long as the belief is true
//! nobody gets rich: starting with 1, the chance of ever having 1/α is at most α (Ville 1939). So
//! what one has is the evidence, E; it may be looked at after every request, and the rollout may
//! stop because of it, without any correction.
//!
//! ```text
//! harm    H0: E[Z] ≤ δ   E_f = Π (1 + λ_f (Z − δ))   λ_f = f / (max(−Z) + δ)
//! safety  H0: E[Z] ≥ M   E_f = Π (1 + λ_f (M − Z))   λ_f = f / (max(Z) − M)
//! log E_f = Σ count · ln(1 + λ_f (Z − δ)), over the few values that Z can take
//! ```
//!
//! E is the mean over a grid of f: whoever does not know the best stake plays each with a part of
//! the money. The sum needs only how often Z took each value, whatever the order.
//!
//! Waudby-Smith and Ramdas, *Estimating means of bounded random variables by betting*, JRSS-B
//! 86(1), 2024 (the process); Ryu and Bhatt, arXiv 2207.12382 (mixtures over stakes); Lindon and
//! Malek, *Anytime-valid inference for multinomial count data*, 2022 (counts).
//!
//! Invariant: a pure function of counters, in logarithms, so that no count makes it overflow.

/// Stakes against "no harm", as parts of the largest that cannot lose everything.
const HARM_STAKES: [f64; 11] = [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9, 0.98];

/// Stakes against "not safe".
const SAFETY_STAKES: [f64; 10] = [0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97];

/// The least that a bet may lose at most, so that no stake is infinite.
const LOSS_MIN: f64 = 1e-12;

/// Values of Z for a pair of answers to one request: only the candidate is worse, only `base` is,
/// neither or both are.
pub const PAIR: [f64; 3] = [1.0, -1.0, 0.0];

/// Values of Z for one request of live traffic: the candidate served it badly or well, `base`
/// served it badly or well.
///
/// `share` is the candidate's, above 0 and below 1, when the version was chosen; y is 1 for a bad
/// request, else 0; `centre` is a guess of its mean made before. Z = (y − centre) / share where the
/// candidate served, −(y − centre) / (1 − share) where `base` did, so that E\[Z\] is the difference
/// of the two rates whatever else happens: the choice was ours (Horvitz and Thompson 1952).
#[must_use]
pub fn live(share: f64, centre: f64) -> [f64; 4] {
    let rest = 1.0 - share;
    [
        (1.0 - centre) / share,
        -centre / share,
        -(1.0 - centre) / rest,
        centre / rest,
    ]
}

/// Values of Z for the difference of two scores between 0 and 1: by how much the candidate's is
/// lower, in steps of 0.1.
#[rustfmt::skip]
pub const SCORES: [f64; 21] = [
    -1.0, -0.9, -0.8, -0.7, -0.6, -0.5, -0.4, -0.3, -0.2, -0.1, 0.0,
    0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0,
];

/// A bet, ready for any counts: what each value of Z gains at each stake.
#[derive(Clone, Debug)]
pub struct Bet {
    /// For each value the logarithm of the gain at each stake.
    gains: Vec<Vec<f64>>,
    stakes: usize,
}

impl Bet {
    /// Against "the candidate is worse by at most `tolerance`", where Z has these values.
    #[must_use]
    pub fn harm(values: &[f64], tolerance: f64) -> Self {
        Self::new(values.iter().map(|z| z - tolerance), &HARM_STAKES)
    }

    /// Against "the candidate is worse by at least `margin`", where Z has these values.
    #[must_use]
    pub fn safety(values: &[f64], margin: f64) -> Self {
        Self::new(values.iter().map(|z| margin - z), &SAFETY_STAKES)
    }

    fn new(wins: impl Iterator<Item = f64> + Clone, stakes: &[f64]) -> Self {
        let loss = wins.clone().fold(LOSS_MIN, |loss, win| loss.max(-win));
        let gains = |win: f64| {
            stakes
                .iter()
                .map(|part| (part / loss * win).ln_1p())
                .collect()
        };
        Self {
            gains: wins.map(gains).collect(),
            stakes: stakes.len(),
        }
    }

    /// What one has before the first bet.
    #[must_use]
    pub fn start(&self) -> Wealth {
        Wealth(vec![0.0; self.stakes])
    }

    /// What `before` becomes when Z takes its values this often, in the order in which the bet was
    /// told of them. Bets of the same kind with other values may follow one another.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
    pub fn after(&self, mut before: Wealth, counts: &[u64]) -> Wealth {
        for (gains, count) in self.gains.iter().zip(counts) {
            for (wealth, gain) in before.0.iter_mut().zip(gains) {
                *wealth += *count as f64 * gain;
            }
        }
        before
    }

    /// ln E of these counts alone.
    #[must_use]
    pub fn ln_e(&self, counts: &[u64]) -> f64 {
        self.after(self.start(), counts).ln_e()
    }
}

/// What betting came to: for each stake the logarithm of what one has.
#[derive(Clone, Debug, PartialEq)]
pub struct Wealth(Vec<f64>);

impl Wealth {
    /// ln E: the evidence, the mean over all stakes.
    #[must_use]
    pub fn ln_e(&self) -> f64 {
        let most = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = self.0.iter().map(|wealth| (wealth - most).exp()).sum();
        #[expect(clippy::cast_precision_loss, reason = "the stakes are few")]
        let stakes = self.0.len() as f64;
        most + (sum / stakes).ln()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value as Json;

    use super::*;

    /// 40 tables of counters with the evidence that an implementation in Python (numpy) finds in
    /// them.
    const GOLDEN: &str = include_str!("golden.json");

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
    }

    fn numbers(value: &Json) -> Vec<f64> {
        let items = value.as_array().unwrap().iter();
        items.map(|item| item.as_f64().unwrap()).collect()
    }

    fn counts(value: &Json) -> Vec<u64> {
        let items = value.as_array().unwrap().iter();
        items.map(|item| item.as_u64().unwrap()).collect()
    }

    #[test]
    fn the_evidence_is_that_of_the_reference() {
        let golden: Vec<Json> = serde_json::from_str(GOLDEN).unwrap();
        assert_eq!(golden.len(), 40);
        for case in &golden {
            let bound = case["bound"].as_f64().unwrap();
            let bet: fn(&[f64], f64) -> Bet = match case["test"].as_str() {
                Some("harm") => Bet::harm,
                _ => Bet::safety,
            };
            let mut wealth = bet(&PAIR, bound).start();
            for table in case["tables"].as_array().unwrap() {
                let values = match table["share"].as_f64() {
                    Some(share) => live(share, table["centre"].as_f64().unwrap()).to_vec(),
                    None => PAIR.to_vec(),
                };
                assert_eq!(values.len(), numbers(&table["values"]).len());
                for (value, wanted) in values.iter().zip(numbers(&table["values"])) {
                    assert!(near(*value, wanted), "{value} {wanted}");
                }
                wealth = bet(&values, bound).after(wealth, &counts(&table["counts"]));
            }
            let wanted = case["ln_e"].as_f64().unwrap();
            assert!(near(wealth.ln_e(), wanted), "{} {case}", wealth.ln_e());
        }
    }

    #[test]
    fn nothing_seen_is_no_evidence() {
        for bet in [Bet::harm(&PAIR, 0.001), Bet::safety(&live(0.05, 0.0), 0.01)] {
            assert!(bet.start().ln_e().abs() < 1e-12);
        }
    }

    #[test]
    fn no_count_overflows() {
        let many = [1 << 50; 4];
        for share in [0.001, 0.5, 0.999] {
            assert!(Bet::harm(&live(share, 0.3), 0.001).ln_e(&many).is_finite());
            assert!(Bet::safety(&live(share, 0.3), 0.01).ln_e(&many).is_finite());
        }
    }

    #[test]
    fn proof_of_safety_takes_the_stated_number_of_requests() {
        // No failure seen at all: 441 requests of the candidate for one point, at any share.
        let proven = 20_f64.ln();
        for (share, base) in [(0.01, 99), (0.05, 19), (0.25, 3), (0.5, 1)] {
            let bet = Bet::safety(&live(share, 0.0), 0.01);
            let needed = (1..10_000).find(|n| bet.ln_e(&[0, *n, 0, n * base]) >= proven);
            let needed = needed.unwrap();
            assert!((430..=450).contains(&needed), "{share}: {needed}");
        }
    }

    fn any_counts() -> impl Strategy<Value = [u64; 4]> {
        [0..50_u64, 0..5_000, 0..50, 0..5_000_u64]
    }

    proptest! {
        #[test]
        fn more_harm_never_lowers_the_evidence_of_harm(
            permille in 1..1000_u32, centre in 0.0..0.9, counts in any_counts(), moved in 0..50_u64,
        ) {
            let bet = Bet::harm(&live(f64::from(permille) / 1000.0, centre), 0.001);
            let [bad, good, base_bad, base_good] = counts;
            let moved = moved.min(good);
            let worse = [bad + moved, good - moved, base_bad, base_good];
            prop_assert!(bet.ln_e(&worse) >= bet.ln_e(&counts) - 1e-9);
        }

        #[test]
        fn the_order_of_counters_and_of_shares_changes_nothing(
            a in any_counts(), b in any_counts(), share in 0.01..0.5,
        ) {
            let bets = [Bet::harm(&live(share, 0.0), 0.001), Bet::harm(&live(0.5, 0.0), 0.001)];
            let start = bets[0].start();
            let one = bets[1].after(bets[0].after(start.clone(), &a), &b);
            let other = bets[0].after(bets[1].after(start.clone(), &b), &a);
            prop_assert!(near(one.ln_e(), other.ln_e()));
            // Two tables of one share are one table of their sums.
            let sum: Vec<u64> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
            let parts = bets[0].after(bets[0].after(start, &a), &b);
            prop_assert!(near(parts.ln_e(), bets[0].ln_e(&sum)));
            // So are the values of Z in any order.
            let mut values = live(share, 0.0);
            let mut reversed = a;
            values.reverse();
            reversed.reverse();
            prop_assert!(near(Bet::harm(&values, 0.001).ln_e(&reversed), bets[0].ln_e(&a)));
        }
    }
}
