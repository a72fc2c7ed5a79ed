//! The store against a real Redis: each script's answer, decoded by the code that uses it.

use smartlink::model::change::Change as FieldChange;
use smartlink::model::decode::Raw;
use smartlink::model::keys::{Keys, Object};
use smartlink::model::name::Name;
use smartlink::store::{
    Change, Changed, Event, Events, Flags, News, Options, Store, Wish, read_all,
};
use tokio::time::timeout;

use crate::support::redis::Redis;
use crate::support::secs;

fn options(url: &str) -> Options {
    Options {
        url: url.to_owned(),
        user: None,
        password: None,
        keys: Keys::new("smartlink:"),
        instance: "here".to_owned(),
    }
}

/// Connects and waits until both connections are up.
async fn connect(options: &Options) -> (Store, Events) {
    let (store, mut events) = Store::connect(options).expect("valid options");
    wait_for(&mut events, &Event::Hearing).await;
    store.wait(&mut events).await.expect("redis is there");
    (store, events)
}

/// Reads events until `wanted`; everything before it is returned.
async fn wait_for(events: &mut Events, wanted: &Event) -> Vec<Event> {
    let mut before = Vec::new();
    let found = timeout(secs(5), async {
        while let Some(event) = events.next().await {
            if event == *wanted {
                return true;
            }
            before.push(event);
        }
        false
    });
    match found.await {
        Ok(true) => before,
        _ => panic!("no {wanted:?} after {before:?}"),
    }
}

fn hash(fields: &[(&str, &str)]) -> Raw {
    Raw::Hash(
        fields
            .iter()
            .map(|(field, value)| ((*field).to_owned(), (*value).to_owned()))
            .collect(),
    )
}

#[tokio::test]
async fn objects_are_read_whole_and_typed() {
    let redis = Redis::start();
    let mut connection = redis.connect();
    connection.run("HSET smartlink:weights:a base 90 candidate 10");
    connection.run("SET smartlink:weights:text x");
    let binary: [&[u8]; 4] = [b"HSET", b"smartlink:weights:binary", b"base", b"\xff"];
    connection.send(&binary).expect("sent");
    connection.read().expect("stored");
    let large = "x".repeat(64 * 1024 + 1);
    connection.call(&["HSET", "smartlink:weights:large", "base", &large]);
    let mut many = vec!["HSET".to_owned(), "smartlink:weights:many".to_owned()];
    for i in 0..=10_000 {
        many.extend([format!("v{i}"), "1".to_owned()]);
    }
    connection.call(&many.iter().map(String::as_str).collect::<Vec<_>>());

    let (store, mut events) = connect(&options(&redis.url())).await;
    let keys = ["a", "none", "text", "binary", "large", "many"]
        .map(|name| format!("smartlink:weights:{name}"));
    let loaded = store.load(&keys, Some(7)).await.expect("read");
    assert!(loaded.rung);
    wait_for(&mut events, &Event::Ring(7)).await;
    let unreadable = |why: &str| Raw::Unreadable(why.to_owned());
    assert_eq!(
        loaded.raws,
        [
            hash(&[("base", "90"), ("candidate", "10")]),
            Raw::Absent,
            unreadable("is a string, want a hash"),
            unreadable("the value of \"base\" is not UTF-8 text"),
            unreadable("holds a field or value of more than 65536 bytes"),
            unreadable("has 10001 fields, want at most 10000"),
        ]
    );
}

#[tokio::test]
async fn changes_are_heard_before_the_ring_that_follows_them() {
    let redis = Redis::start();
    let (store, mut events) = connect(&options(&redis.url())).await;
    assert_eq!(
        store.ask_notifications().await.expect("asked"),
        Flags::Added
    );
    assert_eq!(
        store.ask_notifications().await.expect("asked"),
        Flags::Stood
    );
    let mut connection = redis.connect();
    connection.run("HSET smartlink:endpoints:a http://h/ base");
    connection.run("HSET elsewhere:endpoints:a http://h/ base");
    connection.run("RENAME smartlink:endpoints:a smartlink:endpoints:b");
    connection.run("DEL smartlink:endpoints:b");
    store.load(&["x".to_owned()], Some(1)).await.expect("read");
    let heard = wait_for(&mut events, &Event::Ring(1)).await;
    let key = |name: &str, change| Event::Key(format!("smartlink:endpoints:{name}"), change);
    let keys: Vec<_> = heard
        .into_iter()
        .filter(|event| matches!(event, Event::Key(..)))
        .collect();
    assert_eq!(
        keys,
        [
            key("a", Change::Written),
            key("a", Change::Removed),
            key("b", Change::Written),
            key("b", Change::Removed),
        ]
    );
}

