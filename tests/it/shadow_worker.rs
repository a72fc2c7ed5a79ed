//! The shadow worker: every record is counted exactly once, whatever happens to workers and
//! candidates.

#![expect(
    clippy::unwrap_used,
    reason = "a panic fails the test, which is what is wanted"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use smartlink::shadow::Record;

use crate::support::eventually;
use crate::support::port::Port;
use crate::support::receiver::Receiver;
use crate::support::redis::Redis;
use crate::support::replay::{
    SERVICE, add, add_all, answering, asked, await_count, compare_all, many, record, report,
    response, run, start,
};
use crate::support::site::Site;
use crate::support::upstream::Upstream;

/// What a good version answers to request `n`.
fn good(n: u64) -> String {
    format!("{{\"status\":true,\"data\":[{{\"of\":{n},\"class\":\"x\"}}],\"duration\":{n}}}")
}

fn records(range: std::ops::RangeInclusive<u64>) -> Vec<Record> {
    range.map(|n| record(n, &good(n))).collect()
}

/// How often a worker is killed.
const KILLS: usize = 20;

/// A Redis whose service has these versions, in this order: `base`, the candidates.
fn stage(versions: &[(&str, &str)]) -> Redis {
    let redis = Redis::start();
    for (url, version) in versions {
        redis.call(&["HSET", "smartlink:endpoints:ner", url, version]);
    }
    let candidates: Vec<&str> = versions
        .iter()
        .map(|(_, v)| *v)
        .filter(|v| *v != "base")
        .collect();
    redis.call(&[
        "HSET",
        "smartlink:shadow:ner",
        "candidate",
        &candidates.join(","),
    ]);
    redis
}

fn counter(redis: &Redis, name: &str) -> u64 {
    let results = redis.hash("smartlink:shadow-results:ner:candidate");
    results.get(name).map_or(0, |text| text.parse().unwrap())
}

