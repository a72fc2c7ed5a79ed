//! `smartlink top --once`: one picture of what stands in Redis, for scripts.

use std::process::{Command, Output, Stdio};

use crate::support::eventually;
use crate::support::load::named;
use crate::support::port::Port;
use crate::support::redis::Redis;
use crate::support::site::{Site, await_proof};
use crate::support::upstream::Upstream;

fn top(url: &str, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_smartlink"))
        .args(["top", "--redis", url])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("smartlink runs")
}

#[track_caller]
fn printed(url: &str, args: &[&str]) -> String {
    let output = top(url, args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    String::from_utf8(output.stdout).expect("text")
}

/// Services as the gateways write them: `fine`, `failing` with a canary, `lonely` that is down.
pub fn write_services(redis: &Redis) {
    let mut connection = redis.connect();
    let seconds = connection.run("TIME").texts().remove(0);
    let health = |state: &str, why: &str| {
        let since = seconds.parse::<u64>().expect("a number") - 30;
        format!(
            r#"{{"state":"{state}","since_ms":{since}000,"why":"{why}","gateways":{{"g1":"{state}","g2":"up"}}}}"#
        )
    };
    let load = |version: &str, requests: u32, errors: u32| {
        format!(
            r#"{{"version":"{version}","state":"up","inflight":1,"requests":{requests},"errors":{errors},"ewma_ms":12.5}}"#
        )
    };
    let lines = [
        "HSET smartlink:endpoints:fine http://127.0.0.1:1/ base",
        "HSET smartlink:live:fine base.rps 100 base.error_rate 0 base.p50_ms 10 base.p90_ms 20 base.p99_ms 30 base.inflight 1 base.share 1",
        "HSET smartlink:endpoints:failing http://127.0.0.1:2/get/ base http://127.0.0.1:3/get/ candidate",
        "HSET smartlink:weights:failing base 90 candidate 10",
        "HSET smartlink:live:failing base.rps 90 base.error_rate 0 base.p50_ms 10 base.p99_ms 30 base.inflight 1 base.share 0.9",
        "HSET smartlink:live:failing candidate.rps 10 candidate.error_rate 0.75 candidate.p50_ms 345 candidate.p99_ms 1234.5 candidate.inflight 7 candidate.share 0.1",
        "HSET smartlink:endpoints:lonely http://127.0.0.1:4/ base",
        "HSET smartlink:gateway:g1 address 127.0.0.1:9001 version 0.1.0 started_ms 1 revision 41 digest abc watch notifications",
    ];
    for line in lines {
        connection.run(line);
    }
    let mut set = |key: &str, field: &str, value: &str| {
        connection.call(&["HSET", &format!("smartlink:{key}"), field, value]);
    };
    set("health:fine", "http://127.0.0.1:1/", &health("up", ""));
    set(
        "health:failing",
        "http://127.0.0.1:2/get/",
        &health("up", ""),
    );
    set(
        "health:failing",
        "http://127.0.0.1:3/get/",
        &health("up", ""),
    );
    set(
        "health:lonely",
        "http://127.0.0.1:4/",
        &health("down", "connection refused"),
    );
    set(
        "live:failing:endpoints",
        "http://127.0.0.1:2/get/",
        &load("base", 900, 0),
    );
    set(
        "live:failing:endpoints",
        "http://127.0.0.1:3/get/",
        &load("candidate", 100, 75),
    );
    set("gateway:g1", "heartbeat_ms", &format!("{seconds}000"));
}

/// The words of the line that has `word`.
#[track_caller]
fn line<'t>(text: &'t str, word: &str) -> Vec<&'t str> {
    let found = text
        .lines()
        .find(|line| line.split_whitespace().any(|it| it == word));
    let found = found.unwrap_or_else(|| panic!("{word} is not in\n{text}"));
    found.split_whitespace().collect()
}

