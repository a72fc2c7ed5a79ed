//! Endpoints that are checked actively and were ejected: they come back when they are well again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use super::support::control::Plane;
use super::support::eventually;
use super::support::redis::{Redis, Reply};
use super::support::upstream::Upstream;

/// An upstream whose `/up` answers with a status that can be changed.
struct Checked {
    upstream: Upstream,
    status: Arc<AtomicU16>,
}

fn checked() -> Checked {
    let status = Arc::new(AtomicU16::new(200));
    let now = Arc::clone(&status);
    let upstream = Upstream::start(move |connection| {
        while connection.read_request().is_some() {
            let status = now.load(Ordering::SeqCst);
            connection.send(format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n"));
        }
    });
    Checked { upstream, status }
}

/// Kind and moment of each event about an endpoint, oldest first.
fn events(redis: &Redis, url: &str) -> Vec<(String, u64)> {
    let Reply::Many(entries) = redis.run("XRANGE smartlink:events - +") else {
        panic!("no stream");
    };
    let about = entries.into_iter().filter_map(|entry| {
        let texts = entry.texts();
        let value = |field: &str| {
            let at = texts.iter().position(|text| text == field)?;
            texts.get(at + 1).cloned()
        };
        let is_ours = value("endpoint").as_deref() == Some(url);
        let at_ms = value("at_ms")?.parse().expect("a number");
        is_ours.then(|| (value("kind").expect("a kind"), at_ms))
    });
    about.collect()
}

#[track_caller]
fn await_events(redis: &Redis, url: &str, wanted: &[&str]) -> Vec<u64> {
    eventually(&format!("{wanted:?}"), || {
        let events = events(redis, url);
        let (kinds, at_ms): (Vec<String>, Vec<u64>) = events.into_iter().unzip();
        (kinds == wanted).then_some(at_ms)
    })
}

/// Service `s` of two such upstreams, of which the first was just ejected by its failures.
fn ejected(redis: &Redis, settings: &[&str]) -> (Plane, Checked, Checked) {
    let (one, two) = (checked(), checked());
    for it in [&one, &two] {
        redis.call(&[
            "HSET",
            "smartlink:endpoints:s",
            &it.upstream.url("/"),
            "base",
        ]);
    }
    let set = [
        "HSET",
        "smartlink:service:s",
        "eject_time",
        "1s",
        "health",
        "http:/up",
    ];
    redis.call(&[&set, settings].concat());
    let plane = Plane::start(redis);
    let url = one.upstream.url("/");
    let table = plane.table();
    let service = table.services.get("s").expect("served");
    let mut endpoints = service.versions.iter().flat_map(|it| &it.endpoints);
    let endpoint = endpoints.find(|it| *it.spec.url == *url).expect("there");
    endpoint.live.condition.failures.store(7, Ordering::SeqCst);
    eventually("it is ejected", || {
        let kinds = events(redis, &url);
        (kinds.len() == 1).then_some(())
    });
    (plane, one, two)
}

#[test]
fn one_that_is_well_stays_ejected_for_its_time_and_then_comes_back() {
    let redis = Redis::start();
    let (_plane, one, two) = ejected(&redis, &["health_interval", "50ms"]);
    let at = await_events(
        &redis,
        &one.upstream.url("/"),
        &["endpoint_ejected", "endpoint_up"],
    );
    let [ejected, up] = at[..] else {
        panic!("{at:?}");
    };
    assert!(up >= ejected + 1000, "its checks were good all the time");
    assert!(!one.upstream.seen().is_empty() && two.upstream.connections() > 0);
}

#[test]
fn one_whose_check_fails_when_its_time_is_over_is_down_until_it_is_well() {
    let redis = Redis::start();
    let (_plane, one, _two) = ejected(&redis, &["health_interval", "1h", "rise", "2"]);
    one.status.store(500, Ordering::SeqCst);
    let url = one.upstream.url("/");
    await_events(&redis, &url, &["endpoint_ejected", "endpoint_down"]);
    let before = one.upstream.seen().len();
    one.status.store(204, Ordering::SeqCst);
    await_events(
        &redis,
        &url,
        &["endpoint_ejected", "endpoint_down", "endpoint_up"],
    );
    assert!(
        one.upstream.seen().len() >= before + 2,
        "two good ones in a row"
    );
    let ask = |seen: &super::support::upstream::Seen| seen.head.start.clone();
    let asks: Vec<String> = one.upstream.seen().iter().map(ask).collect();
    assert!(asks.iter().all(|ask| ask == "GET /up HTTP/1.1"), "{asks:?}");
}
