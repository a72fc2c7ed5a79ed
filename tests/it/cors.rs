//! Browsers of other origins: preflights and who may read answers.

use super::support::client::Answer;
use super::support::gateway::Gateway;
use super::support::upstream::Upstream;

const BODY: &str = r#"{"server_name": "s"}"#;

fn preflight(gateway: &Gateway, path: &str, origin: &str) -> Answer {
    gateway.ask(format!(
        "OPTIONS {path} HTTP/1.1\r\nhost: h\r\norigin: {origin}\r\n\
         access-control-request-method: POST\r\naccess-control-request-headers: x-a, content-type\r\n\r\n"
    ))
}

fn post(gateway: &Gateway, origin: &str) -> Answer {
    gateway.ask(format!(
        "POST /ai_server/ HTTP/1.1\r\nhost: h\r\norigin: {origin}\r\ncontent-length: 20\r\n\r\n{BODY}"
    ))
}

#[test]
fn a_preflight_of_the_named_entry_is_answered_without_an_upstream() {
    let upstream = Upstream::saying("ok");
    let gateway = Gateway::start(&[("endpoints:s", &upstream.url("/"), "base")]);
    for path in ["/ai_server/", "/ai_server"] {
        let answer = preflight(&gateway, path, "https://a.example");
        assert_eq!(answer.head.status, 204);
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(
            answer.header("access-control-allow-methods"),
            Some("POST, OPTIONS")
        );
        assert_eq!(
            answer.header("access-control-allow-headers"),
            Some("content-type, authorization, x-api-key, x-request-id, x-smartlink-version")
        );
        assert!(answer.header("x-request-id").is_some());
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn every_answer_of_the_named_entry_says_who_may_read_it() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\naccess-control-allow-origin: https://evil.example\r\n\
         access-control-allow-credentials: true\r\ncontent-length: 2\r\n\r\nok",
    );
    let gateway = Gateway::start(&[("endpoints:s", &upstream.url("/"), "base")]);
    let good = gateway.post(BODY);
    assert_eq!(
        (good.text(), good.header("access-control-allow-origin")),
        ("ok", Some("*"))
    );
    assert_eq!(good.header("access-control-allow-credentials"), None);
    assert_eq!(
        post(&gateway, "https://a.example").header("access-control-allow-origin"),
        Some("*")
    );
    for bad in ["nonsense", "{}", r#"{"server_name": "nowhere"}"#] {
        let answer = gateway.post(bad);
        assert_eq!(
            (
                answer.head.status,
                answer.header("access-control-allow-origin")
            ),
            (400, Some("*"))
        );
    }
}

#[test]
fn named_origins_are_told_apart() {
    let upstream = Upstream::saying("ok");
    let gateway = Gateway::start(&[
        ("endpoints:s", &upstream.url("/"), "base"),
        ("defaults", "cors", "https://a.example, https://b.example"),
    ]);
    let allowed = |answer: &Answer| {
        answer
            .header("access-control-allow-origin")
            .map(str::to_owned)
    };
    for origin in ["https://a.example", "https://b.example"] {
        assert_eq!(
            allowed(&preflight(&gateway, "/ai_server/", origin)).as_deref(),
            Some(origin)
        );
        let answer = post(&gateway, origin);
        assert_eq!(allowed(&answer).as_deref(), Some(origin));
        assert!(answer.head.has("vary", "Origin"), "{answer:?}");
    }
    for stranger in [
        "https://evil.example",
        "null",
        "https://a.example.evil",
        "http://a.example",
    ] {
        assert_ne!(
            allowed(&preflight(&gateway, "/ai_server/", stranger)).as_deref(),
            Some(stranger)
        );
        let answer = post(&gateway, stranger);
        assert!(
            !matches!(allowed(&answer).as_deref(), Some("*")),
            "{answer:?}"
        );
        assert_ne!(allowed(&answer).as_deref(), Some(stranger));
    }
}

#[test]
fn a_routed_preflight_is_an_ordinary_request_where_cors_is_off() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\naccess-control-allow-origin: https://own.example\r\ncontent-length: 2\r\n\r\nok",
    );
    let gateway = Gateway::start(&[
        ("endpoints:s", &upstream.url("/"), "base"),
        ("route:r", "service", "s"),
        ("route:r", "path", "/r"),
    ]);
    let answer = preflight(&gateway, "/r", "https://a.example");
    assert_eq!((answer.head.status, answer.text()), (200, "ok"));
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://own.example")
    );
    assert_eq!(upstream.only().head.start, "OPTIONS /r HTTP/1.1");
}

#[test]
fn a_routed_preflight_is_answered_where_cors_is_on() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\naccess-control-allow-origin: https://own.example\r\n\
         access-control-allow-credentials: true\r\naccess-control-expose-headers: x\r\ncontent-length: 2\r\n\r\nok",
    );
    let gateway = Gateway::start(&[
        ("endpoints:s", &upstream.url("/"), "base"),
        ("service:s", "cors", "https://a.example"),
        ("route:r", "service", "s"),
        ("route:r", "path", "/r"),
        ("route:r", "methods", "POST"),
    ]);
    let answer = preflight(&gateway, "/r", "https://a.example");
    assert_eq!(answer.head.status, 204);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://a.example")
    );
    assert!(
        answer
            .header("access-control-allow-methods")
            .is_some_and(|m| m.contains("POST"))
    );
    assert!(
        answer
            .header("access-control-allow-headers")
            .is_some_and(|h| h.contains("x-a"))
    );
    assert_eq!(upstream.connections(), 0);
    let ask = |origin: &str| {
        gateway.ask(format!(
            "POST /r HTTP/1.1\r\nhost: h\r\norigin: {origin}\r\ncontent-length: 0\r\n\r\n"
        ))
    };
    let answer = ask("https://a.example");
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://a.example")
    );
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    assert_eq!(
        ask("https://evil.example").header("access-control-allow-origin"),
        None
    );
    let stranger = preflight(&gateway, "/r", "https://evil.example");
    assert_eq!(
        (
            stranger.head.status,
            stranger.header("access-control-allow-origin")
        ),
        (204, None)
    );
}
