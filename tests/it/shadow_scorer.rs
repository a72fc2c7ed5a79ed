//! A judge outside: what it is asked, what becomes of what it says, and that its failures count
//! against nobody.

#![expect(
    clippy::unwrap_used,
    reason = "a panic fails the test, which is what is wanted"
)]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::support::port::Port;
use crate::support::redis::Redis;
use crate::support::replay::{
    SERVICE, add_all, answering, compare_all, record, report, response, smartlink,
};
use crate::support::upstream::{Seen, Upstream};

/// What `base` answered and what the candidate answers to request `n`.
fn answer(word: &str, n: u64) -> String {
    format!("{{\"status\":true,\"data\":[\"{word} {n}\"]}}")
}

/// A candidate that says `new` where `base` said `old`.
fn candidate() -> Upstream {
    answering(|n| (200, answer("new", n)))
}

/// A Redis with so many records of a service whose pairs are put to this scorer.
fn stage(candidate: &Upstream, scorer: &str, records: u64) -> Redis {
    let redis = Redis::start();
    for (url, version) in [
        ("http://127.0.0.1:1/".to_owned(), "base"),
        (candidate.url("/"), "candidate"),
    ] {
        redis.call(&["HSET", "smartlink:endpoints:ner", &url, version]);
    }
    redis.call(&["HSET", "smartlink:shadow:ner", "scorer", scorer]);
    let all = 1..=records;
    add_all(&redis, all.map(|n| record(n, &answer("old", n))).collect());
    redis
}

/// A scorer that answers each question so.
fn scorer(says: impl Fn(&Json) -> Json + Send + Sync + 'static) -> Upstream {
    Upstream::start(move |connection| {
        while let Some(seen) = connection.read_request() {
            connection.send(response(200, &says(&question(&seen)).to_string()));
        }
    })
}

fn question(seen: &Seen) -> Json {
    serde_json::from_slice(&seen.body).unwrap()
}

fn says(side: &Json, word: &str) -> bool {
    side["body"].as_str().unwrap().contains(word)
}

fn counters(redis: &Redis) -> Vec<(String, String)> {
    let results = redis.hash("smartlink:shadow-results:ner:candidate");
    let scores = results.into_iter();
    let scores = scores.filter(|(name, _)| name.starts_with("score.") || name == "unscored");
    scores.collect()
}

#[track_caller]
fn assert_counters(redis: &Redis, expected: &[(&str, u64)]) {
    let expected: Vec<(String, String)> = expected
        .iter()
        .map(|(name, count)| ((*name).to_owned(), count.to_string()))
        .collect();
    assert_eq!(counters(redis), expected);
}

#[test]
fn scores_are_counted_by_tenths() {
    let judge = scorer(|question| {
        if says(&question["left"], "old") {
            json!({"left": 0.5, "right": 0.8, "why": "new is better"})
        } else {
            json!({"left": 0, "right": 0})
        }
    });
    let candidate = candidate();
    let redis = stage(&candidate, &judge.url("/score?rubric=a"), 60);
    compare_all(&redis, &[]);
    assert_counters(&redis, &[("score.+0.3", 60)]);
    let report = report(&redis, "candidate");
    assert_eq!(report["scores"]["+0.3"], 60, "{report}");
    assert_eq!(report["findings"]["scores"]["proven"], "fine", "{report}");
    let seen = judge.seen();
    assert_eq!(seen.len(), 60, "one that gives scores is asked once");
    let asked = question(&seen[0]);
    let members: Vec<&String> = asked.as_object().unwrap().keys().collect();
    assert_eq!(members, ["id", "left", "meta", "request", "right"]);
    assert_eq!(asked["meta"]["service"], SERVICE);
    assert_eq!(asked["left"]["status"], 200);
    assert!(asked["request"]["body"].as_str().unwrap().contains("data"));
    assert!(says(&asked["right"], "new"));
    assert_eq!(seen[0].head.start, "POST /score?rubric=a HTTP/1.1");
}

