//! A candidate that has everything, judged by what `base` was before: how often an identical one is
//! taken back, however few requests of `base` were seen, and how soon one that fails more is.

use smartlink::judge::bake::{ALPHA, Counts, MARGIN};
use smartlink::judge::betting::Bet;
use smartlink::judge::trial::{Arm, Arms, Unit, ln_needed};
use smartlink::model::decode::Fields;
use smartlink::model::rollout::{self, Rollout};
use smartlink::policy::rollout::{Counters, Evidence, Memory};

use crate::chance::Chance;
use crate::{at_most, runs};

/// A long bake: a quarter of an hour at a hundred requests a second.
const REQUESTS: u64 = 90_000;
/// How many requests of `base` were seen when the candidate got everything.
const SEEN: [u64; 6] = [0, 20, 100, 300, 1_000, 10_000];

/// How often is looked: whenever a twentieth more was served.
const SELDOM: u64 = 20;
/// Whenever a hundredth more was.
const OFTEN: u64 = 100;

/// Whether a candidate that has everything is proven bad.
type Judge<'j> = &'j dyn Fn(Counts, Counts) -> bool;

/// What a pilot makes of it.
fn judged(policy: &Rollout, base: Counts, candidate: Counts) -> bool {
    let memory = Memory {
        trial: 1,
        bake_base: Some((base.bad, base.all)),
        ..Memory::default()
    };
    let mut counters = Counters {
        number: 1,
        ..Counters::default()
    };
    let candidate = Arm {
        bad: candidate.bad,
        requests: candidate.all,
        ..Arm::default()
    };
    let arms = Arms {
        candidate,
        ..Arms::default()
    };
    counters.trial.shares.insert(1000, arms);
    let evidence = Evidence::weigh(policy, &memory, Unit::Request, &counters);
    evidence.harm().is_some()
}

/// The same by a judge who takes the rate of `base` for what was counted of it.
fn believed(base: Counts, candidate: Counts) -> bool {
    let bet = Bet::harm(&[1.0, 0.0], (rate(base) + MARGIN).min(1.0));
    bet.ln_e(&[candidate.bad, candidate.all - candidate.bad]) >= ln_needed(ALPHA)
}

fn rate(counts: Counts) -> f64 {
    counts.bad as f64 / counts.all as f64
}

fn defaults() -> Rollout {
    rollout::decode("", &Fields::new()).0.expect("defaults")
}

/// After how many requests a candidate is taken back that fails this part of them, where `base`
/// failed another part of so many; `None` where it never is. It is looked at after each of the first
/// requests, then whenever it has served a part more: one in so many.
fn taken_back(
    judge: Judge<'_>,
    (base_fails, known): (f64, u64),
    fails: f64,
    part: u64,
    seed: u64,
) -> Option<u64> {
    let mut chance = Chance::new(seed);
    let base = Counts {
        bad: chance.of(known, base_fails),
        all: known,
    };
    let mut candidate = Counts::default();
    while candidate.all < REQUESTS {
        let more = 1 + candidate.all / part;
        candidate.bad += chance.of(more, fails);
        candidate.all += more;
        // Who does not fail that much more has won nothing: no need to look.
        let is_worse = rate(candidate) > rate(base) + MARGIN;
        if is_worse && judge(base, candidate) {
            return Some(candidate.all);
        }
    }
    None
}

fn rollouts(
    judge: Judge<'_>,
    base: (f64, u64),
    fails: f64,
    part: u64,
    runs: u64,
) -> Vec<Option<u64>> {
    let seed = (base.0 * 1e6) as u64 ^ base.1 << 20 ^ ((fails * 1e6) as u64) << 40;
    let run = |run: u64| taken_back(judge, base, fails, part, seed.wrapping_add(run));
    (0..runs).map(run).collect()
}

fn back(rollouts: &[Option<u64>]) -> u64 {
    rollouts.iter().flatten().count() as u64
}

