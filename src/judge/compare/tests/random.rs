//! Random documents.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        (-4..4_i8).prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        "[ab ]{0,3}".prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            prop::collection::btree_map("[ab/~*]", inner, 0..4)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

fn reversed(value: &Json) -> Json {
    match value {
        Json::Array(items) => items.iter().rev().map(reversed).collect(),
        Json::Object(members) => (members.iter())
            .map(|(name, value)| (name.clone(), reversed(value)))
            .collect(),
        value => value.clone(),
    }
}

fn differences(rules: &Rules, base: &Json, candidate: &Json) -> Differences {
    let (base, candidate) = (base.to_string(), candidate.to_string());
    let (base, candidate) = (answer(base.as_bytes()), answer(candidate.as_bytes()));
    let verdict = compare(rules, &base, &candidate);
    verdict.differences.expect("both are good")
}

/// Rules of every kind, at random places.
fn any_rules() -> impl Strategy<Value = Rules> {
    let pointers = || prop::collection::vec("/[ab*]/[ab*]|/[ab*]", 1..4);
    (pointers(), pointers(), pointers(), any::<bool>()).prop_map(
        |(ignore, unordered, close, on)| {
            let close: Vec<String> = close.iter().map(|at| format!("{at}=1")).collect();
            rules(&[
                ("ignore", &ignore.join(",")),
                ("unordered", &unordered.join(",")),
                ("tolerance", &close.join(",")),
                ("null_is_missing", if on { "on" } else { "off" }),
                ("fail_when", "off"),
            ])
        },
    )
}

proptest! {
    #[test]
    fn a_document_is_like_itself(rules in any_rules(), value in any_json()) {
        let value = json!({ "a": value });
        prop_assert_eq!(differences(&rules, &value, &value), Differences::new());
    }

    #[test]
    fn order_is_no_difference_where_there_is_none(value in any_json()) {
        let rules = rules(&[
            ("unordered", "/*, /*/*, /*/*/*, /*/*/*/*, /*/*/*/*/*, /*/*/*/*/*/*"),
            ("fail_when", "off"),
        ]);
        let value = json!({ "a": value });
        prop_assert_eq!(differences(&rules, &value, &reversed(&value)), Differences::new());
    }

    #[test]
    fn documents_that_differ_are_told_apart_from_both_sides(one in any_json(), other in any_json()) {
        let rules = rules(&[("fail_when", "off"), ("tolerance", "/duration=0")]);
        let (one, other) = (json!({ "a": one }), json!({ "a": other }));
        let (there, back) = (differences(&rules, &one, &other), differences(&rules, &other, &one));
        prop_assert!(there.keys().eq(back.keys()));
    }

    #[test]
    fn no_bytes_are_too_strange(
        base: Vec<u8>, candidate in "(data: ?|[\\[\\]{}\",:\n\r1-])*", sse: bool,
    ) {
        let kind = if sse { "text/event-stream" } else { "application/json" };
        let side = |body| Side { content_type: Some(kind), ..answer(body) };
        let rules = rules(&[("sse_text", "/0"), ("unordered", "/*")]);
        let verdict = compare(&rules, &side(&base), &side(candidate.as_bytes()));
        let swapped = compare(&rules, &side(candidate.as_bytes()), &side(&base));
        prop_assert_eq!((verdict.base, verdict.candidate), (swapped.candidate, swapped.base));
        prop_assert_eq!(verdict.differences.is_some(), swapped.differences.is_some());
    }
}
