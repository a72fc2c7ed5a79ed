//! What the gateway says of its requests: each counted once, as what it was.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::load::{Closed, Load, get, named, serving};
use crate::support::port::Port;
use crate::support::process::Process;
use crate::support::redis::Redis;
use crate::support::site::{Site, await_proof};
use crate::support::upstream::{Gate, Upstream};

fn count(redis: &Redis, key: &str, field: &str) -> u64 {
    let hash: BTreeMap<String, String> = redis.hash(key);
    let text = hash.get(field).map_or("0", String::as_str);
    text.parse().expect("plain decimal")
}

/// Waits until so many requests are counted there, and looks at the other fields then.
#[track_caller]
fn await_counts(redis: &Redis, key: &str, requests: u64, wanted: &[(&str, u64)]) {
    eventually(&format!("{requests} requests in {key}"), || {
        (count(redis, key, "requests") >= requests).then_some(())
    });
    let fields = wanted
        .iter()
        .map(|(field, _)| (*field, count(redis, key, field)));
    assert_eq!(fields.collect::<Vec<_>>(), wanted, "{key}");
    assert_eq!(count(redis, key, "requests"), requests, "{key}");
}

fn stage(redis: &Redis, url: &str, settings: &[&str]) -> Site {
    redis.call(&["HSET", "smartlink:endpoints:a", url, "base"]);
    if !settings.is_empty() {
        redis.call(&[&["HSET", "smartlink:service:a"], settings].concat());
    }
    redis.run("HSET smartlink:route:r service a path /r/");
    let site = Site::start(redis);
    await_proof(redis);
    site
}

const KEY: &str = "smartlink:stats:a:base";

#[test]
fn answers_are_counted_by_status_with_the_bytes_of_their_bodies() {
    let redis = Redis::start();
    let upstream = Upstream::start(|connection| {
        while let Some(request) = connection.read_request() {
            let asks_for = |path| request.head.start.contains(path);
            let status = match (asks_for("/missing"), asks_for("/broken")) {
                (true, _) => "404 Not Found",
                (_, true) => "500 Internal Server Error",
                _ => "200 OK",
            };
            connection.send(format!(
                "HTTP/1.1 {status}\r\ncontent-length: 5\r\n\r\nhello"
            ));
        }
    });
    let site = stage(&redis, &upstream.url("/"), &["eject_5xx", "off"]);
    let body = named("a");
    let length = body.len()
        - (body
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .expect("a head")
            + 4);
    for _ in 0..3 {
        assert_eq!(site.ask(&body).status, 200);
    }
    assert_eq!(site.ask(&get("/r/missing")).status, 404);
    assert_eq!(site.ask(&get("/r/broken")).status, 500);
    let head = b"HEAD /r/x HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    let mut client = Client::connect(site.address);
    client.send(head);
    client.read_to_end().expect("an answer");
    let length = u64::try_from(length).expect("small");
    await_counts(
        &redis,
        KEY,
        6,
        &[
            ("status_2xx", 4),
            ("status_4xx", 1),
            ("status_404", 1),
            ("status_5xx", 1),
            ("bytes_in", 3 * length),
            ("bytes_out", 5 * 5),
            ("retries", 0),
        ],
    );
    assert!(count(&redis, KEY, "latency_us_sum") >= count(&redis, KEY, "first_byte_us_sum"));
    assert!(count(&redis, KEY, "first_byte_us_sum") > 0);
}

#[test]
fn what_fails_is_counted_as_what_it_was() {
    let redis = Redis::start();
    let closed = Port::reserve();
    let site = stage(&redis, &closed.url(), &[]);
    assert_eq!(site.ask(&named("a")).code(), "connect_failed");
    assert_eq!(site.ask(&named("a")).code(), "no_endpoint");
    await_counts(
        &redis,
        KEY,
        2,
        &[("error_connect", 1), ("error_other", 1), ("status_5xx", 2)],
    );
    let midway = Upstream::start(|connection| {
        connection.read_request();
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhalf");
        connection.close();
    });
    let late = Upstream::start(|connection| {
        connection.read_request();
        connection.wait_for_close();
    });
    redis.run("HSET smartlink:service:c timeout 100ms");
    redis.run("HSET smartlink:service:a max_body 10");
    redis.call(&["HSET", "smartlink:endpoints:b", &midway.url("/"), "base"]);
    redis.call(&["HSET", "smartlink:endpoints:c", &late.url("/"), "base"]);
    site.await_answer(&named("c"), |answer| answer.code() == "upstream_timeout");
    let mut client = Client::connect(site.address);
    client.send(named("b"));
    drop(client.read_to_end());
    await_counts(
        &redis,
        "smartlink:stats:b:base",
        1,
        &[("error_reset", 1), ("status_2xx", 1), ("bytes_out", 4)],
    );
    eventually("the timeout is counted", || {
        (count(&redis, "smartlink:stats:c:base", "error_timeout") > 0).then_some(())
    });
    // Before a version was chosen.
    site.await_answer(&named("a"), |answer| answer.code() == "body_too_large");
    eventually("the refusal is counted", || {
        (count(&redis, "smartlink:stats:a", "status_413") == 1).then_some(())
    });
}

#[test]
fn a_client_that_leaves_is_a_499_wherever_it_was() {
    let redis = Redis::start();
    let gate = Gate::default();
    let upstream = Upstream::start({
        let gate = gate.clone();
        move |connection| {
            let request = connection.read_request().expect("a request");
            if request.head.start.contains("/stream") {
                connection.send("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nhalf");
            }
            gate.open();
            connection.wait_for_close();
        }
    });
    let site = stage(&redis, &upstream.url("/"), &[]);
    for path in ["/r/wait", "/r/stream"] {
        let mut client = Client::connect(site.address);
        client.send(get(path));
        if path == "/r/stream" {
            client.read_until("half");
        } else {
            gate.pass();
        }
        drop(client);
    }
    await_counts(
        &redis,
        KEY,
        2,
        &[("status_499", 2), ("status_2xx", 0), ("error_reset", 0)],
    );
}

