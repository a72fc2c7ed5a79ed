//! `smartlink export`, `import` and `diff`: a whole configuration there and back.

use std::fs;

use crate::support::control::Plane;
use crate::support::redis::Redis;
use crate::support::verb::{bad, good, run};

/// One hash of every kind.
fn everything(redis: &Redis) {
    let token = format!("smartlink:token:{}", "0123456789abcdef".repeat(4));
    for line in [
        "HSET smartlink:defaults timeout 30s",
        "HSET smartlink:endpoints:a.b http://127.0.0.1:1/x/ base http://127.0.0.1:2/ v2",
        "HSET smartlink:weights:a.b base 90 v2 10",
        "HSET smartlink:service:a.b sticky header:x-user",
        "HSET smartlink:route:r service a.b path /r/ header.x-a *",
        &format!("HSET {token} services * name me"),
        "HSET smartlink:issuer:corp issuer https://127.0.0.1 audience a algorithms HS256 secret_env SECRET",
        "HSET smartlink:shadow:a.b candidate v2 sample 10%",
        "HSET smartlink:rollout:a.b candidate v2",
        "HSET smartlink:alert:ops url https://127.0.0.1/hook format json on endpoint_down",
    ] {
        redis.run(line);
    }
    redis.call(&[
        "HSET",
        "smartlink:service:a.b",
        "set_response_headers",
        r#"{"x-a": "\"b'"}"#,
    ]);
}

fn dump(redis: &Redis) -> Vec<String> {
    let mut keys = redis.run("KEYS smartlink:*").texts();
    keys.retain(|key| !key.contains(":internal:") && key != "smartlink:history");
    keys.sort();
    let line = |key: &String| format!("{key} {:?}", redis.hash(key));
    keys.iter().map(line).collect()
}

#[test]
fn what_is_exported_is_imported_whole() {
    let from = Redis::start();
    everything(&from);
    assert_eq!(
        run(&from, &["check"]).code,
        0,
        "{}",
        run(&from, &["check"]).out
    );
    for (format, name) in [("toml", "all.toml"), ("json", "all.json")] {
        let text = good(&from, &["export", "--format", format]);
        fs::write(from.folder().join(name), &text).expect("it is written");
        assert_eq!(good(&from, &["export", "--format", format]), text, "sorted");
        assert_eq!(good(&from, &["diff", name]), "");
        let to = Redis::start();
        fs::write(to.folder().join(name), &text).expect("it is written");
        let plan = good(&to, &["import", name, "--dry-run"]);
        assert!(dump(&to).is_empty());
        assert_eq!(good(&to, &["import", name]), plan);
        assert!(
            plan.contains("+ smartlink:weights:a.b base: \"90\"\n"),
            "{plan}"
        );
        assert!(
            plan.contains("+ smartlink:token:01234567… name: \"me\""),
            "{plan}"
        );
        assert!(
            !plan.contains("hook") && !plan.contains("x-a\\\""),
            "{plan}"
        );
        assert_eq!(dump(&to), dump(&from));
        assert_eq!(good(&to, &["import", name]), "", "nothing changes twice");
        // And it is one change, which can be taken back.
        good(&to, &["history"]);
    }
}

#[test]
fn an_import_leaves_alone_what_is_not_in_the_file_unless_it_prunes() {
    let redis = Redis::start();
    everything(&redis);
    let file = redis.folder().join("some.toml");
    let text = "[endpoints.\"a.b\"]\n\"http://127.0.0.1:1/x/\" = \"base\"\n\n[weights.\"a.b\"]\nbase = 1\n";
    fs::write(&file, text).expect("it is written");
    assert_eq!(run(&redis, &["diff", "nowhere.toml"]).code, 2);
    let ended = run(&redis, &["diff", "some.toml"]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.out.contains("- smartlink:route:r path: \"/r/\"\n"),
        "{ended:?}"
    );
    // The file takes v2 away, which nothing else needs.
    good(&redis, &["import", "some.toml"]);
    assert_eq!(redis.hash("smartlink:endpoints:a.b").len(), 1);
    assert_eq!(redis.hash("smartlink:weights:a.b").len(), 1);
    assert!(!redis.hash("smartlink:route:r").is_empty());
    let plan = good(&redis, &["import", "some.toml", "--prune", "--dry-run"]);
    assert!(
        plan.contains("- smartlink:route:r service: \"a.b\"\n"),
        "{plan}"
    );
    good(&redis, &["import", "some.toml", "--prune"]);
    assert_eq!(dump(&redis).len(), 2, "{:?}", dump(&redis));
    // All that was one change.
    good(&redis, &["undo", "--list"]);
}

