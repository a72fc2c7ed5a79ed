//! `smartlink explain` says what a gateway does: 500 random configurations and requests, and what it
//! says of endpoints, limits and mistakes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use smartlink::access::{Format, Options, Place};

use crate::support::eventually;
use crate::support::load::{Answer, serving};
use crate::support::redis::{Connection, Redis};
use crate::support::site::{Site, await_proof, options};
use crate::support::upstream::Upstream;
use crate::support::verb::{good, run};

/// Numbers that are the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % most
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        let at = self.below(texts.len());
        texts.get(at).expect("one of them")
    }
}

type Hashes = BTreeMap<String, BTreeMap<String, String>>;

fn put(hashes: &mut Hashes, key: &str, field: &str, text: &str) {
    let hash = hashes.entry(format!("smartlink:{key}")).or_default();
    hash.insert(field.to_owned(), text.to_owned());
}

const SERVICES: [&str; 3] = ["a", "b", "c.1"];
const VERSIONS: [&str; 3] = ["base", "candidate", "v3"];
const TOKENS: [&str; 3] = ["T1", "T2", "T3"];

/// A configuration on one upstream, whose answers say by their path who was asked.
fn configuration(chance: &mut Chance, upstream: &Upstream) -> Hashes {
    let mut hashes = Hashes::new();
    for service in SERVICES {
        if chance.one_in(8) {
            continue;
        }
        let versions = 1 + chance.below(3);
        for version in VERSIONS.iter().take(versions) {
            let duty = chance.of(&[
                "",
                "",
                "",
                "",
                " off",
                " drain",
                " drain",
                " backup",
                " weight=0",
            ]);
            let url = upstream.url(&format!("/{service}/{version}/"));
            let key = format!("endpoints:{service}");
            put(&mut hashes, &key, &url, &format!("{version}{duty}"));
        }
        if chance.one_in(2) {
            for version in VERSIONS.iter().take(versions) {
                let weight = chance.of(&["0", "1", "10", "90", "100", "lots"]);
                put(&mut hashes, &format!("weights:{service}"), version, weight);
            }
        }
        settings(chance, &format!("service:{service}"), &mut hashes);
    }
    if chance.one_in(3) {
        // A mistake in here is one of all services, and not for a gateway that ran before.
        put(
            &mut hashes,
            "defaults",
            "auth",
            chance.of(&["open", "token"]),
        );
    }
    for id in ["r1", "r2", "r3", "r4", "r5", "r6"] {
        route(chance, &format!("route:{id}"), &mut hashes);
    }
    tokens(chance, &mut hashes);
    if chance.one_in(3) {
        choosers(&mut hashes);
    }
    hashes
}

fn tokens(chance: &mut Chance, hashes: &mut Hashes) {
    for token in TOKENS {
        let digits: String = Sha256::digest(token)
            .iter()
            .fold(String::new(), |mut text, byte| {
                write!(text, "{byte:02x}").expect("a text");
                text
            });
        let key = format!("token:{digits}");
        put(
            hashes,
            &key,
            "services",
            chance.of(&["*", "*", "a, c.*", "d"]),
        );
        put(hashes, &key, "name", token);
        for (field, texts) in [
            ("may_choose", &["on", "on", "off"][..]),
            ("may_choose", &["on"]),
            ("enabled", &["on", "on", "off"]),
            ("expires", &["2100-01-01", "2020-01-01"]),
            ("allow_ip", &["127.0.0.0/8", "10.0.0.0/8"]),
        ] {
            if chance.one_in(3) {
                put(hashes, &key, field, chance.of(texts));
            }
        }
    }
}

/// Lets every token choose a version of every service.
fn choosers(hashes: &mut Hashes) {
    for (key, hash) in hashes {
        if key.starts_with("smartlink:token:") {
            hash.clear();
            hash.insert("services".to_owned(), "*".to_owned());
            hash.insert("may_choose".to_owned(), "on".to_owned());
        } else if key.starts_with("smartlink:service:") {
            hash.insert("auth".to_owned(), "open, token".to_owned());
        }
    }
}

