//! Services whose answers differ from call to call, and candidates with one fault each: the
//! comparison finds the fault and accuses nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value as Json, json};
use smartlink::judge::betting::{Bet, PAIR};
use smartlink::judge::compare::{Ending, Pair, Rules, Side, compare};
use smartlink::judge::ebh::suspects;
use smartlink::judge::tally::Tally;
use smartlink::judge::trial::ln_needed;
use smartlink::model::comparison::{Comparison, Unordered};
use smartlink::review::{self, Finding, Picture, Proven, Times};

use crate::chance::Chance;

/// What is wrong with a candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    DroppedField,
    ChangedType,
    WrongLabel,
    Shuffled,
    Fails,
}

/// An answer to the request of this number: a stable part, and noise.
fn answer(request: u64, fault: Fault, chance: &mut Chance) -> (u16, Json) {
    let mut stable = Chance::new(request);
    let mut item = |id: u64| {
        let label = ["person", "place", "thing"][(stable.bits() % 3) as usize];
        json!({ "id": id, "label": label, "score": stable.part(), "at": chance.bits() })
    };
    let mut data: Vec<Json> = (0..3).map(&mut item).collect();
    if chance.part() < 0.5 {
        data.reverse();
    }
    let mut tags = vec![json!("a"), json!("b")];
    if fault == Fault::Shuffled && chance.part() < 0.2 {
        tags.reverse();
    }
    let mut text = format!("answer {request}");
    if chance.part() < 0.05 {
        text.push_str(", more or less");
    }
    let mut answer = json!({
        "id": chance.bits().to_string(), "ts": chance.bits(), "duration": chance.part(),
        "data": data, "tags": tags, "text": text, "count": 3, "meta": { "model": "m1" },
    });
    let mut status = 200;
    match fault {
        Fault::DroppedField => drop(
            answer["meta"]
                .as_object_mut()
                .and_then(|meta| meta.remove("model")),
        ),
        Fault::ChangedType => answer["count"] = "3".into(),
        Fault::WrongLabel if chance.part() < 0.01 => answer["data"][0]["label"] = "wrong".into(),
        Fault::Fails if chance.part() < 0.02 => status = 500,
        _ => {}
    }
    (status, answer)
}

/// Compares a candidate with that fault, `pairs` times.
fn compared(fault: Fault, pairs: u64, seed: u64) -> Tally {
    let rules = Rules::new(&Comparison {
        unordered: vec![Unordered {
            pointer: "/data".into(),
            key: Some("id".into()),
        }],
        ..Comparison::default()
    });
    let mut chance = Chance::new(seed);
    let mut tally = Tally::default();
    for request in 0..pairs {
        let answers = [Fault::None, Fault::None, fault].map(|fault| {
            let (status, answer) = answer(request, fault, &mut chance);
            (status, answer.to_string())
        });
        let [base, again, candidate] = answers.each_ref().map(|(status, body)| Side {
            ending: Ending::Whole,
            status: *status,
            content_type: Some("application/json"),
            body: body.as_bytes(),
        });
        let noise = compare(&rules, &base, &again);
        tally.count(&compare(&rules, &base, &candidate), Some(&noise));
    }
    tally
}

fn accused(tally: &Tally) -> Vec<String> {
    suspects(tally)
        .into_iter()
        .map(|suspect| suspect.path.into())
        .collect()
}

#[test]
fn an_identical_candidate_with_noise_is_accused_of_nothing() {
    for seed in 0..20 {
        let tally = compared(Fault::None, 200, seed);
        assert_eq!(
            tally.match_rate(),
            Some(0.0),
            "identities are never the same"
        );
        assert_eq!(accused(&tally), Vec::<String>::new(), "seed {seed}");
    }
}

#[test]
fn a_fault_is_found_where_it_is_and_nowhere_else() {
    for (fault, pairs, path) in [
        (Fault::DroppedField, 400, "/meta/model"),
        (Fault::ChangedType, 400, "/count"),
        (Fault::Shuffled, 400, "/tags"),
        (Fault::WrongLabel, 2_000, "/data/*/label"),
    ] {
        assert_eq!(accused(&compared(fault, pairs, 7)), [path], "{fault:?}");
    }
}

#[test]
fn failures_are_found_among_the_pairs() {
    let tally = compared(Fault::Fails, 2_000, 7);
    let count = |pair| tally.pairs.get(&pair).copied().unwrap_or_default();
    let (worse, better) = (count(Pair::CandidateBadOnly), count(Pair::BaseBadOnly));
    assert_eq!(better, 0);
    let counts = [worse, better, count(Pair::BothOk)];
    assert!(
        Bet::harm(&PAIR, 0.001).ln_e(&counts) > ln_needed(0.01 * 0.25),
        "{counts:?}"
    );
    assert_eq!(accused(&tally), Vec::<String>::new());
}

