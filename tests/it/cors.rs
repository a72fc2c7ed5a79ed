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
    for (doubt, status) in [
        ("content-length: 1\r\ncontent-length: 2".to_owned(), 400),
        (format!("x: {}", "x".repeat(1 << 20)), 431),
    ] {
        let answer = gateway.ask(format!(
            "POST /ai_server/ HTTP/1.1\r\nhost: h\r\n{doubt}\r\n\r\n"
        ));
        let may_read = answer.header("access-control-allow-origin");
        assert_eq!((answer.head.status, may_read), (status, Some("*")));
    }
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

/// What a page of an origin does with `fetch`.
struct Page {
    origin: &'static str,
    method: &'static str,
    /// A header that no form can send.
    header: Option<&'static str>,
    credentials: bool,
}

impl Page {
    /// Whether the page gets to read the answer, by the Fetch standard: CORS-preflight fetch
    /// (section 4.8) where one is needed, then the CORS check (section 4.10).
    fn reads(&self, gateway: &Gateway, path: &str) -> bool {
        let simple = matches!(self.method, "GET" | "POST" | "HEAD") && self.header.is_none();
        if !simple {
            let named = self.header.map_or(String::new(), |name| {
                format!("access-control-request-headers: {name}\r\n")
            });
            let answer = gateway.ask(format!(
                "OPTIONS {path} HTTP/1.1\r\nhost: h\r\norigin: {}\r\n\
                 access-control-request-method: {}\r\n{named}\r\n",
                self.origin, self.method
            ));
            let lists = |name: &str, wanted: &str| {
                let list = answer.header(name).unwrap_or_default().split(',');
                let list: Vec<&str> = list.map(str::trim).collect();
                let star = list.contains(&"*") && !self.credentials;
                star || list.iter().any(|item| item.eq_ignore_ascii_case(wanted))
            };
            let method = matches!(self.method, "GET" | "POST" | "HEAD")
                || lists("access-control-allow-methods", self.method);
            let header =
                (self.header).is_none_or(|name| lists("access-control-allow-headers", name));
            let fine = (200..300).contains(&answer.head.status);
            if !(fine && self.passes(&answer) && method && header) {
                return false;
            }
        }
        let cookie = if self.credentials {
            "cookie: a=b\r\n"
        } else {
            ""
        };
        let header = self
            .header
            .map_or(String::new(), |name| format!("{name}: 1\r\n"));
        let answer = gateway.ask(format!(
            "{} {path} HTTP/1.1\r\nhost: h\r\norigin: {}\r\n{cookie}{header}content-length: 20\r\n\r\n{BODY}",
            self.method, self.origin
        ));
        self.passes(&answer)
    }

    /// The CORS check.
    fn passes(&self, answer: &Answer) -> bool {
        let Some(allowed) = answer.header("access-control-allow-origin") else {
            return false;
        };
        if allowed == "*" && !self.credentials {
            return true;
        }
        let credentials = answer.header("access-control-allow-credentials");
        allowed == self.origin && (!self.credentials || credentials == Some("true"))
    }
}