fn settings(chance: &mut Chance, key: &str, hashes: &mut Hashes) {
    for (often, field, texts) in [
        (
            2,
            "sticky",
            &[
                "header:x-user",
                "cookie:sid",
                "query:u",
                "json:/user",
                "ip",
                "token",
            ][..],
        ),
        (
            2,
            "auth",
            &["token", "open, token", "open, token", "open", "jwt:nobody"],
        ),
        (10, "enabled", &["off", "on"]),
        (8, "spill", &["off", "on"]),
        (4, "max_body", &["20", "1MiB"]),
        (10, "deny_ip", &["127.0.0.1", "10.0.0.0/8"]),
        (10, "allow_ip", &["127.0.0.1", "10.0.0.0/8"]),
        (3, "cors", &["*", "https://x.example", "off"]),
        (
            8,
            "balance",
            &["round_robin", "random", "hash:header:x-user"],
        ),
        (15, "timeout", &["soon"]),
    ] {
        if chance.one_in(often) {
            put(hashes, key, field, chance.of(texts));
        }
    }
}

fn route(chance: &mut Chance, key: &str, hashes: &mut Hashes) {
    if chance.one_in(5) {
        return;
    }
    put(
        hashes,
        key,
        "service",
        chance.of(&["a", "a", "b", "c.1", "nobody"]),
    );
    let whole = chance.of(&["/x/", "/x/y/", "/x/y", "/", "/z", "/x/%20/"]);
    match chance.below(4) {
        0 => {
            put(
                hashes,
                key,
                "path_regex",
                chance.of(&["/x/([a-z]+)/?.*", "/(x|z).*", "/x("]),
            );
            if chance.one_in(2) {
                put(
                    hashes,
                    key,
                    "rewrite",
                    chance.of(&["/new/$1", "/new", "/$2"]),
                );
            }
        }
        1 => put(hashes, key, "path", whole),
        2 => {
            put(hashes, key, "path", whole);
            put(hashes, key, "strip_prefix", "on");
        }
        _ => {}
    }
    for (often, field, texts) in [
        (8, "host", &["a.example.com", "*.example.com"][..]),
        (8, "methods", &["GET", "POST, PUT", "OPTIONS"]),
        (8, "header.x-user", &["*", "u1"]),
        (8, "query.u", &["*", "1"]),
        (4, "priority", &["5", "-5"]),
        (4, "version", &["base", "candidate", "v9"]),
        (8, "enabled", &["off"]),
    ] {
        if chance.one_in(often) {
            put(hashes, key, field, chance.of(texts));
        }
    }
}

/// A request, as `explain` is asked about it and as it is sent.
struct Asked {
    text: String,
    headers: Vec<String>,
    bytes: Vec<u8>,
}

fn request(chance: &mut Chance, id: usize) -> Asked {
    let named = chance.one_in(2);
    let method = if named {
        chance.of(&["POST", "POST", "POST", "POST", "POST", "POST", "OPTIONS"])
    } else {
        chance.of(&["GET", "GET", "POST", "PUT", "OPTIONS"])
    };
    let target = if named {
        chance
            .of(&["/ai_server/", "/ai_server", "/ai_server/?x=1"])
            .to_owned()
    } else {
        let path = chance.of(&[
            "/x/",
            "/x/y",
            "/x/y/z",
            "/x/../z",
            "/z",
            "/",
            "/x/%20/",
            "/x/%2e%2e/z",
            "/nowhere",
            "/x/y/%2F",
        ]);
        let query = chance.of(&["", "", "?u=1", "?u=2&v=3"]);
        format!("{path}{query}")
    };
    let body = if named {
        let name = chance.of(&["a", "a", "b", "c.1", "nobody"]);
        match chance.below(25) {
            0 => "{not json".to_owned(),
            1 => "{\"server_name\":7}".to_owned(),
            2 => "{\"params\":{}}".to_owned(),
            _ => format!(
                "{{\"server_name\":\"{name}\",\"user\":\"u{}\"}}",
                chance.below(40)
            ),
        }
    } else {
        String::new()
    };
    let host = chance.of(&["h", "a.example.com", "b.example.com:80"]);
    let mut headers = vec![format!("host: {host}")];
    let user = format!("x-user: u{}", chance.below(40));
    let cookie = format!("cookie: sid=s{}", chance.below(40));
    for (often, line) in [
        (2, user.as_str()),
        (3, cookie.as_str()),
        (2, "x-api-key: T1"),
        (3, "authorization: Bearer T2"),
        (8, "authorization: Bearer wrong"),
        (2, "x-smartlink-version: candidate"),
        (3, "origin: https://x.example"),
        (2, "access-control-request-method: GET"),
    ] {
        let name = line.split(':').next().expect("a name");
        if chance.one_in(often) && !headers.iter().any(|it| it.starts_with(name)) {
            headers.push(line.to_owned());
        }
    }
    let mut head = format!("{method} {target} HTTP/1.1\r\nx-request-id: {id}\r\n");
    for line in &headers {
        write!(head, "{line}\r\n").expect("a text");
    }
    write!(head, "content-length: {}\r\n\r\n{body}", body.len()).expect("a text");
    Asked {
        text: format!("{method} {target} {body}"),
        headers,
        bytes: head.into_bytes(),
    }
}