#[test]
fn a_report_finds_what_was_injected_and_nothing_else() {
    // Every answer has a field that is never the same twice.
    let noise = AtomicUsize::new(0);
    let noise = Arc::new(noise);
    let told = |noise: &AtomicUsize, class: &str, n: u64| {
        let at = noise.fetch_add(1, Ordering::Relaxed);
        format!("{{\"status\":true,\"data\":[{{\"of\":{n},\"class\":\"{class}\",\"at\":{at}}}]}}")
    };
    let mine = Arc::clone(&noise);
    let base = answering(move |n| (200, told(&mine, "x", n)));
    let mine = Arc::clone(&noise);
    let candidate = answering(move |n| match n {
        n if n.is_multiple_of(10) => (500, "{}".to_owned()),
        n if n % 4 == 1 => (200, told(&mine, "y", n)),
        n => (200, told(&mine, "x", n)),
    });
    let redis = stage(&[
        (&base.url("/b"), "base"),
        (&candidate.url("/c"), "candidate"),
    ]);
    add_all(
        &redis,
        (1..=100)
            .map(|n| record(n, &told(&noise, "x", n)))
            .collect(),
    );
    let summary = compare_all(&redis, &[]);
    assert_eq!(summary, "ner candidate: 100 compared, 90 differ, 10 bad\n");
    let report = report(&redis, "candidate");
    assert_eq!(report["pairs"]["candidate_bad_only"], 10, "{report}");
    assert_eq!(report["classes"]["http_5xx"], 10);
    assert_eq!(report["triples"], 90);
    let paths = report["paths"].as_array().unwrap();
    let path = |wanted: &str| paths.iter().find(|row| row["path"] == wanted).unwrap();
    assert_eq!(path("/data/*/class")["candidate_only"], 25);
    assert_eq!(path("/data/*/class")["noise_only"], 0);
    assert_eq!(path("/data/*/at")["both"], 90);
    assert_eq!(paths.len(), 2, "{report}");
    assert!(report["latency"]["ratio"].as_f64().unwrap() > 0.0);
    assert_eq!(report["books"]["pending"], 0);
    let text = run(&redis, &["shadow", "report", SERVICE]);
    for part in [
        "ner: candidate against base",
        "/data/*/class  25 of 90",
        "value: x -> y",
        "10 http_5xx",
        "curl -s '",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    // Every replay says that it is one, and whose.
    for seen in candidate.seen() {
        assert_eq!(seen.head.value("x-smartlink-shadow"), Some("1"));
        assert!(seen.head.value("x-request-id").unwrap().starts_with("r-"));
    }
    assert_eq!(base.seen().len(), 100);
}

#[test]
fn what_makes_no_pair_is_skipped_or_dead_and_counted() {
    let candidate = answering(|n| (200, good(n)));
    let redis = stage(&[
        ("http://127.0.0.1:1/", "base"),
        (&candidate.url("/"), "candidate"),
    ]);
    let mut all = records(1..=8);
    all[0].replayable = false;
    all[1].version = "candidate".to_owned();
    all[2].outcome = smartlink::shadow::Outcome::ClientLeft;
    all[3].outcome = smartlink::shadow::Outcome::Begun;
    all[4].started_ms = 1;
    all[5].chosen_by = smartlink::shadow::ChosenBy::Slow;
    add_all(&redis, all);
    add(&redis, "no record");
    redis.run("XADD smartlink:shadow-stream:ner * other field");
    run(&redis, &["shadow", SERVICE, "--once", "--log", "error"]);
    assert_eq!(
        counter(&redis, "read"),
        0,
        "what stood there before is not new"
    );
    redis.run("XGROUP SETID smartlink:shadow-stream:ner candidate:candidate 0");
    run(
        &redis,
        &[
            "shadow",
            SERVICE,
            "--once",
            "--max-rate",
            "off",
            "--log",
            "error",
        ],
    );
    for (name, count) in [
        ("read", 10),
        ("counted", 3),
        ("kept", 1),
        ("both_ok", 2),
        ("skipped_not_replayable", 1),
        ("skipped_version", 1),
        ("skipped_client_left", 1),
        ("skipped_begun", 1),
        ("skipped_age", 1),
        ("dead", 2),
    ] {
        assert_eq!(counter(&redis, name), count, "{name}");
    }
    assert_eq!(redis.run("XLEN smartlink:shadow-dead:ner").number(), 2);
    assert_eq!(candidate.seen().len(), 3);
}

#[test]
fn records_are_counted_once_however_often_workers_are_killed() {
    let total = many(1_500);
    let base = answering(|n| (200, good(n)));
    let candidate = Upstream::start(|connection| {
        while let Some(seen) = connection.read_request() {
            let n = asked(&seen.body);
            if n.is_multiple_of(50) {
                std::thread::sleep(Duration::from_millis(50));
            }
            let status = if n.is_multiple_of(25) { 500 } else { 200 };
            connection.send(response(status, &good(n)));
        }
    });
    let redis = stage(&[(&base.url("/"), "base"), (&candidate.url("/"), "candidate")]);
    add_all(&redis, records(1..=total));
    let poison = total / 50;
    for n in 0..poison {
        add(&redis, &format!("poison {n}"));
    }
    let args = [
        "--from",
        "oldest",
        "--max-rate",
        "off",
        "--max-concurrent",
        "2",
        "--claim-after",
        "2s",
    ];
    let mut workers = [start(&redis, &args), start(&redis, &args)];
    let mut before = 0;
    for kill in 0..KILLS {
        // Each life does some work, however slow the machine is.
        let all = total + poison;
        let done = eventually("records are counted", || {
            let done = counter(&redis, "counted") + counter(&redis, "dead");
            (done > before + (kill as u64 % 5) * 3 || done == all).then_some(done)
        });
        before = done;
        let worker = &mut workers[kill % 2];
        worker.kill().unwrap();
        worker.wait().unwrap();
        *worker = start(&redis, &args);
    }
    let done = || counter(&redis, "counted") + counter(&redis, "dead");
    assert_eq!(await_count(done, total + poison), total + poison);
    let pending = redis
        .run("XPENDING smartlink:shadow-stream:ner candidate:candidate")
        .texts();
    assert_eq!(
        pending.first().map(String::as_str),
        Some("0"),
        "{pending:?}"
    );
    for worker in &mut workers {
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
    assert_eq!(counter(&redis, "read"), total + poison);
    assert_eq!(counter(&redis, "dead"), poison);
    assert_eq!(counter(&redis, "candidate_bad_only"), total / 25);
    assert_eq!(counter(&redis, "both_ok"), total - total / 25);
    let calls = candidate.seen().len();
    eprintln!("{total} records, {KILLS} kills, {calls} calls");
}

#[test]
fn records_that_were_trimmed_unread_are_missed() {
    let candidate = answering(|n| (200, good(n)));
    let redis = stage(&[
        ("http://127.0.0.1:1/", "base"),
        (&candidate.url("/"), "candidate"),
    ]);
    run(&redis, &["shadow", SERVICE, "--once", "--log", "error"]);
    add_all(&redis, records(1..=300));
    redis.run("XTRIM smartlink:shadow-stream:ner MAXLEN 50");
    run(
        &redis,
        &[
            "shadow",
            SERVICE,
            "--once",
            "--max-rate",
            "off",
            "--log",
            "error",
        ],
    );
    let report = report(&redis, "candidate");
    assert_eq!(report["books"]["lost_unread"], 250, "{report}");
    assert_eq!(report["books"]["read"], 50);
}

#[test]
fn a_candidate_never_gets_more_calls_at_once_than_allowed() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, peak) = (Arc::clone(&now), Arc::clone(&most));
    let candidate = Upstream::start(move |connection| {
        while let Some(seen) = connection.read_request() {
            let here = count.fetch_add(1, Ordering::SeqCst) + 1;
            peak.fetch_max(here, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(5));
            count.fetch_sub(1, Ordering::SeqCst);
            connection.send(response(200, &good(asked(&seen.body))));
        }
    });
    let redis = stage(&[
        ("http://127.0.0.1:1/", "base"),
        (&candidate.url("/"), "candidate"),
    ]);
    add_all(&redis, records(1..=60));
    compare_all(&redis, &["--max-concurrent", "3"]);
    assert_eq!(counter(&redis, "both_ok"), 60);
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[test]
fn a_candidate_that_is_away_costs_three_results_and_no_more() {
    let base = answering(|n| (200, good(n)));
    let port = Port::reserve();
    let redis = stage(&[(&base.url("/"), "base"), (&port.url(), "candidate")]);
    add_all(&redis, records(1..=30));
    let mut worker = start(&redis, &["--from", "oldest", "--max-rate", "off"]);
    let state = || {
        let results = redis.hash("smartlink:shadow-results:ner:candidate");
        results.get("state").cloned()
    };
    eventually("the worker waits", || {
        (state().as_deref() == Some("waiting_for_candidate")).then_some(())
    });
    eventually("three results", || {
        (counter(&redis, "counted") == 3).then_some(())
    });
    let _candidate = Upstream::start_on(port.listen(), |connection| {
        while let Some(seen) = connection.read_request() {
            connection.send(response(200, &good(asked(&seen.body))));
        }
    });
    eventually("the rest is compared", || {
        (counter(&redis, "counted") == 30).then_some(())
    });
    assert_eq!(counter(&redis, "class.connect"), 3);
    assert_eq!(counter(&redis, "class.ok"), 27);
    worker.kill().unwrap();
    worker.wait().unwrap();
}

#[test]
fn a_candidate_that_goes_and_comes_in_the_middle_costs_few_results() {
    let port = Port::reserve();
    let serve = || {
        Upstream::start_on(port.listen(), |connection| {
            while let Some(seen) = connection.read_request() {
                std::thread::sleep(Duration::from_millis(2));
                connection.send(response(200, &good(asked(&seen.body))));
            }
        })
    };
    let candidate = serve();
    let redis = stage(&[("http://127.0.0.1:1/", "base"), (&port.url(), "candidate")]);
    add_all(&redis, records(1..=400));
    let once = [
        "--from",
        "oldest",
        "--max-rate",
        "off",
        "--max-concurrent",
        "1",
    ];
    let mut worker = start(&redis, &once);
    eventually("some are compared", || {
        (counter(&redis, "counted") >= 50).then_some(())
    });
    candidate.close();
    eventually("the worker waits", || {
        let results = redis.hash("smartlink:shadow-results:ner:candidate");
        (results.get("state")? == "waiting_for_candidate").then_some(())
    });
    let before = counter(&redis, "counted");
    assert!(before < 400, "it was in the middle");
    let _candidate = serve();
    eventually("the rest is compared", || {
        (counter(&redis, "counted") == 400).then_some(())
    });
    assert_eq!(counter(&redis, "class.connect"), 3);
    // One call may have been on its way.
    assert!(counter(&redis, "class.ok") >= 396);
    worker.kill().unwrap();
    worker.wait().unwrap();
}

#[test]
fn four_of_five_thousand_records_trimmed_unread_are_counted_and_people_are_told() {
    let candidate = answering(|n| (200, good(n)));
    let redis = stage(&[
        ("http://127.0.0.1:1/", "base"),
        (&candidate.url("/"), "candidate"),
    ]);
    let receiver = Receiver::start();
    redis.run(&format!(
        "HSET smartlink:alert:ops url {} on shadow_dropped",
        receiver.url()
    ));
    let _gateway = Site::start(&redis);
    run(&redis, &["shadow", SERVICE, "--once", "--log", "error"]);
    let mut connection = redis.connect();
    let key = "smartlink:shadow-stream:ner";
    let all = records(1..=5_000);
    let epoch = all[0].epoch;
    for mut record in all {
        record.epoch = epoch;
        let text = serde_json::to_string(&record).unwrap();
        connection.call(&["XADD", key, "MAXLEN", "1000", "*", "record", &text]);
    }
    compare_all(&redis, &["--max-concurrent", "16"]);
    let report = report(&redis, "candidate");
    assert_eq!(report["books"]["lost_unread"], 4_000, "{report}");
    assert_eq!(report["books"]["read"], 1_000);
    assert_eq!(report["books"]["counted"], 1_000);
    eventually("people are told", || {
        let told = receiver.told();
        (told == ["firing shadow_dropped ner"]).then_some(())
    });
}

#[test]
fn events_stand_where_the_configuration_is() {
    let config = stage(&[
        ("http://127.0.0.1:1/b", "base"),
        ("http://127.0.0.1:1/c", "candidate"),
    ]);
    let apart = Redis::start();
    add_all(&apart, records(1..=5));
    let url = apart.url();
    let args = ["--from", "oldest", "--shadow-redis", &url];
    let mut worker = start(&config, &args);
    let told = |redis: &Redis| {
        let events = redis.run("XRANGE smartlink:events - +").texts();
        events.iter().any(|word| word == "waiting_for_candidate")
    };
    eventually("it is told", || told(&config).then_some(()));
    assert!(!told(&apart));
    worker.kill().unwrap();
    worker.wait().unwrap();
}

#[test]
fn each_candidate_sees_every_record() {
    let base = answering(|n| (200, good(n)));
    let one = answering(|n| (200, good(n)));
    let two = answering(|n| (200, good(n + 1)));
    let redis = stage(&[
        (&base.url("/"), "base"),
        (&one.url("/"), "candidate"),
        (&two.url("/"), "next"),
    ]);
    add_all(&redis, records(1..=40));
    compare_all(&redis, &[]);
    let (one, two) = (report(&redis, "candidate"), report(&redis, "next"));
    assert_eq!([&one["compared"], &one["equal"]], [40, 40], "{one}");
    assert_eq!([&two["compared"], &two["equal"]], [40, 0], "{two}");
}

#[test]
fn a_worker_that_is_told_to_end_finishes_what_it_began() {
    let gate = Arc::new(std::sync::Barrier::new(2));
    let wait = Arc::clone(&gate);
    let candidate = Upstream::start(move |connection| {
        while let Some(seen) = connection.read_request() {
            wait.wait();
            wait.wait();
            connection.send(response(200, &good(asked(&seen.body))));
        }
    });
    let redis = stage(&[
        ("http://127.0.0.1:1/", "base"),
        (&candidate.url("/"), "candidate"),
    ]);
    add_all(&redis, records(1..=5));
    let mut worker = start(&redis, &["--from", "oldest", "--max-concurrent", "1"]);
    gate.wait();
    let pid = worker.id().to_string();
    let told = std::process::Command::new("kill")
        .args(["-s", "TERM", &pid])
        .status();
    assert!(told.unwrap().success());
    std::thread::sleep(Duration::from_millis(50));
    gate.wait();
    assert!(worker.wait().unwrap().success());
    assert_eq!(counter(&redis, "counted"), 1);
    let pending = redis
        .run("XPENDING smartlink:shadow-stream:ner candidate:candidate")
        .texts();
    assert_eq!(
        pending.first().map(String::as_str),
        Some("0"),
        "{pending:?}"
    );
}
