//! What stays the same is carried over from table to table.

use std::sync::atomic::Ordering;

use super::*;
use crate::model::table::Endpoint;
use crate::model::trial::Side;

fn endpoint(book: &Book, url: &str) -> Arc<Endpoint> {
    let service = book.service("a");
    let mut endpoints = service
        .versions
        .iter()
        .flat_map(|version| &version.endpoints);
    let found = endpoints.find(|endpoint| &*endpoint.spec.url == url);
    Arc::clone(found.expect("the endpoint"))
}

#[test]
fn a_change_rebuilds_its_own_service_only() {
    let mut book = Book::loaded(&[
        ("endpoints:a", TWO),
        ("endpoints:b", TWO),
        ("service:b", "retries=1"),
    ]);
    let (a, b) = (book.service("a"), book.service("b"));
    let routes = Arc::clone(&book.config.table().routes);
    book.write("weights:a", "base=1, candidate=1");
    assert!(!Arc::ptr_eq(&a, &book.service("a")));
    assert!(Arc::ptr_eq(&b, &book.service("b")));
    assert!(Arc::ptr_eq(&routes, &book.config.table().routes));
    let a = book.service("a");
    let applied = book.write("service:a", "retries=2");
    assert!(applied.table.is_some());
    assert!(
        Arc::ptr_eq(&a, &book.service("a")),
        "it says what holds anyway"
    );
}

#[test]
fn services_without_settings_share_those_of_the_defaults() {
    let mut book = Book::loaded(&[
        ("endpoints:a", ONE),
        ("endpoints:b", ONE),
        ("service:b", "retries=1"),
    ]);
    book.write("defaults", "timeout=7s");
    let table = book.config.table();
    assert!(Arc::ptr_eq(&table.defaults, &book.service("a").settings));
    assert_eq!(book.service("b").settings.timeout.as_secs(), 7);
    assert_eq!(book.service("b").settings.retries, 1);
    book.delete("defaults");
    assert_eq!(book.service("b").settings.timeout.as_secs(), 60);
}

#[test]
fn a_disabled_service_is_in_the_table() {
    let book = Book::loaded(&[("endpoints:a", ONE), ("service:a", "enabled=off")]);
    assert!(!book.service("a").settings.enabled);
}

#[test]
fn an_unrelated_change_does_not_restart_the_count() {
    let mut book = Book::loaded(&[("endpoints:a", TWO), ("weights:a", "base=9, candidate=1")]);
    let split = book.service("a").split.clone().expect("a split");
    book.write("service:a", "timeout=9s");
    book.write("defaults", "retries=1");
    book.write(
        "endpoints:a",
        "http://h:1/=base, http://h:2/=candidate weight=3",
    );
    let now = book.service("a").split.clone().expect("a split");
    assert!(Arc::ptr_eq(&split, &now));
    book.write("weights:a", "base=8, candidate=1");
    let now = book.service("a").split.clone().expect("a split");
    assert!(!Arc::ptr_eq(&split, &now));
}

#[test]
fn a_version_that_moves_the_others_aside_does_not_restart_the_count() {
    let mut book = Book::loaded(&[("endpoints:a", TWO), ("weights:a", "base=1, candidate=1")]);
    let mut names = Vec::new();
    let mut draw = |book: &Book, count: usize| {
        let service = book.service("a");
        let split = service.split.as_ref().expect("a split");
        names.extend((0..count).map(|_| service.versions[split.draw()].name.to_string()));
    };
    draw(&book, 1);
    book.write("endpoints:a", &format!("{TWO}, http://h:3/=b"));
    assert_eq!(book.shares("a"), "base=1 b=0 candidate=1");
    draw(&book, 1);
    names.sort();
    assert_eq!(names, ["base", "candidate"], "one each of two requests");
}

#[test]
fn splits_of_two_services_and_of_two_changes_differ() {
    let pattern = |service: &Service| -> Vec<usize> {
        let split = service.split.as_ref().expect("a split");
        (0..200).map(|_| split.draw()).collect()
    };
    let weights = "base=3, candidate=1";
    let mut book = Book::loaded(&[
        ("endpoints:a", TWO),
        ("weights:a", weights),
        ("endpoints:b", TWO),
        ("weights:b", weights),
    ]);
    let (a, b) = (pattern(&book.service("a")), pattern(&book.service("b")));
    assert_ne!(a, b);
    book.write("weights:a", "base=1");
    book.write("weights:a", weights);
    assert_ne!(pattern(&book.service("a")), a);
}

#[test]
fn live_facts_and_turns_follow_the_endpoint_and_the_version() {
    let mut book = Book::loaded(&[("endpoints:a", TWO)]);
    let before = endpoint(&book, "http://h:2/");
    before.live.inflight.store(3, Ordering::Relaxed);
    let rotor = Arc::clone(&book.service("a").versions[0].rotor);
    book.write(
        "endpoints:a",
        "http://a:1/=base, http://h:1/=base, http://h:2/=base weight=2",
    );
    let after = endpoint(&book, "http://h:2/");
    assert!(!Arc::ptr_eq(&before, &after));
    assert!(Arc::ptr_eq(&before.live, &after.live));
    assert_eq!(before.pool, after.pool);
    assert!(Arc::ptr_eq(&rotor, &book.service("a").versions[0].rotor));
}

