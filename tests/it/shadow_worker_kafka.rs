//! The shadow worker on a topic of Kafka: every record is counted exactly once, whatever happens to
//! workers, as on a stream.

use std::process::Child;
use std::time::Duration;

use smartlink::shadow::Record;

use crate::support::eventually;
use crate::support::kafka::Kafka;
use crate::support::load::{Caller, named};
use crate::support::port::Port;
use crate::support::process::Process;
use crate::support::redis::Redis;
use crate::support::replay::{
    SERVICE, answering, asked, await_count, many, record, report, response, run, start,
};
use crate::support::upstream::Upstream;

/// Where the records of the service are.
const TOPIC: &str = "smartlink.shadow.ner";
/// After how long a silent worker is missed. The cluster of the tests waits 3 s for the first members
/// of a group, and would miss them meanwhile.
const SILENCE: &str = "4s";
/// How often a worker is killed.
const KILLS: usize = 20;

/// What a good version answers to request `n`.
fn good(n: u64) -> String {
    format!("{{\"status\":true,\"data\":[{{\"of\":{n},\"class\":\"x\"}}],\"duration\":{n}}}")
}

/// Records of one life of a gateway, as it writes them.
fn records(range: std::ops::RangeInclusive<u64>) -> Vec<String> {
    let mut records: Vec<Record> = range.map(|n| record(n, &good(n))).collect();
    let epoch = records.first().map_or(0, |record| record.epoch);
    let text = records.iter_mut().map(|record| {
        record.epoch = epoch;
        serde_json::to_string(record).expect("JSON")
    });
    text.collect()
}

/// A Redis whose service has these versions, in this order: `base`, the candidates.
fn stage(versions: &[(&str, &str)]) -> Redis {
    let redis = Redis::start();
    for (url, version) in versions {
        redis.call(&["HSET", "smartlink:endpoints:ner", url, version]);
    }
    let candidates = versions.iter().map(|(_, version)| *version);
    let candidates: Vec<&str> = candidates.filter(|version| *version != "base").collect();
    let names = candidates.join(",");
    redis.call(&[
        "HSET",
        "smartlink:shadow:ner",
        "to",
        "kafka",
        "candidate",
        &names,
    ]);
    redis
}

fn counter(redis: &Redis, name: &str) -> u64 {
    let results = redis.hash("smartlink:shadow-results:ner:candidate");
    let count = results.get(name);
    count.map_or(0, |text| text.parse().expect("a count"))
}

fn kill(mut worker: Child) {
    worker.kill().expect("it runs");
    worker.wait().expect("it ends");
}

/// Compares all there is.
#[track_caller]
fn compare_all(redis: &Redis, kafka: &Kafka, more: &[&str]) -> String {
    let args = [
        "shadow",
        SERVICE,
        "--kafka",
        kafka.servers(),
        "--once",
        "--max-rate",
        "off",
        "--claim-after",
        SILENCE,
        "--log",
        "error",
    ];
    run(redis, &[&args, more].concat())
}

#[test]
fn each_candidate_sees_every_record_of_the_topic() {
    let kafka = Kafka::start(TOPIC);
    let base = answering(|n| (200, good(n)));
    let one = answering(|n| (200, good(n)));
    let two = answering(|n| (200, good(n + 1)));
    let redis = stage(&[
        (&base.url("/"), "base"),
        (&one.url("/"), "candidate"),
        (&two.url("/"), "next"),
    ]);
    kafka.add(TOPIC, &records(1..=40));
    compare_all(&redis, &kafka, &["--from", "oldest"]);
    let (one, two) = (report(&redis, "candidate"), report(&redis, "next"));
    assert_eq!([&one["compared"], &one["equal"]], [40, 40], "{one}");
    assert_eq!([&two["compared"], &two["equal"]], [40, 0], "{two}");
    for report in [one, two] {
        assert_eq!(report["books"]["read"], 40, "{report}");
        assert_eq!(report["books"]["lost_unread"], 0, "{report}");
    }
}