/// Puts in force: all keys but these go, then these come, each in one go.
fn write(connection: &mut Connection, site: &Site, before: &Hashes, hashes: &Hashes, turn: usize) {
    for (step, hashes) in [&Hashes::new(), hashes].into_iter().enumerate() {
        connection.run("MULTI");
        if step == 0 {
            for key in before.keys() {
                connection.call(&["DEL", key]);
            }
        }
        for (key, hash) in hashes {
            let mut words = vec!["HSET", key];
            words.extend(hash.iter().flat_map(|(field, text)| [&**field, &**text]));
            connection.call(&words);
        }
        let mark = format!("{{\"x-turn\":\"{turn}.{step}\"}}");
        connection.call(&[
            "HSET",
            "smartlink:service:probe",
            "set_response_headers",
            &mark,
        ]);
        connection.call(&["HSET", "smartlink:service:probe", "auth", "open"]);
        connection.run("EXEC");
        let probe = "{\"server_name\":\"probe\"}";
        let probe =
            format!("POST /ai_server/ HTTP/1.1\r\nhost: h\r\ncontent-length: 23\r\n\r\n{probe}");
        let wanted = format!("{turn}.{step}");
        site.await_answer(probe.as_bytes(), |answer| answer.header("x-turn") == wanted);
    }
}

/// What the access log says of a request.
fn logged(file: &Path, id: usize) -> Value {
    let id = format!("\"id\":\"{id}\"");
    eventually("its line is written", || {
        let text = fs::read_to_string(file).ok()?;
        let line = text
            .lines()
            .rev()
            .take(50)
            .find(|line| line.contains(&id))?;
        serde_json::from_str(line).ok()
    })
}

/// Everything in which what was said and what was done must agree.
fn compare(said: &Value, answer: &Answer, line: &Value) -> Result<(), String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let code = text(&said["code"]);
    let serves = said["serves"].as_object().expect("an object");
    let by_ticket = said["version"].is_null() && said["status"].is_null();
    if by_ticket && answer.code() == "no_endpoint" && serves.values().any(Value::is_null) {
        return Ok(());
    }
    if code != answer.code() {
        return Err(format!("code {code:?}, not {:?}", answer.code()));
    }
    let status = said["status"].as_u64().unwrap_or(200);
    if status != u64::from(answer.status) {
        return Err(format!("status {status}, not {}", answer.status));
    }
    if said["rule"] != line["rule"] {
        return Err(format!("rule {}, not {}", said["rule"], line["rule"]));
    }
    if answer.status == 204 || !code.is_empty() {
        if !code.is_empty() {
            let body: Value = serde_json::from_str(&answer.body).map_err(|it| it.to_string())?;
            let msg = body.get("msg");
            if said.get("msg") != msg {
                return Err(format!("msg {}, not {msg:?}", said["msg"]));
            }
        }
        return Ok(());
    }
    let mut path = answer.body.split('/').skip(1);
    let (service, version) = (
        path.next().unwrap_or_default(),
        path.next().unwrap_or_default(),
    );
    if said["service"] != service {
        return Err(format!("service {}, not {service}", said["service"]));
    }
    let agrees = match said["version"].as_str() {
        Some(said) => said == version,
        None => serves.values().any(|it| *it == version),
    };
    if !agrees {
        return Err(format!(
            "version {} of {}, not {version}",
            said["version"], said["shares"]
        ));
    }
    let asked = said["endpoints"].as_array().into_iter().flatten();
    let ends = asked.filter(|it| it["candidate"] == true && it["version"] == version);
    let ends: Vec<String> = ends.map(|it| text(&it["asks"])).collect();
    let asked = ends.iter().any(|url| url.ends_with(&answer.body));
    asked
        .then_some(())
        .ok_or_else(|| format!("asked for {ends:?}, not {}", answer.body))
}

/// An upstream that answers with the target it was asked for.
fn echo() -> Upstream {
    Upstream::start(|connection| {
        while let Some(head) = connection.read_head() {
            if connection.read_body(&head).is_none() {
                break;
            }
            let target = head.start.split(' ').nth(1).expect("a target");
            let length = target.len();
            connection.send(format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{target}"
            ));
        }
    })
}

