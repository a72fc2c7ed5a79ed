//! Pairs of answers and what is said of them.

mod answers;
mod documents;
mod random;

use super::*;
use crate::model::decode::Fields;
use crate::model::name::Name;
use crate::model::shadow;

/// The rules of a policy with these fields.
fn rules(fields: &[(&str, &str)]) -> Rules {
    let fields: Fields = (fields.iter())
        .map(|(field, text)| ((*field).to_owned(), (*text).to_owned()))
        .collect();
    let (policy, errors) = shadow::decode("shadow:s", &Name::parse("s").unwrap(), &fields);
    assert_eq!(errors, []);
    Rules::new(&policy.unwrap().comparison)
}

fn side(content_type: &'static str, body: &'static str) -> Side<'static> {
    Side {
        ending: Ending::Whole,
        status: 200,
        content_type: Some(content_type),
        body: body.as_bytes(),
    }
}

fn answer(body: &[u8]) -> Side<'_> {
    Side {
        ending: Ending::Whole,
        status: 200,
        content_type: Some("application/json"),
        body,
    }
}

#[test]
fn hostile_answers_cost_a_bounded_effort() {
    let rules = rules(&[
        ("unordered", "/*, /*/*"),
        ("tolerance", "0.001"),
        ("text", "similar:0.9"),
    ]);
    let deep = |inner: &str| format!("{}{inner}{}", "[".repeat(100_000), "]".repeat(100_000));
    let many = |from: u32| {
        let items: Vec<String> = (from..from + 4_000)
            .map(|n| format!("[{n},[{n}.5]]"))
            .collect();
        format!("{{\"a\":[{}]}}", items.join(","))
    };
    let texts = |word: &str| {
        let item = |n: u32| format!("\"{} {n}\"", format!("{word} ").repeat(200));
        let items: Vec<String> = (0..300).map(item).collect();
        format!("{{\"a\":[{}]}}", items.join(","))
    };
    let keys = |from: u32| {
        let members: Vec<String> = (from..from + 2_000)
            .map(|n| format!("\"{n}\":{n}"))
            .collect();
        format!("{{{}}}", members.join(","))
    };
    for (base, candidate, least) in [
        (deep("1"), deep("2"), 1),
        (many(0), many(10_000), 1),
        (texts("a"), texts("b"), 1),
        (keys(0), keys(10_000), PATHS_MAX),
        (format!("[{}1]", "1,".repeat(300_000)), "[1]".to_owned(), 1),
        (
            format!("{{\"{}\":1}}", "k".repeat(100_000)),
            "{}".to_owned(),
            1,
        ),
    ] {
        let verdict = compare(
            &rules,
            &answer(base.as_bytes()),
            &answer(candidate.as_bytes()),
        );
        let differences = verdict.differences.unwrap();
        assert!(
            (least..=PATHS_MAX + 1).contains(&differences.len()),
            "{}",
            differences.len()
        );
        let shown = |text: &str| text.len() <= SHOWN_MAX;
        assert!(
            differences
                .iter()
                .all(|(path, d)| shown(path) && shown(&d.base))
        );
    }
}
