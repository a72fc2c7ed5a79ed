//! Rollouts of good and bad candidates at several rates.

use crate::rollout::{Case, End, Rollout};
use crate::{at_most, runs};

/// An identical candidate.
const SAME: Case = Case {
    rate: 10.0,
    base_fails: 0.001,
    shadow_fails: 0.001,
    live_fails: 0.001,
    slower: 1.0,
};

/// A candidate that fails only users.
fn fails_live(rate: f64, live_fails: f64) -> Case {
    Case {
        rate,
        live_fails,
        ..SAME
    }
}

fn play(case: &Case, runs: u64) -> Vec<Rollout> {
    let case_seed = ((case.rate * 1e3 + case.live_fails * 1e9 + case.slower * 1e4) as u64) << 20;
    (0..runs)
        .map(|seed| Rollout::play(case, case_seed + seed))
        .collect()
}

fn ended(rollouts: &[Rollout], end: End) -> u64 {
    rollouts.iter().filter(|rollout| rollout.end == end).count() as u64
}

/// The value below which a part of all rollouts is.
fn quantile(rollouts: &[Rollout], part: f64, of: impl Fn(&Rollout) -> f64) -> f64 {
    let mut values: Vec<f64> = rollouts.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    let at = (part * (values.len() - 1) as f64).round() as usize;
    values.get(at).copied().unwrap_or_default()
}

#[test]
fn an_identical_candidate_is_promoted() {
    for rate in [1.0, 10.0, 100.0] {
        let runs = runs(2_000);
        let rollouts = play(&Case { rate, ..SAME }, runs);
        let back = ended(&rollouts, End::RolledBack) + ended(&rollouts, End::StoppedInShadow);
        assert!(back <= at_most(runs, 0.01), "{rate}/s: {back} of {runs}");
        let promoted = ended(&rollouts, End::Promoted);
        assert_eq!(promoted + back, runs, "{rate}/s");
    }
}

#[test]
fn a_candidate_that_fails_everywhere_meets_no_user() {
    let runs = runs(1_000);
    let case = Case {
        shadow_fails: 0.02,
        ..fails_live(10.0, 0.02)
    };
    let rollouts = play(&case, runs);
    let stopped = ended(&rollouts, End::StoppedInShadow);
    assert!(
        runs - stopped <= at_most(runs, 0.001),
        "{stopped} of {runs}"
    );
}

#[test]
fn a_candidate_that_always_fails_users_hurts_few() {
    for rate in [1.0, 10.0, 100.0] {
        let rollouts = play(&fails_live(rate, 1.0), runs(1_000));
        assert_eq!(ended(&rollouts, End::Promoted), 0);
        let failed = quantile(&rollouts, 0.99, |rollout| rollout.failed as f64);
        assert!(failed <= 10.0, "{rate}/s: {failed}");
    }
}

#[test]
fn a_candidate_that_fails_2_percent_of_users_is_not_promoted() {
    let runs = runs(1_000);
    let rollouts = play(&fails_live(10.0, 0.02), runs);
    let promoted = ended(&rollouts, End::Promoted);
    assert!(promoted <= at_most(runs, 0.005), "{promoted} of {runs}");
    let failed = quantile(&rollouts, 0.9, |rollout| rollout.failed as f64);
    assert!(failed <= 60.0, "{failed}");
}

#[test]
fn a_candidate_worse_by_the_margin_is_rarely_promoted() {
    let runs = runs(1_000);
    let rollouts = play(&fails_live(10.0, 0.011), runs);
    let promoted = ended(&rollouts, End::Promoted);
    assert!(promoted <= at_most(runs, 0.05), "{promoted} of {runs}");
}

#[test]
fn a_slower_candidate_is_taken_back_beyond_the_ratio_only() {
    let runs = runs(1_000);
    let slower = |slower| {
        play(
            &Case {
                rate: 100.0,
                slower,
                ..SAME
            },
            runs,
        )
    };
    let back = ended(&slower(1.1), End::RolledBack);
    assert!(back <= at_most(runs, 0.01), "{back} of {runs}");
    let rollouts = slower(1.5);
    assert_eq!(ended(&rollouts, End::RolledBack), runs);
    let served = quantile(&rollouts, 0.9, |rollout| rollout.candidate as f64);
    assert!(served <= 400.0, "{served}");
}

/// Prints the table of the manual.
#[test]
#[ignore = "prints the table of docs/judge.md: run it with --release, --ignored and --nocapture"]
fn table() {
    let of = |what: fn(&Rollout) -> f64, rollouts: &[Rollout]| {
        let at = |part| quantile(rollouts, part, what);
        format!("{:.0} / {:.0}", at(0.5), at(0.9))
    };
    let share = |count: u64, runs: u64| format!("{:.1} %", 100.0 * count as f64 / runs as f64);
    let failed = |rollout: &Rollout| rollout.failed as f64;
    let served = |rollout: &Rollout| rollout.candidate as f64;
    for rate in [0.2, 1.0, 10.0, 100.0, 1_000.0] {
        let runs = 1_000;
        let identical = play(&Case { rate, ..SAME }, 2 * runs);
        let back = ended(&identical, End::RolledBack) + ended(&identical, End::StoppedInShadow);
        let minutes = of(|rollout| rollout.seconds / 60.0, &identical);
        let everywhere = play(
            &Case {
                shadow_fails: 0.02,
                ..fails_live(rate, 0.02)
            },
            runs,
        );
        let stopped = ended(&everywhere, End::StoppedInShadow);
        let (always, some) = (
            play(&fails_live(rate, 1.0), runs),
            play(&fails_live(rate, 0.02), runs),
        );
        let margin = play(&fails_live(rate, 0.011), runs);
        let slow = play(
            &Case {
                rate,
                slower: 1.5,
                ..SAME
            },
            runs,
        );
        let slower = play(
            &Case {
                rate,
                slower: 2.0,
                ..SAME
            },
            runs,
        );
        let cells = [
            rate.to_string(),
            share(back, 2 * runs),
            minutes,
            share(stopped, runs),
            of(failed, &always),
            share(ended(&some, End::Promoted), runs),
            of(failed, &some),
            of(served, &some),
            share(ended(&margin, End::Promoted), runs),
            share(ended(&slow, End::Promoted), runs),
            of(served, &slow),
            of(served, &slower),
        ];
        println!("| {} |", cells.join(" | "));
    }
}
