//! Counts and the script that applies them, against a real Redis.
#![expect(
    clippy::indexing_slicing,
    reason = "a panic fails the test, which is what is wanted"
)]

use std::collections::{BTreeMap, BTreeSet};

use smartlink::model::keys::Keys;
use smartlink::stats::batch::Cut;
use smartlink::stats::journal::{Answer, Journal, Order};
use smartlink::stats::{Counter, ErrorKind, Outcome, Rejection, counters, histogram};
use smartlink::store::{Ledger, Options, Terms};

use crate::support::redis::Redis;
use crate::support::{eventually, secs};

const CUT: Cut = Cut {
    window: 10,
    keep: 3600,
};
/// A moment in the middle of a window.
const NOW_S: u64 = 1_700_000_004;
const TERMS: Terms = Terms {
    cut: CUT,
    now_s: NOW_S,
};

fn options(url: &str, instance: &str, prefix: &str) -> Options {
    Options {
        url: url.to_owned(),
        user: None,
        password: None,
        keys: Keys::new(prefix),
        instance: instance.to_owned(),
    }
}

async fn connect(options: &Options) -> Ledger {
    let ledger = Ledger::connect(options).expect("valid options");
    await_connection(&ledger).await;
    ledger
}

async fn await_connection(ledger: &Ledger) {
    let end = tokio::time::Instant::now() + secs(10);
    while !ledger.is_connected() {
        assert!(tokio::time::Instant::now() < end, "no connection");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

fn ok(total_us: u64) -> Outcome {
    Outcome {
        status: 200,
        bytes_in: 10,
        bytes_out: 100,
        total_us,
        first_byte_us: Some(total_us / 2),
        ..Outcome::default()
    }
}

/// Counts outcomes of a service with two versions, as a data-plane thread does.
struct Hand {
    journal: Journal,
}

impl Hand {
    fn new() -> Self {
        Self {
            journal: Journal::default(),
        }
    }

    /// Counts in this second; the version by its place, none for what ended before one was chosen.
    fn count(&mut self, second: u64, version: Option<usize>, outcomes: &[Outcome]) {
        let service = crate::support::table::service("a", &["base", "candidate"]);
        let (counters, mut collector) = counters(1);
        let counter: &Counter = counters.first().expect("one");
        for outcome in outcomes {
            match version {
                Some(at) => counter.count_version(&service.versions[at], outcome),
                None => counter.count_service(&service, outcome),
            }
        }
        collector.collect(|series, sum| self.journal.add(second, CUT, series, sum));
    }

    /// Sends the next batch; `None` where there is none.
    async fn tell(&mut self, ledger: &Ledger) -> Option<Answer> {
        let order = self.journal.next_order()?;
        let answer = record(ledger, &order).await;
        self.heard(&order, answer);
        Some(answer)
    }

    fn heard(&mut self, order: &Order, answer: Answer) {
        self.journal.answered(order, answer, NOW_S * 1000, CUT);
    }
}

/// Sends until Redis answers: after a `kill` the first tries may find no connection.
async fn record(ledger: &Ledger, order: &Order) -> Answer {
    let mut why = String::new();
    for _ in 0..20 {
        await_connection(ledger).await;
        match ledger.record(order, TERMS).await {
            Ok(answer) => return answer,
            Err(error) => why = format!("{error:?}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{why}");
}

fn number(redis: &Redis, key: &str, field: &str) -> u64 {
    let hash = redis.hash(&format!("smartlink:{key}"));
    hash.get(field)
        .map_or(0, |text| text.parse().expect("plain decimal"))
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one list of promised fields")]
async fn totals_windows_and_buckets_have_exactly_the_promised_fields() {
    let redis = Redis::start();
    let ledger = connect(&options(&redis.url(), "one", "smartlink:")).await;
    let mut hand = Hand::new();
    let failed = Outcome {
        status: 504,
        error: Some(ErrorKind::Timeout),
        retries: 2,
        total_us: 700_000_000,
        ..Outcome::default()
    };
    hand.count(NOW_S, Some(0), &[ok(150), ok(3_000), failed]);
    let refused = Outcome {
        status: 401,
        rejection: Some(Rejection::Auth),
        ..Outcome::default()
    };
    hand.count(NOW_S, None, &[refused]);
    assert_eq!(hand.tell(&ledger).await, Some(Answer::Applied));

    let mut fields: BTreeSet<String> = [
        "requests",
        "status_1xx",
        "status_2xx",
        "status_3xx",
        "status_4xx",
        "status_5xx",
        "status_429",
        "error_connect",
        "error_timeout",
        "error_reset",
        "error_other",
        "retries",
        "bytes_in",
        "bytes_out",
        "latency_us_sum",
        "first_byte_us_sum",
        "updated_ms",
    ]
    .map(str::to_owned)
    .into();
    fields.extend(histogram::coarse_bounds().map(|bound| format!("latency_us_le_{bound}")));
    assert_eq!(fields.len(), 17 + 24);
    let with = |more: &[&str]| -> BTreeSet<String> {
        fields
            .iter()
            .cloned()
            .chain(more.iter().map(|&field| field.to_owned()))
            .collect()
    };
    let early = [
        "status_401",
        "rejected_auth",
        "rejected_rate",
        "rejected_busy",
    ];
    for (key, expected) in [
        ("stats:a:base", with(&["status_200", "status_504"])),
        (
            "stats:a:base:1700000000",
            with(&["status_200", "status_504"]),
        ),
        ("stats:a", with(&early)),
        ("stats:a::1700000000", with(&early)),
    ] {
        let hash: BTreeMap<_, _> = redis.hash(&format!("smartlink:{key}"));
        assert_eq!(
            hash.keys().cloned().collect::<BTreeSet<_>>(),
            expected,
            "{key}"
        );
    }
    for (field, expected) in [
        ("requests", 3),
        ("status_2xx", 2),
        ("status_504", 1),
        ("error_timeout", 1),
        ("error_reset", 0),
        ("retries", 2),
        ("bytes_in", 20),
        ("bytes_out", 200),
        ("latency_us_sum", 700_003_150),
        ("first_byte_us_sum", 1_575),
        ("latency_us_le_100", 0),
        ("latency_us_le_200", 1),
        ("latency_us_le_3200", 2),
        ("latency_us_le_838860800", 3),
    ] {
        assert_eq!(number(&redis, "stats:a:base", field), expected, "{field}");
    }
    assert_eq!(number(&redis, "stats:a", "rejected_auth"), 1);
    let hist = redis.hash(&format!("smartlink:hist:a:base:{NOW_S}"));
    assert_eq!(
        hist.values().filter(|count| *count == "1").count(),
        4,
        "{hist:?}"
    );
    assert_eq!(hist["errors"], "1");
    let life = |key: &str| redis.run(&format!("TTL smartlink:{key}")).number();
    assert_eq!(life("stats:a:base"), -1);
    assert!((3000..=3606).contains(&life("stats:a:base:1700000000")));
    assert!((1..=30).contains(&life(&format!("hist:a:base:{NOW_S}"))));
    let internal = redis.run("KEYS smartlink:internal:*").texts();
    let life = redis.call(&["TTL", &internal[0]]).number();
    assert!((80_000..=86_400).contains(&life), "{internal:?}");
}

#[tokio::test]
async fn a_batch_counts_once_however_often_it_is_sent() {
    let redis = Redis::start();
    let ledger = connect(&options(&redis.url(), "one", "smartlink:")).await;
    let mut hand = Hand::new();
    hand.count(NOW_S, Some(0), &[ok(1), ok(2)]);
    let order = hand.journal.next_order().expect("a batch");
    assert_eq!(record(&ledger, &order).await, Answer::Applied);
    // The answer was lost, and so was the script.
    redis.run("SCRIPT FLUSH");
    assert_eq!(record(&ledger, &order).await, Answer::Known(1));
    hand.heard(&order, Answer::Known(1));
    assert_eq!(number(&redis, "stats:a:base", "requests"), 2);
    hand.count(NOW_S + 1, Some(0), &[ok(3)]);
    assert_eq!(hand.tell(&ledger).await, Some(Answer::Applied));
    assert_eq!(number(&redis, "stats:a:base", "requests"), 3);
    assert_eq!(number(&redis, "stats:a:base:1700000000", "requests"), 3);
    assert!(hand.journal.is_settled());
}

#[tokio::test]
async fn gateways_and_lives_add_up() {
    let redis = Redis::start();
    for instance in ["one", "two", "one"] {
        let ledger = connect(&options(&redis.url(), instance, "smartlink:")).await;
        let mut hand = Hand::new();
        hand.count(NOW_S, Some(1), &[ok(1_000), ok(2_000)]);
        assert_eq!(hand.tell(&ledger).await, Some(Answer::Applied));
    }
    assert_eq!(number(&redis, "stats:a:candidate", "requests"), 6);
    assert_eq!(number(&redis, "stats:a:candidate", "latency_us_sum"), 9_000);
}

#[tokio::test]
async fn what_redis_acknowledged_and_lost_is_told_again() {
    let mut redis = Redis::start();
    let ledger = connect(&options(&redis.url(), "one", "smartlink:")).await;
    let mut hand = Hand::new();
    for second in 0..5 {
        hand.count(NOW_S + second, Some(0), &[ok(1_000)]);
        assert_eq!(hand.tell(&ledger).await, Some(Answer::Applied));
    }
    redis.kill();
    hand.count(NOW_S + 6, Some(0), &[ok(1_000)]);
    redis.restart();
    assert_eq!(hand.tell(&ledger).await, Some(Answer::Gap(0)));
    while hand.tell(&ledger).await.is_some() {}
    assert_eq!(number(&redis, "stats:a:base", "requests"), 6);
    assert_eq!(number(&redis, "stats:a:base:1700000000", "requests"), 5);
    assert_eq!(number(&redis, "stats:a:base:1700000010", "requests"), 1);
}

#[tokio::test]
async fn a_failover_to_a_copy_that_lags_loses_nothing() {
    let redis = Redis::start();
    let ledger = connect(&options(&redis.url(), "one", "smartlink:")).await;
    let mut hand = Hand::new();
    for _ in 0..3 {
        hand.count(NOW_S, Some(0), &[ok(1_000)]);
        assert_eq!(hand.tell(&ledger).await, Some(Answer::Applied));
    }
    // What a copy would hold that had not seen the last two batches.
    let last = redis
        .run("KEYS smartlink:internal:batch:*")
        .texts()
        .concat();
    redis.call(&["SET", &last, "1"]);
    redis.run("HSET smartlink:stats:a:base requests 1 bytes_in 10");
    hand.count(NOW_S, Some(0), &[ok(1_000)]);
    assert_eq!(hand.tell(&ledger).await, Some(Answer::Gap(1)));
    while hand.tell(&ledger).await.is_some() {}
    assert_eq!(number(&redis, "stats:a:base", "requests"), 4);
    assert_eq!(number(&redis, "stats:a:base", "bytes_in"), 40);
}

#[tokio::test]
async fn a_key_of_another_type_is_replaced_and_spoils_nothing_else() {
    let redis = Redis::start();
    let ledger = connect(&options(&redis.url(), "one", "smartlink:")).await;
    redis.run("SET smartlink:stats:a:base x");
    redis.run("HSET smartlink:stats:a:candidate requests many");
    let mut hand = Hand::new();
    hand.count(NOW_S, Some(0), &[ok(1)]);
    hand.count(NOW_S, Some(1), &[ok(1)]);
    assert_eq!(hand.tell(&ledger).await, Some(Answer::Applied));
    assert_eq!(number(&redis, "stats:a:base", "requests"), 1);
    assert_eq!(number(&redis, "stats:a:candidate", "requests"), 1);
}

#[tokio::test]
async fn without_scripts_a_transaction_counts_once_too() {
    let redis = Redis::start();
    redis.run("ACL SETUSER default -@scripting");
    let ledger = connect(&options(&redis.url(), "one", "smartlink:")).await;
    let mut hand = Hand::new();
    hand.count(NOW_S, Some(0), &[ok(1_000), ok(1_000)]);
    let order = hand.journal.next_order().expect("a batch");
    let error = ledger.record(&order, TERMS).await.expect_err("refused");
    assert!(error.is_script_refused(), "{error:?}");
    for expected in [Answer::Applied, Answer::Known(1)] {
        let told = ledger.record_plainly(&order, TERMS).await.expect("taken");
        assert_eq!(told, expected);
    }
    assert_eq!(number(&redis, "stats:a:base", "requests"), 2);
    assert_eq!(number(&redis, "stats:a:base:1700000000", "bytes_out"), 200);
    let ttl = redis.run("TTL smartlink:stats:a:base:1700000000").number();
    assert!((3000..=3606).contains(&ttl));
}

#[tokio::test]
async fn a_cluster_takes_a_batch_under_one_hash_tag() {
    let redis = Redis::start_node();
    redis.run("CLUSTER ADDSLOTSRANGE 0 16383");
    eventually("the cluster is one", || {
        let info = redis.run("CLUSTER INFO").texts().concat();
        info.contains("cluster_state:ok").then_some(())
    });
    let url = redis.url().replace("redis://", "redis-cluster://");
    let ledger = connect(&options(&url, "one", "{smartlink}:")).await;
    let mut hand = Hand::new();
    hand.count(NOW_S, Some(0), &[ok(1)]);
    assert_eq!(hand.tell(&ledger).await, Some(Answer::Applied));
    assert_eq!(redis.hash("{smartlink}:stats:a:base")["requests"], "1");
}
