//! Shadow records in Kafka: they arrive as they would in a stream, the books about them balance in
//! every read, and requests never feel the brokers.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use rdkafka::types::RDKafkaRespErr::{
    RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
};
use smartlink::shadow::Record;

use crate::support::eventually;
use crate::support::kafka::{Held, Kafka};
use crate::support::load::{Caller, named, serving};
use crate::support::port::Port;
use crate::support::process::Process;
use crate::support::redis::Redis;
use crate::support::shadow::{await_applied, await_book, books};
use crate::support::site::{self, Site};

/// Where the records of service `s` go.
const TOPIC: &str = "smartlink.shadow.s";
/// What may wait for a sink.
const ROOM: u64 = 4_096;

/// Service `s` behind that URL, with a shadow in Kafka.
fn configure(redis: &Redis, url: &str) {
    redis.run(&format!("HSET smartlink:endpoints:s {url} base"));
    redis.run("HSET smartlink:shadow:s to kafka");
}

/// A gateway that knows these brokers.
fn site(redis: &Redis, kafka: &Kafka) -> Site {
    let mut options = site::options(redis);
    options.kafka = Some(kafka.servers().to_owned());
    let site = Site::start_with(options);
    await_applied(redis, &site);
    site
}

/// So many answers of 200 over a kept connection.
#[track_caller]
fn ask_often(address: SocketAddr, count: u64) {
    let mut caller = Caller::connect(address).expect("it accepts");
    for _ in 0..count {
        assert_eq!(caller.ask(&named("s")).expect("an answer").status, 200);
    }
}

fn records(held: &[Held]) -> Vec<Record> {
    let read = |held: &Held| serde_json::from_str(&held.value).expect("a record");
    held.iter().map(read).collect()
}

/// The topic holds this many records, each once.
#[track_caller]
fn assert_held(kafka: &Kafka, count: u64) {
    let records = records(&kafka.held(TOPIC));
    let numbers: BTreeSet<u64> = records.iter().map(|record| record.sequence).collect();
    assert_eq!(numbers.len(), records.len(), "each once");
    assert_eq!(u64::try_from(records.len()).expect("few"), count);
}

#[test]
fn records_arrive_in_the_topic_as_they_would_in_the_stream() {
    let (redis, kafka) = (Redis::start(), Kafka::start(TOPIC));
    let (upstream, _) = serving("fine");
    configure(&redis, &upstream.url("/"));
    let site = site(&redis, &kafka);
    ask_often(site.address, 50);
    await_book(&redis, "s", "delivered", 50);
    let held = kafka.held(TOPIC);
    let records = records(&held);
    for (held, record) in held.iter().zip(&records) {
        assert_eq!(held.key, record.id);
        let header = |name: &str| held.headers.get(name).map(String::as_str);
        assert_eq!(
            (header("service"), header("version")),
            (Some("s"), Some("base"))
        );
        assert_eq!(
            record.answer.as_ref().map(|it| &*it.body.body),
            Some("fine")
        );
    }
    let numbers: BTreeSet<u64> = records.iter().map(|record| record.sequence).collect();
    assert!(numbers.into_iter().eq(1..=50), "without holes");
    let streams = redis.run("EXISTS smartlink:shadow-stream:s").number();
    assert_eq!(streams, 0, "and nowhere else");
    let page = site.ask_admin("/metrics");
    let line = r#"smartlink_shadow_records_total{service="s",fate="delivered"} 50"#;
    assert!(page.contains(line), "{page}");
}

#[test]
fn requests_do_not_feel_brokers_that_are_away() {
    let (redis, kafka) = (Redis::start(), Kafka::start(TOPIC));
    let (upstream, _) = serving("fine");
    configure(&redis, &upstream.url("/"));
    let site = site(&redis, &kafka);
    ask_often(site.address, 1);
    await_book(&redis, "s", "delivered", 1);
    kafka.down();
    ask_often(site.address, ROOM + 900);
    let now = await_book(&redis, "s", "dropped_queue", 900);
    assert_eq!(now.get("delivered"), Some(&1), "{now:?}");
    kafka.up();
    let all = await_book(&redis, "s", "sampled", ROOM + 901);
    assert_eq!(all.get("delivered"), Some(&(ROOM + 1)), "{all:?}");
    assert_held(&kafka, ROOM + 1);
}

