//! The way of a candidate: to everything, back, or held.

use super::*;
use crate::policy::rollout::evidence::ShadowCounts;

#[test]
fn a_good_candidate_gets_everything_step_by_step() {
    use State::{Bake, Done, Proof, Running, Shadow, Waiting};
    let mut world = World::new("bake=2m");
    assert_eq!(world.end(3_600), State::Done);
    let states: Vec<State> = world.told.iter().map(|(state, _)| *state).collect();
    // Safety was proven by the time the last step was long enough, or it is waited for.
    let states: Vec<State> = states.into_iter().filter(|state| *state != Proof).collect();
    assert_eq!(
        states,
        [
            Waiting, Shadow, Running, Running, Running, Running, Bake, Done
        ]
    );
    assert_eq!(
        world.written,
        [
            "base=990,candidate=10",
            "base=950,candidate=50",
            "base=750,candidate=250",
            "base=500,candidate=500",
            "candidate=1000"
        ]
    );
}

#[test]
fn a_candidate_that_fails_copies_meets_no_user() {
    for chance in 0..8 {
        let mut world = World::new("");
        (world.chance, world.shadow_fails) = (chance, 0.05);
        assert_eq!(world.end(3_600), State::RolledBack, "{chance}");
        assert_eq!(world.written, Vec::<String>::new());
        assert!(world.why().contains("it fails copies more often"));
    }
}

#[test]
fn a_candidate_that_fails_users_is_taken_back() {
    for chance in 0..8 {
        let mut world = World::new("");
        (world.chance, world.fails) = (chance, 0.05);
        assert_eq!(world.end(7_200), State::RolledBack, "{chance}");
        assert_eq!(world.share(), 0);
        assert!(world.failed < 100, "{chance}: {} failed", world.failed);
        assert!(world.why().contains("it fails users more often"));
        // Nothing happens after that by itself.
        let written = world.written.len();
        world.run(600);
        assert_eq!(world.written.len(), written);
    }
}

#[test]
fn identical_candidates_are_promoted() {
    let promoted = (0..20).filter(|chance| {
        let mut world = World::new("bake=0");
        (world.chance, world.fails, world.shadow_fails) = (*chance, 0.0005, 0.0005);
        world.end(7_200) == State::Done
    });
    assert!(promoted.count() >= 19);
}

#[test]
fn without_shadow_first_the_steps_begin_at_once() {
    let mut world = World::new("shadow_first=off");
    world.tick();
    assert_eq!((world.state(), world.share()), (State::Running, 10));
}

#[test]
fn a_candidate_without_endpoints_is_waited_for() {
    let mut world = World::new("shadow_first=off");
    world.build.clear();
    world.run(5);
    assert_eq!(world.why(), "the candidate has no endpoint");
    world.build = ["http://c/".to_owned()].into();
    world.is_up = false;
    world.run(5);
    assert_eq!(world.why(), "no endpoint of the candidate is up");
    world.is_up = true;
    world.run(5);
    assert_eq!(world.state(), State::Running);
    // All of them taken away: so is its share.
    world.build.clear();
    world.run(1);
    assert_eq!((world.state(), world.share()), (State::Waiting, 0));
}

#[test]
fn what_shadow_lacks_is_said() {
    let mut world = World::new("");
    world.pairs = 0;
    world.copies = Copies::Missing("run this".to_owned());
    world.run(5);
    assert_eq!(
        (world.state(), world.why().as_str()),
        (State::Shadow, "run this")
    );
    world.copies = Copies::Compared;
    world.run(5);
    assert_eq!(world.why(), "comparing copies");
}

#[test]
fn comparisons_of_an_older_build_do_not_count() {
    let mut world = World::new("");
    world.counters.shadow = ShadowCounts {
        other: 1_000_000,
        ..ShadowCounts::default()
    };
    world.pairs = 0;
    world.run(10);
    assert_eq!(world.state(), State::Shadow);
    // The hash was deleted, and filled anew.
    world.counters.shadow = ShadowCounts::default();
    world.pairs = 20;
    world.run(60);
    assert_eq!(world.state(), State::Running);
}

