//! Faults of a candidate, by way of gateway's records, a worker and a report: each is found where it
//! is, beside answers that are never the same twice.

#![expect(
    clippy::indexing_slicing,
    reason = "a panic fails the test, which is what is wanted"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::support::redis::Redis;
use crate::support::replay::{add_all, asked, compare_all, record, report, response};
use crate::support::upstream::Upstream;

/// What the candidate does to an answer.
type Fault = fn(u64, &mut serde_json::Value);

/// A version that answers after so long, with noise and a fault.
fn version(noise: &Arc<AtomicU64>, takes: Duration, fault: Fault) -> Upstream {
    let noise = Arc::clone(noise);
    Upstream::start(move |connection| {
        while let Some(seen) = connection.read_request() {
            std::thread::sleep(takes);
            let n = asked(&seen.body);
            connection.send(response(200, &answer(&noise, n, fault)));
        }
    })
}

fn answer(noise: &AtomicU64, n: u64, fault: Fault) -> String {
    let at = noise.fetch_add(1, Ordering::Relaxed);
    let mut answer = serde_json::json!({
        "status": true, "id": at, "count": 3, "meta": {"model": "m1", "at": at},
        "data": [{"of": n, "class": "x", "at": at}],
    });
    // Now and then a text differs by itself.
    if at.is_multiple_of(9) {
        answer["text"] = "more or less".into();
    }
    fault(n, &mut answer);
    answer.to_string()
}

/// What the report accuses after so many pairs, and what it finds of latency.
#[track_caller]
fn accused(fault: Fault, takes: Duration, pairs: u64) -> (Vec<String>, String) {
    const FAST: Duration = Duration::from_millis(3);
    let noise = Arc::default();
    let base = version(&noise, FAST, |_, _| {});
    let candidate = version(&noise, FAST + takes, fault);
    let redis = Redis::start();
    for (url, version) in [(base.url("/"), "base"), (candidate.url("/"), "candidate")] {
        redis.call(&["HSET", "smartlink:endpoints:ner", &url, version]);
    }
    redis.run("HSET smartlink:shadow:ner label 0%");
    let all = (1..=pairs).map(|n| record(n, &answer(&noise, n, |_, _| {})));
    add_all(&redis, all.collect());
    compare_all(&redis, &[]);
    let report = report(&redis, "candidate");
    let paths = report["paths"].as_array().expect("paths").iter();
    let flagged = paths.filter(|row| row["flagged"] == true);
    let paths = flagged.map(|row| row["path"].as_str().expect("a path").to_owned());
    let latency = report["findings"]["latency"]["proven"].as_str();
    (paths.collect(), latency.expect("a finding").to_owned())
}

#[test]
fn each_fault_is_accused_where_it_is() {
    let faults: [(Fault, &str); 3] = [
        (
            |_, answer| drop(answer["meta"].as_object_mut().map(|it| it.remove("model"))),
            "/meta/model",
        ),
        (|_, answer| answer["count"] = "3".into(), "/count"),
        (
            |n, answer| {
                if n.is_multiple_of(10) {
                    answer["data"][0]["class"] = "wrong".into();
                }
            },
            "/data/*/class",
        ),
    ];
    for (fault, path) in faults {
        assert_eq!(accused(fault, Duration::ZERO, 300).0, [path]);
    }
    assert_eq!(accused(|_, _| {}, Duration::ZERO, 300).0, [""; 0]);
}

#[test]
fn one_that_takes_twice_as_long_is_called_slower() {
    let (paths, latency) = accused(|_, _| {}, Duration::from_millis(6), 300);
    assert_eq!((paths, &*latency), (Vec::new(), "worse"));
}
