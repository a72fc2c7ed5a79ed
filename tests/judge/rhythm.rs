//! Clients with a rhythm: identical versions are not told apart because of when requests come.

use smartlink::judge::betting::{Bet, live};
use smartlink::model::split::Split;

use crate::chance::Chance;
use crate::{at_most, runs};

const REQUESTS: u64 = 20_000;

/// Whether an identical candidate is ever proven worse, where every `period`-th request fails.
fn is_accused(share: f64, period: u64, phase: u64, candidate: &mut impl FnMut() -> bool) -> bool {
    let bet = Bet::harm(&live(share, 0.0), 0.0);
    let mut wealth = bet.start();
    for n in 0..REQUESTS {
        let is_candidate = candidate();
        if n % period == phase {
            let bad = if is_candidate {
                [1, 0, 0, 0]
            } else {
                [0, 0, 1, 0]
            };
            wealth = bet.after(wealth, &bad);
            if wealth.ln_e() >= 100_f64.ln() {
                return true;
            }
        }
    }
    false
}

/// In how many of `runs` an identical candidate is accused, when requests are divided by `split`.
fn accused<D: FnMut() -> bool>(
    (percent, period): (u32, u64),
    runs: u64,
    split: impl Fn(u64) -> D,
) -> u64 {
    let mut chance = Chance::new(u64::from(percent) * 1000 + period);
    let share = f64::from(percent) / 100.0;
    let run = |_: &u64| {
        let (seed, phase) = (chance.bits(), chance.bits() % period);
        is_accused(share, period, phase, &mut split(seed))
    };
    (0..runs).filter(run).count() as u64
}

#[test]
fn a_client_in_a_rhythm_does_not_make_an_identical_candidate_look_worse() {
    for percent in [5, 25] {
        for period in [2, 89, 100, 233] {
            let runs = runs(300);
            let accused = accused((percent, period), runs, |seed| {
                let weights = [(0, 100 - percent), (1, percent)];
                let split = Split::new(weights, seed).expect("weights");
                move || split.draw() == 1
            });
            let most = at_most(runs, 0.01);
            assert!(
                accused <= most,
                "{percent} %, period {period}: {accused} of {runs}"
            );
        }
    }
}

#[test]
fn an_evenly_spread_split_would_fail_that_test() {
    // The golden-ratio sequence is just as exact, and has a rhythm of its own.
    let runs = runs(300);
    let accused = accused((25, 89), runs, |seed| {
        let ratio = (5_f64.sqrt() - 1.0) / 2.0;
        let mut at = Chance::new(seed).part();
        move || {
            at = (at + ratio).fract();
            at < 0.25
        }
    });
    assert!(accused > runs / 4, "{accused} of {runs}");
}
