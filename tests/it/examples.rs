//! The programs in `examples/`, run as they stand, as users that may do what the manual lets them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use smartlink::stats::Outcome;

use crate::support::control::Plane;
use crate::support::eventually;
use crate::support::load::{Load, named};
use crate::support::redis::Redis;
use crate::support::site::Site;
use crate::support::upstream::Upstream;

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
    if has_redis_py() {
        shifts_within_bounds("shift.py");
    }
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

/// Whether redis-py is there; tests install nothing.
fn has_redis_py() -> bool {
    let import = Command::new("python3")
        .args(["-c", "import redis"])
        .stderr(Stdio::null())
        .status();
    let there = import.is_ok_and(|status| status.success());
    if !there {
        eprintln!("skipped: python3 cannot import redis (pip install redis)");
    }
    there
}

/// A gateway with a service of versions that behave each in its way, under load.
struct Steered {
    redis: Redis,
    _upstreams: Vec<Upstream>,
    site: Site,
    load: Option<Load>,
}

impl Steered {
    /// Each version is its name, after how long it answers, and of how many requests it fails one.
    fn start(versions: &[(&str, u64, usize)]) -> Self {
        let redis = Redis::start();
        let mut upstreams = Vec::new();
        for &(version, ms, fails) in versions {
            let asked = std::sync::atomic::AtomicUsize::new(1);
            let upstream = Upstream::start(move |connection| {
                while let Some(head) = connection.read_head() {
                    if connection.read_body(&head).is_none() {
                        break;
                    }
                    std::thread::sleep(std::time::Duration::from_millis(ms));
                    let nth = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    let fails = fails > 0 && nth.is_multiple_of(fails);
                    let status = if fails { "500 Sorry" } else { "200 OK" };
                    connection.send(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n"));
                }
            });
            redis.call(&["HSET", "smartlink:endpoints:a", &upstream.url("/"), version]);
            redis.call(&["HSET", "smartlink:weights:a", version, "100"]);
            upstreams.push(upstream);
        }
        redis.run("HSET smartlink:service:a eject_5xx off");
        let site = Site::start(&redis);
        let load = Load::start(site.address, vec![named("a"); 6], |_| Ok(()));
        Self {
            redis,
            _upstreams: upstreams,
            site,
            load: Some(load),
        }
    }

    /// Runs a program; the share of each version afterwards, in percent.
    fn steer(&self, program: &str, args: &[&str]) -> BTreeMap<String, u32> {
        let url = user(&self.redis, "algorithm");
        let printed = run(program, &[&["a"], args].concat(), &url);
        let weights = weights(&self.redis);
        let of = |text: &String| text.parse::<u32>().expect("a number");
        let sum: u32 = weights.values().map(of).sum();
        assert!(sum > 0, "{printed}");
        let share = |(version, text): (&String, &String)| (version.clone(), 100 * of(text) / sum);
        weights.iter().map(share).collect()
    }

    /// What the gateway serves by.
    fn in_force(&self) -> String {
        let table = self.site.ask_admin("/api/v1/table");
        let table: serde_json::Value = serde_json::from_str(&table).expect("JSON");
        let versions = table.pointer("/services/a/versions").expect("versions");
        let versions = versions.as_object().expect("an object").iter();
        let weights = versions.map(|(name, it)| format!("{name} {}", it["weight"]));
        weights.collect::<Vec<_>>().join(" ")
    }
}

impl Drop for Steered {
    fn drop(&mut self) {
        if let Some(load) = self.load.take() {
            load.stop();
        }
    }
}

#[test]
fn weights_come_to_be_in_inverse_proportion_to_latencies() {
    if !has_redis_py() {
        return;
    }
    let steered = Steered::start(&[("base", 40, 0), ("v2", 80, 0), ("v3", 160, 0)]);
    eventually("all are measured", || {
        let live = steered.redis.hash("smartlink:live:a");
        let measured = |version: &str| live.contains_key(&format!("{version}.p50_ms"));
        ["base", "v2", "v3"].into_iter().all(measured).then_some(())
    });
    let shares = steered.steer("least_time_weights.py", &["40", "0.1"]);
    // 4 to 2 to 1, and nearer to each other where the machine is slow.
    for (version, wanted) in [("base", 57), ("v2", 29), ("v3", 14)] {
        let share = shares[version];
        assert!(share.abs_diff(wanted) <= 8, "{version} {share}: {shares:?}");
    }
}

#[test]
fn the_version_that_fails_least_gets_most() {
    if !has_redis_py() {
        return;
    }
    let steered = Steered::start(&[("base", 5, 5), ("v2", 5, 50), ("v3", 5, 3)]);
    eventually("all were asked often", || {
        let often = |version: &str| {
            let stats = steered.redis.hash(&format!("smartlink:stats:a:{version}"));
            let asked = stats.get("requests")?.parse::<u32>().ok()?;
            (asked >= 300).then_some(())
        };
        ["base", "v2", "v3"].into_iter().try_for_each(often)
    });
    let shares = steered.steer("thompson.py", &["12", "0.05"]);
    assert!(shares["v2"] >= 85, "{shares:?}");
    assert!(
        shares["base"] >= 3 && shares["v3"] >= 3,
        "nobody is starved: {shares:?}"
    );
}

#[test]
fn a_trial_is_what_thompson_reads_where_there_is_one() {
    if !has_redis_py() {
        return;
    }
    let redis = Redis::start();
    redis.run("HSET smartlink:weights:a base 50 candidate 50");
    redis.run("HSET smartlink:stats:a:base requests 1000 status_5xx 900");
    redis.run("HSET smartlink:stats:a:candidate requests 1000 status_5xx 0");
    // Under both splits the candidate is the worse one.
    redis.run(
        "HSET smartlink:trial:a:candidate trial 1 10.base.requests 500 10.base.bad 5 \
         10.candidate.requests 50 10.candidate.bad 20 500.base.requests 500 500.base.bad 5 \
         500.candidate.requests 500 500.candidate.bad 200",
    );
    run("thompson.py", &["a", "3", "0.01"], &redis.url());
    let weights = weights(&redis);
    assert_eq!((&*weights["base"], &*weights["candidate"]), ("95", "5"));
}

#[test]
fn a_program_that_is_killed_or_writes_nonsense_leaves_the_last_good_weights() {
    let steered = Steered::start(&[("base", 1, 0), ("v2", 1, 0)]);
    steered.redis.run("HSET smartlink:weights:a base 70 v2 30");
    eventually("they are in force", || {
        (steered.in_force() == "base 70 v2 30").then_some(())
    });
    for nonsense in ["nan", "-1", "1e9", "0.5", ""] {
        steered
            .redis
            .call(&["HSET", "smartlink:weights:a", "v2", nonsense]);
        eventually("the mistake is named", || {
            let errors = steered.redis.hash("smartlink:errors");
            let said = errors.get("smartlink:weights:a v2")?;
            said.contains(&format!("{nonsense:?}")).then_some(())
        });
        assert_eq!(steered.in_force(), "base 70 v2 30", "{nonsense}");
    }
    steered.redis.run("HSET smartlink:weights:a v2 30");
    if !has_redis_py() {
        return;
    }
    // Killed in the middle of its work, what it wrote last stays.
    let url = user(&steered.redis, "algorithm");
    let mut child = Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/thompson.py"))
        .args(["a", "1000", "0.01"])
        .env("SMARTLINK_REDIS", url)
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    eventually("it steers", || {
        (weights(&steered.redis)["base"] != "70").then_some(())
    });
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    let last = weights(&steered.redis);
    let last: Vec<String> = last.iter().map(|(v, w)| format!("{v} {w}")).collect();
    eventually("the last is in force", || {
        (steered.in_force() == last.join(" ")).then_some(())
    });
}
