//! `rate_scope shared`: what gateways let in together, and what they do without Redis or without each
//! other.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::support::load::{self, Caller};
use super::support::port::Port;
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
    fn start(gateways: &[SocketAddr], lines: &str) -> Self {
        let (stop, fine): (Arc<AtomicBool>, Arc<AtomicUsize>) = Default::default();
        let body = r#"{"server_name": "s"}"#;
        let request = format!(
            "POST /ai_server/ HTTP/1.1\r\nhost: h\r\n{lines}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let callers = gateways.iter().flat_map(|address| [*address; 2]);
        let slowest = callers.map(|address| {
            let (stop, fine, request) = (Arc::clone(&stop), Arc::clone(&fine), request.clone());
            std::thread::spawn(move || {
                let mut caller = Caller::connect(address).expect("it accepts");
                let mut slowest = Duration::ZERO;
                while !stop.load(Ordering::Relaxed) {
                    let begin = Instant::now();
                    // A gateway that was killed answers nobody.
                    let Ok(answer) = caller.ask(request.as_bytes()) else {
                        break;
                    };
                    match answer.status {
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
    let flood = Flood::start(&[one.address, two.address], "");
    eventually("they were busy for a while", || {
        (flood.fine() >= 1000).then_some(())
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
    let flood = Flood::start(&[one.address], "x-user: ann\r\n");
    let other = Flood::start(&[two.address], "x-user: joe\r\n");
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

/// A gateway in a process of its own, killed when dropped.
struct Process {
    child: Child,
    port: Port,
}

impl Process {
    fn start(redis: &Redis, name: &str) -> Self {
        let port = Port::reserve();
        let listen = port.address().to_string();
        let child = Command::new(env!("CARGO_BIN_EXE_smartlink"))
            .args(["serve", "--listen", &listen, "--admin", "off"])
            .args(["--redis", &redis.url(), "--instance", name])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("smartlink starts");
        let process = Self { child, port };
        eventually("it serves", || {
            let mut caller = Caller::connect(process.port.address()).ok()?;
            let answer = caller.ask(&load::named("s")).ok()?;
            matches!(answer.status, 200 | 429).then_some(())
        });
        process
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_gateway_that_is_killed_leaves_its_share_to_the_others() {
    let upstream = Upstream::saying("ok");
    let redis = redis(&upstream, "rate 100/s burst 10");
    let one = site(&redis, "one");
    let killed = Process::start(&redis, "two");
    await_fleet(&redis, 2);
    let share = |name: &str| {
        let shares = redis.hash("smartlink:internal:quota:s");
        let share = shares.iter().find(|(who, _)| who.ends_with(name))?.1;
        share.split(' ').nth(1)?.parse::<u64>().ok()
    };
    let other = Flood::start(&[killed.port.address()], "");
    let flood = Flood::start(&[one.address], "");
    eventually("both have a share", || {
        let shares = share(":one").zip(share(":two"))?;
        (shares.0 > 100_000 && shares.1 > 100_000).then_some(())
    });
    drop(killed);
    other.end();
    eventually("one has all", || (share(":one")? == 1 << 20).then_some(()));
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
        let flood = Flood::start(&[one.address], "");
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
