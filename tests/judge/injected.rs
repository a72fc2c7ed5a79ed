//! Services whose answers differ from call to call, and candidates with one fault each: the
//! comparison finds the fault and accuses nothing else.

use serde_json::{Value as Json, json};
use smartlink::judge::betting::{Bet, PAIR};
use smartlink::judge::compare::{Ending, Pair, Rules, Side, compare};
use smartlink::judge::ebh::suspects;
use smartlink::judge::tally::Tally;
use smartlink::judge::trial::ln_needed;
use smartlink::model::comparison::{Comparison, Unordered};

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
