//! The history of changes, once for all gateways, and taking them back.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::control::{Plane, options};
use crate::support::eventually;
use crate::support::redis::{Redis, Reply};
use crate::support::verb::{bad, good};

type Entry = BTreeMap<String, String>;

/// What is recorded, the oldest first.
fn entries(redis: &Redis) -> Vec<Entry> {
    let Reply::Many(entries) = redis.run("XRANGE smartlink:history - +") else {
        panic!("no stream");
    };
    let fields = |entry: Reply| -> Entry {
        let texts = entry.texts();
        let pairs = texts.get(1..).unwrap_or_default().chunks_exact(2);
        pairs
            .filter_map(|pair| Some((pair.first()?.clone(), pair.last()?.clone())))
            .collect()
    };
    entries.into_iter().map(fields).collect()
}

/// The recorded changes: key, field, old and new.
fn lines(redis: &Redis) -> Vec<String> {
    let line = |entry: Entry| {
        let of = |field: &str| entry.get(field).cloned().unwrap_or_else(|| "-".to_owned());
        let key = of("key").replace("smartlink:", "");
        format!("{key} {} {} {}", of("field"), of("old"), of("new"))
    };
    entries(redis).into_iter().map(line).collect()
}

#[track_caller]
fn await_lines(redis: &Redis, wanted: &[&str]) {
    eventually("it is recorded", || {
        let lines = lines(redis);
        assert!(lines.len() <= wanted.len(), "{lines:?}");
        (lines.len() == wanted.len()).then(|| assert_eq!(lines, wanted))
    });
}

fn plane(redis: &Redis, name: &str) -> Plane {
    let mut options = options(redis);
    name.clone_into(&mut options.watcher.instance);
    name.clone_into(&mut options.store.instance);
    let plane = Plane::start_with(options).expect("it starts");
    plane.await_proof();
    plane
}

fn endpoints(redis: &Redis) {
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base http://127.0.0.1:2/ v2");
}

#[test]
fn each_change_is_recorded_once_however_many_gateways_see_it() {
    let redis = Redis::start();
    endpoints(&redis);
    redis.run("HSET smartlink:weights:a base 1");
    let planes = ["one", "two", "three"].map(|name| plane(&redis, name));
    // What stood when gateways started is no change.
    let mut wanted = Vec::new();
    let mut last = 1;
    for n in 2..40 {
        redis.run(&format!("HSET smartlink:weights:a base {n}"));
        for plane in &planes {
            plane.await_weights("a", &format!("base {n} v2 0"));
        }
        wanted.push(format!("weights:a base {last} {n}"));
        last = n;
    }
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    await_lines(&redis, &wanted);
    let first = entries(&redis).remove(0);
    assert!(first["at_ms"].parse::<u64>().expect("a number") > 1_700_000_000_000);
    assert!(
        ["one", "two", "three"].contains(&first["gateway"].as_str()),
        "{first:?}"
    );
    assert!(first["revision"].parse::<u64>().is_ok() && !first.contains_key("who"));
    // One that starts now saw nothing of it.
    let _late = plane(&redis, "late");
    redis.run("DEL smartlink:weights:a");
    let wanted = [&wanted[..], &["weights:a base 39 -"]].concat();
    await_lines(&redis, &wanted);
}

#[test]
fn a_storm_of_writes_leaves_a_chain_without_gaps() {
    let redis = Redis::start();
    endpoints(&redis);
    redis.run("HSET smartlink:weights:a base 1");
    let planes = ["one", "two"].map(|name| plane(&redis, name));
    let mut connection = redis.connect();
    for n in 2..600 {
        connection.run(&format!("HSET smartlink:weights:a base {n}"));
    }
    for plane in &planes {
        plane.await_weights("a", "base 599 v2 0");
    }
    eventually("the last is recorded", || {
        let lines = lines(&redis);
        lines.last().filter(|line| line.ends_with(" 599")).map(drop)
    });
    // Several writes may be read as one; each is told once, from where the one before ended.
    let mut at = "1".to_owned();
    for entry in entries(&redis) {
        assert_eq!(entry["old"], at, "{entry:?}");
        at.clone_from(&entry["new"]);
    }
    assert_eq!(at, "599");
}

