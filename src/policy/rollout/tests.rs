//! Rollouts in simulated time: what a pilot decides second by second, of whatever happens to the
//! candidate, the weights, and the person in charge.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::evidence::ShadowCounts;
use super::*;
use crate::model::decode::Fields;
use crate::model::hash::mix;
use crate::model::name::Name;
use crate::model::rollout;

/// Everything a pilot sees, and a second hand.
struct World {
    now_ms: u64,
    fields: Fields,
    weights: Weights,
    build: BTreeSet<String>,
    is_up: bool,
    copies: Copies,
    counters: Counters,
    /// The pilot's hash, as it would stand in Redis.
    pilot: Option<Fields>,
    chance: u64,
    /// Requests of users in a second, copies compared in a second.
    rate: u64,
    pairs: u64,
    /// The parts of requests that fail, of users and of copies, and that the split loses.
    fails: f64,
    shadow_fails: f64,
    lost: f64,
    /// Told decisions, and what was written about weights.
    told: Vec<(State, String)>,
    audit: Vec<(Fields, Evidence)>,
    written: Vec<String>,
    failed: u64,
}

impl World {
    fn new(fields: &str) -> Self {
        let fields = fields.split_whitespace().map(|field| {
            let (name, value) = field.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        });
        Self {
            now_ms: 1_700_000_000_000,
            fields: fields.collect(),
            weights: Weights::new(),
            build: ["http://c/".to_owned()].into(),
            is_up: true,
            copies: Copies::Compared,
            counters: Counters::default(),
            pilot: None,
            chance: 7,
            rate: 100,
            pairs: 20,
            fails: 0.0,
            shadow_fails: 0.0,
            lost: 0.0,
            told: Vec::new(),
            audit: Vec::new(),
            written: Vec::new(),
            failed: 0,
        }
    }

    fn order(&mut self, state: &str) {
        self.fields.insert("state".to_owned(), state.to_owned());
    }

    fn weigh(&mut self, text: &str) {
        self.weights = shares::parse(text).unwrap();
    }

    fn memory(&self) -> Memory {
        Memory::from_fields(self.pilot.as_ref().unwrap()).unwrap()
    }

    fn state(&self) -> State {
        self.memory().state
    }

    fn share(&self) -> u16 {
        shares::share(&self.weights, &Name::parse("candidate").unwrap()).unwrap_or_default()
    }

    fn happens(&mut self, part: f64) -> bool {
        self.chance = self.chance.wrapping_add(0x9E37_79B9_7F4A_7C15);
        // A number in [0, 1).
        let number = f64::from((mix(self.chance) >> 32) as u32) / 4_294_967_296.0;
        number < part
    }

    /// Traffic of one second, as the gateways would count it.
    fn traffic(&mut self) {
        if let Some(pilot) = &self.pilot {
            let trial = Memory::from_fields(pilot).unwrap().trial;
            if trial != self.counters.number {
                self.counters.number = trial;
                self.counters.trial = crate::judge::trial::Trial::default();
            }
        }
        for _ in 0..self.pairs {
            if self.happens(self.shadow_fails) {
                self.counters.shadow.candidate_bad_only += 1;
            } else {
                self.counters.shadow.other += 1;
            }
        }
        let share = self.share();
        // Shares are exact, as the split's are.
        let second = self.now_ms / 1000;
        let due = |at: u64| at * self.rate * u64::from(share) / 1000;
        let served = due(second) - due(second - 1);
        let (mut bad, mut counted) = (0, 0);
        for _ in 0..served {
            let failed = self.happens(self.fails);
            self.failed += u64::from(failed);
            if !self.happens(self.lost) {
                counted += 1;
                bad += u64::from(failed);
            }
        }
        let base = self.rate - served;
        let arms = self.counters.trial.shares.entry(share).or_default();
        arms.candidate.requests += counted;
        arms.candidate.bad += bad;
        arms.base.requests += base;
    }

