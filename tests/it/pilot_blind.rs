//! A pilot that cannot read counts or results of copies: what it still does, and what it leaves.

use std::time::Duration;

use crate::support::pilot::{Pilot, Rollout};
use crate::support::redis::Redis;
use crate::support::{eventually, secs};

/// A rollout that stays at its first step.
const SLOW: &str = "shadow_first off steps 10,50 step_min_time 1h step_min_requests 0";

#[test]
fn without_results_of_copies_users_are_protected_and_people_obeyed() {
    let (redis, mut shadow) = (Redis::start(), Redis::start());
    let live = Rollout::begin(&redis, "live", SLOW);
    let copied = Rollout::begin(&redis, "copied", "");
    let _pilot = Pilot::start_with(&redis.url(), &["--shadow-redis", &shadow.url()]);
    live.await_state("running");
    redis.run("HSET smartlink:shadow:copied candidate candidate");
    copied.await_state("shadow");
    eventually("a worker is missing", || {
        copied
            .field("reason")
            .starts_with("no worker")
            .then_some(())
    });
    shadow.kill();
    eventually("it is said", || {
        (copied.field("reason") == "the results of copies cannot be read").then_some(())
    });
    let late = Rollout::begin(&redis, "late", SLOW);
    eventually("it is taken back", || {
        live.count(200, 20);
        std::thread::sleep(Duration::from_millis(20));
        (live.field("state") == "rolled_back").then_some(())
    });
    assert_eq!(live.candidate(), 0);
    copied.set("state aborted");
    copied.await_state("aborted");
    // Services are looked for every two seconds.
    std::thread::sleep(secs(4));
    assert_eq!(late.field("state"), "", "old results would count in it");
    shadow.restart();
    late.await_state("running");
}

#[test]
fn without_counts_only_people_are_obeyed() {
    let (redis, mut stats) = (Redis::start(), Redis::start());
    let [one, other] = ["one", "other"].map(|name| Rollout::begin(&redis, name, SLOW));
    let _pilot = Pilot::start_with(&redis.url(), &["--stats-redis", &stats.url()]);
    one.await_state("running");
    other.await_state("running");
    stats.kill();
    // It would take a step now, if it could see what comes of it.
    one.set("step_min_time 0");
    other.set("state aborted");
    other.await_state("aborted");
    assert_eq!(other.candidate(), 0);
    std::thread::sleep(secs(3));
    assert_eq!((one.field("step").as_str(), one.candidate()), ("1", 100));
    one.set("state paused");
    one.await_state("paused");
    stats.restart();
    one.set("state running");
    eventually("it goes on", || (one.field("step") == "2").then_some(()));
}