#[test]
fn books_balance_with_brokers_that_are_slow_or_refuse() {
    let (redis, kafka) = (Redis::start(), Kafka::start(TOPIC));
    let (upstream, _) = serving("fine");
    configure(&redis, &upstream.url("/"));
    let site = site(&redis, &kafka);
    kafka.slow(Duration::from_millis(300));
    kafka.refuse_records(&[RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 3]);
    ask_often(site.address, 500);
    await_book(&redis, "s", "delivered", 500);
    kafka.slow(Duration::ZERO);
    kafka.refuse_records(&[RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 2]);
    ask_often(site.address, 500);
    let books = await_book(&redis, "s", "sampled", 1_000);
    assert!(books.get("dropped_sink") > Some(&0), "{books:?}");
    assert_held(&kafka, books.get("delivered").copied().expect("some"));
}

#[test]
fn a_shadow_in_kafka_without_brokers_drops_its_records_and_no_others() {
    let redis = Redis::start();
    let (upstream, _) = serving("fine");
    configure(&redis, &upstream.url("/"));
    redis.run(&format!(
        "HSET smartlink:endpoints:t {} base",
        upstream.url("/")
    ));
    redis.run("HSET smartlink:shadow:t sample 100%");
    let site = Site::start(&redis);
    await_applied(&redis, &site);
    ask_often(site.address, 10);
    site.ask(&named("t"));
    await_book(&redis, "s", "dropped_sink", 10);
    await_book(&redis, "t", "delivered", 1);
}

#[test]
fn the_last_records_are_sent_when_the_gateway_stops() {
    let (redis, kafka) = (Redis::start(), Kafka::start(TOPIC));
    let (upstream, _) = serving("fine");
    configure(&redis, &upstream.url("/"));
    let mut site = site(&redis, &kafka);
    ask_often(site.address, 300);
    site.begin_drain();
    site.await_end();
    assert_eq!(books(&redis, "s").get("delivered"), Some(&300));
    assert_held(&kafka, 300);
}

#[test]
fn what_no_broker_took_when_the_gateway_stops_is_in_the_books() {
    let (redis, kafka) = (Redis::start(), Kafka::start(TOPIC));
    let (upstream, _) = serving("fine");
    configure(&redis, &upstream.url("/"));
    let mut site = site(&redis, &kafka);
    ask_often(site.address, 1);
    await_book(&redis, "s", "delivered", 1);
    kafka.down();
    ask_often(site.address, 300);
    site.begin_drain();
    site.await_end();
    let books = books(&redis, "s");
    assert_eq!(books.get("dropped_sink"), Some(&300), "{books:?}");
    kafka.up();
    assert_held(&kafka, 1);
}

#[test]
fn a_gateway_that_is_killed_leaves_no_more_in_the_books_than_in_the_topic() {
    let (redis, kafka) = (Redis::start(), Kafka::start(TOPIC));
    let (upstream, _) = serving("fine");
    configure(&redis, &upstream.url("/"));
    let port = Port::reserve();
    let mut gateway = Process::start_with(&redis, "g", |command| {
        command
            .args(["--listen", &port.address().to_string()])
            .args(["--kafka", kafka.servers()])
    });
    eventually("it serves", || {
        let mut caller = Caller::connect(port.address()).ok()?;
        (caller.ask(&named("s")).ok()?.status == 200).then_some(())
    });
    ask_often(port.address(), 2_000);
    gateway.kill();
    let books = books(&redis, "s");
    let held = kafka.held(TOPIC).len();
    let delivered = books.get("delivered").copied().unwrap_or(0);
    assert!(
        delivered <= u64::try_from(held).expect("few"),
        "{books:?}, {held} held"
    );
}
