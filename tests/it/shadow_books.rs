//! The books about shadow records balance in every read, and requests never feel the sink: whatever
//! becomes of Redis, or of the gateway.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::load::{Caller, named, serving};
use crate::support::port::Port;
use crate::support::process::Process;
use crate::support::redis::Redis;
use crate::support::shadow::{await_applied, await_book, await_records, books, records};
use crate::support::site::{self, Site};
use crate::support::{PATIENCE, eventually, secs};

/// More than the queue holds.
const MANY: usize = 5_000;

/// So many answers of 200 over a kept connection.
#[track_caller]
fn ask_often(address: SocketAddr, request: &[u8], count: usize) {
    let mut caller = Caller::connect(address).expect("it accepts");
    for _ in 0..count {
        assert_eq!(caller.ask(request).expect("an answer").status, 200);
    }
}

/// A gateway whose records go to the second Redis.
fn apart(config: &Redis, shadow: &Redis) -> Site {
    let mut options = site::options(config);
    options.shadow = site::options(shadow).store;
    Site::start_with(options)
}

/// Service `s` behind that URL, with a shadow.
fn configure(redis: &Redis, url: &str) {
    redis.run(&format!("HSET smartlink:endpoints:s {url} base"));
    redis.run("HSET smartlink:shadow:s sample 100%");
}

#[test]
fn requests_do_not_feel_a_sink_that_is_frozen() {
    let (config, sink) = (Redis::start(), Redis::start());
    let (upstream, _) = serving("fine");
    configure(&config, &upstream.url("/"));
    let site = apart(&config, &sink);
    await_applied(&config, &site);
    ask_often(site.address, &named("s"), 1);
    await_records(&sink, "s", 1);
    sink.freeze();
    ask_often(site.address, &named("s"), MANY);
    sink.thaw();
    let all = u64::try_from(MANY).expect("few") + 1;
    let books = await_book(&sink, "s", "sampled", all);
    assert!(books.get("dropped_queue") > Some(&0), "{books:?}");
    assert!(books.get("delivered") >= Some(&4_000), "{books:?}");
    let told = eventually("it is told", || {
        let events = config.run("XRANGE smartlink:events - +").texts();
        let told = events
            .iter()
            .filter(|word| *word == "shadow_dropped")
            .count();
        (told > 0).then_some(told)
    });
    assert_eq!(told, 1, "one episode is one event");
}

#[test]
fn requests_do_not_feel_a_sink_that_is_not_there() {
    let (config, mut sink) = (Redis::start(), Redis::start());
    let (upstream, _) = serving("fine");
    configure(&config, &upstream.url("/"));
    sink.kill();
    let site = apart(&config, &sink);
    await_applied(&config, &site);
    ask_often(site.address, &named("s"), MANY);
    sink.restart();
    let books = await_book(&sink, "s", "sampled", u64::try_from(MANY).expect("few"));
    assert_eq!(books.get("delivered"), Some(&4_096), "{books:?}");
    let sequences: Vec<u64> = records(&sink, "s").iter().map(|it| it.sequence).collect();
    assert!(sequences.into_iter().eq(1..=4_096), "without holes");
}

#[test]
fn requests_do_not_feel_a_sink_that_is_full() {
    let (config, sink) = (Redis::start(), Redis::start());
    let (upstream, _) = serving("fine");
    configure(&config, &upstream.url("/"));
    let site = apart(&config, &sink);
    await_applied(&config, &site);
    ask_often(site.address, &named("s"), 1);
    await_records(&sink, "s", 1);
    sink.run("CONFIG SET maxmemory-policy noeviction");
    sink.run("CONFIG SET maxmemory 1");
    ask_often(site.address, &named("s"), MANY);
    assert_eq!(books(&sink, "s").get("sampled"), Some(&1));
    sink.run("CONFIG SET maxmemory 0");
    let all = u64::try_from(MANY).expect("few") + 1;
    let books = await_book(&sink, "s", "sampled", all);
    let delivered = books.get("delivered").copied().expect("some");
    let held = u64::try_from(records(&sink, "s").len()).expect("few");
    assert_eq!(delivered, held);
}

