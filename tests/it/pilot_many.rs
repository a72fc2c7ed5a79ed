//! Several pilots, killed, frozen and fenced: one decision, and never over what a person wrote.

use std::collections::BTreeMap;
use std::time::Duration;

use smartlink::model::keys::Keys;
use smartlink::model::name::Name;
use smartlink::store::{Move, Moved, Options, Rollouts, Weigh};

use crate::support::pilot::{Pilot, Rollout};
use crate::support::redis::Redis;
use crate::support::{eventually, secs};

/// A rollout that takes a step at each look.
const HASTY: &str = "shadow_first off steps 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20 step_min_time 0 step_min_requests 0";
/// Services at once, and rounds of them.
const SERVICES: u64 = 25;
const ROUNDS: u64 = 4;

/// At which turns of counting a pilot is killed.
const KILLED_AT: [u64; 3] = [5, 20, 50];

/// A number that looks like chance, the same in each run.
fn random(seed: u64) -> u64 {
    smartlink::model::hash::mix(seed ^ 0x70_69_6C_6F_74)
}

#[test]
fn what_a_person_writes_is_never_written_over() {
    let redis = Redis::start();
    let pilots = [
        Pilot::start(&redis),
        Pilot::start(&redis),
        Pilot::start(&redis),
    ];
    for round in 0..ROUNDS {
        let names: Vec<String> = (0..SERVICES).map(|n| format!("s{round}.{n}")).collect();
        let rollouts: Vec<Rollout> = names
            .iter()
            .map(|name| Rollout::begin(&redis, name, HASTY))
            .collect();
        for (rollout, n) in rollouts.iter().zip(0..) {
            // Some pilots pause for longer than their lease, in the middle of anything.
            if let Some(pilot) =
                pilots.get(usize::try_from(random(round * 100 + n) % 12).unwrap_or_default())
            {
                pilot.freeze();
                std::thread::sleep(Duration::from_millis(random(n) % 40));
                pilot.thaw();
            }
            std::thread::sleep(Duration::from_millis(random(round * 1_000 + n) % 60));
            let weight = 301 + random(n) % 600;
            rollout.weigh(&format!("base {} candidate {weight}", 1000 - weight));
        }
        for (rollout, n) in rollouts.iter().zip(0..) {
            let weight = 301 + random(n) % 600;
            let theirs = BTreeMap::from([
                ("base".to_owned(), 1000 - weight),
                ("candidate".to_owned(), weight),
            ]);
            // Where it came before the pilot's first look, the pilot goes on from it.
            eventually("the pilot has seen it", || {
                let state = rollout.field("state");
                assert_eq!(
                    rollout.weights(),
                    theirs,
                    "{state}: {}",
                    rollout.field("reason")
                );
                let (own, reason) = (rollout.field("own"), rollout.field("reason"));
                let held = state == "paused" && reason.contains("by someone else");
                let adopted = own == format!("base={},candidate={weight}", 1000 - weight);
                (held || adopted).then_some(())
            });
            assert_eq!(rollout.weights(), theirs);
        }
    }
}

#[test]
fn a_pilot_that_lost_its_lease_writes_nothing() {
    let redis = Redis::start();
    redis.run("HSET smartlink:rollout:ner candidate candidate");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let options = Options {
            url: redis.url(),
            user: None,
            password: None,
            keys: Keys::new("smartlink:"),
            instance: "test".to_owned(),
        };
        let (one, other) = (
            Rollouts::connect(&options).expect("a URL"),
            Rollouts::connect(&options).expect("a URL"),
        );
        one.wait().await.expect("redis");
        other.wait().await.expect("redis");
        let service = Name::parse("ner").expect("a name");
        let weights = [(Name::parse("base").expect("a name"), 10)];
        let decided = |token: &str, turn, order: &str, before: &str| Move {
            token: token.to_owned(),
            turn,
            order: order.to_owned(),
            weigh: Weigh::Own(weights.clone().into(), before.to_owned()),
            promoted: None,
            fields: vec![("turn", "1".to_owned())],
            audit: Vec::new(),
            event: Vec::new(),
        };
        assert!(one.lead(&service, "a").await.expect("an answer"));
        assert!(!other.lead(&service, "b").await.expect("an answer"));
        let moved = other.write(&service, &decided("b", None, "", "")).await;
        assert_eq!(moved.expect("an answer"), Moved::Lease);
        // It stood still for too long.
        redis.run("DEL smartlink:internal:pilot:ner");
        assert!(other.lead(&service, "b").await.expect("an answer"));
        let refused = [
            (decided("a", None, "", ""), Moved::Lease),
            (decided("b", Some(7), "", ""), Moved::Turn),
            (decided("b", None, "paused", ""), Moved::Order),
            (decided("b", None, "", "base=5"), Moved::Weights),
        ];
        for (decided, wanted) in refused {
            assert_eq!(
                one.write(&service, &decided).await.expect("an answer"),
                wanted
            );
            assert!(redis.hash("smartlink:weights:ner").is_empty());
            assert!(redis.hash("smartlink:pilot:ner").is_empty());
        }
        let moved = other.write(&service, &decided("b", None, "", "")).await;
        assert_eq!(moved.expect("an answer"), Moved::Done);
        assert_eq!(redis.hash("smartlink:weights:ner")["base"], "10");
        // Sent twice, it is refused.
        let moved = other.write(&service, &decided("b", None, "", "")).await;
        assert_eq!(moved.expect("an answer"), Moved::Turn);
        other.leave(&service, "b").await.expect("an answer");
        assert!(one.lead(&service, "a").await.expect("an answer"));
    });
}

