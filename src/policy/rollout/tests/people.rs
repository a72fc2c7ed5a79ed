//! Who wins: people, guards, other programs; and what is told of it.

use proptest::prelude::*;

use super::*;

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
fn a_guard_keeps_another_build_at_nothing_too() {
    let mut world = World::new("mode=guard");
    world.weigh("base=50,candidate=50");
    world.fails = 0.5;
    assert_eq!(world.end(60), State::RolledBack);
    world.build = ["http://c2/".to_owned()].into();
    world.run(2);
    world.weigh("base=50,candidate=50");
    world.run(2);
    assert_eq!((world.state(), world.share()), (State::RolledBack, 0));
}

#[test]
fn a_guard_goes_on_where_the_split_is_not_what_the_weights_say() {
    let mut world = World::new("mode=guard");
    world.weigh("base=50,candidate=50");
    world.lost = 0.5;
    world.run(60);
    assert_eq!(world.why(), MISDIVIDED);
    assert_eq!(world.state(), State::Running);
    world.lost = 0.0;
    world.fails = 1.0;
    world.run(60);
    assert_eq!((world.state(), world.share()), (State::RolledBack, 0));
}

#[test]
fn weights_of_a_person_are_not_taken_over_with_another_build() {
    let mut world = World::new("shadow_first=off");
    world.fails = 1.0;
    assert_eq!(world.end(600), State::RolledBack);
    world.weigh("base=900,candidate=100");
    world.build = ["http://c2/".to_owned()].into();
    world.run(60);
    assert_eq!((world.state(), world.share()), (State::Paused, 100));
    assert!(world.why().contains("by someone else"), "{}", world.why());
}

#[test]
fn who_ends_it_is_obeyed_also_where_the_weights_cannot_be_read() {
    let mut world = World::new("shadow_first=off");
    world.run(30);
    world.unread = Some(Unread::Mistake("no whole number".to_owned()));
    world.run(2);
    assert_eq!(world.state(), State::Paused);
    world.order("aborted");
    world.run(1);
    assert_eq!((world.state(), world.share()), (State::Aborted, 0));
    assert!(world.forced);
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

/// What stands in place of the weights is no hash from now on.
fn lose_weights(world: &mut World) {
    world.unread = Some(Unread::NoHash);
}

#[test]
fn what_is_no_hash_holds_a_rollout_and_proven_harm_writes_over_it() {
    let mut world = World::new("shadow_first=off");
    world.weigh("base=900,next=100");
    world.run(70);
    let share = world.share();
    lose_weights(&mut world);
    world.run(2);
    assert_eq!((world.state(), world.share()), (State::Paused, share));
    let before = world.written.len();
    world.fails = 1.0;
    assert_eq!(world.end_of_pause(60), State::RolledBack);
    assert_eq!(world.written.len(), before + 1);
    assert!(
        world.forced && world.why().contains("no hash"),
        "{}",
        world.why()
    );
    assert_eq!(world.written.last().unwrap(), "base=1000,next=111");
}

#[test]
fn a_person_who_holds_it_is_obeyed_also_where_the_weights_are_no_hash() {
    let mut world = World::new("shadow_first=off");
    world.run(70);
    world.order("paused");
    lose_weights(&mut world);
    world.fails = 1.0;
    let before = world.written.len();
    world.run(60);
    assert_eq!(world.state(), State::Paused);
    assert!(world.why().contains("held although"), "{}", world.why());
    assert_eq!(world.written.len(), before);
    world.order("aborted");
    world.run(1);
    assert_eq!(world.written.last().unwrap(), "base=1000");
    assert!(world.forced);
}

#[test]
fn a_guard_writes_over_what_is_no_hash_as_often_as_it_is_there() {
    let mut world = World::new("mode=guard shadow_first=off");
    world.weigh("base=500,candidate=500");
    world.run(5);
    lose_weights(&mut world);
    world.run(5);
    assert_eq!((world.state(), world.written.len()), (State::Running, 0));
    world.fails = 1.0;
    world.run(5);
    assert_eq!(world.state(), State::RolledBack);
    assert_eq!(world.written, ["base=1000"]);
    lose_weights(&mut world);
    world.run(2);
    assert_eq!(world.written, ["base=1000", "base=1000"]);
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
        unread: None,
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
