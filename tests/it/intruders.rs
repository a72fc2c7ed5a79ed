//! Strangers who want in without a credential: other methods, versions, paths, names, connections.

use sha2::{Digest, Sha256};

use super::support::client::Client;
use super::support::gateway::Gateway;
use super::support::upstream::Upstream;

/// The key of a token's hash.
fn key(token: &str) -> String {
    format!("token:{:x}", Sha256::digest(token))
}

/// An upstream that answers with its name and the target it was asked for.
fn echo(name: &'static str) -> Upstream {
    Upstream::start(move |connection| {
        while let Some(seen) = connection.read_request() {
            let target = seen.head.start.split(' ').nth(1).expect("a target");
            let text = format!("{name} {target}");
            let length = text.len();
            connection.send(format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}"
            ));
        }
    })
}

/// Service `open` for everybody at `/open/`, service `closed` by token at `/closed/`.
struct Place {
    open: Upstream,
    closed: Upstream,
    gateway: Gateway,
}

fn place() -> Place {
    let (open, closed) = (echo("open"), echo("closed"));
    let key = key("T");
    let gateway = Gateway::start(&[
        ("endpoints:open", &open.url("/o/"), "base"),
        ("endpoints:closed", &closed.url("/"), "base"),
        ("service:closed", "auth", "token"),
        ("route:open", "service", "open"),
        ("route:open", "path", "/open/"),
        ("route:closed", "service", "closed"),
        ("route:closed", "path", "/closed/"),
        (&key, "services", "closed"),
    ]);
    Place {
        open,
        closed,
        gateway,
    }
}

impl Place {
    /// The status of the answer to this request, which nobody vouches for, on a connection of its
    /// own.
    #[track_caller]
    fn status(&self, request: &str) -> u16 {
        let mut client = Client::connect(self.gateway.address);
        client.send(request);
        let status = client.read_head().status;
        assert!(self.closed.seen().is_empty(), "{request:?}");
        status
    }
}

#[test]
fn no_method_version_or_header_opens_a_closed_service() {
    let place = place();
    for method in [
        "GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "TRACE", "PATCH", "get", "X",
    ] {
        for version in ["HTTP/1.1", "HTTP/1.0"] {
            let request =
                format!("{method} /closed/x {version}\r\nhost: h\r\ncontent-length: 0\r\n\r\n");
            assert_eq!(place.status(&request), 401, "{request}");
        }
    }
    for lines in [
        "authorization: Bearer\r\n",
        "authorization: Bearer \r\n",
        "authorization: T\r\n",
        "authorization: Bearer T, Bearer T\r\n",
        "authorization: Bearer\u{a0}T\r\n",
        "authorization: Basic VA==\r\n",
        "proxy-authorization: Bearer T\r\n",
        "cookie: authorization=Bearer T\r\n",
        "x_api_key: T\r\n",
        "x-api-key: T, T\r\n",
        "x-api-key: \"T\"\r\n",
        "x-api-key: T\r\nx-api-key:\r\n",
        "x-api-key:\r\nX-Api-Key: T\r\n",
        "authorization: Bearer T\r\nauthorization: Basic VA==\r\n",
        "x-forwarded-for: 127.0.0.1\r\nx-real-ip: 127.0.0.1\r\n",
        "x-smartlink-version: base\r\nx-original-url: /open/\r\n",
        "origin: https://a.example\r\naccess-control-request-method: GET\r\n",
        "connection: x-api-key, authorization\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n",
        "connection: upgrade\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n",
    ] {
        let request = format!("GET /closed/x HTTP/1.1\r\nhost: h\r\n{lines}\r\n");
        assert_eq!(place.status(&request), 401, "{lines}");
        let preflight = format!("OPTIONS /closed/x HTTP/1.1\r\nhost: h\r\n{lines}\r\n");
        assert_eq!(place.status(&preflight), 401, "{lines}");
    }
    let long = "T".repeat(32 << 10);
    for name in ["x-api-key: ", "authorization: Bearer "] {
        let request = format!("GET /closed/x HTTP/1.1\r\nhost: h\r\n{name}{long}\r\n\r\n");
        assert_eq!(place.status(&request), 401, "{name}");
    }
    let good = "GET /closed/x HTTP/1.0\r\nhost: h\r\nx-api-key: T\r\n\r\n";
    assert_eq!(place.gateway.ask(good).text(), "closed /closed/x");
}