#[test]
fn what_is_not_in_force_is_not_recorded() {
    let redis = Redis::start();
    endpoints(&redis);
    let plane = plane(&redis, "one");
    redis.run("HSET smartlink:weights:a base lots");
    redis.run("HSET smartlink:weights:b base 1");
    redis.run("HSET smartlink:service:a timeout 5s");
    await_lines(&redis, &["service:a timeout - 5s"]);
    redis.run("HSET smartlink:weights:a base 7");
    plane.await_weights("a", "base 7 v2 0");
    await_lines(&redis, &["service:a timeout - 5s", "weights:a base - 7"]);
    // Weights that waited for their service are a change when they come into force.
    redis.run("HSET smartlink:endpoints:b http://127.0.0.1:3/ base");
    await_lines(
        &redis,
        &[
            "service:a timeout - 5s",
            "weights:a base - 7",
            "endpoints:b http://127.0.0.1:3/ - base",
            "weights:b base - 1",
        ],
    );
}

#[test]
fn secrets_and_hashes_of_tokens_are_not_kept() {
    let redis = Redis::start();
    let _plane = plane(&redis, "one");
    let key = format!("smartlink:token:{}", "0123456789abcdef".repeat(4));
    redis.call(&["HSET", &key, "services", "*"]);
    redis.run("HSET smartlink:alert:a url https://127.0.0.1/s3cret format json on endpoint_down");
    redis.call(&[
        "HSET",
        "smartlink:defaults",
        "set_request_headers",
        r#"{"x": "s3cret"}"#,
    ]);
    eventually("all is recorded", || {
        let lines = lines(&redis).concat();
        (lines.contains("set_request_headers") && lines.contains("url")).then_some(())
    });
    let all = lines(&redis).join("\n");
    // Gateways keep no texts of tokens.
    assert!(!all.contains("token:"), "{all}");
    assert!(all.contains("alert:a url - [hidden]"), "{all}");
    assert!(
        !all.contains("s3cret") && !all.contains("0123456789"),
        "{all}"
    );
    let keys = redis.run("KEYS smartlink:internal:recorded:*").texts();
    for key in keys {
        let kept = redis.hash(&key);
        assert!(!format!("{kept:?}").contains("s3cret"), "{key} {kept:?}");
    }
    let told = bad(&redis, &["undo"]);
    assert!(told.contains("does not keep this text"), "{told}");
    assert!(
        redis
            .hash("smartlink:defaults")
            .contains_key("set_request_headers")
    );
}

