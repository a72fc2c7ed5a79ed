//! What disappears without an order.

use super::*;

const STATE: [(&str, &str); 3] = [
    ("endpoints:a", TWO),
    ("weights:a", "base=1, candidate=1"),
    ("endpoints:b", ONE),
];

fn flushed() -> Book {
    let mut book = Book::loaded(&STATE);
    let applied = book.read_all(&[]);
    assert_eq!(applied.vanished, Some(true));
    assert!(applied.table.is_none());
    book
}

#[test]
fn a_deletion_by_name_is_an_order_even_for_the_last_service() {
    let mut book = Book::loaded(&[("endpoints:a", ONE)]);
    let applied = book.delete("endpoints:a");
    assert_eq!(book.shares("a"), "no such service");
    assert_eq!(applied.vanished, None);
    assert!(!applied.suspicious);
}

#[test]
fn when_everything_is_gone_it_goes_on_serving_and_says_so() {
    let book = flushed();
    assert!(book.config.is_vanished());
    assert_eq!(book.shares("a"), "base=1 candidate=1");
    assert_eq!(book.wrong(), ["config_vanished"]);
    assert_eq!(book.config.known().count(), 3, "still to be looked for");
}

#[test]
fn new_keys_do_not_make_it_a_deletion() {
    let mut book = Book::loaded(&STATE);
    let applied = book.read_all(&[("endpoints:new", ONE)]);
    assert_eq!(applied.vanished, Some(true));
    assert_eq!(book.shares("a"), "base=1 candidate=1");
    assert_eq!(book.shares("new"), "base=1");
}

#[test]
fn a_known_key_written_after_the_flush_does_not_make_it_a_deletion() {
    let mut book = Book::loaded(&STATE);
    book.write("weights:a", "base=3, candidate=1");
    let applied = book.read_all(&[("weights:a", "base=3, candidate=1")]);
    assert_eq!(applied.vanished, Some(true));
    assert_eq!(book.shares("a"), "base=3 candidate=1");
    assert_eq!(book.shares("b"), "base=1");
}

#[test]
fn a_pilot_that_goes_on_writing_does_not_make_it_a_deletion() {
    const PILOT: &str = "trial=1, candidate=candidate";
    let pilot = ("pilot:a", PILOT);
    let mut book = Book::loaded(&[STATE[0], STATE[1], STATE[2], pilot]);
    for _ in 0..2 {
        // Where nobody hears of writing, the same text may have been written anew.
        book.read_all(&[pilot]);
        assert!(book.config.is_vanished());
        assert_eq!(book.shares("a"), "base=1 candidate=1");
    }
    assert!(book.service("a").trial.is_some());
}

#[test]
fn the_same_text_written_after_the_flush_does_not_make_it_a_deletion() {
    let mut book = Book::loaded(&STATE);
    let reading = Reading {
        sight: Sight::Written,
        ..named("endpoints:b", hashed(ONE))
    };
    assert!(book.apply(vec![reading], Extent::Part).table.is_none());
    assert_eq!(book.read_all(&STATE[2..]).vanished, Some(true));
    assert_eq!(book.shares("a"), "base=1 candidate=1");
}

#[test]
fn an_absence_after_a_notified_write_is_nobodys_order() {
    let mut book = Book::loaded(&STATE);
    let reading = Reading {
        sight: Sight::Written,
        ..named("endpoints:b", Raw::Absent)
    };
    assert!(book.apply(vec![reading], Extent::Part).suspicious);
    assert_eq!(book.read_all(&[]).vanished, Some(true));
    assert_eq!(book.shares("b"), "base=1");
}

#[test]
fn a_flush_in_the_middle_of_a_reading_is_no_deletion() {
    let mut book = Book::loaded(&STATE);
    let applied = book.read_all(&STATE[..2]);
    assert!(applied.suspicious);
    assert_eq!(book.shares("b"), "base=1");
    assert_eq!(book.read_all(&[]).vanished, Some(true));
    assert_eq!(book.shares("b"), "base=1");
}

#[test]
fn what_was_missing_for_a_moment_is_there() {
    let mut book = Book::loaded(&STATE);
    assert!(book.read_all(&STATE[..2]).suspicious);
    assert!(!book.read_all(&STATE).suspicious);
    assert!(
        book.read_all(&STATE[..2]).suspicious,
        "the doubt begins anew"
    );
}

