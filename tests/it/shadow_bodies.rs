//! Bodies of every kind in records: the bytes that the client sent and got, or the exact beginning
//! of them.

use smartlink::model::hash::mix;
use smartlink::shadow::{Encoding, Record};

use crate::support::client::Client;
use crate::support::redis::Redis;
use crate::support::shadow::{await_applied, await_records};
use crate::support::site::Site;
use crate::support::upstream::Upstream;

/// The most of a body that is kept.
const MAX: usize = 2_000;

/// `{"server_name": "s", ...}`, as gzip writes it.
const GZIP: [u8; 69] = [
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xab, 0x56, 0x2a, 0x4e, 0x2d, 0x2a,
    0x4b, 0x2d, 0x8a, 0xcf, 0x4b, 0xcc, 0x4d, 0x55, 0xb2, 0x52, 0x50, 0x2a, 0x56, 0xd2, 0x51, 0x50,
    0x4a, 0x49, 0x2c, 0x49, 0x04, 0x72, 0xa2, 0x0d, 0x75, 0x14, 0x8c, 0x74, 0x14, 0x8c, 0x63, 0x81,
    0x42, 0x25, 0xa9, 0x15, 0x25, 0x20, 0xf9, 0x44, 0x22, 0x81, 0x52, 0x2d, 0x00, 0xe0, 0x66, 0x06,
    0xbb, 0x5b, 0x00, 0x00, 0x00,
];

/// Answers with the body it was sent, its header lines as asked, whole or in chunks of many sizes.
fn echoing() -> Upstream {
    Upstream::start(|connection| {
        while let Some(seen) = connection.read_request() {
            let lines = seen
                .head
                .value("x-answer")
                .unwrap_or("x-none: 1")
                .to_owned();
            if seen.head.value("x-chunks").is_none() {
                let length = seen.body.len();
                connection.send(format!(
                    "HTTP/1.1 200 OK\r\n{lines}\r\ncontent-length: {length}\r\n\r\n"
                ));
                connection.send(&seen.body);
                continue;
            }
            connection.send(format!(
                "HTTP/1.1 200 OK\r\n{lines}\r\ntransfer-encoding: chunked\r\n\r\n"
            ));
            for (at, piece) in seen.body.chunks(97).enumerate() {
                for piece in piece.chunks(1 + at * 7 % 97) {
                    connection.send(format!("{:x}\r\n", piece.len()));
                    connection.send(piece);
                    connection.send("\r\n");
                }
            }
            connection.send("0\r\n\r\n");
        }
    })
}

/// A site with a shadow of service `s`, which has a route.
fn stage(upstream: &Upstream) -> (Redis, Site) {
    let redis = Redis::start();
    redis.run(&format!(
        "HSET smartlink:endpoints:s {} base",
        upstream.url("/")
    ));
    redis.run("HSET smartlink:route:s path /s/ service s");
    redis.run(&format!("HSET smartlink:shadow:s max_body {MAX}"));
    let site = Site::start(&redis);
    await_applied(&redis, &site);
    (redis, site)
}

/// Sends it, and checks that the client gets the same back.
#[track_caller]
fn send(site: &Site, lines: &str, body: &[u8]) {
    let mut client = Client::connect(site.address);
    let length = body.len();
    client.send(format!(
        "POST /s/ HTTP/1.1\r\nhost: h\r\n{lines}content-length: {length}\r\n\r\n"
    ));
    client.send(body);
    assert_eq!(client.read_answer().body, body);
}

#[track_caller]
fn check(record: &Record, body: &[u8]) {
    let answer = record.answer.as_ref().expect("an answer");
    for kept in [&record.request.body, &answer.body] {
        let bytes = kept.to_bytes().expect("it is encoded");
        assert_eq!(bytes, body.get(..MAX).unwrap_or(body));
        assert_eq!(kept.bytes, body.len() as u64);
        assert_eq!(kept.truncated, body.len() > MAX);
    }
    assert_eq!(record.replayable, body.len() <= MAX);
}

#[test]
fn whatever_a_body_holds_and_however_it_comes_it_is_kept() {
    let upstream = echoing();
    let (redis, site) = stage(&upstream);
    let body = |n: u64| -> Vec<u8> {
        let length = match n % 8 {
            0 => MAX,
            1 => MAX + 1,
            2 => 0,
            _ => usize::try_from(mix(n) % (2 * MAX as u64)).expect("few"),
        };
        let bytes = (0..length as u64).map(|at| mix(n << 32 | at).to_le_bytes()[0]);
        match n % 3 {
            // A text, with a letter of two bytes now and then.
            0 => bytes
                .map(|b| if b < 20 { 'é' } else { 'e' })
                .collect::<String>()
                .into(),
            _ => bytes.collect(),
        }
    };
    let all: Vec<Vec<u8>> = (0..120).map(body).collect();
    for (n, body) in all.iter().enumerate() {
        send(&site, if n % 2 == 0 { "" } else { "x-chunks: 1\r\n" }, body);
    }
    let records = await_records(&redis, "s", all.len());
    for (record, body) in records.iter().zip(&all) {
        check(record, body);
    }
}

#[test]
fn compressed_bodies_are_kept_as_they_passed() {
    let upstream = echoing();
    let (redis, site) = stage(&upstream);
    let lines = "content-encoding: gzip\r\nx-answer: content-encoding: gzip\r\n";
    send(&site, lines, &GZIP);
    let records = await_records(&redis, "s", 1);
    let record = records.first().expect("one");
    check(record, &GZIP);
    assert_eq!(record.request.body.encoding, Encoding::Base64);
    let answer = record.answer.as_ref().expect("an answer");
    for headers in [&record.request.headers, &answer.headers] {
        let coding = headers.get("content-encoding").map(String::as_str);
        assert_eq!(coding, Some("gzip"), "whoever reads it knows what it is");
    }
}

#[test]
fn events_are_kept_as_they_passed_up_to_their_bound() {
    let upstream = echoing();
    let (redis, site) = stage(&upstream);
    let events = |count: usize| -> Vec<u8> {
        let events = (0..count).map(|n| format!("id: {n}\ndata: {{\"piece\": \"é{n}\"}}\n\n"));
        events.collect::<String>().into()
    };
    let all = [events(1), events(40), events(400)];
    let lines = "x-chunks: 1\r\nx-answer: content-type: text/event-stream\r\n";
    for body in &all {
        send(&site, lines, body);
    }
    let records = await_records(&redis, "s", all.len());
    for ((record, body), count) in records.iter().zip(&all).zip([1, 40, 400]) {
        check(record, body);
        let answer = record.answer.as_ref().expect("an answer");
        // Events behind what is kept have a time, too.
        assert_eq!(answer.events_ms.len(), count);
        assert!(answer.events_ms.is_sorted());
    }
}