#[test]
fn no_path_leads_into_a_closed_service_through_an_open_one() {
    let place = place();
    for target in [
        "/closed/x",
        "/closed",
        "//closed/x",
        "/./closed/x",
        "/closed//x",
        "/%63losed/x",
        "/clos%65d/x",
        "/closed%2fx",
        "/closed%2Fx",
        "/closed%00/x",
        "/closed;a=b/x",
        "/closed/x?service=open",
        "/open/../closed/x",
        "/open/%2e%2e/closed/x",
        "/open/.%2E/closed/x",
        "/open/..%2fclosed/x",
        "/open/%2e%2e%2fclosed/x",
        "/open/..;/closed/x",
        "/open/..%5cclosed/x",
        "/open/%252e%252e/closed/x",
        "/open//../../closed/x",
        "/open/x/../../closed/x",
        "/CLOSED/x",
        "http://h/closed/x",
        "http://h/open/../closed/x",
        "*",
    ] {
        let before = place.open.seen().len();
        let method = if target == "*" { "OPTIONS" } else { "GET" };
        let request = format!("{method} {target} HTTP/1.1\r\nhost: h\r\n\r\n");
        let status = place.status(&request);
        for seen in place.open.seen().iter().skip(before) {
            let asked = seen.head.start.split(' ').nth(1).expect("a target");
            assert!(asked.starts_with("/o/open/"), "{target} asked for {asked}");
            let decoded = asked.replace("%252e", "%2e");
            assert!(!decoded.contains("/../"), "{target} asked for {asked}");
            assert_eq!(status, 200, "{target}");
        }
        if place.open.seen().len() == before {
            assert!(matches!(status, 400 | 401 | 404), "{target}: {status}");
        }
    }
}

#[test]
fn no_name_leads_into_a_closed_service_through_an_open_one() {
    let place = place();
    for body in [
        r#"{"server_name": "closed"}"#,
        r#"{"server_name": "clos\u0065d"}"#,
        r#"{"s\u0065rver_name": "closed"}"#,
        r#"{"server_name": "open", "server_name": "closed"}"#,
        r#"{"server_name": "closed", "server_name": "open"}"#,
        r#"{"server_name": "open", "s\u0065rver_name": "closed"}"#,
        r#"{"server_name": ["open", "closed"]}"#,
        r#"{"server_name": "open\u0000closed"}"#,
        r#"{"server_name": " closed"}"#,
        r#"{"server_name": "CLOSED"}"#,
        r#"{"server_name": "open/../closed"}"#,
        r#"{"data": {"server_name": "open"}, "server_name": "closed"}"#,
        r#"[{"server_name": "closed"}]"#,
        "{\"server_name\": \"closed\"}{\"server_name\": \"open\"}",
        "\u{feff}{\"server_name\": \"closed\"}",
    ] {
        let length = body.len();
        for path in ["/ai_server/", "/ai_server", "/ai_server/?server_name=open"] {
            let request = format!(
                "POST {path} HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            let status = place.status(&request);
            assert!(matches!(status, 400 | 401), "{body} {status}");
        }
    }
    assert!(place.open.seen().is_empty());
}

#[test]
fn a_credential_vouches_for_its_own_request_only() {
    let place = place();
    let mut client = Client::connect(place.gateway.address);
    client.send(concat!(
        "GET /closed/1 HTTP/1.1\r\nhost: h\r\nx-api-key: T\r\n\r\n",
        "GET /closed/2 HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET /closed/3 HTTP/1.1\r\nhost: h\r\nauthorization: bEaReR T\r\n\r\n",
        "GET /closed/4 HTTP/1.1\r\nhost: h\r\nauthorization: Bearer T2\r\n\r\n",
    ));
    assert_eq!(client.read_answer().text(), "closed /closed/1");
    client.read_answer().error(401, "unauthenticated");
    assert_eq!(client.read_answer().text(), "closed /closed/3");
    client.read_answer().error(401, "unauthenticated");
    for trailer in ["x-api-key: T", "authorization: Bearer T"] {
        let mut client = Client::connect(place.gateway.address);
        client.send(format!(
            "POST /closed/5 HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\
             trailer: x-api-key\r\n\r\n0\r\n{trailer}\r\n\r\n"
        ));
        assert_eq!(client.read_head().status, 401, "{trailer}");
    }
    let mut client = Client::connect(place.gateway.address);
    client.send(
        "GET /closed/ws HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\
         GET /closed/6 HTTP/1.1\r\nhost: h\r\n\r\n",
    );
    client.read_answer().error(401, "unauthenticated");
    assert_eq!(place.closed.seen().len(), 2, "what was vouched for");
}
