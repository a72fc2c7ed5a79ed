//! `smartlink shift`: what it writes, what it refuses, and that nothing is lost between two writers.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::control::Plane;
use crate::support::redis::Redis;
use crate::support::verb::{bad, good, run};

fn service(redis: &Redis) {
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base http://127.0.0.1:2/ candidate");
}

fn weights(redis: &Redis) -> String {
    let weights = redis.hash("smartlink:weights:a");
    let pairs: Vec<String> = weights.iter().map(|(v, w)| format!("{v} {w}")).collect();
    pairs.join(" ")
}

#[test]
fn a_shift_is_the_whole_new_split_and_says_how_to_undo_it() {
    let redis = Redis::start();
    service(&redis);
    let plane = Plane::start(&redis);
    assert_eq!(
        good(&redis, &["shift", "a", "base=100"]),
        "smartlink:weights:a: nothing -> base 100\nundo: redis-cli DEL smartlink:weights:a\n"
    );
    assert_eq!(
        good(&redis, &["shift", "a", "base=90", "candidate=10"]),
        "smartlink:weights:a: base 100 -> base 90 candidate 10\n\
         undo: redis-cli HSET smartlink:weights:a base 100 candidate 0\n"
    );
    plane.await_weights("a", "base 90 candidate 10");
    redis.run("HSET smartlink:weights:a candidate 0");
    good(&redis, &["shift", "a", "candidate=1"]);
    assert_eq!(
        weights(&redis),
        "candidate 1",
        "what is not named is taken out"
    );
    plane.await_weights("a", "base 0 candidate 1");
    let json = good(&redis, &["shift", "a", "base=7", "candidate=3", "--json"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["old"], serde_json::json!({"candidate": "1"}));
    assert_eq!(
        json["new"],
        serde_json::json!({"base": "7", "candidate": "3"})
    );
    assert_eq!(json["written"], true);
}

#[test]
fn what_is_pasted_to_undo_a_shift_runs_nothing_else() {
    let redis = Redis::start();
    service(&redis);
    redis.call(&["HSET", "smartlink:weights:a", "base", "1; touch /tmp/x #"]);
    let out = good(&redis, &["shift", "a", "base=3"]);
    let undo = "undo: redis-cli HSET smartlink:weights:a base '1; touch /tmp/x #'\n";
    assert!(out.ends_with(undo), "{out}");
}

#[test]
fn what_stands_must_be_what_if_says() {
    let redis = Redis::start();
    service(&redis);
    for (stands, wanted, code) in [
        ("", "none", 0),
        ("", "base=100", 1),
        ("base 100", "base=100", 0),
        ("base 100 candidate 0", "base=100", 0),
        ("base 100", "base=100,candidate=0", 0),
        ("base 90 candidate 10", "base=100", 1),
        ("base 90", "none", 1),
        ("base 9 candidate 1", "base=90,candidate=10", 1),
    ] {
        redis.run("DEL smartlink:weights:a");
        if !stands.is_empty() {
            redis.run(&format!("HSET smartlink:weights:a {stands}"));
        }
        let ended = run(
            &redis,
            &["shift", "a", "base=50", "candidate=50", "--if", wanted],
        );
        assert_eq!(ended.code, code, "{stands} {wanted}: {ended:?}");
        let after = if code == 0 {
            "base 50 candidate 50"
        } else {
            stands
        };
        assert_eq!(weights(&redis), after, "{wanted}");
        if code == 1 {
            let stands = if stands.is_empty() { "nothing" } else { stands };
            let said = format!("not as --if says: {stands} stands there");
            assert!(ended.told.contains(&said), "{ended:?}");
        }
    }
}

#[test]
fn what_a_gateway_would_refuse_is_not_written() {
    let redis = Redis::start();
    service(&redis);
    redis.run("HSET smartlink:weights:a base 1");
    for (args, parts) in [
        (
            &["base=90", "candidat=10"][..],
            &["weights:a candidat:", "did you mean candidate?"][..],
        ),
        (&["base=0"], &["weights:a: want weights with a sum above 0"]),
        (&["base=lots"], &["weights:a base: want ", "\"lots\""]),
        (&["base=1000001"], &["weights:a base: want "]),
        (&["base=-1"], &["weights:a base: want "]),
    ] {
        let told = bad(&redis, &[&["shift", "a"], args].concat());
        for part in parts {
            assert!(told.contains(part), "{part} is not in {told}");
        }
        assert_eq!(weights(&redis), "base 1");
    }
    assert!(bad(&redis, &["shift", "nobody", "base=1"]).contains("no endpoints hash"));
    assert!(redis.hash("smartlink:weights:nobody").is_empty());
    for args in [
        &["shift", "a"][..],
        &["shift", "a", "base"],
        &["shift", "a b", "base=1"],
        &["shift", "a", "base=5", "base=6"],
        &["shift", "a", "base=5", "--if", "base=1,base=2"],
    ] {
        assert_eq!(run(&redis, args).code, 2, "{args:?}");
    }
    redis.run("DEL smartlink:weights:a");
    redis.run("SET smartlink:weights:a text");
    assert!(bad(&redis, &["shift", "a", "base=1"]).contains("is a string, want a hash"));
    let ended = run(&redis, &["shift", "a", "base=1", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&ended.out).expect("JSON");
    assert_eq!((ended.code, &json["written"]), (1, &false.into()));
    let why = json["mistakes"][0].as_str().expect("a reason");
    assert!(why.contains("is a string, want a hash"), "{json}");
}

#[test]
fn of_two_that_shift_from_the_same_split_one_wins() {
    let redis = Redis::start();
    service(&redis);
    let mut won: BTreeMap<usize, usize> = BTreeMap::new();
    for round in 0..8 {
        redis.run("DEL smartlink:weights:a");
        redis.run("HSET smartlink:weights:a base 100");
        let shifts = ["base=90", "base=80", "base=70"].map(|base| {
            let redis = &redis;
            move || {
                let args = ["shift", "a", base, "candidate=1", "--if", "base=100"];
                run(redis, &args).code
            }
        });
        let codes: Vec<i32> = std::thread::scope(|scope| {
            let threads: Vec<_> = shifts.map(|shift| scope.spawn(shift)).into();
            threads
                .into_iter()
                .map(|it| it.join().expect("no panic"))
                .collect()
        });
        *won.entry(codes.iter().filter(|code| **code == 0).count())
            .or_default() += 1;
        assert_ne!(weights(&redis), "base 100", "{round}: {codes:?}");
    }
    assert_eq!(won, BTreeMap::from([(1, 8)]));
}