    /// One second: traffic, then as many decisions as come.
    fn tick(&mut self) {
        self.now_ms += 1000;
        self.traffic();
        for _ in 0..8 {
            let policy = rollout::decode("", &self.fields).0.unwrap();
            let memory = self.pilot.as_ref().and_then(Memory::from_fields);
            let order = self.fields.get("state").cloned().unwrap_or_default();
            let scene = Scene {
                now_ms: self.now_ms,
                policy: &policy,
                order: &order,
                weights: &self.weights,
                weights_mistake: None,
                build: &self.build,
                is_up: self.is_up,
                has_base: true,
                counters: &self.counters,
                unit: Unit::Request,
                copies: &self.copies,
                in_force: true,
                slow: None,
            };
            let none = Memory::default();
            let known = memory.as_ref().unwrap_or(&none);
            let evidence = Evidence::weigh(&policy, known, Unit::Request, &self.counters);
            let Some(decision) = decide(&scene, memory.as_ref(), &evidence) else {
                return;
            };
            if decision.told {
                let entry = audit::entry(&scene, memory.as_ref(), &decision, &evidence, "me");
                let entry = entry.into_iter().map(|(f, v)| (f.to_owned(), v)).collect();
                let judged = memory.as_ref().unwrap_or(&decision.memory);
                let again = Evidence::weigh(&policy, judged, Unit::Request, &self.counters);
                self.audit.push((entry, again));
                let reason = decision.memory.reason.clone();
                self.told.push((decision.memory.state, reason));
            }
            let fields = decision.memory.to_fields().into_iter();
            let fields = fields.filter(|(_, text)| !text.is_empty());
            self.pilot = Some(fields.map(|(f, v)| (f.to_owned(), v)).collect());
            if let Some(weights) = decision.weights {
                self.written.push(shares::text(&weights));
                self.weights = weights;
            }
            assert!(!decision.promote || self.state() == State::Done);
        }
        panic!("decisions without end: {:?}", self.told);
    }

    fn run(&mut self, seconds: u64) -> &mut Self {
        for _ in 0..seconds {
            self.tick();
        }
        self
    }

    /// Runs until the rollout is over or held, at most so long.
    fn end(&mut self, seconds: u64) -> State {
        for _ in 0..seconds {
            self.tick();
            let state = self.state();
            if state.is_over() || state == State::Paused {
                return state;
            }
        }
        self.state()
    }

    fn why(&self) -> String {
        self.memory().reason
    }
}

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
fn weights_of_somebody_else_hold_the_rollout() {
    let mut world = World::new("shadow_first=off");
    world.run(10);
    world.weigh("base=80,candidate=20");
    world.run(600);
    assert_eq!(world.state(), State::Paused);
    assert_eq!(
        world.why(),
        "weights were set to base=80,candidate=20 by someone else"
    );
    assert_eq!(shares::text(&world.weights), "base=80,candidate=20");
    // A person lets go: on from there, which is nearest to 25 %.
    world.order("running");
    world.run(2);
    assert_eq!((world.state(), world.memory().step), (State::Running, 3));
    assert_eq!(shares::text(&world.weights), "base=80,candidate=20");
    world.run(70);
    assert_eq!(world.share(), 500);
}

#[test]
fn a_person_holds_and_ends_it_at_once() {
    let mut world = World::new("shadow_first=off");
    world.run(120);
    world.order("paused");
    world.run(600);
    assert_eq!((world.state(), world.share()), (State::Paused, 50));
    world.order("running");
    world.run(1);
    assert_eq!((world.state(), world.share()), (State::Running, 50));
    world.order("aborted");
    world.run(1);
    assert_eq!((world.state(), world.share()), (State::Aborted, 0));
    let trial = world.memory().trial;
    world.order("running");
    world.run(1);
    assert_eq!(
        (world.state(), world.memory().trial),
        (State::Running, trial + 1)
    );
}

