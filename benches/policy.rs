//! What every request pays: the scan of a body, the search for a route, the choice of an endpoint.
#![allow(missing_docs, reason = "the macros of criterion make public functions")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, Method};
use smartlink::model::endpoint::{Duty, EndpointSpec};
use smartlink::model::hash;
use smartlink::model::name::Name;
use smartlink::model::settings::{Balance, Effective, KeySource, Settings};
use smartlink::model::table::{Endpoint, RouteIndex, Version};
use smartlink::model::{route, value};
use smartlink::policy::balance::{Ask, least_time, pick};
use smartlink::policy::route::{RequestFacts, find};
use smartlink::policy::scan::name_of;

fn scan(c: &mut Criterion) {
    let text = |len: usize| {
        format!(
            r#"{{"server_name":"test_server","params":{{}},"data":["{}"]}}"#,
            "x".repeat(len)
        )
    };
    let numbers: Vec<_> = (0..50_000).map(|n| format!("0.{n:06}")).collect();
    let records = r#"{"id":17,"text":"Unter den Linden 1, Berlin","ok":true},"#.repeat(35);
    let records = records.trim_end_matches(',');
    let bodies = [
        ("60 B", text(7)),
        ("2 KiB text", text(2000)),
        (
            "2 KiB records",
            format!(r#"{{"server_name":"test_server","data":[{records}]}}"#),
        ),
        ("1 MiB text", text(1 << 20)),
        (
            "1 MiB beyond ASCII",
            text(0).replace("\"\"", &format!("\"{}\"", "\u{5730}".repeat(350_000))),
        ),
        (
            "400 KiB numbers",
            format!(r#"{{"server_name":"x","data":[{}]}}"#, numbers.join(",")),
        ),
    ];
    let mut group = c.benchmark_group("scan");
    for (name, body) in &bodies {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(*name, |b| b.iter(|| name_of(black_box(body.as_bytes()))));
    }
    group.finish();
}

/// So many routes, half of them prefixes, half exact.
fn index(routes: usize) -> RouteIndex {
    let service = |n: usize| Name::parse(&format!("s{n}")).expect("a name");
    let fields = |n: usize| {
        let end = if n.is_multiple_of(2) { "/" } else { "" };
        BTreeMap::from([
            ("service".to_owned(), format!("s{n}")),
            ("path".to_owned(), format!("/api/v1/s{n}{end}")),
        ])
    };
    let decoded = (0..routes).filter_map(|n| route::decode("bench", &service(n), &fields(n)).0);
    RouteIndex::new(decoded.map(Arc::new).collect())
}

fn search(c: &mut Criterion) {
    let mut group = c.benchmark_group("find a route");
    let headers = HeaderMap::new();
    for routes in [10, 1000] {
        let index = index(routes);
        for (kind, path) in [
            ("prefix", "/api/v1/s4/items/17"),
            ("exact", "/api/v1/s5"),
            ("none", "/other/path/of/nobody"),
            ("escaped", "/api/v1/s4/items/a%20b"),
        ] {
            let facts = RequestFacts {
                method: &Method::GET,
                host: "example.com",
                path,
                query: Some("a=1"),
                headers: &headers,
            };
            group.bench_function(BenchmarkId::new(kind, routes), |b| {
                b.iter(|| find(black_box(&index), black_box(&facts)));
            });
        }
    }
    group.finish();
}

/// So many endpoints, each of which answered a few times.
fn pool(endpoints: u64) -> Version {
    let base = || Name::parse("base").expect("a name");
    let endpoint = |pool: u64| {
        let url = format!("http://10.0.0.1:{pool}/");
        let endpoint = Endpoint {
            service: base(),
            host: HeaderValue::from_static("test"),
            pool,
            seed: hash::spread(&[url.as_bytes()]),
            spec: EndpointSpec {
                target: value::url(&url).expect("a URL"),
                url: url.into(),
                version: base(),
                weight: 1,
                duty: Duty::Active,
                max_conns: None,
            },
            live: Arc::default(),
            group: Arc::default(),
            crowd: Arc::default(),
        };
        for answer in 1..=10 {
            least_time::begin(&endpoint.live, answer * 10_000);
            least_time::answered(&endpoint.live, answer * 10_000 + 5_000, 5_000 + pool);
        }
        Arc::new(endpoint)
    };
    Version {
        service: base(),
        name: base(),
        name_header: HeaderValue::from_static("base"),
        weight: 1,
        endpoints: (1..=endpoints).map(endpoint).collect(),
        rotor: Arc::default(),
        crowd: Arc::default(),
        counts: Arc::default(),
    }
}

fn choose(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    let balancers = [
        ("least_time", Balance::LeastTime),
        ("round_robin", Balance::RoundRobin),
        ("weighted", Balance::Weighted),
        ("least_conn", Balance::LeastConn),
        ("random", Balance::Random),
        ("hash", Balance::Hash(KeySource::Ip)),
    ];
    for endpoints in [1, 10, 100, 1000] {
        let version = pool(endpoints);
        for (name, balance) in &balancers {
            let settings = Effective {
                balance: balance.clone(),
                ..Effective::merge(&Settings::default(), &Settings::default())
            };
            let mut ask = Ask {
                settings: &settings,
                now_us: 200_000,
                tried: &[],
                random: 0,
                key: Some(0),
            };
            group.bench_function(BenchmarkId::new(*name, endpoints), |b| {
                b.iter(|| {
                    ask.random = hash::mix(ask.random);
                    ask.key = Some(ask.random);
                    black_box(pick(black_box(&version), &ask))
                });
            });
        }
    }
    let one = pool(1);
    let live = &one.endpoints.first().expect("one").live;
    let mut now_us = 1_000_000;
    group.bench_function("begin and answered", |b| {
        b.iter(|| {
            now_us += 50;
            least_time::begin(black_box(live), now_us);
            least_time::answered(black_box(live), now_us + 40, 5_000);
        });
    });
    group.finish();
}

criterion_group!(benches, scan, search, choose);
criterion_main!(benches);