#[test]
fn a_winner_must_win_on_either_side() {
    let judge = scorer(|question| {
        let new_left = says(&question["left"], "new");
        json!({"winner": if new_left { "left" } else { "right" }, "why": "it is new"})
    });
    let candidate = candidate();
    let redis = stage(&candidate, &judge.url("/"), 10);
    compare_all(&redis, &[]);
    assert_counters(&redis, &[("score.+1.0", 10)]);
    let seen = judge.seen();
    assert_eq!(seen.len(), 20);
    let mut sides = BTreeSet::new();
    for asked in seen.iter().map(question) {
        let id = asked["id"].as_str().unwrap().to_owned();
        assert!(sides.insert((id, says(&asked["left"], "new"))), "{asked}");
    }
    // One that always likes the left one has no opinion.
    let judge = scorer(|_| json!({"winner": "left"}));
    let redis = stage(&candidate, &judge.url("/"), 10);
    compare_all(&redis, &[]);
    assert_counters(&redis, &[("score.+0.0", 10)]);
    assert_eq!(judge.seen().len(), 20);
}

#[test]
fn the_same_answers_to_the_same_question_are_judged_once() {
    let judge = scorer(|_| json!({"left": 1.0, "right": 0.0}));
    let candidate = candidate();
    let redis = stage(&candidate, &judge.url("/"), 0);
    redis.run("HSET smartlink:shadow:ner scorer_concurrent 1");
    let again = (1..=30).map(|n| {
        let mut again = record(n, &answer("old", 7));
        again.request.body = record(7, "").request.body;
        again
    });
    add_all(&redis, again.collect());
    compare_all(&redis, &[]);
    assert_counters(&redis, &[("score.-1.0", 30)]);
    assert_eq!(judge.seen().len(), 1);
    // Equal answers need no judge, bad ones neither.
    let candidate = answering(|n| match n % 2 {
        0 => (200, answer("old", n)),
        _ => (500, "{}".to_owned()),
    });
    let redis = stage(&candidate, &judge.url("/"), 10);
    compare_all(&redis, &[]);
    assert_counters(&redis, &[("score.+0.0", 5)]);
    assert_eq!(judge.seen().len(), 1);
}

