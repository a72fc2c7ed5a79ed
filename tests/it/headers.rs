//! What happens to headers on their way: passed, dropped on this hop, set by us.

use super::support::gateway::Gateway;
use super::support::upstream::{Seen, Upstream};

/// A gateway that routes everything to this upstream, with further settings of the service.
fn routed(upstream: &Upstream, settings: &[(&str, &str)]) -> Gateway {
    let url = upstream.url("/");
    let mut fields = vec![
        ("endpoints:s", url.as_str(), "base"),
        ("route:all", "service", "s"),
        ("route:all", "path", "/"),
    ];
    fields.extend(
        settings
            .iter()
            .map(|(field, value)| ("service:s", *field, *value)),
    );
    Gateway::start(&fields)
}

/// What the upstream sees of a GET with these header lines.
fn seen_of(settings: &[(&str, &str)], lines: &str) -> Seen {
    let upstream = Upstream::saying("ok");
    let gateway = routed(&upstream, settings);
    let answer = gateway.ask(format!(
        "GET / HTTP/1.1\r\nhost: h.example:81\r\n{lines}\r\n"
    ));
    assert_eq!(answer.text(), "ok", "{answer:?}");
    upstream.only()
}

#[test]
fn headers_of_one_hop_stay_there() {
    let head = seen_of(
        &[],
        "connection: keep-alive, X-Hop, close\r\nx-hop: 1\r\nkeep-alive: 5\r\nproxy-connection: keep-alive\r\n\
         proxy-authorization: x\r\nte: gzip, trailers\r\nupgrade: nothing\r\nx-smartlink-version: next\r\n\
         x-smartlink-secret: 1\r\nx-kept: a\r\n",
    )
    .head;
    for name in [
        "x-hop",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "upgrade",
        "x-smartlink-version",
        "x-smartlink-secret",
    ] {
        assert!(head.values(name).is_empty(), "{name}: {head:?}");
    }
    assert_eq!(head.value("te"), Some("trailers"));
    assert_eq!(head.value("x-kept"), Some("a"));
}

#[test]
fn headers_that_connection_must_not_take_away_stay() {
    let head = seen_of(&[], "connection: host, x-a, content-length\r\nx-a: 1\r\n").head;
    assert!(head.value("host").is_some());
    assert!(head.values("x-a").is_empty());
}

#[test]
fn everything_else_passes_as_it_came() {
    let lines = "Accept: */*\r\nX-Twice: 1\r\nx-twice: 2\r\ncookie: a=b; c=\"d\"\r\nx-odd: \u{e9}\t!\r\n\
                 authorization: Bearer t\r\nx-api-key: k\r\nx-empty:\r\nuser-agent: me\r\n";
    let head = seen_of(&[], lines).head;
    assert_eq!(head.values("x-twice"), ["1", "2"]);
    for (name, value) in [
        ("accept", "*/*"),
        ("cookie", "a=b; c=\"d\""),
        ("x-odd", "\u{e9}\t!"),
        ("authorization", "Bearer t"),
        ("x-api-key", "k"),
        ("x-empty", ""),
        ("user-agent", "me"),
    ] {
        assert_eq!(head.value(name), Some(value), "{head:?}");
    }
    assert!(head.values("accept-encoding").is_empty(), "none is added");
}

