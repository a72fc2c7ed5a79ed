//! Endpoints go down and come back, are ejected and return; who is told, and what Redis shows.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use smartlink::model::live::{Health, State};

use super::support::control::Plane;
use super::support::load::{Answer, named};
use super::support::port::Port;
use super::support::process::Process;
use super::support::redis::Redis;
use super::support::secure::{Authority, Server};
use super::support::site::{Site, await_proof};
use super::support::upstream::Upstream;
use super::support::{eventually, secs};

/// What `smartlink:health:s` says of an endpoint.
fn shown(redis: &Redis, url: &str) -> Option<serde_json::Value> {
    let hash = redis.hash("smartlink:health:s");
    Some(serde_json::from_str(hash.get(url)?).expect("JSON"))
}

#[track_caller]
fn await_state(redis: &Redis, url: &str, state: &str) -> serde_json::Value {
    eventually(&format!("{url} is {state}"), || {
        shown(redis, url).filter(|entry| entry["state"] == state)
    })
}

/// The events about an endpoint, oldest first.
fn events(redis: &Redis, url: &str) -> Vec<BTreeMap<String, String>> {
    let super::support::redis::Reply::Many(entries) = redis.run("XRANGE smartlink:events - +")
    else {
        panic!("no stream");
    };
    let fields = entries.into_iter().map(|entry| {
        let texts = entry.texts();
        let pairs = texts.get(1..).unwrap_or_default().chunks_exact(2);
        pairs
            .filter_map(|pair| Some((pair.first()?.clone(), pair.last()?.clone())))
            .collect()
    });
    let fields: Vec<BTreeMap<_, _>> = fields.collect();
    let about = fields.into_iter();
    about
        .filter(|it| it.get("endpoint").is_some_and(|its| its == url))
        .collect()
}

fn kinds(redis: &Redis, url: &str) -> Vec<String> {
    events(redis, url)
        .iter()
        .map(|event| event["kind"].clone())
        .collect()
}

#[track_caller]
fn await_kinds(redis: &Redis, url: &str, wanted: &[&str]) {
    let mut last = Vec::new();
    let end = std::time::Instant::now() + secs(15);
    while last != wanted {
        assert!(
            std::time::Instant::now() < end,
            "want {wanted:?}, got {last:?}"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
        last = kinds(redis, url);
    }
}

/// An upstream whose status can be changed; counts requests.
struct Moody {
    upstream: Upstream,
    status: Arc<AtomicU16>,
    hits: Arc<AtomicUsize>,
}

impl Moody {
    fn start(status: u16) -> Self {
        let status = Arc::new(AtomicU16::new(status));
        let hits: Arc<AtomicUsize> = Arc::default();
        let (mood, count) = (Arc::clone(&status), Arc::clone(&hits));
        let upstream = Upstream::start(move |connection| {
            while connection.read_request().is_some() {
                count.fetch_add(1, Ordering::SeqCst);
                let status = mood.load(Ordering::SeqCst);
                connection.send(format!(
                    "HTTP/1.1 {status} x\r\ncontent-length: 2\r\n\r\nhi"
                ));
            }
        });
        Self {
            upstream,
            status,
            hits,
        }
    }

    fn url(&self) -> String {
        self.upstream.url("/")
    }

    fn turn(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }
}

/// A gateway for service `s` with these endpoints and settings.
fn site(redis: &Redis, urls: &[&str], settings: &[(&str, &str)]) -> Site {
    write(redis, urls, settings);
    let site = Site::start(redis);
    await_proof(redis);
    site
}

fn write(redis: &Redis, urls: &[&str], settings: &[(&str, &str)]) {
    for url in urls {
        redis.call(&["HSET", "smartlink:endpoints:s", url, "base"]);
    }
    for (name, value) in settings {
        redis.call(&["HSET", "smartlink:service:s", name, value]);
    }
}

fn ask(site: &Site) -> Answer {
    site.ask(&named("s"))
}

#[test]
fn an_endpoint_that_cannot_be_reached_goes_down_and_comes_back_and_everybody_is_told() {
    let redis = Redis::start();
    let well = Moody::start(200);
    let port = Port::reserve();
    let url = port.url();
    let site = site(&redis, &[&url, &well.url()], &[("balance", "round_robin")]);
    for _ in 0..6 {
        assert_eq!(ask(&site).status, 200);
    }
    let entry = await_state(&redis, &url, "down");
    assert_eq!(entry["gateways"]["here"], "down");
    assert!(
        entry["why"]
            .as_str()
            .is_some_and(|why| why.contains("refused")),
        "{entry}"
    );
    let now = now_ms();
    let since = entry["since_ms"].as_u64().expect("a number");
    assert!(
        since <= now && since + 60_000 > now,
        "{since} is wall clock, now {now}"
    );
    assert_eq!(
        await_state(&redis, &well.url(), "up")["gateways"]["here"],
        "up"
    );
    await_kinds(&redis, &url, &["endpoint_down"]);

    let _listener = port.listen();
    let entry = await_state(&redis, &url, "up");
    assert!(entry["since_ms"].as_u64() >= Some(since));
    await_kinds(&redis, &url, &["endpoint_down", "endpoint_up"]);
    for event in events(&redis, &url) {
        let about = ["service", "version", "gateway"].map(|field| event[field].as_str());
        assert_eq!(about, ["s", "base", "here"]);
        assert!(
            !event["why"].is_empty() && event["revision"] != "0",
            "{event:?}"
        );
        assert!(event["at_ms"].parse::<u64>().expect("a number") >= since);
    }
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.expect("after 1970").as_millis()).expect("small")
}

