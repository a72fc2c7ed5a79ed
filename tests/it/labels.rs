//! Labels: each pair is judged once by as many as are wanted, by people who cannot know whose answer
//! is whose; and the files that come of it.

#![expect(
    clippy::unwrap_used,
    reason = "a panic fails the test, which is what is wanted"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value as Json;

use crate::support::redis::Redis;
use crate::support::replay::{
    SERVICE, add_all, answering, compare_all, record, report, run, smartlink,
};

const PAIRS: u64 = 200;

/// A Redis with so many pairs to label, whose candidate says `new` where `base` says `old`.
pub fn stage(pairs: u64, reviewers: u32) -> Redis {
    let answer = |word: &str, n: u64| format!("{{\"status\":true,\"data\":[\"{word} {n}\"]}}");
    let base = answering(move |n| (200, answer("old", n)));
    let candidate = answering(move |n| (200, answer("new", n)));
    let redis = Redis::start();
    for (url, version) in [(base.url("/"), "base"), (candidate.url("/"), "candidate")] {
        redis.call(&["HSET", "smartlink:endpoints:ner", &url, version]);
    }
    redis.run(&format!(
        "HSET smartlink:shadow:ner label 100% reviewers {reviewers}"
    ));
    add_all(
        &redis,
        (1..=pairs).map(|n| record(n, &answer("old", n))).collect(),
    );
    compare_all(&redis, &[]);
    redis
}

/// A robot that judges.
struct Robot {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Robot {
    fn start(redis: &Redis, name: &str) -> Self {
        let mut child = smartlink(
            redis,
            &["label", SERVICE, "--reviewer", name, "--hold", "3s"],
        )
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
        Self {
            input: child.stdin.take().unwrap(),
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
        }
    }

    /// The next pair; `None` when there is none.
    fn next(&mut self) -> Option<Json> {
        let line = self.lines.next()?.unwrap();
        Some(serde_json::from_str(&line).unwrap())
    }

    fn press(&mut self, keys: &str) {
        writeln!(self.input, "{keys}").unwrap();
    }

