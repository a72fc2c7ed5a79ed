//! Holds the schemas, the decoders and the manual together: what one says the others say.

#![expect(
    clippy::indexing_slicing,
    reason = "an absent member of JSON reads as null"
)]

mod files;
mod manual;
mod mistakes;
mod record;

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value as Json, json};
use smartlink::model::decode::{ConfigError, Fields};
use smartlink::model::object::Value;
use smartlink::model::pilot;
use smartlink::model::settings::{Effective, Settings};

use files::{KINDS, Kind, schema, validator};

#[test]
fn every_schema_is_a_schema_with_title_and_description_everywhere() {
    for file in KINDS.iter().map(|kind| kind.file).chain(FORMS) {
        let schema = schema(file);
        jsonschema::meta::validate(&schema).unwrap_or_else(|error| panic!("{file}: {error}"));
        let fields = ["properties", "patternProperties"];
        let fields = fields.iter().filter_map(|part| schema[part].as_object());
        for (field, said) in fields.flatten() {
            assert!(said["description"].is_string(), "{file} {field}");
        }
        assert!(schema["title"].is_string(), "{file}");
        assert!(schema["description"].is_string(), "{file}");
    }
}

/// The schemas of messages.
const FORMS: [&str; 3] = ["standard_input", "standard_output", "shadow_record"];

#[test]
fn every_example_validates_and_decodes() {
    for kind in KINDS {
        let examples = schema(kind.file)["examples"].clone();
        let examples = examples.as_array().expect("examples are a list");
        assert!(!examples.is_empty(), "{}", kind.file);
        for example in examples {
            assert!(validator(kind.file).is_valid(example), "{example}");
            let fields: Fields = serde_json::from_value(example.clone()).expect("texts");
            assert_eq!(kind.mistakes(&fields), [], "{example}");
        }
    }
    for form in FORMS {
        for example in schema(form)["examples"].as_array().expect("examples") {
            assert!(validator(form).is_valid(example), "{example}");
        }
    }
}

#[test]
fn decoders_and_schemas_know_the_same_fields() {
    for kind in KINDS {
        let schema = schema(kind.file);
        let Some(properties) = schema["properties"].as_object() else {
            continue;
        };
        let mut known: BTreeSet<String> = properties.keys().cloned().collect();
        known.extend(prefixes(&schema));
        if schema["additionalProperties"].is_object() {
            // Others write beside what is read here.
            assert_eq!(kind.file, "pilot");
            let read: BTreeSet<String> = pilot::FIELDS.map(str::to_owned).into();
            assert_eq!(read, known);
            continue;
        }
        assert_eq!(decoder_knows(kind), known, "{}", kind.file);
    }
}

/// The fixed beginnings of patterned fields: `header.`.
fn prefixes(schema: &Json) -> impl Iterator<Item = String> {
    let patterned = schema["patternProperties"].as_object();
    let fields = patterned
        .into_iter()
        .flat_map(|patterned| patterned.values());
    fields.filter_map(|said| {
        let field = said["x-field"].as_str()?;
        field.split_once('<').map(|(prefix, _)| prefix.to_owned())
    })
}

/// A decoder that meets a field like no other names all that it knows.
fn decoder_knows(kind: &Kind) -> BTreeSet<String> {
    let stranger = "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq";
    let fields = Fields::from([(stranger.to_owned(), String::new())]);
    let errors = kind.mistakes(&fields);
    let error = errors
        .iter()
        .find(|error| error.field.as_deref() == Some(stranger))
        .expect("a stranger is a mistake");
    let (_, known) = error
        .message
        .split_once("known are: ")
        .expect("all are named");
    known.split(", ").map(str::to_owned).collect()
}

