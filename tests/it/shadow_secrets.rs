//! Nothing secret leaves the gateway by its shadow: not into the stream, the database file, logs or
//! metrics.

use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::load::named;
use crate::support::port::Port;
use crate::support::process::Process;
use crate::support::redis::Redis;
use crate::support::shadow::{await_book, books};
use crate::support::upstream::Upstream;
use crate::support::wire::find;

/// What stands in each secret.
const MARK: &str = "s3cr3tm4rk";
/// So many requests.
const MANY: u64 = 1_000;

/// Answers with secrets of its own, in a form for each request.
fn telling() -> Upstream {
    Upstream::start(|connection| {
        while let Some(seen) = connection.read_request() {
            let n: u64 = seen
                .head
                .value("x-number")
                .map_or(0, |n| n.parse().expect("a number"));
            let (kind, body) = match n % 4 {
                0 => (
                    "application/json",
                    format!(
                        "{{\"n\": {n}, \"token\": \"{MARK}{n}\", \"list\": [{{\"card\": \"{MARK}\"}}]}}"
                    ),
                ),
                1 => (
                    "text/event-stream",
                    format!("data: {{\"token\": \"{MARK}{n}\"}}\n\ndata: {{\"n\": {n}}}\n\n"),
                ),
                // Parts that cannot be looked for cost the whole body.
                2 => (
                    "application/json",
                    format!("{{\"token\": \"{MARK}{n}\"{}", " ".repeat(2_000)),
                ),
                _ => ("text/plain", format!("token {MARK}{n}")),
            };
            connection.send(format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nset-cookie: a={MARK}{n}\r\n\
                 x-secret: {MARK}{n}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ));
        }
    })
}

fn ask(address: SocketAddr, n: u64) {
    let card = format!("{{\"card\": \"{MARK}{n}\"}}");
    let body =
        format!("{{\"server_name\": \"s\", \"params\": [{card}, {card}], \"token\": \"{MARK}\"}}");
    let mut client = Client::connect(address);
    client.send(format!(
        "POST /ai_server/ HTTP/1.1\r\nhost: h\r\nx-number: {n}\r\n\
         authorization: Bearer {MARK}{n}\r\ncookie: a={MARK}{n}\r\nx-api-key: {MARK}{n}\r\n\
         proxy-authorization: Basic {MARK}{n}\r\nX-Secret: {MARK}{n}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    ));
    let answer = client.read_answer();
    assert_eq!(answer.head.status, 200);
    assert!(
        find(&answer.body, MARK.as_bytes()).is_some(),
        "the client gets it"
    );
}

#[track_caller]
fn assert_clean(what: &str, bytes: &[u8]) {
    assert!(!bytes.is_empty(), "{what} is empty");
    let at = find(bytes, MARK.as_bytes());
    let near = at.map(|at| {
        let part = bytes.get(at.saturating_sub(200)..at + MARK.len());
        String::from_utf8_lossy(part.unwrap_or_default()).into_owned()
    });
    assert_eq!(near, None, "in {what}");
}

/// The address of the admin port, as the log says.
fn admin(log: &Path) -> SocketAddr {
    let text = fs::read_to_string(log).expect("a log");
    let said = text.split("admin=").nth(1).expect("it says so");
    let address = said.split_whitespace().next().expect("an address");
    address.trim_matches('"').parse().expect("an address")
}

#[test]
fn of_a_thousand_secrets_none_is_found_outside() {
    let redis = Redis::start_with(&["--rdbcompression", "no"]);
    let upstream = telling();
    redis.run(&format!(
        "HSET smartlink:endpoints:s {} base",
        upstream.url("/")
    ));
    redis.call(&[
        "HSET",
        "smartlink:shadow:s",
        "redact_headers",
        "x-secret",
        "redact_json",
        "/token, /list/*/card, /params/*/card",
        "max_body",
        "1500",
        "keep",
        "failures, slow 1ms",
    ]);
    let port = Port::reserve();
    let (log, access) = (redis.folder().join("log"), redis.folder().join("access"));
    let errors = File::create(&log).expect("a file");
    let gateway = Process::start_with(&redis, "g", |command| {
        command
            .args(["--listen", &port.address().to_string()])
            .args(["--log", "trace,h2=info,rustls=info"])
            .arg("--access-log")
            .arg(&access)
            .stderr(Stdio::from(errors))
    });
    eventually("it serves", || {
        let mut caller = crate::support::load::Caller::connect(port.address()).ok()?;
        (caller.ask(&named("s")).ok()?.status == 200).then_some(())
    });
    for n in 0..MANY {
        ask(port.address(), n);
    }
    let asked = eventually("all are in the books", || {
        let sampled = books(&redis, "s").get("sampled").copied()?;
        (sampled >= MANY).then_some(sampled)
    });
    await_book(&redis, "s", "delivered", asked);
    let mut connection = redis.connect();
    connection.run("SAVE");
    assert_clean(
        "the database",
        &fs::read(redis.folder().join("dump.rdb")).expect("it is saved"),
    );
    let mut client = Client::connect(admin(&log));
    client.send("GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert_clean("the metrics", &client.read_answer().body);
    drop(gateway);
    for (what, path) in [("the log", &log), ("the access log", &access)] {
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
        read.expect("it was written");
        assert_clean(what, &bytes);
    }
}