#[test]
fn undo_takes_back_what_one_exec_changed_and_can_be_undone() {
    let redis = Redis::start();
    endpoints(&redis);
    redis.run("HSET smartlink:weights:a base 90 v2 10");
    redis.run("HSET smartlink:service:a timeout 5s");
    let plane = plane(&redis, "one");
    let mut connection = redis.connect();
    connection.run("MULTI");
    connection.run("HSET smartlink:weights:a base 50 v2 50");
    connection.run("HDEL smartlink:service:a timeout");
    connection.run("HSET smartlink:route:r service a path /r/");
    connection.run("EXEC");
    plane.await_weights("a", "base 50 v2 50");
    eventually("it is recorded", || {
        (entries(&redis).len() == 5).then_some(())
    });
    let dry = good(&redis, &["undo", "--dry-run"]);
    let all = [
        "- smartlink:route:r path: \"/r/\"",
        "- smartlink:route:r service: \"a\"",
        "+ smartlink:service:a timeout: \"5s\"",
        "~ smartlink:weights:a base: \"50\" -> \"90\"",
        "~ smartlink:weights:a v2: \"50\" -> \"10\"",
    ];
    let mut printed: Vec<&str> = dry.lines().collect();
    printed.sort_unstable();
    let mut wanted = all;
    wanted.sort_unstable();
    assert_eq!(printed, wanted);
    assert_eq!(redis.hash("smartlink:weights:a")["base"], "50");
    let real = good(&redis, &["undo"]);
    assert_eq!(real, dry);
    plane.await_weights("a", "base 90 v2 10");
    assert_eq!(redis.hash("smartlink:service:a")["timeout"], "5s");
    assert!(redis.hash("smartlink:route:r").is_empty());
    good(&redis, &["undo"]);
    plane.await_weights("a", "base 50 v2 50");
    assert_eq!(redis.hash("smartlink:route:r")["path"], "/r/");
    // The gateway saw these two and told nothing that was not told.
    eventually("it heard", || {
        (plane.control.status.applied_ms() > 0).then_some(())
    });
    let by: Vec<bool> = entries(&redis)
        .iter()
        .map(|it| it.contains_key("who"))
        .collect();
    assert_eq!(by, [&[false; 5][..], &[true; 10]].concat());
    let shown = good(&redis, &["history", "--json"]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let shown = shown.as_array().expect("a list");
    assert_eq!(shown.len(), 3);
    let who = shown[0]["who"].as_str().expect("a text");
    assert!(who.starts_with("tester@"), "{who}");
    let text = good(&redis, &["undo", "--list"]);
    assert!(text.contains("seen by one, revision"), "{text}");
    assert!(
        text.contains("  ~ smartlink:weights:a base: \"50\" -> \"90\""),
        "{text}"
    );
}

#[test]
fn undo_refuses_where_something_else_stands() {
    let redis = Redis::start();
    endpoints(&redis);
    good(&redis, &["shift", "a", "base=90", "v2=10"]);
    redis.run("HSET smartlink:weights:a v2 11");
    let told = bad(&redis, &["undo"]);
    assert!(
        told.contains("smartlink:weights:a v2: \"11\" stands there"),
        "{told}"
    );
    assert_eq!(
        redis.hash("smartlink:weights:a").len(),
        2,
        "nothing is written"
    );
    redis.run("HSET smartlink:weights:a v2 10");
    good(&redis, &["undo"]);
    assert!(redis.hash("smartlink:weights:a").is_empty());
    // What a gateway would refuse is not written back.
    good(&redis, &["shift", "a", "v2=1"]);
    good(&redis, &["shift", "a", "base=1"]);
    redis.run("HDEL smartlink:endpoints:a http://127.0.0.1:2/");
    let told = bad(&redis, &["undo"]);
    assert!(told.contains("a gateway would refuse it"), "{told}");
    assert!(bad(&redis, &["undo", "nobody"]).contains("no change"));
}

#[test]
fn several_changes_of_a_service_are_taken_back_together() {
    let redis = Redis::start();
    endpoints(&redis);
    redis.run("HSET smartlink:endpoints:b http://127.0.0.1:3/ base");
    for weights in [&["base=4"][..], &["base=3", "v2=1"], &["base=2", "v2=2"]] {
        good(&redis, &[&["shift", "a"], weights].concat());
    }
    good(&redis, &["shift", "b", "base=1"]);
    good(&redis, &["undo", "a", "--last", "2"]);
    assert_eq!(
        redis.hash("smartlink:weights:a"),
        [("base".into(), "4".into())].into()
    );
    assert_eq!(
        redis.hash("smartlink:weights:b").len(),
        1,
        "of another service"
    );
}

#[test]
fn an_undo_takes_tokens_away_and_gives_none_back() {
    let redis = Redis::start();
    let hash = "0123456789abcdef".repeat(4);
    let key = format!("smartlink:token:{hash}");
    let import = |fields: &str| {
        let text = format!("[token.{hash}]\n{fields}\n");
        std::fs::write(redis.folder().join("tokens.toml"), text).expect("it is written");
        good(&redis, &["import", "tokens.toml"]);
    };
    import("services = \"*\"\nname = \"me\"");
    good(&redis, &["undo"]);
    assert!(redis.hash(&key).is_empty());
    import("services = \"*\"");
    // Switched off, narrowed, gone: each may have been meant for good.
    for fields in ["services = \"*\"\nenabled = \"off\"", "services = \"ocr\""] {
        import(fields);
        let before = redis.hash(&key);
        let told = bad(&redis, &["undo"]);
        assert!(told.contains("never gives back what one may do"), "{told}");
        assert_eq!(redis.hash(&key), before);
    }
    redis.run(&format!("DEL {key}"));
    let told = bad(&redis, &["undo"]);
    assert!(told.contains("no token stands there"), "{told}");
    assert!(redis.hash(&key).is_empty());
}

#[test]
fn no_more_than_10_000_entries_are_kept() {
    let redis = Redis::start();
    for n in 0..10_050 {
        let n = n.to_string();
        redis.call(&[
            "XADD",
            "smartlink:history",
            "*",
            "change",
            &n,
            "key",
            "k",
            "field",
            "f",
        ]);
    }
    endpoints(&redis);
    good(&redis, &["shift", "a", "base=1"]);
    assert_eq!(redis.run("XLEN smartlink:history").number(), 10_000);
}