#[test]
fn a_new_candidate_begins_behind_what_the_topic_holds_and_goes_on_where_it_stopped() {
    let kafka = Kafka::start(TOPIC);
    let candidate = answering(|n| (200, good(n)));
    let redis = stage(&[
        ("http://127.0.0.1:1/", "base"),
        (&candidate.url("/"), "candidate"),
    ]);
    kafka.add(TOPIC, &records(1..=30));
    compare_all(&redis, &kafka, &[]);
    assert_eq!(
        counter(&redis, "read"),
        0,
        "what stood there before is not new"
    );
    kafka.add(TOPIC, &records(31..=50));
    compare_all(&redis, &kafka, &[]);
    assert_eq!(counter(&redis, "both_ok"), 20);
    kafka.add(TOPIC, &records(51..=60));
    compare_all(&redis, &kafka, &[]);
    assert_eq!(counter(&redis, "both_ok"), 30);
    assert_eq!(candidate.seen().len(), 30);
}

#[test]
fn records_of_a_topic_are_counted_once_however_often_workers_are_killed() {
    let kafka = Kafka::start(TOPIC);
    let base = answering(|n| (200, good(n)));
    let candidate = Upstream::start(|connection| {
        while let Some(seen) = connection.read_request() {
            let n = asked(&seen.body);
            if n.is_multiple_of(50) {
                std::thread::sleep(Duration::from_millis(50));
            }
            let status = if n.is_multiple_of(25) { 500 } else { 200 };
            connection.send(response(status, &good(n)));
        }
    });
    let redis = stage(&[(&base.url("/"), "base"), (&candidate.url("/"), "candidate")]);
    let total = many(3_000);
    let poison = total / 50;
    let mut all = records(1..=total);
    all.extend((0..poison).map(|n| format!("poison {n}")));
    kafka.add(TOPIC, &all);
    let args = [
        "--kafka",
        kafka.servers(),
        "--from",
        "oldest",
        "--max-rate",
        "200/s",
        "--max-concurrent",
        "2",
        "--claim-after",
        SILENCE,
    ];
    let done = || counter(&redis, "counted") + counter(&redis, "dead");
    let mut workers = [start(&redis, &args), start(&redis, &args)];
    let mut before = 0;
    let mut midway = 0;
    for kill in 0..KILLS {
        // Each life does some work, however slow the machine is.
        let wanted = before + 40 + (kill as u64 % 5) * 10;
        before = await_count(done, wanted.min(total + poison));
        midway += usize::from(before < total + poison);
        let worker = &mut workers[kill % 2];
        worker.kill().expect("it runs");
        worker.wait().expect("it ends");
        *worker = start(&redis, &args);
    }
    assert_eq!(midway, KILLS, "all were killed before the end");
    await_count(done, total + poison);
    assert_eq!(counter(&redis, "counted"), total);
    assert_eq!(counter(&redis, "dead"), poison);
    assert_eq!(counter(&redis, "read"), total + poison);
    assert_eq!(counter(&redis, "candidate_bad_only"), total / 25);
    assert_eq!(counter(&redis, "both_ok"), total - total / 25);
    // Nothing is left over above the low marks, which are at the ends of their partitions.
    let left = redis
        .run("KEYS smartlink:shadow-offsets:ner:candidate:*")
        .texts();
    assert_eq!(left, Vec::<String>::new());
    let lows = redis.hash("smartlink:shadow-offsets:ner:candidate");
    let lows = lows.iter().filter(|(field, _)| field.starts_with(TOPIC));
    let sum: u64 = lows
        .map(|(_, low)| low.parse::<u64>().expect("a number"))
        .sum();
    assert_eq!(sum, total + poison);
    workers.into_iter().for_each(kill);
    let calls = candidate.seen().len();
    eprintln!("{total} records, {KILLS} kills, {calls} calls");
}

