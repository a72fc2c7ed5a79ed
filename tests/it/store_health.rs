//! The script that merges the health of endpoints, against a real Redis.

use smartlink::model::keys::Keys;
use smartlink::model::name::Name;
use smartlink::store::{EndpointHealth, Events, Merged, Options, ServiceHealth, Store};

use crate::support::redis::Redis;

const A: &str = "http://a/";
const B: &str = "http://b/";

/// The connection lives as long as both.
async fn connect(redis: &Redis) -> (Store, Events) {
    let options = Options {
        url: redis.url(),
        user: None,
        password: None,
        keys: Keys::new("smartlink:"),
        instance: "any".to_owned(),
    };
    let (store, mut events) = Store::connect(&options).expect("valid options");
    store.wait(&mut events).await.expect("redis is there");
    (store, events)
}

/// URL, state, since when, why.
type Entry = (&'static str, &'static str, u64, &'static str);

fn health(service: &str, entries: &[Entry]) -> ServiceHealth {
    let endpoints = entries
        .iter()
        .map(|(url, state, since_ms, why)| EndpointHealth {
            url: (*url).into(),
            state,
            since_ms: *since_ms,
            why: (*why).into(),
        });
    ServiceHealth {
        service: Name::parse(service).expect("valid"),
        endpoints: endpoints.collect(),
    }
}

/// One gateway writes service `s`, asking about these others.
async fn write(store: &Store, instance: &str, entries: &[Entry], peers: &[&str]) -> Merged {
    let peers: Vec<String> = peers.iter().map(|&peer| peer.to_owned()).collect();
    let merged = store.merge_health(instance, vec![health("s", entries)], &peers);
    merged.await.expect("written")
}

#[track_caller]
fn stands(redis: &Redis, url: &str, expected: &str) {
    let hash = redis.hash("smartlink:health:s");
    assert_eq!(hash.get(url).map(String::as_str), Some(expected));
}

#[tokio::test]
async fn the_worst_state_is_shown_with_the_words_of_who_holds_it() {
    let redis = Redis::start();
    let (store, _events) = connect(&redis).await;
    redis.run("HSET smartlink:gateway:one x y");
    redis.run("HSET smartlink:gateway:two x y");
    write(&store, "one", &[(A, "up", 5, "")], &[]).await;
    stands(
        &redis,
        A,
        r#"{"state":"up","since_ms":5,"why":"","gateways":{"one":"up"}}"#,
    );
    let merged = write(&store, "two", &[(A, "drain", 7, "")], &[]).await;
    assert_eq!(merged.unknown, ["one"]);
    stands(
        &redis,
        A,
        r#"{"state":"drain","since_ms":7,"why":"","gateways":{"one":"up","two":"drain"}}"#,
    );
    let why = "it said \"no\" to /alive\n";
    write(
        &store,
        "one",
        &[(A, "ejected", 1_700_000_000_123, why)],
        &["two"],
    )
    .await;
    stands(
        &redis,
        A,
        r#"{"state":"ejected","since_ms":1700000000123,"why":"it said \"no\" to /alive\n","gateways":{"one":"ejected","two":"drain"}}"#,
    );
    // The first one to say so is quoted for as long as it holds.
    let worse = [(A, "down", 20, "refused")];
    write(&store, "two", &worse, &["one"]).await;
    write(&store, "one", &[(A, "down", 30, "timed out")], &["two"]).await;
    stands(
        &redis,
        A,
        r#"{"state":"down","since_ms":20,"why":"refused","gateways":{"one":"down","two":"down"}}"#,
    );
    write(&store, "two", &[(A, "up", 40, "")], &["one"]).await;
    write(&store, "one", &[(A, "down", 30, "timed out")], &["two"]).await;
    stands(
        &redis,
        A,
        r#"{"state":"down","since_ms":30,"why":"timed out","gateways":{"one":"down","two":"up"}}"#,
    );
}

#[tokio::test]
async fn what_nobody_knows_any_more_goes() {
    let redis = Redis::start();
    let (store, _events) = connect(&redis).await;
    redis.run("HSET smartlink:gateway:two x y");
    write(
        &store,
        "one",
        &[(A, "up", 1, ""), (B, "down", 2, "refused")],
        &[],
    )
    .await;
    write(&store, "two", &[(A, "up", 3, "")], &["one"]).await;
    // `one` was gone when `two` wrote.
    assert_eq!(redis.hash("smartlink:health:s").len(), 1);
    stands(
        &redis,
        A,
        r#"{"state":"up","since_ms":3,"why":"","gateways":{"two":"up"}}"#,
    );
    assert_eq!(store.services_with_health().await.expect("read"), ["s"]);
    let merged = write(&store, "three", &[(B, "up", 4, "")], &["two", "one"]).await;
    assert_eq!(
        (merged.unknown, merged.gone),
        (vec![], vec!["one".to_owned()])
    );
    assert_eq!(redis.hash("smartlink:health:s").len(), 2, "others know it");
    write(&store, "three", &[], &["two"]).await;
    write(&store, "two", &[], &[]).await;
    assert_eq!(redis.run("EXISTS smartlink:health:s").number(), 0);
    assert_eq!(store.services_with_health().await.expect("read"), [""; 0]);
}

#[tokio::test]
async fn what_stands_already_is_not_written_and_foreign_values_do_no_harm() {
    let redis = Redis::start();
    let (store, _events) = connect(&redis).await;
    redis.run("HSET smartlink:gateway:two x y");
    for (url, junk) in [
        (A, "junk"),
        (B, r#"{"gateways":{"two":"odd","x":7},"state":1}"#),
    ] {
        redis.call(&["HSET", "smartlink:health:s", url, junk]);
    }
    redis.run("SET smartlink:health:text x");
    let both = vec![
        health("text", &[(A, "up", 1, "")]),
        health("s", &[(A, "up", 1, "")]),
    ];
    let merged = store.merge_health("one", both, &[]).await.expect("written");
    assert_eq!(merged, Merged::default());
    assert_eq!(redis.hash("smartlink:health:s").len(), 1);
    assert_eq!(redis.hash("smartlink:health:text").len(), 1);
    write(&store, "two", &[(A, "down", 2, "é")], &["one"]).await;
    let sets = || {
        let stats = redis.run("INFO commandstats").texts().concat();
        let line = stats.lines().find(|line| line.starts_with("cmdstat_hset:"));
        line.map(str::to_owned)
    };
    let before = sets();
    for _ in 0..3 {
        write(&store, "two", &[(A, "down", 2, "é")], &["one"]).await;
    }
    assert_eq!(sets(), before);
}
