//! A restart without Redis serves what was in force.

use super::*;

fn restored(book: &Book) -> Book {
    let mut after = Book::unloaded();
    let snapshot = book.config.snapshot();
    let applied = after.config.restore(snapshot.clone(), 77);
    assert!(
        applied
            .table
            .is_some_and(|table| table.loaded && table.revision == 1)
    );
    assert_eq!(after.config.snapshot(), snapshot);
    assert_eq!(after.config.table().digest, book.config.table().digest);
    let mut names: Vec<String> = book
        .config
        .table()
        .services
        .iter()
        .map(|service| service.name.to_string())
        .collect();
    names.push("nobody".to_owned());
    for name in names {
        assert_eq!(after.shares(&name), book.shares(&name));
    }
    assert_eq!(after.routes(), book.routes());
    after
}

#[test]
fn a_snapshot_is_the_last_good_state() {
    let mut book = Book::loaded(&[
        ("endpoints:a", TWO),
        ("weights:a", "base=9, candidate=1"),
        ("service:a", "timeout=5s"),
        ("route:r", "service=a"),
        ("defaults", "retries=1"),
    ]);
    book.write_together(&[
        ("weights:a", "base=x"),
        ("service:a", "timeout=x"),
        ("defaults", "x=y"),
    ]);
    let after = restored(&book);
    assert_eq!(after.shares("a"), "base=9 candidate=1");
    assert_eq!(after.service("a").settings.timeout.as_secs(), 5);
    assert_eq!(after.service("a").settings.retries, 1);
    assert!(
        after.wrong().is_empty(),
        "the mistakes stand in Redis, not here"
    );
}

#[test]
fn what_is_closed_stays_closed() {
    let book = Book::loaded(&[
        ("endpoints:a", ONE),
        ("service:a", "auth=maybe"),
        ("endpoints:b", "x=base"),
    ]);
    let after = restored(&book);
    assert_eq!(after.shares("a"), "misconfigured");
    assert_eq!(after.shares("b"), "misconfigured");
    let all = Book::loaded(&[("endpoints:a", ONE), ("defaults", "auth=maybe")]);
    assert!(
        restored(&all)
            .config
            .table()
            .defaults_misconfigured
            .is_some()
    );
}

#[test]
fn weights_whose_version_lost_its_endpoint_are_still_in_force() {
    let mut book = Book::loaded(&[
        ("endpoints:a", "http://h:1/=a, http://h:2/=b, http://h:3/=c"),
        ("weights:a", "a=1, b=2, c=3"),
    ]);
    book.write("endpoints:a", "http://h:1/=a, http://h:2/=b");
    assert_eq!(restored(&book).shares("a"), "a=1 b=2");
}

#[test]
fn weights_that_outlived_their_deletion_still_do() {
    let hashes = [
        ("endpoints:a", "http://h:1/=a, http://h:2/=b"),
        ("weights:a", "a=1, b=2"),
    ];
    let mut book = Book::loaded(&hashes);
    book.delete("weights:a");
    let mut after = restored(&book);
    assert_eq!(after.shares("a"), "a=1 b=2");
    while after.read_all(&hashes[..1]).suspicious {}
    assert_eq!(after.shares("a"), "a=1 b=2");
}

#[test]
fn what_vanished_stays_vanished() {
    let mut book = Book::loaded(&[("endpoints:a", ONE), ("endpoints:b", ONE)]);
    book.read_all(&[]);
    book.write("endpoints:b", TWO);
    let mut after = restored(&book);
    assert!(after.config.is_vanished());
    after.read_all(&[("endpoints:b", TWO)]);
    assert_eq!(
        after.shares("a"),
        "base=1",
        "gone without an order, before the restart"
    );
}

#[test]
fn an_empty_redis_after_a_restart_is_an_incident() {
    let book = Book::loaded(&[("endpoints:a", ONE)]);
    let mut after = restored(&book);
    assert_eq!(after.read_all(&[]).vanished, Some(true));
    assert_eq!(after.shares("a"), "base=1");
}

#[test]
fn what_was_deleted_while_the_gateway_was_away_goes() {
    let book = Book::loaded(&[("endpoints:a", ONE), ("endpoints:b", ONE)]);
    let mut after = restored(&book);
    while after.read_all(&[("endpoints:b", ONE)]).suspicious {}
    assert_eq!(after.shares("a"), "no such service");
}

#[test]
fn foreign_keys_in_a_snapshot_are_left_out() {
    let mut snapshot = Snapshot::default();
    snapshot
        .objects
        .insert("other:endpoints:a".to_owned(), Fields::new());
    snapshot
        .objects
        .insert("smartlink:endpoints:a b".to_owned(), Fields::new());
    snapshot
        .vanished
        .insert("smartlink:endpoints:zzz".to_owned());
    let mut book = Book::unloaded();
    assert!(book.config.restore(snapshot, 1).table.is_some());
    assert_eq!(book.config.known().count(), 0);
    assert!(!book.config.is_vanished());
}
