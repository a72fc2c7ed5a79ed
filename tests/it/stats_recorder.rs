//! What is counted arrives in Redis: through faults, restarts and the end of the gateway.
#![expect(
    clippy::indexing_slicing,
    reason = "a panic fails the test, which is what is wanted"
)]

use std::time::Duration;

use smartlink::model::table::Service;
use smartlink::stats::Outcome;

use crate::support::control::{Plane, options};
use crate::support::redis::Redis;
use crate::support::{eventually, secs};

fn plane(redis: &Redis) -> Plane {
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base");
    Plane::start(redis)
}

fn service(plane: &Plane) -> std::sync::Arc<Service> {
    eventually("it is served", || plane.table().services.get("a").cloned())
}

/// Counts so many requests as a data-plane thread does.
fn serve(plane: &Plane, requests: u64) {
    let service = service(plane);
    let outcome = Outcome {
        status: 200,
        total_us: 1_000,
        ..Outcome::default()
    };
    for _ in 0..requests {
        plane.control.counters[0].count_version(&service.versions[0], &outcome);
    }
}

fn counted(redis: &Redis) -> u64 {
    let hash = redis.hash("smartlink:stats:a:base");
    hash.get("requests")
        .map_or(0, |text| text.parse().expect("a number"))
}

#[track_caller]
fn await_count(redis: &Redis, wanted: u64) {
    eventually(&format!("{wanted} are counted"), || {
        (counted(redis) == wanted).then_some(())
    });
}

#[test]
fn a_request_is_counted_in_redis_soon_and_once() {
    let redis = Redis::start();
    let plane = plane(&redis);
    serve(&plane, 1);
    await_count(&redis, 1);
    serve(&plane, 10);
    await_count(&redis, 11);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(counted(&redis), 11);
}

#[test]
fn an_idle_gateway_tells_nothing() {
    let redis = Redis::start();
    let _plane = plane(&redis);
    std::thread::sleep(Duration::from_millis(500));
    let stats = redis.run("INFO commandstats").texts().concat();
    assert!(!stats.contains("cmdstat_hmget"), "{stats}");
}

#[test]
fn served_is_counted_with_redis_killed_frozen_and_restarted_empty() {
    let mut redis = Redis::start();
    let plane = plane(&redis);
    let mut served = 0;
    let mut some = |plane: &Plane| {
        serve(plane, 100);
        served += 100;
        std::thread::sleep(Duration::from_millis(120));
        served
    };
    for round in 0..4 {
        some(&plane);
        if round % 2 == 0 {
            redis.kill();
            some(&plane);
            redis.restart();
        } else {
            redis.freeze();
            some(&plane);
            std::thread::sleep(Duration::from_millis(1_500));
            redis.thaw();
        }
        some(&plane);
    }
    let served = some(&plane);
    await_count(&redis, served);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(counted(&redis), served);
}

#[test]
fn a_gateway_that_stops_tells_its_last_counts() {
    let redis = Redis::start();
    let mut options = options(&redis);
    options.recorder.interval = secs(3600);
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base");
    let plane = Plane::start_with(options).expect("it starts");
    serve(&plane, 7);
    drop(plane);
    assert_eq!(counted(&redis), 7);
}

#[test]
fn counts_may_go_to_another_redis() {
    let (redis, other) = (Redis::start(), Redis::start());
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base");
    let mut options = options(&redis);
    options.stats.url = other.url();
    let plane = Plane::start_with(options).expect("it starts");
    serve(&plane, 3);
    await_count(&other, 3);
    assert_eq!(counted(&redis), 0);
}

#[test]
fn where_scripts_are_refused_counting_goes_on() {
    let redis = Redis::start();
    redis.run("ACL SETUSER plain on >x ~* &* +@all -evalsha -eval");
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base");
    let mut options = options(&redis);
    options.stats.user = Some("plain".to_owned());
    options.stats.password = Some("x".to_owned());
    let plane = Plane::start_with(options).expect("it starts");
    serve(&plane, 5);
    await_count(&redis, 5);
    serve(&plane, 5);
    await_count(&redis, 10);
}
