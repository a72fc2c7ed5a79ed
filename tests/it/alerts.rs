//! Alerts: one message an incident, whatever happens to gateways, receivers and Redis.

use crate::support::control::{Plane, options};
use crate::support::eventually;
use crate::support::receiver::Receiver;
use crate::support::redis::Redis;

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
