//! A rollout that nobody watches: said once, by one gateway, and again when it happens again.

use std::time::Duration;

use crate::alerts::alert;
use crate::support::control::{Plane, options};
use crate::support::eventually;
use crate::support::receiver::Receiver;
use crate::support::redis::Redis;

/// A gateway that does not wait long.
fn plane(redis: &Redis, instance: &str) -> Plane {
    let mut options = options(redis);
    instance.clone_into(&mut options.store.instance);
    instance.clone_into(&mut options.stats.instance);
    instance.clone_into(&mut options.watcher.instance);
    options.unwatched = Duration::from_millis(600);
    Plane::start_with(options).expect("it starts")
}

/// What events of rollouts say.
fn said(redis: &Redis) -> Vec<String> {
    let events = redis.run("XRANGE smartlink:events - +").texts();
    let words = events.into_iter();
    words
        .filter(|text| text.starts_with("nobody is watching"))
        .collect()
}

#[track_caller]
fn await_said(redis: &Redis, times: usize) {
    eventually(&format!("it was said {times} times"), || {
        (said(redis).len() >= times).then_some(())
    });
    // Whoever would say it too has looked by now.
    std::thread::sleep(Duration::from_millis(900));
    assert_eq!(said(redis).len(), times);
}

#[test]
fn a_rollout_without_a_pilot_is_told_once_by_all_gateways_together() {
    const LEASE: &str = "smartlink:internal:pilot:a";
    let redis = Redis::start();
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base http://127.0.0.1:2/ v2");
    redis.run("HSET smartlink:weights:a base 3 v2 1");
    redis.run(&format!("SET {LEASE} somebody"));
    redis.run("HSET smartlink:rollout:a candidate v2");
    let receiver = Receiver::start();
    alert(&redis, &receiver, "on rollout");
    let _planes = [plane(&redis, "one"), plane(&redis, "two")];
    std::thread::sleep(Duration::from_millis(1_200));
    assert_eq!(said(&redis), [""; 0], "somebody watches it");
    redis.run(&format!("DEL {LEASE}"));
    await_said(&redis, 1);
    let text = said(&redis).concat();
    assert!(text.starts_with("nobody is watching v2 at 25 %"), "{text}");
    let message = receiver.await_nth(0).json();
    for (field, wanted) in [
        ("kind", "rollout"),
        ("service", "a"),
        ("version", "v2"),
        ("why", text.as_str()),
        ("relief", "redis-cli HSET smartlink:rollout:a state paused"),
    ] {
        assert_eq!(
            message.get(field).and_then(|it| it.as_str()),
            Some(wanted),
            "{field}"
        );
    }
    redis.run(&format!("SET {LEASE} somebody"));
    eventually("it is watched again", || {
        (redis.run("EXISTS smartlink:internal:unwatched:a").number() == 0).then_some(())
    });
    redis.run(&format!("DEL {LEASE}"));
    await_said(&redis, 2);
}

#[test]
fn what_was_told_is_taken_back_also_after_redis_did_not_answer() {
    const LEASE: &str = "smartlink:internal:pilot:a";
    let redis = Redis::start();
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base http://127.0.0.1:2/ v2");
    redis.run("HSET smartlink:rollout:a candidate v2");
    let _plane = plane(&redis, "one");
    await_said(&redis, 1);
    // Longer than a command waits, and than the time between two looks.
    redis.freeze();
    std::thread::sleep(Duration::from_millis(2_500));
    redis.thaw();
    redis.run(&format!("SET {LEASE} somebody"));
    eventually("it is watched again", || {
        (redis.run("EXISTS smartlink:internal:unwatched:a").number() == 0).then_some(())
    });
    redis.run(&format!("DEL {LEASE}"));
    await_said(&redis, 2);
}

#[test]
fn who_only_gives_advice_is_done_or_paused_is_not_missed() {
    let redis = Redis::start();
    for (service, order) in [
        ("a", "mode advise"),
        ("b", "state paused"),
        ("c", "step_min_time 1m"),
    ] {
        redis.run(&format!(
            "HSET smartlink:endpoints:{service} http://127.0.0.1:1/ base"
        ));
        redis.run(&format!("HSET smartlink:rollout:{service} {order}"));
    }
    redis.run("HSET smartlink:pilot:c state done");
    let _plane = plane(&redis, "one");
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(said(&redis), [""; 0]);
    redis.run("HSET smartlink:pilot:c state running");
    await_said(&redis, 1);
}
