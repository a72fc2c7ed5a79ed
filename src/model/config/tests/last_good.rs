//! A bad value never takes down what works.

use super::*;

const BAD: &str = "timeout=soon";

#[test]
fn the_first_complete_load_gives_a_loaded_table_even_of_an_empty_redis() {
    let mut book = Book::unloaded();
    assert!(!book.config.table().loaded);
    let applied = book.read_all(&[]);
    let table = applied.table.expect("a table");
    assert!(table.loaded);
    assert_eq!(table.revision, 1);
    assert!(book.read_all(&[]).table.is_none());
    let mut in_parts = Book::unloaded();
    assert!(
        !in_parts
            .write("endpoints:a", ONE)
            .table
            .expect("a table")
            .loaded
    );
    assert!(
        in_parts
            .config
            .mark_loaded(1)
            .table
            .expect("a table")
            .loaded
    );
    assert!(in_parts.config.mark_loaded(1).table.is_none());
}

#[test]
fn one_hash_is_a_service() {
    let mut book = Book::loaded(&[]);
    let applied = book.write("endpoints:a", ONE);
    assert_eq!(applied.changed, ["endpoints a"]);
    assert_eq!(applied.table.expect("a table").revision, 2);
    assert_eq!(book.shares("a"), "base=1");
    assert!(applied.errors_new.is_empty());
    assert!(book.delete("endpoints:a").table.is_some());
    assert_eq!(book.shares("a"), "no such service");
    assert_eq!(book.config.known().count(), 0);
}

#[test]
fn what_changes_nothing_swaps_nothing() {
    let mut book = Book::loaded(&[("endpoints:a", ONE), ("defaults", "timeout=5s")]);
    let revision = book.config.table().revision;
    assert!(book.write("endpoints:a", ONE).table.is_none());
    assert!(book.delete("endpoints:b").table.is_none());
    assert!(book.write("route:bad", "").table.is_none());
    assert!(
        book.read_all(&[
            ("endpoints:a", ONE),
            ("defaults", "timeout=5s"),
            ("route:bad", "")
        ])
        .table
        .is_none()
    );
    assert_eq!(book.config.table().revision, revision);
}

#[test]
fn every_kind_keeps_its_last_good_value() {
    let token = "token:".to_owned() + &"ab".repeat(32);
    let cases = [
        ("endpoints:a", ONE, "ftp://h/=base"),
        ("weights:a", "base=1", "base=much"),
        ("service:a", "timeout=1s", BAD),
        ("defaults", "timeout=1s", BAD),
        ("route:r", "service=a, path=/x", "service=a, path=x"),
        (
            &token,
            "name=t, services=*",
            "name=t, services=*, rate=fast",
        ),
        ("rollout:a", "candidate=b", "candidate=b, steps=many"),
    ];
    for (key, good, bad) in cases {
        let mut book = Book::loaded(&[("endpoints:a", ONE)]);
        book.write(key, good);
        let table = book.config.table();
        let snapshot = book.config.snapshot();
        let applied = book.write(key, bad);
        assert!(applied.table.is_none(), "{key}");
        assert!(!applied.errors_new.is_empty(), "{key}");
        assert!(Arc::ptr_eq(&table, &book.config.table()), "{key}");
        assert_eq!(book.config.snapshot(), snapshot, "{key}");
        let mended = book.write(key, good);
        assert!(mended.table.is_none(), "{key}: back to what is in force");
        assert_eq!(mended.errors_gone.len(), applied.errors_new.len(), "{key}");
        assert!(book.wrong().is_empty(), "{key}");
    }
}

#[test]
fn what_cannot_be_read_is_a_mistake_of_the_whole_object() {
    let mut book = Book::loaded(&[("endpoints:a", ONE)]);
    let applied = book.glance("endpoints:a", Raw::Unreadable("it is a list".to_owned()));
    assert!(applied.table.is_none());
    assert!(!applied.suspicious);
    assert_eq!(book.message("endpoints:a"), "it is a list");
    assert_eq!(book.shares("a"), "base=1");
}

