//! Callers that stay in their version: by every kind of key, on the named entry and on routes.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::support::eventually;
use crate::support::gateway::{Field, Gateway};
use crate::support::load::{Caller, serving};
use crate::support::port::Port;
use crate::support::redis::Redis;
use crate::support::site::Site;
use crate::support::upstream::Upstream;

/// Upstreams of `base` and `candidate`, which answer with their names.
struct Pair {
    base: (Upstream, String),
    candidate: (Upstream, String),
}

impl Pair {
    fn start() -> Self {
        let start = |name| {
            let (upstream, _hits) = serving(name);
            let url = upstream.url("/");
            (upstream, url)
        };
        Self {
            base: start("base"),
            candidate: start("candidate"),
        }
    }

    /// Service `ner` with these weights and this stickiness, and more.
    fn hashes<'f>(
        &'f self,
        sticky: &'f str,
        weights: [&'f str; 2],
        more: &[Field<'f>],
    ) -> Vec<Field<'f>> {
        let own = [
            ("endpoints:ner", &*self.base.1, "base"),
            ("endpoints:ner", &*self.candidate.1, "candidate"),
            ("weights:ner", "base", weights[0]),
            ("weights:ner", "candidate", weights[1]),
            ("service:ner", "sticky", sticky),
        ];
        own.iter().chain(more).copied().collect()
    }
}

