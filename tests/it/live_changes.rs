//! Changes under load: no request fails, no answer is of two minds, no stream is cut.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::support::load::{Answer, Caller, Load, get, named, serving};
use crate::support::redis::{Connection, Redis};
use crate::support::site::{Site, await_proof};
use crate::support::upstream::Upstream;

/// How many changes each test makes.
const CHANGES: usize = 1_000;
/// Between changes, so that most are applied one by one and not many at once.
const PACE: Duration = Duration::from_millis(1);
/// So many tables at least: how many changes are applied at once is up to the machine.
const TABLES_MIN: usize = CHANGES / 20;

/// An answer of an upstream, by a version.
fn is_served(answer: &Answer) -> Result<(), String> {
    let version = answer.header("x-smartlink-version");
    match (answer.status, version) {
        (200, "base" | "candidate") => Ok(()),
        _ => Err("not served".to_owned()),
    }
}

/// The revision that the gateway says it serves.
fn revision(redis: &Redis) -> usize {
    let hash = redis.hash("smartlink:gateway:here");
    let revision = hash.get("revision").expect("it is said");
    revision.parse().expect("a number")
}

/// The n-th change: weights, endpoints, settings, routes and whole services in turn. What the load
/// asks for exists after each.
fn change(redis: &mut Connection, n: usize, one: &str, two: &str) {
    let step = n / 8;
    match n % 8 {
        0 => redis.run(&format!("HSET smartlink:weights:a candidate {step}")),
        1 if step.is_multiple_of(2) => {
            redis.run(&format!("HSET smartlink:endpoints:a {two}more base"))
        }
        1 => redis.run(&format!("HDEL smartlink:endpoints:a {two}more")),
        2 => redis.run(&format!("HSET smartlink:service:a retries {}", step % 4)),
        3 => redis.run(&format!("HSET smartlink:defaults stall {}s", 30 + step)),
        4 => redis.run(&format!("HSET smartlink:endpoints:s{step} {one} base")),
        5 => redis.run(&format!("DEL smartlink:endpoints:s{}", step.max(1) - 1)),
        6 => {
            redis.run("MULTI");
            redis.run("DEL smartlink:endpoints:a smartlink:weights:a smartlink:service:a");
            redis.run(&format!(
                "HSET smartlink:endpoints:a {two} base {one} candidate"
            ));
            redis.run(&format!("HSET smartlink:weights:a base {}", 1 + step));
            redis.run("EXEC")
        }
        _ => {
            redis.run("MULTI");
            redis.run("DEL smartlink:route:r");
            redis.run(&format!(
                "HSET smartlink:route:r service a path /r/ priority {step}"
            ));
            redis.run("EXEC")
        }
    };
}

#[test]
fn a_thousand_changes_under_load_fail_no_request() {
    let redis = Redis::start();
    let (one, _) = serving("one");
    let (two, _) = serving("two");
    let (one, two) = (one.url("/"), two.url("/"));
    redis.run(&format!(
        "HSET smartlink:endpoints:a {one} base {two} candidate"
    ));
    redis.run("HSET smartlink:weights:a base 90 candidate 10");
    redis.run("HSET smartlink:route:r service a path /r/");
    let site = Site::start(&redis);
    await_proof(&redis);
    let requests = vec![named("a"), named("a"), get("/r/x"), get("/r/y?z=1")];
    let load = Load::start(site.address, requests, is_served);
    load.await_more(100);
    let mut connection = redis.connect();
    for n in 0..CHANGES {
        change(&mut connection, n, &one, &two);
        std::thread::sleep(PACE);
    }
    connection.run("HSET smartlink:endpoints:last http://127.0.0.1:1/ base");
    site.await_answer(&named("last"), |answer| answer.status == 502);
    load.await_more(100);
    let tally = load.expect_all_good();
    let seen = revision(&redis);
    println!("{tally:?}, revision {seen}");
    assert!(seen > TABLES_MIN, "{seen} tables");
}