#[test]
fn a_mistake_in_one_object_leaves_the_others_changing() {
    let mut book = Book::loaded(&[("endpoints:a", ONE), ("endpoints:b", ONE)]);
    book.write_together(&[
        ("service:a", BAD),
        ("weights:b", "base=nine"),
        ("endpoints:b", TWO),
    ]);
    assert_eq!(book.shares("a"), "base=1");
    assert_eq!(book.shares("b"), "base=1 candidate=0");
    assert_eq!(book.wrong(), ["weights:b base", "service:a timeout"]);
}

#[test]
fn a_bad_service_hash_closes_a_service_that_never_had_a_good_one() {
    for hashes in [
        [("service:a", BAD), ("endpoints:a", ONE)],
        [("endpoints:a", ONE), ("service:a", BAD)],
    ] {
        let mut book = Book::loaded(&hashes);
        assert_eq!(book.shares("a"), "misconfigured");
        let why = book.service("a").misconfigured.clone().expect("a reason");
        assert!(why.contains("service:a timeout"), "{why}");
        book.write("service:a", "timeout=1s");
        assert_eq!(book.shares("a"), "base=1");
    }
    let mut apart = Book::loaded(&[("service:a", BAD)]);
    assert_eq!(apart.shares("a"), "no such service");
    apart.write("endpoints:a", ONE);
    assert_eq!(apart.shares("a"), "misconfigured");
    apart.delete("service:a");
    assert_eq!(apart.shares("a"), "base=1");
}

#[test]
fn a_bad_service_hash_closes_also_where_a_first_load_comes_in_parts() {
    let mut book = Book::unloaded();
    book.write("endpoints:a", ONE);
    book.write("service:a", BAD);
    assert_eq!(book.shares("a"), "misconfigured");
}

#[test]
fn a_bad_service_hash_of_a_service_being_served_leaves_it_serving() {
    let mut book = Book::loaded(&[("endpoints:a", ONE)]);
    assert!(book.write("service:a", BAD).table.is_none());
    assert!(book.write("service:a", "retries=many").table.is_none());
    book.write("endpoints:a", TWO);
    assert_eq!(book.shares("a"), "base=1 candidate=0");
    assert_eq!(book.wrong(), ["service:a retries"]);
}

#[test]
fn bad_defaults_close_every_service_on_a_first_load() {
    let mut book = Book::loaded(&[("defaults", BAD), ("endpoints:a", ONE)]);
    assert_eq!(book.shares("a"), "misconfigured");
    let table = book.config.table();
    assert!(
        table
            .defaults_misconfigured
            .as_ref()
            .is_some_and(|why| why.contains("defaults timeout"))
    );
    assert!(
        book.write("defaults", "timeout=never").table.is_some(),
        "another reason"
    );
    assert_eq!(book.shares("a"), "misconfigured");
    book.write("defaults", "timeout=1s");
    assert_eq!(book.shares("a"), "base=1");
    assert!(book.config.table().defaults_misconfigured.is_none());
}

#[test]
fn bad_defaults_in_a_loaded_table_change_nothing() {
    let mut book = Book::loaded(&[("endpoints:a", ONE)]);
    assert!(book.write("defaults", BAD).table.is_none());
    assert_eq!(book.shares("a"), "base=1");
    assert_eq!(book.wrong(), ["defaults timeout"]);
}

#[test]
fn bad_endpoints_without_a_last_good_state_close_their_service() {
    let mut book = Book::loaded(&[("endpoints:a", "nowhere=base"), ("endpoints:b", ONE)]);
    assert_eq!(book.shares("a"), "misconfigured");
    assert_eq!(book.shares("b"), "base=1");
    book.write("endpoints:a", ONE);
    assert_eq!(book.shares("a"), "base=1");
}