#[test]
fn a_held_rollout_of_a_bad_candidate_says_so_and_moves_nothing() {
    let mut world = World::new("shadow_first=off");
    world.run(150);
    world.order("paused");
    world.fails = 0.5;
    let told = world.told.len();
    world.run(120);
    assert_eq!(world.state(), State::Paused);
    assert!(
        world.why().contains("held although it fails users"),
        "{}",
        world.why()
    );
    assert_eq!(world.told.len(), told + 2);
    // Whoever lets it go on has it taken back.
    world.order("running");
    world.run(1);
    assert_eq!((world.state(), world.share()), (State::RolledBack, 0));
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
    world.rate = 0;
    world.run(200);
    assert_eq!((world.state(), world.share()), (State::Running, 250));
    world.run(600);
    assert_eq!((world.state(), world.share()), (State::Running, 250));
}

#[test]
fn nothing_is_promoted_before_safety_is_proven() {
    let mut world = World::new("shadow_first=off step_min_requests=1 step_min_time=1s");
    world.rate = 10;
    world.run(60);
    assert_eq!((world.state(), world.share()), (State::Proof, 500));
    assert!(world.end(600) == State::Bake || world.share() == 1000);
    assert!(world.counters.trial.candidate_requests() >= 441);
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

impl World {
    fn state_or_waiting(&self) -> State {
        self.pilot.as_ref().map_or(State::Waiting, |_| self.state())
    }
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
fn a_guard_keeps_a_bad_candidate_at_nothing_whatever_a_program_writes() {
    let mut world = World::new("mode=guard");
    world.weigh("base=50,candidate=50");
    world.fails = 0.5;
    world.pairs = 0;
    assert_eq!(world.end(60), State::RolledBack);
    assert_eq!(world.share(), 0);
    let told = world.told.len();
    for _ in 0..20 {
        world.weigh("base=50,candidate=50");
        world.run(1);
        assert_eq!(world.share(), 0);
    }
    assert_eq!(world.told.len(), told + 2);
    // A person lets it go.
    world.order("running");
    world.fails = 0.0;
    world.weigh("base=50,candidate=50");
    world.run(30);
    assert_eq!((world.state(), world.share()), (State::Running, 500));
}

#[test]
fn a_guard_never_raises() {
    let mut world = World::new("mode=guard");
    for text in [
        "base=100",
        "base=90,candidate=10",
        "base=10,candidate=90",
        "candidate=1",
    ] {
        world.weigh(text);
        world.run(600);
        assert_eq!(shares::text(&world.weights), text);
    }
    assert_eq!(world.written, Vec::<String>::new());
}

#[test]
fn an_adviser_only_says() {
    let mut world = World::new("mode=advise");
    world.weigh("base=50,candidate=50");
    world.fails = 0.5;
    world.run(600);
    assert!(
        world.why().starts_with("take it back: it fails users"),
        "{}",
        world.why()
    );
    assert_eq!(world.written, Vec::<String>::new());
    assert_eq!(world.told.len(), 2, "{:?}", world.told);
    let mut world = World::new("mode=advise");
    world.weigh("base=50,candidate=50");
    world.run(600);
    assert!(world.why().starts_with("give it everything"));
    world.order("aborted");
    world.run(2);
    assert_eq!((world.state(), world.share()), (State::Aborted, 500));
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

#[test]
fn every_decision_can_be_computed_again_from_its_audit_entry() {
    let mut told = 0;
    for (fields, fails) in [
        ("bake=1m min_match=90%", 0.0),
        ("confidence=95%", 0.05),
        ("shadow_first=off proof=90%", 1.0),
        ("mode=guard", 0.3),
    ] {
        let mut world = World::new(fields);
        world.fails = fails;
        world.counters.shadow.triples = 10;
        if fields == "mode=guard" {
            world.weigh("base=50,candidate=50");
        }
        world.end(1_200);
        for (entry, evidence) in &world.audit {
            let again = audit::recompute(entry).unwrap();
            assert_eq!(again, *evidence, "{entry:?}");
            assert_eq!(again.harm(), evidence.harm());
            assert!(audit::sentence(entry).is_some());
            told += 1;
        }
    }
    assert!(told > 10, "{told}");
}

#[test]
fn an_audit_entry_is_a_sentence() {
    let mut world = World::new("shadow_first=off");
    world.fails = 1.0;
    world.end(100);
    let (last, _) = world.audit.last().unwrap();
    let sentence = audit::sentence(last).unwrap();
    assert!(
        sentence.contains("candidate went from running to rolled back: it fails users"),
        "{sentence}"
    );
    assert!(
        sentence.contains("Weights: base=990,candidate=10 before, base=1000 now."),
        "{sentence}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn weights_that_a_person_wrote_are_never_written_over(
        at in 1..400_u64, base in 0..1000_u32, candidate in 0..1000_u32, fails in 0.0..0.2,
        shadow in any::<bool>(),
    ) {
        prop_assume!(base + candidate > 0);
        let mut world = World::new(if shadow { "" } else { "shadow_first=off" });
        (world.fails, world.shadow_fails) = (fails, fails / 10.0);
        world.run(at);
        let before = world.written.len();
        let theirs = format!("base={base},candidate={candidate}");
        if shares::same(&shares::parse(&theirs).unwrap(), &world.weights) {
            return Ok(());
        }
        world.weigh(&theirs);
        world.run(300);
        prop_assert_eq!(world.written.len(), before);
        prop_assert!(world.state().is_over() || world.state() == State::Paused);
        if world.state() == State::Paused {
            prop_assert!(world.why().contains("by someone else"));
        }
    }

    #[test]
    fn the_candidate_never_has_more_than_its_step(
        fails in 0.0..0.1, chance in any::<u64>(), rate in 1..200_u64,
    ) {
        let mut world = World::new("");
        (world.fails, world.chance, world.rate) = (fails, chance, rate);
        for _ in 0..600 {
            world.tick();
            let allowed = [0, 10, 50, 250, 500, 1000];
            prop_assert!(allowed.contains(&world.share()));
            if world.share() == 1000 {
                prop_assert!(world.told.iter().any(|(_, why)| why.contains("proven")));
            }
        }
    }
}

#[test]
fn weights_not_served_everywhere_are_waited_for_and_not_for_ever() {
    let memory = Memory {
        trial: 1,
        state: State::Running,
        step: 1,
        share: 10,
        own: shares::parse("base=990,candidate=10"),
        candidate: Name::parse("candidate"),
        build: ["http://c/".to_owned()].into(),
        since_ms: 1_000,
        ..Memory::default()
    };
    let policy = rollout::decode("", &Fields::new()).0.unwrap();
    let counters = Counters::default();
    let evidence = Evidence::weigh(&policy, &memory, Unit::Request, &counters);
    let scene = |now_ms, in_force| Scene {
        now_ms,
        policy: &policy,
        order: "",
        weights: memory.own.as_ref().unwrap(),
        weights_mistake: None,
        build: &memory.build,
        is_up: true,
        has_base: true,
        counters: &counters,
        unit: Unit::Request,
        copies: &Copies::Compared,
        in_force,
        slow: None,
    };
    assert_eq!(
        decide(&scene(10_999, false), Some(&memory), &evidence),
        None
    );
    let on = decide(&scene(2_000, true), Some(&memory), &evidence).unwrap();
    assert!(on.memory.is_in_force && on.memory.since_ms == 2_000 && !on.told);
    let late = decide(&scene(11_000, false), Some(&memory), &evidence).unwrap();
    assert!(late.memory.is_in_force && late.memory.reason.contains("not every gateway"));
}
