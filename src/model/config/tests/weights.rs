//! Weights and endpoints are judged together.

use super::*;

/// The shares after writing these hashes one after the other, and what is wrong then.
fn check(hashes: &[(&str, &str)], shares: &str, wrong: &[&str]) {
    let mut book = Book::loaded(&[]);
    for (kind, hash) in hashes {
        let key = format!("{kind}:a");
        if *hash == "gone" {
            book.delete(&key);
        } else {
            book.write(&key, hash);
        }
    }
    assert_eq!(book.shares("a"), shares, "{hashes:?}");
    assert_eq!(book.wrong(), wrong, "{hashes:?}");
}

const A_B: &str = "http://h:1/=a, http://h:2/=b";
const A_B_C: &str = "http://h:1/=a, http://h:2/=b, http://h:3/=c";
const BASE_OFF: &str = "http://h:1/=base off, http://h:2/=candidate";

#[test]
fn without_weights_everything_goes_to_base_or_the_only_version() {
    check(&[("endpoints", TWO)], "base=1 candidate=0", &[]);
    check(
        &[("endpoints", "http://h:1/=v7, http://h:2/=v7")],
        "v7=1",
        &[],
    );
    check(&[("endpoints", BASE_OFF)], "candidate=1", &[]);
    check(
        &[("endpoints", "http://h:1/=z, http://h:2/=base")],
        "base=1 z=0",
        &[],
    );
}

#[test]
fn several_versions_and_no_base_close_a_service_until_weights_cure_it() {
    check(&[("endpoints", A_B)], "misconfigured", &["endpoints:a"]);
    check(
        &[("endpoints", A_B), ("weights", "a=1, b=3")],
        "a=1 b=3",
        &[],
    );
    check(
        &[("weights", "a=1, b=3"), ("endpoints", A_B)],
        "a=1 b=3",
        &[],
    );
    check(
        &[("endpoints", A_B), ("weights", "a=1, x=3")],
        "misconfigured",
        &["endpoints:a", "weights:a x"],
    );
}

#[test]
fn several_versions_and_no_base_leave_the_last_good_endpoints() {
    check(
        &[("endpoints", ONE), ("endpoints", A_B)],
        "base=1",
        &["endpoints:a"],
    );
    check(
        &[("endpoints", ONE), ("endpoints", A_B), ("weights", "b=1")],
        "a=0 b=1",
        &[],
    );
}

#[test]
fn an_endpoint_that_is_off_is_as_if_absent() {
    check(&[("endpoints", "http://h:1/=base off")], "", &[]);
    let mut book = Book::loaded(&[("endpoints:a", "http://h:1/=base off, http://h:2/=base")]);
    assert_eq!(book.service("a").versions[0].endpoints.len(), 1);
    book.write("endpoints:a", "http://h:1/=base off");
    assert!(book.service("a").versions.is_empty());
    assert!(book.service("a").split.is_none());
    assert!(book.service("a").misconfigured.is_none());
}

#[test]
fn a_version_without_a_weight_is_there_and_gets_nothing() {
    check(
        &[("endpoints", TWO), ("weights", "base=5")],
        "base=5 candidate=0",
        &[],
    );
    check(
        &[("endpoints", TWO), ("weights", "base=5, candidate=0")],
        "base=5 candidate=0",
        &[],
    );
    check(
        &[("endpoints", TWO), ("weights", "base=0, candidate=5")],
        "base=0 candidate=5",
        &[],
    );
}

#[test]
fn a_weight_of_0_needs_no_endpoint() {
    check(
        &[("endpoints", ONE), ("weights", "base=5, old=0")],
        "base=5",
        &[],
    );
}

#[test]
fn bad_weights_leave_the_last_good_ones() {
    let good = [("endpoints", TWO), ("weights", "base=90, candidate=10")];
    for (bad, wrong) in [
        ("base=90, kandidate=10", "weights:a kandidate"),
        ("base=0", "weights:a"),
        ("base=90, candidate=ten", "weights:a candidate"),
        ("base=90, candidate=1000001", "weights:a candidate"),
    ] {
        let hashes = [good[0], good[1], ("weights", bad)];
        check(&hashes, "base=90 candidate=10", &[wrong]);
    }
}

#[test]
fn bad_weights_that_never_were_good_count_as_absent() {
    for (bad, wrong) in [
        ("other=1", "weights:a other"),
        ("base=0", "weights:a"),
        ("base=x", "weights:a base"),
    ] {
        check(
            &[("endpoints", TWO), ("weights", bad)],
            "base=1 candidate=0",
            &[wrong],
        );
    }
}

#[test]
fn a_misspelt_version_is_answered_with_the_nearest() {
    let book = Book::loaded(&[("endpoints:a", TWO), ("weights:a", "base=1, candidat=1")]);
    assert!(
        book.message("weights:a candidat")
            .contains("did you mean candidate?")
    );
}