/// After how many requests so many of all are taken back; `None` where not so many ever are.
fn quantile(rollouts: &[Option<u64>], part: f64) -> Option<u64> {
    let mut after: Vec<u64> = rollouts.iter().flatten().copied().collect();
    after.sort_unstable();
    let at = (part * rollouts.len() as f64).ceil() as usize;
    after.get(at.saturating_sub(1)).copied()
}

#[test]
fn an_identical_candidate_stays_however_little_is_known_of_base() {
    let policy = defaults();
    for base_fails in [0.001, 0.01, 0.05, 0.1] {
        for seen in SEEN {
            let runs = runs(2_000);
            let base = (base_fails, seen);
            let judge = |base, candidate| judged(&policy, base, candidate);
            let back = back(&rollouts(&judge, base, base_fails, SELDOM, runs));
            assert!(back <= at_most(runs, ALPHA), "{base:?}: {back} of {runs}");
        }
    }
}

#[test]
fn a_candidate_at_the_margin_stays_too() {
    let policy = defaults();
    for seen in [100, 10_000] {
        let runs = runs(2_000);
        let judge = |base, candidate| judged(&policy, base, candidate);
        let back = back(&rollouts(
            &judge,
            (0.001, seen),
            0.001 + MARGIN,
            SELDOM,
            runs,
        ));
        assert!(back <= at_most(runs, ALPHA), "{seen}: {back} of {runs}");
    }
}

#[test]
fn it_would_not_if_base_were_believed_to_be_as_it_was_counted() {
    for (base, part) in [((0.05, 100), 0.05), ((0.05, 300), 0.02), ((0.1, 100), 0.1)] {
        let runs = 1_000;
        let back = back(&rollouts(&believed, base, base.0, SELDOM, runs));
        assert!(
            back as f64 > part * runs as f64,
            "{base:?}: {back} of {runs}"
        );
    }
}

#[test]
fn harm_is_found_as_soon_where_base_is_known() {
    let policy = defaults();
    let judge = |base, candidate| judged(&policy, base, candidate);
    for (seen, fails, most) in [
        (10_000, 0.05, 800),
        (10_000, 0.2, 40),
        (10_000, 1.0, 3),
        (100, 0.2, 150),
        (100, 1.0, 4),
    ] {
        let rollouts = rollouts(&judge, (0.001, seen), fails, OFTEN, runs(2_000));
        let median = quantile(&rollouts, 0.5);
        assert!(
            median.is_some_and(|after| after <= most),
            "{fails} after {seen}: {median:?}"
        );
    }
}

/// Prints the table of the manual.
#[test]
#[ignore = "prints the table of docs/judge.md: run it with --release, --ignored and --nocapture"]
fn table() {
    let policy = defaults();
    let judge = |base, candidate| judged(&policy, base, candidate);
    for base_fails in [0.001, 0.01, 0.05] {
        for seen in [100, 300, 1_000, 10_000, 100_000] {
            let base = (base_fails, seen);
            let same = back(&rollouts(&judge, base, base_fails, SELDOM, 2_000));
            let margin = back(&rollouts(&judge, base, base_fails + MARGIN, SELDOM, 2_000));
            let mut cells = vec![
                format!("{} %", 100.0 * base_fails),
                seen.to_string(),
                format!("{:.2} %", same as f64 / 20.0),
                format!("{:.2} %", margin as f64 / 20.0),
            ];
            for more in [0.05, 0.1, 0.2, 1.0] {
                let rollouts = rollouts(&judge, base, f64::min(1.0, base_fails + more), OFTEN, 400);
                let at = |part| {
                    quantile(&rollouts, part).map_or("never".to_owned(), |after| after.to_string())
                };
                cells.push(format!("{} / {}", at(0.5), at(0.9)));
            }
            println!("| {} |", cells.join(" | "));
        }
    }
}