#[test]
fn pages_read_what_the_fetch_standard_and_the_setting_let_them() {
    const A: &str = "https://a.example";
    const EVIL: &str = "https://evil.example";
    const LIST: &str = "https://a.example, https://b.example";
    let upstream = Upstream::saying("ok");
    let url = upstream.url("/");
    // `cors`, `cors_credentials`, origin, method, header, credentials: named entry, route.
    #[rustfmt::skip]
    let cases = [
        (None, None, A, "POST", None, false, true, false),
        (None, None, A, "POST", None, true, false, false),
        (None, None, A, "POST", Some("x-api-key"), false, true, false),
        (None, None, A, "POST", Some("x-own"), false, false, false),
        (Some("*"), None, A, "POST", None, false, true, true),
        (Some("*"), None, A, "POST", None, true, false, false),
        (Some("*"), None, A, "POST", Some("x-own"), false, false, true),
        (Some("*"), None, "null", "POST", None, false, true, true),
        (Some(LIST), None, A, "POST", None, false, true, true),
        (Some(LIST), None, A, "POST", None, true, false, false),
        (Some(LIST), None, EVIL, "POST", None, false, false, false),
        (Some(LIST), None, "null", "POST", None, false, false, false),
        (Some(LIST), None, A, "DELETE", None, false, false, true),
        (Some(LIST), Some("on"), A, "POST", None, true, true, true),
        (Some(LIST), Some("on"), A, "POST", Some("authorization"), true, true, true),
        (Some(LIST), Some("on"), A, "PUT", Some("x-own"), true, false, true),
        (Some(LIST), Some("on"), EVIL, "POST", None, true, false, false),
        (Some(LIST), Some("on"), EVIL, "POST", None, false, false, false),
        (Some(LIST), Some("on"), "null", "POST", None, true, false, false),
        (Some(LIST), Some("on"), "https://a.example.evil", "POST", None, true, false, false),
        (Some(LIST), Some("off"), A, "POST", None, true, false, false),
        (Some("off"), None, A, "POST", None, false, false, false),
    ];
    for (cors, with, origin, method, header, credentials, entry, route) in cases {
        let mut fields = vec![
            ("endpoints:s", url.as_str(), "base"),
            ("route:r", "service", "s"),
            ("route:r", "path", "/r"),
        ];
        fields.extend(cors.map(|cors| ("defaults", "cors", cors)));
        fields.extend(with.map(|with| ("defaults", "cors_credentials", with)));
        let gateway = Gateway::start(&fields);
        let page = Page {
            origin,
            method,
            header,
            credentials,
        };
        let case = format!("{cors:?} {with:?} {origin} {method} {header:?} {credentials}");
        assert_eq!(page.reads(&gateway, "/ai_server/"), entry, "entry: {case}");
        assert_eq!(page.reads(&gateway, "/r"), route, "route: {case}");
    }
}

#[test]
fn answers_that_depend_on_the_origin_say_so_once() {
    let upstream = Upstream::answering(
        "HTTP/1.1 200 OK\r\nvary: accept, ORIGIN\r\ncontent-length: 2\r\n\r\nok",
    );
    let gateway = Gateway::start(&[
        ("endpoints:s", &upstream.url("/"), "base"),
        ("defaults", "cors", "https://a.example"),
        ("defaults", "cors_max_age", "1h"),
        ("route:r", "service", "s"),
        ("route:r", "path", "/r"),
    ]);
    assert_eq!(gateway.post(BODY).head.values("vary"), ["accept, ORIGIN"]);
    for bad in ["{}", r#"{"server_name": "nobody"}"#] {
        assert_eq!(gateway.post(bad).head.values("vary"), ["Origin"]);
    }
    let answer = preflight(&gateway, "/r", "https://a.example");
    assert_eq!(answer.header("access-control-max-age"), Some("3600"));
    assert_eq!(
        answer.head.values("vary"),
        [
            "Origin",
            "Access-Control-Request-Method, Access-Control-Request-Headers"
        ]
    );
}

#[test]
fn only_listed_origins_are_let_from_the_public_network_into_ours() {
    let upstream = Upstream::saying("ok");
    let url = upstream.url("/");
    for (cors, origin, wanted) in [
        ("*", "https://a.example", None),
        ("https://a.example", "https://a.example", Some("true")),
        ("https://a.example", "https://evil.example", None),
    ] {
        let gateway = Gateway::start(&[
            ("endpoints:s", &url, "base"),
            ("defaults", "cors", cors),
            ("route:r", "service", "s"),
            ("route:r", "path", "/r"),
        ]);
        for path in ["/ai_server/", "/r"] {
            let answer = gateway.ask(format!(
                "OPTIONS {path} HTTP/1.1\r\nhost: h\r\norigin: {origin}\r\naccess-control-request-method: POST\r\n\
                 access-control-request-private-network: true\r\n\r\n"
            ));
            let allowed = answer.header("access-control-allow-private-network");
            assert_eq!(allowed, wanted, "{cors} {origin} {path}");
        }
    }
}
