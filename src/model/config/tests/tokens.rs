//! Tokens of the book: few words for each, and the same rules as for all objects.

use super::*;
use crate::model::tokens::TokenHash;

const A: &str = "token:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "token:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const GOOD: &str = "services=*";

fn key(byte: u8) -> String {
    format!("token:{}", format!("{byte:02x}").repeat(32))
}

/// Patterns of the token in the table; nothing where there is none.
fn opens(book: &Book, byte: u8) -> String {
    let hash: TokenHash = [byte; 32];
    let table = book.config.table();
    let token = table.tokens.get(&hash);
    token.map_or_else(String::new, |token| {
        token.patterns().collect::<Vec<_>>().join(",")
    })
}

#[test]
fn a_mistake_keeps_the_token_in_force_and_an_order_takes_it_away() {
    let mut book = Book::loaded(&[(A, "services=a")]);
    let before = book.config.table();
    assert!(book.write(A, "services=a, rate=many").table.is_none());
    assert_eq!(book.wrong(), ["token:aaaaaaaa… rate"]);
    assert_eq!(opens(&book, 0xaa), "a");
    assert!(
        book.glance(A, hashed("services=a, rate=many"))
            .errors_new
            .is_empty()
    );
    let mended = book.write(A, "services= a ");
    assert!(mended.table.is_none(), "it says the same as before");
    assert_eq!(mended.errors_gone.len(), 1);
    assert_eq!(book.config.table().digest, before.digest);
    assert!(book.write(A, "services=b").table.is_some());
    assert_eq!(opens(&book, 0xaa), "b");
    book.write(A, "x=y");
    assert!(book.delete(A).table.is_some());
    assert_eq!((opens(&book, 0xaa), book.wrong().len()), (String::new(), 0));
    assert_eq!(book.config.known().count(), 0);
    assert_eq!(
        book.config.table().digest,
        Book::loaded(&[]).config.table().digest
    );
}

#[test]
fn a_bad_token_without_a_good_one_before_opens_nothing() {
    let mut book = Book::loaded(&[(A, "services=a, x=y")]);
    assert_eq!(opens(&book, 0xaa), "");
    assert_eq!(book.config.known().count(), 1);
    assert!(book.write(A, GOOD).table.is_some());
    assert_eq!((opens(&book, 0xaa).as_str(), book.wrong().len()), ("*", 0));
}

#[test]
fn what_a_walk_notes_is_known_and_in_force_with_the_first_table() {
    let mut book = Book::unloaded();
    for byte in 0..=u8::MAX {
        assert_eq!(book.config.note(&object(&key(byte)), hashed(GOOD)), None);
    }
    let bad = hashed("services=*, x=y");
    assert_eq!(
        book.config.note(&object(A), bad.clone()),
        Some(bad),
        "known, and another one"
    );
    let service = ("endpoints:s", ONE);
    assert_eq!(
        book.config.note(&object(service.0), hashed(ONE)),
        Some(hashed(ONE))
    );
    assert!(!book.config.table().loaded && opens(&book, 1).is_empty());
    let reading = Reading {
        object: object(service.0),
        raw: hashed(ONE),
        sight: Sight::Read,
    };
    assert_eq!(book.config.unmet().count(), 0);
    let applied = book.apply(vec![reading], Extent::All);
    assert_eq!(applied.changed, ["endpoints s", "256 tokens"]);
    assert_eq!(book.config.table().tokens.len(), 256);
    assert_eq!(opens(&book, 1), "*");
    // A second walk that meets all but two.
    for byte in 2..=u8::MAX {
        assert_eq!(book.config.note(&object(&key(byte)), hashed(GOOD)), None);
    }
    assert_eq!(book.config.note(&object(service.0), hashed(ONE)), None);
    let unmet: Vec<Object> = book.config.unmet().collect();
    assert_eq!(unmet, [object(&key(0)), object(&key(1))]);
    let gone = || {
        let gone = [0, 1].map(|byte| Reading {
            object: object(&key(byte)),
            raw: Raw::Absent,
            sight: Sight::Read,
        });
        gone.into()
    };
    assert!(book.apply(gone(), Extent::All).suspicious, "missing once");
    for byte in 2..=u8::MAX {
        assert_eq!(book.config.note(&object(&key(byte)), hashed(GOOD)), None);
    }
    assert!(!book.apply(gone(), Extent::All).suspicious, "missing twice");
    assert_eq!(book.config.table().tokens.len(), 254);
    assert_eq!(book.config.known_count(), 255);
}