#[test]
fn endpoints_that_stay_are_the_very_same() {
    let mut book = Book::loaded(&[("endpoints:a", TWO)]);
    let before = endpoint(&book, "http://h:1/");
    book.write("endpoints:a", &format!("{TWO}, http://h:3/=base"));
    assert!(Arc::ptr_eq(&before, &endpoint(&book, "http://h:1/")));
}

#[test]
fn another_transport_gets_connections_of_its_own() {
    let mut book = Book::loaded(&[("endpoints:a", TWO)]);
    let before = endpoint(&book, "http://h:1/");
    assert_ne!(before.pool, endpoint(&book, "http://h:2/").pool);
    book.write("service:a", "http2=on");
    let after = endpoint(&book, "http://h:1/");
    assert_ne!(before.pool, after.pool);
    assert!(Arc::ptr_eq(&before.live, &after.live));
    book.write("service:a", "http2=on, timeout=3s");
    assert_eq!(after.pool, endpoint(&book, "http://h:1/").pool);
}

#[test]
fn an_endpoint_is_ready_for_requests() {
    let book = Book::loaded(&[("endpoints:a", "https://h.example:8443/a%20b/=base")]);
    let endpoint = endpoint(&book, "https://h.example:8443/a%20b/");
    assert_eq!(&*endpoint.spec.target.path, "/a%20b/");
    assert_eq!(endpoint.host, "h.example:8443");
}

#[test]
fn services_are_found_among_many() {
    let names: Vec<String> = (0..2_000).map(|n| format!("endpoints:s{n}")).collect();
    let hashes: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), ONE)).collect();
    let book = Book::loaded(&hashes);
    let table = book.config.table();
    assert_eq!(table.services.len(), 2_000);
    assert_eq!(table.services.iter().count(), 2_000);
    assert!((0..2_000).all(|n| table.services.get(&format!("s{n}")).is_some()));
    assert!(table.services.get("s2000").is_none());
    let mut without = table.services.clone();
    for n in 0..2_000 {
        without.set(
            &table
                .services
                .get(&format!("s{n}"))
                .expect("there")
                .name
                .clone(),
            None,
        );
    }
    assert!(without.is_empty());
    assert_eq!(table.services.len(), 2_000, "the copy was another table's");
}

#[test]
fn counts_of_a_trial_go_on_while_trial_share_and_bounds_stay() {
    const PILOT: &str = "trial=1, candidate=candidate";
    let mut book = Book::loaded(&[
        ("endpoints:a", TWO),
        ("weights:a", "base=95, candidate=5"),
        ("pilot:a", PILOT),
    ]);
    let trial = |book: &Book| book.service("a").trial.clone().expect("it is on");
    let share = |book: &Book| trial(book).arm(Side::Candidate).tag.share;
    let first = trial(&book);
    assert_eq!(share(&book), 50);
    book.write("weights:a", "base=950, candidate=50");
    book.write("service:a", "timeout=9s");
    book.write("endpoints:a", &format!("{TWO}, http://h:3/=b"));
    assert!(Arc::ptr_eq(&first, &trial(&book)));
    for (key, hash) in [
        ("weights:a", "base=3, candidate=1"),
        ("pilot:a", "trial=2, candidate=candidate"),
    ] {
        let before = trial(&book);
        book.write(key, hash);
        assert!(!Arc::ptr_eq(&before, &trial(&book)), "{key}");
    }
    assert_eq!(
        (share(&book), trial(&book).arm(Side::Base).tag.number),
        (250, 2)
    );
    // What others get compares nothing.
    book.write("endpoints:a", &format!("{TWO}, http://h:3/=b"));
    book.write("weights:a", "base=2, candidate=1, b=7");
    assert_eq!(share(&book), 333);
    book.write("weights:a", "b=1");
    assert_eq!(share(&book), 0);
    book.delete("pilot:a");
    assert!(book.service("a").trial.is_none());
}

#[test]
fn what_a_pilot_writes_for_people_is_no_change() {
    let mut book = Book::loaded(&[
        ("endpoints:a", TWO),
        ("pilot:a", "trial=1, candidate=candidate, evidence=1"),
    ]);
    let revision = |book: &Book| book.config.table().revision;
    let before = revision(&book);
    book.write(
        "pilot:a",
        "trial=1, candidate=candidate, evidence=2, state=running",
    );
    assert_eq!(revision(&book), before);
    // A mistake keeps what was counted by, and names itself.
    book.write("pilot:a", "trial=x, candidate=candidate");
    assert!(book.service("a").trial.is_some());
    assert_eq!(book.config.errors().count(), 1);
    let number = |book: &Book| {
        let service = book.service("a");
        let trial = service.trial.as_ref().expect("it is on");
        trial.arm(Side::Base).tag.number
    };
    assert_eq!(number(&book), 1);
    book.write("pilot:a", "trial=2, candidate=candidate");
    assert_eq!(number(&book), 2);
}