#[test]
fn a_candidate_that_is_away_stops_its_lane_and_not_its_group() {
    let kafka = Kafka::start(TOPIC);
    let base = answering(|n| (200, good(n)));
    let port = Port::reserve();
    let redis = stage(&[(&base.url("/"), "base"), (&port.url(), "candidate")]);
    kafka.add(TOPIC, &records(1..=30));
    let args = [
        "--kafka",
        kafka.servers(),
        "--from",
        "oldest",
        "--max-rate",
        "off",
        "--claim-after",
        SILENCE,
    ];
    let first = start(&redis, &args);
    let state = || {
        redis
            .hash("smartlink:shadow-results:ner:candidate")
            .remove("state")
    };
    eventually("the worker waits", || {
        (state().as_deref() == Some("waiting_for_candidate")).then_some(())
    });
    eventually("three results", || {
        (counter(&redis, "counted") == 3).then_some(())
    });
    // Another one may join meanwhile, though the first reads nothing.
    let second = start(&redis, &args);
    let _candidate = Upstream::start_on(port.listen(), |connection| {
        while let Some(seen) = connection.read_request() {
            connection.send(response(200, &good(asked(&seen.body))));
        }
    });
    eventually("the rest is compared", || {
        (counter(&redis, "class.ok") >= 24).then_some(())
    });
    eventually("all is counted", || {
        (counter(&redis, "counted") == 30).then_some(())
    });
    [first, second].into_iter().for_each(kill);
}

#[test]
fn what_a_gateway_writes_into_kafka_is_compared() {
    let kafka = Kafka::start(TOPIC);
    let base = answering(|n| (200, good(n)));
    let candidate = answering(|n| (200, good(n)));
    let redis = stage(&[(&base.url("/"), "base"), (&candidate.url("/"), "candidate")]);
    check_end_to_end(&redis, &kafka, TOPIC);
}

#[test]
fn a_real_cluster_does_as_the_one_of_the_tests() {
    let Some(kafka) = Kafka::real() else {
        eprintln!("skipped: SMARTLINK_TEST_KAFKA names no broker");
        return;
    };
    let base = answering(|n| (200, good(n)));
    let candidate = answering(|n| (200, good(n)));
    let redis = stage(&[(&base.url("/"), "base"), (&candidate.url("/"), "candidate")]);
    let now = std::time::UNIX_EPOCH
        .elapsed()
        .expect("after 1970")
        .as_millis();
    let topic = format!("smartlink.test.{now}");
    redis.call(&["HSET", "smartlink:shadow:ner", "topic", &topic]);
    check_end_to_end(&redis, &kafka, &topic);
}

#[expect(
    clippy::indexing_slicing,
    reason = "a panic fails the test, which is what is wanted"
)]
/// Requests to a gateway are in the topic, and a worker compares them.
#[track_caller]
fn check_end_to_end(redis: &Redis, kafka: &Kafka, topic: &str) {
    let port = Port::reserve();
    let _gateway = Process::start_with(redis, "g", |command| {
        command
            .args(["--listen", &port.address().to_string()])
            .args(["--kafka", kafka.servers()])
    });
    let request = |n: u64| {
        let body = format!("{{\"server_name\":\"ner\",\"data\":[{n}]}}");
        let length = body.len();
        format!(
            "POST /ai_server/ HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
    };
    eventually("it serves", || {
        let mut caller = Caller::connect(port.address()).ok()?;
        (caller.ask(&named("nobody")).is_ok()).then_some(())
    });
    let mut caller = Caller::connect(port.address()).expect("it accepts");
    let mut recorded = 0;
    eventually("records are delivered", || {
        let answer = caller.ask(request(7).as_bytes()).expect("an answer");
        recorded += u64::from(answer.status == 200);
        let books = redis.hash("smartlink:shadow-counts:ner");
        (books.get("delivered")?.parse::<u64>().ok()? >= 20).then_some(())
    });
    eventually("all are delivered", || {
        let books = redis.hash("smartlink:shadow-counts:ner");
        (books.get("delivered")?.parse::<u64>().ok()? == recorded).then_some(())
    });
    assert_eq!(
        u64::try_from(kafka.held(topic).len()).expect("few"),
        recorded
    );
    compare_all(redis, kafka, &["--from", "oldest"]);
    let report = report(redis, "candidate");
    assert_eq!(report["compared"], recorded, "{report}");
    assert_eq!(report["equal"], recorded, "{report}");
    assert_eq!(report["books"]["lost_unread"], 0, "{report}");
}
