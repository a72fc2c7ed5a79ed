//! `smartlink wait`: it ends when every gateway serves what stands, and not before.

use std::thread;

use serde_json::Value;

use crate::support::control::{Plane, options};
use crate::support::redis::Redis;
use crate::support::verb::{bad, good, run};

#[test]
fn after_it_every_gateway_serves_what_was_written_before() {
    let redis = Redis::start();
    let planes = ["one", "two"].map(|name| {
        let mut options = options(&redis);
        name.clone_into(&mut options.watcher.instance);
        name.clone_into(&mut options.store.instance);
        Plane::start_with(options).expect("it starts")
    });
    let served = |text: &str| planes.iter().all(|plane| plane.weights("a") == text);
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base http://127.0.0.1:2/ v2");
    for n in 1..10 {
        redis.run(&format!("HSET smartlink:weights:a base {n} v2 1"));
        let out = good(&redis, &["wait"]);
        assert!(served(&format!("base {n} v2 1")), "{n}");
        assert!(out.contains("one serves what stands"), "{out}");
    }
    let json: Value = serde_json::from_str(&good(&redis, &["wait", "--json"])).expect("JSON");
    let gateways = json["gateways"].as_array().expect("a list");
    assert_eq!(gateways.len(), 2);
    assert_eq!(gateways[0]["digest"], gateways[1]["digest"]);
}

#[test]
fn a_gateway_that_hears_nothing_reads_everything_for_it() {
    let redis = Redis::start();
    let plane = Plane::start_hearing(&redis);
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base http://127.0.0.1:2/ v2");
    good(&redis, &["wait"]);
    // From here on nobody is notified, and the gateway has not noticed yet.
    redis.run("CONFIG SET notify-keyspace-events  KEg");
    redis.run("HSET smartlink:weights:a base 3 v2 1");
    good(&redis, &["wait"]);
    assert_eq!(plane.weights("a"), "base 3 v2 1");
}

#[test]
fn what_a_gateway_refuses_does_not_keep_anybody_waiting() {
    let redis = Redis::start();
    let _plane = Plane::start(&redis);
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base");
    redis.run("HSET smartlink:weights:a base nonsense");
    good(&redis, &["wait"]);
}

#[test]
fn who_waits_in_vain_is_told_for_whom() {
    let redis = Redis::start();
    let told = bad(&redis, &["wait", "--timeout", "100ms"]);
    assert!(told.contains("no gateway gave a sign of life"), "{told}");
    // One that is alive and does not answer wishes.
    redis.run("HSET smartlink:gateway:mute heartbeat_ms 1");
    redis.run("ZADD smartlink:internal:fleet 1 smartlink:gateway:mute");
    let ended = run(&redis, &["wait", "--timeout", "100ms", "--json"]);
    assert_eq!(ended.code, 1);
    assert!(ended.out.contains("\"served\": false"), "{ended:?}");
    let told = bad(&redis, &["wait", "--timeout", "100ms"]);
    assert!(told.contains("mute"), "{told}");
}

#[test]
fn many_may_wait_at_once() {
    let redis = Redis::start();
    let _plane = Plane::start(&redis);
    thread::scope(|scope| {
        let waits: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| run(&redis, &["wait"]).code))
            .collect();
        for wait in waits {
            assert_eq!(wait.join().expect("no panic"), 0);
        }
    });
}
