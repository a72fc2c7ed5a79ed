//! Framing by tables: what passes, what must be refused.

use super::*;

const BOUNDS: Bounds = Bounds {
    head: 4096,
    headers: 10,
};

/// Feeds the bytes in pieces of every size; all must come to the same verdict.
fn check(bytes: &[u8]) -> Result<(), Violation> {
    let whole = Framing::new(BOUNDS)
        .check(bytes)
        .map(drop)
        .map_err(|(_, violation)| violation);
    for size in 1..bytes.len().min(80) {
        let mut framing = Framing::new(BOUNDS);
        let piecewise = bytes
            .chunks(size)
            .try_for_each(|piece| framing.check(piece).map(drop));
        let piecewise = piecewise.map_err(|(_, violation)| violation);
        let text = String::from_utf8_lossy(bytes);
        assert_eq!(
            piecewise.is_ok(),
            whole.is_ok(),
            "in pieces of {size}: {text:?}"
        );
    }
    whole
}

#[test]
fn proper_requests_pass() {
    for good in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a:80\r\n\r\nGET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost:\r\nContent-Length: 5\r\n\r\na\nb\rcGET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b\r\na\nb\rc\r\n0\r\nx: y\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\n\r anything",
    ] {
        assert_eq!(check(good.as_bytes()), Ok(()), "{good:?}");
    }
}

#[test]
fn what_must_be_refused_is_refused() {
    for (bad, head) in [
        ("a bare LF", "GET / HTTP/1.1\nHost: a\r\n\r\n"),
        (
            "a bare LF in a header",
            "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
        ),
        ("a bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n"),
        ("a bare CR", "GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n"),
        ("CR CR LF", "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"),
        ("folding", "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n"),
        ("white space first", " GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("no host", "GET / HTTP/1.1\r\nX: y\r\n\r\n"),
        ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
        ("a list of hosts", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
        (
            "user info in the host",
            "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
        ),
        (
            "two lengths",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        ),
        (
            "a list of lengths",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx",
        ),
        (
            "a signed length",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx",
        ),
        (
            "an empty length",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nx",
        ),
        (
            "a huge length",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\nx",
        ),
        (
            "length and coding",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "coding and length",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
        ),
        (
            "an odd coding",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        ),
        (
            "two codings",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        ),
        (
            "chunked twice",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "coding in HTTP/1.0",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        ("only empty lines", "\r\n\r\n\r\n"),
    ] {
        assert!(
            matches!(check(head.as_bytes()), Err(Violation::Malformed(_))),
            "{bad}"
        );
    }
}

#[test]
fn sloppy_chunks_are_refused() {
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "\r\n",
        " 5\r\nhello\r\n",
        "5 \r\nhello\r\n",
        "0x5\r\nhello\r\n",
        "-5\r\nhello\r\n",
        "fffffffffffffffff\r\n",
        "5;a\x01\r\nhello\r\n",
        "0\r\nx: y\r\n folded\r\n\r\n",
        "0\r\nx: y\n\r\n",
    ] {
        let request =
            format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        assert!(
            matches!(check(request.as_bytes()), Err(Violation::Malformed(_))),
            "{body:?}"
        );
    }
}

#[test]
fn everything_has_a_bound() {
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(4096));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(10));
    let trailers = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{}\r\n",
        "x: y\r\n".repeat(11)
    );
    let extension = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;{}\r\n",
        "x".repeat(EXTENSIONS_MAX)
    );
    for (bytes, bound) in [
        (long, "--max-head is 4096 bytes"),
        (many, "--max-headers is 10"),
        (trailers, "--max-headers is 10"),
        (extension, "chunk extensions of more than 16384 bytes"),
    ] {
        match Framing::new(BOUNDS).check(bytes.as_bytes()) {
            Err((_, Violation::TooLarge(which))) => assert_eq!(which.to_string(), bound),
            other => panic!("{bound}: {other:?}"),
        }
    }
}

#[test]
fn requests_before_a_doubt_pass() {
    let good = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
    let bytes = format!("{good}GET /2 HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n");
    let refused = Framing::new(BOUNDS).check(bytes.as_bytes());
    assert_eq!(
        refused,
        Err((good.len(), Violation::Malformed("a folded header line")))
    );
}
