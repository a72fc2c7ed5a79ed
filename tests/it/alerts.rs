//! Alerts: one message an incident, whatever happens to gateways, receivers and Redis.

use std::io::{Read, Write};
use std::time::Duration;

use smartlink::stats::Outcome;

use crate::support::control::{Plane, options};
use crate::support::eventually;
use crate::support::port::Port;
use crate::support::receiver::{Received, Receiver};
use crate::support::redis::Redis;
use crate::support::site::Site;

pub fn plane(redis: &Redis, instance: &str) -> Plane {
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

/// A short window, so that an end is told soon.
pub fn alert(redis: &Redis, receiver: &Receiver, more: &str) {
    redis.run(&format!(
        "HSET smartlink:alert:ops url {} window 3s {more}",
        receiver.url()
    ));
}

/// Writes a mistake, which is an incident until it is mended.
pub fn break_settings(redis: &Redis) {
    redis.run("HSET smartlink:service:ner timeout soon");
}

pub fn mend_settings(redis: &Redis) {
    redis.run("DEL smartlink:service:ner");
}

#[test]
fn a_mistake_is_one_message_and_one_when_it_is_mended() {
    let redis = Redis::start();
    let receiver = Receiver::start();
    redis.run("HSET smartlink:endpoints:ner http://127.0.0.1:1/ base");
    alert(&redis, &receiver, "on config_error secret_env SECRET");
    let gateways = [
        plane(&redis, "one"),
        plane(&redis, "two"),
        plane(&redis, "three"),
    ];
    break_settings(&redis);
    let first = receiver.await_nth(0);
    assert_eq!(first.target, "/hook");
    assert!(
        first.head.contains("x-smartlink-signature: sha256="),
        "{first:?}"
    );
    let message = first.json();
    for (field, wanted) in [
        ("kind", "config_error"),
        ("state", "firing"),
        ("service", "ner"),
        ("alert", "ops"),
        ("relief", "redis-cli HDEL smartlink:service:ner timeout"),
    ] {
        assert_eq!(message[field], wanted, "{field}");
    }
    let why = message["why"].as_str().expect("a text");
    assert!(
        why.starts_with("smartlink:service:ner timeout: want a duration"),
        "{why}"
    );
    let gateway = message["gateway"].as_str().expect("a name");
    assert!(["one", "two", "three"].contains(&gateway), "{gateway}");
    assert!(message["since_ms"].as_u64() > Some(1_700_000_000_000));
    assert!(message["count"].as_u64() >= Some(1));
    mend_settings(&redis);
    let over = receiver.await_nth(1).json();
    assert_eq!(
        (&over["state"], &over["since_ms"]),
        (&"over".into(), &message["since_ms"])
    );
    assert_eq!(receiver.told().len(), 2);
    drop(gateways);
}

#[test]
fn another_gateway_goes_on_with_an_incident() {
    let redis = Redis::start();
    let receiver = Receiver::start();
    redis.run("HSET smartlink:endpoints:ner http://127.0.0.1:1/ base");
    alert(&redis, &receiver, "on config_error");
    let one = plane(&redis, "one");
    break_settings(&redis);
    assert_eq!(receiver.await_nth(0).json()["gateway"], "one");
    eventually("that it was told is kept", || {
        let incidents = redis.hash("smartlink:internal:alerts");
        let incident = incidents.get("ops config_error ner ")?;
        incident.contains("\"owed\":null").then_some(())
    });
    let two = plane(&redis, "two");
    drop(one);
    mend_settings(&redis);
    let over = receiver.await_nth(1).json();
    assert_eq!(
        (&over["state"], &over["gateway"]),
        (&"over".into(), &"two".into())
    );
    assert_eq!(
        receiver.told(),
        ["firing config_error ner", "over config_error ner"]
    );
    drop(two);
}

#[test]
fn a_receiver_that_refuses_is_named_and_told_later() {
    let redis = Redis::start();
    let (away, well) = (Receiver::start(), Receiver::start());
    away.answer(503, "s3cret-path is not here");
    redis.run("HSET smartlink:endpoints:ner http://127.0.0.1:1/ base");
    redis.run(&format!(
        "HSET smartlink:alert:away url {}/s3cret-path on config_error",
        away.url()
    ));
    alert(&redis, &well, "on config_error");
    let _gateway = plane(&redis, "one");
    break_settings(&redis);
    away.await_nth(1);
    assert_eq!(well.told(), ["firing config_error ner"]);
    let named = eventually("it is named", || {
        redis
            .hash("smartlink:errors")
            .remove("smartlink:alert:away url")
    });
    assert!(
        named.starts_with("messages do not arrive: it answers 503"),
        "{named}"
    );
    assert!(!named.contains("s3cret"), "{named}");
    away.answer(200, "");
    eventually("it is mended", || {
        let errors = redis.hash("smartlink:errors");
        (!errors.contains_key("smartlink:alert:away url")).then_some(())
    });
    mend_settings(&redis);
    eventually("the end follows", || {
        let told = away.told();
        (told.last().map(String::as_str) == Some("over config_error ner")).then_some(())
    });
    assert_eq!(well.await_nth(1).json()["state"], "over");
}

#[test]
fn a_secret_that_is_not_there_is_named() {
    let redis = Redis::start();
    let receiver = Receiver::start();
    redis.run("HSET smartlink:endpoints:ner http://127.0.0.1:1/ base");
    alert(&redis, &receiver, "secret_env NOWHERE");
    let _gateway = plane(&redis, "one");
    let place = "smartlink:alert:ops secret_env";
    let named = eventually("it is named", || {
        redis.hash("smartlink:errors").remove(place)
    });
    assert!(named.contains("NOWHERE_FILE"), "{named}");
    redis.run("HSET smartlink:alert:ops secret_env SECRET");
    eventually("it is mended", || {
        (!redis.hash("smartlink:errors").contains_key(place)).then_some(())
    });
}

#[test]
fn an_endpoint_that_flaps_a_thousand_times_is_three_messages_at_most() {
    let redis = Redis::start();
    let receiver = Receiver::start();
    let url = "http://127.0.0.1:1/";
    redis.run(&format!("HSET smartlink:endpoints:ner {url} base"));
    // Longer than a busy machine pauses.
    alert(&redis, &receiver, "on endpoint_down window 12s");
    let gateways = ["one", "two", "three"];
    let planes = gateways.map(|name| plane(&redis, name));
    eventually("one of them sends", || {
        let leader = redis.hash("smartlink:internal:alerts").remove("leader")?;
        gateways.iter().find(|name| leader.starts_with(**name))
    });
    for turn in 0..1000 {
        for gateway in gateways {
            for kind in ["endpoint_down", "endpoint_up"] {
                redis.run(&format!(
                    "XADD smartlink:events * kind {kind} service ner version base endpoint {url} \
                     gateway {gateway} why turn-{turn}"
                ));
            }
        }
    }
    let told = eventually("it is over", || {
        let told = receiver.told();
        let last = told.last().is_some_and(|last| last.starts_with("over"));
        let quiet = redis.hash("smartlink:internal:alerts");
        let quiet = quiet.values().any(|it| it.contains("\"phase\":\"over\""));
        (last && quiet).then_some(told)
    });
    assert!(told.len() <= 3, "{told:?}");
    let over = receiver.received().last().expect("a message").json();
    // What three gateways saw is counted once.
    assert!(told.len() == 3 || over["count"] == 1000, "{over}");
    assert_eq!(over["endpoint"], url);
    drop(planes);
}

#[test]
fn a_real_endpoint_that_dies_and_comes_back_is_two_messages() {
    let redis = Redis::start();
    let receiver = Receiver::start();
    let port = Port::reserve();
    let url = format!("http://{}/", port.address());
    redis.run(&format!("HSET smartlink:endpoints:ner {url} base"));
    alert(&redis, &receiver, "on endpoint_down services n*");
    let site = Site::start(&redis);
    let body = "{\"server_name\":\"ner\"}";
    let asked = format!(
        "POST /ai_server/ HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = std::net::TcpStream::connect(site.address).expect("it accepts");
    stream.write_all(asked.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.contains("connect_failed"), "{answer}");
    let message = receiver.await_nth(0).json();
    for (field, wanted) in [
        ("kind", "endpoint_down"),
        ("version", "base"),
        ("endpoint", &*url),
        ("evidence", "0 of 1 endpoints of version base are up"),
        ("relief", "redis-cli HSET smartlink:service:ner hold 30s"),
    ] {
        assert_eq!(message[field], wanted, "{field}");
    }
    let _back = std::net::TcpListener::bind(port.address()).expect("still ours");
    assert_eq!(receiver.await_nth(1).json()["state"], "over");
}

#[test]
fn errors_of_all_gateways_together_are_one_incident() {
    let redis = Redis::start();
    let receiver = Receiver::start();
    redis
        .run("HSET smartlink:endpoints:ner http://127.0.0.1:1/ base http://127.0.0.1:2/ candidate");
    redis.run("HSET smartlink:weights:ner base 90 candidate 10");
    alert(
        &redis,
        &receiver,
        "on error_rate,latency latency_p99 1s min_requests 30",
    );
    let planes = [plane(&redis, "one"), plane(&redis, "two")];
    let message = eventually("it is told", || {
        for plane in &planes {
            let service = plane.table().services.get("ner").cloned()?;
            // Neither has enough of them alone.
            for status in [200, 200, 500] {
                let outcome = Outcome {
                    status,
                    total_us: 20_000,
                    ..Outcome::default()
                };
                plane.control.counters[0].count_version(&service.versions[1], &outcome);
            }
        }
        std::thread::sleep(Duration::from_millis(100));
        receiver.received().first().map(Received::json)
    });
    for (field, wanted) in [
        ("kind", "error_rate"),
        ("service", "ner"),
        ("version", "candidate"),
        (
            "relief",
            "redis-cli HSET smartlink:weights:ner base 100 candidate 0",
        ),
    ] {
        assert_eq!(message[field], wanted, "{field}");
    }
    assert_eq!(receiver.await_nth(1).json()["state"], "over");
    assert_eq!(
        receiver.told(),
        ["firing error_rate ner", "over error_rate ner"]
    );
}

#[test]
fn that_redis_is_lost_is_told_by_each_gateway() {
    let mut redis = Redis::start();
    let receiver = Receiver::start();
    redis.run("HSET smartlink:endpoints:ner http://127.0.0.1:1/ base");
    alert(&redis, &receiver, "on redis_lost");
    let planes = [plane(&redis, "one"), plane(&redis, "two")];
    redis.kill();
    let by = |from: usize, state: &str| {
        let mut gateways = [from, from + 1].map(|n| {
            let message = receiver.await_nth(n).json();
            assert_eq!(
                (&message["kind"], &message["state"]),
                (&"redis_lost".into(), &state.into())
            );
            message["gateway"].as_str().expect("a name").to_owned()
        });
        gateways.sort_unstable();
        assert_eq!(gateways, ["one", "two"]);
    };
    by(0, "firing");
    redis.restart();
    by(2, "over");
    drop(planes);
}
