//! How a gateway starts and what it leaves.

use smartlink::app::Error;

use crate::support::control::{Plane, options, options_at};
use crate::support::eventually;
use crate::support::port::Port;
use crate::support::process::Process;
use crate::support::redis::Redis;

#[test]
fn with_redis_there_the_table_is_loaded_when_the_start_is_over() {
    let redis = Redis::start();
    let plane = Plane::start(&redis);
    assert!(
        plane.table().loaded,
        "an empty Redis is a configuration too"
    );
    assert_eq!(plane.get("/readyz").0, 200);
}

#[test]
fn without_redis_it_starts_and_waits() {
    let mut redis = Redis::start();
    redis.kill();
    let plane = Plane::start(&redis);
    assert!(!plane.table().loaded);
    assert_eq!(plane.get("/readyz").0, 503);
    assert_eq!(plane.get("/healthz").0, 200);
    redis.restart();
    eventually("it is loaded", || plane.table().loaded.then_some(()));
    assert_eq!(plane.get("/readyz").0, 200);
}

#[test]
fn a_name_of_a_live_gateway_is_refused_and_of_a_dead_one_taken() {
    let redis = Redis::start();
    let plane = Plane::start(&redis);
    let refused = Plane::start_with(options(&redis)).err().expect("refused");
    assert!(matches!(refused, Error::Name(_)), "{refused}");
    drop(plane);
    redis.run("HSET smartlink:gateway:here heartbeat_ms 5");
    Plane::start(&redis);
}

#[test]
fn a_name_that_two_gateways_came_to_share_is_an_error_in_the_log() {
    let redis = Redis::start();
    let file = redis.folder().join("log");
    let log = std::fs::File::create(&file).expect("a file");
    let _process = Process::start_with(&redis, "here", |command| command.stderr(log));
    let lines = || {
        let text = std::fs::read_to_string(&file).expect("text");
        let about = text
            .lines()
            .filter(|line| line.contains("another live gateway"));
        about.map(str::to_owned).collect::<Vec<_>>()
    };
    let heartbeat = || redis.hash("smartlink:gateway:here").remove("heartbeat_ms");
    let first = eventually("its first life sign", heartbeat);
    eventually("its next life sign", || {
        (heartbeat().as_ref() != Some(&first)).then_some(())
    });
    assert_eq!(lines(), [""; 0], "it knows its own hash");
    // As one does that started while Redis was away.
    redis.run("HSET smartlink:gateway:here started_ms 5");
    eventually("it says so", || {
        let lines = lines();
        let said = lines.first()?;
        assert!(said.contains("ERROR") && said.contains("here"), "{said}");
        Some(())
    });
}

#[test]
fn a_hopeless_start_fails_with_one_line() {
    for (url, prefix) in [
        ("http://127.0.0.1", "smartlink:"),
        ("redis-cluster://127.0.0.1:1", "smartlink:"),
    ] {
        let error = Plane::start_with(options_at(url, prefix)).err().expect(url);
        assert!(matches!(error, Error::Store(_)), "{error}");
        assert_eq!(error.to_string().lines().count(), 1);
    }
    let mut open = options_at("redis://127.0.0.1:1", "smartlink:");
    open.admin.as_mut().expect("set").address = "0.0.0.0:0".parse().expect("an address");
    let error = Plane::start_with(open).err().expect("open to all");
    assert!(error.to_string().contains("--admin-token-file"), "{error}");
}

#[test]
fn a_snapshot_serves_without_redis_and_then_redis_counts() {
    let mut redis = Redis::start();
    let path = redis.folder().join("snapshot");
    let with_snapshot = |redis: &Redis| {
        let mut options = options(redis);
        options.watcher.snapshot = Some(path.clone());
        Plane::start_with(options).expect("it starts")
    };
    let plane = with_snapshot(&redis);
    plane.await_proof();
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base");
    plane.await_weights("a", "base 1");
    let holds = |text: &str| {
        let bytes = std::fs::read_to_string(&path).unwrap_or_default();
        bytes.contains(text).then_some(())
    };
    eventually("it is written within a second", || holds("endpoints:a"));
    redis.run("HSET smartlink:endpoints:b http://127.0.0.1:1/ base");
    plane.await_weights("b", "base 1");
    drop(plane);
    holds("endpoints:b").expect("it is written at exit");

    redis.kill();
    let plane = with_snapshot(&redis);
    assert_eq!(plane.weights("b"), "base 1");
    assert_eq!(plane.get("/readyz").0, 200);
    redis.restart();
    eventually("an empty redis is an accident", || {
        plane.control.status.is_vanished().then_some(())
    });
    assert_eq!(plane.weights("b"), "base 1");
    redis.run("HSET smartlink:endpoints:b http://127.0.0.1:1/ base http://127.0.0.1:2/ candidate");
    plane.await_weights("b", "base 1 candidate 0");
    drop(plane);

    std::fs::write(&path, "smartlink-snapshot-1 0\n{}").expect("written");
    let plane = with_snapshot(&redis);
    plane.await_weights("b", "base 1 candidate 0");
}

#[test]
fn a_wrong_port_is_no_reason_to_die() {
    let port = Port::reserve();
    let url = format!("redis://{}", port.address());
    let plane = Plane::start_with(options_at(&url, "smartlink:")).expect("it starts");
    assert!(!plane.table().loaded);
}
