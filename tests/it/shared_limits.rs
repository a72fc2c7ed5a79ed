//! `rate_scope shared`: what gateways let in together, and what they do without Redis or without each
//! other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::support::load::{self, Caller};
use super::support::redis::Redis;
use super::support::site::{self, Site};
use super::support::upstream::Upstream;
use super::support::{PATIENCE, eventually};

/// Callers that ask without pause, and how many of their requests were let in.
struct Flood {
    stop: Arc<AtomicBool>,
    fine: Arc<AtomicUsize>,
    slowest: Vec<JoinHandle<Duration>>,
    begun: Instant,
}

impl Flood {
    fn start(sites: &[&Site], lines: &str) -> Self {
        let (stop, fine): (Arc<AtomicBool>, Arc<AtomicUsize>) = Default::default();
        let body = r#"{"server_name": "s"}"#;
        let request = format!(
            "POST /ai_server/ HTTP/1.1\r\nhost: h\r\n{lines}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let callers = sites.iter().flat_map(|site| [site.address; 2]);
        let slowest = callers.map(|address| {
            let (stop, fine, request) = (Arc::clone(&stop), Arc::clone(&fine), request.clone());
            std::thread::spawn(move || {
                let mut caller = Caller::connect(address).expect("it accepts");
                let mut slowest = Duration::ZERO;
                while !stop.load(Ordering::Relaxed) {
                    let begin = Instant::now();
                    match caller.ask(request.as_bytes()).expect("an answer").status {
                        200 => drop(fine.fetch_add(1, Ordering::Relaxed)),
                        429 => std::thread::sleep(Duration::from_millis(2)),
                        other => panic!("{other}"),
                    }
                    slowest = slowest.max(begin.elapsed());
                }
                slowest
            })
        });
        Self {
            slowest: slowest.collect(),
            stop,
            fine,
            begun: Instant::now(),
        }
    }

    fn fine(&self) -> usize {
        self.fine.load(Ordering::Relaxed)
    }

    /// How many were let in, in how many seconds, and the longest wait for an answer.
    fn end(self) -> (usize, f64, Duration) {
        let (fine, seconds) = (self.fine(), self.begun.elapsed().as_secs_f64());
        self.stop.store(true, Ordering::Relaxed);
        let slowest = self
            .slowest
            .into_iter()
            .map(|thread| thread.join().expect("no panic"));
        (fine, seconds, slowest.max().unwrap_or_default())
    }
}

/// A gateway of that name.
fn site(redis: &Redis, name: &str) -> Site {
    let mut options = site::options(redis);
    name.clone_into(&mut options.store.instance);
    Site::start_with(options)
}

/// Redis with a service `s` whose rate is shared.
fn redis(upstream: &Upstream, settings: &str) -> Redis {
    let redis = Redis::start();
    redis.call(&["HSET", "smartlink:endpoints:s", &upstream.url("/"), "base"]);
    redis.run(&format!(
        "HSET smartlink:service:s rate_scope shared {settings}"
    ));
    redis
}

/// Waits until so many gateways are known.
#[track_caller]
fn await_fleet(redis: &Redis, count: i64) {
    eventually("the fleet is known", || {
        let known = redis.run("ZCARD smartlink:internal:fleet").number();
        (known == count).then_some(())
    });
    // Each hears of the others with its next life sign.
    std::thread::sleep(Duration::from_millis(600));
}

/// Whether so many requests are what was let in at this rate: what came at once at first is no more
/// than `burst`, and a busy machine may be late.
#[track_caller]
fn assert_rate(fine: usize, seconds: f64, rate: f64, burst: f64) {
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let (fine, most) = (fine as f64, rate * seconds * 1.03 + burst);
    let least = rate * seconds * 0.9;
    eprintln!(
        "{fine} in {seconds:.2} s at {rate}/s: {:.1} %",
        100.0 * fine / (rate * seconds)
    );
    assert!(
        (least..=most).contains(&fine),
        "{fine} of {least} to {most}"
    );
}

#[test]
fn two_gateways_let_in_together_what_one_would() {
    let upstream = Upstream::saying("ok");
    let redis = redis(&upstream, "rate 100/s burst 10");
    let (one, two) = (site(&redis, "one"), site(&redis, "two"));
    await_fleet(&redis, 2);
    let flood = Flood::start(&[&one, &two], "");
    eventually("they were busy for a while", || {
        (flood.fine() >= 600).then_some(())
    });
    let (fine, seconds, slowest) = flood.end();
    assert_rate(fine, seconds, 100.0, 12.0);
    assert!(slowest < PATIENCE);
}

#[test]
fn a_gateway_that_gets_all_requests_gets_all_of_the_quota_also_by_key() {
    let upstream = Upstream::saying("ok");
    let redis = redis(&upstream, "rate 60/s burst 6 rate_by header:x-user");
    let (one, two) = (site(&redis, "one"), site(&redis, "two"));
    await_fleet(&redis, 2);
    let flood = Flood::start(&[&one], "x-user: ann\r\n");
    let other = Flood::start(&[&two], "x-user: joe\r\n");
    for flood in [&flood, &other] {
        eventually("it was busy for a while", || {
            (flood.fine() >= 300).then_some(())
        });
    }
    let keys = redis.run("KEYS smartlink:*").texts().concat();
    assert!(keys.contains(":quota:s:"), "{keys}");
    assert!(!keys.contains("ann") && !keys.contains("joe"), "{keys}");
    for flood in [flood, other] {
        let (fine, seconds, _) = flood.end();
        assert_rate(fine, seconds, 60.0, 8.0);
    }
}

#[test]
fn a_gateway_that_is_gone_leaves_its_share_to_the_others() {
    let upstream = Upstream::saying("ok");
    let redis = redis(&upstream, "rate 100/s burst 10");
    let one = site(&redis, "one");
    // What a gateway leaves that was killed: its lease, which nobody gives back.
    let time = redis.run("TIME").texts();
    let now_s: u64 = time
        .first()
        .and_then(|text| text.parse().ok())
        .expect("a time");
    let lease = format!("9999999 1048576 {}", (now_s + 3) * 1_000);
    redis.call(&["HSET", "smartlink:internal:quota:s", "gone", &lease]);
    let flood = Flood::start(&[&one], "");
    eventually("it has all", || {
        let shares = redis.hash("smartlink:internal:quota:s");
        let share = shares.iter().find(|(who, _)| who.ends_with(":one"))?.1;
        (share.split(' ').nth(1)? == "1048576").then_some(())
    });
    let (before, at) = (flood.fine(), Instant::now());
    eventually("it goes on", || {
        (flood.fine() >= before + 200).then_some(())
    });
    let (after, seconds) = (flood.fine(), at.elapsed().as_secs_f64());
    assert_rate(after - before, seconds, 100.0, 12.0);
    flood.end();
}

#[test]
fn without_redis_each_gateway_holds_its_part_and_nobody_waits() {
    let upstream = Upstream::saying("ok");
    for kill in [false, true] {
        let mut redis = redis(&upstream, "rate 100/s burst 10");
        let (one, two) = (site(&redis, "one"), site(&redis, "two"));
        await_fleet(&redis, 2);
        let flood = Flood::start(&[&one], "");
        eventually("it is busy", || (flood.fine() >= 50).then_some(()));
        if kill {
            redis.kill();
        } else {
            redis.freeze();
        }
        // The lease that it had has lapsed by then.
        std::thread::sleep(Duration::from_millis(1_500));
        let (before, at) = (flood.fine(), Instant::now());
        eventually("it goes on", || {
            (flood.fine() >= before + 100).then_some(())
        });
        let (after, seconds) = (flood.fine(), at.elapsed().as_secs_f64());
        assert_rate(after - before, seconds, 50.0, 12.0);
        let (_, _, slowest) = flood.end();
        assert!(slowest < PATIENCE);
        assert_eq!(two.ask(&load::named("s")).status, 200);
        if !kill {
            redis.thaw();
        }
    }
}