#[test]
fn what_is_explained_is_what_is_done() {
    const CASES: usize = 500;
    let redis = Redis::start();
    let upstream = echo();
    redis.call(&[
        "HSET",
        "smartlink:endpoints:probe",
        &upstream.url("/probe/"),
        "base",
    ]);
    let file = redis.folder().join("access.log");
    let mut options = options(&redis);
    options.access = Some(Options {
        place: Place::File(file.clone()),
        format: Format::Json,
        sample: 1.0,
    });
    let site = Site::start_with(options);
    await_proof(&redis);
    let mut connection = redis.connect();
    let (mut before, mut seen) = (Hashes::new(), BTreeMap::<String, usize>::new());
    for case in 0..CASES {
        let case_number = u64::try_from(case).expect("a few") + 1;
        let mut chance = Chance(case_number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let hashes = configuration(&mut chance, &upstream);
        write(&mut connection, &site, &before, &hashes, case);
        let asked = request(&mut chance, case);
        let mut args = vec!["explain", "--json", &asked.text];
        args.extend(asked.headers.iter().flat_map(|line| ["-H", line]));
        let json = good(&redis, &args);
        let said: Value = serde_json::from_str(&json).expect("JSON");
        let answer = site.ask(&asked.bytes);
        let line = logged(&file, case);
        if let Err(why) = compare(&said, &answer, &line) {
            panic!("{case}: {why}\n{args:?}\n{json}\n{answer:?}\n{line}\n{hashes:#?}");
        }
        let why = said["code"]
            .as_str()
            .or(said["why"].as_str())
            .unwrap_or("preflight");
        *seen.entry(why.to_owned()).or_default() += 1;
        before = hashes;
    }
    eprintln!("{seen:?}");
    for kind in [
        "weight",
        "sticky",
        "chosen",
        "pinned",
        "spill",
        "no_route",
        "bad_target",
        "unauthenticated",
        "forbidden",
        "misconfigured",
        "no_such_service",
        "no_endpoint",
        "invalid_json",
        "invalid_input",
        "body_too_large",
        "preflight",
    ] {
        assert!(seen.contains_key(kind), "{kind} was never met: {seen:?}");
    }
}

#[test]
fn it_says_who_may_serve_and_in_what_state_gateways_hold_them() {
    let redis = Redis::start();
    let (upstream, _) = serving("hello");
    let up = upstream.url("/");
    // Nobody listens there.
    let down = "http://127.0.0.1:9/";
    redis.call(&[
        "HSET",
        "smartlink:endpoints:a",
        &up,
        "base",
        down,
        "candidate weight=3",
    ]);
    redis.run("HSET smartlink:weights:a base 3 candidate 1");
    redis.run("HSET smartlink:service:a rate 100/s concurrency 7 queue 2");
    let text = good(
        &redis,
        &["explain", "POST /ai_server/ {\"server_name\": \"a\"}"],
    );
    for part in [
        "rule       named entry: the body names the service\n",
        "service    a\n",
        "auth       open: nobody is asked\n",
        "limit      100 requests in 1 s, 100 at once, all callers together, each gateway\n",
        "limit      7 at once on each gateway, 2 in line\n",
        "version    the next ticket decides: base 75%, candidate 25%\n",
        &format!("endpoint   {up} base up\n"),
        "endpoint   http://127.0.0.1:9/ candidate up weight=3\n",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let health = r#"{"state": "down", "since_ms": 1, "why": "connection refused"}"#;
    redis.call(&["HSET", "smartlink:health:a", down, health]);
    let live = r#"{"version": "base", "inflight": 2, "ewma_ms": 7.5}"#;
    redis.call(&["HSET", "smartlink:live:a:endpoints", &up, live]);
    let text = good(
        &redis,
        &["explain", "POST /ai_server/ {\"server_name\": \"a\"}"],
    );
    for part in [
        "candidate has no endpoint that is up: base stands in\n",
        "base up inflight=2 ewma_ms=7.5\n",
        "candidate down weight=3 (connection refused) (not now)\n",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    redis.run("HSET smartlink:weights:a base lots");
    let text = good(
        &redis,
        &["explain", "POST /ai_server/ {\"server_name\": \"a\"}"],
    );
    assert!(
        text.contains("mistake    smartlink:weights:a base: want "),
        "{text}"
    );
}

#[test]
fn what_is_no_request_is_exit_code_2() {
    let redis = Redis::start();
    for args in [
        &["explain", "POST"][..],
        &["explain", "/x", "-H", "nocolon"],
        &["explain", "/x", "--client-ip", "here"],
        &["explain"],
    ] {
        assert_eq!(run(&redis, args).code, 2, "{args:?}");
    }
    let text = good(&redis, &["explain", "GET /nowhere"]);
    assert_eq!(text, "answer     404 no_route No Such Route\n");
}
