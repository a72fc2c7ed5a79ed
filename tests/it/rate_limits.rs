//! `rate`: exact, by whatever callers are told apart, in force from the next request on.

use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest, Sha256};

use super::support::client::Answer;
use super::support::gateway::{Field, Gateway};
use super::support::load;
use super::support::redis::Redis;
use super::support::site::Site;
use super::support::upstream::Upstream;

/// The key of a token's hash.
fn token(text: &str) -> String {
    let hash = Sha256::digest(text);
    let digits: Vec<String> = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("token:{}", digits.concat())
}

#[track_caller]
fn ask(gateway: &Gateway, service: &str, lines: &str) -> Answer {
    let body = format!(r#"{{"server_name": "{service}", "user": "json"}}"#);
    gateway.ask(format!(
        "POST /ai_server/ HTTP/1.1\r\nhost: h\r\n{lines}content-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

/// Services `a` and `b` on one upstream; `fields` beside. Quotas are of an hour, so that none comes
/// back while a test runs.
fn gateway(upstream: &Upstream, fields: &[Field<'_>]) -> Gateway {
    let url = upstream.url("/");
    let mut all: Vec<Field<'_>> =
        vec![("endpoints:a", &url, "base"), ("endpoints:b", &url, "base")];
    all.extend(fields);
    Gateway::start(&all)
}

fn seconds(answer: &Answer) -> u64 {
    let text = answer.header("retry-after").expect("a time");
    text.parse().expect("whole seconds")
}

#[test]
fn who_used_up_its_quota_is_told_when_to_come_back() {
    let upstream = Upstream::saying("ok");
    let settings = [("service:a", "rate", "1/h"), ("service:a", "burst", "3")];
    let gateway = gateway(&upstream, &settings);
    for left in [2, 1, 0] {
        let answer = ask(&gateway, "a", "");
        assert_eq!(answer.text(), "ok");
        assert_eq!(
            answer.header("ratelimit-policy"),
            Some("\"service\";q=1;w=3600")
        );
        let said = answer.header("ratelimit").expect("how it stands");
        let reset = (3 - left) * 3_600;
        assert_eq!(said, format!("\"service\";r={left};t={reset}"));
    }
    let refused = ask(&gateway, "a", "");
    let msg = refused.error(429, "rate_limited");
    assert!(msg.starts_with("Rate Limited: rate "), "{msg}");
    assert!((3_500..=3_600).contains(&seconds(&refused)), "{refused:?}");
    let said = refused.header("ratelimit").expect("how it stands");
    assert!(said.starts_with("\"service\";r=0;t="), "{said}");
    assert_eq!(upstream.seen().len(), 3);
    let other = ask(&gateway, "b", "");
    assert_eq!((other.text(), other.header("ratelimit")), ("ok", None));
}

#[test]
fn each_key_has_a_quota_of_its_own_and_those_without_one_share_theirs() {
    let upstream = Upstream::saying("ok");
    let settings = [
        ("defaults", "rate", "2/h"),
        ("defaults", "burst", "2"),
        ("service:a", "rate_by", "header:x-user"),
        ("service:b", "rate_by", "json:/user"),
    ];
    let gateway = gateway(&upstream, &settings);
    for lines in ["x-user: 1\r\n", "x-user: 2\r\n", "x-other: 1\r\n"] {
        for wanted in [200, 200, 429] {
            assert_eq!(ask(&gateway, "a", lines).head.status, wanted, "{lines}");
        }
    }
    assert_eq!(ask(&gateway, "a", "").head.status, 429, "none is one key");
    for wanted in [200, 200, 429] {
        assert_eq!(ask(&gateway, "b", "x-user: 1\r\n").head.status, wanted);
    }
}

#[test]
fn a_burst_is_exact_over_threads_and_clients() {
    let upstream = Upstream::saying("ok");
    let url = upstream.url("/");
    for by in ["service", "ip"] {
        let fields = [
            ("endpoints:a", url.as_str(), "base"),
            ("service:a", "rate", "1/h"),
            ("service:a", "burst", "100"),
            ("service:a", "rate_by", by),
        ];
        let gateway = Gateway::start_with(&fields, |options| options.threads = 2);
        // The first request of a key on two threads at once may count in two places.
        assert_eq!(ask(&gateway, "a", "").head.status, 200);
        let (fine, refused) = (AtomicUsize::new(1), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let counter = match ask(&gateway, "a", "").head.status {
                            200 => &fine,
                            429 => &refused,
                            other => panic!("{other}"),
                        };
                        counter.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(
            (fine.into_inner(), refused.into_inner()),
            (100, 221),
            "{by}"
        );
    }
}

#[test]
fn another_rate_holds_from_the_next_request_on_and_what_was_used_stays_used() {
    let upstream = Upstream::saying("ok");
    let settings = [("service:a", "rate", "1/h"), ("service:a", "burst", "5")];
    let mut gateway = gateway(&upstream, &settings);
    for _ in 0..2 {
        assert_eq!(ask(&gateway, "a", "").text(), "ok");
    }
    gateway.write(&[("service:a", "rate", "1/h"), ("service:a", "burst", "3")]);
    for wanted in [200, 429] {
        assert_eq!(ask(&gateway, "a", "").head.status, wanted);
    }
    gateway.write(&[("service:a", "rate", "1000000/s")]);
    // Nobody waits for the old hour.
    super::support::eventually("it is let in", || {
        (ask(&gateway, "a", "").head.status == 200).then_some(())
    });
    gateway.write(&[("service:a", "rate", "off")]);
    assert_eq!(ask(&gateway, "a", "").header("ratelimit"), None);
}

#[test]
fn a_token_brings_its_own_rate_to_every_service() {
    let upstream = Upstream::saying("ok");
    let (one, two) = (token("T1"), token("T2"));
    let fields = [
        ("defaults", "auth", "token"),
        (one.as_str(), "services", "*"),
        (one.as_str(), "rate", "1/h"),
        (one.as_str(), "burst", "3"),
        (two.as_str(), "services", "*"),
        ("service:b", "rate", "1/h"),
        ("service:b", "rate_by", "token"),
    ];
    let gateway = gateway(&upstream, &fields);
    let (first, second) = ("x-api-key: T1\r\n", "x-api-key: T2\r\n");
    let answer = ask(&gateway, "a", first);
    assert_eq!(
        answer.header("ratelimit-policy"),
        Some("\"token\";q=1;w=3600")
    );
    let answer = ask(&gateway, "b", first);
    let policy = "\"token\";q=1;w=3600, \"service\";q=1;w=3600";
    assert_eq!(answer.header("ratelimit-policy"), Some(policy));
    // What the service refuses costs the token nothing.
    for _ in 0..5 {
        let msg = ask(&gateway, "b", first).error(429, "rate_limited");
        assert!(msg.starts_with("Rate Limited: rate is"), "{msg}");
    }
    assert_eq!(ask(&gateway, "a", first).text(), "ok");
    let msg = ask(&gateway, "a", first).error(429, "rate_limited");
    assert!(msg.starts_with("Rate Limited: rate of the token"), "{msg}");
    assert_eq!(ask(&gateway, "a", second).header("ratelimit"), None);
    assert_eq!(ask(&gateway, "b", second).text(), "ok");
}

#[test]
fn a_request_that_is_refused_for_another_reason_costs_nothing() {
    let upstream = Upstream::saying("ok");
    let fields = [
        ("service:a", "rate", "1/h"),
        ("service:a", "max_body", "60"),
        ("service:b", "rate", "1/h"),
        ("service:b", "auth", "token"),
    ];
    let gateway = gateway(&upstream, &fields);
    let long = format!(r#"{{"server_name": "a", "data": "{}"}}"#, "x".repeat(60));
    gateway.post(&long).error(413, "body_too_large");
    assert_eq!(ask(&gateway, "a", "").text(), "ok");
    let answer = ask(&gateway, "b", "");
    answer.error(401, "unauthenticated");
    assert_eq!(answer.header("ratelimit"), None);
}

#[test]
fn refusals_are_counted_as_such() {
    let (redis, upstream) = (Redis::start(), Upstream::saying("ok"));
    redis.call(&["HSET", "smartlink:endpoints:a", &upstream.url("/"), "base"]);
    redis.run("HSET smartlink:service:a rate 1/h burst 2");
    let site = Site::start(&redis);
    for wanted in [200, 200, 429, 429, 429] {
        assert_eq!(site.ask(&load::named("a")).status, wanted);
    }
    super::support::eventually("they are counted", || {
        let counts = redis.hash("smartlink:stats:a");
        let of = |field: &str| counts.get(field).map(String::as_str);
        (of("rejected_rate") == Some("3") && of("status_429") == Some("3")).then_some(())
    });
}
