//! Faults of a candidate, by way of records, a worker and a report: each is found where it is within
//! 5,000 pairs, beside answers that are never the same twice; an identical one is accused of nothing.

#![expect(
    clippy::indexing_slicing,
    reason = "a panic fails the test, which is what is wanted"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value as Json;

use crate::support::redis::Redis;
use crate::support::replay::{add_all, asked, compare_all, record, report, response};
use crate::support::upstream::Upstream;

/// Within so many pairs every fault is found.
const ENOUGH: u64 = 5_000;
/// After each so many the report is looked at.
const BATCH: u64 = 500;
/// How long `base` takes, and the candidate.
const ALIKE: [Duration; 2] = [Duration::from_millis(1); 2];

/// What the candidate does to its answer to a request; the status it answers with.
type Fault = fn(u64, &mut Json) -> u16;

/// Two versions that take so long, of which the candidate has a fault.
struct Stage {
    redis: Redis,
    noise: Arc<AtomicU64>,
    pairs: u64,
    _versions: [Upstream; 2],
}

impl Stage {
    fn new(fault: Fault, takes: [Duration; 2]) -> Self {
        let noise = Arc::default();
        let base = version(&noise, takes[0], well);
        let candidate = version(&noise, takes[1], fault);
        let redis = Redis::start();
        for (url, version) in [(base.url("/"), "base"), (candidate.url("/"), "candidate")] {
            redis.call(&["HSET", "smartlink:endpoints:ner", &url, version]);
        }
        redis.run("HSET smartlink:shadow:ner label 0% unordered /tags");
        Self {
            redis,
            noise,
            pairs: 0,
            _versions: [base, candidate],
        }
    }

    /// The report after so many more pairs.
    fn compare(&mut self, more: u64) -> Json {
        let epoch = record(0, "").epoch;
        let all = (self.pairs + 1..=self.pairs + more).map(|n| {
            let mut record = record(n, &answer(&self.noise, n, well).1);
            // Each batch is one life of a gateway.
            (record.epoch, record.sequence) = (epoch, n - self.pairs);
            record
        });
        add_all(&self.redis, all.collect());
        self.pairs += more;
        compare_all(&self.redis, &[]);
        report(&self.redis, "candidate")
    }
}

fn well(_: u64, _: &mut Json) -> u16 {
    200
}

fn version(noise: &Arc<AtomicU64>, takes: Duration, fault: Fault) -> Upstream {
    let noise = Arc::clone(noise);
    Upstream::start(move |connection| {
        while let Some(seen) = connection.read_request() {
            std::thread::sleep(takes);
            let (status, body) = answer(&noise, asked(&seen.body), fault);
            connection.send(response(status, &body));
        }
    })
}

/// Identities, times, a list in any order, and a text that now and then differs by itself.
fn answer(noise: &AtomicU64, n: u64, fault: Fault) -> (u16, String) {
    let at = noise.fetch_add(1, Ordering::Relaxed);
    let mut tags = ["a", "b", "c"];
    tags.rotate_left((at % 3) as usize);
    let mut answer = serde_json::json!({
        "status": true, "id": at, "count": 3, "meta": {"model": "m1", "at": at},
        "data": [{"of": n, "class": "x", "at": at}], "tags": tags,
    });
    if at.is_multiple_of(9) {
        answer["text"] = "more or less".into();
    }
    let status = fault(n, &mut answer);
    (status, answer.to_string())
}

fn flagged(report: &Json) -> Vec<&str> {
    let paths = report["paths"].as_array().expect("paths").iter();
    let flagged = paths.filter(|row| row["flagged"] == true);
    let paths = flagged.map(|row| row["path"].as_str().expect("a path"));
    paths.collect()
}

fn worse(report: &Json) -> Vec<&str> {
    let findings = report["findings"].as_object().expect("findings").iter();
    let worse = findings.filter(|(_, finding)| finding["proven"] == "worse");
    worse.map(|(question, _)| question.as_str()).collect()
}

/// Compares until something is found: the accused paths, and what the candidate is worse in.
#[track_caller]
fn found(fault: Fault, takes: [Duration; 2]) -> (Vec<String>, Vec<String>) {
    let mut stage = Stage::new(fault, takes);
    loop {
        let report = stage.compare(BATCH);
        let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect();
        let (paths, worse): (Vec<_>, Vec<_>) = (owned(flagged(&report)), owned(worse(&report)));
        if !paths.is_empty() || !worse.is_empty() || stage.pairs >= ENOUGH {
            eprintln!("{paths:?} {worse:?} after {} pairs", stage.pairs);
            return (paths, worse);
        }
    }
}

#[test]
fn each_fault_of_answers_is_accused_where_it_is() {
    let faults: [(Fault, &str); 3] = [
        (
            |_, answer| {
                drop(answer["meta"].as_object_mut().map(|it| it.remove("model")));
                200
            },
            "/meta/model",
        ),
        (
            |_, answer| {
                answer["count"] = "3".into();
                200
            },
            "/count",
        ),
        // One in a hundred.
        (
            |n, answer| {
                if n.is_multiple_of(100) {
                    answer["data"][0]["class"] = "wrong".into();
                }
                200
            },
            "/data/*/class",
        ),
    ];
    for (fault, path) in faults {
        assert_eq!(found(fault, ALIKE).0, [path]);
    }
}

#[test]
fn one_that_fails_now_and_then_is_called_worse() {
    // One in fifty.
    let fails: Fault = |n, _| if n.is_multiple_of(50) { 500 } else { 200 };
    let (paths, worse) = found(fails, ALIKE);
    assert_eq!((paths, &*worse), (Vec::new(), &["errors".to_owned()][..]));
}

#[test]
fn one_that_takes_a_fifth_longer_is_called_slower() {
    let takes = [5, 6].map(Duration::from_millis);
    let (paths, worse) = found(well, takes);
    assert_eq!((paths, &*worse), (Vec::new(), &["latency".to_owned()][..]));
}

#[test]
fn an_identical_one_is_accused_of_nothing() {
    for run in 0..20 {
        let mut stage = Stage::new(well, ALIKE);
        let report = stage.compare(200);
        assert_eq!(report["compared"], 200, "run {run}: {report}");
        assert_eq!(flagged(&report), [""; 0], "run {run}: {report}");
    }
}