#[test]
fn one_that_fails_in_a_row_is_ejected_returns_on_probation_and_stays_longer_away_each_time() {
    let redis = Redis::start();
    let (bad, good) = (Moody::start(500), Moody::start(200));
    let settings = [
        ("eject_5xx", "3"),
        ("eject_time", "1s"),
        ("balance", "round_robin"),
    ];
    let site = site(&redis, &[&bad.url(), &good.url()], &settings);
    // Asked all the while: what returns is tried at once, before anything is forgiven.
    let until_ejected = |times: usize| {
        eventually("it is ejected", || {
            ask(&site);
            let kinds = kinds(&redis, &bad.url());
            let ejected = kinds.iter().filter(|kind| *kind == "endpoint_ejected");
            (ejected.count() >= times).then_some(())
        });
        bad.hits()
    };
    let before = until_ejected(1);
    let after = until_ejected(2);
    assert_eq!(after, before + 1, "one failure is enough on probation");
    let why = events(&redis, &bad.url()).last().expect("an event")["why"].clone();
    assert!(why.ends_with("for 2s"), "{why}");
    bad.turn(200);
    let twice = ["endpoint_ejected", "endpoint_up"].repeat(2);
    await_kinds(&redis, &bad.url(), &twice);
    for _ in 0..4 {
        assert_eq!(ask(&site).status, 200);
    }
    bad.turn(500);
    let before = bad.hits();
    assert!(
        until_ejected(3) >= before + 3,
        "an answer ends the probation"
    );
}

