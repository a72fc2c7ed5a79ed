//! Who serves a request: exact shares between versions, and the next endpoint where one refuses.

use std::sync::atomic::Ordering;

use crate::support::load::{Caller, Load, get, named, serving};
use crate::support::port::Port;
use crate::support::redis::Redis;
use crate::support::site::{Site, await_proof};

#[test]
fn each_version_is_within_two_of_its_share_of_the_first_n_requests_over_four_threads() {
    let redis = Redis::start();
    let (one, base) = serving("one");
    let (two, candidate) = serving("two");
    redis.run(&format!(
        "HSET smartlink:endpoints:a {} base {} candidate",
        one.url("/"),
        two.url("/")
    ));
    redis.run("HSET smartlink:weights:a base 90 candidate 10");
    let site = Site::start(&redis);
    await_proof(&redis);
    let mut callers: Vec<Caller> = (0..4)
        .map(|_| Caller::connect(site.address).expect("it accepts"))
        .collect();
    let request = named("a");
    for round in 0..100 {
        std::thread::scope(|scope| {
            for (at, caller) in callers.iter_mut().enumerate() {
                let request = &request;
                scope.spawn(move || {
                    for _ in 0..(round * 7 + at * 5) % 13 {
                        assert_eq!(caller.ask(request).expect("an answer").status, 200);
                    }
                });
            }
        });
        let (base, candidate) = (
            base.load(Ordering::SeqCst),
            candidate.load(Ordering::SeqCst),
        );
        // Ten times the distance from a tenth of all.
        let off = (10 * candidate).abs_diff(base + candidate);
        assert!(off <= 20, "{base} {candidate}");
        // A change of something else does not restart the count.
        if round % 10 == 0 {
            redis.run(&format!("HSET smartlink:service:a retries {}", round / 10));
            redis.run(&format!(
                "HSET smartlink:endpoints:other http://127.0.0.1:{}/ base",
                round + 1
            ));
        }
    }
    let all = base.load(Ordering::SeqCst) + candidate.load(Ordering::SeqCst);
    assert!(all > 2_000, "{all}");
}

/// A request of each kind that may meet a refusing endpoint.
fn kinds() -> Vec<Vec<u8>> {
    let long = "x".repeat(200_000);
    let body = format!(r#"{{"server_name": "a", "data": "{long}"}}"#);
    let head = format!(
        "POST /ai_server/ HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let chunk = format!("{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
    vec![
        named("a"),
        get("/r/x"),
        format!("{head}{body}").into(),
        b"POST /r/x HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nbody".to_vec(),
        format!("POST /r/x HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n{chunk}")
            .into(),
    ]
}

#[test]
fn a_refusing_endpoint_beside_a_live_one_costs_no_request() {
    let dead = [Port::reserve(), Port::reserve()];
    let redis = Redis::start();
    let (live, hits) = serving("live");
    redis.run(&format!(
        "HSET smartlink:endpoints:a {} base {} base {} base",
        live.url("/"),
        dead[0].url(),
        dead[1].url(),
    ));
    redis.run("HSET smartlink:route:r service a path /r/");
    let site = Site::start(&redis);
    site.await_answer(&named("a"), |answer| answer.status == 200);
    let before = hits.load(Ordering::SeqCst);
    let load = Load::start(site.address, kinds(), |answer| {
        (answer.body == "live").then_some(()).ok_or(String::new())
    });
    load.await_more(500);
    let tally = load.expect_all_good();
    assert_eq!(hits.load(Ordering::SeqCst) - before, tally.requests);
}

#[test]
fn a_version_whose_endpoints_refuse_hands_its_requests_to_the_other() {
    let dead = Port::reserve();
    let redis = Redis::start();
    let (live, _) = serving("live");
    redis.run(&format!(
        "HSET smartlink:endpoints:a {} base {} candidate",
        live.url("/"),
        dead.url()
    ));
    redis.run("HSET smartlink:weights:a base 1 candidate 1");
    let site = Site::start(&redis);
    await_proof(&redis);
    let load = Load::start(site.address, vec![named("a"); 2], |answer| {
        let by = (answer.body.as_str(), answer.header("x-smartlink-version"));
        (by == ("live", "base")).then_some(()).ok_or(String::new())
    });
    load.await_more(200);
    load.expect_all_good();
}
