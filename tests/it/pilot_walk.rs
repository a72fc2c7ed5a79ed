//! The pilot: a good candidate gets everything, a bad one nothing, and a person has the last word.

use std::collections::BTreeMap;

use smartlink::policy::rollout::audit;

use crate::support::eventually;
use crate::support::pilot::{Pilot, Rollout};
use crate::support::process::Process;
use crate::support::redis::Redis;
use crate::support::replay::run;
use crate::support::verb;

/// A rollout in a few seconds.
const QUICK: &str =
    "shadow_first off steps 10,50 step_min_time 50ms step_min_requests 50 bake 100ms";

fn weights(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    let pairs = pairs.iter();
    pairs
        .map(|(version, weight)| ((*version).to_owned(), *weight))
        .collect()
}

/// Counts until the pilot says this state.
#[track_caller]
fn count_until(rollout: &Rollout, state: &str, requests: u64, bad: u64) {
    eventually(state, || {
        if rollout.field("state") == state {
            return Some(());
        }
        rollout.count(requests, bad);
        std::thread::sleep(std::time::Duration::from_millis(20));
        None
    });
}

#[test]
fn a_good_candidate_gets_everything() {
    let redis = Redis::start();
    let rollout = Rollout::begin(&redis, "ner", QUICK);
    let _pilot = Pilot::start(&redis);
    count_until(&rollout, "done", 200, 0);
    assert_eq!(rollout.weights(), weights(&[("candidate", 1000)]));
    let shares: Vec<String> = (rollout.audit().iter())
        .filter(|entry| entry["weights"] != "unchanged")
        .map(|entry| entry["weights"].clone())
        .collect();
    assert_eq!(
        shares,
        [
            "base=900,candidate=100",
            "base=500,candidate=500",
            "candidate=1000"
        ]
    );
    let text = run(&redis, &["rollout", "status", "ner"]);
    assert!(
        text.starts_with("ner: candidate is done at 100%\n"),
        "{text}"
    );
    let text = run(&redis, &["rollout", "explain", "ner"]);
    assert!(
        text.contains("The rollout of candidate is running: the rollout begins")
            || text.contains("The rollout of candidate is waiting: the rollout begins"),
        "{text}"
    );
    assert!(
        text.contains("it is proven to be as good as base"),
        "{text}"
    );
    let text = run(&redis, &["rollout", "history", "ner"]);
    assert_eq!(text.lines().count(), rollout.audit().len(), "{text}");
}

#[test]
fn a_bad_candidate_is_taken_back_and_every_number_that_says_so_is_kept() {
    let redis = Redis::start();
    let rollout = Rollout::begin(&redis, "ner", QUICK);
    let _pilot = Pilot::start(&redis);
    rollout.await_state("running");
    count_until(&rollout, "rolled_back", 100, 10);
    assert_eq!(rollout.weights(), weights(&[("base", 1000)]));
    assert!(
        rollout
            .field("reason")
            .contains("it fails users more often than base")
    );
    let audit = rollout.audit();
    let last = audit.last().expect("an entry");
    assert_eq!(last["weights"], "base=1000");
    let again = audit::recompute(last).expect("an entry");
    assert!(again.errors.is_proven(), "{again:?}");
    assert!(again.harm().is_some_and(|harm| last["why"] == harm));
    // Before that nothing was proven.
    for entry in audit.iter().filter(|entry| entry["to"] != "rolled_back") {
        let again = audit::recompute(entry).expect("an entry");
        assert_eq!(again.harm(), None, "{entry:?}");
    }
    let events = redis.run("XREVRANGE smartlink:events + - COUNT 1").texts();
    assert!(events.iter().any(|text| text == "rollout"), "{events:?}");
    assert!(
        events
            .iter()
            .any(|text| text.starts_with("rolled_back: it fails users")),
        "{events:?}"
    );
}

