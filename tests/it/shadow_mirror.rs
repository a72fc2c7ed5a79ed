//! The mirror: the gateway itself asks the candidate what it was asked, and counts what that comes
//! to, without a record that stands anywhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use smartlink::telemetry::metrics::WORKER;

use crate::support::eventually;
use crate::support::load::{Caller, named, serving};
use crate::support::port::Port;
use crate::support::redis::Redis;
use crate::support::shadow::{await_applied, await_book, books};
use crate::support::site::{self, Site};
use crate::support::upstream::Upstream;

/// An answer of JSON.
fn json(body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// A version that answers so.
fn version(body: &'static str) -> Upstream {
    Upstream::start(move |connection| {
        while connection.read_request().is_some() {
            connection.send(json(body));
        }
    })
}

/// Service `s` with these versions, mirrored.
fn configure(redis: &Redis, base: &str, candidate: &str) {
    redis.call(&[
        "HSET",
        "smartlink:endpoints:s",
        base,
        "base",
        candidate,
        "candidate",
    ]);
    redis.run("HSET smartlink:weights:s base 1 candidate 0");
    redis.run("HSET smartlink:shadow:s to mirror");
}

#[track_caller]
fn ask_often(site: &Site, count: u64) {
    let mut caller = Caller::connect(site.address).expect("it accepts");
    for _ in 0..count {
        assert_eq!(caller.ask(&named("s")).expect("an answer").status, 200);
    }
}

fn counter(redis: &Redis, name: &str) -> u64 {
    let results = redis.hash("smartlink:shadow-results:s:candidate");
    let count = results.get(name);
    count.map_or(0, |text| text.parse().expect("a count"))
}

#[test]
fn what_the_candidate_would_have_answered_is_counted_and_recorded_nowhere() {
    let redis = Redis::start();
    let base = version(r#"{"status":true,"data":["x"]}"#);
    let candidate = version(r#"{"status":true,"data":["y"]}"#);
    configure(&redis, &base.url("/"), &candidate.url("/"));
    let site = Site::start(&redis);
    await_applied(&redis, &site);
    ask_often(&site, 30);
    await_book(&redis, "s", "delivered", 30);
    eventually("all are counted", || {
        (counter(&redis, "counted") == 30).then_some(())
    });
    assert_eq!(counter(&redis, "read"), 30);
    assert_eq!(counter(&redis, "both_ok"), 30);
    assert_eq!(counter(&redis, "compared"), 30);
    assert_eq!(counter(&redis, "equal"), 0);
    let streams = redis.run("EXISTS smartlink:shadow-stream:s").number();
    assert_eq!(streams, 0, "no record is kept");
    let seen = candidate.seen();
    assert_eq!(seen.len(), 30);
    for seen in seen {
        assert_eq!(seen.head.value("x-smartlink-shadow"), Some("1"));
    }
    let state = redis
        .hash("smartlink:shadow-results:s:candidate")
        .remove("state");
    assert_eq!(state.as_deref(), Some("comparing"));
}

#[test]
fn requests_do_not_feel_a_candidate_that_hangs() {
    let redis = Redis::start();
    let (base, _) = serving("fine");
    let gate = Arc::new(AtomicBool::new(false));
    let open = Arc::clone(&gate);
    let candidate = Upstream::start(move |connection| {
        while connection.read_request().is_some() {
            while !open.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            connection.send(json("{}"));
        }
    });
    configure(&redis, &base.url("/"), &candidate.url("/"));
    redis.run(&format!(
        "HSET smartlink:endpoints:t {} base",
        base.url("/")
    ));
    redis.run("HSET smartlink:shadow:t sample 100%");
    let site = Site::start(&redis);
    await_applied(&redis, &site);
    ask_often(&site, 500);
    // What a candidate cannot take is dropped, and leaves the room to others.
    let told = await_book(&redis, "s", "sampled", 500);
    assert!(told.get("dropped_queue") > Some(&400), "{told:?}");
    site.ask(&named("t"));
    await_book(&redis, "t", "delivered", 1);
    let delivered = told.get("delivered").copied().expect("some");
    gate.store(true, Ordering::SeqCst);
    eventually("what was handed over is counted", || {
        (counter(&redis, "counted") == delivered).then_some(())
    });
}

#[test]
fn a_mirror_waits_for_a_candidate_that_is_away() {
    let redis = Redis::start();
    let base = version("{}");
    let port = Port::reserve();
    configure(&redis, &base.url("/"), &port.url());
    let site = Site::start(&redis);
    await_applied(&redis, &site);
    ask_often(&site, 20);
    eventually("the mirror waits", || {
        let state = redis
            .hash("smartlink:shadow-results:s:candidate")
            .remove("state");
        (state.as_deref() == Some("waiting_for_candidate")).then_some(())
    });
    let _candidate = Upstream::start_on(port.listen(), |connection| {
        while connection.read_request().is_some() {
            connection.send(json("{}"));
        }
    });
    eventually("the rest is compared", || {
        (counter(&redis, "counted") == 20).then_some(())
    });
    assert_eq!(counter(&redis, "class.connect"), 3);
    assert_eq!(counter(&redis, "both_ok"), 17);
}

#[test]
fn a_policy_may_move_from_the_stream_to_the_mirror_and_back() {
    let redis = Redis::start();
    let (base, candidate) = (version("{}"), version("{}"));
    configure(&redis, &base.url("/"), &candidate.url("/"));
    let mut site = Site::start(&redis);
    for (round, to) in (1..).zip(["stream", "mirror", "stream", "mirror"]) {
        redis.run(&format!("HSET smartlink:shadow:s to {to}"));
        await_applied(&redis, &site);
        ask_often(&site, 5);
        await_book(&redis, "s", "delivered", 5 * round);
        let mirrored = 5 * (round / 2);
        eventually("the mirrored ones are counted", || {
            (counter(&redis, "counted") == mirrored).then_some(())
        });
    }
    assert_eq!(redis.run("XLEN smartlink:shadow-stream:s").number(), 10);
    site.begin_drain();
    site.await_end();
    assert_eq!(books(&redis, "s").get("delivered"), Some(&20));
    std::thread::sleep(Duration::from_millis(10));
    assert_eq!(counter(&redis, "counted"), 10);
}

#[test]
fn a_mirror_shows_a_model_its_key_and_is_told_on_the_gateways_page() {
    let redis = Redis::start();
    let (base, candidate) = (version(r#"{"data":["x"]}"#), version(r#"{"data":["y"]}"#));
    configure(&redis, &base.url("/"), &candidate.url("/"));
    let judge = Upstream::start(|connection| {
        while connection.read_request().is_some() {
            let said = r#"{"choices":[{"message":{"content":"{\"winner\": \"tie\"}"}}]}"#;
            connection.send(json(said));
        }
    });
    let scorer = format!("llm:m@{}", judge.url("/v1"));
    redis.call(&["HSET", "smartlink:shadow:s", "scorer", &scorer]);
    let mut options = site::options(&redis);
    options.secrets = |name| (name == "SMARTLINK_SCORER_KEY").then(|| "sk-1".to_owned());
    let site = Site::start_with(options);
    await_applied(&redis, &site);
    assert!(
        !site
            .ask_admin("/metrics")
            .contains("smartlink_shadow_worker")
    );
    ask_often(&site, 5);
    eventually("all are scored", || {
        (counter(&redis, "score.+0.0") == 5).then_some(())
    });
    let judged = judge.seen();
    assert_eq!(judged[0].head.value("authorization"), Some("Bearer sk-1"));
    let page = eventually("the mirror is told", || {
        let page = site.ask_admin("/metrics");
        let told = r#"smartlink_shadow_worker_scores_total{service="s",candidate="candidate",result="scored"} 5"#;
        page.contains(told).then_some(page)
    });
    for metric in WORKER {
        let described = format!("# TYPE {} ", metric.name);
        assert!(page.contains(&described), "{described}");
    }
}