#[test]
fn a_good_token_that_is_news_waits_for_its_batch_once_a_table_is_loaded() {
    let mut book = Book::loaded(&[(A, GOOD)]);
    let left = book.config.note(&object(A), hashed("services=b"));
    assert!(matches!(left, Some(Raw::Token(_))), "{left:?}");
    assert_eq!(opens(&book, 0xaa), "*");
    let left = left.expect("news");
    book.apply(
        vec![Reading {
            object: object(A),
            raw: left,
            sight: Sight::Read,
        }],
        Extent::Part,
    );
    assert_eq!(opens(&book, 0xaa), "b");
    assert!(book.config.note(&object(B), hashed(GOOD)).is_some());
    assert_eq!(opens(&book, 0xbb), "");
}

#[test]
fn all_tokens_gone_with_all_else_are_in_force_and_return() {
    let mut book = Book::loaded(&[(A, GOOD), (B, GOOD)]);
    assert_eq!(book.read_all(&[]).vanished, Some(true));
    assert_eq!(
        (opens(&book, 0xaa).as_str(), book.config.known_count()),
        ("*", 2)
    );
    assert!(
        book.config.note(&object(A), hashed(GOOD)).is_some(),
        "it came back"
    );
    book.read_all(&[(A, GOOD)]);
    assert!(book.config.is_vanished());
    assert!(book.config.forget_vanished(9).table.is_some());
    assert_eq!(
        (opens(&book, 0xaa).as_str(), opens(&book, 0xbb).as_str()),
        ("*", "")
    );
}

#[test]
fn tokens_are_kept_for_a_start_without_redis() {
    let mut book = Book::loaded(&[(A, "services=a, expires=2030-01-01, rate=5/m"), (B, GOOD)]);
    book.write(B, "x=y");
    let snapshot = book.config.snapshot();
    let json = serde_json::to_string(&snapshot).expect("it is JSON");
    let read: Snapshot = serde_json::from_str(&json).expect("it was written by us");
    assert_eq!(read, snapshot);
    let mut after = Book::unloaded();
    let applied = after.config.restore(read, 7);
    assert_eq!(applied.changed, ["2 tokens"]);
    assert_eq!(
        (opens(&after, 0xaa).as_str(), opens(&after, 0xbb).as_str()),
        ("a", "*")
    );
    assert_eq!(after.config.table().digest, book.config.table().digest);
    let same = after.config.note(
        &object(A),
        hashed("services=a, expires=2030-01-01, rate=5/m"),
    );
    assert_eq!(same, None, "Redis says what the file said");
    assert!(after.delete(B).table.is_some());
    assert_eq!(opens(&after, 0xbb), "");
}

#[test]
fn known_tokens_are_gone_through_from_where_one_stopped() {
    let book = Book::loaded(&[(A, GOOD), (B, GOOD), ("service:s", "retries=1")]);
    let all: Vec<Object> = book.config.known().collect();
    assert_eq!(all, [object("service:s"), object(A), object(B)]);
    let first: Vec<Object> = book.config.known_tokens(None).take(1).collect();
    assert_eq!(first, [object(A)]);
    let rest: Vec<Object> = book.config.known_tokens(first.first()).collect();
    assert_eq!(rest, [object(B)]);
    assert_eq!(book.config.known_tokens(rest.first()).count(), 0);
}
