//! What flows: bodies both ways, events as they come, switched protocols, and those who leave.

use std::time::{Duration, Instant};

use super::support::eventually;
use super::support::gateway::Gateway;
use super::support::upstream::{Connection, Gate, Upstream};

/// A gateway that routes every path to an upstream with this script.
fn stage(script: impl Fn(&mut Connection) + Send + Sync + 'static) -> (Upstream, Gateway) {
    let upstream = Upstream::start(script);
    let gateway = routed_to(&upstream);
    (upstream, gateway)
}

fn routed_to(upstream: &Upstream) -> Gateway {
    Gateway::start(&[
        ("endpoints:s", &upstream.url("/"), "base"),
        ("route:all", "service", "s"),
        ("route:all", "path", "/"),
    ])
}

const GET: &str = "GET /x HTTP/1.1\r\nhost: h\r\n\r\n";

#[test]
fn each_event_reaches_the_client_as_it_comes() {
    let next = Gate::default();
    let (_upstream, gateway) = stage({
        let next = next.clone();
        move |connection| {
            connection.read_request();
            connection.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
            connection.send("9\r\ndata: 1\n\n\r\n");
            next.pass();
            connection.send("9\r\ndata: 2\n\n\r\n0\r\n\r\n");
        }
    });
    let mut client = gateway.connect();
    client.send(GET);
    let head = client.read_head();
    assert!(head.has("content-type", "text/event-stream"), "{head:?}");
    assert!(
        client
            .read_until("data: 1\n\n\r\n")
            .ends_with("data: 1\n\n\r\n")
    );
    next.open();
    client.read_until("data: 2\n\n\r\n0\r\n\r\n");
}

#[test]
fn a_head_reaches_the_client_before_its_body() {
    let next = Gate::default();
    let (_upstream, gateway) = stage({
        let next = next.clone();
        move |connection| {
            connection.read_request();
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n");
            next.pass();
            connection.send("abc");
        }
    });
    let mut client = gateway.connect();
    client.send(GET);
    let head = client.read_head();
    next.open();
    assert_eq!(client.read_body(head).text(), "abc");
}

#[test]
fn a_request_body_streams_up_while_the_answer_streams_down() {
    let (_upstream, gateway) = stage(|connection| {
        let head = connection.read_head().expect("a head");
        assert!(head.has("transfer-encoding", "chunked"), "{head:?}");
        connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        for _ in 0..3 {
            assert_eq!(connection.read_until("\r\n").as_deref(), Some("4\r\n"));
            let ping = connection.read_exactly(6).expect("a ping");
            assert_eq!(ping, b"ping\r\n");
            connection.send("4\r\npong\r\n");
        }
        assert_eq!(
            connection.read_until("\r\n\r\n").as_deref(),
            Some("0\r\n\r\n")
        );
        connection.send("0\r\n\r\n");
    });
    let mut client = gateway.connect();
    client.send("POST /x HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n");
    client.send("4\r\nping\r\n");
    client.read_head();
    for turn in 0..3 {
        assert_eq!(client.read_until("\r\npong\r\n"), "4\r\npong\r\n");
        client.send(if turn < 2 {
            "4\r\nping\r\n"
        } else {
            "0\r\n\r\n"
        });
    }
    client.read_until("0\r\n\r\n");
}

#[test]
fn large_bodies_pass_byte_for_byte_both_ways() {
    let bytes: Vec<u8> = (0..3_000_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let (_upstream, gateway) = stage(|connection| {
        while let Some(seen) = connection.read_request() {
            connection.send(format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
                seen.body.len()
            ));
            connection.send(&seen.body);
        }
    });
    let mut client = gateway.connect();
    client.send(format!(
        "PUT /x HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n",
        bytes.len()
    ));
    client.send(&bytes);
    assert!(client.read_answer().body == bytes);
}

