//! Upstreams that break the protocol: 502, their connection never used again, nothing completed
//! that was cut.

use super::support::client::post;
use super::support::gateway::Gateway;
use super::support::upstream::Upstream;

const GET: &str = "GET /x HTTP/1.1\r\nhost: h\r\n\r\n";
const BODY: &[u8] = br#"{"server_name": "s"}"#;

/// A gateway that leads everything to this upstream.
fn led_to(upstream: &Upstream) -> Gateway {
    Gateway::start(&[
        ("endpoints:s", &upstream.url("/"), "base"),
        ("route:all", "service", "s"),
        ("route:all", "path", "/"),
    ])
}

/// An upstream whose first connection answers with these bytes and stays open; later ones are fine.
fn once_bad(bytes: Vec<u8>) -> Upstream {
    Upstream::start(move |connection| {
        while connection.read_request().is_some() {
            if connection.number() == 0 {
                connection.send(&bytes);
            } else {
                connection.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine");
            }
        }
    })
}

/// Each of these is answered 502 `bad_response`, and the next request uses another connection.
#[track_caller]
fn bad<B: AsRef<[u8]>>(answers: impl IntoIterator<Item = B>) {
    for answer in answers {
        let bytes = answer.as_ref();
        for request in [GET.as_bytes().to_vec(), post(BODY)] {
            let upstream = once_bad(bytes.to_vec());
            let gateway = led_to(&upstream);
            let mut client = gateway.connect();
            client.send(&request);
            let got = client.read_answer();
            let shown = String::from_utf8_lossy(bytes);
            assert_eq!(got.head.status, 502, "{shown:?}: {got:?}");
            got.error(502, "bad_response");
            client.send(&request);
            assert_eq!(client.read_answer().text(), "fine", "{shown:?}");
            assert_eq!(
                upstream.connections(),
                2,
                "{shown:?}: its connection was used again"
            );
            assert_eq!(
                upstream.seen().len(),
                2,
                "{shown:?}: the request was repeated"
            );
        }
    }
}

/// A 200 with these header lines.
fn ok(lines: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n")
}

#[test]
fn what_is_no_answer_is_a_bad_response() {
    bad([
        &b"hello\r\n\r\n"[..],
        b"\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"200 OK\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.2 200 OK\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 -20 OK\r\n\r\n",
        b" HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
    ]);
}

#[test]
fn malformed_header_lines_are_a_bad_response() {
    bad([
        ok("a : b\r\n"),
        ok(": b\r\n"),
        ok("nocolon\r\n"),
        ok("a b: c\r\n"),
        ok(" a: b\r\n"),
        ok("a: b\r\n c\r\n"),
        ok("a: b\0c\r\n"),
        ok("a: b\rc\r\n"),
        ok("a: b\x01\r\n"),
    ]);
}

#[test]
fn bare_line_ends_in_an_answer_are_a_bad_response() {
    bad([
        "HTTP/1.1 200 OK\ncontent-length: 0\n\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\n\r\n",
        "HTTP/1.1 200 OK\rcontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\nx-a: b\r\ncontent-length: 0\r\n\r\n",
    ]);
}

#[test]
fn ambiguous_lengths_are_a_bad_response() {
    bad([
        ok("content-length: 1\r\ncontent-length: 2\r\n") + "ab",
        ok("content-length: 1, 2\r\n") + "ab",
        ok("content-length: x\r\n"),
        ok("content-length: -1\r\n"),
        ok("content-length: +1\r\n") + "a",
        ok("content-length: 1 1\r\n") + "a",
        ok("content-length: 0x1\r\n") + "a",
        ok("content-length:\r\n"),
        ok("content-length: 99999999999999999999\r\n"),
        ok("content-length: 1\r\ntransfer-encoding: chunked\r\n") + "0\r\n\r\n",
        ok("transfer-encoding: chunked\r\ncontent-length: 1\r\n") + "0\r\n\r\n",
        ok("transfer-encoding: gzip\r\n"),
        ok("transfer-encoding: gzip, chunked\r\n") + "0\r\n\r\n",
        ok("transfer-encoding: chunked, chunked\r\n") + "0\r\n\r\n",
        ok("transfer-encoding: identity\r\n"),
        ok("transfer-encoding: xchunked\r\n") + "0\r\n\r\n",
        ok("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n") + "0\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
    ]);
}

#[test]
fn a_head_without_end_is_a_bad_response() {
    bad([
        ok(&format!("a: {}\r\n", "b".repeat(200_000))),
        ok(&"a: b\r\n".repeat(1_000)),
    ]);
}

/// Each of these begins a good answer and then breaks it: the client sees it cut, never complete.
#[track_caller]
fn cut(answers: impl IntoIterator<Item = (String, Close)>) {
    for (bytes, close) in answers {
        let upstream = Upstream::start({
            let bytes = bytes.clone();
            move |connection| {
                connection.read_request();
                if connection.number() == 0 {
                    connection.send(&bytes);
                    if close == Close::Yes {
                        return connection.close();
                    }
                    return connection.wait_for_close();
                }
                connection.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine");
                connection.wait_for_close();
            }
        });
        let gateway = led_to(&upstream);
        let mut client = gateway.connect();
        client.send(GET);
        let head = client.read_head();
        assert_eq!(head.status, 200, "{bytes:?}: {head:?}");
        let rest = client.read_to_end().unwrap_or_default();
        if let Some(length) = head.value("content-length") {
            let length: usize = length.parse().expect("a length");
            assert!(rest.len() < length, "{bytes:?}: {rest:?}");
        } else {
            assert!(
                head.has("transfer-encoding", "chunked"),
                "{bytes:?}: {head:?}"
            );
            assert!(!rest.ends_with(b"0\r\n\r\n"), "{bytes:?} was completed");
        }
        assert_eq!(gateway.ask(GET).text(), "fine", "{bytes:?}");
        assert_eq!(upstream.connections(), 2, "{bytes:?}");
    }
}