#[test]
fn one_mistake_and_nothing_is_written() {
    let redis = Redis::start();
    everything(&redis);
    let before = dump(&redis);
    for (text, part) in [
        (
            "[weights.\"a.b\"]\nbase = \"1\"\nv3 = \"1\"\n",
            "smartlink:weights:a.b v3: no endpoint",
        ),
        (
            "[service.\"a.b\"]\ntimout = \"5s\"\n",
            "did you mean timeout?",
        ),
        ("[route.x]\nservice = \"nobody\"\n", "smartlink:route:x"),
        // Good in itself, and the weights that stand need what it takes away.
        (
            "[endpoints.\"a.b\"]\n\"http://127.0.0.1:1/\" = \"base\"\n",
            "smartlink:weights:a.b v2",
        ),
    ] {
        let text = format!("{text}\n[defaults]\ntimeout = \"7s\"\n");
        fs::write(redis.folder().join("bad.toml"), &text).expect("it is written");
        let told = bad(&redis, &["import", "bad.toml"]);
        assert!(told.contains(part), "{part}: {told}");
        assert!(told.ends_with("smartlink: nothing is written\n"), "{told}");
        assert_eq!(dump(&redis), before, "{part}");
    }
    fs::write(redis.folder().join("bad.toml"), "[weigths.a]\nbase = 1").expect("it is written");
    assert_eq!(run(&redis, &["import", "bad.toml"]).code, 2);
    assert_eq!(run(&redis, &["import", "absent.toml"]).code, 1);
}

#[test]
fn what_is_no_configuration_is_named_and_left_alone() {
    let redis = Redis::start();
    everything(&redis);
    redis.run("SET smartlink:weights:odd text");
    let ended = run(&redis, &["export"]);
    assert_eq!(ended.code, 1);
    assert!(
        ended.told.contains("smartlink:weights:odd is a string"),
        "{ended:?}"
    );
    fs::write(redis.folder().join("odd.toml"), "[weights.odd]\nbase = 1\n").expect("it is written");
    let told = bad(&redis, &["import", "odd.toml"]);
    assert!(
        told.contains("smartlink:weights:odd: what stands there is no hash"),
        "{told}"
    );
    // A name that begins another is another.
    redis.run("SET smartlink:weights:a.b2 text");
    let file = redis.folder().join("good.toml");
    fs::write(file, "[weights.\"a.b\"]\nbase = 1\nv2 = 2\n").expect("it is written");
    good(&redis, &["import", "good.toml"]);
    assert_eq!(
        redis.hash("smartlink:weights:a.b").get("v2"),
        Some(&"2".to_owned())
    );
}

#[test]
fn a_file_that_is_wrong_is_told_without_its_secrets() {
    let redis = Redis::start();
    for (text, part) in [
        (
            "[service.a]\nset_request_headers = \"authorization: Bearer geheim\n",
            "bad: no TOML: ",
        ),
        ("[token.sl_geheim\nname = \"a\"", "at line 1 column "),
        (
            r#"{"alert": {"a": "geheim"}}"#,
            "bad: alert:a: want fields, each a name, = and a text",
        ),
        (
            r#"{"weights": {"a": {"base": 1.5, "v2": ["geheim"]}}}"#,
            "bad: weights:a v2: want a text, a whole number or true/false",
        ),
        (
            r#"{"weights": {"a": {"base": 1, "base": 2}}}"#,
            "a name stands twice in one table at line 1 column ",
        ),
        (
            r#"{"weights": {"a": {"base": 1}, "a": {"base": 1}}}"#,
            "a name stands twice in one table at line 1 column ",
        ),
    ] {
        fs::write(redis.folder().join("bad"), text).expect("it is written");
        for verb in ["import", "diff"] {
            let ended = run(&redis, &[verb, "bad"]);
            assert_eq!(ended.code, 2, "{text}: {ended:?}");
            assert!(ended.told.contains(part), "{part}: {ended:?}");
            assert!(!ended.told.contains("geheim"), "{ended:?}");
        }
    }
    assert!(dump(&redis).is_empty());
}

#[test]
fn gateways_see_an_import_whole() {
    let redis = Redis::start();
    let plane = Plane::start(&redis);
    let text = "[endpoints.a]\n\"http://127.0.0.1:1/\" = \"base\"\n\"http://127.0.0.1:2/\" = \"v2\"\n\
                [weights.a]\nbase = 3\nv2 = 1\n";
    fs::write(redis.folder().join("all.toml"), text).expect("it is written");
    good(&redis, &["import", "all.toml"]);
    plane.await_weights("a", "base 3 v2 1");
    assert!(redis.hash("smartlink:errors").is_empty(), "never in part");
}