#[test]
fn the_last_one_is_never_ejected_in_pools_of_one_two_and_three() {
    for size in 1..=3_usize {
        let redis = Redis::start();
        let all: Vec<_> = (0..size).map(|_| Moody::start(500)).collect();
        let urls: Vec<_> = all.iter().map(Moody::url).collect();
        let urls: Vec<_> = urls.iter().map(String::as_str).collect();
        let site = site(&redis, &urls, &[("eject_5xx", "2"), ("eject_time", "1m")]);
        let ejected = || {
            let hash = redis.hash("smartlink:health:s");
            hash.values()
                .filter(|json| json.contains(r#""state":"ejected""#))
                .count()
        };
        eventually("all but one are ejected", || {
            assert_eq!(ask(&site).status, 500);
            (ejected() == size - 1).then_some(())
        });
        for _ in 0..10 {
            assert_eq!(ask(&site).status, 500, "somebody answers");
        }
        assert_eq!(ejected(), size - 1);
    }
}

#[test]
fn ejected_ones_come_back_at_once_when_the_last_one_goes_down() {
    let redis = Redis::start();
    let bad = Moody::start(500);
    let port = Port::reserve();
    let url = port.url();
    let good = serve(&port);
    let settings = [("eject_5xx", "1"), ("eject_time", "5m")];
    let site = site(&redis, &[&bad.url(), &url], &settings);
    eventually("the bad one is ejected", || {
        ask(&site);
        shown(&redis, &bad.url()).filter(|entry| entry["state"] == "ejected")
    });
    drop(good);
    eventually("the good one goes down", || {
        ask(&site);
        shown(&redis, &url).filter(|entry| entry["state"] == "down")
    });
    let entry = await_state(&redis, &bad.url(), "up");
    assert_eq!(entry["why"], "nobody else of its version is up");
}

/// Answers one request a connection for as long as what it returns is held.
fn serve(port: &Port) -> impl Drop + use<> {
    struct Stop(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);
    impl Drop for Stop {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
            self.1.take().expect("once").join().expect("no panic");
        }
    }
    let listener = port.listen();
    listener.set_nonblocking(true).expect("a socket");
    let stop: Arc<AtomicBool> = Arc::default();
    let stopped = Arc::clone(&stop);
    let thread = std::thread::spawn(move || {
        while !stopped.load(Ordering::SeqCst) {
            let Ok((mut stream, _)) = listener.accept() else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            stream.set_nonblocking(false).expect("a socket");
            stream.set_read_timeout(Some(secs(1))).expect("a socket");
            // Somebody who only probes leaves without a word.
            let _asked = stream.read(&mut [0; 4096]);
            let _left = stream
                .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        }
    });
    Stop(stop, Some(thread))
}

#[test]
fn an_http_check_takes_down_what_answers_badly_and_brings_it_back_after_rise() {
    let redis = Redis::start();
    let one = Moody::start(200);
    let settings = [
        ("health", "http:/alive?x=1"),
        ("health_interval", "50ms"),
        ("fall", "2"),
        ("rise", "3"),
    ];
    let _site = site(&redis, &[&one.url()], &settings);
    eventually("it is checked", || (one.hits() >= 2).then_some(()));
    let seen = one.upstream.seen().remove(0);
    assert_eq!(seen.head.start, "GET /alive?x=1 HTTP/1.1");
    assert_eq!(seen.head.value("host"), Some(&*one.upstream.authority()));
    one.turn(503);
    let entry = await_state(&redis, &one.url(), "down");
    assert!(
        entry["why"].as_str().is_some_and(|why| why.contains("503")),
        "{entry}"
    );
    one.turn(302);
    await_state(&redis, &one.url(), "up");
    await_kinds(&redis, &one.url(), &["endpoint_down", "endpoint_up"]);
}

#[test]
fn a_tcp_check_takes_down_what_nobody_asked() {
    let redis = Redis::start();
    let port = Port::reserve();
    let url = port.url();
    let listener = port.listen();
    let _site = site(
        &redis,
        &[&url],
        &[("health", "tcp"), ("health_interval", "50ms")],
    );
    await_state(&redis, &url, "up");
    drop(listener);
    await_state(&redis, &url, "down");
    let _listener = port.listen();
    await_state(&redis, &url, "up");
}

#[test]
fn a_check_is_left_out_while_requests_prove_health() {
    let redis = Redis::start();
    let one = Moody::start(200);
    let settings = [("health", "http:/alive"), ("health_interval", "2s")];
    let site = site(&redis, &[&one.url()], &settings);
    let checks = || {
        let seen = one.upstream.seen();
        seen.iter()
            .filter(|seen| seen.head.start.contains("/alive"))
            .count()
    };
    eventually("the first check", || (checks() > 0).then_some(()));
    let end = std::time::Instant::now() + secs(5);
    let mut slowest = std::time::Duration::ZERO;
    let before = checks();
    while std::time::Instant::now() < end {
        let began = std::time::Instant::now();
        assert_eq!(ask(&site).status, 200);
        std::thread::sleep(std::time::Duration::from_millis(20));
        slowest = slowest.max(began.elapsed());
    }
    // On a machine that stops for so long nothing is proven.
    if slowest < secs(1) {
        assert_eq!(checks(), before, "requests prove it");
    }
    eventually("checks go on", || (checks() > before).then_some(()));
}

#[test]
fn settings_hold_at_once_and_who_leaves_is_forgotten() {
    let redis = Redis::start();
    let one = Moody::start(500);
    let well = Moody::start(200);
    let settings = [("health", "http:/alive"), ("health_interval", "50ms")];
    let _site = site(&redis, &[&one.url(), &well.url()], &settings);
    await_state(&redis, &one.url(), "down");
    redis.run("HSET smartlink:service:s health passive");
    await_state(&redis, &one.url(), "up");
    let url = one.url();
    redis.call(&["HSET", "smartlink:endpoints:s", &url, "base drain"]);
    await_state(&redis, &url, "drain");
    redis.call(&["HDEL", "smartlink:endpoints:s", &url]);
    eventually("its entry goes", || {
        shown(&redis, &url).is_none().then_some(())
    });
    redis.run("DEL smartlink:endpoints:s smartlink:service:s");
    eventually("the hash goes", || {
        (redis.run("EXISTS smartlink:health:s").number() == 0).then_some(())
    });
    assert_eq!(redis.run("HLEN smartlink:internal:health").number(), 0);
}

#[test]
fn one_that_is_removed_while_down_and_added_again_serves() {
    let redis = Redis::start();
    let well = Moody::start(200);
    let port = Port::reserve();
    let url = port.url();
    let site = site(&redis, &[&url, &well.url()], &[("balance", "round_robin")]);
    ask(&site);
    ask(&site);
    await_state(&redis, &url, "down");
    redis.call(&["HDEL", "smartlink:endpoints:s", &url]);
    eventually("its entry goes", || {
        shown(&redis, &url).is_none().then_some(())
    });
    let _listener = port.listen();
    redis.call(&["HSET", "smartlink:endpoints:s", &url, "base"]);
    await_state(&redis, &url, "up");
    assert_eq!(kinds(&redis, &url), ["endpoint_down"]);
}

#[test]
fn an_https_endpoint_with_a_bad_certificate_stays_down_until_it_is_trusted() {
    let redis = Redis::start();
    let authority = Authority::new();
    let server = Server::tls(&authority, "localhost", &["h2", "http/1.1"]);
    let url = format!("https://localhost:{}/", server.port);
    let site = site(
        &redis,
        &[&url],
        &[("connect_timeout", "5s"), ("health_timeout", "5s")],
    );
    ask(&site);
    let entry = await_state(&redis, &url, "down");
    assert!(
        entry["why"]
            .as_str()
            .is_some_and(|why| why.contains("certificate")),
        "{entry}"
    );
    let connections = server.connections();
    eventually("it is probed", || {
        (server.connections() >= connections + 3).then_some(())
    });
    assert_eq!(kinds(&redis, &url), ["endpoint_down"], "it does not flap");
    redis.call(&["HSET", "smartlink:service:s", "tls_ca", authority.path()]);
    await_state(&redis, &url, "up");
    for http2 in ["off", "on"] {
        redis.call(&[
            "HSET",
            "smartlink:service:s",
            "http2",
            http2,
            "health",
            "http:/alive",
        ]);
        redis.call(&["HSET", "smartlink:service:s", "health_interval", "50ms"]);
        let version = if http2 == "on" {
            http::Version::HTTP_2
        } else {
            http::Version::HTTP_11
        };
        eventually("it is checked", || {
            server
                .seen()
                .iter()
                .any(|seen| seen.version == version)
                .then_some(())
        });
    }
    assert_eq!(kinds(&redis, &url), ["endpoint_down", "endpoint_up"]);
}

#[test]
fn a_flush_and_an_outage_lose_nothing() {
    let mut redis = Redis::start();
    let well = Moody::start(200);
    let port = Port::reserve();
    let url = port.url();
    let site = site(&redis, &[&url, &well.url()], &[("balance", "round_robin")]);
    ask(&site);
    ask(&site);
    await_state(&redis, &url, "down");
    redis.run("FLUSHALL");
    await_state(&redis, &url, "down");
    await_state(&redis, &well.url(), "up");
    redis.kill();
    let listener = port.listen();
    eventually("it is back, although nobody can be told", || {
        ask(&site);
        site_health(&site, &url).filter(|state| state == "up")
    });
    redis.restart();
    await_state(&redis, &url, "up");
    await_kinds(&redis, &url, &["endpoint_up"]);
    drop(listener);
}

/// What the admin port says of an endpoint's state.
fn site_health(site: &Site, url: &str) -> Option<String> {
    let endpoints = admin_health(site);
    let found = endpoints
        .as_array()?
        .iter()
        .find(|it| it["endpoint"] == url)?;
    found["state"].as_str().map(str::to_owned)
}

fn admin_health(site: &Site) -> serde_json::Value {
    let mut stream = std::net::TcpStream::connect(site.admin).expect("it accepts");
    let host = site.admin;
    let head = format!("GET /api/v1/health HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let mut health: serde_json::Value = serde_json::from_str(body).expect("JSON");
    health.get_mut("endpoints").expect("endpoints").take()
}

#[test]
fn the_admin_port_shows_what_this_gateway_holds() {
    let redis = Redis::start();
    let port = Port::reserve();
    let url = port.url();
    let site = site(&redis, &[&url], &[]);
    ask(&site);
    eventually("it is down", || {
        site_health(&site, &url).filter(|state| state == "down")
    });
    let all = admin_health(&site);
    let entry = &all[0];
    assert_eq!(
        (&entry["service"], &entry["version"]),
        (&"s".into(), &"base".into())
    );
    assert_eq!(entry["inflight"], 0);
    assert!(
        entry["since_ms"].as_u64() > Some(now_ms() - 60_000),
        "{entry}"
    );
    assert!(
        entry["why"].as_str().is_some_and(|why| !why.is_empty()),
        "{entry}"
    );
}

#[test]
fn the_worst_that_a_live_gateway_holds_is_shown_and_a_killed_one_is_forgotten() {
    let redis = Redis::start();
    let well = Moody::start(200);
    let port = Port::reserve();
    let url = port.url();
    let listener = port.listen();
    let site = site(&redis, &[&url, &well.url()], &[]);
    let there = Process::start(&redis, "there");
    let both = |state: &str| {
        eventually(&format!("both say {state}"), || {
            let entry = shown(&redis, &url)?;
            let gateways = &entry["gateways"];
            let all = gateways["here"] == state && gateways["there"] == state;
            (all && entry["state"] == state).then_some(entry)
        })
    };
    both("up");
    drop(listener);
    eventually("only we know", || {
        ask(&site);
        let entry = shown(&redis, &url)?;
        (entry["gateways"]["here"] == "down" && entry["gateways"]["there"] == "up").then_some(())
    });
    assert_eq!(await_state(&redis, &url, "down")["state"], "down");
    redis.run("HSET smartlink:service:s health tcp health_interval 100ms");
    both("down");
    drop(there);
    let entry = eventually("it is forgotten", || {
        let entry = shown(&redis, &url)?;
        entry["gateways"].get("there").is_none().then_some(entry)
    });
    assert_eq!(entry["gateways"]["here"], "down");
}

#[test]
fn what_nobody_reported_is_found() {
    let redis = Redis::start();
    let (one, two) = (Moody::start(200), Moody::start(200));
    write(&redis, &[&one.url(), &two.url()], &[("eject_time", "1s")]);
    let plane = Plane::start(&redis);
    let endpoint = |url: &str| {
        let table = plane.table();
        let service = table.services.get("s").expect("served");
        let endpoints = service.versions.iter().flat_map(|it| &it.endpoints);
        let mut found = endpoints.filter(|it| &*it.spec.url == url);
        Arc::clone(found.next().expect("it is there"))
    };
    // As if the reports of requests had found no room.
    let condition = &endpoint(&one.url()).live.condition;
    let down = Health {
        state: State::Down,
        since_ms: 1,
    };
    assert!(condition.turn(condition.health(), down));
    await_kinds(&redis, &one.url(), &["endpoint_down", "endpoint_up"]);
    let failures = &endpoint(&two.url()).live.condition.failures;
    failures.store(7, Ordering::SeqCst);
    await_kinds(&redis, &two.url(), &["endpoint_ejected", "endpoint_up"]);
    assert_eq!(failures.load(Ordering::SeqCst), 4, "on probation");
    assert_eq!(kinds(&redis, &one.url()), ["endpoint_down", "endpoint_up"]);
}

#[test]
fn an_endpoint_that_joins_or_takes_requests_again_begins_anew() {
    let redis = Redis::start();
    let (first, second) = (Moody::start(200), Moody::start(200));
    write(&redis, &[&first.url()], &[]);
    let plane = Plane::start(&redis);
    plane.await_proof();
    let since = |url: &str| {
        let table = plane.table();
        let service = table.services.get("s")?;
        let mut endpoints = service.versions.iter().flat_map(|it| &it.endpoints);
        let found = endpoints.find(|it| &*it.spec.url == url)?;
        Some(found.live.condition.health().since_ms)
    };
    assert_eq!(since(&first.url()), Some(0), "there from the start");
    write(&redis, &[&second.url()], &[]);
    let joined = eventually("it is known since when it serves", || {
        since(&second.url()).filter(|since| *since > 0)
    });
    let url = second.url();
    redis.call(&["HSET", "smartlink:endpoints:s", &url, "base drain"]);
    await_state(&redis, &url, "drain");
    redis.call(&["HSET", "smartlink:endpoints:s", &url, "base"]);
    await_state(&redis, &url, "up");
    assert!(since(&url) > Some(joined));
    assert_eq!(since(&first.url()), Some(0));
    assert_eq!(kinds(&redis, &url), [""; 0], "no turn of its health");
}