#[test]
fn a_person_holds_lets_go_and_ends_it() {
    let redis = Redis::start();
    let rollout = Rollout::begin(&redis, "ner", "shadow_first off steps 10,50");
    let _pilot = Pilot::start(&redis);
    rollout.await_state("running");
    assert_eq!(rollout.candidate(), 100);
    assert_eq!(run(&redis, &["rollout", "pause", "ner"]), "ner: paused\n");
    rollout.await_state("paused");
    // Somebody else sets the weights; going on means from there.
    rollout.weigh("base 60 candidate 40");
    assert_eq!(run(&redis, &["rollout", "resume", "ner"]), "ner: running\n");
    rollout.await_state("running");
    assert_eq!(
        rollout.weights(),
        weights(&[("base", 60), ("candidate", 40)])
    );
    assert_eq!(rollout.field("step"), "2");
    rollout.weigh("base 70 candidate 30");
    rollout.await_state("paused");
    assert_eq!(
        rollout.field("reason"),
        "weights were set to base=70,candidate=30 by someone else"
    );
    // Running stands there already: going on is another word for it.
    assert_eq!(run(&redis, &["rollout", "resume", "ner"]), "ner: running\n");
    rollout.await_state("running");
    assert_eq!(run(&redis, &["rollout", "abort", "ner"]), "ner: aborted\n");
    rollout.await_state("aborted");
    assert_eq!(rollout.weights(), weights(&[("base", 1000)]));
    let status = run(&redis, &["rollout", "status", "ner", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["pilot"]["state"], "aborted");
}

#[test]
fn a_gateway_with_the_pilot_inside_walks_alone() {
    let redis = Redis::start();
    let rollout = Rollout::begin(&redis, "ner", QUICK);
    let _gateway = Process::start_with(&redis, "one", |command| command.arg("--pilot"));
    count_until(&rollout, "done", 200, 0);
    assert_eq!(rollout.weights(), weights(&[("candidate", 1000)]));
    let other = Rollout::begin(&redis, "ocr", QUICK);
    count_until(&other, "rolled_back", 200, 100);
    assert_eq!(other.candidate(), 0);
}

#[test]
fn a_start_says_where_the_candidate_has_no_endpoint() {
    let redis = Redis::start();
    for (url, value, missing) in [
        ("http://127.0.0.1:1/", "base", true),
        ("http://127.0.0.1:2/", "v2", true),
        ("http://127.0.0.1:3/", "candidate off", true),
        ("http://127.0.0.1:3/", "candidate weight=2", false),
    ] {
        redis.call(&["HSET", "smartlink:endpoints:ner", url, value]);
        let ended = verb::run(&redis, &["rollout", "start", "ner"]);
        assert_eq!((ended.code, ended.out.as_str()), (0, "ner: running\n"));
        let said = ended
            .told
            .contains("smartlink:endpoints:ner: no endpoint has version candidate");
        assert_eq!(said, missing, "{ended:?}");
    }
}

#[test]
fn a_state_that_is_no_order_is_not_heard() {
    let redis = Redis::start();
    let rollout = Rollout::begin(&redis, "ner", "shadow_first off steps 10,50");
    let _pilot = Pilot::start(&redis);
    rollout.await_state("running");
    rollout.weigh("base 600 candidate 400");
    rollout.await_state("paused");
    rollout.set("state pasued");
    // What it writes shows that it has looked, and that the mistake is in nobody's way.
    eventually("harm is said", || {
        rollout.count(100, 40);
        std::thread::sleep(std::time::Duration::from_millis(20));
        rollout
            .field("reason")
            .contains("held although")
            .then_some(())
    });
    assert_eq!(rollout.field("state"), "paused");
    assert_eq!(rollout.field("order"), "");
    assert_eq!(rollout.candidate(), 400);
    rollout.set("state aborted");
    rollout.await_state("aborted");
    assert_eq!(rollout.candidate(), 0);
}

#[test]
fn who_stops_a_rollout_is_obeyed_whatever_else_its_hash_says() {
    let redis = Redis::start();
    let rollout = Rollout::begin(&redis, "ner", "shadow_first off steps 10,50");
    let _pilot = Pilot::start(&redis);
    rollout.await_state("running");
    rollout.set("bakee 1 state paused");
    rollout.await_state("paused");
    assert_eq!(rollout.candidate(), 100);
    rollout.set("state aborted");
    rollout.await_state("aborted");
    assert_eq!(rollout.candidate(), 0);
}

#[test]
fn keys_of_another_type_do_not_keep_harm_from_being_ended() {
    let redis = Redis::start();
    let rollout = Rollout::begin(&redis, "ner", QUICK);
    let _pilot = Pilot::start(&redis);
    rollout.await_state("running");
    redis.run("SET smartlink:audit:ner x");
    redis.run("SET smartlink:events x");
    count_until(&rollout, "rolled_back", 100, 10);
    assert_eq!(rollout.candidate(), 0);
    let last = rollout.audit().pop().expect("an entry");
    assert_eq!(last["to"], "rolled_back");
    assert!(redis.run("XLEN smartlink:events").number() > 0);
}

#[test]
fn copies_come_first_and_what_is_missing_is_said() {
    let redis = Redis::start();
    let rollout = Rollout::begin(&redis, "ner", "");
    let _pilot = Pilot::start(&redis);
    rollout.await_state("shadow");
    let missing =
        "no copies for candidate: redis-cli HSET smartlink:shadow:ner candidate candidate";
    eventually("it is said", || {
        (rollout.field("reason") == missing).then_some(())
    });
    redis.run("HSET smartlink:shadow:ner candidate candidate");
    let missing = "no worker compares copies: smartlink shadow ner";
    eventually("it is said", || {
        (rollout.field("reason") == missing).then_some(())
    });
    let results = "smartlink:shadow-results:ner:candidate";
    redis.run(&format!("HINCRBY {results} both_ok 440"));
    assert_eq!(rollout.weights(), BTreeMap::new());
    redis.run(&format!("HINCRBY {results} both_ok 10"));
    rollout.await_state("running");
    assert_eq!(rollout.candidate(), 10);
}

#[test]
fn a_candidate_that_fails_copies_never_gets_a_weight() {
    let redis = Redis::start();
    let services: Vec<String> = (0..20).map(|n| format!("s{n}")).collect();
    let rollouts: Vec<Rollout> = (services.iter())
        .map(|service| Rollout::begin(&redis, service, "steps 1,50"))
        .collect();
    let _pilot = Pilot::start(&redis);
    for (rollout, service) in rollouts.iter().zip(&services) {
        rollout.await_state("shadow");
        redis.run(&format!(
            "HSET smartlink:shadow-results:{service}:candidate both_ok 196 candidate_bad_only 30"
        ));
    }
    for rollout in &rollouts {
        rollout.await_state("rolled_back");
        assert_eq!(rollout.weights(), BTreeMap::new());
        assert!(
            rollout
                .audit()
                .iter()
                .all(|entry| entry["weights"] == "unchanged")
        );
    }
}

#[test]
fn at_the_end_the_candidate_becomes_base() {
    let redis = Redis::start();
    let rollout = Rollout::begin(&redis, "ner", &format!("{QUICK} on_finish promote"));
    redis.run("HSET smartlink:endpoints:ner http://127.0.0.1:3/ner previous");
    redis.call(&[
        "HSET",
        "smartlink:endpoints:ner",
        "http://127.0.0.1:2/more",
        "candidate weight=3",
    ]);
    let _pilot = Pilot::start(&redis);
    count_until(&rollout, "done", 200, 0);
    assert_eq!(rollout.weights(), BTreeMap::new());
    let endpoints = redis.hash("smartlink:endpoints:ner");
    let endpoints: Vec<(&str, &str)> = endpoints
        .iter()
        .map(|(url, words)| (url.as_str(), words.as_str()))
        .collect();
    assert_eq!(
        endpoints,
        [
            ("http://127.0.0.1:1/ner", "previous"),
            ("http://127.0.0.1:2/more", "base weight=3"),
            ("http://127.0.0.1:2/ner", "base"),
            ("http://127.0.0.1:3/ner", "previous off"),
        ]
    );
}

#[test]
fn a_pilot_confined_as_the_manual_says_walks() {
    let redis = Redis::start();
    let manual = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/redis-acl.md");
    let manual = std::fs::read_to_string(manual).expect("the manual");
    let user = manual
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with("ACL SETUSER pilot"));
    redis.run(user.expect("a pilot"));
    let rollout = Rollout::begin(&redis, "ner", &format!("{QUICK} on_finish promote"));
    let url = redis.url().replace("redis://", "redis://pilot:secret@");
    let _pilot = Pilot::start_at(&url);
    count_until(&rollout, "done", 200, 0);
    assert_eq!(rollout.weights(), BTreeMap::new());
}

#[test]
fn a_guard_takes_back_what_a_program_gives() {
    let redis = Redis::start();
    let rollout = Rollout::begin(&redis, "ner", "mode guard");
    rollout.weigh("base 50 candidate 50");
    let _pilot = Pilot::start(&redis);
    rollout.await_state("running");
    let trial = rollout.field("trial");
    redis.run(&format!("HSET smartlink:trial:ner:candidate trial {trial} 500.candidate.requests 100 500.candidate.bad 60 500.base.requests 100"));
    rollout.await_state("rolled_back");
    for _ in 0..10 {
        rollout.weigh("base 50 candidate 50");
        eventually("it is taken back", || {
            (rollout.candidate() == 0).then_some(())
        });
    }
    rollout.set("state running");
    rollout.await_state("waiting");
    rollout.weigh("base 50 candidate 50");
    rollout.await_state("running");
    assert_eq!(rollout.candidate(), 50);
}
