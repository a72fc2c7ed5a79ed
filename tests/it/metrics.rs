//! `/metrics`: what Prometheus is told, read by a parser that takes nothing but the text format.

#![expect(
    clippy::indexing_slicing,
    reason = "a panic fails the test, which is what is wanted"
)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    reason = "small counts, which are exact in both forms"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use smartlink::model::table::{Service, Version};
use smartlink::stats::{Attempt, ErrorKind, Outcome, Rejection};
use smartlink::telemetry::metrics::{ALL, Kind};

use crate::alerts::{alert, break_settings, mend_settings};
use crate::support::client::Client;
use crate::support::control::Plane;
use crate::support::eventually;
use crate::support::exposition::Page;
use crate::support::load::{named, serving};
use crate::support::receiver::Receiver;
use crate::support::redis::Redis;
use crate::support::site::{Site, await_proof};

fn service(plane: &Plane, name: &str) -> Arc<Service> {
    eventually("it is served", || plane.table().services.get(name).cloned())
}

fn scrape(plane: &Plane) -> Page {
    scrape_at(plane.control.admin.expect("an admin port"))
}

fn scrape_at(address: SocketAddr) -> Page {
    let mut client = Client::connect(address);
    client.send(format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\n\r\n"));
    let answer = client.read_answer();
    assert_eq!(answer.head.status, 200, "{}", answer.text());
    let kind = answer.header("content-type");
    assert_eq!(kind, Some("text/plain; version=0.0.4; charset=utf-8"));
    Page::parse(answer.text())
}

fn count(plane: &Plane, service: &Service, version: Option<&Version>, outcome: &Outcome) {
    let counter = &plane.control.counters[0];
    match version {
        Some(version) => counter.count_version(version, outcome),
        None => counter.count_service(service, outcome),
    }
}

/// Requests of every kind.
fn serve(plane: &Plane) {
    let service = service(plane, "a");
    let (base, candidate) = (&service.versions[0], &service.versions[1]);
    for i in 0..500_u64 {
        let fine = Outcome {
            status: if i % 5 == 0 { 404 } else { 200 },
            retries: u32::from(i % 10 == 0),
            bytes_in: 100 + i,
            bytes_out: 7 * i,
            total_us: 1 + i * i * i * 10,
            first_byte_us: Some(i * i),
            ..Outcome::default()
        };
        count(plane, &service, Some(base), &fine);
    }
    for error in [
        ErrorKind::Connect,
        ErrorKind::Timeout,
        ErrorKind::Timeout,
        ErrorKind::Reset,
        ErrorKind::Other,
    ] {
        let failed = Outcome {
            status: 502,
            error: Some(error),
            retries: 2,
            total_us: 900_000_000,
            ..Outcome::default()
        };
        count(plane, &service, Some(candidate), &failed);
    }
    for (status, rejection) in [
        (401, Rejection::Auth),
        (429, Rejection::Rate),
        (429, Rejection::Rate),
        (503, Rejection::Busy),
    ] {
        let refused = Outcome {
            status,
            rejection: Some(rejection),
            total_us: 50,
            ..Outcome::default()
        };
        count(plane, &service, None, &refused);
    }
}

/// The fields of a hash of counts as metrics say them.
fn as_told(page: &Page, version: &str) -> BTreeMap<String, u64> {
    let labels = [("service", "a"), ("version", version)];
    let mut fields = BTreeMap::new();
    let mut tell = |field: &str, value: f64| {
        let count = value.round() as u64;
        if count > 0 {
            fields.insert(field.to_owned(), count);
        }
    };
    let mut classes = [0.0; 6];
    for sample in page.of("smartlink_requests_total", &labels) {
        let status: usize = sample.label("status").parse().expect("a status");
        tell(&format!("status_{status}"), sample.value);
        classes[status / 100] += sample.value;
    }
    for (class, sum) in classes.iter().enumerate() {
        tell(&format!("status_{class}xx"), *sum);
    }
    let duration = |part: &str| format!("smartlink_request_duration_seconds_{part}");
    for sample in page.of(&duration("bucket"), &labels) {
        if sample.label("le") != "+Inf" {
            let bound: f64 = sample.label("le").parse().expect("a bound");
            tell(
                &format!("latency_us_le_{}", (bound * 1e6).round()),
                sample.value,
            );
        }
    }
    tell("requests", page.sum(&duration("count"), &labels));
    tell("latency_us_sum", page.sum(&duration("sum"), &labels) * 1e6);
    let first_byte = page.sum("smartlink_first_byte_seconds_total", &labels);
    tell("first_byte_us_sum", first_byte * 1e6);
    tell("retries", page.sum("smartlink_retries_total", &labels));
    tell(
        "bytes_in",
        page.sum("smartlink_request_bytes_total", &labels),
    );
    tell(
        "bytes_out",
        page.sum("smartlink_response_bytes_total", &labels),
    );
    for sample in page.of("smartlink_request_errors_total", &labels) {
        tell(&format!("error_{}", sample.label("kind")), sample.value);
    }
    if version.is_empty() {
        for sample in page.of("smartlink_requests_rejected_total", &labels[..1]) {
            tell(
                &format!("rejected_{}", sample.label("reason")),
                sample.value,
            );
        }
    }
    fields
}

#[test]
fn metrics_say_exactly_what_redis_was_told() {
    let redis = Redis::start();
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base http://127.0.0.1:2/ candidate");
    let plane = Plane::start(&redis);
    serve(&plane);
    for (key, version, requests) in [
        ("smartlink:stats:a:base", "base", 500),
        ("smartlink:stats:a:candidate", "candidate", 5),
        ("smartlink:stats:a", "", 4),
    ] {
        let told = eventually("redis knows all", || {
            let hash = redis.hash(key);
            let all = hash.get("requests").map(String::as_str) == Some(&*requests.to_string());
            all.then_some(hash)
        });
        let told: BTreeMap<String, u64> = told
            .into_iter()
            .filter(|(field, value)| field != "updated_ms" && value != "0")
            .map(|(field, value)| (field, value.parse().expect("a number")))
            .collect();
        assert_eq!(as_told(&scrape(&plane), version), told, "{key}");
    }
}

#[test]
fn requests_of_clients_are_told_as_redis_is_told() {
    let redis = Redis::start();
    let (upstream, _hits) = serving("hello");
    redis.call(&["HSET", "smartlink:endpoints:a", &upstream.url("/"), "base"]);
    let site = Site::start(&redis);
    await_proof(&redis);
    for _ in 0..20 {
        assert_eq!(site.ask(&named("a")).status, 200);
        // A name that nobody configured is no label.
        assert_eq!(site.ask(&named("stranger")).status, 400);
    }
    let told = eventually("redis knows all", || {
        let hash = redis.hash("smartlink:stats:a:base");
        let all = hash.get("requests").map(String::as_str) == Some("20");
        all.then_some(hash)
    });
    let page = scrape_at(site.admin);
    let said = as_told(&page, "base");
    for field in [
        "requests",
        "status_200",
        "latency_us_sum",
        "bytes_in",
        "bytes_out",
    ] {
        let said = said.get(field).map(u64::to_string);
        assert_eq!(said.as_ref(), told.get(field), "{field}");
    }
    let known = ["a", ""];
    assert!(page.all(|sample| known.contains(&sample.label("service"))));
    let attempts = [("service", "a"), ("result", "fine")];
    assert_eq!(
        page.sum("smartlink_endpoint_attempts_total", &attempts),
        20.0
    );
}

#[test]
fn every_metric_is_in_the_manual_and_in_a_scrape() {
    let redis = Redis::start();
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base http://127.0.0.1:2/ candidate");
    redis.run("HSET smartlink:shadow:a sample 1%");
    redis.run("HSET smartlink:alert:ops url http://127.0.0.1:1/ on config_error");
    redis.run("HSET smartlink:defaults timeout soon");
    let plane = Plane::start(&redis);
    serve(&plane);
    plane.await_proof();
    let page = eventually("the incident is told", || {
        let page = scrape(&plane);
        (!page.family("smartlink_alerts_open").is_empty()).then_some(page)
    });
    let manual = include_str!("../../docs/metrics.md");
    let rows: Vec<Vec<&str>> = manual
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let mut names: Vec<_> = ALL.iter().map(|metric| metric.name).collect();
    assert_eq!(page.families(), names, "what is exported, in this order");
    for metric in ALL {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = metric.labels.iter().map(|it| format!("`{it}`")).collect();
        let row = [&format!("`{}`", metric.name), kind, &labels.join(", ")];
        let is_told = rows.iter().any(|told| told.get(..3) == Some(&row[..]));
        assert!(is_told, "the manual has no row {row:?}");
        let samples = page.family(metric.name);
        assert!(!samples.is_empty(), "{} has no sample", metric.name);
        for sample in samples {
            let mut labels = sample.label_names();
            labels.retain(|name| *name != "le");
            assert_eq!(labels, metric.labels, "{}", metric.name);
        }
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!((names.len(), rows.len()), (ALL.len(), ALL.len()));
}

#[test]
fn what_is_removed_is_told_no_more() {
    let redis = Redis::start();
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base http://127.0.0.1:2/ candidate");
    redis.run("HSET smartlink:endpoints:b http://127.0.0.1:3/ base");
    let plane = Plane::start(&redis);
    serve(&plane);
    // A request still holds what is removed.
    let running = service(&plane, "a");
    let samples = |labels: &[(&str, &str)]| scrape(&plane).with(labels);
    assert!(samples(&[("service", "a"), ("version", "candidate")]) > 30);
    assert!(samples(&[("service", "b")]) > 0);
    redis.run("HDEL smartlink:endpoints:a http://127.0.0.1:2/");
    eventually("the version is gone", || {
        (samples(&[("version", "candidate")]) == 0).then_some(())
    });
    assert!(samples(&[("service", "a"), ("version", "base")]) > 30);
    redis.run("DEL smartlink:endpoints:a");
    eventually("the service is gone", || {
        (samples(&[("service", "a")]) == 0).then_some(())
    });
    assert!(samples(&[("service", "b")]) > 0);
    drop(running);
}

#[test]
fn hostile_texts_are_escaped() {
    let redis = Redis::start();
    // A service cannot have such a name, and its endpoint cannot have such an address.
    for (service, url) in [
        ("a\"} 1\nx", "http://127.0.0.1:1/"),
        ("b", "http://127.0.0.1:1/a\"b\\c"),
        ("c", "http://127.0.0.1:1/a='b',c"),
    ] {
        let key = format!("smartlink:endpoints:{service}");
        redis.call(&["HSET", &key, url, "base"]);
    }
    let plane = Plane::start(&redis);
    service(&plane, "c");
    let page = scrape(&plane);
    let labels = [("service", "c"), ("endpoint", "http://127.0.0.1:1/a='b',c")];
    assert!(page.with(&labels) > 0);
    let known = ["b", "c", ""];
    assert!(page.all(|sample| known.contains(&sample.label("service"))));
}

#[test]
fn states_loads_and_attempts_of_endpoints_are_told() {
    let redis = Redis::start();
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base");
    redis.call(&[
        "HSET",
        "smartlink:endpoints:a",
        "http://127.0.0.1:2/",
        "base drain",
    ]);
    let plane = Plane::start(&redis);
    let service = service(&plane, "a");
    let endpoint = &service.versions[0].endpoints[0];
    endpoint.live.inflight.store(3, Ordering::Relaxed);
    endpoint.live.condition.ejected.store(2, Ordering::Relaxed);
    let counter = &plane.control.counters[0];
    for attempt in [Attempt::Fine, Attempt::Failed, Attempt::Fine] {
        counter.attempted(endpoint, attempt, 10);
    }
    let page = scrape(&plane);
    let one = [("endpoint", "http://127.0.0.1:1/")];
    let two = [("endpoint", "http://127.0.0.1:2/")];
    let state = |labels: [(&str, &str); 1], state| {
        page.sum("smartlink_endpoint_state", &[labels[0], ("state", state)])
    };
    assert_eq!((state(one, "up"), state(one, "drain")), (1.0, 0.0));
    assert_eq!((state(two, "up"), state(two, "drain")), (0.0, 1.0));
    for (name, labels, wanted) in [
        ("smartlink_endpoint_requests_in_flight", &one[..], 3.0),
        ("smartlink_requests_in_flight", &[("version", "base")], 3.0),
        ("smartlink_endpoint_ejections_total", &one, 2.0),
        (
            "smartlink_endpoint_attempts_total",
            &[one[0], ("result", "fine")],
            2.0,
        ),
        (
            "smartlink_endpoint_attempts_total",
            &[one[0], ("result", "failed")],
            1.0,
        ),
    ] {
        assert_eq!(page.sum(name, labels), wanted, "{name}");
    }
}

#[test]
fn it_works_without_redis_and_says_so() {
    let mut redis = Redis::start();
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base http://127.0.0.1:2/ candidate");
    let plane = Plane::start(&redis);
    plane.await_proof();
    let revision = plane.table().revision as f64;
    redis.kill();
    eventually("the loss is noticed", || {
        let page = scrape(&plane);
        (page.sum("smartlink_redis_connected", &[]) == 0.0).then_some(())
    });
    serve(&plane);
    let page = scrape(&plane);
    assert_eq!(page.sum("smartlink_requests_total", &[]), 509.0);
    assert_eq!(page.sum("smartlink_config_revision", &[]), revision);
    eventually("the lag grows", || {
        let lag = scrape(&plane).sum("smartlink_stats_flush_lag_seconds", &[]);
        (lag > 0.3).then_some(())
    });
    redis.restart();
    eventually("everything is told", || {
        let page = scrape(&plane);
        let settled = page.sum("smartlink_stats_flush_lag_seconds", &[]) == 0.0;
        let applied = [("result", "applied")];
        let told = page.sum("smartlink_stats_batches_total", &applied) > 0.0;
        (settled && told).then_some(())
    });
}

#[test]
fn what_becomes_of_alerts_is_told() {
    let redis = Redis::start();
    let receiver = Receiver::start();
    receiver.answer(503, "");
    redis.run("HSET smartlink:endpoints:ner http://127.0.0.1:1/ base");
    alert(&redis, &receiver, "on config_error");
    break_settings(&redis);
    let plane = Plane::start(&redis);
    let count = |result| {
        let labels = [("alert", "ops"), ("result", result)];
        scrape(&plane).sum("smartlink_alerts_messages_total", &labels)
    };
    let open = || {
        let labels = [("alert", "ops"), ("kind", "config_error")];
        scrape(&plane).sum("smartlink_alerts_open", &labels)
    };
    eventually("two tries", || (count("failed") >= 2.0).then_some(()));
    assert_eq!((count("sent"), count("lost"), open()), (0.0, 0.0, 1.0));
    assert_eq!(scrape(&plane).sum("smartlink_alerts_leader", &[]), 1.0);
    receiver.answer(200, "");
    eventually("it arrives", || (count("sent") == 1.0).then_some(()));
    mend_settings(&redis);
    eventually("its end arrives", || (count("sent") == 2.0).then_some(()));
    assert_eq!(open(), 0.0);
    redis.run("DEL smartlink:alert:ops");
    eventually("its series go", || {
        let labels = [("alert", "ops")];
        (scrape(&plane).with(&labels) == 0).then_some(())
    });
}

#[test]
fn connections_of_clients_are_told() {
    let redis = Redis::start();
    let site = Site::start(&redis);
    let now = || {
        let page = scrape_at(site.admin);
        let of = |name| page.sum(name, &[]);
        (
            of("smartlink_connections_accepted_total"),
            of("smartlink_connections_open"),
        )
    };
    assert_eq!(now(), (0.0, 0.0));
    let clients = [(); 3].map(|()| Client::connect(site.address));
    eventually("they are open", || (now() == (3.0, 3.0)).then_some(()));
    drop(clients);
    eventually("they are closed", || (now() == (3.0, 0.0)).then_some(()));
}
