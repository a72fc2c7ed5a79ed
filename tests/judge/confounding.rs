//! An incident over a change of weights, which half of the gateways see late: what makes each
//! count carry the share under which its version was chosen.

use smartlink::judge::trial::{Trial, Unit, ln_needed};

use crate::chance::Chance;
use crate::{at_most, runs};

/// What a gateway's counts are filed under.
#[derive(Clone, Copy, PartialEq)]
enum Filed {
    /// The share of the table that chose.
    Chosen,
    /// The share that the weights said at the time.
    Wanted,
}

const REQUESTS_PER_SECOND: u64 = 100;
const LATE: u64 = 5;
const CHANGE: u64 = 30;
const END: u64 = 60;

/// Whether an identical candidate is ever accused, when the weights change from one share to
/// another during an incident in which 30 % of all requests fail.
fn is_accused((before, after): (u16, u16), filed: Filed, seed: u64) -> bool {
    let mut chance = Chance::new(seed);
    let mut trial = Trial::default();
    for second in 0..END {
        let incident = second.abs_diff(CHANGE) <= 10;
        let failing = if incident { 0.3 } else { 0.001 };
        let wanted = if second < CHANGE { before } else { after };
        for gateway in [0, LATE] {
            let chosen = if second < CHANGE + gateway {
                before
            } else {
                after
            };
            let requests = REQUESTS_PER_SECOND / 2;
            let share = f64::from(chosen) / 1000.0;
            let served = chance.of(requests, share);
            let filed = if filed == Filed::Chosen {
                chosen
            } else {
                wanted
            };
            let arms = trial.shares.entry(filed).or_default();
            arms.candidate.requests += served;
            arms.candidate.bad += chance.of(served, failing);
            arms.base.requests += requests - served;
            arms.base.bad += chance.of(requests - served, failing);
        }
        if trial.harm(Unit::Request, 0.001) >= ln_needed(0.01) {
            return true;
        }
    }
    false
}

fn accused(change: (u16, u16), filed: Filed, runs: u64) -> u64 {
    let run = |seed: &u64| is_accused(change, filed, *seed);
    (0..runs).filter(run).count() as u64
}

#[test]
fn an_incident_over_a_change_of_weights_accuses_nobody() {
    for change in [(50, 500), (500, 50)] {
        let runs = runs(1_000);
        let accused = accused(change, Filed::Chosen, runs);
        assert!(
            accused <= at_most(runs, 0.01),
            "{change:?}: {accused} of {runs}"
        );
    }
}

#[test]
fn without_the_share_of_each_choice_it_would() {
    let runs = runs(1_000);
    let accused = accused((500, 50), Filed::Wanted, runs);
    assert!(accused > runs / 4, "{accused} of {runs}");
}
