//! What the script that records batches does with counts of trials, against a real Redis.

use std::collections::BTreeMap;
use std::sync::Arc;

use smartlink::model::keys::Keys;
use smartlink::model::name::Name;
use smartlink::model::trial::Tag;
use smartlink::stats::batch::{Batch, Cut};
use smartlink::stats::journal::{Answer, Order};
use smartlink::stats::trial::{Caller, TrialSum};
use smartlink::store::{Ledger, Options, Terms};

use crate::support::redis::Redis;
use crate::support::secs;

const KEY: &str = "smartlink:trial:a:v2";
const CALLERS: &str = "smartlink:internal:trial-callers:a:v2";

async fn connect(redis: &Redis, instance: &str) -> Ledger {
    let options = Options {
        url: redis.url(),
        user: None,
        password: None,
        keys: Keys::new("smartlink:"),
        instance: instance.to_owned(),
    };
    let ledger = Ledger::connect(&options).expect("valid options");
    let end = tokio::time::Instant::now() + secs(10);
    while !ledger.is_connected() {
        assert!(tokio::time::Instant::now() < end, "no connection");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    ledger
}

fn tag(number: u64, share: u16, version: &str) -> Tag {
    let name = |text: &str| Name::parse(text).expect("valid");
    Tag {
        service: name("a"),
        candidate: name("v2"),
        number,
        share,
        version: name(version),
    }
}

/// What was counted under a tag: marks, and callers with whether they are bad.
type Counted<'c> = (Tag, [u64; 5], &'c [(u64, bool)]);