#[test]
fn another_pilot_goes_on_where_one_was_killed() {
    let redis = Redis::start();
    let fields = "shadow_first off steps 10,50 step_min_time 0 step_min_requests 50 bake 0";
    let good = Rollout::begin(&redis, "good", fields);
    let bad = Rollout::begin(&redis, "bad", fields);
    let mut pilots = vec![Pilot::start(&redis), Pilot::start(&redis)];
    good.await_state("running");
    bad.await_state("running");
    let mut turn = 0;
    eventually("both are over", || {
        let states = (good.field("state"), bad.field("state"));
        if states == ("done".to_owned(), "rolled_back".to_owned()) {
            return Some(());
        }
        turn += 1;
        if KILLED_AT.contains(&turn) {
            pilots
                .remove(usize::try_from(random(turn) % 2).unwrap_or_default())
                .kill();
            pilots.push(Pilot::start(&redis));
        }
        good.count(20, 0);
        bad.count(20, u64::from(turn > 50 && turn % 8 == 0));
        std::thread::sleep(Duration::from_millis(20));
        None
    });
    assert!(turn > 50, "killed too late: {turn}");
    // Whoever decided, each decision follows from the numbers beside it.
    for entry in good.audit().iter().chain(&bad.audit()) {
        let again = smartlink::policy::rollout::audit::recompute(entry).expect("an entry");
        assert_eq!(
            again.harm().is_some(),
            entry["to"] == "rolled_back",
            "{entry:?}"
        );
        if entry["why"].contains("proven to be as good") {
            assert!(again.safety.is_proven(), "{entry:?}");
        }
    }
}

#[test]
fn a_pilot_that_ends_gives_its_lease_back() {
    let redis = Redis::start();
    let rollout = Rollout::begin(&redis, "ner", "");
    let pilot = Pilot::start(&redis);
    rollout.await_state("shadow");
    assert_eq!(redis.run("EXISTS smartlink:internal:pilot:ner").number(), 1);
    assert!(pilot.end());
    assert_eq!(redis.run("EXISTS smartlink:internal:pilot:ner").number(), 0);
}

#[test]
fn a_redis_that_is_lost_changes_nothing_and_an_empty_one_begins_nothing() {
    let mut redis = Redis::start();
    let fields = "shadow_first off steps 10,50 step_min_time 0 step_min_requests 50";
    let _pilot = {
        let rollout = Rollout::begin(&redis, "ner", fields);
        let pilot = Pilot::start(&redis);
        rollout.await_state("running");
        redis.freeze();
        std::thread::sleep(secs(2));
        redis.thaw();
        assert_eq!(
            (rollout.field("state").as_str(), rollout.candidate()),
            ("running", 100)
        );
        pilot
    };
    redis.kill();
    redis.restart();
    std::thread::sleep(secs(2));
    assert_eq!(
        redis
            .run("EXISTS smartlink:pilot:ner smartlink:weights:ner")
            .number(),
        0
    );
    // Written again, it begins again.
    let rollout = Rollout::begin(&redis, "ner", fields);
    rollout.await_state("running");
    assert_eq!(rollout.field("trial"), "1");
    // Weights that a failover lost are weights of somebody else.
    redis.run("DEL smartlink:weights:ner");
    rollout.await_state("paused");
    assert_eq!(
        rollout.field("reason"),
        "weights were set to none by someone else"
    );
    assert_eq!(rollout.weights(), BTreeMap::new());
}