#[test]
fn when_some_are_gone_they_were_deleted() {
    let mut book = Book::loaded(&STATE);
    assert!(book.glance("endpoints:b", Raw::Absent).suspicious);
    let applied = book.read_all(&STATE[..2]);
    assert_eq!(applied.vanished, None);
    assert!(!applied.suspicious);
    assert_eq!(book.shares("b"), "no such service");
    assert_eq!(book.shares("a"), "base=1 candidate=1");
}

#[test]
fn an_absence_seen_in_passing_only_raises_suspicion() {
    let mut book = Book::loaded(&STATE);
    let applied = book.glance("endpoints:b", Raw::Absent);
    assert!(applied.suspicious);
    assert!(applied.table.is_none());
    assert_eq!(book.shares("b"), "base=1");
    assert!(!book.glance("endpoints:unknown", Raw::Absent).suspicious);
    assert!(!book.glance("endpoints:b", hashed(ONE)).suspicious);
}

#[test]
fn what_vanished_raises_no_suspicion_again() {
    let mut book = flushed();
    assert!(!book.glance("endpoints:b", Raw::Absent).suspicious);
    let applied = book.read_all(&[]);
    assert_eq!(applied.vanished, None);
    assert!(applied.errors_new.is_empty() && applied.errors_gone.is_empty());
}

#[test]
fn what_is_written_afterwards_is_obeyed_on_top() {
    let mut book = flushed();
    book.write("weights:a", "base=1");
    assert_eq!(book.shares("a"), "base=1 candidate=0");
    assert_eq!(book.shares("b"), "base=1");
    assert!(book.config.is_vanished());
    book.read_all(&[("weights:a", "base=1")]);
    assert_eq!(book.shares("b"), "base=1", "it is still the same incident");
    book.delete("weights:a");
    assert_eq!(book.shares("a"), "base=1 candidate=0");
}

#[test]
fn it_is_over_when_everything_is_written_again() {
    let mut book = flushed();
    let applied = book.read_all(&STATE);
    assert_eq!(applied.vanished, Some(false));
    assert!(applied.table.is_none(), "the same came back");
    assert_eq!(applied.errors_gone, ["config_vanished"]);
}

#[test]
fn what_vanished_goes_by_name() {
    let mut book = flushed();
    book.delete("endpoints:b");
    assert_eq!(book.shares("b"), "no such service");
    assert!(book.config.is_vanished());
    book.delete("endpoints:a");
    assert_eq!(book.delete("weights:a").vanished, Some(false));
}

#[test]
fn what_vanished_goes_when_it_is_forgotten() {
    let mut book = flushed();
    book.write("endpoints:c", ONE);
    let applied = book.config.forget_vanished(5);
    assert_eq!(applied.vanished, Some(false));
    assert_eq!(applied.table.expect("a table").services.len(), 1);
    assert!(book.wrong().is_empty());
    assert_eq!(book.config.known().count(), 1);
    assert!(book.config.forget_vanished(6).table.is_none());
}

#[test]
fn a_second_flush_goes_on_with_the_incident() {
    let mut book = flushed();
    book.write("endpoints:c", ONE);
    let applied = book.read_all(&[]);
    assert_eq!(applied.vanished, None);
    assert_eq!(book.shares("c"), "base=1");
    assert_eq!(book.config.snapshot().vanished.len(), 4);
}

#[test]
fn after_an_incident_a_deletion_is_a_deletion() {
    let mut book = flushed();
    book.read_all(&STATE);
    assert!(book.read_all(&STATE[..2]).suspicious);
    let applied = book.read_all(&STATE[..2]);
    assert_eq!(applied.vanished, None);
    assert_eq!(book.shares("b"), "no such service");
}

#[test]
fn a_mistake_that_closes_still_closes_when_it_vanishes() {
    let mut book = Book::loaded(&[("endpoints:a", ONE), ("service:a", "auth=maybe")]);
    book.read_all(&[]);
    assert_eq!(book.shares("a"), "misconfigured");
    assert!(book.config.forget_vanished(1).table.is_some());
    assert_eq!(book.shares("a"), "no such service");
}

#[test]
fn an_empty_redis_at_start_is_no_incident() {
    let mut book = Book::loaded(&[]);
    assert_eq!(book.read_all(&[]).vanished, None);
    assert!(!book.config.is_vanished());
}

#[test]
fn a_deletion_that_waits_is_not_missed() {
    let mut book = Book::loaded(&[
        ("endpoints:a", "http://h:1/=a, http://h:2/=b"),
        ("weights:a", "a=1"),
    ]);
    book.delete("weights:a");
    assert_eq!(book.shares("a"), "a=1 b=0");
    assert!(!book.glance("weights:a", Raw::Absent).suspicious);
}