#[test]
fn memory_is_bounded_with_a_sink_that_is_not_there() {
    memory_is_bounded(Redis::kill, Redis::restart);
}

#[test]
fn memory_is_bounded_with_a_sink_that_is_frozen() {
    memory_is_bounded(|sink| sink.freeze(), |sink| sink.thaw());
}

#[track_caller]
fn memory_is_bounded(breaks: fn(&mut Redis), mends: fn(&mut Redis)) {
    let (config, mut sink) = (Redis::start(), Redis::start());
    let (upstream, _) = serving(&"x".repeat(64 << 10));
    config.run(&format!(
        "HSET smartlink:endpoints:s {} base",
        upstream.url("/")
    ));
    let port = Port::reserve();
    let gateway = Process::start_with(&config, "g", |command| {
        command
            .args(["--listen", &port.address().to_string()])
            .args(["--shadow-redis", &sink.url()])
    });
    eventually("it serves", || {
        let mut caller = Caller::connect(port.address()).ok()?;
        (caller.ask(&named("s")).ok()?.status == 200).then_some(())
    });
    breaks(&mut sink);
    ask_often(port.address(), &named("s"), 500);
    let off = gateway.resident();
    config.run("HSET smartlink:shadow:s sample 100%");
    std::thread::sleep(Duration::from_millis(500));
    ask_often(port.address(), &named("s"), 3_000);
    let on = gateway.resident();
    mends(&mut sink);
    let books = eventually("it is told", || {
        let books = books(&sink, "s");
        (books.get("dropped_memory") > Some(&0)).then_some(books)
    });
    assert!(on <= off + (96 << 20), "{off} to {on} bytes: {books:?}");
}

#[test]
fn a_key_that_is_no_stream_costs_its_own_records_only() {
    let redis = Redis::start();
    let (upstream, _) = serving("fine");
    configure(&redis, &upstream.url("/"));
    redis.run(&format!(
        "HSET smartlink:endpoints:t {} base",
        upstream.url("/")
    ));
    redis.run("HSET smartlink:shadow:t sample 100%");
    redis.run("SET smartlink:shadow-stream:t text");
    redis.run("SET smartlink:shadow-counts:t text");
    let site = Site::start(&redis);
    await_applied(&redis, &site);
    for service in ["s", "t", "s"] {
        ask_often(site.address, &named(service), 1);
    }
    await_records(&redis, "s", 2);
    await_book(&redis, "t", "dropped_sink", 1);
    let page = eventually("it is told", || {
        let page = site.ask_admin("/metrics");
        let line = r#"smartlink_shadow_records_total{service="t",fate="dropped_sink"} 1"#;
        page.contains(line).then_some(page)
    });
    let line = r#"smartlink_shadow_records_total{service="s",fate="delivered"} 2"#;
    assert!(page.contains(line), "{page}");
}

#[test]
fn what_is_too_old_is_dropped_and_told() {
    let (config, mut sink) = (Redis::start(), Redis::start());
    let (upstream, _) = serving("fine");
    configure(&config, &upstream.url("/"));
    config.run("HSET smartlink:shadow:s max_age 100ms");
    sink.kill();
    let site = apart(&config, &sink);
    await_applied(&config, &site);
    ask_often(site.address, &named("s"), 10);
    std::thread::sleep(Duration::from_millis(200));
    sink.restart();
    await_book(&sink, "s", "dropped_age", 10);
}

#[test]
fn a_stream_keeps_to_its_length_and_to_its_bytes() {
    let redis = Redis::start();
    let (upstream, _) = serving(&"x".repeat(10_000));
    configure(&redis, &upstream.url("/"));
    redis.run("HSET smartlink:shadow:s max_bytes 1MiB");
    let site = Site::start(&redis);
    await_applied(&redis, &site);
    ask_often(site.address, &named("s"), 1_000);
    await_book(&redis, "s", "delivered", 1_000);
    let memory = redis
        .run("MEMORY USAGE smartlink:shadow-stream:s SAMPLES 0")
        .number();
    assert!((500_000..1_400_000).contains(&memory), "{memory} bytes");
    redis.run("HSET smartlink:shadow:s maxlen 10");
    await_applied(&redis, &site);
    ask_often(site.address, &named("s"), 100);
    await_book(&redis, "s", "delivered", 1_100);
    assert!(redis.run("XLEN smartlink:shadow-stream:s").number() <= 20);
}

