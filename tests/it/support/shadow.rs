//! Shadow records and the books about them, as a reader of Redis sees them.

use std::collections::BTreeMap;

use smartlink::shadow::Record;

use super::eventually;
use super::redis::{Redis, Reply};
use super::site::Site;

/// The books of a service; they balance in every read.
#[track_caller]
pub fn books(redis: &Redis, service: &str) -> BTreeMap<String, u64> {
    let hash = redis.hash(&format!("smartlink:shadow-counts:{service}"));
    let books: BTreeMap<String, u64> = hash
        .into_iter()
        .map(|(field, count)| (field, count.parse().expect("a count")))
        .collect();
    let drops = books
        .iter()
        .filter(|(field, _)| field.starts_with("dropped_"));
    let ends = drops.map(|(_, count)| count).sum::<u64>() + books.get("delivered").unwrap_or(&0);
    assert_eq!(books.get("sampled").unwrap_or(&0), &ends, "{books:?}");
    books
}

/// Waits until the books say this of a field.
#[track_caller]
pub fn await_book(redis: &Redis, service: &str, field: &str, wanted: u64) -> BTreeMap<String, u64> {
    eventually(&format!("{field} is {wanted}"), || {
        let books = books(redis, service);
        (books.get(field) == Some(&wanted)).then_some(books)
    })
}

/// The records of a service, the oldest first, as they stand in its stream.
#[track_caller]
pub fn texts(redis: &Redis, service: &str) -> Vec<String> {
    let stream = format!("smartlink:shadow-stream:{service}");
    let Reply::Many(entries) = redis.call(&["XRANGE", &stream, "-", "+"]) else {
        panic!("no stream");
    };
    let texts = entries.into_iter().map(|entry| {
        let mut words = entry.texts();
        assert_eq!(words.len(), 3, "id, field, value: {words:?}");
        assert_eq!(words.get(1).map(String::as_str), Some("record"));
        words.pop().expect("a value")
    });
    texts.collect()
}

/// The records of a service.
#[track_caller]
pub fn records(redis: &Redis, service: &str) -> Vec<Record> {
    let texts = texts(redis, service);
    let read = |text: &String| serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
    texts.iter().map(read).collect()
}

/// Waits until there are this many records.
#[track_caller]
pub fn await_records(redis: &Redis, service: &str, count: usize) -> Vec<Record> {
    eventually(&format!("{count} records"), || {
        let records = records(redis, service);
        assert!(records.len() <= count, "{} records", records.len());
        (records.len() == count).then_some(records)
    })
}

/// Waits until the gateway's table has, or has not, a shadow of this service; `redis` is the one of
/// its configuration.
#[track_caller]
pub fn await_shadow(redis: &Redis, site: &Site, service: &str, field: &str, value: &str) {
    let key = format!("smartlink:shadow:{service}");
    redis.call(&["HSET", &key, field, value]);
    await_applied(redis, site);
}

/// Waits until the gateway serves what stands in Redis now: it says so of a service that is written
/// last.
#[track_caller]
pub fn await_applied(redis: &Redis, site: &Site) {
    let name = format!("mark{}", redis.run("INCR mark").number());
    redis.run(&format!(
        "HSET smartlink:endpoints:{name} http://127.0.0.1:1/ base"
    ));
    let request = super::load::named(&name);
    site.await_answer(&request, |answer| answer.code() != "no_such_service");
}