#[test]
fn the_upstream_is_told_where_a_request_came_from() {
    let head = seen_of(&[], "").head;
    assert_eq!(head.value("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(head.value("x-forwarded-proto"), Some("http"));
    assert_eq!(head.value("x-forwarded-host"), Some("h.example:81"));
    assert!(head.value("x-request-id").is_some_and(|id| id.len() >= 16));
    let trace = head.value("traceparent").expect("a trace").to_owned();
    assert_eq!((trace.len(), trace.get(..3)), (55, Some("00-")));
}

#[test]
fn what_strangers_say_about_where_they_come_from_is_dropped() {
    let head = seen_of(
        &[],
        "x-forwarded-for: 1.2.3.4\r\nx-forwarded-proto: https\r\nx-forwarded-host: evil\r\nforwarded: for=1.2.3.4\r\n\
         traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n",
    )
    .head;
    assert_eq!(head.value("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(head.value("x-forwarded-proto"), Some("http"));
    assert_eq!(head.value("x-forwarded-host"), Some("h.example:81"));
    assert!(head.values("forwarded").is_empty());
    assert_eq!(
        head.value("traceparent"),
        Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    );
}

#[test]
fn what_trusted_proxies_say_counts() {
    let upstream = Upstream::saying("ok");
    let url = upstream.url("/");
    let fields = [
        ("endpoints:s", url.as_str(), "base"),
        ("route:all", "service", "s"),
        ("route:all", "path", "/"),
    ];
    let gateway = Gateway::start_with(&fields, |options| {
        options.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    });
    gateway.ask(
        "GET / HTTP/1.1\r\nhost: h\r\nx-forwarded-for: 1.2.3.4\r\nx-forwarded-for: 5.6.7.8\r\n\
         x-forwarded-proto: https\r\nx-forwarded-host: front.example\r\n\r\n",
    );
    let head = upstream.only().head;
    assert_eq!(
        head.value("x-forwarded-for"),
        Some("1.2.3.4, 5.6.7.8, 127.0.0.1")
    );
    assert_eq!(head.value("x-forwarded-proto"), Some("https"));
    assert_eq!(head.value("x-forwarded-host"), Some("front.example"));
}

/// What the upstream sees of a GET with these lines that came by a trusted proxy.
fn seen_through_a_proxy(lines: &str) -> Seen {
    let upstream = Upstream::saying("ok");
    let url = upstream.url("/");
    let fields = [
        ("endpoints:s", url.as_str(), "base"),
        ("route:all", "service", "s"),
        ("route:all", "path", "/"),
    ];
    let gateway = Gateway::start_with(&fields, |options| {
        options.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    });
    gateway.ask(format!("GET / HTTP/1.1\r\nhost: h\r\n{lines}\r\n"));
    upstream.only()
}

#[test]
fn forwarded_of_a_trusted_proxy_goes_on_with_our_hop_and_in_the_other_form() {
    let head = seen_through_a_proxy(
        "forwarded: for=1.2.3.4;proto=http;host=lie\r\n\
         forwarded: for=\"[2001:db8::1]:80\";proto=https;host=front.example, for=127.0.0.9\r\n",
    )
    .head;
    assert_eq!(
        head.values("forwarded"),
        [
            "for=1.2.3.4;proto=http;host=lie, for=\"[2001:db8::1]:80\";proto=https;host=front.example, \
             for=127.0.0.9, for=127.0.0.1"
        ]
    );
    assert_eq!(
        head.values("x-forwarded-for"),
        ["1.2.3.4, 2001:db8::1, 127.0.0.9, 127.0.0.1"]
    );
    assert_eq!(head.values("x-forwarded-proto"), ["https"]);
    assert_eq!(head.values("x-forwarded-host"), ["front.example"]);
}

#[test]
fn forwarded_beside_x_forwarded_for_may_be_a_strangers_and_is_dropped() {
    let head = seen_through_a_proxy(
        "forwarded: for=10.0.0.1;proto=https\r\nx-forwarded-for: 1.2.3.4\r\nx-forwarded-port: 443\r\n",
    )
    .head;
    assert!(head.values("forwarded").is_empty(), "{head:?}");
    assert_eq!(head.value("x-forwarded-for"), Some("1.2.3.4, 127.0.0.1"));
    assert_eq!(head.value("x-forwarded-proto"), Some("http"));
    assert_eq!(head.value("x-forwarded-port"), Some("443"));
}

#[test]
fn a_malformed_forwarded_is_dropped() {
    let head = seen_through_a_proxy("forwarded: for=1.2.3.4;for=5.6.7.8\r\n").head;
    assert!(head.values("forwarded").is_empty(), "{head:?}");
    assert_eq!(head.value("x-forwarded-for"), Some("127.0.0.1"));
}

#[test]
fn names_with_underscores_do_not_pass_for_those_with_hyphens() {
    for lines in [
        "x_forwarded_for: 1.2.3.4\r\n",
        "X-Forwarded_For: 1.2.3.4\r\n",
        "x_smartlink_version: next\r\n",
    ] {
        for head in [seen_of(&[], lines).head, seen_through_a_proxy(lines).head] {
            let sent = head.headers.iter().filter(|(name, _)| name.contains('_'));
            assert_eq!(sent.count(), 0, "{head:?}");
        }
    }
}

#[test]
fn a_sane_request_id_is_kept_and_another_replaced() {
    let upstream = Upstream::saying("ok");
    let gateway = routed(&upstream, &[]);
    let long = "i".repeat(129);
    for (sent, kept) in [
        ("abc-1_2.3", true),
        ("a b", false),
        ("", false),
        ("a/b", false),
        (&long, false),
    ] {
        let answer = gateway.ask(format!(
            "GET / HTTP/1.1\r\nhost: h\r\nx-request-id: {sent}\r\n\r\n"
        ));
        let answered = answer.header("x-request-id").expect("an id").to_owned();
        let seen = upstream.seen().pop().expect("a request");
        assert_eq!(seen.head.value("x-request-id"), Some(answered.as_str()));
        assert_eq!(answered == sent, kept, "{sent:?} became {answered:?}");
    }
}

#[test]
fn what_the_upstream_says_in_our_name_is_dropped() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nx-smartlink-version: lie\r\nx-smartlink-error: lie\r\nconnection: x-hop\r\nx-hop: 1\r\n\
         keep-alive: timeout=5\r\nproxy-authenticate: x\r\nserver: theirs\r\nset-cookie: a\r\nset-cookie: b\r\n\
         content-length: 2\r\n\r\nok",
    );
    let gateway = routed(&upstream, &[]);
    let answer = gateway.ask("GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(answer.header("x-smartlink-version"), Some("base"));
    for name in [
        "x-smartlink-error",
        "x-hop",
        "keep-alive",
        "proxy-authenticate",
    ] {
        assert_eq!(answer.header(name), None, "{answer:?}");
    }
    assert_eq!(answer.header("server"), Some("theirs"));
    assert_eq!(answer.head.values("set-cookie"), ["a", "b"]);
}

#[test]
fn a_service_can_edit_headers() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nx-gone: 1\r\nx-set: old\r\ncontent-length: 2\r\n\r\nok",
    );
    let gateway = routed(
        &upstream,
        &[
            (
                "set_request_headers",
                r#"{"x-set": "new", "authorization": "Bearer ours"}"#,
            ),
            ("remove_request_headers", "x-gone, cookie"),
            ("set_response_headers", r#"{"x-set": "new"}"#),
            ("remove_response_headers", "x-gone"),
            ("expose_headers", "off"),
        ],
    );
    let answer = gateway.ask(
        "GET / HTTP/1.1\r\nhost: h\r\nx-set: old\r\nx-gone: 1\r\ncookie: a\r\nauthorization: Bearer theirs\r\n\r\n",
    );
    assert_eq!(
        (answer.header("x-set"), answer.header("x-gone")),
        (Some("new"), None)
    );
    assert_eq!(
        (
            answer.header("x-smartlink-version"),
            answer.header("server-timing")
        ),
        (None, None)
    );
    let head = upstream.only().head;
    assert_eq!(head.value("x-set"), Some("new"));
    assert_eq!(head.value("authorization"), Some("Bearer ours"));
    assert!(head.values("x-gone").is_empty() && head.values("cookie").is_empty());
}

#[test]
fn the_upstream_sees_its_own_host_or_the_clients() {
    let upstream = Upstream::saying("ok");
    let gateway = routed(&upstream, &[]);
    gateway.ask("GET / HTTP/1.1\r\nhost: h.example\r\n\r\n");
    assert_eq!(
        upstream.only().head.value("host"),
        Some(upstream.authority().as_str())
    );
    assert_eq!(
        seen_of(&[("host_header", "client")], "").head.value("host"),
        Some("h.example:81")
    );
}
