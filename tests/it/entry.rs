//! The named entry: bodies and answers pass byte for byte, and each mistake has its code.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::support::client::post;
use super::support::gateway::Gateway;
use super::support::port::Port;
use super::support::upstream::{Gate, Upstream};
use super::support::{PATIENCE, eventually};

/// A body for the service `s` of about this size.
fn body_of(size: usize) -> String {
    format!(
        r#"{{"server_name": "s", "data": ["{}"]}}"#,
        "x".repeat(size)
    )
}

#[test]
fn a_body_reaches_the_endpoint_byte_for_byte_and_so_does_the_answer() {
    let upstream = Upstream::answering(
        b"HTTP/1.1 418 Short And Stout\r\nX-Kept: a  b\r\ncontent-length: 5\r\n\r\n\0\r\n\xff!",
    );
    let gateway = Gateway::start(&[("endpoints:s", &upstream.url("/get_lng_lat/"), "base")]);
    for entry in ["/ai_server/", "/ai_server", "/ai_server/?a=b"] {
        let body = " {\n \"server_name\" : \"\\u0073\", \"x\":1e5 }\t";
        let answer = gateway.ask(format!(
            "POST {entry} HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ));
        assert_eq!(answer.head.start, "HTTP/1.1 418 Short And Stout");
        assert_eq!(answer.body, b"\0\r\n\xff!");
        assert_eq!(answer.header("x-kept"), Some("a  b"));
        assert_eq!(answer.header("x-smartlink-version"), Some("base"));
        assert!(
            answer
                .header("server-timing")
                .is_some_and(|t| t.starts_with("gateway;dur="))
        );
        assert!(answer.header("x-request-id").is_some());
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        let seen = upstream.seen().pop().expect("a request");
        assert_eq!(seen.head.start, "POST /get_lng_lat/ HTTP/1.1");
        assert_eq!(seen.head.value("host"), Some(upstream.authority().as_str()));
        assert_eq!(seen.body, body.as_bytes());
    }
}

/// A request of the named entry whose body comes in chunks.
fn chunked(body: &str, size: usize) -> Vec<u8> {
    let mut request =
        b"POST /ai_server/ HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for piece in body.as_bytes().chunks(size) {
        request.extend(format!("{:x}\r\n", piece.len()).bytes());
        request.extend(piece);
        request.extend(b"\r\n");
    }
    request.extend(b"0\r\n\r\n");
    request
}

#[test]
fn bodies_of_every_size_and_framing_arrive_whole() {
    let upstream = Upstream::saying("ok");
    let gateway = Gateway::start(&[("endpoints:s", &upstream.url("/"), "base")]);
    for size in [0, 100, 60_000, 70_000, 300_000, 2_000_000] {
        let body = body_of(size);
        assert_eq!(gateway.post(&body).text(), "ok", "{size}");
        assert_eq!(
            upstream.seen().pop().expect("a request").body,
            body.as_bytes()
        );
        let answer = gateway.ask(chunked(&body, 7_001));
        assert_eq!(answer.text(), "ok", "{size} chunked");
        assert_eq!(
            upstream.seen().pop().expect("a request").body,
            body.as_bytes()
        );
    }
}

#[test]
fn a_large_body_is_forwarded_while_it_arrives() {
    let begun = Gate::default();
    let upstream = Upstream::start({
        let begun = begun.clone();
        move |connection| {
            let head = connection.read_head().expect("a head");
            begun.open();
            assert!(connection.read_body(&head).is_some());
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let gateway = Gateway::start(&[("endpoints:s", &upstream.url("/"), "base")]);
    let body = body_of(1_000_000);
    let (first, rest) = body.split_at(200_000);
    let mut client = gateway.connect();
    client.send(format!(
        "POST /ai_server/ HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{first}",
        body.len()
    ));
    begun.pass();
    client.send(rest);
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn a_body_that_is_no_json_object_is_invalid_json() {
    let upstream = Upstream::saying("ok");
    let gateway = Gateway::start(&[("endpoints:s", &upstream.url("/"), "base")]);
    for body in [
        "",
        "nonsense",
        "[]",
        "null",
        "{\"server_name\": \"s\"",
        "{\"server_name\": \"s\"} x",
        "{\"server_name\": \"s\", }",
        "{'server_name': 's'}",
        "\u{feff}{\"server_name\": \"s\"}",
        "{\"server_name\": \"\\ud800\"}",
    ] {
        let msg = gateway.post(body).error(400, "invalid_json");
        assert!(msg.starts_with("Invalid JSON format"), "{body}: {msg}");
    }
    let msg = gateway
        .post(b"{\"server_name\": \"s\xff\"}")
        .error(400, "invalid_json");
    assert!(msg.starts_with("Invalid JSON format"), "{msg}");
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn an_object_without_one_text_server_name_is_invalid_input() {
    let upstream = Upstream::saying("ok");
    let gateway = Gateway::start(&[("endpoints:s", &upstream.url("/"), "base")]);
    for body in [
        "{}",
        r#"{"name": "s", "data": {"server_name": "s"}}"#,
        r#"{"server_name": 1}"#,
        r#"{"server_name": null}"#,
        r#"{"server_name": ["s"]}"#,
        r#"{"server_name": "s", "server_name": "s"}"#,
        r#"{"server_name": "s", "server\u005fname": "t"}"#,
    ] {
        let msg = gateway.post(body).error(400, "invalid_input");
        assert!(msg.starts_with("Invalid input data: "), "{body}: {msg}");
        assert!(!msg.contains("No Such Service"), "{body}: {msg}");
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn an_unknown_or_disabled_service_is_no_such_service() {
    let upstream = Upstream::saying("ok");
    let gateway = Gateway::start(&[
        ("endpoints:off", &upstream.url("/"), "base"),
        ("service:off", "enabled", "off"),
    ]);
    let long = "n".repeat(3000);
    for name in [
        "off",
        "nowhere",
        "",
        "no name\\n",
        "\u{5730}\u{5740}",
        &long,
    ] {
        let answer = gateway.post(format!(r#"{{"server_name": "{name}"}}"#));
        let msg = answer.error(400, "no_such_service");
        let name = name.replace("\\n", "\n");
        let shown: String = name.chars().take(128).collect();
        assert_eq!(msg, format!("Invalid input data: No Such Service {shown}"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_body_above_max_body_is_too_large() {
    let upstream = Upstream::saying("ok");
    let gateway = Gateway::start(&[
        ("endpoints:s", &upstream.url("/"), "base"),
        ("service:s", "max_body", "100KiB"),
        ("endpoints:tiny", &upstream.url("/"), "base"),
        ("service:tiny", "max_body", "50"),
        ("defaults", "max_body", "200KiB"),
    ]);
    gateway
        .post(body_of(150 * 1024))
        .error(413, "body_too_large");
    gateway
        .post(body_of(300 * 1024))
        .error(413, "body_too_large");
    let tiny = format!(r#"{{"server_name": "tiny", "a": "{}"}}"#, "x".repeat(100));
    gateway.post(tiny).error(413, "body_too_large");
    let nameless = format!(r#"{{"a": "{}"}}"#, "x".repeat(300 * 1024));
    gateway.post(nameless).error(413, "body_too_large");
    assert_eq!(upstream.seen().len(), 0);
    assert_eq!(gateway.post(body_of(90 * 1024)).text(), "ok");
}

#[test]
fn the_name_must_stand_within_max_body_of_the_defaults_however_the_body_is_cut() {
    let upstream = Upstream::saying("ok");
    let gateway = Gateway::start(&[
        ("endpoints:s", &upstream.url("/"), "base"),
        ("service:s", "max_body", "1MiB"),
        ("defaults", "max_body", "1KiB"),
    ]);
    for size in [5_000, 60_000, 100_000] {
        let filler = "x".repeat(size);
        let first = format!(r#"{{"server_name": "s", "a": "{filler}"}}"#);
        let last = format!(r#"{{"a": "{filler}", "server_name": "s"}}"#);
        for piece in [100, 900, 2_500, first.len()] {
            assert_eq!(gateway.ask(chunked(&first, piece)).text(), "ok", "{size}");
            let answer = gateway.ask(chunked(&last, piece));
            answer.error(413, "body_too_large");
        }
        assert_eq!(gateway.post(&first).text(), "ok", "{size}");
        gateway.post(&last).error(413, "body_too_large");
    }
    let fits = format!(r#"{{"a": "{}", "server_name": "s"}}"#, "x".repeat(900));
    assert_eq!(gateway.post(&fits).text(), "ok");
}

#[test]
fn a_declared_length_above_max_body_is_refused_before_the_rest_comes() {
    let gateway = Gateway::start(&[
        ("endpoints:s", "http://127.0.0.1:1/", "base"),
        ("service:s", "max_body", "1MiB"),
    ]);
    let mut client = gateway.connect();
    client.send("POST /ai_server/ HTTP/1.1\r\nhost: h\r\ncontent-length: 99999999\r\n\r\n");
    client.send(body_of(100_000).trim_end_matches("\"]}"));
    client.read_answer().error(413, "body_too_large");
}

#[test]
fn a_mistake_late_in_a_large_body_leaves_the_upstream_without_a_complete_one() {
    let upstream = Upstream::saying("ok");
    let gateway = Gateway::start(&[("endpoints:s", &upstream.url("/"), "base")]);
    let filler = "x".repeat(500_000);
    for (end, code) in [
        (r#"", "server_name": "t"}"#, "invalid_input"),
        ("\", broken}", "invalid_json"),
        ("\"}}", "invalid_json"),
        ("", "invalid_json"),
    ] {
        let body = format!(r#"{{"server_name": "s", "a": "{filler}{end}"#);
        gateway.post(body).error(400, code);
    }
    assert_eq!(upstream.seen().len(), 0);
}

#[test]
fn bodies_waiting_for_their_name_are_bounded_together() {
    let gateway = Gateway::start_with(&[], |options| options.entry_buffer = 150_000);
    let head = "POST /ai_server/ HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000\r\n\r\n{\"a\": \"";
    let mut first = gateway.connect();
    first.send(head);
    first.send("x".repeat(100_000));
    let mut second = gateway.connect();
    second.send(head);
    second.send("x".repeat(100_000));
    // Whichever came last.
    second.send("x".repeat(100_000));
    second.read_answer().error(503, "overloaded");
    drop((first, second));
    eventually("room again", || {
        let answer = gateway.post(format!(r#"{{"a": "{}"}}"#, "x".repeat(100_000)));
        (answer.head.status == 400).then_some(())
    });
}

#[test]
fn before_any_configuration_the_answer_is_starting() {
    let gateway = Gateway::start_empty();
    gateway
        .post(r#"{"server_name": "s"}"#)
        .error(503, "starting");
    gateway
        .ask("GET / HTTP/1.1\r\nhost: h\r\n\r\n")
        .error(503, "starting");
}

#[test]
fn a_service_without_endpoints_that_take_requests_is_no_endpoint() {
    let upstream = Upstream::saying("ok");
    let gateway = Gateway::start(&[
        ("endpoints:drained", &upstream.url("/"), "base drain"),
        ("endpoints:weightless", &upstream.url("/"), "base weight=0"),
    ]);
    for name in ["drained", "weightless"] {
        let answer = gateway.post(format!(r#"{{"server_name": "{name}"}}"#));
        answer.error(503, "no_endpoint");
        assert!(answer.text().contains(name), "{answer:?}");
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_refusing_endpoint_is_connect_failed_unless_another_takes_the_request() {
    let upstream = Upstream::saying("ok");
    let closed = Port::reserve();
    let gateway = Gateway::start(&[
        ("endpoints:dead", &closed.url(), "base"),
        ("endpoints:half", &closed.url(), "base"),
        ("endpoints:half", &upstream.url("/"), "base"),
        ("endpoints:spill", &closed.url(), "base"),
        ("endpoints:spill", &upstream.url("/"), "candidate"),
        ("weights:spill", "base", "1"),
        ("weights:spill", "candidate", "1"),
    ]);
    gateway
        .post(r#"{"server_name": "dead"}"#)
        .error(502, "connect_failed");
    for _ in 0..20 {
        assert_eq!(gateway.post(r#"{"server_name": "half"}"#).text(), "ok");
        let answer = gateway.post(r#"{"server_name": "spill"}"#);
        assert_eq!(answer.text(), "ok");
        assert_eq!(answer.header("x-smartlink-version"), Some("candidate"));
    }
}

#[test]
fn an_upstream_that_closes_without_an_answer_is_upstream_reset() {
    let upstream = Upstream::start(|connection| {
        connection.read_request();
    });
    let gateway = Gateway::start(&[("endpoints:s", &upstream.url("/"), "base")]);
    gateway
        .post(r#"{"server_name": "s"}"#)
        .error(502, "upstream_reset");
    assert_eq!(
        upstream.seen().len(),
        1,
        "a request that was sent is not repeated"
    );
}

#[test]
fn an_upstream_that_never_answers_is_upstream_timeout() {
    let upstream = Upstream::start(|connection| {
        connection.read_request();
        connection.wait_for_close();
    });
    let url = upstream.url("/");
    for (clock, name) in [("timeout", "timeout"), ("total", "total")] {
        let gateway =
            Gateway::start(&[("endpoints:s", &url, "base"), ("service:s", clock, "200ms")]);
        let begun = Instant::now();
        let msg = gateway
            .post(r#"{"server_name": "s"}"#)
            .error(504, "upstream_timeout");
        assert!(msg.contains(name), "{msg}");
        let took = begun.elapsed();
        assert!(
            took >= Duration::from_millis(195) && took < PATIENCE,
            "{took:?}"
        );
    }
}

#[test]
fn kept_connections_that_the_upstream_closed_cost_no_request() {
    let closed = Arc::new(AtomicUsize::new(0));
    let upstream = Upstream::start({
        let closed = Arc::clone(&closed);
        move |connection| {
            connection.read_request();
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            connection.close();
            closed.fetch_add(1, Ordering::SeqCst);
        }
    });
    let gateway = Gateway::start(&[
        ("endpoints:s", &upstream.url("/"), "base"),
        ("route:r", "service", "s"),
        ("route:r", "path", "/get"),
    ]);
    let mut client = gateway.connect();
    for n in 0..50 {
        client.send(post(br#"{"server_name": "s"}"#));
        assert_eq!(client.read_answer().text(), "ok");
        eventually("the upstream closed", || {
            (closed.load(Ordering::SeqCst) == n + 1).then_some(())
        });
    }
    // What may be repeated need not even wait for the close to be seen.
    for _ in 0..50 {
        client.send("GET /get HTTP/1.1\r\nhost: h\r\n\r\n");
        assert_eq!(client.read_answer().text(), "ok");
    }
}

#[test]
fn connections_are_kept_on_both_sides() {
    let upstream = Upstream::saying("ok");
    let gateway = Gateway::start(&[("endpoints:s", &upstream.url("/"), "base")]);
    let mut client = gateway.connect();
    for _ in 0..20 {
        client.send(post(br#"{"server_name": "s"}"#));
        assert_eq!(client.read_answer().text(), "ok");
    }
    assert_eq!((upstream.connections(), upstream.seen().len()), (1, 20));
}

#[test]
fn other_methods_on_the_entry_are_routed() {
    let upstream = Upstream::saying("routed");
    let mut gateway = Gateway::start(&[("endpoints:s", &upstream.url("/"), "base")]);
    let get = "GET /ai_server/ HTTP/1.1\r\nhost: h\r\n\r\n";
    gateway.ask(get).error(404, "no_route");
    gateway.write(&[
        ("route:r", "service", "s"),
        ("route:r", "path", "/ai_server/"),
    ]);
    assert_eq!(gateway.ask(get).text(), "routed");
}

#[test]
fn the_entry_can_have_another_name() {
    let upstream = Upstream::saying("ok");
    let fields = [("endpoints:s", &*upstream.url("/"), "base")];
    let gateway = Gateway::start_with(&fields, |options| options.entry = "/api/ask/".to_owned());
    let body = r#"{"server_name": "s"}"#;
    let ask = |path: &str| {
        gateway.ask(format!(
            "POST {path} HTTP/1.1\r\nhost: h\r\ncontent-length: 20\r\n\r\n{body}"
        ))
    };
    assert_eq!(ask("/api/ask").text(), "ok");
    assert_eq!(ask("/api/ask/").text(), "ok");
    ask("/ai_server/").error(404, "no_route");
}

#[test]
fn a_change_is_in_force_for_the_next_request() {
    let (old, new) = (Upstream::saying("old"), Upstream::saying("new"));
    let mut gateway = Gateway::start(&[("endpoints:s", &old.url("/"), "base")]);
    let mut client = gateway.connect();
    let mut ask = || {
        client.send(post(br#"{"server_name": "s"}"#));
        client.read_answer().text().to_owned()
    };
    assert_eq!(ask(), "old");
    gateway.write(&[("endpoints:s", &new.url("/"), "base")]);
    assert_eq!(ask(), "new");
}
