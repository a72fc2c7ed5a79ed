//! What a change costs, measured on the real binary: from `HSET` to the first request on the new
//! target, alone, among 10,000 services and beside 200,000 foreign keys; time to start and memory.
//!
//! `cargo bench --bench live`. Everything runs on loopback; Redis is a private one.

#![expect(
    clippy::print_stdout,
    unreachable_pub,
    dead_code,
    unused_imports,
    reason = "a report is what it is for; it borrows a part of what tests use"
)]

#[path = "../tests/it/support/mod.rs"]
mod support;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use support::load::{Caller, named, serving};
use support::port::Port;
use support::redis::Redis;
use support::{eventually, secs};

/// Changes per measurement: enough for a 99th percentile.
const CHANGES: usize = 300;
/// Services of the large configuration; each has two endpoints and weights.
const SERVICES: usize = 10_000;
/// Keys in the same Redis that are none of ours.
const FOREIGN: usize = 200_000;

/// The gateway as a process of its own.
struct Gateway {
    child: Child,
    port: Port,
    started: Instant,
}

impl Gateway {
    fn start(redis: &Redis) -> Self {
        let port = Port::reserve();
        let started = Instant::now();
        let child = Command::new(env!("CARGO_BIN_EXE_smartlink"))
            .args(["serve", "--admin", "off", "--log", "error"])
            .args([
                "--listen",
                &port.address().to_string(),
                "--redis",
                &redis.url(),
            ])
            .stdin(Stdio::null())
            .spawn()
            .expect("it runs");
        Self {
            child,
            port,
            started,
        }
    }

    /// A connection on which this service is answered; and how long after the start that was.
    fn await_service(&self, service: &str) -> (Caller, Duration) {
        let request = named(service);
        let caller = eventually("it serves", || {
            let mut caller = Caller::connect(self.port.address()).ok()?;
            let answer = caller.ask(&request).ok()?;
            (answer.status == 200).then_some(caller)
        });
        (caller, self.started.elapsed())
    }

    /// A line of `/proc/<pid>/status`, in KiB.
    fn memory(&self, line: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let line = status.lines().find_map(|text| text.strip_prefix(line));
        let number = line.and_then(|text| text.split_whitespace().next()?.parse().ok());
        number.unwrap_or(0)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}

/// Moves all traffic of `a` to and fro. Two times for each change, both from just before the
/// `HSET` is sent: until it is answered, and until the answer that the new target gave is here.
fn changes(redis: &Redis, caller: &mut Caller) -> [Vec<Duration>; 2] {
    let mut connection = redis.connect();
    let request = named("a");
    let mut took = [Vec::new(), Vec::new()];
    for n in 0..CHANGES {
        let (weights, wanted) = if n.is_multiple_of(2) {
            ("base 0 candidate 1", "two")
        } else {
            ("base 1 candidate 0", "one")
        };
        let line = format!("HSET smartlink:weights:a {weights}");
        let begin = Instant::now();
        connection.run(&line);
        let written = begin.elapsed();
        while caller.ask(&request).expect("an answer").body != wanted {
            assert!(begin.elapsed() < secs(10), "change {n} never arrived");
        }
        let [writing, arriving] = &mut took;
        writing.push(written);
        arriving.push(begin.elapsed());
        // Not in step with anything the gateway does by itself.
        std::thread::sleep(Duration::from_micros(1_000 + 377 * (n as u64 % 11)));
    }
    took
}

/// Prints median and 99th percentile.
fn report(what: &str, took: [Vec<Duration>; 2]) {
    let figures = took.map(|mut took| {
        took.sort_unstable();
        let at = |percent: usize| took.get((took.len() - 1) * percent / 100).copied();
        format!(
            "median {:?}, p99 {:?}",
            at(50).unwrap_or_default(),
            at(99).unwrap_or_default()
        )
    });
    let [written, arrived] = figures;
    println!("{what}: HSET to the new target's answer: {arrived} (the HSET alone: {written})");
}

/// Many services, written in pieces.
fn write_services(redis: &Redis, url: &str) {
    let mut connection = redis.connect();
    for piece in (0..SERVICES).collect::<Vec<_>>().chunks(500) {
        for n in piece {
            let (endpoints, weights) = (
                format!("smartlink:endpoints:s{n}"),
                format!("smartlink:weights:s{n}"),
            );
            let other = format!("{url}other");
            let (url, other) = (url.as_bytes(), other.as_bytes());
            let hash: [&[u8]; 6] = [
                b"HSET",
                endpoints.as_bytes(),
                url,
                b"base",
                other,
                b"candidate",
            ];
            connection.send(&hash).expect("sent");
            let hash: [&[u8]; 6] = [
                b"HSET",
                weights.as_bytes(),
                b"base",
                b"9",
                b"candidate",
                b"1",
            ];
            connection.send(&hash).expect("sent");
        }
        for _ in 0..2 * piece.len() {
            connection.read().expect("stored");
        }
    }
}

fn main() {
    let redis = Redis::start();
    let (one, _) = serving("one");
    let (two, _) = serving("two");
    let (one, two) = (one.url("/"), two.url("/"));
    redis.run(&format!(
        "HSET smartlink:endpoints:a {one} base {two} candidate"
    ));
    redis.run("HSET smartlink:weights:a base 1 candidate 0");

    let gateway = Gateway::start(&redis);
    let (mut caller, start) = gateway.await_service("a");
    std::thread::sleep(secs(1));
    println!(
        "1 service: serves {start:?} after its start, {} KiB resident",
        gateway.memory("VmRSS:")
    );
    report("1 service", changes(&redis, &mut caller));
    drop(gateway);

    write_services(&redis, &one);
    let gateway = Gateway::start(&redis);
    let (_, start) = gateway.await_service(&format!("s{}", SERVICES - 1));
    std::thread::sleep(secs(2));
    println!(
        "{SERVICES} services: serves {start:?} after its start, {} KiB resident, {} KiB at most",
        gateway.memory("VmRSS:"),
        gateway.memory("VmHWM:")
    );
    let (mut caller, _) = gateway.await_service("a");
    report(
        &format!("{SERVICES} services"),
        changes(&redis, &mut caller),
    );

    redis.run(&format!("DEBUG POPULATE {FOREIGN} foreign"));
    // Filling blocks Redis for a while; what that brings about is over before the measurement.
    std::thread::sleep(secs(5));
    report(
        &format!("{SERVICES} services, {FOREIGN} foreign keys"),
        changes(&redis, &mut caller),
    );
    println!("afterwards {} KiB resident", gateway.memory("VmRSS:"));
}