/// The counters of a worker that compares such a candidate, which takes so many times as long.
struct Worker {
    fault: Fault,
    slower: f64,
    chance: Chance,
    rules: Rules,
    results: BTreeMap<String, u64>,
    pairs: u64,
}

impl Worker {
    fn new(fault: Fault, slower: f64, seed: u64) -> Self {
        Self {
            fault,
            slower,
            chance: Chance::new(seed),
            rules: Rules::new(&Comparison {
                unordered: vec![Unordered {
                    pointer: "/data".into(),
                    key: Some("id".into()),
                }],
                ..Comparison::default()
            }),
            results: BTreeMap::new(),
            pairs: 0,
        }
    }

    fn count(&mut self, field: &str) {
        *self.results.entry(field.to_owned()).or_default() += 1;
    }

    /// Compares as many more, asking `base` again as a worker does.
    fn compare(&mut self, pairs: u64) {
        for _ in 0..pairs {
            self.pairs += 1;
            let triples = self.results.get("triples").copied().unwrap_or_default();
            let asks_again = review::asks_base_again(&format!("r-{}", self.pairs), triples);
            let request = self.pairs;
            let answers = [Fault::None, Fault::None, self.fault].map(|fault| {
                let (status, answer) = answer(request, fault, &mut self.chance);
                (status, answer.to_string())
            });
            let [base, again, candidate] = answers.each_ref().map(|(status, body)| Side {
                ending: Ending::Whole,
                status: *status,
                content_type: Some("application/json"),
                body: body.as_bytes(),
            });
            let verdict = compare(&self.rules, &base, &candidate);
            let noise = asks_again.then(|| compare(&self.rules, &base, &again));
            let mut time = |factor: f64| {
                let seconds = 0.05 * factor * (0.5 * self.chance.normal()).exp();
                Duration::from_secs_f64(seconds)
            };
            let times = asks_again.then(|| Times {
                base: time(1.0),
                candidate: time(self.slower),
            });
            for (field, _) in review::counts(&verdict, noise.as_ref(), times) {
                self.count(&field);
            }
            for marked in review::marks(&verdict, noise.as_ref()) {
                let mark = match (marked.candidate, marked.noise) {
                    (true, true) => "both",
                    (true, false) => "candidate_only",
                    (false, _) => "noise_only",
                };
                for each in ["both", "candidate_only", "noise_only"] {
                    let field = format!("path.{}.{each}", marked.path);
                    *self.results.entry(field).or_default() += u64::from(each == mark);
                }
            }
        }
    }

    fn picture(&self) -> Picture {
        let results = self.results.iter();
        let results = results.map(|(field, count)| (field.clone(), count.to_string()));
        let none = BTreeMap::new();
        Picture::of(("s", "c"), &results.collect(), &none, (None, 0), Vec::new())
    }
}

fn flagged(picture: &Picture) -> Vec<&str> {
    let rows = picture.paths.iter().filter(|row| row.flagged);
    rows.map(|row| row.path.as_str()).collect()
}

#[test]
fn every_fault_is_found_within_five_thousand_pairs_of_a_worker() {
    type Found = fn(&Picture) -> bool;
    let is_slower: Found = |it| it.findings.latency.as_ref().is_some_and(is_worse);
    let fails: Found = |it| it.findings.errors.as_ref().is_some_and(is_worse);
    let cases: [(Fault, f64, Found); 5] = [
        (Fault::DroppedField, 1.0, |it| {
            flagged(it) == ["/meta/model"]
        }),
        (Fault::ChangedType, 1.0, |it| flagged(it) == ["/count"]),
        (Fault::WrongLabel, 1.0, |it| {
            flagged(it) == ["/data/*/label"]
        }),
        (Fault::Fails, 1.0, fails),
        (Fault::None, 1.2, is_slower),
    ];
    for (fault, slower, found) in cases {
        for seed in 0..crate::runs(60).min(3) {
            let mut worker = Worker::new(fault, slower, seed);
            let mut is_found = false;
            while !is_found && worker.pairs < 5_000 {
                worker.compare(250);
                is_found = found(&worker.picture());
            }
            assert!(is_found, "{fault:?} {slower}, seed {seed}");
            eprintln!("{fault:?}, {slower} times as long: {} pairs", worker.pairs);
        }
    }
}

fn is_worse(finding: &Finding) -> bool {
    finding.proven == Proven::Worse
}

#[test]
fn a_worker_accuses_an_identical_candidate_of_nothing() {
    for seed in 0..20 {
        let mut worker = Worker::new(Fault::None, 1.0, seed);
        for _ in 0..if cfg!(debug_assertions) { 2 } else { 20 } {
            worker.compare(250);
            let picture = worker.picture();
            assert_eq!(flagged(&picture), [""; 0], "seed {seed}");
            let findings = &picture.findings;
            for finding in [&findings.errors, &findings.answers, &findings.latency] {
                assert!(!finding.as_ref().is_some_and(is_worse), "{findings:?}");
            }
        }
    }
}
