//! Requests that RFC 9112 says must be refused are: 400, the connection closed, nothing passed on.
//!
//! One test a rule, in the order of the sections.

use std::time::{Duration, Instant};

use super::support::PATIENCE;
use super::support::gateway::Gateway;
use super::support::upstream::Upstream;

/// A gateway whose every path is routed, and what it is routed to.
struct Stage {
    upstream: Upstream,
    gateway: Gateway,
}

impl Stage {
    fn new() -> Self {
        let upstream = Upstream::saying("ok");
        let gateway = Gateway::start(&[
            ("endpoints:s", &upstream.url("/"), "base"),
            ("route:all", "service", "s"),
            ("route:all", "path", "/"),
        ]);
        Self { upstream, gateway }
    }
}

/// Behind each bad request stands a good one that must not be answered.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: h\r\n\r\n";

/// Each of these gets one 400 `bad_request` and a close; no whole request reaches the upstream.
#[track_caller]
fn refused<B: AsRef<[u8]>>(requests: impl IntoIterator<Item = B>) {
    let stage = Stage::new();
    for request in requests {
        let request = request.as_ref();
        let shown = String::from_utf8_lossy(request);
        let mut client = stage.gateway.connect();
        client.send([request, SMUGGLED.as_bytes()].concat());
        let begun = Instant::now();
        let answer = client.read_answer();
        assert_eq!(answer.head.status, 400, "{shown:?}: {answer:?}");
        answer.error(400, "bad_request");
        assert_eq!(answer.header("connection"), Some("close"), "{shown:?}");
        client.expect_close();
        assert!(begun.elapsed() < PATIENCE, "{shown:?}: closed late");
        let seen = stage.upstream.seen();
        assert!(
            seen.is_empty(),
            "{shown:?} reached the upstream as {seen:?}"
        );
    }
}

/// As `refused`, for mistakes in a head: the upstream is not even connected to.
#[track_caller]
fn refused_head<B: AsRef<[u8]> + Clone>(requests: impl IntoIterator<Item = B>) {
    let requests: Vec<B> = requests.into_iter().collect();
    refused(requests.clone());
    let stage = Stage::new();
    for request in requests {
        stage.gateway.ask(request).error(400, "bad_request");
    }
    assert_eq!(stage.upstream.connections(), 0);
}

/// Each of these is answered by the upstream.
#[track_caller]
fn taken<B: AsRef<[u8]>>(requests: impl IntoIterator<Item = B>) {
    let stage = Stage::new();
    for request in requests {
        let shown = String::from_utf8_lossy(request.as_ref()).into_owned();
        let answer = stage.gateway.ask(request);
        assert_eq!(answer.text(), "ok", "{shown:?}: {answer:?}");
    }
}

/// A GET with these further header lines.
fn get(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nhost: h\r\n{lines}\r\n")
}

/// A chunked POST with this body.
fn chunked(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n{body}")
}

// Section 2.2: message parsing.

#[test]
fn a_line_that_ends_in_a_bare_lf_is_refused() {
    refused_head([
        "GET / HTTP/1.1\nhost: h\n\n",
        "GET / HTTP/1.1\nhost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: h\n\r\n",
        "GET / HTTP/1.1\r\nhost: h\r\n\n",
        "GET / HTTP/1.1\r\nhost: h\r\na: b\nc: d\r\n\r\n",
        "\nGET / HTTP/1.1\r\nhost: h\r\n\r\n",
    ]);
}

#[test]
fn a_bare_cr_is_refused() {
    refused_head([
        "GET / HTTP/1.1\rhost: h\r\n\r\n",
        "GET /\r HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: h\r\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: h\r\na: b\rc: d\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: h\r\na: b\r c\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: h\r\n\rx: y\r\n\r\n",
        "\rGET / HTTP/1.1\r\nhost: h\r\n\r\n",
    ]);
}