#[test]
fn weights_take_effect_when_their_endpoint_appears() {
    let before = [("endpoints", ONE), ("weights", "base=90, candidate=10")];
    check(&before, "base=1", &["weights:a candidate"]);
    check(
        &[before[0], before[1], ("endpoints", TWO)],
        "base=90 candidate=10",
        &[],
    );
    check(&[before[1]], "no such service", &["weights:a"]);
    check(
        &[before[1], ("endpoints", TWO)],
        "base=90 candidate=10",
        &[],
    );
}

#[test]
fn weights_that_were_replaced_while_waiting_never_take_effect() {
    check(
        &[
            ("endpoints", ONE),
            ("weights", "base=90, candidate=10"),
            ("weights", "base=x"),
            ("endpoints", TWO),
        ],
        "base=1 candidate=0",
        &["weights:a base"],
    );
}

#[test]
fn the_share_of_a_version_that_lost_its_endpoints_goes_to_base_first() {
    let three = "http://h:1/=base, http://h:2/=b, http://h:3/=c";
    check(
        &[
            ("endpoints", three),
            ("weights", "base=50, b=30, c=20"),
            ("endpoints", "http://h:1/=base, http://h:3/=c"),
        ],
        "base=80 c=20",
        &["weights:a b"],
    );
    check(
        &[
            ("endpoints", three),
            ("weights", "b=30, c=20"),
            ("endpoints", "http://h:1/=base, http://h:3/=c"),
        ],
        "base=30 c=20",
        &["weights:a b"],
    );
}

#[test]
fn without_base_the_share_goes_to_the_others_in_proportion() {
    check(
        &[
            ("endpoints", A_B_C),
            ("weights", "a=50, b=30, c=20"),
            ("endpoints", A_B),
        ],
        "a=50 b=30",
        &["weights:a c"],
    );
    check(
        &[
            ("endpoints", A_B_C),
            ("weights", "a=50, b=30, c=20"),
            ("endpoints", A_B),
            ("endpoints", A_B_C),
        ],
        "a=50 b=30 c=20",
        &[],
    );
}

#[test]
fn when_no_weighted_version_is_left_it_is_as_without_weights() {
    let hashes = [
        ("endpoints", A_B),
        ("weights", "a=1"),
        ("endpoints", "http://h:2/=b"),
    ];
    check(&hashes, "b=1", &["weights:a a"]);
    let hashes = [
        ("endpoints", TWO),
        ("weights", "candidate=1"),
        ("endpoints", "http://h:2/=candidate off"),
    ];
    check(&hashes, "", &["weights:a candidate"]);
}

#[test]
fn an_endpoint_that_cannot_go_without_closing_the_service_stays() {
    // The only weighted version of three leaves: the two that stay are not base.
    let hashes = [
        ("endpoints", A_B_C),
        ("weights", "a=1"),
        ("endpoints", "http://h:2/=b, http://h:3/=c"),
    ];
    check(&hashes, "a=1 b=0 c=0", &["endpoints:a", "weights:a a"]);
}

#[test]
fn deleted_weights_give_everything_to_base() {
    check(
        &[
            ("endpoints", TWO),
            ("weights", "candidate=1"),
            ("weights", "gone"),
        ],
        "base=1 candidate=0",
        &[],
    );
}

#[test]
fn weights_that_are_needed_outlive_their_deletion() {
    let hashes = [
        ("endpoints", A_B),
        ("weights", "a=1, b=2"),
        ("weights", "gone"),
    ];
    check(&hashes, "a=1 b=2", &["endpoints:a"]);
    check(
        &[hashes[0], hashes[1], hashes[2], ("endpoints", TWO)],
        "base=1 candidate=0",
        &[],
    );
    check(
        &[hashes[0], hashes[1], hashes[2], ("weights", "b=1")],
        "a=0 b=1",
        &[],
    );
    check(
        &[hashes[0], hashes[1], hashes[2], ("endpoints", "gone")],
        "no such service",
        &[],
    );
}

#[test]
fn weights_wait_for_a_service_that_is_deleted_and_written_again() {
    let gone = [
        ("endpoints", TWO),
        ("weights", "base=1, candidate=1"),
        ("endpoints", "gone"),
    ];
    check(&gone, "no such service", &["weights:a"]);
    check(
        &[gone[0], gone[1], gone[2], ("endpoints", TWO)],
        "base=1 candidate=1",
        &[],
    );
}

#[test]
fn endpoints_and_weights_of_one_exec_are_judged_together() {
    let mut book = Book::loaded(&[("endpoints:a", ONE), ("weights:a", "base=1")]);
    let applied = book.write_together(&[("weights:a", "b=1, a=3"), ("endpoints:a", A_B)]);
    assert_eq!(book.shares("a"), "a=3 b=1");
    assert_eq!(applied.changed, ["endpoints a", "weights a"]);
    assert!(book.wrong().is_empty());
}

#[test]
fn the_split_follows_the_weights() {
    let book = Book::loaded(&[("endpoints:a", TWO), ("weights:a", "base=75, candidate=25")]);
    let service = book.service("a");
    let split = service.split.as_ref().expect("a split");
    let drawn = (0..1000)
        .filter(|_| service.versions[split.draw()].name.is_base())
        .count();
    assert!((748..=752).contains(&drawn), "{drawn}");
}