/// Whether the upstream closes after what it sent.
#[derive(Clone, Copy, PartialEq)]
enum Close {
    Yes,
    No,
}

#[test]
fn a_truncated_answer_is_cut_for_the_client_too() {
    cut([
        (ok("content-length: 10\r\n") + "hello", Close::Yes),
        (ok("content-length: 10\r\n"), Close::Yes),
        (ok("transfer-encoding: chunked\r\n"), Close::Yes),
        (
            ok("transfer-encoding: chunked\r\n") + "5\r\nhel",
            Close::Yes,
        ),
        (
            ok("transfer-encoding: chunked\r\n") + "5\r\nhello\r\n",
            Close::Yes,
        ),
        (
            ok("transfer-encoding: chunked\r\n") + "5\r\nhello\r\n0\r\n",
            Close::Yes,
        ),
        (
            ok("transfer-encoding: chunked\r\n") + "5\r\nhello\r\n0\r\na: b\r\n",
            Close::Yes,
        ),
    ]);
}

#[test]
fn a_malformed_chunk_cuts_the_answer() {
    let chunked = ok("transfer-encoding: chunked\r\n") + "5\r\nhello\r\n";
    cut([
        "x\r\nhello\r\n",
        "-5\r\nhello\r\n",
        "5 5\r\nhello\r\n",
        "\r\nhello\r\n",
        "0x5\r\nhello\r\n",
        "5\nhello\r\n",
        "4\r\nhello\r\n",
        "5\r\nhelloX\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "ffffffffffffffff\r\nhello",
        "fffffffffffffffff5\r\nhello\r\n",
        "0\r\na : b\r\n\r\n",
        "0\r\nX\r\n\r\n",
        "0\r\n a: b\r\n\r\n",
        "0\n\n",
    ]
    .map(|rest| (format!("{chunked}{rest}"), Close::No)));
}

#[test]
fn an_upstream_that_closes_before_the_end_of_its_head_is_a_502() {
    for (bytes, code) in [
        ("", "upstream_reset"),
        ("HTTP/1.1 100 Continue\r\n\r\n", "upstream_reset"),
        ("HTTP/1.1 200", "bad_response"),
        ("HTTP/1.1 200 OK\r\ncontent-le", "bad_response"),
    ] {
        let upstream = Upstream::closing(bytes);
        let gateway = led_to(&upstream);
        gateway.post(BODY).error(502, code);
        assert_eq!(
            upstream.seen().len(),
            1,
            "{bytes:?}: the request was repeated"
        );
    }
}

#[test]
fn bytes_behind_an_answer_are_never_the_next_answer() {
    let upstream = once_bad(
        (ok("content-length: 2\r\n") + "ok" + &ok("content-length: 4\r\n") + "evil").into_bytes(),
    );
    let gateway = led_to(&upstream);
    let mut client = gateway.connect();
    client.send(GET);
    assert_eq!(client.read_answer().text(), "ok");
    client.send(GET);
    assert_eq!(client.read_answer().text(), "fine");
    let upstream = once_bad((ok("content-length: 2\r\n") + "ok, and more").into_bytes());
    let gateway = led_to(&upstream);
    let mut client = gateway.connect();
    client.send(GET);
    assert_eq!(client.read_answer().text(), "ok");
    client.send(GET);
    assert_eq!(client.read_answer().text(), "fine");
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn a_body_that_must_not_be_there_is_not_passed_on() {
    for (request, head) in [
        (
            "HEAD /x HTTP/1.1\r\nhost: h\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n",
        ),
        (GET, "HTTP/1.1 204 No Content\r\n\r\n"),
        (GET, "HTTP/1.1 304 Not Modified\r\n\r\n"),
    ] {
        let upstream = once_bad(format!("{head}evil").into_bytes());
        let gateway = led_to(&upstream);
        let mut client = gateway.connect();
        client.send(request);
        assert_ne!(client.read_head().status, 502);
        client.send(GET);
        assert_eq!(client.read_answer().text(), "fine", "{head:?}");
        assert_eq!(upstream.connections(), 2, "{head:?}");
    }
}

#[test]
fn an_upstream_that_wants_its_connection_closed_is_obeyed() {
    for lines in ["connection: close\r\n", "Connection: x, Close\r\n"] {
        let upstream = Upstream::answering(ok(&format!("{lines}content-length: 2\r\n")) + "ok");
        let gateway = led_to(&upstream);
        let mut client = gateway.connect();
        for _ in 0..2 {
            client.send(GET);
            let answer = client.read_answer();
            assert_eq!(answer.text(), "ok");
            assert_eq!(
                answer.header("connection"),
                None,
                "the client's connection stays"
            );
        }
        assert_eq!(upstream.connections(), 2);
    }
    let upstream = Upstream::answering("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let gateway = led_to(&upstream);
    assert_eq!(gateway.ask(GET).text(), "ok");
    assert_eq!(gateway.ask(GET).text(), "ok");
    assert_eq!(upstream.connections(), 2, "HTTP/1.0 without keep-alive");
}

#[test]
fn equal_lengths_twice_are_one_length() {
    for lines in [
        "content-length: 2\r\ncontent-length: 2\r\n",
        "content-length: 2, 2\r\n",
    ] {
        let upstream = Upstream::answering(ok(lines) + "ok");
        let gateway = led_to(&upstream);
        assert_eq!(gateway.ask(GET).text(), "ok", "{lines:?}");
    }
}
