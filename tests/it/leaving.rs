//! A gateway that stops takes with it what it said of itself.

use smartlink::app::ControlOptions;

use super::support::control::{Plane, options};
use super::support::eventually;
use super::support::redis::Redis;

fn called(redis: &Redis, instance: &str) -> ControlOptions {
    let mut options = options(redis);
    instance.clone_into(&mut options.watcher.instance);
    instance.clone_into(&mut options.store.instance);
    instance.clone_into(&mut options.stats.instance);
    instance.clone_into(&mut options.shadow.instance);
    options
}

/// Waits until the health of the endpoint of service `name` names these gateways and no other.
#[track_caller]
fn await_gateways(redis: &Redis, name: &str, wanted: &[&str]) {
    eventually(&format!("{name} is known to {wanted:?}"), || {
        (gateways(redis, name) == wanted).then_some(())
    });
}

fn gateways(redis: &Redis, name: &str) -> Vec<String> {
    let hash = redis.hash(&format!("smartlink:health:{name}"));
    let entries = hash.values().flat_map(|json| {
        let entry: serde_json::Value = serde_json::from_str(json).expect("JSON");
        let gateways = entry.get("gateways").and_then(|it| it.as_object().cloned());
        let gateways = gateways.expect("gateways");
        gateways.into_iter().map(|(name, _)| name)
    });
    let mut gateways: Vec<String> = entries.collect();
    gateways.sort();
    gateways
}

#[test]
fn a_stop_takes_back_the_health_of_all_endpoints() {
    let redis = Redis::start();
    for service in 0..250 {
        redis.run(&format!(
            "HSET smartlink:endpoints:s{service} http://127.0.0.1:1/ base"
        ));
    }
    let one = Plane::start_with(called(&redis, "one")).expect("it starts");
    let two = Plane::start_with(called(&redis, "two")).expect("it starts");
    for name in ["s0", "s249"] {
        await_gateways(&redis, name, &["one", "two"]);
    }
    drop(one);
    for service in 0..250 {
        assert_eq!(gateways(&redis, &format!("s{service}")), ["two"]);
    }
    drop(two);
    for service in 0..250 {
        assert_eq!(redis.hash(&format!("smartlink:health:s{service}")).len(), 0);
    }
    assert_eq!(redis.hash("smartlink:internal:health").len(), 0);
}

#[test]
fn a_stop_without_redis_does_not_wait_for_it() {
    let redis = Redis::start();
    redis.run("HSET smartlink:endpoints:s http://127.0.0.1:1/ base");
    let plane = Plane::start_with(called(&redis, "one")).expect("it starts");
    await_gateways(&redis, "s", &["one"]);
    drop(redis);
    drop(plane);
}