#[test]
fn a_rolled_back_candidate_begins_anew_with_another_build() {
    let mut world = World::new("shadow_first=off");
    world.fails = 1.0;
    assert_eq!(world.end(600), State::RolledBack);
    let trial = world.memory().trial;
    world.fails = 0.0;
    world.run(60);
    assert_eq!(world.state(), State::RolledBack);
    world.build = ["http://c2/".to_owned()].into();
    world.run(2);
    assert_eq!(
        (world.state(), world.memory().trial),
        (State::Running, trial + 1)
    );
}

#[test]
fn another_build_in_mid_rollout_goes_back_to_base_and_one_more_endpoint_does_not() {
    let mut world = World::new("shadow_first=off");
    world.run(120);
    let trial = world.memory().trial;
    world.build.insert("http://c2/".to_owned());
    world.run(1);
    assert_eq!((world.share(), world.memory().trial), (50, trial + 1));
    world
        .fields
        .insert("shadow_first".to_owned(), "on".to_owned());
    world.pairs = 0;
    world.build = ["http://c3/".to_owned()].into();
    world.run(1);
    assert_eq!((world.state(), world.share()), (State::Shadow, 0));
    assert_eq!(world.memory().trial, trial + 2);
}

#[test]
fn a_split_that_is_not_what_the_weights_say_holds_the_rollout() {
    let mut world = World::new("shadow_first=off steps=50");
    world.lost = 0.5;
    assert_eq!(world.end(600), State::Paused);
    assert!(world.why().starts_with("the split does not match"));
    world.lost = 0.0;
    let trial = world.memory().trial;
    world.order("running");
    world.run(2);
    assert_eq!(
        (world.state(), world.memory().trial),
        (State::Running, trial + 1)
    );
}

#[test]
fn too_little_traffic_holds_it_or_not_as_the_operator_wants() {
    let mut world = World::new("shadow_first=off hold_after=1h steps=50");
    world.rate = 0;
    assert_eq!(world.end(4_000), State::Paused);
    assert_eq!(world.why(), "not enough traffic: 0 of 441");
    let mut world = World::new("shadow_first=off hold_after=1h steps=50 on_timeout=promote bake=0");
    world.rate = 0;
    assert_eq!(world.end(4_000), State::Done);
}

#[test]
fn slow_steps_are_passed_over_up_to_a_quarter() {
    let mut world = World::new("shadow_first=off");
    world.rate = 1;
    world.run(2);
    world.rate = 0;
    world.run(200);
    assert_eq!((world.state(), world.share()), (State::Running, 250));
    world.run(600);
    assert_eq!((world.state(), world.share()), (State::Running, 250));
}

#[test]
fn where_nothing_is_counted_no_step_is_passed_over() {
    let mut world = World::new("shadow_first=off");
    world.rate = 0;
    world.run(4_000);
    assert_eq!((world.state(), world.share()), (State::Running, 10));
}

#[test]
fn counts_that_were_lost_do_not_hold_a_step_for_ever() {
    let mut world = World::new("shadow_first=off steps=1,50");
    world.run(150);
    assert_eq!(world.share(), 500);
    world.counters.trial = crate::judge::trial::Trial::default();
    world.run(200);
    assert_eq!(world.state(), State::Bake);
}

#[test]
fn where_callers_stay_callers_open_the_next_step() {
    let mut world = World::new("shadow_first=off");
    world.unit = Unit::Caller;
    world.run(600);
    assert_eq!((world.state(), world.share()), (State::Running, 10));
    let arms = world.counters.trial.shares.get_mut(&10).unwrap();
    arms.candidate.first = 100;
    arms.base.first = 9_900;
    world.run(2);
    assert_eq!((world.state(), world.share()), (State::Running, 50));
}