#[test]
fn defaults_of_the_schemas_are_those_of_the_decoders() {
    for kind in KINDS {
        let defaults = defaults(kind.file);
        match (
            kind.decode(&with(kind, &Fields::new())),
            kind.decode(&with(kind, &defaults)),
        ) {
            (Value::Service(_), Value::Service(said)) => {
                let silent = Settings::default();
                let built_in = Effective::merge(&silent, &silent);
                assert_eq!(Effective::merge(&said, &silent), built_in);
            }
            (silent, said) => assert_eq!(format!("{silent:?}"), format!("{said:?}")),
        }
    }
}

/// What the schema says a hash that is silent about a field means.
fn defaults(file: &str) -> Fields {
    let schema = schema(file);
    let properties = schema["properties"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    let default = |said: &Json| said["default"].as_str().map(str::to_owned);
    properties
        .iter()
        .filter_map(|(field, said)| Some((field.clone(), default(said)?)))
        .collect()
}

/// These fields, and those without which the kind is nothing.
fn with(kind: &Kind, fields: &Fields) -> Fields {
    let required = kind
        .required
        .iter()
        .map(|(field, text)| ((*field).to_owned(), (*text).to_owned()));
    required.chain(fields.clone()).collect()
}

#[test]
fn a_form_has_the_same_pattern_in_every_schema() {
    let mut seen = std::collections::BTreeMap::new();
    for kind in KINDS {
        for (name, form) in schema(kind.file)["$defs"].as_object().into_iter().flatten() {
            let first = seen.entry(name.clone()).or_insert_with(|| form.clone());
            assert_eq!(first, form, "{name} in {}", kind.file);
        }
    }
}

#[test]
fn standard_forms_refuse_what_they_should() {
    for bad in [
        json!([]),
        json!({}),
        json!({"server_name": 1}),
        json!({"server_name": ""}),
    ] {
        assert!(!validator("standard_input").is_valid(&bad), "{bad}");
    }
    let good = schema("standard_output")["examples"][0].clone();
    for (field, bad) in [
        ("status", json!(true)),
        ("data", json!([1])),
        ("duration", json!(0.5)),
        ("duration", json!("1")),
        ("msg", json!(null)),
        ("extra", json!(1)),
    ] {
        let mut answer = good.clone();
        answer[field] = bad;
        assert!(!validator("standard_output").is_valid(&answer), "{answer}");
    }
}

/// A text as an operator or a broken program may write it: near to something good, or anything.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        ".*",
        "[0-9.]{0,30}(ms|s|m|h|%|KiB|GiB|/s|/h)?",
        "(off|on|hash:|http:|jwt:|json:/|header:|/|https?://|smtp://|slow |-)?[\\PC]{0,20}",
        "[\\]\\[(){}?*+|\\\\a-z0-9$^,=:~/.@#%\"-]{0,40}",
        "[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:]{0,8}(Z|[+-][0-9:]{0,6}))?",
    ]
}

fn any_hash() -> impl Strategy<Value = (usize, Fields)> {
    (0..KINDS.len()).prop_flat_map(|at| {
        let known: Vec<String> = decoder_fields(at);
        let field = prop_oneof![4 => prop::sample::select(known), 1 => any_text()];
        let fields = prop::collection::btree_map(field, any_text(), 1..12);
        (Just(at), fields)
    })
}

fn decoder_fields(at: usize) -> Vec<String> {
    let schema = schema(KINDS[at].file);
    let properties = schema["properties"].as_object().into_iter().flatten();
    let named = properties.map(|(field, _)| field.clone());
    let examples = schema["examples"].as_array().into_iter().flatten();
    let shown = examples
        .filter_map(Json::as_object)
        .flat_map(|example| example.keys().cloned());
    named.chain(shown).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_a_decoder_panic((at, fields) in any_hash()) {
        let kind = &KINDS[at];
        let errors = kind.mistakes(&fields);
        let mut places: Vec<String> = errors.iter().map(ConfigError::place).collect();
        places.sort();
        places.dedup();
        prop_assert_eq!(places.len(), errors.len(), "a place is named once");
    }
}
