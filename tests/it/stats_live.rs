//! The live hashes: the last ten seconds of all gateways together.

#![expect(
    clippy::indexing_slicing,
    reason = "a panic fails the test, which is what is wanted"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use smartlink::model::table::Service;
use smartlink::stats::{Attempt, Outcome, Rejection};

use crate::support::control::{Plane, options};
use crate::support::eventually;
use crate::support::redis::Redis;

fn plane(redis: &Redis, instance: &str) -> Plane {
    let mut options = options(redis);
    for name in [
        &mut options.stats.instance,
        &mut options.store.instance,
        &mut options.watcher.instance,
    ] {
        instance.clone_into(name);
    }
    Plane::start_with(options).expect("it starts")
}

fn service(plane: &Plane) -> Arc<Service> {
    eventually("it is served", || plane.table().services.get("a").cloned())
}

/// Counts requests that took these times, as a data-plane thread does.
fn serve(plane: &Plane, version: usize, status: u16, times_us: impl Iterator<Item = u64>) {
    let service = service(plane);
    let version = &service.versions[version];
    for total_us in times_us {
        let outcome = Outcome {
            status,
            total_us,
            ..Outcome::default()
        };
        let counter = &plane.control.counters[0];
        let attempt = if status < 500 {
            Attempt::Fine
        } else {
            Attempt::Failed
        };
        counter.attempted(&version.endpoints[0], attempt, total_us);
        counter.count_version(version, &outcome);
    }
}

/// Counts requests that no version was chosen for.
fn turn_away(plane: &Plane, requests: usize) {
    let outcome = Outcome {
        status: 429,
        rejection: Some(Rejection::Rate),
        ..Outcome::default()
    };
    for _ in 0..requests {
        plane.control.counters[0].count_service(&service(plane), &outcome);
    }
}

fn live(redis: &Redis) -> BTreeMap<String, f64> {
    let hash = redis.hash("smartlink:live:a").into_iter();
    hash.map(|(field, value)| (field, value.parse().expect("plain decimal")))
        .collect()
}

#[track_caller]
fn near(live: &BTreeMap<String, f64>, field: &str, wanted: f64) {
    let got = live.get(field).copied();
    let near = got.is_some_and(|got| (got - wanted).abs() <= wanted * 0.022);
    assert!(near, "{field}: {got:?}, want {wanted}");
}

/// The admin port shows the same.
fn is_shown(plane: &Plane) {
    let (status, body) = plane.get("/api/v1/live");
    let shown: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let shown = &shown["services"]["a"];
    assert_eq!(status, 200, "{body}");
    assert!(shown["versions"]["candidate"]["rps"].is_number(), "{body}");
    assert!(shown["rejected_rps"].is_number(), "{body}");
    let endpoint = &shown["endpoints"]["http://127.0.0.1:2/"];
    assert_eq!(endpoint["version"], "candidate", "{body}");
}

#[test]
fn live_is_made_of_what_all_gateways_counted() {
    let redis = Redis::start();
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base http://127.0.0.1:2/ candidate");
    let (one, two) = (plane(&redis, "one"), plane(&redis, "two"));
    // Evenly spread, half of it by each gateway.
    serve(&one, 0, 200, (0..900).map(|i| 10_000 + i * 100));
    serve(&two, 0, 200, (0..900).map(|i| 10_050 + i * 100));
    serve(&two, 1, 200, (0..150).map(|_| 5_000));
    serve(&two, 1, 500, (0..50).map(|_| 5_000));
    turn_away(&one, 20);
    turn_away(&two, 20);
    service(&one).versions[0].endpoints[0]
        .live
        .inflight
        .store(3, Ordering::Relaxed);
    let all = eventually("everything is in it", || {
        let live = live(&redis);
        let rps = |field: &str| live.get(field).copied().unwrap_or_default();
        let whole = rps("base.rps") + rps("candidate.rps") > 199.0 && rps("rejected_rps") > 3.9;
        (whole && live.get("base.inflight") == Some(&3.0)).then_some(live)
    });
    for (field, wanted) in [
        ("base.rps", 180.0),
        ("base.error_rate", 0.0),
        ("base.p50_ms", 55.0),
        ("base.p90_ms", 91.0),
        ("base.p99_ms", 99.1),
        ("base.share", 0.9),
        ("candidate.rps", 20.0),
        ("candidate.error_rate", 0.25),
        ("candidate.p50_ms", 5.0),
        ("candidate.p99_ms", 5.0),
        ("candidate.inflight", 0.0),
        ("candidate.share", 0.1),
        ("rejected_rps", 4.0),
    ] {
        near(&all, field, wanted);
    }
    assert_eq!(all.len(), 15, "{all:?}");
    let candidate = eventually("its endpoint is in it", || {
        let endpoints = redis.hash("smartlink:live:a:endpoints");
        let entry = endpoints.get("http://127.0.0.1:2/")?;
        let entry: serde_json::Value = serde_json::from_str(entry).expect("JSON");
        (entry["requests"] == 200).then_some(entry)
    });
    for (field, wanted) in [
        ("version", serde_json::json!("candidate")),
        ("state", serde_json::json!("up")),
        ("inflight", serde_json::json!(0)),
        ("requests", serde_json::json!(200)),
        ("errors", serde_json::json!(50)),
        ("ewma_ms", serde_json::json!(5.0)),
    ] {
        assert_eq!(candidate[field], wanted, "{field}");
    }
    is_shown(&one);
    assert!(redis.run("TTL smartlink:live:a").number() > 0);

    redis.run("HDEL smartlink:endpoints:a http://127.0.0.1:2/");
    eventually("the version that is gone vanishes", || {
        let gone = !live(&redis)
            .keys()
            .any(|field| field.starts_with("candidate"));
        let endpoints = redis.hash("smartlink:live:a:endpoints");
        (gone && endpoints.len() == 1).then_some(())
    });
    eventually("latency goes with the last request", || {
        let live = live(&redis);
        let idle = live.get("base.rps") == Some(&0.0) && !live.contains_key("base.p50_ms");
        idle.then_some(())
    });
}

#[test]
fn another_gateway_takes_over() {
    let redis = Redis::start();
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base");
    let one = plane(&redis, "one");
    serve(&one, 0, 200, std::iter::once(1_000));
    eventually("it leads", || {
        let holder = redis.run("GET smartlink:internal:live-lease").texts();
        (holder == ["one"]).then_some(())
    });
    drop(one);
    let two = plane(&redis, "two");
    eventually("the other leads", || {
        serve(&two, 0, 200, std::iter::once(1_000));
        std::thread::sleep(Duration::from_millis(50));
        let live = live(&redis);
        live.get("base.rps").filter(|rps| **rps > 1.0).copied()
    });
    let holder = redis.run("GET smartlink:internal:live-lease").texts();
    assert_eq!(holder, ["two"]);
}

#[test]
fn who_asks_the_admin_port_for_what_is_live_is_told_that_redis_does_not_say() {
    let mut redis = Redis::start();
    let plane = plane(&redis, "one");
    let nothing = eventually("it is asked", || {
        let (status, body) = plane.get("/api/v1/live");
        (status == 200).then_some(body)
    });
    assert_eq!(nothing, "{\"services\":{}}\n");
    redis.freeze();
    assert_eq!(plane.get("/api/v1/live").0, 503);
    redis.thaw();
    redis.kill();
    assert_eq!(plane.get("/api/v1/live").0, 503);
}