#[test]
fn repeats_and_attempts_are_counted_beside_their_request() {
    let redis = Redis::start();
    let closed = Port::reserve();
    let (live, _) = serving("live");
    redis.call(&["HSET", "smartlink:endpoints:a", &closed.url(), "base"]);
    let site = stage(&redis, &live.url("/"), &["fall", "1000"]);
    for _ in 0..4 {
        assert_eq!(site.ask(&get("/r/x")).body, "live");
    }
    eventually("all are counted", || {
        (count(&redis, KEY, "requests") == 4).then_some(())
    });
    let retries = count(&redis, KEY, "retries");
    assert!(retries > 0);
    eventually("attempts are those of all gateways", || {
        let endpoints = redis.hash("smartlink:live:a:endpoints");
        let of = |url: &str| {
            let entry: serde_json::Value = serde_json::from_str(endpoints.get(url)?).ok()?;
            Some((entry["requests"].as_u64()?, entry["errors"].as_u64()?))
        };
        let seen = (of(&live.url("/"))?, of(&closed.url())?);
        (seen == ((4, 0), (retries, retries))).then_some(())
    });
}

#[test]
fn served_is_counted_whatever_happens_to_redis() {
    let mut redis = Redis::start();
    let (one, _) = serving("one");
    let site = stage(&redis, &one.url("/"), &[]);
    let load = Load::start(site.address, vec![named("a"), get("/r/x")], |answer| {
        (answer.status == 200).then_some(()).ok_or(String::new())
    });
    for _ in 0..4 {
        redis.kill();
        load.await_turn();
        std::thread::sleep(Duration::from_millis(200));
        redis.restart();
        load.await_turn();
        std::thread::sleep(Duration::from_millis(300));
    }
    for frozen_ms in [50, 300, 1_200, 100, 700, 400] {
        redis.freeze();
        load.await_turn();
        std::thread::sleep(Duration::from_millis(frozen_ms));
        redis.thaw();
        load.await_turn();
        // Its answers are lost; what it did stays.
        redis.run("CLIENT KILL TYPE normal");
        std::thread::sleep(Duration::from_millis(100));
    }
    let tally = load.expect_all_good();
    let served = u64::try_from(tally.requests).expect("few");
    eventually("all are counted", || {
        (count(&redis, KEY, "requests") >= served).then_some(())
    });
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(count(&redis, KEY, "requests"), served);
    assert_eq!(count(&redis, KEY, "status_2xx"), served);
}

#[test]
fn two_gateways_add_up() {
    let redis = Redis::start();
    let (one, _) = serving("one");
    let site = stage(&redis, &one.url("/"), &[]);
    let mut options = crate::support::site::options(&redis);
    options.store.instance = "there".to_owned();
    options.stats.instance = "there".to_owned();
    let other = Site::start_with(options);
    for _ in 0..20 {
        assert_eq!(site.ask(&named("a")).status, 200);
        other.await_answer(&named("a"), |answer| answer.status == 200);
    }
    await_counts(&redis, KEY, 40, &[("status_2xx", 40)]);
}

/// A gateway that tells its counts once a second, in a process of its own, and where it listens.
fn doomed(redis: &Redis) -> (Process, SocketAddr) {
    let process = Process::start_with(redis, "doomed", |command| {
        command.args(["--stats-interval", "1s"])
    });
    let address = eventually("it listens", || {
        redis.hash("smartlink:gateway:doomed").remove("address")
    });
    (process, address.parse().expect("an address"))
}

#[test]
fn a_killed_gateway_loses_one_interval_of_counts_at_most() {
    const CALLERS: u64 = 2;
    let redis = Redis::start();
    let (one, _) = serving("one");
    redis.call(&["HSET", "smartlink:endpoints:a", &one.url("/"), "base"]);
    let (mut process, address) = doomed(&redis);
    let answered = Arc::new(AtomicU64::new(0));
    let load = Load::start_with(address, vec![named("a"), named("a")], Closed::End, {
        let answered = Arc::clone(&answered);
        move |answer| {
            answered.fetch_add(1, Ordering::SeqCst);
            (answer.status == 200).then_some(()).ok_or(String::new())
        }
    });
    let answered = || answered.load(Ordering::SeqCst);
    let counted = || count(&redis, KEY, "requests");
    let more_than =
        |told: u64| eventually("more is told", || Some(counted()).filter(|now| *now > told));
    // What was answered when the last counts were seen is among the next ones. Each caller may read
    // its answer before the gateway takes note of its end.
    let mut told = more_than(0);
    for _ in 0..2 {
        let before = answered();
        told = more_than(told);
        // The batch of that moment may have been on its way.
        told = if told + CALLERS < before {
            more_than(told)
        } else {
            told
        };
        assert!(told + CALLERS >= before, "{told} of {before}");
    }
    let before = answered();
    told = more_than(told);
    process.kill();
    let tally = load.wait();
    let left = counted();
    println!("{} answered, {} counted", answered(), left);
    assert!(
        left >= told && left + CALLERS >= before,
        "{left} of {before}"
    );
    let asked = u64::try_from(tally.requests).expect("few");
    assert!(left <= asked, "{left} of {asked}");
    // Another one goes on from there.
    let site = stage(&redis, &one.url("/"), &[]);
    for _ in 0..5 {
        assert_eq!(site.ask(&named("a")).status, 200);
    }
    await_counts(&redis, KEY, left + 5, &[]);
}
