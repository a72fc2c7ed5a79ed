//! Where JSON documents differ.

use serde_json::json;

use super::*;

/// Paths and kinds of the differences of two JSON documents.
fn found(fields: &[(&str, &str)], base: &str, candidate: &str) -> Vec<(String, &'static str)> {
    let verdict = compare(
        &rules(fields),
        &answer(base.as_bytes()),
        &answer(candidate.as_bytes()),
    );
    let differences = verdict.differences.expect("both are good");
    let found = differences.iter();
    found
        .map(|(path, difference)| (path.to_string(), difference.kind.name()))
        .collect()
}

fn check(fields: &[(&str, &str)], base: &str, candidate: &str, wanted: &[(&str, &str)]) {
    let owned: Vec<(String, &str)> = found(fields, base, candidate);
    let got: Vec<(&str, &str)> = owned.iter().map(|(p, k)| (p.as_str(), *k)).collect();
    assert_eq!(got, wanted, "{fields:?} {base} {candidate}");
    // Swapped sides differ at the same paths, what was missing is extra.
    let swapped = found(fields, candidate, base);
    let swap = |kind| match kind {
        "missing" => "extra",
        "extra" => "missing",
        kind => kind,
    };
    let got: Vec<(&str, &str)> = swapped
        .iter()
        .map(|(p, k)| (p.as_str(), swap(*k)))
        .collect();
    assert_eq!(got, wanted, "swapped: {fields:?} {base} {candidate}");
}

