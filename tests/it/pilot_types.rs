//! Keys under which something stands that is no hash: no rollback waits for them.

use std::time::Duration;

use crate::support::eventually;
use crate::support::pilot::{Pilot, Rollout};
use crate::support::process::Process;
use crate::support::redis::Redis;

/// A rollout that stays at its first step.
const SLOW: &str = "shadow_first off steps 10,50 step_min_time 1h step_min_requests 0";

/// Commands that make something of another type each.
const OTHERS: [&str; 3] = ["SET", "RPUSH", "SADD"];

/// Puts something of another type in place of a key; nobody sees it absent.
fn put(redis: &Redis, command: &str, key: &str) {
    redis.run(&format!("{command} beside x"));
    redis.run(&format!("RENAME beside {key}"));
}

/// Counts failures of the candidate at 10 % until the pilot says that it took it back.
#[track_caller]
fn fail_until_taken_back(redis: &Redis, rollout: &Rollout, service: &str) {
    eventually("it is taken back", || {
        if rollout.field("state") == "rolled_back" {
            return Some(());
        }
        count(redis, rollout, service, 100, 10);
        std::thread::sleep(Duration::from_millis(20));
        None
    });
}

/// Counts as gateways do that serve 10 %, whatever stands in place of the weights.
fn count(redis: &Redis, rollout: &Rollout, service: &str, requests: u64, bad: u64) {
    let trial = rollout.field("trial");
    if trial.is_empty() {
        return;
    }
    let key = format!("smartlink:trial:{service}:candidate");
    if redis.hash(&key).get("trial") != Some(&trial) {
        redis.run(&format!("DEL {key}"));
        redis.run(&format!("HSET {key} trial {trial}"));
    }
    let served = requests / 10;
    let base = requests - served;
    let add = "redis.call('HINCRBY', KEYS[1], ARGV[1], ARGV[2]) redis.call('HINCRBY', KEYS[1], \
               ARGV[3], ARGV[4]) redis.call('HINCRBY', KEYS[1], ARGV[5], ARGV[6])";
    let numbers = [served, bad.min(served), base].map(|number| number.to_string());
    let [served, bad, base] = numbers.each_ref().map(String::as_str);
    #[rustfmt::skip]
    redis.call(&[
        "EVAL", add, "1", &key,
        "100.candidate.requests", served, "100.candidate.bad", bad, "100.base.requests", base,
    ]);
}

#[test]
fn weights_that_are_no_hash_hold_no_rollback() {
    let redis = Redis::start();
    let modes = ["drive", "guard", "guard"];
    let key = |service: &str| format!("smartlink:weights:{service}");
    let services = ["one", "two", "three"];
    let rollouts = services.map(|service| Rollout::begin(&redis, service, SLOW));
    for (rollout, mode) in rollouts.iter().zip(modes) {
        if mode == "guard" {
            rollout.set("mode guard");
            rollout.weigh("base 900 candidate 100");
        }
    }
    let _pilot = Pilot::start(&redis);
    for rollout in &rollouts {
        rollout.await_state("running");
    }
    for (service, command) in services.iter().zip(OTHERS) {
        put(&redis, command, &key(service));
    }
    rollouts[0].await_state("paused");
    assert_eq!(
        rollouts[0].field("reason"),
        "the weights cannot be read: what stands there is no hash"
    );
    assert_eq!(rollouts[0].field("share"), "10%");
    for (rollout, service) in rollouts.iter().zip(services) {
        fail_until_taken_back(&redis, rollout, service);
        let weights = redis.hash(&key(service));
        assert_eq!(weights["base"], "1000", "{service}: {weights:?}");
        assert_eq!(weights["candidate"], "0", "{service}: {weights:?}");
        let last = rollout.audit().pop().expect("an entry");
        assert!(
            last["why"].contains("was no hash, and is replaced"),
            "{last:?}"
        );
    }
}

#[test]
fn a_rollout_that_is_no_hash_goes_on_as_it_was_and_is_named() {
    let redis = Redis::start();
    let rollout = Rollout::begin(&redis, "ner", SLOW);
    let _gateway = Process::start_with(&redis, "one", |command| command.arg("--pilot"));
    rollout.await_state("running");
    for command in OTHERS {
        put(&redis, command, "smartlink:rollout:ner");
        eventually("it is named", || {
            let errors = redis.hash("smartlink:errors");
            let named = errors.get("smartlink:rollout:ner")?;
            named.contains("want a hash").then_some(())
        });
    }
    assert_eq!(rollout.field("state"), "running");
    fail_until_taken_back(&redis, &rollout, "ner");
    assert_eq!(rollout.candidate(), 0);
}

#[test]
fn endpoints_that_are_no_hash_take_nothing_from_the_candidate() {
    let redis = Redis::start();
    let rollout = Rollout::begin(&redis, "ner", SLOW);
    let _pilot = Pilot::start(&redis);
    rollout.await_state("running");
    for object in ["endpoints:ner", "service:ner", "defaults", "shadow:ner"] {
        redis.run(&format!("SET smartlink:{object} x"));
    }
    // It writes its evidence anew each second: it has looked.
    let before = rollout.field("evidence");
    eventually("it has looked", || {
        count(&redis, &rollout, "ner", 100, 0);
        (rollout.field("evidence") != before).then_some(())
    });
    assert_eq!(rollout.field("state"), "running");
    assert_eq!(rollout.candidate(), 100);
    fail_until_taken_back(&redis, &rollout, "ner");
    assert_eq!(rollout.candidate(), 0);
}

#[test]
fn what_only_pilots_write_is_written_anew() {
    let redis = Redis::start();
    let rollout = Rollout::begin(&redis, "ner", SLOW);
    let _pilot = Pilot::start(&redis);
    rollout.await_state("running");
    for key in ["smartlink:pilot:ner", "smartlink:internal:pilot:ner"] {
        // The lease is a text, and a text is somebody else's.
        let skipped = usize::from(key.contains("internal"));
        for command in OTHERS.into_iter().skip(skipped) {
            put(&redis, command, key);
            eventually("it is written anew", || {
                let wanted = if key.contains("internal") {
                    "string"
                } else {
                    "hash"
                };
                let kind = redis.run(&format!("TYPE {key}")).texts();
                (kind == [wanted]).then_some(())
            });
        }
    }
    rollout.await_state("running");
    fail_until_taken_back(&redis, &rollout, "ner");
    assert_eq!(rollout.candidate(), 0);
}