#[tokio::test]
async fn the_database_of_the_url_is_the_one_that_is_heard() {
    let redis = Redis::start();
    for url in [
        format!("{}/3", redis.url()),
        format!("unix://{}?db=3", redis.socket().display()),
    ] {
        let (store, mut events) = connect(&options(&url)).await;
        store.ask_notifications().await.expect("asked");
        let mut connection = redis.connect();
        connection.run("HSET smartlink:weights:zero base 1");
        connection.run("SELECT 3");
        connection.run("HSET smartlink:weights:three base 1");
        store.load(&["x".to_owned()], Some(1)).await.expect("read");
        let heard = wait_for(&mut events, &Event::Ring(1)).await;
        assert!(heard.contains(&Event::Key(
            "smartlink:weights:three".to_owned(),
            Change::Written
        )));
        assert!(
            !heard
                .iter()
                .any(|event| matches!(event, Event::Key(key, _) if key.contains("zero")))
        );
    }
}

#[tokio::test]
async fn a_life_sign_tells_whether_the_hash_was_still_there() {
    let redis = Redis::start();
    let (store, mut events) = connect(&options(&redis.url())).await;
    store.ask_notifications().await.expect("asked");
    let fields = [("address", "a:1".to_owned()), ("revision", "3".to_owned())];
    let first = store.beat(&fields).await.expect("beats");
    assert!(!first.was_there);
    assert_eq!(first.forget, None);
    wait_for(&mut events, &Event::Beat).await;
    let hash = redis.hash("smartlink:gateway:here");
    assert_eq!(hash["address"], "a:1");
    assert_eq!(hash["heartbeat_ms"], first.now_ms.to_string());
    assert!(redis.run("PTTL smartlink:gateway:here").number() > 9000);
    store.order_forget("token").await.expect("ordered");
    let second = store.beat(&fields).await.expect("beats");
    assert!(second.was_there);
    assert_eq!(second.forget.as_deref(), Some("token"));
    redis.run("FLUSHALL");
    assert!(!store.beat(&fields).await.expect("beats").was_there);
    store.resign().await.expect("resigned");
    assert_eq!(redis.run("EXISTS smartlink:gateway:here").number(), 0);
}

