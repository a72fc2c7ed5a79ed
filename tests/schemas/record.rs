//! The record of a shadow copy: the type that writes it, the type that reads it and the schema.

use serde_json::{Value as Json, json};
use smartlink::shadow::{Answer, Body, ChosenBy, Outcome, Record, Request, Schema};

use crate::files::{schema, validator};

fn record() -> Record {
    Record {
        schema: Schema::V1,
        id: "a".to_owned(),
        gateway: "g".to_owned(),
        epoch: 1,
        sequence: 2,
        service: "ner".to_owned(),
        version: "base".to_owned(),
        share: [("base".to_owned(), 950)].into(),
        revision: 3,
        chosen_by: ChosenBy::Sample,
        started_ms: 4,
        queue_us: 5,
        connect_us: 6,
        first_byte_us: Some(7),
        total_us: 8,
        attempts: 1,
        outcome: Outcome::Ok,
        request: Request {
            method: "POST".to_owned(),
            target: "/a/?b=1".to_owned(),
            path: Some("?b=1".to_owned()),
            headers: [("x-a".to_owned(), "\u{e9}".to_owned())].into(),
            body: Body::of(b"\xff".to_vec(), 2, true),
        },
        answer: Some(Answer {
            status: 200,
            headers: [("content-type".to_owned(), "text/plain".to_owned())].into(),
            body: Body::of(b"a\n\"".to_vec(), 3, true),
            events_ms: vec![1, 2],
        }),
        redacted: vec!["header cookie".to_owned(), "/params/id_card".to_owned()],
        replayable: false,
    }
}

/// The fields of an object, sorted.
fn fields(object: &Json) -> Vec<String> {
    let object = object.as_object().expect("an object");
    let mut fields: Vec<String> = object.keys().cloned().collect();
    fields.sort();
    fields
}

#[test]
fn a_record_is_what_the_schema_says_and_comes_back() {
    let record = record();
    let json = serde_json::to_value(&record).expect("JSON");
    let said = schema("shadow_record");
    assert_eq!(fields(&json), fields(&said["properties"]));
    for part in ["request", "answer"] {
        let said = &said["properties"][part]["properties"];
        assert_eq!(fields(&json[part]), fields(said), "{part}");
    }
    if let Err(error) = validator("shadow_record").validate(&json) {
        panic!("{error}");
    }
    let read: Record = serde_json::from_value(json).expect("a record");
    assert_eq!(read, record);
}

#[test]
fn every_word_of_the_schema_is_one_of_ours() {
    let said = schema("shadow_record");
    let mut json = serde_json::to_value(record()).expect("JSON");
    for field in ["chosen_by", "outcome"] {
        for word in said["properties"][field]["enum"].as_array().expect("words") {
            json[field] = word.clone();
            let read: Record = serde_json::from_value(json.clone()).expect("a record");
            assert_eq!(serde_json::to_value(&read).expect("JSON"), json);
        }
    }
}

#[test]
fn examples_are_records() {
    for example in schema("shadow_record")["examples"]
        .as_array()
        .expect("some")
    {
        let read: Record = serde_json::from_value(example.clone()).expect("a record");
        assert_eq!(&serde_json::to_value(&read).expect("JSON"), example);
    }
}

#[test]
fn what_is_no_record_is_refused() {
    let good = serde_json::to_value(record()).expect("JSON");
    for (field, bad) in [
        ("schema", json!("smartlink.shadow.v2")),
        ("epoch", json!(-1)),
        ("outcome", json!("fine")),
        ("request", json!(null)),
        ("share", json!({"base": "1"})),
        ("redacted", json!(null)),
    ] {
        let mut record = good.clone();
        record[field] = bad;
        assert!(!validator("shadow_record").is_valid(&record), "{field}");
        let read: Result<Record, _> = serde_json::from_value(record);
        assert!(read.is_err(), "{field}");
    }
}
