//! What whole answers come to.

use super::*;

/// What a candidate comes to beside a good answer of `base`, and whether it is bad.
fn check(fields: &[(&str, &str)], candidate: &Side<'_>, class: Class, pair: Pair) {
    let rules = rules(fields);
    let good = answer(b"{\"v\":1}");
    let verdict = compare(&rules, &good, candidate);
    let got = (verdict.candidate, verdict.pair);
    assert_eq!(got, (class, pair), "{fields:?} {candidate:?}");
    // What can happen to both must not count against one only.
    let swapped = compare(&rules, candidate, &good);
    let wanted = match pair {
        Pair::CandidateBadOnly => Pair::BaseBadOnly,
        Pair::BaseBadOnly => Pair::CandidateBadOnly,
        pair => pair,
    };
    assert_eq!(swapped.pair, wanted, "swapped: {fields:?} {candidate:?}");
    assert_eq!((swapped.candidate, swapped.base), (verdict.base, class));
}

#[test]
fn each_ending_and_each_status_has_a_class() {
    let good = answer(b"{\"v\":1}");
    let ends = |ending| Side { ending, ..good };
    let status = |status| Side { status, ..good };
    let bad = Pair::CandidateBadOnly;
    let only: &[(&str, &str)] = &[("bad", "http_5xx, too_large")];
    check(&[], &good, Class::Ok, Pair::BothOk);
    check(&[], &ends(Ending::Connect), Class::Connect, bad);
    check(&[], &ends(Ending::Timeout), Class::Timeout, bad);
    check(&[], &ends(Ending::Reset), Class::Reset, bad);
    check(&[], &ends(Ending::Cut), Class::Cut, bad);
    check(&[], &ends(Ending::TooLarge), Class::TooLarge, Pair::BothOk);
    check(&[], &status(302), Class::Ok, Pair::BothOk);
    check(&[], &status(404), Class::Http4xx, bad);
    check(&[], &status(503), Class::Http5xx, bad);
    check(only, &status(503), Class::Http5xx, bad);
    check(only, &status(404), Class::Http4xx, Pair::BothOk);
    check(only, &ends(Ending::Cut), Class::Cut, Pair::BothOk);
    check(only, &ends(Ending::TooLarge), Class::TooLarge, bad);
}

#[test]
fn contents_have_a_class_too() {
    let html = side("text/html", "<h1>Oops</h1>");
    let events = side("text/event-stream; charset=utf-8", "data: {}\n\n");
    let failed = answer(b"{\"status\": false}");
    let deep = answer(b"{\"d\": [1, {\"code\": 7}]}");
    let bad = Pair::CandidateBadOnly;
    check(&[], &html, Class::BadJson, bad);
    check(&[], &events, Class::Ok, Pair::BaseBadOnly);
    check(&[], &failed, Class::Business, bad);
    check(&[("fail_when", "off")], &failed, Class::Ok, Pair::BothOk);
    let fails: &[(&str, &str)] = &[("fail_when", "/d/*/code=7, /x=no")];
    check(fails, &deep, Class::Business, bad);
    check(fails, &answer(b"{\"x\": \"no\"}"), Class::Business, bad);
    check(fails, &answer(b"{\"x\": \"yes\"}"), Class::Ok, Pair::BothOk);
    let strict: &[(&str, &str)] = &[(
        "answer_schema",
        r#"{"required": ["v"], "properties": {"v": {"type": "integer"}}}"#,
    )];
    check(strict, &answer(b"{\"v\": 1.5}"), Class::BadSchema, bad);
    check(strict, &answer(b"{\"v\": 2}"), Class::Ok, Pair::BothOk);
}