#[tokio::test]
async fn a_name_is_held_while_its_life_signs_go_on() {
    let redis = Redis::start();
    let (store, _events) = connect(&options(&redis.url())).await;
    assert!(!store.is_name_held().await.expect("asked"));
    store.beat(&[]).await.expect("beats");
    assert!(!store.is_name_held().await.expect("asked"));
    let beating = store.clone();
    let task = tokio::spawn(async move {
        loop {
            beating.beat(&[]).await.expect("beats");
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    });
    assert!(store.is_name_held().await.expect("asked"));
    task.abort();
}

#[tokio::test]
async fn an_error_keeps_its_time_while_its_words_stay() {
    let redis = Redis::start();
    let (store, _events) = connect(&options(&redis.url())).await;
    let error = |message: &str, since: &str| News {
        errors: [("place".to_owned(), (message.to_owned(), since.to_owned()))].into(),
        ..News::default()
    };
    for (message, since, wanted) in [
        ("bad", "1", "bad (since 1)"),
        ("bad", "2", "bad (since 1)"),
        ("worse", "3", "worse (since 3)"),
    ] {
        store.publish(error(message, since)).await.expect("told");
        assert_eq!(redis.hash("smartlink:errors")["place"], wanted);
    }
    assert_eq!(store.published_errors().await.expect("read"), ["place"]);
    let news = News {
        mended: ["place".to_owned()].into(),
        notes: vec![vec![("kind", "config_applied".to_owned())]],
        ..News::default()
    };
    store.publish(news).await.expect("told");
    assert_eq!(redis.run("EXISTS smartlink:errors").number(), 0);
    let events = redis.run("XRANGE smartlink:events - +").texts();
    assert_eq!(events[1..], ["kind", "config_applied"]);
}

#[tokio::test]
async fn errors_and_events_of_another_type_are_replaced() {
    let redis = Redis::start();
    let (store, _events) = connect(&options(&redis.url())).await;
    redis.run("SET smartlink:errors x");
    redis.run("HSET smartlink:events kind x");
    let news = News {
        errors: [("place".to_owned(), ("bad".to_owned(), "1".to_owned()))].into(),
        notes: vec![vec![("kind", "config_error".to_owned())]],
        ..News::default()
    };
    store.publish(news).await.expect("told");
    assert_eq!(redis.hash("smartlink:errors")["place"], "bad (since 1)");
    let events = redis.run("XRANGE smartlink:events - +").texts();
    assert_eq!(events[1..], ["kind", "config_error"]);
}

#[tokio::test]
async fn the_newest_10_000_events_are_kept() {
    let redis = Redis::start();
    let (store, _events) = connect(&options(&redis.url())).await;
    let fill = "for n = 1, 10050 do redis.call('XADD', KEYS[1], '*', 'kind', n) end";
    redis.call(&["EVAL", fill, "1", "smartlink:events"]);
    let news = News {
        notes: vec![vec![("kind", "config_applied".to_owned())]],
        ..News::default()
    };
    store.publish(news).await.expect("told");
    assert_eq!(redis.run("XLEN smartlink:events").number(), 10_000);
    let newest = redis.run("XREVRANGE smartlink:events + - COUNT 1").texts();
    assert_eq!(newest[1..], ["kind", "config_applied"]);
}

#[tokio::test]
async fn everything_is_read_once_among_many_foreign_keys() {
    let redis = Redis::start();
    let mut connection = redis.connect();
    connection.run("DEBUG POPULATE 20000 foreign");
    for i in 0..450 {
        connection.run(&format!("HSET smartlink:weights:s{i} base 1"));
    }
    connection.run("HSET smartlink:weights:-bad base 1");
    connection.run("HSET smartlink:stats:s1 requests 1");
    let found = read_all(&options(&redis.url())).await.expect("read");
    assert_eq!(found.len(), 451);
    assert!(found.contains(&("smartlink:weights:s7".to_owned(), hash(&[("base", "1")]))));
}

#[tokio::test]
async fn connections_come_back_by_themselves() {
    let mut redis = Redis::start();
    let (store, mut events) = connect(&options(&redis.url())).await;
    redis.run("CLIENT KILL TYPE pubsub");
    wait_for(&mut events, &Event::Hearing).await;
    events.reconnect();
    wait_for(&mut events, &Event::Hearing).await;
    redis.kill();
    let lost = timeout(secs(1), async {
        while !matches!(events.next().await, Some(Event::Lost(_))) {}
    });
    lost.await.expect("the loss is seen");
    redis.restart();
    wait_for(&mut events, &Event::Hearing).await;
    store.wait(&mut events).await.expect("back");
    let loaded = store.load(&["x".to_owned()], None).await.expect("read");
    assert_eq!(loaded.raws, [Raw::Absent]);
}

#[tokio::test]
async fn nobody_there_is_said_without_a_password() {
    let mut redis = Redis::start_with(&["--requirepass", "correct"]);
    let mut wrong = options(&redis.url());
    wrong.password = Some("mistaken".to_owned());
    let error = read_all(&wrong).await.expect_err("wrong password");
    assert!(error.to_string().contains("WRONGPASS"), "{error}");
    assert!(!error.to_string().contains("mistaken"), "{error}");
    wrong.password = Some("correct".to_owned());
    assert_eq!(read_all(&wrong).await.expect("read"), []);
    redis.kill();
    let error = read_all(&wrong).await.expect_err("nobody there");
    assert!(
        error.to_string().starts_with("cannot reach Redis"),
        "{error}"
    );
}

#[tokio::test]
async fn nothing_is_changed_where_the_history_cannot_be_written() {
    let object = |kind: &str| {
        let service = Name::parse("a").expect("a name");
        match kind {
            "weights" => Object::Weights(service),
            _ => Object::Service(service),
        }
    };
    let wish = |kind: &str, field: &str, old: &str, new: &str| Wish {
        object: object(kind),
        fields: None,
        changes: vec![FieldChange {
            object: object(kind),
            field: field.to_owned(),
            old: Some(old.to_owned()),
            new: Some(new.to_owned()),
        }],
    };
    let wishes = [
        wish("weights", "base", "50", "90"),
        wish("service", "timeout", "6s", "5s"),
    ];
    for key in [
        "smartlink:history",
        "smartlink:internal:recorded:weights:a",
        "smartlink:internal:recorded:service:a",
    ] {
        let redis = Redis::start();
        let (store, _events) = connect(&options(&redis.url())).await;
        redis.run("HSET smartlink:weights:a base 50");
        redis.run("HSET smartlink:service:a timeout 6s");
        redis.run(&format!("SET {key} lost"));
        let changed = store.change(&wishes, "one", "tester").await;
        let told = format!("{:?}", changed.expect_err("it cannot be recorded"));
        assert!(told.contains(&format!("{key} is a string")), "{told}");
        assert_eq!(redis.hash("smartlink:weights:a")["base"], "50", "{key}");
        assert_eq!(redis.hash("smartlink:service:a")["timeout"], "6s");
        redis.run(&format!("DEL {key}"));
        let changed = store.change(&wishes, "one", "tester").await;
        assert_eq!(changed.expect("it is written"), Changed::All);
        assert_eq!(redis.hash("smartlink:weights:a")["base"], "90");
        assert_eq!(redis.hash("smartlink:service:a")["timeout"], "5s");
    }
}