#[test]
fn an_exec_that_moves_endpoints_weights_and_settings_is_never_served_in_part() {
    let redis = Redis::start();
    let (chosen, _) = serving("chosen");
    let (spared, wrong) = serving("spared");
    let (chosen, spared) = (chosen.url("/"), spared.url("/"));
    // In both states all traffic is meant for one endpoint, under another version each time.
    let write = |redis: &mut Connection, state: usize| {
        let (on, off) = [("base", "candidate"), ("candidate", "base")][state];
        redis.run("MULTI");
        redis.run(&format!(
            "HSET smartlink:endpoints:a {chosen} {on} {spared} {off}"
        ));
        let header = format!(r#"{{"x-state":"{on}"}}"#);
        redis.call(&[
            "HSET",
            "smartlink:service:a",
            "set_response_headers",
            &header,
        ]);
        redis.run(&format!("HSET smartlink:weights:a {on} 1 {off} 0"));
        redis.run("EXEC");
    };
    let mut connection = redis.connect();
    write(&mut connection, 0);
    let site = Site::start(&redis);
    await_proof(&redis);
    let load = Load::start(site.address, vec![named("a"); 3], |answer| {
        let version = answer.header("x-smartlink-version");
        let of_one_state = answer.header("x-state") == version && !version.is_empty();
        of_one_state.then_some(()).ok_or("of two states".to_owned())
    });
    for n in 1..=CHANGES {
        write(&mut connection, n % 2);
        std::thread::sleep(PACE);
        if n % 100 == 0 {
            let version = ["base", "candidate"][n % 2];
            site.await_answer(&named("a"), |answer| answer.header("x-state") == version);
        }
    }
    load.expect_all_good();
    assert!(revision(&redis) > TABLES_MIN);
    assert_eq!(wrong.load(std::sync::atomic::Ordering::SeqCst), 0);
}

/// Tells waiting streams how far to go.
#[derive(Default)]
struct Ticks {
    at: Mutex<usize>,
    moved: Condvar,
}

impl Ticks {
    fn advance(&self, to: usize) {
        *self.at.lock().expect("no panic") = to;
        self.moved.notify_all();
    }

    fn wait_beyond(&self, seen: usize) -> usize {
        let at = self.at.lock().expect("no panic");
        *self
            .moved
            .wait_while(at, |at| *at <= seen)
            .expect("no panic")
    }
}

/// One event of a stream, as a chunk.
fn event(n: usize) -> String {
    let text = format!("data: {n}\n\n");
    format!("{:x}\r\n{text}\r\n", text.len())
}

#[test]
fn fifty_open_streams_survive_a_thousand_changes_and_the_deletion_of_their_service() {
    let redis = Redis::start();
    let ticks = Arc::new(Ticks::default());
    let last = CHANGES + 100;
    let upstream = Upstream::start({
        let ticks = Arc::clone(&ticks);
        move |connection| {
            let head = connection.read_head().expect("a request");
            connection.read_body(&head).expect("its body");
            connection.send(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
            );
            let mut sent = 0;
            while sent < last {
                let at = ticks.wait_beyond(sent);
                (sent + 1..=at).for_each(|n| connection.send(event(n)));
                sent = at;
            }
            connection.send("0\r\n\r\n");
            connection.wait_for_close();
        }
    });
    let url = upstream.url("/");
    redis.run(&format!("HSET smartlink:endpoints:a {url} base"));
    redis.run("HSET smartlink:route:r service a path /r/");
    let site = Site::start(&redis);
    await_proof(&redis);
    let mut streams: Vec<Caller> = (0..50)
        .map(|n| {
            let mut caller = Caller::connect(site.address).expect("it accepts");
            let request = if n % 2 == 0 { named("a") } else { get("/r/") };
            caller.send(&request).expect("it reads");
            caller
        })
        .collect();
    crate::support::eventually("all streams are open", || {
        (upstream.connections() == streams.len()).then_some(())
    });
    let mut connection = redis.connect();
    for n in 0..CHANGES {
        change(&mut connection, n, &url, &url);
        ticks.advance(n);
        std::thread::sleep(PACE);
    }
    connection.run("DEL smartlink:endpoints:a smartlink:weights:a smartlink:service:a");
    // What is written behind an order is in force behind it.
    connection.run("HSET smartlink:endpoints:behind http://127.0.0.1:1/ base");
    site.await_answer(&named("behind"), |answer| answer.status == 502);
    assert_eq!(site.ask(&named("a")).code(), "no_such_service");
    assert_eq!(site.ask(&get("/r/")).code(), "no_route");
    for n in CHANGES..=last {
        ticks.advance(n);
        std::thread::sleep(PACE);
    }
    let events: Vec<String> = (1..=last).map(|n| format!("data: {n}\n\n")).collect();
    let wanted = events.concat();
    for stream in &mut streams {
        let answer = stream.read().expect("a whole answer");
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-smartlink-version"), "base");
        assert!(answer.body == wanted, "bytes differ: {}", answer.body.len());
    }
}