#[test]
fn one_picture_has_the_worst_first_and_everything_about_it() {
    let redis = Redis::start();
    write_services(&redis);
    let text = printed(&redis.url(), &["--once"]);
    assert!(!text.contains('\u{1b}'), "{text}");
    for expected in [
        &["X", "▾", "lonely", "0", "0%", "-", "-", "0", "DOWN"][..],
        &["!", "127.0.0.1:4/", "0", "0%", "-", "0", "DOWN", "1/2"],
        &[
            "!", "▾", "failing", "100", "7.5%", "345ms", "1.23s", "8", "ERRORS",
        ],
        &[
            "X",
            "candidate",
            "10",
            "75%",
            "345ms",
            "1.23s",
            "7",
            "10%",
            "10%",
        ],
        &["X", "127.0.0.1:3/get/", "10", "75%", "12.5ms", "1", "up"],
        &["▾", "fine", "100", "0%", "10.0ms", "30.0ms", "1", "ok"],
    ] {
        let word = expected
            .iter()
            .find(|word| word.len() > 3 && word.starts_with(char::is_alphanumeric));
        assert_eq!(line(&text, word.expect("a name")), expected, "{text}");
    }
    let at = |name: &str| text.find(&format!("▾ {name}")).expect("it is shown");
    assert!(
        at("lonely") < at("failing") && at("failing") < at("fine"),
        "{text}"
    );
    assert!(
        text.contains("3 services, 2 in trouble, 1 endpoint out"),
        "{text}"
    );
    assert!(text.contains("200 req/s, 3.8% errors"), "{text}");
    assert!(text.contains("1 gateway, one table, revision 41"), "{text}");
    let gateway = line(&text, "g1");
    assert!(
        gateway.ends_with(&["notifications", "127.0.0.1:9001", "0.1.0"]),
        "{text}"
    );
}

#[test]
fn a_filter_and_an_order_are_flags() {
    let redis = Redis::start();
    write_services(&redis);
    let text = printed(
        &redis.url(),
        &["--once", "--filter", "FI", "--sort", "name"],
    );
    assert!(
        text.contains("▾ fine") && !text.contains("lonely"),
        "{text}"
    );
    let text = printed(&redis.url(), &["--once", "--sort", "rate"]);
    assert!(text.find("▾ lonely") > text.find("▾ fine"), "{text}");
}

#[test]
fn json_has_the_same_and_more() {
    let redis = Redis::start();
    write_services(&redis);
    let text = printed(&redis.url(), &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["services"][0]["name"], "lonely");
    assert_eq!(json["services"][0]["summary"]["level"], "dead");
    let candidate = &json["services"][1]["versions"][1];
    assert_eq!(candidate["name"], "candidate");
    assert_eq!(candidate["wished"], 0.1);
    assert_eq!(candidate["endpoints"][0]["url"], "http://127.0.0.1:3/get/");
    assert_eq!(json["gateways"][0]["revision"], 41);
}

#[test]
fn config_errors_and_an_empty_redis_are_shown() {
    let redis = Redis::start();
    let text = printed(&redis.url(), &["--once"]);
    assert!(text.contains("no service: redis-cli HSET"), "{text}");
    assert!(text.contains("no gateway gives a sign of life"), "{text}");
    write_services(&redis);
    redis.call(&[
        "HSET",
        "smartlink:errors",
        "smartlink:weights:fine base",
        "want a number",
    ]);
    let text = printed(&redis.url(), &["--once"]);
    assert_eq!(line(&text, "fine").last(), Some(&"CONFIG"), "{text}");
    assert!(
        text.contains("? smartlink:weights:fine base: want a number"),
        "{text}"
    );
}

#[test]
fn without_a_terminal_or_redis_it_is_one_clear_line() {
    let redis = Redis::start();
    let port = Port::reserve();
    let away = format!("redis://user:geheim@{}", port.address());
    for (url, args, part) in [
        (&redis.url(), &[][..], "--once prints one picture"),
        (&away, &["--once"], "cannot reach Redis: connection refused"),
    ] {
        let output = top(url, args);
        let line = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.contains(part) && !line.contains("geheim"), "{line}");
    }
}

#[test]
fn who_may_only_read_sees_everything_that_it_may_read() {
    let redis = Redis::start();
    write_services(&redis);
    let watcher = crate::examples::user(&redis, "watcher");
    redis.run("ACL SETUSER narrow on >secret %R~smartlink:live:* %R~smartlink:endpoints:* +@read");
    let narrow = watcher.replace("watcher", "narrow");
    let text = printed(&watcher, &["--once"]);
    assert_eq!(line(&text, "lonely").last(), Some(&"DOWN"), "{text}");
    let text = printed(&narrow, &["--once"]);
    assert_eq!(line(&text, "failing").last(), Some(&"ERRORS"), "{text}");
}

