//! The programs in `examples/`, run as they stand, as users that may do what the manual lets them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use smartlink::stats::Outcome;

use crate::support::control::Plane;
use crate::support::eventually;
use crate::support::redis::Redis;

/// A line of the manual that begins with this, without its indent.
fn manual(begin: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let text = std::fs::read_to_string(path).expect("the manual");
    let line = text
        .lines()
        .map(str::trim)
        .find(|line| line.starts_with(begin));
    line.unwrap_or_else(|| panic!("{begin} is not in the manual"))
        .to_owned()
}

/// Makes the user that the manual shows; the URL under which it comes.
pub fn user(redis: &Redis, name: &str) -> String {
    redis.run(&manual(&format!("ACL SETUSER {name} ")));
    redis
        .url()
        .replace("redis://", &format!("redis://{name}:secret@"))
}

/// Runs a program of `examples/` to its end; what it printed.
#[track_caller]
pub fn run(program: &str, args: &[&str], url: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let is_python = Path::new(program).extension().is_some_and(|it| it == "py");
    let interpreter = if is_python { "python3" } else { "sh" };
    let output = Command::new(interpreter)
        .arg(folder.join(program))
        .args(args)
        .env("SMARTLINK_REDIS", url)
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn write_live(redis: &Redis, base: (&str, &str), candidate: (&str, &str)) {
    for (version, (error_rate, p99_ms)) in [("base", base), ("candidate", candidate)] {
        redis.run(&format!(
            "HSET smartlink:live:a {version}.rps 20 {version}.error_rate {error_rate} \
             {version}.p99_ms {p99_ms}"
        ));
    }
}

fn weights(redis: &Redis) -> BTreeMap<String, String> {
    redis.hash("smartlink:weights:a")
}

/// What both programs do, turn by turn.
fn shifts_within_bounds(program: &str) {
    let redis = Redis::start();
    let url = user(&redis, "algorithm");
    redis.run("HSET smartlink:weights:a base 90 candidate 10");
    let turn = || run(program, &["a", "1"], &url);
    let candidate = || weights(&redis).remove("candidate");
    assert_eq!(turn(), "", "no figures, no shift");
    for (figures, begins, ends) in [
        // No worse: 5 up, to 50 at most.
        ((("0", "30"), ("0.005", "35")), "10", "15"),
        ((("0", "30"), ("0", "30")), "48", "50"),
        // Fails more, or is slower: 5 down, to 1 at least.
        ((("0", "30"), ("0.02", "30")), "50", "45"),
        ((("0", "30"), ("0", "37")), "45", "40"),
        ((("0", "30"), ("1", "30")), "3", "1"),
        // A person took it out.
        ((("0", "30"), ("0", "30")), "0", "0"),
    ] {
        write_live(&redis, figures.0, figures.1);
        redis.run(&format!("HSET smartlink:weights:a candidate {begins}"));
        let printed = turn();
        assert_eq!(candidate().as_deref(), Some(ends), "{figures:?} {printed}");
        if ends != "0" {
            let sum: u32 = weights(&redis)
                .values()
                .map(|it| it.parse::<u32>().expect("a number"))
                .sum();
            assert_eq!(sum, 100);
            assert!(
                printed.contains(&format!("{begins} -> {ends} of 100")),
                "{printed}"
            );
        }
    }
    redis.run("DEL smartlink:weights:a");
    assert_eq!(turn(), "");
    assert!(weights(&redis).is_empty(), "no weights, nothing to shift");
}

#[test]
fn the_shell_program_shifts_towards_the_better_version_within_bounds() {
    shifts_within_bounds("shift.sh");
}

#[test]
fn the_python_program_shifts_towards_the_better_version_within_bounds() {
    let import = Command::new("python3")
        .args(["-c", "import redis"])
        .stderr(Stdio::null())
        .status();
    if !import.is_ok_and(|status| status.success()) {
        eprintln!(
            "skipped: python3 cannot import redis (pip install redis), and tests install nothing"
        );
        return;
    }
    shifts_within_bounds("shift.py");
}

#[test]
fn the_windows_of_ten_minutes_add_up() {
    let redis = Redis::start();
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base http://127.0.0.1:2/ candidate");
    let plane = Plane::start(&redis);
    let service = eventually("it is served", || plane.table().services.get("a").cloned());
    for n in 0..600 {
        let outcome = Outcome {
            status: if n < 30 { 500 } else { 200 },
            total_us: if n < 10 { 500_000 } else { 1_000 },
            ..Outcome::default()
        };
        plane.control.counters[0].count_version(&service.versions[0], &outcome);
    }
    eventually("all are counted", || {
        let counted = redis.hash("smartlink:stats:a:base").remove("requests");
        (counted.as_deref() == Some("600")).then_some(())
    });
    let url = user(&redis, "analyst");
    assert_eq!(
        run("windows.sh", &["a"], &url),
        "base 1.0/s 5.00% 5xx p99 <=819.2ms\ncandidate 0.0/s 0.00% 5xx p99 -\n"
    );
}

#[test]
fn the_user_of_an_algorithm_can_do_its_work_and_nothing_else() {
    let redis = Redis::start();
    user(&redis, "algorithm");
    let mut connection = redis.connect();
    connection.run("AUTH algorithm secret");
    for fine in [
        "HGETALL smartlink:live:a",
        "HGETALL smartlink:live:a:endpoints",
        "HGETALL smartlink:stats:a:base",
        "HMGET smartlink:stats:a:base:1700000000 requests status_5xx",
        "HGETALL smartlink:weights:a",
        "HSET smartlink:weights:a base 90 candidate 10",
        "PING",
    ] {
        connection.run(fine);
    }
    for denied in [
        "HSET smartlink:endpoints:a http://127.0.0.1:6666/ base",
        "HSET smartlink:service:a auth none",
        "HSET smartlink:live:a base.rps 0",
        "HSET smartlink:stats:a:base requests 0",
        "HGETALL smartlink:token:ab",
        "HGETALL smartlink:issuer:a",
        "HGETALL smartlink:endpoints:a",
        "SCAN 0",
        "KEYS *",
        "DEL smartlink:weights:a",
        "FLUSHALL",
        "FLUSHDB",
        "CONFIG GET *",
        "CLIENT KILL TYPE normal",
        "CLIENT PAUSE 1000",
        "EVAL return(1) 0",
        "ACL LIST",
        "PUBLISH c x",
    ] {
        let words: Vec<&str> = denied.split_whitespace().collect();
        let error = connection.try_call(&words).expect_err(denied);
        assert!(error.starts_with("NOPERM"), "{denied}: {error}");
    }
}