#[test]
fn a_fault_of_the_caller_is_nobodys() {
    let not_found = Side {
        status: 404,
        ..answer(b"{}")
    };
    let bad_request = Side {
        status: 400,
        ..answer(b"{}")
    };
    let verdict = compare(&Rules::default(), &not_found, &bad_request);
    assert_eq!(verdict.pair, Pair::BothOk);
    assert!(verdict.differences.unwrap().contains_key("status"));
    let failed = Side {
        status: 500,
        ..answer(b"{}")
    };
    assert_eq!(
        compare(&Rules::default(), &failed, &bad_request).pair,
        Pair::BaseBadOnly
    );
}

#[test]
fn another_format_is_a_difference_too() {
    let verdict = compare(
        &Rules::default(),
        &side("text/plain", "yes"),
        &answer(b"{\"a\":1}"),
    );
    assert_eq!(verdict.pair, Pair::BaseBadOnly);
    let differences = verdict.differences.unwrap();
    assert_eq!(differences["body"].kind, Kind::Type);
    assert_eq!(&*differences["body"].base, "text");
    assert_eq!(&*differences["content-type"].candidate, "application/json");
    // A failure is no difference: it is counted as what it is.
    let failed = Side {
        status: 502,
        ..side("text/html", "no")
    };
    assert_eq!(
        compare(&Rules::default(), &answer(b"{}"), &failed).differences,
        None
    );
}

#[test]
fn bodies_that_are_not_json_are_compared_as_a_whole() {
    let plain = |body| side("text/plain", body);
    let verdict = compare(&rules(&[("text", "trim")]), &plain("yes\n"), &plain("yes"));
    assert!(verdict.differences.unwrap().is_empty());
    let verdict = compare(&Rules::default(), &plain("yes"), &plain("no"));
    assert_eq!(&*verdict.differences.unwrap()["body"].candidate, "no");
    let bytes = |body| Side { body, ..plain("") };
    let verdict = compare(&Rules::default(), &bytes(b"\xff\x00"), &bytes(b"\xff\x00"));
    assert!(verdict.differences.unwrap().is_empty());
    let verdict = compare(&Rules::default(), &bytes(b"\xff\x00"), &bytes(b"\xff\x01"));
    assert!(verdict.differences.unwrap().contains_key("body"));
    // JSON is JSON also where nobody says so; its type is compared without its parameters.
    let unsaid = Side {
        content_type: Some("Application/JSON; charset=utf-8"),
        ..answer(b"{\"a\":1}")
    };
    let verdict = compare(&Rules::default(), &answer(b"{\"a\": 1.0}"), &unsaid);
    assert!(verdict.differences.unwrap().is_empty());
    let ignoring = rules(&[("ignore", "content-type, status")]);
    let created = Side {
        status: 201,
        ..plain("{\"a\":1}")
    };
    let verdict = compare(&ignoring, &answer(b"{\"a\":1}"), &created);
    assert!(verdict.differences.unwrap().is_empty());
}

#[test]
fn the_texts_of_events_are_joined() {
    let sse = |body| side("text/event-stream", body);
    let one = sse("data: {\"t\":\"Hel\"}\n\ndata: {\"t\":\"lo\"}\n\ndata: [DONE]\n\n");
    let other = sse(": hi\r\n\r\nevent: x\r\ndata:{\"t\":\r\ndata:\"Hello\"}\r\n\r\ndata: [DONE]");
    let differences =
        |fields: &[(&str, &str)], other| compare(&rules(fields), &one, &other).differences.unwrap();
    assert!(differences(&[("sse_text", "/t")], other).is_empty());
    assert_eq!(differences(&[], other)["body"].kind, Kind::Length);
    let bye = sse("data: {\"t\":\"Goodbye\"}\n\n");
    let said = differences(&[("sse_text", "/t")], bye);
    assert_eq!(
        (&*said["/t"].base, &*said["/t"].candidate),
        ("Hello", "Goodbye")
    );
    assert!(differences(&[("sse_text", "/t"), ("ignore", "/t")], bye).is_empty());
    // Without any text the events themselves are compared.
    assert!(!differences(&[("sse_text", "/x")], bye).is_empty());
}
