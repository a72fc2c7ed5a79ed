//! How a change in Redis becomes the table in force.

use std::time::{Duration, Instant};

use crate::support::control::{Plane, options};
use crate::support::redis::Redis;
use crate::support::{eventually, secs};

fn canary(redis: &Redis) {
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base http://127.0.0.1:2/ candidate");
    redis.run("HSET smartlink:weights:a base 90 candidate 10");
}

#[test]
fn one_hset_is_in_force_within_milliseconds() {
    let redis = Redis::start();
    canary(&redis);
    let plane = Plane::start_hearing(&redis);
    assert_eq!(plane.weights("a"), "base 90 candidate 10");
    plane.await_proof();
    let mut connection = redis.connect();
    let mut took = Vec::new();
    for i in 0..200 {
        let base = 100 + i;
        let weights = format!("base {base} candidate 10");
        connection.run(&format!("HSET smartlink:weights:a base {base}"));
        let written = Instant::now();
        plane.await_weights("a", &weights);
        took.push(written.elapsed());
    }
    took.sort_unstable();
    println!("median {:?}, p99 {:?}", took[100], took[198]);
    // Alone it is far below one; the machine that runs all tests at once is slower.
    assert!(
        took[100] < Duration::from_millis(5),
        "median {:?}",
        took[100]
    );
}

#[test]
fn an_exec_over_several_keys_is_never_seen_in_part() {
    let redis = Redis::start();
    let services = 40;
    let write = |n: u32| {
        let mut connection = redis.connect();
        connection.run("MULTI");
        for i in 0..services {
            connection.run(&format!("HSET smartlink:weights:s{i} base {n}"));
        }
        connection.run("EXEC");
    };
    for i in 0..services {
        redis.run(&format!(
            "HSET smartlink:endpoints:s{i} http://127.0.0.1:1/ base"
        ));
    }
    write(1);
    let plane = Plane::start_hearing(&redis);
    plane.await_proof();
    std::thread::scope(|scope| {
        scope.spawn(|| (2..300).for_each(write));
        let end = Instant::now() + secs(20);
        loop {
            let table = plane.table();
            let weights: Vec<u32> = (0..services)
                .map(|i| {
                    let service = table.services.get(&format!("s{i}")).expect("it stands");
                    service.versions[0].weight
                })
                .collect();
            assert!(weights.iter().all(|w| *w == weights[0]), "{weights:?}");
            if weights[0] == 299 {
                break;
            }
            assert!(Instant::now() < end, "stuck at {}", weights[0]);
        }
    });
}

/// How many commands were sent. What a script calls is no command of its own: the scripts are what
/// is sent.
fn sent(redis: &Redis) -> u64 {
    let stats = redis.run("INFO commandstats").texts().concat();
    let calls = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let inner = [
            "type",
            "hlen",
            "hget",
            "hset",
            "object",
            "hkeys",
            "hstrlen",
            "publish",
            "exists",
            "time",
            "pexpire",
            "get",
            "set",
            "xadd",
            "hdel",
            "info",
            "hgetall",
            "xread",
            "xrevrange",
            "zadd",
            "zcard",
            "zremrangebyscore",
        ];
        let is_inner = inner.iter().any(|it| name.split('|').next() == Some(it));
        let calls = rest.split(',').next()?.parse::<u64>().ok()?;
        (!is_inner).then_some(calls)
    };
    stats.lines().filter_map(calls).sum()
}

#[test]
fn idling_costs_no_more_than_six_commands_a_second_where_alerts_are_judged() {
    let redis = Redis::start();
    canary(&redis);
    redis.run("HSET smartlink:alert:ops url http://127.0.0.1:1/ latency_p99 1s");
    let plane = Plane::start_hearing(&redis);
    plane.await_proof();
    eventually("it judges", || {
        let known = redis.hash("smartlink:internal:alerts");
        known.contains_key("cursor").then_some(())
    });
    std::thread::sleep(secs(1));
    let before = sent(&redis);
    std::thread::sleep(secs(6));
    // One more each second asks who is at work: scripts send that command, too.
    let idle = sent(&redis) - before + 6;
    println!("{idle} commands in 6 s");
    assert!(idle <= 36, "{idle} commands in 6 s");
}

#[test]
fn one_change_costs_at_most_three_commands_and_idling_six_a_second() {
    let redis = Redis::start();
    canary(&redis);
    let plane = Plane::start_hearing(&redis);
    plane.await_proof();
    std::thread::sleep(secs(1));
    let sent = || sent(&redis);
    let before = sent();
    std::thread::sleep(secs(6));
    let idle = sent() - before;
    assert!(idle <= 36, "{idle} commands in 6 s");

    let mut connection = redis.connect();
    let begin = Instant::now();
    let before = sent();
    for i in 0..100 {
        connection.run(&format!("HSET smartlink:weights:a base {}", 100 + i));
        plane.await_weights("a", &format!("base {} candidate 10", 100 + i));
        std::thread::sleep(Duration::from_millis(5));
    }
    let allowed = 300 + 6 * (begin.elapsed().as_secs() + 1);
    let cost = sent() - before;
    assert!(cost <= allowed, "{cost} commands for 100 changes");
}

#[test]
fn many_foreign_keys_do_not_make_a_change_slower() {
    let redis = Redis::start();
    canary(&redis);
    redis.run("DEBUG POPULATE 200000 foreign");
    let plane = Plane::start_hearing(&redis);
    plane.await_weights("a", "base 90 candidate 10");
    plane.await_proof();
    let mut connection = redis.connect();
    let mut took = Vec::new();
    for i in 0..50 {
        connection.run(&format!("HSET smartlink:weights:a base {}", 100 + i));
        let written = Instant::now();
        plane.await_weights("a", &format!("base {} candidate 10", 100 + i));
        took.push(written.elapsed());
    }
    took.sort_unstable();
    assert!(took[25] < Duration::from_millis(5), "median {:?}", took[25]);
}