#[test]
fn it_is_never_asked_about_more_pairs_at_once_than_allowed() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, peak) = (Arc::clone(&now), Arc::clone(&most));
    let judge = Upstream::start(move |connection| {
        while connection.read_request().is_some() {
            let here = count.fetch_add(1, Ordering::SeqCst) + 1;
            peak.fetch_max(here, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(20));
            count.fetch_sub(1, Ordering::SeqCst);
            connection.send(response(200, r#"{"winner": "tie"}"#));
        }
    });
    let candidate = candidate();
    let redis = stage(&candidate, &judge.url("/"), 60);
    redis.run("HSET smartlink:shadow:ner scorer_concurrent 3");
    compare_all(&redis, &["--max-concurrent", "16"]);
    assert_counters(&redis, &[("score.+0.0", 60)]);
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[test]
fn what_a_failing_scorer_does_not_say_counts_for_nobody() {
    let silent = Upstream::start(|connection| while connection.read_request().is_some() {});
    let port = Port::reserve();
    let fails = [
        Upstream::answering(response(500, "{}")),
        Upstream::answering(response(200, "<html>")),
        Upstream::answering(response(200, r#"{"left": 7, "right": 9}"#)),
        Upstream::answering(response(200, r#"{"winner": "both"}"#)),
        Upstream::closing("HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n{"),
    ];
    let mut urls: Vec<String> = fails.iter().map(|it| it.url("/")).collect();
    urls.extend([silent.url("/"), port.url()]);
    let candidate = candidate();
    for url in urls {
        let redis = stage(&candidate, &url, 24);
        redis.run("HSET smartlink:shadow:ner scorer_timeout 100ms");
        compare_all(&redis, &["--max-concurrent", "24"]);
        assert_counters(&redis, &[("unscored", 24)]);
        let report = report(&redis, "candidate");
        assert_eq!(report["pairs"]["both_ok"], 24, "{url}: {report}");
        assert_eq!(report["pairs"]["candidate_bad_only"], 0, "{url}: {report}");
        let proven = &report["findings"]["scores"]["proven"];
        assert_eq!(proven, "inconclusive", "{url}: {report}");
        assert_eq!(told(&redis), 1, "{url}: one event");
    }
}

/// How often it was told that too little is scored.
fn told(redis: &Redis) -> usize {
    let events = redis.run("XRANGE smartlink:events - +").texts();
    let told = events.iter().filter(|word| *word == "shadow_unscored");
    told.count()
}

#[test]
fn few_that_are_unscored_spoil_nothing() {
    let judge = scorer(|question| {
        if says(&question["right"], "new 7\"") {
            json!({})
        } else {
            json!({"left": 1.0, "right": 0.2})
        }
    });
    let candidate = candidate();
    let redis = stage(&candidate, &judge.url("/"), 60);
    compare_all(&redis, &[]);
    assert_counters(&redis, &[("score.-0.8", 59), ("unscored", 1)]);
    let report = report(&redis, "candidate");
    assert_eq!(report["findings"]["scores"]["proven"], "worse", "{report}");
    assert_eq!(told(&redis), 0);
}

#[test]
fn a_model_is_asked_by_the_rubric_and_shown_its_key() {
    let judge = Upstream::start(|connection| {
        while let Some(seen) = connection.read_request() {
            let asked = question(&seen);
            let material = asked["messages"][1]["content"].as_str().unwrap();
            let material: Json = serde_json::from_str(material).unwrap();
            let new_left = material["left"].to_string().contains("new");
            let winner = if new_left { "left" } else { "right" };
            let message = format!("Let me see.\n{{\"winner\": \"{winner}\", \"why\": \"new\"}}");
            let answer = json!({
                "object": "chat.completion",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": message}}],
            });
            connection.send(response(200, &answer.to_string()));
        }
    });
    let candidate = candidate();
    let url = format!("llm:@org/m-1@{}", judge.url("/v1?version=2"));
    let redis = stage(&candidate, &url, 10);
    let once = [
        "shadow",
        SERVICE,
        "--once",
        "--from",
        "oldest",
        "--max-rate",
        "off",
    ];
    let output = smartlink(&redis, &[&once[..], &["--log", "trace"]].concat())
        .env("SMARTLINK_SCORER_KEY", "sk-s3cr3t")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = [output.stdout, output.stderr].concat();
    assert!(!String::from_utf8_lossy(&said).contains("s3cr3t"));
    assert_counters(&redis, &[("score.+1.0", 10)]);
    let seen = judge.seen();
    assert_eq!(seen.len(), 20);
    for seen in &seen {
        assert_eq!(
            seen.head.start,
            "POST /v1/chat/completions?version=2 HTTP/1.1"
        );
        assert_eq!(seen.head.value("authorization"), Some("Bearer sk-s3cr3t"));
        assert_eq!(seen.head.value("content-type"), Some("application/json"));
        let asked = question(seen);
        let members: Vec<&String> = asked.as_object().unwrap().keys().collect();
        assert_eq!(members, ["messages", "model", "stream"]);
        assert_eq!(asked["model"], "@org/m-1");
        assert_eq!(asked["messages"][0]["role"], "system");
        let rubric = asked["messages"][0]["content"].as_str().unwrap();
        assert!(rubric.contains("\"winner\""), "{rubric}");
        assert_eq!(asked["messages"][1]["role"], "user");
    }
    // Without a key it is asked without.
    let redis = stage(&candidate, &url, 1);
    compare_all(&redis, &[]);
    assert_counters(&redis, &[("score.+1.0", 1)]);
    assert_eq!(judge.seen()[20].head.value("authorization"), None);
}
