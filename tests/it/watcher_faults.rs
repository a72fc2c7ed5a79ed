//! Redis away, frozen, emptied, silenced: the configuration is exact again by itself.

use smartlink::control::status::Watch;

use crate::support::control::{Plane, options};
use crate::support::redis::Redis;
use crate::support::{eventually, secs};

fn served() -> (Redis, Plane) {
    served_by(Redis::start())
}

fn served_by(redis: Redis) -> (Redis, Plane) {
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base");
    redis.run("HSET smartlink:weights:a base 1");
    let plane = Plane::start(&redis);
    plane.await_weights("a", "base 1");
    (redis, plane)
}

/// Changes go on being noticed.
#[track_caller]
fn follows(redis: &Redis, plane: &Plane, base: u32) {
    redis.run(&format!("HSET smartlink:weights:a base {base}"));
    plane.await_weights("a", &format!("base {base}"));
}

#[test]
fn a_killed_subscription_is_made_again() {
    let (redis, plane) = served();
    plane.await_proof();
    for base in 2..6 {
        redis.run("CLIENT KILL TYPE pubsub");
        follows(&redis, &plane, base);
    }
    redis.run("CLIENT KILL TYPE normal");
    follows(&redis, &plane, 9);
}

#[test]
fn flags_that_were_taken_away_are_set_again() {
    let (redis, plane) = served();
    plane.await_proof();
    redis.call(&["CONFIG", "SET", "notify-keyspace-events", ""]);
    follows(&redis, &plane, 2);
    eventually("the flags are back", || {
        let flags = redis.run("CONFIG GET notify-keyspace-events").texts().pop();
        flags.filter(|flags| flags.contains('K'))
    });
}

#[test]
fn flags_of_others_are_kept() {
    let redis = Redis::start_with(&["--notify-keyspace-events", "E$"]);
    let (redis, plane) = served_by(redis);
    plane.await_proof();
    let flags = redis
        .run("CONFIG GET notify-keyspace-events")
        .texts()
        .concat();
    assert!(flags.contains('E') && flags.contains('$'), "{flags}");
}

#[test]
fn a_flush_is_an_accident_until_somebody_says_otherwise() {
    for line in ["FLUSHALL", "FLUSHDB", "SWAPDB 0 1"] {
        let (redis, plane) = served();
        plane.await_proof();
        redis.run(line);
        eventually("the accident is noticed", || {
            plane.control.status.is_vanished().then_some(())
        });
        assert_eq!(plane.weights("a"), "base 1", "{line}");
        eventually("it is an event", || {
            let events = redis.run("XRANGE smartlink:events - +").texts().join(" ");
            events.contains("config_vanished").then_some(())
        });
        // What is written now is obeyed on top.
        redis.run("HSET smartlink:endpoints:b http://127.0.0.1:2/ base");
        plane.await_weights("b", "base 1");
        assert_eq!(plane.weights("a"), "base 1", "{line}");
        redis.call(&["SET", "smartlink:internal:forget-vanished", "now"]);
        eventually("it is forgotten", || {
            plane.weights("a").is_empty().then_some(())
        });
        assert_eq!(plane.weights("b"), "base 1", "{line}");
        // Said behind the table that is in force.
        eventually("nothing counts as vanished", || {
            (!plane.control.status.is_vanished()).then_some(())
        });
    }
}

#[test]
fn a_swapped_database_with_other_content_is_taken_over() {
    let redis = Redis::start();
    let mut connection = redis.connect();
    connection.run("SELECT 1");
    connection.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base");
    connection.run("HSET smartlink:weights:a base 7");
    let (redis, plane) = served_by(redis);
    plane.await_proof();
    redis.run("SWAPDB 0 1");
    plane.await_weights("a", "base 7");
}

#[test]
fn errors_are_named_again_after_a_flush() {
    let (redis, plane) = served();
    plane.await_proof();
    let named = || {
        redis
            .hash("smartlink:errors")
            .contains_key("smartlink:weights:a base")
            .then_some(())
    };
    redis.run("HSET smartlink:weights:a base lots");
    eventually("it is named", named);
    redis.run("DEL smartlink:errors smartlink:gateway:here");
    eventually("it is named again", named);
}