#[test]
fn every_way_to_take_a_key_away_is_an_order() {
    let redis = Redis::start();
    let plane = Plane::start_hearing(&redis);
    plane.await_proof();
    for line in [
        "DEL smartlink:endpoints:a",
        "UNLINK smartlink:endpoints:a",
        "HDEL smartlink:endpoints:a http://127.0.0.1:1/",
        "PEXPIRE smartlink:endpoints:a 1",
        "RENAME smartlink:endpoints:a elsewhere",
    ] {
        redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base");
        plane.await_weights("a", "base 1");
        redis.run(line);
        eventually(line, || plane.weights("a").is_empty().then_some(()));
    }
}

#[test]
fn a_mistake_is_named_until_it_is_mended() {
    let redis = Redis::start();
    canary(&redis);
    redis.run("HSET smartlink:errors smartlink:weights:gone old smartlink:weights:a old");
    let plane = Plane::start_hearing(&redis);
    plane.await_proof();
    let errors = || redis.hash("smartlink:errors");
    eventually("stale errors go", || errors().is_empty().then_some(()));
    redis.run("HSET smartlink:weights:a candidate lots");
    let named = eventually("it is named", || {
        errors().remove("smartlink:weights:a candidate")
    });
    assert!(named.contains("\"lots\" (since 20"), "{named}");
    assert_eq!(plane.weights("a"), "base 90 candidate 10");
    let (status, body) = plane.get("/api/v1/errors");
    assert_eq!(status, 200);
    assert!(body.contains("\"field\":\"candidate\""), "{body}");
    redis.run("HSET smartlink:weights:-bad base 1");
    eventually("a bad name is named", || {
        errors()
            .contains_key("smartlink:weights:-bad")
            .then_some(())
    });
    redis.run("DEL smartlink:weights:-bad");
    redis.run("HSET smartlink:weights:a candidate 20");
    plane.await_weights("a", "base 90 candidate 20");
    eventually("it is gone", || errors().is_empty().then_some(()));
    let events = redis.run("XRANGE smartlink:events - +").texts().join(" ");
    for part in [
        "kind config_applied",
        "kind config_error",
        "service a",
        "revision ",
    ] {
        assert!(events.contains(part), "{part}: {events}");
    }
}

#[test]
fn the_gateway_says_what_it_serves() {
    let redis = Redis::start();
    canary(&redis);
    let plane = Plane::start_hearing(&redis);
    plane.await_proof();
    let key = "smartlink:gateway:here";
    let hash = eventually("revision and watch", || {
        let hash = redis.hash(key);
        let said = hash.get("watch")? == "notifications" && hash["revision"] != "0";
        (said && hash["watch_proof_ms"] != "0").then_some(hash)
    });
    assert_eq!(hash["digest"], *plane.table().digest);
    assert_eq!(hash["address"], "127.0.0.1:1");
    let (status, body) = plane.get("/api/v1/table");
    assert_eq!(status, 200);
    for part in [
        "\"share\":0.9",
        "\"http://127.0.0.1:2/\"",
        "\"watch\":\"notifications\"",
    ] {
        assert!(body.contains(part), "{part}: {body}");
    }
    assert_eq!(plane.get("/readyz").0, 200);
    drop(plane);
    assert_eq!(redis.run(&format!("EXISTS {key}")).number(), 0);
}

#[test]
fn a_change_that_changes_nothing_swaps_nothing() {
    let redis = Redis::start();
    canary(&redis);
    let plane = Plane::start_hearing(&redis);
    plane.await_proof();
    let revision = plane.table().revision;
    redis.run("HSET smartlink:weights:a base 90");
    redis.run("HSET smartlink:endpoints:b http://127.0.0.1:3/ base");
    plane.await_weights("b", "base 1");
    assert_eq!(plane.table().revision, revision + 1);
}

#[test]
fn ten_thousand_services_are_taken_and_changed_one_at_a_time() {
    let redis = Redis::start();
    let mut connection = redis.connect();
    for i in 0..10_000 {
        let key = format!("smartlink:endpoints:s{i}");
        connection
            .send(&[b"HSET", key.as_bytes(), b"http://127.0.0.1:1/", b"base"])
            .expect("sent");
    }
    for _ in 0..10_000 {
        connection.read().expect("stored");
    }
    let begin = Instant::now();
    let plane = Plane::start_with(options(&redis)).expect("it starts");
    plane.await_weights("s9999", "base 1");
    println!("10,000 services in {:?}", begin.elapsed());
    plane.await_proof();
    redis.run("HSET smartlink:endpoints:s5 http://127.0.0.1:2/ candidate");
    plane.await_weights("s5", "base 1 candidate 0");
}

#[test]
fn a_slip_in_the_kind_of_a_key_is_named_until_it_is_gone() {
    let redis = Redis::start();
    let mut options = options(&redis);
    options.watcher.reconcile = Duration::from_millis(200);
    let _plane = Plane::start_with(options).expect("it starts");
    redis.run("HSET smartlink:enpoints:a http://127.0.0.1:1/ base");
    eventually("it is named", || {
        let errors = redis.hash("smartlink:errors");
        let text = errors.get("smartlink:enpoints:a")?;
        text.contains("did you mean endpoints:<name>?")
            .then_some(())
    });
    redis.run("RENAME smartlink:enpoints:a smartlink:endpoints:a");
    eventually("it is gone", || {
        redis.hash("smartlink:errors").is_empty().then_some(())
    });
}