#[test]
fn the_last_records_are_shipped_when_the_gateway_stops() {
    let redis = Redis::start();
    let (upstream, _) = serving("fine");
    configure(&redis, &upstream.url("/"));
    let mut site = Site::start(&redis);
    await_applied(&redis, &site);
    ask_often(site.address, &named("s"), 300);
    site.begin_drain();
    site.await_end();
    assert_eq!(books(&redis, "s").get("delivered"), Some(&300));
    assert_eq!(records(&redis, "s").len(), 300);
}

/// Asks without end, and counts what was answered.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(address: Arc<Mutex<SocketAddr>>) -> Self {
        let (stop, answered): (Arc<AtomicBool>, Arc<AtomicUsize>) = Default::default();
        let (over, count) = (Arc::clone(&stop), Arc::clone(&answered));
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::SeqCst) {
                let here = *address.lock().expect("no panic");
                let Ok(mut caller) = Caller::connect(here) else {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                };
                while !over.load(Ordering::SeqCst)
                    && caller
                        .ask(&named("s"))
                        .is_ok_and(|answer| answer.status == 200)
                {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Self {
            stop,
            answered,
            thread: Some(thread),
        }
    }

    fn await_more(&self, count: usize) {
        let wanted = self.answered.load(Ordering::SeqCst) + count;
        let end = std::time::Instant::now() + PATIENCE * 4;
        while self.answered.load(Ordering::SeqCst) < wanted {
            assert!(std::time::Instant::now() < end, "it goes on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A test that fails already must not hide why.
            let _ended = thread.join();
        }
    }
}

#[test]
fn books_balance_through_restarts_of_redis_and_the_death_of_a_gateway() {
    let config = Redis::start();
    let mut sink = Redis::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let (upstream, _) = serving("fine");
    configure(&config, &upstream.url("/"));
    config.run("HSET smartlink:shadow:s maxlen 10000000 max_bytes 10GiB");
    let ports = [Port::reserve(), Port::reserve()];
    let start = |port: &Port, name| {
        Process::start_with(&config, name, |command| {
            command
                .args(["--listen", &port.address().to_string()])
                .args(["--shadow-redis", &sink.url()])
        })
    };
    let address = Arc::new(Mutex::new(ports[0].address()));
    let mut first = start(&ports[0], "one");
    let load = Load::start(Arc::clone(&address));
    load.await_more(3_000);
    await_delivered(&sink, 1_000);
    let second = start(&ports[1], "two");
    for _ in 0..2 {
        sink.kill();
        load.await_more(1_000);
        sink.restart();
        load.await_more(3_000);
        books(&sink, "s");
    }
    first.kill();
    *address.lock().expect("no panic") = ports[1].address();
    load.await_more(5_000);
    drop(load);
    let books = eventually("all is told", || {
        let now = books(&sink, "s");
        std::thread::sleep(secs(1));
        (now == books(&sink, "s")).then_some(now)
    });
    let records = records(&sink, "s");
    let delivered = u64::try_from(records.len()).expect("few");
    assert_eq!(books.get("delivered"), Some(&delivered), "{books:?}");
    // Each life counts its own records without holes.
    let mut lives: BTreeMap<(String, u64), Vec<u64>> = BTreeMap::new();
    for record in records {
        lives
            .entry((record.gateway, record.epoch))
            .or_default()
            .push(record.sequence);
    }
    assert_eq!(lives.len(), 2);
    for sequences in lives.into_values() {
        let all = 1..=u64::try_from(sequences.len()).expect("few");
        assert!(sequences.into_iter().eq(all), "without holes, in order");
    }
    drop(second);
}

#[track_caller]
fn await_delivered(redis: &Redis, least: u64) {
    eventually("records are delivered", || {
        (books(redis, "s").get("delivered") >= Some(&least)).then_some(())
    });
}