#[test]
fn errors_are_told_as_differences() {
    let mut book = Book::loaded(&[("endpoints:a", ONE)]);
    let applied = book.write("service:a", "timeout=soon, retries=many");
    assert_eq!(applied.errors_new.len(), 2);
    let applied = book.write("service:a", "timeout=soon, stall=never");
    let new: Vec<_> = applied.errors_new.iter().map(ConfigError::place).collect();
    assert_eq!(new, ["smartlink:service:a stall"]);
    assert_eq!(applied.errors_gone, ["smartlink:service:a retries"]);
    let applied = book.delete("service:a");
    assert_eq!(applied.errors_gone.len(), 2);
    assert_eq!(book.config.errors().count(), 0);
}

#[test]
fn keys_with_bad_names_are_errors_until_they_are_gone() {
    let mut book = Book::loaded(&[]);
    let applied = book.config.note_bad_name("smartlink:route:a b");
    assert_eq!(applied.errors_new.len(), 1);
    assert!(
        book.config
            .note_bad_name("smartlink:route:a b")
            .errors_new
            .is_empty()
    );
    assert_eq!(book.wrong(), ["route:a b"]);
    assert_eq!(
        book.config.bad_names().collect::<Vec<_>>(),
        ["smartlink:route:a b"]
    );
    let applied = book.config.clear_bad_name("smartlink:route:a b");
    assert_eq!(applied.errors_gone, ["smartlink:route:a b"]);
    assert!(book.wrong().is_empty());
}

#[test]
fn a_token_written_where_its_hash_belongs_is_not_shown() {
    let mut book = Book::loaded(&[]);
    let applied = book.config.note_bad_name("smartlink:token:sk-secret");
    assert!(!format!("{applied:?}").contains("secret"));
    assert_eq!(book.wrong(), ["token:…"]);
}

#[test]
fn a_slip_of_the_pen_in_a_kind_is_a_mistake_that_says_what_was_meant() {
    let mut book = Book::loaded(&[]);
    for (key, shown, meant) in [
        ("endpoint:a", "endpoint:a", "endpoints:<name>"),
        ("Service:a", "Service:a", "service:<name>"),
        ("tokens:sk-secret", "tokens:…", "token:<name>"),
        ("default", "default", "defaults"),
    ] {
        let applied = book.config.note_bad_name(&format!("smartlink:{key}"));
        let error = applied.errors_new.first().expect("it is named");
        assert_eq!(error.key, format!("smartlink:{shown}"));
        assert!(
            error.message.ends_with(&format!("mean {meant}?")),
            "{error:?}"
        );
    }
}

#[test]
fn objects_beyond_the_bound_are_mistakes_until_there_is_room() {
    let mut book = Book::loaded(&[]);
    book.config.objects_max = 2;
    for name in ["a", "b", "c"] {
        book.write(&format!("endpoints:{name}"), ONE);
    }
    assert_eq!(book.wrong(), ["endpoints:c"]);
    assert_eq!(book.shares("c"), "misconfigured");
    assert_eq!(book.shares("b"), "base=1");
    assert!(book.glance("endpoints:c", hashed(ONE)).table.is_none());
    book.delete("endpoints:a");
    book.glance("endpoints:c", hashed(ONE));
    assert_eq!(book.shares("c"), "base=1");
    assert!(book.wrong().is_empty());
}

#[test]
fn the_digest_tells_configurations_apart_and_not_histories() {
    let hashes = [
        ("endpoints:a", TWO),
        ("weights:a", "base=1, candidate=1"),
        ("defaults", "retries=1"),
    ];
    let one = Book::loaded(&hashes);
    let mut other = Book::loaded(&[("endpoints:z", ONE)]);
    for (key, hash) in hashes {
        assert_ne!(one.config.table().digest, other.config.table().digest);
        other.write(key, hash);
    }
    other.delete("endpoints:z");
    other.write("route:bad", "path=/");
    assert_eq!(one.config.table().digest, other.config.table().digest);
    assert_eq!(one.config.table().digest.len(), 32);
    other.write("weights:a", "base=1, candidate=2");
    assert_ne!(one.config.table().digest, other.config.table().digest);
    let closed = Book::loaded(&[("endpoints:a", ONE), ("service:a", BAD)]);
    let open = Book::loaded(&[("endpoints:a", ONE)]);
    assert_ne!(closed.config.table().digest, open.config.table().digest);
}