#[test]
fn trailers_pass_both_ways() {
    let (upstream, gateway) = stage(|connection| {
        connection.read_request();
        connection.send(
            "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 9\r\n\r\n",
        );
    });
    let answer = gateway.ask(
        "POST /x HTTP/1.1\r\nhost: h\r\nte: trailers\r\ntrailer: x-md5\r\ntransfer-encoding: chunked\r\n\r\n\
         2\r\nhi\r\n0\r\nx-md5: 7\r\n\r\n",
    );
    assert_eq!(answer.text(), "ok");
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "9".to_owned())]);
    let seen = upstream.only();
    assert_eq!(seen.trailers, ["x-md5: 7"]);
    assert_eq!(seen.head.value("te"), Some("trailers"));
    assert_eq!(seen.head.value("trailer"), Some("x-md5"));
}

#[test]
fn a_client_that_expects_100_continue_gets_it() {
    let (upstream, gateway) = stage(|connection| {
        connection.read_request();
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    });
    let mut client = gateway.connect();
    client.send("POST /x HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    assert_eq!(client.read_head().status, 100);
    client.send("hello");
    assert_eq!(client.read_answer().text(), "ok");
    assert_eq!(upstream.only().body, b"hello");
}

#[test]
fn an_answer_that_needs_no_body_comes_instead_of_100_continue() {
    let gateway = Gateway::start(&[]);
    let mut client = gateway.connect();
    client.send("POST /x HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    client.read_answer().error(404, "no_route");
}

#[test]
fn interim_answers_do_not_confuse_the_final_one() {
    let upstream = Upstream::answering(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    );
    let gateway = routed_to(&upstream);
    let mut client = gateway.connect();
    for _ in 0..3 {
        client.send(GET);
        let mut head = client.read_head();
        while head.status < 200 {
            head = client.read_head();
        }
        assert_eq!(client.read_body(head).text(), "ok");
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn head_204_and_304_have_no_body_and_keep_the_connection() {
    let (upstream, gateway) = stage(|connection| {
        while let Some(seen) = connection.read_request() {
            connection.send(match seen.head.start.split(' ').nth(1) {
                Some("/204") => "HTTP/1.1 204 No Content\r\n\r\n",
                Some("/304") => {
                    "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\ncontent-length: 7\r\n\r\n"
                }
                Some("/chunked") => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n",
            });
        }
    });
    let mut client = gateway.connect();
    for (request, status, length) in [
        ("HEAD /length", 200, Some("7")),
        ("HEAD /chunked", 200, None),
        ("GET /204", 204, None),
        ("HEAD /length", 200, Some("7")),
    ] {
        client.send(format!("{request} HTTP/1.1\r\nhost: h\r\n\r\n"));
        let head = client.read_head();
        assert_eq!(
            (head.status, head.value("content-length")),
            (status, length),
            "{request}"
        );
    }
    client.send("GET /304 HTTP/1.1\r\nhost: h\r\n\r\n");
    let head = client.read_head();
    assert_eq!((head.status, head.value("etag")), (304, Some("\"a\"")));
    client.expect_silence(Duration::from_millis(30));
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn an_error_to_a_head_request_has_no_body() {
    let gateway = Gateway::start(&[]);
    let mut client = gateway.connect();
    client.send("HEAD /x HTTP/1.1\r\nhost: h\r\n\r\n");
    let head = client.read_head();
    assert_eq!(
        (head.status, head.value("x-smartlink-error")),
        (404, Some("no_route"))
    );
    client.send("GET /x HTTP/1.1\r\nhost: h\r\n\r\n");
    client.read_answer().error(404, "no_route");
}

#[test]
fn a_body_that_ends_with_the_connection_arrives_whole() {
    let upstream = Upstream::closing("HTTP/1.1 200 OK\r\n\r\nto the end");
    let gateway = routed_to(&upstream);
    let mut client = gateway.connect();
    for _ in 0..2 {
        client.send(GET);
        assert_eq!(client.read_answer().text(), "to the end");
    }
    let upstream = Upstream::closing("HTTP/1.0 200 OK\r\n\r\nof old");
    let gateway = routed_to(&upstream);
    assert_eq!(gateway.ask(GET).text(), "of old");
}

#[test]
fn a_client_of_http_1_0_gets_what_it_can_read() {
    let (_upstream, gateway) = stage(|connection| {
        while connection.read_request().is_some() {
            connection
                .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
        }
    });
    let mut client = gateway.connect();
    client.send("GET /x HTTP/1.0\r\n\r\n");
    let answer = client.read_answer();
    assert!(
        answer.head.values("transfer-encoding").is_empty(),
        "{answer:?}"
    );
    assert_eq!(answer.text(), "ok");
    client.expect_close();
    let upstream = Upstream::saying("ok");
    let gateway = routed_to(&upstream);
    let mut client = gateway.connect();
    for _ in 0..2 {
        client.send("GET /x HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
        let answer = client.read_answer();
        assert_eq!(
            (answer.text(), answer.header("connection")),
            ("ok", Some("keep-alive"))
        );
    }
    client.send("GET /x HTTP/1.0\r\n\r\n");
    assert_eq!(client.read_answer().text(), "ok");
    client.expect_close();
}

#[test]
fn connection_close_is_obeyed() {
    let upstream = Upstream::saying("ok");
    let gateway = routed_to(&upstream);
    let mut client = gateway.connect();
    client.send("GET /x HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
    let answer = client.read_answer();
    assert_eq!(
        (answer.text(), answer.header("connection")),
        ("ok", Some("close"))
    );
    client.expect_close();
    client = gateway.connect();
    client.send(GET);
    assert_eq!(client.read_answer().text(), "ok");
    assert_eq!(
        upstream.connections(),
        1,
        "a client's close is not the upstream's"
    );
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (_upstream, gateway) = stage(|connection| {
        while let Some(seen) = connection.read_request() {
            let path = seen
                .head
                .start
                .split(' ')
                .nth(1)
                .expect("a path")
                .to_owned();
            connection.send(format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}",
                path.len()
            ));
        }
    });
    let mut client = gateway.connect();
    let all: Vec<String> = (0..20)
        .map(|n| format!("GET /{n} HTTP/1.1\r\nhost: h\r\n\r\n"))
        .collect();
    client.send(all.concat());
    for n in 0..20 {
        assert_eq!(client.read_answer().text(), format!("/{n}"));
    }
}

/// A request for another protocol.
const UPGRADE: &str = "GET /chat HTTP/1.1\r\nhost: h\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";

#[test]
fn a_switched_protocol_flows_both_ways_until_one_side_ends() {
    let (upstream, gateway) = stage(|connection| {
        let seen = connection.read_request().expect("a request");
        assert_eq!(seen.head.value("upgrade"), Some("websocket"));
        assert!(
            seen.head
                .value("connection")
                .is_some_and(|c| c.eq_ignore_ascii_case("upgrade"))
        );
        assert!(seen.head.value("sec-websocket-key").is_some());
        connection.send("HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n\r\nhello\0");
        while let Some(line) = connection.read_until("\n") {
            connection.send(line.to_uppercase());
            if line == "bye\n" {
                return connection.close();
            }
        }
    });
    let mut client = gateway.connect();
    client.send(UPGRADE);
    let head = client.read_head();
    assert_eq!(head.status, 101);
    assert_eq!(head.value("upgrade"), Some("websocket"));
    assert_eq!(head.value("sec-websocket-accept"), Some("x"));
    assert_eq!(client.read_exactly(6), b"hello\0");
    for word in ["one\n", "GET / HTTP/1.1\n", "\0\u{ff}\n"] {
        client.send(word);
        assert_eq!(client.read_until("\n"), word.to_uppercase());
    }
    client.send("bye\n");
    assert_eq!(client.read_until("\n"), "BYE\n");
    client.expect_close();
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn the_upstream_sees_when_the_client_of_a_switched_protocol_leaves() {
    let left = Gate::default();
    let (_upstream, gateway) = stage({
        let left = left.clone();
        move |connection| {
            connection.read_request();
            connection.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
            connection.wait_for_close();
            left.open();
        }
    });
    let mut client = gateway.connect();
    client.send(UPGRADE);
    assert_eq!(client.read_head().status, 101);
    drop(client);
    left.pass();
}

#[test]
fn a_declined_upgrade_is_an_ordinary_answer() {
    let upstream = Upstream::saying("no");
    let gateway = routed_to(&upstream);
    let mut client = gateway.connect();
    for _ in 0..2 {
        client.send(UPGRADE);
        assert_eq!(client.read_answer().text(), "no");
    }
}

#[test]
fn a_switch_that_nobody_asked_for_is_a_bad_response() {
    let upstream = Upstream::answering(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    );
    let gateway = routed_to(&upstream);
    gateway.ask(GET).error(502, "bad_response");
}

#[test]
fn h2c_is_not_passed_on() {
    let upstream = Upstream::saying("plain");
    let gateway = routed_to(&upstream);
    let answer = gateway.ask(
        "GET /x HTTP/1.1\r\nhost: h\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n",
    );
    assert_eq!(answer.text(), "plain");
    let head = upstream.only().head;
    assert!(
        head.values("upgrade").is_empty() && head.values("http2-settings").is_empty(),
        "{head:?}"
    );
}

#[test]
fn an_answer_given_before_the_body_was_read_reaches_the_client() {
    let (_upstream, gateway) = stage(|connection| {
        connection.read_head();
        connection.send(
            "HTTP/1.1 413 Payload Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno!",
        );
        connection.close();
    });
    let mut client = gateway.connect();
    client.send("POST /x HTTP/1.1\r\nhost: h\r\ncontent-length: 300000\r\n\r\n");
    client.send("x".repeat(100_000));
    let answer = client.read_answer();
    assert_eq!((answer.head.status, answer.text()), (413, "no!"));
}

#[test]
fn an_error_given_before_the_body_was_read_reaches_a_client_that_goes_on_sending() {
    let gateway = Gateway::start(&[]);
    let mut client = gateway.connect();
    client.send("POST /nowhere HTTP/1.1\r\nhost: h\r\ncontent-length: 900000\r\n\r\n");
    for _ in 0..9 {
        client.send("x".repeat(100_000));
    }
    client.read_answer().error(404, "no_route");
}

/// Runs `leave` on a client and measures how long until the upstream sees its connection close.
#[track_caller]
fn seen_within_100_ms(request: &str, upstream_says: &'static str, wait_for: &str) {
    for half in [false, true] {
        let (ready, left) = (Gate::default(), Gate::default());
        let (_upstream, gateway) = stage({
            let (ready, left) = (ready.clone(), left.clone());
            move |connection| {
                connection.read_head();
                connection.send(upstream_says);
                ready.open();
                connection.wait_for_close();
                left.open();
            }
        });
        let mut client = gateway.connect();
        client.send(request);
        ready.pass();
        if !wait_for.is_empty() {
            client.read_until(wait_for);
        }
        if half {
            client.half_close();
        } else {
            drop(client);
        }
        left.pass();
    }
}

#[test]
fn a_client_that_leaves_cancels_its_request_in_every_phase() {
    let post = "POST /x HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\nhello";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    seen_within_100_ms(GET, "", "");
    seen_within_100_ms(post, "", "");
    seen_within_100_ms(GET, chunked, "hello");
    seen_within_100_ms(
        GET,
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",
        "hello",
    );
    seen_within_100_ms(GET, "HTTP/1.1 200 OK\r\n\r\nhello", "hello");
}

#[test]
fn a_client_of_the_named_entry_that_leaves_cancels_its_request() {
    let (ready, left) = (Gate::default(), Gate::default());
    let upstream = Upstream::start({
        let (ready, left) = (ready.clone(), left.clone());
        move |connection| {
            connection.read_request();
            ready.open();
            connection.wait_for_close();
            left.open();
        }
    });
    let gateway = Gateway::start(&[("endpoints:s", &upstream.url("/"), "base")]);
    let mut client = gateway.connect();
    client.send(super::support::client::post(br#"{"server_name": "s"}"#));
    ready.pass();
    let begun = Instant::now();
    drop(client);
    left.pass();
    println!("noticed after {:?}", begun.elapsed());
}

#[test]
fn an_upstream_that_stalls_in_mid_body_is_cut_and_not_completed() {
    let upstream = Upstream::start(|connection| {
        connection.read_request();
        connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
        connection.wait_for_close();
    });
    let gateway = Gateway::start(&[
        ("endpoints:s", &upstream.url("/"), "base"),
        ("service:s", "stall", "200ms"),
        ("route:all", "service", "s"),
        ("route:all", "path", "/"),
    ]);
    let mut client = gateway.connect();
    client.send(GET);
    client.read_until("hello\r\n");
    let rest = client.read_to_end().unwrap_or_default();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "completed: {rest:?}");
}

#[test]
fn a_stream_outlives_the_timeout_of_the_head() {
    let upstream = Upstream::start(|connection| {
        connection.read_request();
        connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(1500) {
            connection.send("1\r\n.\r\n");
            std::thread::sleep(Duration::from_millis(50));
        }
        connection.send("0\r\n\r\n");
    });
    let gateway = Gateway::start(&[
        ("endpoints:s", &upstream.url("/"), "base"),
        ("service:s", "timeout", "1s"),
        ("service:s", "stall", "10s"),
        ("route:all", "service", "s"),
        ("route:all", "path", "/"),
    ]);
    assert!(gateway.ask(GET).body.len() >= 5);
}

#[test]
fn max_stream_bounds_routed_bodies() {
    let upstream = Upstream::saying("ok");
    let gateway = Gateway::start(&[
        ("endpoints:s", &upstream.url("/"), "base"),
        ("service:s", "max_stream", "1000"),
        ("route:all", "service", "s"),
        ("route:all", "path", "/"),
    ]);
    gateway
        .ask("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1001\r\n\r\n")
        .error(413, "body_too_large");
    let chunk = format!("3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1001));
    let request =
        format!("POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n{chunk}");
    gateway.ask(request).error(413, "body_too_large");
    assert_eq!(upstream.seen().len(), 0);
    let request = format!(
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1000\r\n\r\n{}",
        "x".repeat(1000)
    );
    assert_eq!(gateway.ask(request).text(), "ok");
}

#[test]
fn an_open_stream_survives_changes_and_the_deletion_of_its_service() {
    let (next, served) = (Gate::default(), Gate::default());
    let upstream = Upstream::start({
        let (next, served) = (next.clone(), served.clone());
        move |connection| {
            connection.read_request();
            connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n");
            served.open();
            next.pass();
            connection.send("1\r\nb\r\n0\r\n\r\n");
        }
    });
    let mut gateway = Gateway::start(&[
        ("endpoints:s", &upstream.url("/"), "base"),
        ("route:all", "service", "s"),
        ("route:all", "path", "/"),
    ]);
    let mut client = gateway.connect();
    client.send(GET);
    served.pass();
    for n in 1..50 {
        gateway.write(&[("service:s", "timeout", &format!("{n}s"))]);
    }
    gateway.delete("endpoints:s");
    eventually("the service is gone", || {
        (gateway.ask(GET).head.status != 200).then_some(())
    });
    next.open();
    assert_eq!(client.read_answer().text(), "ab");
}