    fn crash(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Judges until nothing is left, always so; crashes in the middle of every `crash`th pair.
fn judge(redis: &Redis, name: &str, crash: usize, key: impl Fn(&Json) -> &'static str) {
    let mut robot = Robot::start(redis, name);
    let mut seen: usize = 0;
    while let Some(pair) = robot.next() {
        seen += 1;
        if seen.is_multiple_of(crash) {
            robot.crash();
            robot = Robot::start(redis, name);
            continue;
        }
        robot.press(key(&pair));
    }
    robot.child.wait().unwrap();
}

fn label(redis: &Redis, pair: &str) -> BTreeMap<String, String> {
    redis.hash(&format!("smartlink:label:ner:{pair}"))
}

#[test]
fn every_pair_is_judged_once_by_as_many_as_are_wanted() {
    let redis = stage(PAIRS, 2);
    std::thread::scope(|scope| {
        for name in ["ann", "bob", "eve", "joe"] {
            let redis = &redis;
            scope.spawn(move || judge(redis, name, 11, |_| "a liked it"));
        }
    });
    // A robot may end while a pair is reserved for one that crashed; somebody comes back later.
    crate::support::eventually("nothing is open", || {
        judge(&redis, "late", usize::MAX, |_| "a");
        let open = redis
            .run("ZCARD smartlink:internal:labels-open:ner")
            .number();
        (open == 0).then_some(())
    });
    for n in 1..=PAIRS {
        let label = label(&redis, &format!("r-{n}:candidate"));
        assert_eq!(label["status"], "done");
        let choices = label.keys().filter(|field| field.starts_with("choice."));
        assert_eq!(choices.count(), 2, "{label:?}");
    }
    let report = report(&redis, "candidate");
    assert_eq!(report["labels"]["done"], PAIRS, "{report}");
    let of = |name: &str| report["labels"][name].as_u64().unwrap_or(0);
    assert_eq!(of("win") + of("loss") + of("tie"), PAIRS);
    // Who always press left agree as often as chance would have it: each has sides of their own.
    let agreement = report["agreement"].as_array().unwrap().iter();
    let many = agreement.filter(|it| it["pairs"].as_u64().unwrap() >= 30);
    let kappas: Vec<f64> = many.map(|it| it["kappa"].as_f64().unwrap()).collect();
    assert!(
        !kappas.is_empty() && kappas.iter().all(|it| it.abs() < 0.7),
        "{kappas:?}"
    );
    let said = run(&redis, &["label", SERVICE, "--agreement"]);
    assert!(said.contains(" judged, "), "{said}");
}

#[test]
fn who_always_presses_left_prefers_nobody() {
    let redis = stage(PAIRS, 1);
    judge(&redis, "ann", usize::MAX, |pair| {
        // Whose answer is whose stands nowhere but in what they say.
        assert_eq!(pair.as_object().unwrap().len(), 4, "{pair}");
        "a"
    });
    let report = report(&redis, "candidate");
    let wins = report["labels"]["win"].as_u64().unwrap();
    assert!((PAIRS * 2 / 5..=PAIRS * 3 / 5).contains(&wins), "{report}");
    assert_eq!(report["findings"]["labels"]["proven"], "open", "{report}");
    assert_eq!(wins + report["labels"]["loss"].as_u64().unwrap(), PAIRS);
}

/// Which of two sides is the new one.
fn new_is_left(pair: &Json) -> bool {
    pair["left"].to_string().contains("new")
}

#[test]
fn what_seven_of_ten_prefer_is_proven() {
    for (prefer_new, proven) in [(7, "fine"), (3, "worse")] {
        let redis = stage(PAIRS, 1);
        let turn = AtomicUsize::new(0);
        judge(&redis, "ann", usize::MAX, |pair| {
            let likes_new = turn.fetch_add(1, Ordering::Relaxed) % 10 < prefer_new;
            if likes_new == new_is_left(pair) {
                "a"
            } else {
                "b"
            }
        });
        let report = report(&redis, "candidate");
        let wins = PAIRS * prefer_new as u64 / 10;
        assert_eq!(report["labels"]["win"], wins, "{report}");
        assert_eq!(report["findings"]["labels"]["proven"], proven, "{report}");
        let said = run(&redis, &["shadow", "report", SERVICE]);
        assert!(said.contains(&format!("labels {proven}")), "{said}");
    }
}

#[test]
fn the_most_different_pairs_are_asked_about_and_prove_nothing() {
    let redis = Redis::start();
    // One in forty differs in five members, the others in one.
    let answer = |word: &str, n: u64| {
        let many = if n.is_multiple_of(40) { word } else { "same" };
        let members = ["b", "c", "d", "e"].map(|name| format!(",\"{name}\":\"{many}\""));
        format!(
            "{{\"status\":true,\"a\":\"{word} {n}\"{}}}",
            members.concat()
        )
    };
    let candidate = answering(move |n| (200, answer("new", n)));
    redis.call(&[
        "HSET",
        "smartlink:endpoints:ner",
        "http://127.0.0.1:1/",
        "base",
        &candidate.url("/"),
        "candidate",
    ]);
    redis.run("HSET smartlink:shadow:ner label 5%");
    let all = (1..=1_000).map(|n| record(n, &answer("old", n)));
    add_all(&redis, all.collect());
    compare_all(&redis, &[]);
    let lines = run(&redis, &["shadow", "export", SERVICE, "--format", "jsonl"]);
    let pairs: Vec<Json> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let chosen = |why: &str| -> Vec<u64> {
        let chosen = pairs.iter().filter(|pair| pair["meta"]["chosen"] == why);
        let ids = chosen.map(|pair| pair["meta"]["id"].as_str().unwrap().to_owned());
        ids.map(|id| id.strip_prefix("r-").unwrap().parse().unwrap())
            .collect()
    };
    let (random, disagreement) = (chosen("random"), chosen("disagreement"));
    assert!((25..=80).contains(&random.len()), "{}", random.len());
    assert!(
        (25..=60).contains(&disagreement.len()),
        "{}",
        disagreement.len()
    );
    // All that differ most are there, one way or the other.
    let found = |n: &u64| random.contains(n) || disagreement.contains(n);
    let missing: Vec<u64> = (1..=25).map(|n| n * 40).filter(|n| !found(n)).collect();
    assert_eq!(missing, [0; 0], "{disagreement:?}");
    judge(&redis, "ann", usize::MAX, |_| "a");
    let report = report(&redis, "candidate");
    let of = |name: &str| report["labels"][name].as_u64().unwrap_or(0);
    let proving = u64::try_from(random.len()).unwrap();
    assert_eq!(of("win") + of("loss") + of("tie"), proving, "{report}");
    assert_eq!(of("done"), u64::try_from(pairs.len()).unwrap());
}

#[test]
fn exported_files_have_the_columns_that_training_wants() {
    let redis = stage(60, 1);
    let turn = AtomicUsize::new(0);
    // Three of four prefer what is new, wherever it stands; the fourth finds both bad.
    judge(&redis, "ann", usize::MAX, |pair| {
        match (turn.fetch_add(1, Ordering::Relaxed) % 4, new_is_left(pair)) {
            (3, _) => "x",
            (_, true) => "a",
            (_, false) => "b",
        }
    });
    let file = redis.folder().join("pairs.jsonl");
    let path = file.to_str().unwrap();
    let exported = |args: &[&str]| -> Vec<Json> {
        run(
            &redis,
            &[&["shadow", "export", SERVICE, "--output", path], args].concat(),
        );
        let text = std::fs::read_to_string(&file).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let columns =
        |line: &Json| -> Vec<String> { line.as_object().unwrap().keys().cloned().collect() };
    let dpo = exported(&["--format", "dpo"]);
    assert_eq!(dpo.len(), 45);
    for line in &dpo {
        assert_eq!(columns(line), ["chosen", "meta", "prompt", "rejected"]);
        assert!(line["chosen"].as_str().unwrap().contains("new"), "{line}");
        assert!(line["rejected"].as_str().unwrap().contains("old"), "{line}");
    }
    let kto = exported(&["--format", "kto"]);
    assert_eq!(kto.len(), 120);
    assert_eq!(kto.iter().filter(|line| line["label"] == true).count(), 45);
    assert_eq!(columns(&kto[0]), ["completion", "label", "meta", "prompt"]);
    let chats = exported(&["--conversational"]);
    assert_eq!(chats[0]["chosen"][0]["role"], "assistant");
    assert_eq!(chats[0]["prompt"][0]["role"], "user");
    // Each column has one type in all lines, or nobody can load the file.
    for line in dpo.iter().chain(&kto) {
        let texts = ["prompt", "chosen", "rejected", "completion"];
        let mut texts = texts.iter().filter_map(|column| line.get(*column));
        assert!(texts.all(Json::is_string), "{line}");
    }
    let tasks = exported(&["--format", "labelstudio"]);
    assert_eq!(tasks.len(), 60);
    for task in &tasks {
        assert_eq!(columns(task), ["annotations", "data"]);
        assert_eq!(
            columns(&task["data"]),
            ["answer1", "answer2", "meta", "prompt"]
        );
        let result = &task["annotations"][0]["result"][0];
        assert_eq!(result["type"], "pairwise");
        assert!(result["value"]["selected"].is_string(), "{task}");
    }
    let all = exported(&["--format", "jsonl"]);
    assert_eq!(all.len(), 60);
    let every = [
        "answers",
        "base",
        "candidate",
        "choices",
        "meta",
        "prompt",
        "request",
    ];
    assert!(all.iter().all(|line| columns(line) == every));
    assert!(all.iter().all(|line| line["choices"]["ann"].is_string()));
    let report = report(&redis, "candidate");
    assert_eq!(report["labels"]["win"], 45, "{report}");
}