#[test]
fn a_restart_of_redis_is_survived() {
    let (mut redis, plane) = served();
    plane.await_proof();
    redis.kill();
    eventually("the loss is noticed", || {
        (!plane.control.status.is_connected()).then_some(())
    });
    assert_eq!(plane.weights("a"), "base 1");
    assert_eq!(plane.get("/readyz").0, 200);
    redis.restart();
    eventually("it is back", || {
        plane.control.status.is_connected().then_some(())
    });
    // It came back empty: an accident.
    assert_eq!(plane.weights("a"), "base 1");
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base");
    redis.run("HSET smartlink:weights:a base 3");
    plane.await_weights("a", "base 3");
    eventually("redis_lost is an event", || {
        let events = redis.run("XRANGE smartlink:events - +").texts().join(" ");
        events.contains("redis_lost").then_some(())
    });
}

#[test]
fn a_frozen_redis_stops_nothing() {
    let (redis, plane) = served();
    plane.await_proof();
    let mut connection = redis.connect();
    redis.freeze();
    connection
        .send(&[b"HSET", b"smartlink:weights:a", b"base", b"5"])
        .expect("sent");
    eventually("the loss is noticed", || {
        (!plane.control.status.is_connected()).then_some(())
    });
    assert_eq!(plane.weights("a"), "base 1");
    std::thread::sleep(secs(4));
    redis.thaw();
    plane.await_weights("a", "base 5");
    follows(&redis, &plane, 6);
}

#[test]
fn without_notifications_it_polls() {
    let redis = Redis::start_with(&["--rename-command", "CONFIG", ""]);
    let (redis, plane) = served_by(redis);
    follows(&redis, &plane, 2);
    eventually("it says so", || {
        (redis.hash("smartlink:gateway:here").get("watch")? == "polling").then_some(())
    });
    std::thread::sleep(secs(3));
    follows(&redis, &plane, 3);
    redis.run("HSET smartlink:endpoints:new http://127.0.0.1:2/ base");
    plane.await_weights("new", "base 1");
    redis.run("DEL smartlink:weights:a");
    plane.await_weights("a", "base 1");
    assert_eq!(plane.control.status.watch(), Watch::Polling);
}

#[test]
fn an_access_list_that_refuses_config_is_no_hindrance() {
    let redis = Redis::start_with(&["--notify-keyspace-events", "Kghxe"]);
    redis.call(&[
        "ACL",
        "SETUSER",
        "gateway",
        "on",
        ">secret",
        "~smartlink:*",
        "&*",
        "+@all",
        "-config",
        "-@dangerous",
        "+info",
    ]);
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base");
    let mut options = options(&redis);
    options.store.user = Some("gateway".to_owned());
    options.store.password = Some("secret".to_owned());
    let plane = Plane::start_with(options).expect("it starts");
    plane.await_weights("a", "base 1");
    plane.await_proof();
    redis.run("HSET smartlink:endpoints:b http://127.0.0.1:1/ base");
    plane.await_weights("b", "base 1");
}

#[test]
fn a_user_who_may_only_read_is_enough() {
    let redis = Redis::start();
    redis.call(&[
        "ACL",
        "SETUSER",
        "reader",
        "on",
        ">secret",
        "~smartlink:*",
        "resetchannels",
        "+@read",
        "+@connection",
        "+eval",
        "+evalsha",
        "+script|load",
        "+info",
    ]);
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base");
    let mut options = options(&redis);
    options.store.user = Some("reader".to_owned());
    options.store.password = Some("secret".to_owned());
    let plane = Plane::start_with(options).expect("it starts");
    plane.await_weights("a", "base 1");
    redis.run("HSET smartlink:endpoints:b http://127.0.0.1:1/ base");
    plane.await_weights("b", "base 1");
}