/// A batch of these counts of one trial.
fn order(number: u64, counts: &[Counted<'_>]) -> Order {
    let mut batch = Batch::default();
    for (tag, marks, callers) in counts {
        let callers = callers.iter();
        let sum = TrialSum {
            marks: *marks,
            callers: callers
                .map(|(point, bad)| Caller {
                    point: *point,
                    bad: *bad,
                })
                .collect(),
        };
        assert_eq!(batch.add_trial(tag, &sum), 0);
    }
    Order {
        number,
        after: number - 1,
        batch: Arc::new(batch),
    }
}

async fn record(ledger: &Ledger, order: &Order) -> Answer {
    let terms = Terms {
        cut: Cut {
            window: 10,
            keep: 3600,
        },
        now_s: 1_700_000_004,
    };
    ledger.record(order, terms).await.expect("an answer")
}

#[track_caller]
fn assert_hash(redis: &Redis, wanted: &[(&str, &str)]) {
    let owned = |(field, text): &(&str, &str)| ((*field).to_owned(), (*text).to_owned());
    let wanted: BTreeMap<String, String> = wanted.iter().map(owned).collect();
    assert_eq!(redis.hash(KEY), wanted);
}

#[tokio::test]
async fn counts_add_up_under_their_share_and_version() {
    let redis = Redis::start();
    let (one, two) = (connect(&redis, "one").await, connect(&redis, "two").await);
    let first = order(
        1,
        &[
            (tag(7, 50, "base"), [19, 1, 9, 2, 0], &[]),
            (tag(7, 50, "v2"), [1, 0, 0, 0, 0], &[]),
        ],
    );
    assert_eq!(record(&one, &first).await, Answer::Applied);
    assert_eq!(record(&one, &first).await, Answer::Known(1));
    let other = order(
        1,
        &[
            (tag(7, 50, "base"), [1, 0, 0, 0, 0], &[]),
            (tag(7, 250, "v2"), [5, 5, 0, 0, 0], &[]),
        ],
    );
    assert_eq!(record(&two, &other).await, Answer::Applied);
    assert_hash(
        &redis,
        &[
            ("trial", "7"),
            ("50.base.requests", "20"),
            ("50.base.bad", "1"),
            ("50.base.over_50", "9"),
            ("50.base.over_90", "2"),
            ("50.v2.requests", "1"),
            ("250.v2.requests", "5"),
            ("250.v2.bad", "5"),
        ],
    );
}

#[tokio::test]
async fn late_counts_of_an_earlier_trial_never_land_in_a_later_one() {
    let redis = Redis::start();
    let (one, two) = (connect(&redis, "one").await, connect(&redis, "two").await);
    let callers: &[(u64, bool)] = &[(1, false), (2, false)];
    assert_eq!(
        record(&one, &order(1, &[(tag(7, 50, "base"), [9; 5], callers)])).await,
        Answer::Applied
    );
    let later = order(1, &[(tag(8, 50, "base"), [3, 0, 0, 0, 0], &[(1, true)])]);
    assert_eq!(record(&two, &later).await, Answer::Applied);
    let wanted = [
        ("trial", "8"),
        ("50.base.requests", "3"),
        ("50.base.first", "1"),
        ("50.base.first_bad", "1"),
    ];
    assert_hash(&redis, &wanted);
    let late = order(2, &[(tag(7, 50, "base"), [4, 4, 0, 0, 0], &[(3, false)])]);
    assert_eq!(
        record(&one, &late).await,
        Answer::Applied,
        "there is nothing to send again"
    );
    assert_hash(&redis, &wanted);
    assert_eq!(redis.run(&format!("SCARD {CALLERS}")).number(), 1);
    // Both numbers have more digits in one than in the other: numbers are compared, not texts.
    let tenth = order(2, &[(tag(10, 50, "base"), [1, 0, 0, 0, 0], &[])]);
    assert_eq!(record(&two, &tenth).await, Answer::Applied);
    assert_hash(&redis, &[("trial", "10"), ("50.base.requests", "1")]);
}

#[tokio::test]
async fn a_caller_counts_with_the_first_request_that_is_told() {
    let redis = Redis::start();
    let (one, two) = (connect(&redis, "one").await, connect(&redis, "two").await);
    let callers: &[(u64, bool)] = &[(u64::MAX, true), (0, false), (0, true), (5, false)];
    assert_eq!(
        record(
            &one,
            &order(1, &[(tag(7, 50, "v2"), [4, 2, 0, 0, 0], callers)])
        )
        .await,
        Answer::Applied
    );
    let callers: &[(u64, bool)] = &[(5, true), (6, true)];
    assert_eq!(
        record(
            &two,
            &order(1, &[(tag(7, 60, "v2"), [2, 2, 0, 0, 0], callers)])
        )
        .await,
        Answer::Applied
    );
    let hash = redis.hash(KEY);
    for (field, wanted) in [
        ("50.v2.first", "3"),
        ("50.v2.first_bad", "1"),
        ("60.v2.first", "1"),
        ("60.v2.first_bad", "1"),
    ] {
        assert_eq!(hash.get(field).map(String::as_str), Some(wanted), "{field}");
    }
}

#[tokio::test]
async fn keys_of_another_type_are_replaced() {
    let redis = Redis::start();
    redis.run(&format!("SET {KEY} x"));
    redis.run(&format!("SET {CALLERS} x"));
    let one = connect(&redis, "one").await;
    let told = order(1, &[(tag(7, 50, "v2"), [1, 0, 0, 0, 0], &[(1, false)])]);
    assert_eq!(record(&one, &told).await, Answer::Applied);
    redis.run(&format!("DEL {CALLERS}"));
    redis.run(&format!("SET {CALLERS} x"));
    let told = order(2, &[(tag(7, 50, "v2"), [1, 0, 0, 0, 0], &[(2, false)])]);
    assert_eq!(record(&one, &told).await, Answer::Applied);
    let hash = redis.hash(KEY);
    assert_eq!(hash.get("50.v2.requests").map(String::as_str), Some("2"));
    assert_eq!(hash.get("50.v2.first").map(String::as_str), Some("2"));
}

#[test]
fn a_trial_that_is_full_counts_no_new_callers_and_says_so() {
    let redis = Redis::start();
    let script = include_str!("../../lua/record_batch.lua");
    let last = "smartlink:internal:batch:x";
    let told = |number: &str, after: &str, callers: &str| {
        let words = [
            "EVAL", script, "3", last, KEY, CALLERS, number, after, "100", "0", "700", "800", "3",
            "1", "7", "50.v2.", "1", "requests", "1", callers,
        ];
        let texts = redis.call(&words).texts();
        texts.get(3..).map(<[String]>::to_vec)
    };
    assert_eq!(told("1", "0", "aaaaaaaa0bbbbbbbb1"), Some(Vec::new()));
    assert_eq!(
        told("2", "1", "cccccccc0dddddddd0"),
        Some(vec![CALLERS.to_owned()])
    );
    assert_eq!(told("3", "2", "eeeeeeee0"), Some(vec![CALLERS.to_owned()]));
    let hash = redis.hash(KEY);
    for (field, wanted) in [
        ("50.v2.requests", "3"),
        ("50.v2.first", "3"),
        ("50.v2.first_bad", "1"),
    ] {
        assert_eq!(hash.get(field).map(String::as_str), Some(wanted), "{field}");
    }
    assert_eq!(redis.run(&format!("TTL {CALLERS}")).number(), 800);
}