#[test]
fn counts_may_stand_in_another_redis() {
    let (redis, counts) = (Redis::start(), Redis::start());
    redis.run("HSET smartlink:endpoints:solo http://127.0.0.1:1/ base");
    counts.run(
        "HSET smartlink:live:solo base.rps 12.5 base.error_rate 0 base.inflight 0 base.share 1",
    );
    let text = printed(&redis.url(), &["--once", "--stats-redis", &counts.url()]);
    assert_eq!(line(&text, "solo")[1..3], ["solo", "12.5"], "{text}");
}

#[test]
fn ten_thousand_services_are_looked_at_once_each() {
    let redis = Redis::start();
    fill(&redis, 10_000);
    redis.run(
        "HSET smartlink:live:s07777 base.rps 50 base.error_rate 0.4 base.inflight 0 base.share 1",
    );
    redis.run("CONFIG RESETSTAT");
    let text = printed(&redis.url(), &["--once"]);
    let first = text
        .lines()
        .find(|line| line.contains('▾'))
        .expect("a service");
    assert!(
        first.contains("s07777") && first.contains("ERRORS"),
        "{first}"
    );
    assert!(text.contains("10000 services, 1 in trouble"), "{text}");
    assert!(text.contains("more rows"), "{text}");
    // Three hashes of each, five of a thousand at most, and what each reading asks.
    let read = calls(&redis, "hgetall");
    assert!(read < 36_000, "{read} hashes");
}

#[test]
fn what_a_gateway_serves_is_what_is_shown_and_what_steers() {
    let redis = Redis::start();
    let good = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let bad = Upstream::answering("HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n");
    redis.call(&[
        "HSET",
        "smartlink:endpoints:a",
        &good.url("/"),
        "base",
        &bad.url("/"),
        "candidate",
    ]);
    redis.run("HSET smartlink:weights:a base 50 candidate 50");
    let site = Site::start(&redis);
    await_proof(&redis);
    for _ in 0..40 {
        site.ask(&named("a"));
    }
    let seen = eventually("all of it is shown", || {
        let json: serde_json::Value =
            serde_json::from_str(&printed(&redis.url(), &["--json"])).expect("JSON");
        let rate = |at: usize| json["services"][0]["versions"][at]["rps"].as_f64();
        (rate(0)? + rate(1)? > 3.9).then_some(json)
    });
    let [base, candidate] = [0, 1].map(|at| &seen["services"][0]["versions"][at]);
    assert_eq!(
        (&base["error_rate"], &candidate["error_rate"]),
        (&0.0.into(), &1.0.into())
    );
    assert_eq!(
        (&base["wished"], &candidate["wished"]),
        (&0.5.into(), &0.5.into())
    );
    assert!(base["p99_ms"].as_f64() > Some(0.0), "{seen}");
    assert_eq!(base["endpoints"][0]["state"], "up", "{seen}");
    assert_eq!(seen["gateways"][0]["instance"], "here");
    let printed = crate::examples::run("shift.sh", &["a", "1"], &redis.url());
    assert_eq!(printed, "a: candidate 50 -> 45 of 100\n");
}

/// So many services with an endpoint and live numbers.
pub fn fill(redis: &Redis, services: usize) {
    let script = "for i = 1, tonumber(ARGV[1]) do \
         local name = string.format('s%05d', i) \
         redis.call('HSET', 'smartlink:endpoints:' .. name, 'http://127.0.0.1:1/', 'base') \
         redis.call('HSET', 'smartlink:live:' .. name, 'base.rps', '1', 'base.error_rate', '0', \
           'base.p50_ms', '10', 'base.p99_ms', '20', 'base.inflight', '0', 'base.share', '1') \
         end";
    redis.call(&["EVAL", script, "0", &services.to_string()]);
}

/// How often a command was called.
pub fn calls(redis: &Redis, command: &str) -> u64 {
    let stats = redis.run("INFO commandstats").texts().concat();
    let line = stats
        .lines()
        .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    let count = line.and_then(|rest| rest.split(',').next());
    count.map_or(0, |count| count.parse().expect("a number"))
}