#[test]
fn differences_have_a_path_and_a_kind() {
    let none: &[(&str, &str)] = &[];
    for (base, candidate, wanted) in [
        ("{}", "{}", &[][..]),
        (r#"{"a":1}"#, r#"{"a":1.0}"#, &[]),
        (r#"{"a":0.1}"#, r#"{"a":0.10000000001}"#, &[]),
        (r#"{"a":1}"#, r#"{"a":2}"#, &[("/a", "value")]),
        // Two whole numbers are not rounded: they may be names.
        (
            r#"{"a":9007199254740993001}"#,
            r#"{"a":9007199254740993002}"#,
            &[("/a", "value")],
        ),
        (r#"{"a":1}"#, r#"{"a":"1"}"#, &[("/a", "type")]),
        (r#"{"a":null}"#, r#"{"a":false}"#, &[("/a", "type")]),
        (r#"{"a":true}"#, r#"{"a":false}"#, &[("/a", "value")]),
        (r#"{"a":1}"#, "{}", &[("/a", "missing")]),
        (r#"{"a":null}"#, "{}", &[("/a", "missing")]),
        (
            r#"{"a/b":{"~":1}}"#,
            r#"{"a/b":{"~":2}}"#,
            &[("/a~1b/~0", "value")],
        ),
        (r#"{"a":[1,2]}"#, r#"{"a":[1]}"#, &[("/a", "length")]),
        (r#"{"a":[1,2,3]}"#, r#"{"a":[3,2,1.0]}"#, &[("/a", "order")]),
        (r#"{"a":[1,2,3]}"#, r#"{"a":[3,2,2]}"#, &[("/a/*", "value")]),
        (
            r#"{"a":[{"b":[1]},{"b":[2]}]}"#,
            r#"{"a":[{"b":[1]},{"b":[3]}]}"#,
            &[("/a/*/b/*", "value")],
        ),
        (
            r#"{"duration":1,"x":{"duration":1}}"#,
            r#"{"duration":2,"x":{"duration":2}}"#,
            &[("/x/duration", "value")],
        ),
        ("[1]", "[2]", &[("/*", "value")]),
        ("1", "2", &[("body", "value")]),
        (r#"{"a":1}"#, "[1]", &[("body", "type")]),
    ] {
        check(none, base, candidate, wanted);
    }
}

#[test]
fn the_most_specific_rule_wins() {
    let base = r#"{"a":{"x":1,"ts":5},"b":[{"x":1,"ts":5},{"x":1,"ts":6}],"duration":1}"#;
    let candidate = r#"{"a":{"x":2,"ts":6},"b":[{"x":2,"ts":5},{"x":1,"ts":8}],"duration":9}"#;
    for (fields, wanted) in [
        (
            &[("ignore", "/a")][..],
            &[("/b/*/ts", "value"), ("/b/*/x", "value")][..],
        ),
        (&[("ignore", "/a, /b/*/ts")], &[("/b/*/x", "value")]),
        (
            &[("ignore", "/*/ts, /*/*/ts, /a/x")],
            &[("/b/*/x", "value")],
        ),
        (
            &[("ignore", "/a, /b"), ("tolerance", "/a/x=0")],
            &[("/a/x", "value")],
        ),
        (&[("ignore", "/a, /b"), ("tolerance", "/a/x=1")], &[]),
        (
            &[("ignore", "/b/*"), ("tolerance", "/b/0/x=0, 1%")],
            &[("/a/ts", "value"), ("/a/x", "value"), ("/b/*/x", "value")],
        ),
        (&[("tolerance", "50%")], &[]),
        (&[("tolerance", "50%, /b/*/ts=1")], &[("/b/*/ts", "value")]),
        (
            &[("tolerance", "/*/x=1, /a/x=0, /a/ts=1, /b=2")],
            &[("/a/x", "value")],
        ),
        (
            &[("ignore", "/a, /b"), ("tolerance", "/duration=1")],
            &[("/duration", "value")],
        ),
        (
            &[
                ("ignore", "/a, /b, /duration"),
                ("tolerance", "/duration=1"),
            ],
            &[],
        ),
    ] {
        check(fields, base, candidate, wanted);
    }
}

#[test]
fn tolerances_add_up() {
    for (tolerance, far) in [
        ("0.4", true),
        ("0.5", false),
        ("/s=4%", true),
        ("/s=5%", false),
        ("/s=0.3, /s=2%", false),
        ("/s=0.3, /s=1%", true),
    ] {
        let wanted: &[(&str, &str)] = if far { &[("/s", "value")] } else { &[] };
        check(
            &[("tolerance", tolerance)],
            r#"{"s":9.5}"#,
            r#"{"s":10}"#,
            wanted,
        );
    }
}

#[test]
fn arrays_without_order_are_matched_by_value_or_by_a_member() {
    let value: &[(&str, &str)] = &[("unordered", "/d")];
    let member: &[(&str, &str)] = &[("unordered", "/d:id")];
    let close: &[(&str, &str)] = &[("unordered", "/d"), ("tolerance", "0.1")];
    let one =
        r#"{"d":[{"id":1,"s":0.5,"t":"a"},{"id":2,"s":0.6,"t":"b"},{"id":2,"s":0.6,"t":"b"}]}"#;
    for (fields, base, candidate, wanted) in [
        (value, r#"{"d":[1,2,2,3]}"#, r#"{"d":[2,3,2,1]}"#, &[][..]),
        (
            value,
            r#"{"d":[1,2,2,3]}"#,
            r#"{"d":[2,3,3,1]}"#,
            &[("/d/*", "value")],
        ),
        (value, r#"{"d":[1,2]}"#, r#"{"d":[1]}"#, &[("/d", "length")]),
        (
            value,
            r#"{"d":[[1,2],[2,1]]}"#,
            r#"{"d":[[2,1],[1,2]]}"#,
            &[],
        ),
        (
            value,
            r#"{"d":[[1,2],[3]]}"#,
            r#"{"d":[[3],[2,1]]}"#,
            &[("/d/*", "order")],
        ),
        (
            value,
            r#"{"d":{"x":[1,2]}}"#,
            r#"{"d":{"x":[2,1]}}"#,
            &[("/d/x", "order")],
        ),
        // Only the label of one item is wrong, wherever it stands.
        (
            value,
            one,
            r#"{"d":[{"id":2,"s":0.6,"t":"b"},{"id":2,"s":0.6,"t":"c"},{"id":1,"s":0.5,"t":"a"}]}"#,
            &[("/d/*/t", "value")],
        ),
        (
            close,
            one,
            r#"{"d":[{"id":2,"s":0.61,"t":"b"},{"id":2,"s":0.6,"t":"b"},{"id":1,"s":0.55,"t":"a"}]}"#,
            &[],
        ),
        (
            close,
            one,
            r#"{"d":[{"id":2,"s":0.61,"t":"b"},{"id":2,"s":0.6,"t":"b"},{"id":1,"s":0.75,"t":"a"}]}"#,
            &[("/d/*/s", "value")],
        ),
        (
            member,
            one,
            r#"{"d":[{"id":2,"s":0.6,"t":"b"},{"id":2,"s":0.6,"t":"b"},{"id":1,"s":0.5,"t":"a"}]}"#,
            &[],
        ),
        (
            member,
            one,
            r#"{"d":[{"id":2,"s":0.6,"t":"b"},{"id":2,"s":0.6,"t":"b"}]}"#,
            &[("/d/*", "missing")],
        ),
        (
            member,
            one,
            r#"{"d":[{"id":2,"s":0.6,"t":"b"},{"id":2,"s":0.6,"t":"b"},{"id":1,"s":0.7,"t":"a"}]}"#,
            &[("/d/*/s", "value")],
        ),
        (
            member,
            r#"{"d":[1,{"id":1}]}"#,
            r#"{"d":[{"id":1},2]}"#,
            &[("/d/*", "value")],
        ),
    ] {
        check(fields, base, candidate, wanted);
    }
}

#[test]
fn texts_differ_by_what_is_not_allowed() {
    let cases: [(&str, &str, &str, bool); 12] = [
        ("trim", " Yes ", "Yes", true),
        ("trim", "Yes", "yes", false),
        ("casefold", "STRASSE", "Straße", true),
        ("trim, casefold", " YES", "yes", true),
        ("/t=trim, casefold", " YES", "yes", true),
        ("/u=trim", "Yes ", "Yes", false),
        ("similar:0.75", "one two three four", "four three two", true),
        ("similar:0.75", "one two three four", "one two", false),
        ("similar:80%", "北京市海淀区", "北京市海淀", true),
        ("similar:0.9", "北京市海淀区", "北京市海淀", false),
        ("similar:1", "a b a", "b, a!", true),
        ("similar:1, /t=trim", "a b a", "b, a!", false),
    ];
    for (text, base, candidate, same) in cases {
        let wanted: &[(&str, &str)] = if same { &[] } else { &[("/t", "value")] };
        let base = json!({ "t": base }).to_string();
        let candidate = json!({ "t": candidate }).to_string();
        check(&[("text", text)], &base, &candidate, wanted);
    }
}

#[test]
fn null_is_missing_where_the_policy_says_so() {
    let fields: &[(&str, &str)] = &[("null_is_missing", "on"), ("unordered", "/d")];
    check(fields, r#"{"a":null,"b":1}"#, r#"{"b":1}"#, &[]);
    check(fields, r#"{"a":null}"#, r#"{"a":0}"#, &[("/a", "extra")]);
    check(fields, r#"{"d":[{"a":null},1]}"#, r#"{"d":[1,{}]}"#, &[]);
}

#[test]
fn differences_show_both_values_cut_short() {
    let long = json!({ "a": "é".repeat(300), "b": [1, 2] }).to_string();
    let verdict = compare(
        &Rules::default(),
        &answer(long.as_bytes()),
        &answer(b"{\"b\":3}"),
    );
    let differences = verdict.differences.unwrap();
    assert_eq!(&*differences["/a"].base, "é".repeat(128));
    assert_eq!(&*differences["/a"].candidate, "");
    assert_eq!(&*differences["/b"].base, "[1,2]");
    assert_eq!(&*differences["/b"].candidate, "3");
    let long = format!("[{}1]", "1,".repeat(10_000));
    let verdict = compare(&Rules::default(), &answer(long.as_bytes()), &answer(b"1"));
    assert_eq!(verdict.differences.unwrap()["body"].base.len(), SHOWN_MAX);
}
