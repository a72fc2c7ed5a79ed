//! Endpoints that speak TLS, HTTP/2 or both.

use http::Version;

use super::support::client::Answer;
use super::support::eventually;
use super::support::gateway::Gateway;
use super::support::secure::{Authority, BREAKS, Server};
use super::support::upstream::Upstream;

const GET: &str = "GET /x HTTP/1.1\r\nhost: asked.example\r\n\r\n";

/// A gateway whose every path leads to this URL, with these settings.
fn led_to(url: &str, settings: &[(&str, &str)]) -> Gateway {
    let mut fields = vec![
        ("endpoints:s", url, "base"),
        ("route:all", "service", "s"),
        ("route:all", "path", "/"),
    ];
    fields.extend(
        settings
            .iter()
            .map(|(name, value)| ("service:s", *name, *value)),
    );
    Gateway::start(&fields)
}

fn by_name(server: &Server) -> String {
    format!("https://localhost:{}/", server.port)
}

fn by_address(server: &Server, scheme: &str) -> String {
    format!("{scheme}://127.0.0.1:{}/", server.port)
}

/// A POST of this body.
fn put(body: &str) -> String {
    let length = body.len();
    format!(
        "PUT /x HTTP/1.1\r\nhost: h\r\nconnection: keep-alive, x-a\r\nx-a: b\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[track_caller]
fn echoed(answer: &Answer, body: &str) {
    assert_eq!(
        (answer.head.status, answer.text() == body),
        (200, true),
        "{answer:?}"
    );
}

#[test]
fn an_https_endpoint_is_served_where_tls_ca_knows_its_authority() {
    let authority = Authority::new();
    let server = Server::tls(&authority, "localhost", &[]);
    let gateway = led_to(&by_name(&server), &[("tls_ca", authority.path())]);
    let mut client = gateway.connect();
    for body in ["one", "two"] {
        client.send(put(body));
        echoed(&client.read_answer(), body);
    }
    assert_eq!(server.connections(), 1, "it is kept");
    for seen in server.seen() {
        assert_eq!(seen.version, Version::HTTP_11);
        assert_eq!(seen.name.as_deref(), Some("localhost"));
        assert_eq!(seen.host, format!("localhost:{}", server.port));
    }
}

#[test]
fn an_https_endpoint_can_be_an_address() {
    let authority = Authority::new();
    let server = Server::tls(&authority, "127.0.0.1", &[]);
    let url = by_address(&server, "https");
    let gateway = led_to(&url, &[("tls_ca", authority.path())]);
    echoed(&gateway.ask(put("body")), "body");
    assert_eq!(server.only().name, None, "an address is no server name");
}

#[test]
fn the_named_entry_reaches_an_https_endpoint_too() {
    let authority = Authority::new();
    let server = Server::tls(&authority, "localhost", &["h2", "http/1.1"]);
    for http2 in ["off", "on"] {
        let settings = [("tls_ca", authority.path()), ("http2", http2)];
        let gateway = led_to(&by_name(&server), &settings);
        for size in [1, 500_000] {
            let body = format!(r#"{{"server_name": "s", "a": "{}"}}"#, "x".repeat(size));
            echoed(&gateway.post(&body), &body);
        }
    }
}

#[test]
fn an_authority_that_nobody_vouched_for_is_connect_failed() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = Server::tls(&theirs, "localhost", &["h2", "http/1.1"]);
    for settings in [
        vec![("tls_ca", ours.path())],
        vec![("tls_ca", ours.path()), ("http2", "on")],
        vec![],
    ] {
        let gateway = led_to(&by_name(&server), &settings);
        let msg = gateway.ask(GET).error(502, "connect_failed");
        assert!(msg.contains("certificate"), "{msg}");
    }
    assert_eq!(server.seen(), []);
}

#[test]
fn a_certificate_for_another_name_is_connect_failed_unless_tls_name_names_it() {
    let authority = Authority::new();
    let server = Server::tls(&authority, "inner.example", &[]);
    let ca = ("tls_ca", authority.path());
    for settings in [vec![ca], vec![ca, ("tls_name", "other.example")]] {
        let gateway = led_to(&by_name(&server), &settings);
        gateway.ask(GET).error(502, "connect_failed");
    }
    assert_eq!(server.seen(), []);
    let gateway = led_to(&by_name(&server), &[ca, ("tls_name", "inner.example")]);
    assert_eq!(gateway.ask(GET).head.status, 200);
    let seen = server.only();
    assert_eq!(seen.name.as_deref(), Some("inner.example"));
    assert_eq!(seen.host, format!("localhost:{}", server.port));
}

#[test]
fn tls_verify_off_takes_any_certificate() {
    let server = Server::tls(&Authority::new(), "inner.example", &[]);
    for url in [by_name(&server), by_address(&server, "https")] {
        let gateway = led_to(&url, &[("tls_verify", "off")]);
        echoed(&gateway.ask(put("body")), "body");
    }
}

#[test]
fn two_services_on_one_endpoint_keep_their_own_idea_of_trust() {
    let server = Server::tls(&Authority::new(), "localhost", &[]);
    let url = by_name(&server);
    let gateway = Gateway::start(&[
        ("endpoints:lax", &url, "base"),
        ("service:lax", "tls_verify", "off"),
        // Asked twice, although it is down after the first time.
        ("service:strict", "fall", "1000"),
        ("endpoints:strict", &url, "base"),
        ("route:lax", "service", "lax"),
        ("route:lax", "path", "/lax/"),
        ("route:strict", "service", "strict"),
        ("route:strict", "path", "/strict/"),
    ]);
    let ask = |path: &str| gateway.ask(format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n"));
    for _ in 0..2 {
        assert_eq!(ask("/lax/").head.status, 200);
        ask("/strict/").error(502, "connect_failed");
    }
}

#[test]
fn a_tls_ca_that_cannot_be_read_is_named() {
    let server = Server::tls(&Authority::new(), "localhost", &[]);
    let gateway = led_to(&by_name(&server), &[("tls_ca", "/nowhere/ca.pem")]);
    let answer = gateway.ask(GET);
    let said = answer.text();
    assert!(said.contains("/nowhere/ca.pem"), "{said}");
    assert!(matches!(answer.head.status, 502 | 503), "{answer:?}");
}

#[test]
fn a_plain_upstream_behind_https_and_the_other_way_round_are_errors() {
    let plain = Upstream::start(|connection| {
        connection.send("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        connection.wait_for_close();
    });
    let gateway = led_to(&plain.url("/").replace("http:", "https:"), &[]);
    gateway.ask(GET).error(502, "connect_failed");
    let secure = Server::tls(&Authority::new(), "localhost", &[]);
    let gateway = led_to(&by_address(&secure, "http"), &[]);
    assert_eq!(gateway.ask(GET).head.status, 502);
    assert_eq!(secure.seen(), []);
}

#[test]
fn http2_is_spoken_where_both_sides_want_it() {
    let authority = Authority::new();
    for (protocols, setting, version) in [
        (&["h2", "http/1.1"][..], "on", Version::HTTP_2),
        (&["h2", "http/1.1"], "off", Version::HTTP_11),
        (&["http/1.1"], "on", Version::HTTP_11),
        (&[], "on", Version::HTTP_11),
    ] {
        let server = Server::tls(&authority, "localhost", protocols);
        let settings = [("tls_ca", authority.path()), ("http2", setting)];
        let gateway = led_to(&by_name(&server), &settings);
        echoed(&gateway.ask(put("body")), "body");
        let seen = server.only();
        assert_eq!(seen.version, version, "{protocols:?} {setting}");
        assert!(!seen.hop, "{seen:?}");
    }
}

#[test]
fn http2_without_tls_is_spoken_from_the_first_byte() {
    let server = Server::prior_knowledge();
    let gateway = led_to(&by_address(&server, "http"), &[("http2", "on")]);
    let large = "x".repeat(3_000_000);
    for body in ["", "body", &large] {
        let answer = gateway.ask(put(body));
        echoed(&answer, body);
        assert!(answer.head.start.starts_with("HTTP/1.1 "), "{answer:?}");
    }
    let chunked = "POST /x HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    echoed(&gateway.ask(chunked), "abcde");
    for seen in server.seen() {
        assert_eq!(seen.version, Version::HTTP_2);
        assert_eq!(seen.host, format!("127.0.0.1:{}", server.port));
        assert!(!seen.hop, "{seen:?}");
    }
    assert_eq!(server.connections(), 1, "all share one connection");
}

#[test]
fn the_clients_host_becomes_the_authority_of_http2() {
    let server = Server::prior_knowledge();
    let settings = [("http2", "on"), ("host_header", "client")];
    let gateway = led_to(&by_address(&server, "http"), &settings);
    assert_eq!(gateway.ask(GET).head.status, 200);
    assert_eq!(server.only().host, "asked.example");
}

#[test]
fn http2_streams_both_ways_and_many_at_a_time() {
    let server = Server::prior_knowledge();
    let gateway = led_to(&by_address(&server, "http"), &[("http2", "on")]);
    assert_eq!(gateway.ask(GET).head.status, 200);
    let mut clients: Vec<_> = (0..20).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        client
            .send("POST /x HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n4\r\nping\r\n");
    }
    for client in &mut clients {
        client.read_until("4\r\nping\r\n");
    }
    for client in &mut clients {
        client.send("4\r\npong\r\n0\r\n\r\n");
        client.read_until("4\r\npong\r\n0\r\n\r\n");
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn an_http2_answer_that_breaks_off_is_cut_and_its_neighbours_are_not() {
    let server = Server::prior_knowledge();
    let gateway = led_to(&by_address(&server, "http"), &[("http2", "on")]);
    assert_eq!(gateway.ask(GET).head.status, 200);
    let mut neighbour = gateway.connect();
    neighbour.send("POST /x HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nbo");
    let mut client = gateway.connect();
    client.send(format!("GET {BREAKS} HTTP/1.1\r\nhost: h\r\n\r\n"));
    client.read_until("4\r\nhalf\r\n");
    assert!(!matches!(client.read_to_end(), Ok(rest) if rest.ends_with(b"0\r\n\r\n")));
    neighbour.send("dy");
    echoed(&neighbour.read_answer(), "body");
    assert_eq!(server.connections(), 1);
}

#[test]
fn an_upstream_that_does_not_know_http2_is_an_error_and_not_a_hang() {
    let upstream = Upstream::closing("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
    let gateway = led_to(&upstream.url("/"), &[("http2", "on"), ("timeout", "2s")]);
    let status = gateway.ask(GET).head.status;
    assert!(matches!(status, 502 | 504), "{status}");
}

#[test]
fn a_client_that_leaves_resets_its_http2_stream() {
    let server = Server::prior_knowledge();
    let gateway = led_to(&by_address(&server, "http"), &[("http2", "on")]);
    let mut client = gateway.connect();
    client.send("POST /x HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nbegin");
    eventually("it is there", || (!server.seen().is_empty()).then_some(()));
    drop(client);
    eventually("the stream ends", || (server.open() == 0).then_some(()));
    // The connection lives on for others.
    echoed(&gateway.ask(put("next")), "next");
    assert_eq!(server.connections(), 1);
}
