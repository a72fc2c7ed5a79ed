//! `smartlink shadow --admin`: what Prometheus is told of a worker, and to whom.

#![expect(
    clippy::float_cmp,
    clippy::indexing_slicing,
    reason = "a panic fails the test, which is what is wanted; counts are exact"
)]

use std::net::SocketAddr;

use smartlink::telemetry::metrics::{Kind, WORKER};

use crate::support::client::{Answer, Client};
use crate::support::eventually;
use crate::support::exposition::Page;
use crate::support::port::Port;
use crate::support::redis::Redis;
use crate::support::replay::{add, add_all, answering, record, start};

fn ask(address: SocketAddr, path: &str, host: &str) -> Option<Answer> {
    std::net::TcpStream::connect(address).ok()?;
    let mut client = Client::connect(address);
    client.send(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n"));
    Some(client.read_answer())
}

fn scrape(address: SocketAddr) -> Option<Page> {
    let answer = ask(address, "/metrics", &address.to_string())?;
    assert_eq!(answer.head.status, 200);
    let kind = answer.header("content-type");
    assert_eq!(kind, Some("text/plain; version=0.0.4; charset=utf-8"));
    Some(Page::parse(answer.text()))
}

/// A service of which two records of three fail at the candidate, one is skipped and one is none.
fn stage(candidate: &str, scorer: &str) -> Redis {
    let redis = Redis::start();
    redis.call(&[
        "HSET",
        "smartlink:endpoints:ner",
        "http://127.0.0.1:1/",
        "base",
        candidate,
        "candidate",
    ]);
    redis.run(&format!("HSET smartlink:shadow:ner scorer {scorer}"));
    let mut all: Vec<_> = (1..=9).map(|n| record(n, "{\"data\":[1]}")).collect();
    all[8].replayable = false;
    add_all(&redis, all);
    add(&redis, "no record");
    redis
}

/// All metrics are told, in this order and with these labels, and stand in the manual.
#[track_caller]
fn assert_told(page: &Page) {
    let names: Vec<_> = WORKER.iter().map(|metric| metric.name).collect();
    let families = page.families();
    assert_eq!(
        families.get(..names.len()),
        Some(&names[..]),
        "in this order"
    );
    for name in ["process_start_time_seconds", "smartlink_build_info"] {
        assert_eq!(page.family(name).len(), 1, "{name}");
    }
    let manual = include_str!("../../docs/shadow-worker.md");
    for metric in WORKER {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = metric.labels.iter().map(|it| format!("`{it}`")).collect();
        let row = format!(
            "| `{}` | {kind} | {} | {} |",
            metric.name,
            labels.join(", "),
            metric.help
        );
        assert!(
            manual.lines().any(|line| line == row),
            "the manual has no {row}"
        );
        let samples = page.family(metric.name);
        assert!(!samples.is_empty(), "{} has no sample", metric.name);
        for sample in samples {
            let mut labels = sample.label_names();
            labels.retain(|name| *name != "le");
            assert_eq!(labels, metric.labels, "{}", metric.name);
        }
    }
}

#[test]
fn prometheus_is_told_what_was_counted() {
    let candidate = answering(|n| match n % 2 {
        0 => (500, "{}".to_owned()),
        _ => (200, "{\"data\":[2]}".to_owned()),
    });
    let redis = stage(&candidate.url("/"), "http://127.0.0.1:1/");
    let port = Port::reserve();
    let admin = port.address().to_string();
    let args = ["--from", "oldest", "--max-rate", "off", "--admin", &admin];
    let mut worker = start(&redis, &args);
    let lane = [("service", "ner"), ("candidate", "candidate")];
    let of = |page: &Page, name: &str, label: (&str, &str)| {
        page.sum(
            &format!("smartlink_shadow_{name}"),
            &[lane[0], lane[1], label],
        )
    };
    let page = eventually("all is told", || {
        let page = scrape(port.address())?;
        let counted = of(&page, "worker_records_total", ("fate", "counted"));
        let told = counted == 8.0 && !page.family("smartlink_shadow_records_waiting").is_empty();
        (told && of(&page, "records_waiting", lane[0]) == 0.0).then_some(page)
    });
    for (name, label, count) in [
        ("worker_records_total", ("fate", "dead"), 1.0),
        (
            "worker_records_total",
            ("fate", "skipped_not_replayable"),
            1.0,
        ),
        ("worker_pairs_total", ("pair", "candidate_bad_only"), 4.0),
        ("worker_pairs_total", ("pair", "both_ok"), 4.0),
        ("worker_scores_total", ("result", "unscored"), 4.0),
        ("worker_calls_total", ("asked", "candidate"), 8.0),
        ("worker_calls_total", ("result", "whole"), 8.0),
        ("worker_calls_total", ("result", "connect"), 8.0),
        (
            "worker_call_duration_seconds_count",
            ("asked", "candidate"),
            8.0,
        ),
        ("worker_records_in_flight", lane[0], 0.0),
        ("records_pending", lane[0], 0.0),
        ("worker_state", ("state", "paused"), 0.0),
    ] {
        assert_eq!(of(&page, name, label), count, "{name} {label:?}");
    }
    assert_told(&page);
    let health = ask(port.address(), "/healthz", "any.example").unwrap();
    assert_eq!((health.head.status, health.text()), (200, "ok\n"));
    // A page of the web that has a name for this address learns nothing.
    let strange = ask(port.address(), "/metrics", "any.example").unwrap();
    assert_eq!(strange.head.status, 403);
    let unknown = ask(port.address(), "/api/v1/table", &admin).unwrap();
    assert_eq!(unknown.head.status, 404);
    worker.kill().unwrap();
    worker.wait().unwrap();
}

#[test]
fn a_candidate_that_is_away_is_told() {
    let port = Port::reserve();
    let redis = stage(&Port::reserve().url(), "http://127.0.0.1:1/");
    let admin = port.address().to_string();
    let args = ["--from", "oldest", "--max-rate", "off", "--admin", &admin];
    let mut worker = start(&redis, &args);
    eventually("it is told", || {
        let page = scrape(port.address())?;
        let paused = page.sum("smartlink_shadow_worker_state", &[("state", "paused")]);
        (paused == 1.0).then_some(())
    });
    worker.kill().unwrap();
    worker.wait().unwrap();
}