#[test]
fn a_cr_at_the_end_of_a_packet_is_no_bare_cr() {
    let stage = Stage::new();
    let mut client = stage.gateway.connect();
    let request = get("a: b\r\n");
    for piece in request.trim_end_matches('\n').split_inclusive('\r') {
        client.send(piece);
        client.expect_silence(Duration::from_millis(20));
    }
    client.send("\n");
    assert_eq!(client.read_answer().text(), "ok");
}

#[test]
fn an_empty_line_before_the_request_line_is_ignored() {
    taken(["\r\nGET / HTTP/1.1\r\nhost: h\r\n\r\n"]);
    refused_head(["\r\n".repeat(20)]);
}

#[test]
fn white_space_between_the_start_line_and_the_first_header_is_refused() {
    refused_head([
        "GET / HTTP/1.1\r\n host: h\r\n\r\n",
        "GET / HTTP/1.1\r\n\thost: h\r\n\r\n",
        "GET / HTTP/1.1\r\n \r\nhost: h\r\n\r\n",
        " GET / HTTP/1.1\r\nhost: h\r\n\r\n",
    ]);
}

#[test]
fn bytes_that_are_no_http_are_refused() {
    refused_head([
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..],
        b"hello\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]);
}

// Section 2.3: the version.

#[test]
fn another_version_of_http_is_refused() {
    for version in [
        "HTTP/2.0",
        "HTTP/1.2",
        "HTTP/0.9",
        "http/1.1",
        "HTTP/1",
        "HTTP/11",
        "HTTP/1.1x",
        "HTTP/01.1",
        "",
    ] {
        refused_head([format!("GET / {version}\r\nhost: h\r\n\r\n")]);
    }
    refused_head(["GET /\r\nhost: h\r\n\r\n"]);
}

// Section 3: the request line.

#[test]
fn a_request_line_with_other_white_space_than_two_spaces_is_refused() {
    refused_head([
        "GET  / HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET /  HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET / HTTP/1.1 \r\nhost: h\r\n\r\n",
        "GET\t/ HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET /\tHTTP/1.1\r\nhost: h\r\n\r\n",
        "GET /a b HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET /\x0b HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET HTTP/1.1\r\nhost: h\r\n\r\n",
    ]);
}

#[test]
fn a_method_that_is_no_token_is_refused() {
    refused_head([
        "G@T / HTTP/1.1\r\nhost: h\r\n\r\n",
        "GE(T / HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET: / HTTP/1.1\r\nhost: h\r\n\r\n",
        "G\u{e9}T / HTTP/1.1\r\nhost: h\r\n\r\n",
    ]);
}

#[test]
fn a_target_with_a_control_character_is_refused() {
    for byte in (0..0x20)
        .chain([0x7f])
        .map(char::from)
        .filter(|c| !"\r\n".contains(*c))
    {
        refused_head([format!("GET /a{byte}b HTTP/1.1\r\nhost: h\r\n\r\n")]);
    }
}

#[test]
fn a_target_of_a_form_that_is_not_served_is_refused() {
    refused_head([
        "GET * HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET h HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET h:80 HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET a/b HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET ?a HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET /a#b HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET http:///a HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET http://u@h/a HTTP/1.1\r\nhost: h\r\n\r\n",
        "CONNECT h:443 HTTP/1.1\r\nhost: h:443\r\n\r\n",
        "CONNECT / HTTP/1.1\r\nhost: h\r\n\r\n",
    ]);
}

#[test]
fn larger_heads_pass_where_the_flags_allow_them() {
    let upstream = Upstream::saying("ok");
    let url = upstream.url("/");
    let fields = [
        ("endpoints:s", url.as_str(), "base"),
        ("route:all", "service", "s"),
        ("route:all", "path", "/"),
    ];
    let gateway = Gateway::start_with(&fields, |options| {
        options.max_head = 256 << 10;
        options.max_headers = 600;
    });
    for lines in [
        format!("a: {}\r\n", "b".repeat(200_000)),
        "a: b\r\n".repeat(500),
    ] {
        assert_eq!(gateway.ask(get(&lines)).text(), "ok");
    }
    let long = format!("GET /{} HTTP/1.1\r\nhost: h\r\n\r\n", "a".repeat(70_000));
    let msg = gateway.ask(long).error(431, "bad_request");
    assert!(msg.contains("a target of more than"), "{msg}");
    assert_eq!(upstream.seen().len(), 2);
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let stage = Stage::new();
    for (request, bound) in [
        (
            format!("GET /{} HTTP/1.1\r\nhost: h\r\n\r\n", "a".repeat(100_000)),
            "--max-head is 65536 bytes",
        ),
        (
            get(&format!("a: {}\r\n", "b".repeat(100_000))),
            "--max-head is 65536 bytes",
        ),
        (get(&"a: b\r\n".repeat(500)), "--max-headers is 100"),
    ] {
        let mut client = stage.gateway.connect();
        client.send(request);
        let answer = client.read_answer();
        let msg = answer.error(431, "bad_request");
        assert!(msg.ends_with(bound), "{msg}");
        assert_eq!(answer.header("connection"), Some("close"));
    }
    assert_eq!(stage.upstream.connections(), 0);
}

// Section 3.2: Host.

#[test]
fn a_request_without_host_is_refused() {
    refused_head([
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nx-host: h\r\n\r\n",
        "GET http://h/ HTTP/1.1\r\n\r\n",
    ]);
    taken(["GET / HTTP/1.0\r\n\r\n"]);
}

#[test]
fn a_second_host_is_refused() {
    refused_head([
        "GET / HTTP/1.1\r\nhost: h\r\nhost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: h\r\nHost: i\r\n\r\n",
        "GET / HTTP/1.0\r\nhost: h\r\nhost: i\r\n\r\n",
    ]);
}

#[test]
fn a_host_that_is_no_host_is_refused() {
    for host in [
        "a b", "a,b", "a/b", "a\\b", "u@h", "a?b", "a#b", "a\"b", "<a>", "h:port", "h:80:80",
        "h:-1", "h:99999", "[::1", "::1", "[::1]x", "[gg::]", "http://h", "a%zz",
    ] {
        refused_head([format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")]);
    }
    for host in [
        "",
        "h",
        "h:80",
        "h:",
        "127.0.0.1:9001",
        "[::1]",
        "[::1]:80",
        "a_b.example.com.",
        "x--y",
    ] {
        taken([format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")]);
    }
}

#[test]
fn the_host_of_an_absolute_target_wins_over_the_header() {
    let (right, wrong) = (Upstream::saying("right"), Upstream::saying("wrong"));
    let gateway = Gateway::start(&[
        ("endpoints:right", &right.url("/"), "base"),
        ("service:right", "host_header", "client"),
        ("endpoints:wrong", &wrong.url("/"), "base"),
        ("route:a", "service", "right"),
        ("route:a", "host", "a.example.com"),
        ("route:b", "service", "wrong"),
        ("route:b", "host", "b.example.com"),
    ]);
    let request = "GET http://a.example.com:81/x HTTP/1.1\r\nhost: b.example.com\r\n\r\n";
    assert_eq!(gateway.ask(request).text(), "right");
    let seen = right.only();
    assert_eq!(seen.head.start, "GET /x HTTP/1.1");
    assert_eq!(seen.head.value("host"), Some("a.example.com:81"));
    assert_eq!(
        seen.head.value("x-forwarded-host"),
        Some("a.example.com:81")
    );
}

// Section 5: field lines.

#[test]
fn white_space_before_the_colon_is_refused() {
    refused_head([
        get("a : b\r\n"),
        get("a\t: b\r\n"),
        get("content-length : 5\r\n"),
        get("transfer-encoding : chunked\r\n"),
        "GET / HTTP/1.1\r\nhost : h\r\n\r\n".to_owned(),
    ]);
}

#[test]
fn a_field_name_that_is_no_token_is_refused() {
    for name in [
        "", "a b", "a\"b", "a/b", "a(b)", "a@b", "a\u{e9}", "a\x0b", "a[b]",
    ] {
        refused_head([get(&format!("{name}: x\r\n"))]);
    }
    refused_head([get("no colon\r\n"), get("nocolon\r\n")]);
}

#[test]
fn an_obsolete_folded_line_is_refused() {
    refused_head([
        get("a: b\r\n c\r\n"),
        get("a: b\r\n\tc\r\n"),
        get("a: b\r\n \r\n"),
        get("transfer-encoding:\r\n chunked\r\n"),
        get("content-length: 1\r\n 0\r\n"),
    ]);
}

#[test]
fn a_field_value_with_nul_or_a_control_character_is_refused() {
    for byte in (0..0x20)
        .chain([0x7f])
        .map(char::from)
        .filter(|c| !"\r\n\t".contains(*c))
    {
        refused_head([get(&format!("a: b{byte}c\r\n"))]);
    }
    taken([
        get("a: b\tc\r\n"),
        get("a: \u{e9}\r\n"),
        get("a:\r\n"),
        get("a:b\r\n"),
        get("a:  b  \r\n"),
    ]);
}

// Section 6: the body's length.

#[test]
fn content_length_with_transfer_encoding_is_refused() {
    refused_head([
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: identity\r\ncontent-length: 5\r\n\r\nhello",
    ]);
}

#[test]
fn a_repeated_content_length_is_refused() {
    refused_head([
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5, 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5,6\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\ncontent-length: 5\r\n\r\nhello",
    ]);
}

#[test]
fn a_content_length_that_is_no_number_is_refused() {
    for length in [
        "",
        "+5",
        "-5",
        "-0",
        "0x5",
        "5x",
        "5 5",
        "5.0",
        "1e1",
        "\u{665}",
        "five",
        "\"5\"",
        "5;",
        "_5",
        "99999999999999999999999",
        "18446744073709551621",
    ] {
        refused_head([format!(
            "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\nhello"
        )]);
    }
    taken(["POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 005\r\n\r\nhello"]);
}

#[test]
fn an_odd_transfer_encoding_is_refused() {
    for coding in [
        "",
        "identity",
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "chunked,",
        ",chunked",
        "xchunked",
        "chunked x",
        "chunked;q=1",
        "\"chunked\"",
        "chun\tked",
        "chunked, identity",
        "identity, chunked",
    ] {
        refused_head([format!(
            "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: {coding}\r\n\r\n0\r\n\r\n"
        )]);
    }
    refused_head([
        "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: h\r\ntransfer_encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    ]);
    taken(["POST / HTTP/1.1\r\nhost: h\r\nTransfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n"]);
}

#[test]
fn transfer_encoding_in_http_1_0_is_refused() {
    refused_head(["POST / HTTP/1.0\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"]);
}

#[test]
fn a_body_that_ends_early_never_reaches_the_upstream_whole() {
    let stage = Stage::new();
    for request in [
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\nhello".to_owned(),
        chunked("5\r\nhello\r\n"),
        chunked("5\r\nhel"),
        chunked("5\r\nhello\r\n0\r\n"),
        chunked("5\r\nhello\r\n0\r\na: b\r\n"),
    ] {
        let mut client = stage.gateway.connect();
        client.send(request);
        client.half_close();
        let _closed_or_told = client.read_to_end();
    }
    assert_eq!(stage.upstream.seen().len(), 0);
}

// Section 7: chunks.

#[test]
fn a_chunk_size_that_is_no_number_is_refused() {
    for size in [
        "",
        "x",
        "-5",
        "+5",
        "0x5",
        "5x",
        "5 5",
        " 5",
        "5 x",
        "\t5",
        "5\0",
        "five",
        "ffffffffffffffff",
        "10000000000000005",
        "fffffffffffffffffffff5",
        "5,5",
        "_5",
    ] {
        refused([chunked(&format!("{size}\r\nhello\r\n0\r\n\r\n"))]);
    }
    taken([
        chunked("5\r\nhello\r\n0\r\n\r\n"),
        chunked("0005\r\nhello\r\n000\r\n\r\n"),
    ]);
}

#[test]
fn a_chunk_that_does_not_end_where_its_size_says_is_refused() {
    refused([
        chunked("4\r\nhello\r\n0\r\n\r\n"),
        chunked("6\r\nhello\r\n0\r\n\r\n"),
        chunked("5\r\nhello0\r\n\r\n"),
        chunked("5\r\nhelloXX0\r\n\r\n"),
        chunked("0\r\nX\r\n\r\n"),
    ]);
}

#[test]
fn a_bare_cr_or_lf_in_the_chunked_coding_is_refused() {
    refused([
        chunked("5\nhello\r\n0\r\n\r\n"),
        chunked("5\rhello\r\n0\r\n\r\n"),
        chunked("5\r\r\nhello\r\n0\r\n\r\n"),
        chunked("5\r\nhello\n0\r\n\r\n"),
        chunked("5\r\nhello\r0\r\n\r\n"),
        chunked("5\r\nhello\r\n0\n\r\n"),
        chunked("5\r\nhello\r\n0\r\n\n"),
        chunked("5\r\nhello\r\n0\r\n\rX"),
        chunked("5;a\nb\r\nhello\r\n0\r\n\r\n"),
        chunked("5;a\rb\r\nhello\r\n0\r\n\r\n"),
        chunked("5;\nGET / HTTP/1.1\r\nhost: h\r\n\r\n"),
    ]);
}

#[test]
fn chunk_extensions_are_dropped_and_bounded() {
    let stage = Stage::new();
    let answer = stage
        .gateway
        .ask(chunked("5;a=b;c=\"d\" ; e\r\nhello\r\n0;x\r\n\r\n"));
    assert_eq!(answer.text(), "ok");
    assert_eq!(stage.upstream.only().body, b"hello");
    refused([
        chunked("5;a=\0\r\nhello\r\n0\r\n\r\n"),
        chunked("5 a\r\nhello\r\n0\r\n\r\n"),
    ]);
    let stage = Stage::new();
    for request in [
        chunked(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(100_000))),
        chunked(&format!(
            "{}0\r\n\r\n",
            format!("1;{}\r\nx\r\n", "a".repeat(100)).repeat(1_000)
        )),
    ] {
        let mut client = stage.gateway.connect();
        client.send(request);
        let answer = client.read_answer();
        assert!(matches!(answer.head.status, 400 | 431), "{answer:?}");
        answer.error(answer.head.status, "bad_request");
    }
    assert_eq!(stage.upstream.seen().len(), 0);
}

#[test]
fn a_malformed_trailer_is_refused() {
    for line in [
        "a : b",
        "nocolon",
        " a: b",
        "a: b\r\n c",
        ": b",
        "a b: c",
        "a: b\0",
        "a: b\n",
    ] {
        refused([chunked(&format!("5\r\nhello\r\n0\r\n{line}\r\n\r\n"))]);
    }
    let stage = Stage::new();
    let many = chunked(&format!("0\r\n{}\r\n", "a: b\r\n".repeat(500)));
    let answer = stage.gateway.ask(many);
    answer.error(answer.head.status, "bad_request");
    assert_eq!(stage.upstream.seen().len(), 0);
}

#[test]
fn trailers_that_would_change_the_message_are_not_passed_on() {
    let stage = Stage::new();
    for line in [
        "content-length: 3",
        "transfer-encoding: gzip",
        "host: evil",
        "authorization: x",
        "connection: x-a",
    ] {
        let mut client = stage.gateway.connect();
        client.send(chunked(&format!(
            "5\r\nhello\r\n0\r\n{line}\r\nx-kept: 1\r\n\r\n"
        )));
        let answer = client.read_answer();
        if answer.head.status == 200 {
            let seen = stage.upstream.seen().pop().expect("a request");
            let lines = seen.trailers.join("\n").to_ascii_lowercase();
            assert!(
                !lines.contains(line.split(':').next().expect("a name")),
                "{lines}"
            );
        } else {
            answer.error(400, "bad_request");
        }
    }
}

// Sections 9 and 11: connections and attacks.

#[test]
fn requests_before_a_bad_one_are_answered_and_those_behind_it_are_not() {
    let stage = Stage::new();
    let mut client = stage.gateway.connect();
    client.send(
        [
            &get(""),
            &get("a: 1\r\n"),
            "GET /bad HTTP/1.1\r\n\r\n",
            SMUGGLED,
        ]
        .concat(),
    );
    assert_eq!(client.read_answer().text(), "ok");
    assert_eq!(client.read_answer().text(), "ok");
    client.read_answer().error(400, "bad_request");
    client.expect_close();
    assert_eq!(stage.upstream.seen().len(), 2);
}

#[test]
fn a_body_is_never_read_as_a_request() {
    let stage = Stage::new();
    let mut client = stage.gateway.connect();
    client.send(format!(
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{SMUGGLED}",
        SMUGGLED.len()
    ));
    assert_eq!(client.read_answer().text(), "ok");
    client.send(format!(
        "GET / HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{SMUGGLED}",
        SMUGGLED.len()
    ));
    assert_eq!(client.read_answer().text(), "ok");
    client.send(chunked(&format!(
        "{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n",
        SMUGGLED.len()
    )));
    assert_eq!(client.read_answer().text(), "ok");
    client.expect_silence(Duration::from_millis(50));
    let seen = stage.upstream.seen();
    assert!(
        seen.iter().all(|seen| seen.body == SMUGGLED.as_bytes()),
        "{seen:?}"
    );
    assert_eq!(seen.len(), 3);
}

#[test]
fn a_refused_body_on_the_named_entry_is_refused_too() {
    let upstream = Upstream::saying("ok");
    let gateway = Gateway::start(&[("endpoints:s", &upstream.url("/"), "base")]);
    let body = r#"{"server_name": "s"}"#;
    for request in [
        format!(
            "POST /ai_server/ HTTP/1.1\r\nhost: h\r\ncontent-length: 20\r\ntransfer-encoding: chunked\r\n\r\n{body}"
        ),
        format!(
            "POST /ai_server/ HTTP/1.1\r\nhost: h\r\ncontent-length: 20\r\ncontent-length: 20\r\n\r\n{body}"
        ),
        format!(
            "POST /ai_server/ HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n14x\r\n{body}\r\n0\r\n\r\n"
        ),
        format!(
            "POST /ai_server/ HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n14\r\n{body}\n0\r\n\r\n"
        ),
    ] {
        let mut client = gateway.connect();
        client.send(request);
        client.read_answer().error(400, "bad_request");
        client.expect_close();
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_head_that_comes_too_slowly_is_cut() {
    let gateway = Gateway::start_with(&[], |options| {
        options.header_timeout = Duration::from_millis(300);
    });
    for slow in ["", "GET / HTT", "GET / HTTP/1.1\r\nhost: h\r\na: b"] {
        let begun = Instant::now();
        let mut client = gateway.connect();
        client.send(slow);
        client.expect_close();
        let took = begun.elapsed();
        assert!(
            took > Duration::from_millis(100) && took < PATIENCE,
            "{slow:?} after {took:?}"
        );
    }
    // Drop by drop is no better.
    let begun = Instant::now();
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nhost: h\r\n");
    while begun.elapsed() < Duration::from_millis(800) {
        client.send("a: b\r\n");
        std::thread::sleep(Duration::from_millis(20));
    }
    client.send("\r\n");
    assert!(!matches!(client.read_to_end(), Ok(bytes) if bytes.starts_with(b"HTTP/1.1 404")));
}