const ROUTE: [Field<'_>; 2] = [("route:r", "service", "ner"), ("route:r", "path", "/r/")];

/// A request of service `ner`: over the named entry, or over the route `/r/`.
fn request(named: bool, query: &str, head: &str, body: &str) -> Vec<u8> {
    let path = if named { "/ai_server/" } else { "/r/x" };
    let body = if named {
        format!(r#"{{"server_name": "ner"{body}}}"#)
    } else {
        String::new()
    };
    let length = body.len();
    format!(
        "POST {path}{query} HTTP/1.1\r\nhost: h\r\n{head}content-length: {length}\r\n\r\n{body}"
    )
    .into()
}

fn by_header(key: &str) -> Vec<u8> {
    request(true, "", &format!("x-user: {key}\r\n"), "")
}

/// The version that served.
#[track_caller]
fn version(caller: &mut Caller, request: &[u8]) -> String {
    let answer = caller.ask(request).expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body, answer.header("x-smartlink-version"));
    answer.body
}

fn caller(address: SocketAddr) -> Caller {
    Caller::connect(address).expect("it accepts")
}

/// The versions of callers `0` to `count`, by header.
fn versions(gateway: &Gateway, count: u32) -> Vec<String> {
    let mut caller = caller(gateway.address);
    let keys = (0..count).map(|key| key.to_string());
    keys.map(|key| version(&mut caller, &by_header(&key)))
        .collect()
}

/// How a part of a request says a key.
type Part<'p> = &'p dyn Fn(&str) -> String;

#[test]
fn a_caller_stays_in_a_version_by_every_kind_of_key() {
    let pair = Pair::start();
    let mut gateway = Gateway::start_with(&pair.hashes("off", ["50", "50"], &ROUTE), |options| {
        options.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    });
    let head = |key: &str| format!("x-user: {key}\r\n");
    let cookie = |key: &str| format!("cookie: a=b\r\ncookie: c=d; user=\"{key}\"; e=f\r\n");
    let forwarded = |key: &str| format!("x-forwarded-for: 6.6.6.6, {key}\r\n");
    let query = |key: &str| format!("?a=b&user={}", key.replace('.', "%2E"));
    let body = |key: &str| {
        format!(
            r#", "params": {{"user": "{}"}}"#,
            key.replace('.', "\\u002e")
        )
    };
    let none = |_: &str| String::new();
    let kinds: [(&str, [Part<'_>; 3]); 5] = [
        ("header:x-user", [&none, &head, &none]),
        ("cookie:user", [&none, &cookie, &none]),
        ("ip", [&none, &forwarded, &none]),
        ("query:user", [&query, &none, &none]),
        ("json:/params/user", [&none, &none, &body]),
    ];
    let keys: Vec<String> = (1..=40).map(|n| format!("192.0.2.{n}")).collect();
    let mut caller = caller(gateway.address);
    let mut first: Option<Vec<String>> = None;
    for (sticky, [query, head, body]) in kinds {
        if sticky.starts_with("json:") {
            gateway.delete("route:r");
        }
        gateway.write(&[("service:ner", "sticky", sticky)]);
        let served: Vec<String> = keys
            .iter()
            .map(|key| {
                let ask = |named| request(named, &query(key), &head(key), &body(key));
                let entry = version(&mut caller, &ask(true));
                assert_eq!(version(&mut caller, &ask(true)), entry, "{sticky} {key}");
                if !sticky.starts_with("json:") {
                    assert_eq!(version(&mut caller, &ask(false)), entry, "{sticky} {key}");
                }
                entry
            })
            .collect();
        for name in ["base", "candidate"] {
            assert!(served.iter().any(|by| by == name), "{sticky}: {served:?}");
        }
        // One key is one place, wherever it was taken from.
        assert_eq!(
            first.get_or_insert_with(|| served.clone()),
            &served,
            "{sticky}"
        );
    }
}

#[test]
fn callers_move_only_towards_the_version_that_is_raised_and_back_when_it_is_lowered() {
    const CALLERS: u32 = 2_000;
    let pair = Pair::start();
    let mut gateway = Gateway::start(&pair.hashes("header:x-user", ["100", "0"], &[]));
    assert!(versions(&gateway, 200).iter().all(|by| by == "base"));
    let steps = [[90, 10], [80, 20], [50, 50], [80, 20], [90, 10], [0, 1]];
    let mut seen: Vec<(f64, Vec<String>)> = Vec::new();
    for [base, candidate] in steps {
        let (base_text, candidate_text) = (base.to_string(), candidate.to_string());
        gateway.write(&[
            ("weights:ner", "base", &base_text),
            ("weights:ner", "candidate", &candidate_text),
        ]);
        let served = versions(&gateway, CALLERS);
        let count = served.iter().filter(|by| *by == "candidate").count();
        // Four and a half standard deviations of a fair draw.
        let share = f64::from(candidate) / f64::from(base + candidate);
        let wanted = f64::from(CALLERS) * share;
        let off = (f64::from(u32::try_from(count).expect("few")) - wanted).abs();
        assert!(
            off <= 4.5 * (wanted * (1.0 - share)).sqrt(),
            "{count} at {share}"
        );
        for (before, others) in &seen {
            let towards = match share.total_cmp(before) {
                Ordering::Less => Some("base"),
                Ordering::Equal => None,
                Ordering::Greater => Some("candidate"),
            };
            let stays_or_follows =
                |(is, was): (&String, &String)| is == was || Some(&**is) == towards;
            assert!(
                served.iter().zip(others).all(stays_or_follows),
                "{before} to {share}"
            );
        }
        seen.push((share, served));
    }
}

#[test]
fn raising_one_of_three_leaves_the_others_to_themselves() {
    let pair = Pair::start();
    let (third, _hits) = serving("v2");
    let third = third.url("/");
    let more = [("endpoints:ner", &*third, "v2"), ("weights:ner", "v2", "0")];
    let mut gateway = Gateway::start(&pair.hashes("header:x-user", ["60", "40"], &more));
    let before = versions(&gateway, 600);
    gateway.write(&[
        ("weights:ner", "base", "60"),
        ("weights:ner", "candidate", "40"),
        ("weights:ner", "v2", "50"),
    ]);
    let after = versions(&gateway, 600);
    assert!(
        before
            .iter()
            .zip(&after)
            .all(|(was, is)| was == is || is == "v2")
    );
    assert!((150..=250).contains(&after.iter().filter(|by| *by == "v2").count()));
}

#[test]
fn another_gateway_and_another_start_keep_everybody_where_they_are() {
    let pair = Pair::start();
    let hashes = pair.hashes("header:x-user", ["70", "30"], &[]);
    let first = Gateway::start(&hashes);
    let served = versions(&first, 300);
    let second = Gateway::start(&hashes.iter().rev().copied().collect::<Vec<_>>());
    assert_eq!(versions(&second, 300), served);
    drop(first);
    assert_eq!(versions(&Gateway::start(&hashes), 300), served);
}

#[test]
fn without_a_key_the_exact_split_decides_and_keys_draw_no_tickets() {
    let pair = Pair::start();
    let gateway = Gateway::start(&pair.hashes("header:x-user", ["75", "25"], &ROUTE));
    let mut caller = caller(gateway.address);
    let mut candidate = 0_i32;
    for n in 0..200 {
        let head = if n % 2 == 0 { "x-user:\r\n" } else { "" };
        let keyless = request(n % 3 == 0, "", head, "");
        candidate += i32::from(version(&mut caller, &keyless) == "candidate");
        for key in 0..n % 5 {
            version(&mut caller, &by_header(&key.to_string()));
        }
        assert!(
            (4 * candidate - (n + 1)).abs() <= 8,
            "{candidate} of {}",
            n + 1
        );
    }
}

#[test]
fn a_pointer_reaches_64_kib_into_a_body_whole_or_streamed() {
    let pair = Pair::start();
    let gateway = Gateway::start(&pair.hashes("json:/user", ["50", "50"], &[]));
    let mut caller = caller(gateway.address);
    let mut served = |key: &str, before: usize, behind: usize| -> Vec<String> {
        let body = format!(
            r#", "a": "{}", "user": {key}, "b": "{}""#,
            "x".repeat(before),
            "y".repeat(behind)
        );
        let request = request(true, "", "", &body);
        (0..24).map(|_| version(&mut caller, &request)).collect()
    };
    let is_one = |served: &[String]| served.iter().all(|by| by == &served[0]);
    for key in ["\"alice\"", "17", "true"] {
        let small = served(key, 0, 0);
        assert!(is_one(&small), "{key}");
        for (before, behind) in [(60_000, 0), (0, 200_000), (60_000, 200_000)] {
            assert_eq!(
                served(key, before, behind),
                small,
                "{key} {before} {behind}"
            );
        }
    }
    // A number is the text it is written as.
    assert_eq!(served("17", 0, 0), served("\"17\"", 0, 0));
    for (key, before) in [
        ("\"alice\"", 66_000),
        ("null", 0),
        ("{}", 0),
        ("[1]", 0),
        ("\"\"", 0),
    ] {
        assert!(!is_one(&served(key, before, 0)), "{key} counts as missing");
    }
}

#[test]
fn a_pinned_version_wins_and_one_without_weight_has_no_callers() {
    let pair = Pair::start();
    let pinned = [
        ("route:p", "service", "ner"),
        ("route:p", "path", "/r/"),
        ("route:p", "version", "candidate"),
    ];
    let gateway = Gateway::start(&pair.hashes("header:x-user", ["1", "0"], &pinned));
    let mut caller = caller(gateway.address);
    for key in 0..50 {
        let head = format!("x-user: {key}\r\n");
        assert_eq!(
            version(&mut caller, &request(false, "", &head, "")),
            "candidate"
        );
        assert_eq!(version(&mut caller, &request(true, "", &head, "")), "base");
    }
}

#[test]
fn a_caller_whose_version_is_down_is_served_by_another_and_returns() {
    let pair = Pair::start();
    let mut gateway = Gateway::start(&pair.hashes("header:x-user", ["50", "50"], &[]));
    let served = versions(&gateway, 60);
    let port = Port::reserve();
    let refusing = port.url();
    gateway.write(&[
        ("endpoints:ner", &pair.base.1, "base"),
        ("endpoints:ner", &refusing, "candidate"),
    ]);
    assert!(versions(&gateway, 60).iter().all(|by| by == "base"));
    gateway.write(&[
        ("endpoints:ner", &pair.base.1, "base"),
        ("endpoints:ner", &pair.candidate.1, "candidate"),
    ]);
    assert_eq!(versions(&gateway, 60), served);
}

#[test]
fn a_key_keeps_its_endpoint_with_a_hash_balance() {
    let upstreams = ["one", "two", "three"].map(serving);
    let urls = upstreams.each_ref().map(|(upstream, _)| upstream.url("/"));
    let endpoints = urls.each_ref().map(|url| ("endpoints:ner", &**url, "base"));
    let hash = ("service:ner", "balance", "hash:header:x-user");
    let hashes: Vec<Field<'_>> = endpoints.into_iter().chain([hash]).chain(ROUTE).collect();
    let gateway = Gateway::start(&hashes);
    let mut caller = caller(gateway.address);
    let mut served = BTreeSet::new();
    for key in 0..40 {
        let head = format!("x-user: {key}\r\n");
        let mut ask = |named| {
            caller
                .ask(&request(named, "", &head, ""))
                .expect("an answer")
                .body
        };
        let first = ask(true);
        assert_eq!(
            (ask(true), ask(false)),
            (first.clone(), first.clone()),
            "{key}"
        );
        served.insert(first);
    }
    assert_eq!(served.len(), 3, "{served:?}");
}

#[test]
fn a_route_to_a_service_keyed_by_the_body_is_named_and_served_on() {
    let pair = Pair::start();
    let redis = Redis::start();
    redis.run(&format!(
        "HSET smartlink:endpoints:ner {} base",
        pair.base.1
    ));
    redis.run("HSET smartlink:route:old service ner path /old/");
    let site = Site::start(&redis);
    let get = |path: &str| site.ask(&crate::support::load::get(path)).status;
    assert_eq!(get("/old/"), 200);
    redis.run("HSET smartlink:service:ner sticky json:/params/user");
    redis.run("HSET smartlink:route:new service ner path /new/");
    let error = |id: &str| {
        let place = format!("smartlink:route:{id} service");
        redis.hash("smartlink:errors").remove(&place)
    };
    for id in ["old", "new"] {
        let said = eventually("the route is named", || error(id));
        assert!(
            said.contains("sticky of ner takes its key from the body"),
            "{said}"
        );
    }
    assert_eq!((get("/old/"), get("/new/")), (200, 404));
    redis.run("HSET smartlink:service:ner sticky cookie:user");
    eventually("the mistake is mended", || {
        error("new").is_none().then_some(())
    });
    assert_eq!((get("/old/"), get("/new/")), (200, 200));
}
