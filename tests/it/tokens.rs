//! Opaque tokens: who gets in, what a stranger learns, what the upstream sees.

use sha2::{Digest, Sha256};

use super::support::client::Answer;
use super::support::gateway::{Field, Gateway};
use super::support::upstream::Upstream;

/// The key of a token's hash.
fn key(token: &str) -> String {
    let hash = Sha256::digest(token);
    let digits: Vec<String> = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("token:{}", digits.concat())
}

/// Asks the named entry for a service, with these header lines.
#[track_caller]
fn ask(gateway: &Gateway, service: &str, lines: &str) -> Answer {
    let body = format!(r#"{{"server_name": "{service}"}}"#);
    gateway.ask(format!(
        "POST /ai_server/ HTTP/1.1\r\nhost: h\r\n{lines}content-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

/// Services `ner` and `ocr`, both by token; `fields` beside.
fn gateway(upstream: &Upstream, fields: &[Field<'_>]) -> Gateway {
    let url = upstream.url("/");
    let mut all: Vec<Field<'_>> = vec![
        ("endpoints:ner", &url, "base"),
        ("endpoints:ocr", &url, "base"),
        ("defaults", "auth", "token"),
    ];
    all.extend(fields);
    Gateway::start(&all)
}

#[test]
fn a_token_opens_what_it_names_in_either_header() {
    let upstream = Upstream::saying("ok");
    let key = key("T");
    let gateway = gateway(&upstream, &[(&key, "services", "ner, x-*")]);
    for line in [
        "x-api-key: T\r\n",
        "authorization: Bearer T\r\n",
        "authorization: bearer  T\r\n",
    ] {
        assert_eq!(ask(&gateway, "ner", line).text(), "ok", "{line}");
        ask(&gateway, "ocr", line).error(403, "forbidden");
    }
    for line in [
        "",
        "x-api-key: t\r\n",
        "x-api-key: T2\r\n",
        "x-api-key: T\r\nx-api-key: T\r\n",
        "authorization: Basic T\r\n",
        "authorization: T\r\n",
        "cookie: x-api-key=T\r\n",
    ] {
        let answer = ask(&gateway, "ner", line);
        answer.error(401, "unauthenticated");
        let challenge = answer.header("www-authenticate").expect("a challenge");
        assert!(challenge.starts_with("Bearer realm="), "{challenge}");
    }
}

#[test]
fn a_stranger_gets_the_same_answer_for_every_name() {
    let upstream = Upstream::saying("ok");
    let key = key("T");
    let url = upstream.url("/");
    let gateway = gateway(
        &upstream,
        &[
            (&key, "services", "ner"),
            ("endpoints:gone", &url, "base"),
            ("service:gone", "enabled", "off"),
            ("endpoints:broken", &url, "one"),
            ("endpoints:broken", "http://127.0.0.1:1/", "two"),
            ("weights:broken", "one", "1"),
            ("endpoints:picky", &url, "base"),
            ("service:picky", "cors", "https://a.example"),
        ],
    );
    let seen = |service: &str, lines: &str| {
        let answer = ask(&gateway, service, lines);
        let body: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        let mut headers = answer.head.headers.clone();
        headers.retain(|(name, _)| !matches!(&**name, "x-request-id" | "content-length" | "date"));
        (answer.head.status, headers, body["msg"].to_string())
    };
    for lines in ["", "x-api-key: wrong\r\n", "x-api-key: T\r\n"] {
        let wanted = seen("nobody", lines);
        assert!(matches!(wanted.0, 401 | 403), "{wanted:?}");
        for service in ["ocr", "gone", "broken", "picky"] {
            assert_eq!(seen(service, lines), wanted, "{service} {lines}");
        }
    }
}

#[test]
fn who_covers_every_name_is_told_which_do_not_exist() {
    let upstream = Upstream::saying("ok");
    let key = key("T");
    let gateway = gateway(&upstream, &[(&key, "services", "*")]);
    ask(&gateway, "nobody", "x-api-key: T\r\n").error(400, "no_such_service");
}

#[test]
fn a_token_is_good_within_its_times_and_only_while_enabled() {
    let upstream = Upstream::saying("ok");
    for (field, value, status) in [
        ("expires", "2999-01-01", 200),
        ("expires", "2020-01-01", 401),
        ("not_before", "2020-01-01", 200),
        ("not_before", "2999-01-01", 401),
        ("enabled", "on", 200),
        ("enabled", "off", 401),
        ("allow_ip", "127.0.0.0/8", 200),
        ("allow_ip", "10.0.0.0/8", 403),
    ] {
        let key = key("T");
        let fields = [(&*key, "services", "*"), (&*key, field, value)];
        let gateway = gateway(&upstream, &fields);
        let answer = ask(&gateway, "ner", "x-api-key: T\r\n");
        assert_eq!(answer.head.status, status, "{field} {value}");
    }
}

#[test]
fn a_deleted_token_is_dead_at_once_and_two_live_side_by_side() {
    let upstream = Upstream::saying("ok");
    let (old, new) = (key("old"), key("new"));
    let mut gateway = gateway(&upstream, &[(&old, "services", "*"), (&old, "name", "me")]);
    gateway.write(&[(&new, "services", "*"), (&new, "name", "me")]);
    let status = |gateway: &Gateway, token: &str| {
        ask(gateway, "ner", &format!("x-api-key: {token}\r\n"))
            .head
            .status
    };
    assert_eq!(
        (status(&gateway, "old"), status(&gateway, "new")),
        (200, 200)
    );
    gateway.delete(&old);
    assert_eq!(
        (status(&gateway, "old"), status(&gateway, "new")),
        (401, 200)
    );
}

#[test]
fn the_upstream_never_sees_what_let_the_caller_in() {
    let upstream = Upstream::saying("ok");
    let (key, other) = (key("T"), key("U"));
    let tokens = [(&*key, "services", "*"), (&*other, "services", "x")];
    let both = "x-api-key: T\r\nauthorization: Bearer theirs\r\n";
    let twice = "x-api-key: T\r\nX-API-KEY: theirs\r\nauthorization: Bearer T\r\n";
    for (fields, lines, key, bearer) in [
        (&[][..], "x-api-key: T\r\n", None, None),
        (&[], "authorization: Bearer T\r\n", None, None),
        (&[], both, None, Some("Bearer theirs")),
        (&[], twice, None, None),
        (
            &[],
            "x-api-key: theirs\r\nauthorization: Bearer T\r\n",
            Some("theirs"),
            None,
        ),
        (
            &[],
            "x-api-key: T\r\nauthorization: Bearer T\r\n",
            None,
            None,
        ),
        (
            &[],
            "x-api-key: U\r\nauthorization: Bearer T\r\n",
            None,
            None,
        ),
        (
            &[("service:ner", "forward_credentials", "on")],
            both,
            Some("T"),
            Some("Bearer theirs"),
        ),
        (
            &[("service:ner", "auth", "open")],
            both,
            Some("T"),
            Some("Bearer theirs"),
        ),
        (
            &[("service:ner", "auth", "open, token")],
            both,
            None,
            Some("Bearer theirs"),
        ),
        (
            &[("service:ner", "auth", "open, token")],
            "x-api-key: theirs\r\n",
            Some("theirs"),
            None,
        ),
    ] {
        let gateway = gateway(&upstream, &[&tokens[..], fields].concat());
        let before = upstream.seen().len();
        assert_eq!(
            ask(&gateway, "ner", lines).text(),
            "ok",
            "{fields:?} {lines}"
        );
        let requests = upstream.seen();
        let seen = requests.get(before).expect("it came");
        assert_eq!(seen.head.value("x-api-key"), key, "{fields:?} {lines}");
        assert_eq!(
            seen.head.value("authorization"),
            bearer,
            "{fields:?} {lines}"
        );
    }
}

#[test]
fn who_may_choose_picks_a_version_and_nobody_else_does() {
    let (base, candidate) = (Upstream::saying("base"), Upstream::saying("candidate"));
    let (base, candidate) = (base.url("/"), candidate.url("/"));
    let (chooser, other) = (key("T"), key("U"));
    let ask = |spill: &str, token: &str, version: &str| {
        let gateway = Gateway::start(&[
            ("endpoints:ner", &base, "base"),
            ("endpoints:ner", &candidate, "candidate"),
            ("weights:ner", "base", "1"),
            ("service:ner", "auth", "token"),
            ("service:ner", "spill", spill),
            (&chooser, "services", "*"),
            (&chooser, "may_choose", "on"),
            (&other, "services", "*"),
        ]);
        let lines = format!("x-api-key: {token}\r\nx-smartlink-version: {version}\r\n");
        ask(&gateway, "ner", &lines)
    };
    assert_eq!(ask("on", "T", "candidate").text(), "candidate");
    assert_eq!(ask("on", "T", "base").text(), "base");
    assert_eq!(ask("on", "U", "candidate").text(), "base");
    assert_eq!(ask("on", "T", "nobody").text(), "base");
    ask("off", "T", "nobody").error(503, "no_endpoint");
}

#[test]
fn two_tokens_of_one_name_stay_in_one_version() {
    let (base, candidate) = (Upstream::saying("base"), Upstream::saying("candidate"));
    let (base, candidate) = (base.url("/"), candidate.url("/"));
    let tokens: Vec<(String, String)> = (0..40)
        .map(|at| (key(&format!("T{at}")), format!("team {}", at / 2)))
        .collect();
    let mut fields = vec![
        ("endpoints:ner", &*base, "base"),
        ("endpoints:ner", &*candidate, "candidate"),
        ("weights:ner", "base", "1"),
        ("weights:ner", "candidate", "1"),
        ("service:ner", "auth", "token"),
        ("service:ner", "sticky", "token"),
    ];
    for (key, name) in &tokens {
        fields.push((key, "services", "*"));
        fields.push((key, "name", name));
    }
    let gateway = Gateway::start(&fields);
    let version = |at: usize| {
        let lines = format!("x-api-key: T{at}\r\n");
        ask(&gateway, "ner", &lines).text().to_owned()
    };
    let first: Vec<String> = (0..40).step_by(2).map(&version).collect();
    let second: Vec<String> = (1..40).step_by(2).map(&version).collect();
    assert_eq!(first, second);
    assert!(
        first.iter().any(|version| *version != first[0]),
        "{first:?}"
    );
}

#[test]
fn a_preflight_needs_no_credential() {
    let upstream = Upstream::saying("ok");
    let gateway = gateway(
        &upstream,
        &[
            ("service:ner", "cors", "*"),
            ("route:r", "service", "ner"),
            ("route:r", "path", "/r"),
        ],
    );
    for path in ["/ai_server/", "/r"] {
        let answer = gateway.ask(format!(
            "OPTIONS {path} HTTP/1.1\r\nhost: h\r\norigin: https://a.example\r\n\
             access-control-request-method: POST\r\n\r\n"
        ));
        assert_eq!(answer.head.status, 204, "{path}");
    }
    gateway
        .ask("GET /r HTTP/1.1\r\nhost: h\r\n\r\n")
        .error(401, "unauthenticated");
}
