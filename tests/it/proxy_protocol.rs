//! Connections that begin with a word of a proxy: for whom it speaks.

use std::time::Duration;

use smartlink::proxy::ProxyProtocol;

use super::support::client::Client;
use super::support::gateway::Gateway;
use super::support::upstream::Upstream;

const GET: &[u8] = b"GET /x HTTP/1.1\r\nhost: h\r\n\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A gateway in front of this upstream that takes only proxies at this address.
fn behind(upstream: &Upstream, trusted: &str, versions: ProxyProtocol) -> Gateway {
    let url = upstream.url("/");
    let fields = [
        ("endpoints:s", url.as_str(), "base"),
        ("route:all", "service", "s"),
        ("route:all", "path", "/"),
    ];
    Gateway::start_with(&fields, |options| {
        options.trusted_proxies = vec![trusted.parse().expect("a network")];
        options.proxy_protocol = Some(versions);
        options.header_timeout = Duration::from_millis(300);
    })
}

/// A header of version 2 for a client of IPv4, with something behind the addresses.
fn binary(command: u8, client: [u8; 4]) -> Vec<u8> {
    let tlv = [0x04, 0, 2, 0xff, 0xff];
    let length = u8::try_from(12 + tlv.len()).expect("it is short");
    let addresses = [&client[..], &[10, 0, 0, 1, 0x12, 0x34, 0, 80]].concat();
    let fixed = [command, 0x11, 0, length];
    [SIGNATURE, &fixed, &addresses, &tlv].concat()
}

/// What a client sends, and whom the upstream takes for the client.
#[track_caller]
fn seen_as(upstream: &Upstream, gateway: &Gateway, header: &[u8], lines: &str, wanted: &str) {
    let request = format!("GET /x HTTP/1.1\r\nhost: h\r\n{lines}\r\n");
    let mut client = gateway.connect();
    client.send([header, request.as_bytes()].concat());
    assert_eq!(client.read_answer().text(), "ok");
    // It was said once, for all requests.
    client.send(&request);
    assert_eq!(client.read_answer().text(), "ok");
    for seen in upstream.seen() {
        assert_eq!(
            seen.head.value("x-forwarded-for"),
            Some(wanted),
            "{header:?}"
        );
    }
}

#[test]
fn the_client_is_whom_the_proxy_names() {
    let cases: [(Vec<u8>, &str, &str); 5] = [
        (binary(0x21, [192, 0, 2, 7]), "", "192.0.2.7"),
        (
            b"PROXY TCP6 2001:db8::7 ::1 4660 80\r\n".to_vec(),
            "",
            "2001:db8::7",
        ),
        // A client that is no proxy is not believed, whoever speaks for it.
        (
            binary(0x21, [192, 0, 2, 7]),
            "x-forwarded-for: 1.2.3.4\r\n",
            "192.0.2.7",
        ),
        // One that is a trusted proxy is.
        (
            binary(0x21, [127, 0, 0, 9]),
            "x-forwarded-for: 1.2.3.4\r\n",
            "1.2.3.4, 127.0.0.9",
        ),
        // The proxy asks for itself.
        (binary(0x20, [192, 0, 2, 7]), "", "127.0.0.1"),
    ];
    for (header, lines, wanted) in cases {
        let upstream = Upstream::saying("ok");
        let gateway = behind(&upstream, "127.0.0.0/8", ProxyProtocol::Any);
        seen_as(&upstream, &gateway, &header, lines, wanted);
    }
}

#[test]
fn a_header_may_come_byte_by_byte() {
    for header in [
        binary(0x21, [192, 0, 2, 7]),
        b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 80\r\n".to_vec(),
    ] {
        let upstream = Upstream::saying("ok");
        let gateway = behind(&upstream, "127.0.0.0/8", ProxyProtocol::Any);
        let mut client = gateway.connect();
        for byte in header.iter().chain(GET) {
            client.send([*byte]);
        }
        assert_eq!(client.read_answer().text(), "ok");
        let seen = upstream.only();
        assert_eq!(seen.head.value("x-forwarded-for"), Some("192.0.2.7"));
    }
}

#[test]
fn what_comes_otherwise_is_closed_without_a_word_and_reaches_nobody() {
    let upstream = Upstream::saying("ok");
    let gateway = behind(&upstream, "127.0.0.0/8", ProxyProtocol::V2);
    let whole = binary(0x21, [192, 0, 2, 7]);
    let cut = whole.get(..20).expect("a part");
    let line = b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 80\r\n";
    for bytes in [
        GET.to_vec(),
        [line, GET].concat(),
        [&binary(0x2f, [192, 0, 2, 7])[..], GET].concat(),
        [b"\r\n\r\n\0\r\nQUIT\r", GET].concat(),
        [SIGNATURE, &[0x21, 0x11, 0xff, 0xff], GET].concat(),
        // Too little, and then nothing: closed when the time for a head is over.
        cut.to_vec(),
        SIGNATURE.to_vec(),
        Vec::new(),
    ] {
        let mut client = gateway.connect();
        client.send(&bytes);
        client.expect_close();
    }
    let mut half = gateway.connect();
    half.send(cut);
    half.half_close();
    half.expect_close();
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn nobody_else_may_connect() {
    let upstream = Upstream::saying("ok");
    let gateway = behind(&upstream, "192.0.2.0/24", ProxyProtocol::Any);
    for bytes in [
        GET.to_vec(),
        [&binary(0x21, [192, 0, 2, 7])[..], GET].concat(),
        [&binary(0x20, [192, 0, 2, 7])[..], GET].concat(),
    ] {
        let mut client = gateway.connect();
        client.send(&bytes);
        client.expect_close();
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_second_header_is_no_request() {
    let upstream = Upstream::saying("ok");
    let gateway = behind(&upstream, "127.0.0.0/8", ProxyProtocol::Any);
    let header = binary(0x21, [192, 0, 2, 7]);
    let mut client: Client = gateway.connect();
    client.send([&header[..], &header, GET].concat());
    assert_eq!(client.read_answer().head.status, 400);
    client.expect_close();
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn without_the_flag_it_is_a_malformed_request() {
    let upstream = Upstream::saying("ok");
    let url = upstream.url("/");
    let gateway = Gateway::start(&[("endpoints:s", &url, "base")]);
    for header in [&binary(0x21, [192, 0, 2, 7])[..], b"PROXY UNKNOWN\r\n"] {
        let mut client = gateway.connect();
        client.send([header, GET].concat());
        assert_eq!(client.read_answer().head.status, 400);
        client.expect_close();
    }
}