#[test]
fn what_is_proven_is_acted_on_before_a_new_endpoint() {
    let mut world = World::new("shadow_first=off");
    world.run(50);
    let arms = world.counters.trial.shares.get_mut(&10).unwrap();
    arms.candidate.bad = arms.candidate.requests;
    world.build.insert("http://c2/".to_owned());
    world.run(1);
    assert_eq!((world.state(), world.share()), (State::RolledBack, 0));
}

#[test]
fn fewer_endpoints_are_the_same_build() {
    let mut world = World::new("shadow_first=off");
    world.build.insert("http://c2/".to_owned());
    world.run(30);
    let trial = world.memory().trial;
    world.build.remove("http://c2/");
    world.run(2);
    assert_eq!((world.share(), world.memory().trial), (10, trial));
}

#[test]
fn nothing_is_promoted_before_safety_is_proven() {
    let mut world = World::new("shadow_first=off step_min_requests=1 step_min_time=1s");
    world.rate = 10;
    world.run(60);
    assert_eq!((world.state(), world.share()), (State::Proof, 500));
    assert!(world.end(600) == State::Bake || world.share() == 1000);
    assert!(world.counters.trial.of_candidate(Unit::Request) >= 441);
}

#[test]
fn a_candidate_that_breaks_with_everything_is_taken_back() {
    let mut world = World::new("shadow_first=off");
    while world.state_or_waiting() != State::Bake {
        world.tick();
    }
    world.fails = 1.0;
    let failed = world.failed;
    world.run(1);
    assert_eq!((world.state(), world.share()), (State::RolledBack, 0));
    assert!(world.failed - failed <= world.rate);
    assert!(world.why().contains("before it had everything"));
}

#[test]
fn baking_finds_what_is_worse_by_more_than_two_points() {
    let policy = rollout::decode("", &Fields::new()).0.unwrap();
    let memory = Memory {
        trial: 1,
        bake_base: Some((10, 10_000)),
        ..Memory::default()
    };
    let bake = |bad, requests| {
        let mut counters = Counters {
            number: 1,
            ..Counters::default()
        };
        let arms = counters.trial.shares.entry(1000).or_default();
        (arms.candidate.bad, arms.candidate.requests) = (bad, requests);
        let evidence = Evidence::weigh(&policy, &memory, Unit::Request, &counters);
        evidence.bake.unwrap().is_proven()
    };
    for (bad, requests, proven) in [
        (2, 2, false),
        (3, 3, true),
        (7, 30, true),
        (21, 1_000, false),
        (50, 1_000, true),
    ] {
        assert_eq!(bake(bad, requests), proven, "{bad} of {requests}");
    }
}

#[test]
fn at_the_end_the_candidate_may_become_base() {
    let mut world = World::new("shadow_first=off bake=1s on_finish=promote");
    assert_eq!(world.end(3_600), State::Done);
    assert_eq!(world.weights, Weights::new());
    world.build.clear();
    world.run(600);
    assert_eq!(world.state(), State::Done);
    // The next candidate is another build.
    world.build = ["http://next/".to_owned()].into();
    world.run(1);
    assert_eq!((world.state(), world.share()), (State::Running, 10));
}

#[test]
fn steps_beyond_one_half_come_after_the_proof() {
    let mut world = World::new("shadow_first=off steps=10,50,90 bake=1s");
    while world.share() < 900 {
        world.tick();
    }
    assert_eq!(world.state(), State::Finish);
    assert!(
        world
            .told
            .iter()
            .any(|(_, why)| why.contains("proven to be as good"))
    );
    assert_eq!(world.end(600), State::Done);
}

#[test]
fn another_candidate_is_another_trial() {
    let mut world = World::new("shadow_first=off");
    world.run(70);
    let trial = world.memory().trial;
    world.fields.insert("candidate".to_owned(), "v2".to_owned());
    world.run(1);
    assert_eq!(world.memory().trial, trial + 1);
    assert_eq!(world.memory().candidate, Name::parse("v2"));
}

#[test]
fn a_trial_never_takes_the_number_of_an_older_one() {
    let mut world = World::new("");
    world.counters.number = 41;
    world.tick();
    assert_eq!(world.memory().trial, 42);
}
