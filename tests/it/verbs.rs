//! How the verbs end: exit codes, one clear line, nothing left behind.

#![expect(
    clippy::unwrap_used,
    reason = "a panic fails the test, which is what is wanted"
)]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use crate::support::eventually;
use crate::support::port::Port;
use crate::support::redis::Redis;

fn smartlink(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smartlink"));
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs to the end: exit code, standard output, standard error.
fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = smartlink(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// Asserts an exit code and that all standard error says is one line with these parts.
#[track_caller]
fn fails(args: &[&str], code: i32, parts: &[&str]) {
    let (got, _, line) = run(args);
    assert_eq!(got, Some(code), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    for part in parts {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

#[test]
fn a_wrong_flag_is_exit_code_2_and_one_line() {
    fails(&["serve", "--lisen", "x"], 2, &["--lisen", "--listen"]);
    fails(
        &["serve", "--reconcile", "soon"],
        2,
        &["--reconcile", "want a duration"],
    );
    fails(&["fly"], 2, &["fly"]);
    fails(&[], 2, &["serve"]);
    let bad_variable = smartlink(&["serve"])
        .env("SMARTLINK_THREADS", "many")
        .output()
        .unwrap();
    assert_eq!(bad_variable.status.code(), Some(2));
    let bad_switch = smartlink(&["serve"])
        .env("SMARTLINK_PILOT", "foo")
        .output()
        .unwrap();
    assert_eq!(bad_switch.status.code(), Some(2));
}

#[test]
fn help_and_version_are_exit_code_0() {
    for args in [&["--help"][..], &["serve", "--help"], &["--version"]] {
        let (code, text, _) = run(args);
        assert_eq!(code, Some(0));
        assert!(
            text.contains("smartlink") || text.contains("--listen"),
            "{text}"
        );
    }
}

#[test]
fn a_port_that_is_taken_is_a_failed_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let port = Port::reserve();
    let free = port.address().to_string();
    let line = format!("{address}: address in use");
    fails(
        &["serve", "--listen", &address, "--admin", "off"],
        1,
        &["cannot listen on", &line],
    );
    fails(
        &["serve", "--listen", &free, "--admin", &address],
        1,
        &["cannot listen on", &line],
    );
    fails(
        &["demo", "--listen", &address],
        1,
        &["cannot listen on", &line],
    );
}

#[test]
fn check_without_redis_is_one_line_that_names_it() {
    let port = Port::reserve();
    let url = format!("redis://user:geheim@{}", port.address());
    let (code, _, line) = run(&["check", "--redis", &url]);
    assert_eq!(code, Some(1));
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(
        line.ends_with(": cannot reach Redis: connection refused\n"),
        "{line}"
    );
    assert!(line.contains("redis://127.0.0.1"), "{line}");
    assert!(!line.contains("geheim"), "{line}");
}

#[test]
fn check_prints_a_line_per_mistake() {
    let redis = Redis::start();
    let url = redis.url();
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base");
    let (code, text, _) = run(&["check", "--redis", &url]);
    assert_eq!(
        (code, text.as_str()),
        (Some(0), "1 service, 0 routes, 0 mistakes\n")
    );
    redis.run("HSET smartlink:weights:a base lots");
    redis.run("HSET smartlink:route:r service nobody path /");
    redis.run("SET smartlink:defaults text");
    redis.run("HSET smartlink:endpoint:b http://127.0.0.1:1/ base");
    let (code, text, _) = run(&["check", "--redis", &url]);
    assert_eq!(code, Some(1), "{text}");
    for begin in [
        "smartlink:endpoint:b: no such kind of key; did you mean endpoints:<name>?",
        "smartlink:weights:a base: ",
        "smartlink:route:r",
        "smartlink:defaults",
    ] {
        assert!(
            text.lines().any(|line| line.starts_with(begin)),
            "{begin}\n{text}"
        );
    }
    let (code, json, _) = run(&["check", "--json", "--redis", &url]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(code, Some(1));
    assert_eq!(json["mistakes"].as_array().unwrap().len(), 4, "{json}");
}

#[test]
fn a_signal_ends_the_gateway_with_exit_code_0() {
    let redis = Redis::start();
    let port = Port::reserve();
    let address = port.address().to_string();
    for signal in ["TERM", "INT"] {
        let mut child = smartlink(&["serve", "--listen", &address, "--admin", "off"])
            .args(["--redis", &redis.url()])
            .spawn()
            .unwrap();
        eventually("it listens", || {
            std::net::TcpStream::connect(&address).ok().map(drop)
        });
        kill(signal, child.id());
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn dev_ends_by_itself_after_so_many_requests() {
    let (code, text, log) = run(&["dev", "--no-install", "--rate", "100", "--requests", "100"]);
    assert_eq!(code, Some(0), "{text}{log}");
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("100 requests: base "), "{text}");
    assert!(last.ends_with(", 0 errors"), "{text}");
}

#[test]
fn dev_finds_two_ports_where_both_of_its_own_are_taken() {
    // Both look for a free one from here on upwards.
    let taken = Port::reserve();
    let address = taken.address().to_string();
    let _listener = taken.listen();
    let ports = ["--listen", &address, "--admin", &address];
    let (code, text, log) = run(&[
        &["dev", "--no-install", "--rate", "100", "--requests", "10"],
        &ports[..],
    ]
    .concat());
    assert_eq!(code, Some(0), "{text}{log}");
}

#[test]
fn dev_leaves_nothing_behind_however_it_ends() {
    for signal in ["INT", "TERM", "KILL"] {
        let mut child = smartlink(&["dev", "--no-install"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.find(|line| line.as_ref().unwrap().starts_with("redis "));
        let line = line.unwrap().unwrap();
        let port: u16 = line
            .split_once("127.0.0.1:")
            .and_then(|(_, rest)| rest.split(' ').next()?.parse().ok())
            .unwrap();
        let folder = std::env::temp_dir().join(format!("smartlink-dev-{}-{port}", child.id()));
        assert!(folder.exists());
        kill(signal, child.id());
        let code = child.wait().unwrap().code();
        assert_eq!(code, (signal != "KILL").then_some(0));
        eventually("its Redis is gone", || {
            std::net::TcpStream::connect(("127.0.0.1", port))
                .is_err()
                .then_some(())
        });
        eventually("its folder is gone", || (!folder.exists()).then_some(()));
    }
}

fn kill(signal: &str, pid: u32) {
    let done = Command::new("kill")
        .args(["-s", signal, &pid.to_string()])
        .status();
    assert!(done.unwrap().success());
}

#[test]
fn verbs_that_look_at_redis_say_that_gateways_serve_what_vanished() {
    use crate::support::control::Plane;
    use crate::support::verb::{bad, good, run};
    let redis = Redis::start();
    let plane = Plane::start(&redis);
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base http://127.0.0.1:2/ v2");
    redis.run("HSET smartlink:weights:a base 3 v2 1");
    plane.await_weights("a", "base 3 v2 1");
    good(&redis, &["check"]);
    assert_eq!(run(&redis, &["export"]).told, "");
    redis.run("FLUSHALL");
    let said = |key: &str| redis.hash("smartlink:errors").contains_key(key);
    eventually("the gateway says so", || {
        said("config_vanished").then_some(())
    });
    for verb in ["check", "export"] {
        let told = bad(&redis, &[verb]);
        assert_eq!(told.lines().count(), 1, "{told}");
        let wanted =
            "gateways serve what no longer stands in Redis: smartlink:errors: 2 known keys";
        assert!(told.contains(wanted), "{told}");
        assert!(told.contains("smartlink forget-vanished"), "{told}");
    }
    for args in [&["wait"][..], &["explain", "GET /a"]] {
        let ended = run(&redis, args);
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(ended.told.contains("no longer stands"), "{ended:?}");
    }
    // Key by key: the deletion of an absent key is told to nobody.
    for key in ["weights:a", "endpoints:a"] {
        redis.run(&format!("HSET smartlink:{key} base 1"));
        redis.run(&format!("DEL smartlink:{key}"));
    }
    eventually("nothing is missing", || {
        (!said("config_vanished")).then_some(())
    });
    good(&redis, &["check"]);
}
