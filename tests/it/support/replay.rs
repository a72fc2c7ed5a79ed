//! Records as a gateway writes them, and shadow workers as processes.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use smartlink::shadow::{Answer, Body, ChosenBy, Headers, Outcome, Record, Request, Schema};

use super::redis::Redis;
use super::upstream::Upstream;

/// The service that is compared.
pub const SERVICE: &str = "ner";

/// How many records workers are killed on: so many, or as the environment says.
pub fn many(usual: u64) -> u64 {
    match std::env::var("SMARTLINK_TEST_SHADOW_RECORDS") {
        Ok(text) => text.parse().expect("a number of records"),
        Err(_) => usual,
    }
}

/// Waits until so many are counted, as long as there is progress; how many are. The cluster of the
/// tests takes seconds for each change in a group.
#[track_caller]
pub fn await_count(count: impl Fn() -> u64, wanted: u64) -> u64 {
    let patience = Duration::from_mins(1);
    let (mut most, mut end) = (0, Instant::now() + patience);
    loop {
        let now = count();
        if now >= wanted {
            return now;
        }
        if now > most {
            (most, end) = (now, Instant::now() + patience);
        }
        assert!(Instant::now() < end, "{now} of {wanted} are counted");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The record of request `n`, numbered from 1, which asks for `n` and was answered so.
pub fn record(n: u64, answer: &str) -> Record {
    let json = || Headers::from([("content-type".to_owned(), "application/json".to_owned())]);
    let body = |text: String| Body::of(text.clone().into_bytes(), text.len() as u64, true);
    Record {
        schema: Schema::V1,
        id: format!("r-{n}"),
        gateway: "gate-1".to_owned(),
        epoch: now_ms() + 3_600_000,
        sequence: n,
        service: SERVICE.to_owned(),
        version: "base".to_owned(),
        share: [("base".to_owned(), 100)].into(),
        revision: 1,
        chosen_by: ChosenBy::Sample,
        started_ms: now_ms(),
        queue_us: 0,
        connect_us: 0,
        first_byte_us: Some(900),
        total_us: 1_000,
        attempts: 1,
        outcome: Outcome::Ok,
        request: Request {
            method: "POST".to_owned(),
            target: "/ai_server/".to_owned(),
            path: None,
            headers: json(),
            body: body(format!("{{\"server_name\":\"ner\",\"data\":[{n}]}}")),
        },
        answer: Some(Answer {
            status: 200,
            headers: json(),
            body: body(answer.to_owned()),
            events_ms: Vec::new(),
        }),
        redacted: Vec::new(),
        replayable: true,
    }
}

fn now_ms() -> u64 {
    let since = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
    u64::try_from(since.as_millis()).expect("before the year 500000000")
}

/// Puts a text into the stream as a record.
pub fn add(redis: &Redis, text: &str) {
    let key = format!("smartlink:shadow-stream:{SERVICE}");
    redis.call(&["XADD", &key, "*", "record", text]);
}

/// Puts records into the stream: all of one life of a gateway.
pub fn add_all(redis: &Redis, mut records: Vec<Record>) {
    let epoch = records.first().map_or(0, |record| record.epoch);
    let mut connection = redis.connect();
    for record in &mut records {
        record.epoch = epoch;
        let text = serde_json::to_string(record).expect("JSON");
        let key = format!("smartlink:shadow-stream:{SERVICE}");
        connection.call(&["XADD", &key, "*", "record", &text]);
    }
}

/// What request was asked for by the body of a replay.
pub fn asked(body: &[u8]) -> u64 {
    let body: Json = serde_json::from_slice(body).expect("the body of a record");
    body.pointer("/data/0")
        .and_then(Json::as_u64)
        .expect("a number")
}

/// An upstream that answers each replay with a status and a body.
pub fn answering(answer: impl Fn(u64) -> (u16, String) + Send + Sync + 'static) -> Upstream {
    Upstream::start(move |connection| {
        while let Some(seen) = connection.read_request() {
            let (status, body) = answer(asked(&seen.body));
            connection.send(response(status, &body));
        }
    })
}

/// An answer of JSON.
pub fn response(status: u16, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// The program with the Redis of the test.
pub fn smartlink(redis: &Redis, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smartlink"));
    command
        .args(args)
        .env("SMARTLINK_REDIS", redis.url())
        .stdin(Stdio::null());
    command
}

/// Runs to the end, which must be a good one: what it printed.
#[track_caller]
pub fn run(redis: &Redis, args: &[&str]) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = smartlink(redis, args).output().expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let (stdout, stderr) = (text(stdout), text(stderr));
    assert!(status.success(), "{args:?}: {status}\n{stdout}{stderr}");
    stdout
}

/// Starts a worker of the service.
pub fn start(redis: &Redis, args: &[&str]) -> Child {
    smartlink(
        redis,
        &[&["shadow", SERVICE, "--log", "error"], args].concat(),
    )
    .stdout(Stdio::null())
    .spawn()
    .expect("it starts")
}

/// Compares all there is.
#[track_caller]
pub fn compare_all(redis: &Redis, args: &[&str]) -> String {
    let once = [
        "shadow",
        SERVICE,
        "--once",
        "--from",
        "oldest",
        "--max-rate",
        "off",
        "--log",
        "error",
    ];
    run(redis, &[&once, args].concat())
}

/// The report of a candidate.
#[track_caller]
pub fn report(redis: &Redis, candidate: &str) -> Json {
    let args = [
        "shadow",
        "report",
        SERVICE,
        "--json",
        "--candidate",
        candidate,
    ];
    serde_json::from_str(&run(redis, &args)).expect("JSON")
}
