//! The tables of the manual are made from the schemas; `SMARTLINK_BLESS=1` writes them anew.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value as Json;
use serde_json::value::RawValue;

use crate::files::{KINDS, path, schema, schema_text};

const BEGIN: &str = "<!-- The tables below are made from schemas/ by the test of the manual. -->\n";
const END: &str = "<!-- End of the tables. -->\n";

#[test]
fn tables_of_the_manual_are_those_of_the_schemas() {
    let file = path("docs/configuration.md");
    let manual = std::fs::read_to_string(&file).expect("the manual is there");
    let (before, rest) = manual.split_once(BEGIN).expect("the tables begin");
    let (_, after) = rest.split_once(END).expect("the tables end");
    let wanted = format!("{before}{BEGIN}{}{END}{after}", tables());
    if std::env::var_os("SMARTLINK_BLESS").is_some() {
        std::fs::write(&file, wanted).expect("the manual can be written");
    } else {
        assert!(
            manual == wanted,
            "docs/configuration.md and schemas/ differ: run the test with SMARTLINK_BLESS=1"
        );
    }
}

fn tables() -> String {
    let mut text = String::new();
    for kind in KINDS {
        let schema = schema(kind.file);
        let title = said(&schema, "title");
        let later = match schema["x-in-force"].as_str() {
            Some(_) => " Decoded and checked now; takes effect in a later release.",
            None => "",
        };
        writeln!(
            text,
            "\n## `smartlink:{}`\n",
            title.replace(" and ", "` and `smartlink:")
        )
        .expect("a string");
        writeln!(text, "{}{later}", said(&schema, "description")).expect("a string");
        table(&mut text, kind.file, &schema);
        example(&mut text, kind.key, &schema);
    }
    text.push('\n');
    text
}

fn table(text: &mut String, file: &str, schema: &Json) {
    let mut group = None;
    for (field, property) in fields(file) {
        let of = property["x-group"].as_str().map(str::to_owned);
        if group.as_ref() != Some(&of) {
            if let Some(name) = &of {
                writeln!(text, "\n### {name}").expect("a string");
            }
            text.push_str("\n| field | value | default | meaning |\n| --- | --- | --- | --- |\n");
            group = Some(of);
        }
        let required = schema["required"].as_array();
        let required = required.is_some_and(|names| names.iter().any(|name| *name == *field));
        let default = match (property["default"].as_str(), property["x-default"].as_str()) {
            (Some(default), _) => format!("`{default}`"),
            (None, Some(default)) => default.to_owned(),
            (None, None) if required => "required".to_owned(),
            (None, None) => String::new(),
        };
        let effect = match property["x-in-force"].as_str() {
            Some("later") => " *Later.*",
            Some("closes") => " *Not enforced yet: the service answers 503 `misconfigured`.*",
            _ => "",
        };
        let value = form(schema, &property).replace('|', "\\|");
        let meaning = said(&property, "description").replace('|', "\\|");
        writeln!(
            text,
            "| `{field}` | {value} | {default} | {meaning}{effect} |"
        )
        .expect("a string");
    }
}

/// The form of a value in words.
fn form(schema: &Json, property: &Json) -> String {
    let referred = property["$ref"]
        .as_str()
        .and_then(|at| schema.pointer(at.trim_start_matches('#')));
    let own = property["title"].as_str();
    own.unwrap_or_else(|| said(referred.expect("a form"), "title"))
        .to_owned()
}

fn example(text: &mut String, key: &str, schema: &Json) {
    text.push_str("\nFor example:\n\n");
    for example in schema["examples"].as_array().into_iter().flatten() {
        write!(text, "    redis-cli HSET smartlink:{key}").expect("a string");
        for (field, value) in example.as_object().into_iter().flatten() {
            let value = value.as_str().expect("a text");
            write!(text, " {} {}", word(field), word(value)).expect("a string");
        }
        text.push('\n');
    }
}

/// A word as a shell takes it.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:/%,+@".contains(c);
    if text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{text}'")
    }
}

fn said<'j>(json: &'j Json, what: &str) -> &'j str {
    json[what]
        .as_str()
        .unwrap_or_else(|| panic!("{what} in {json}"))
}

/// The fields of a hash in the order of the schema, with those that have a pattern for a name.
fn fields(file: &str) -> Vec<(String, Json)> {
    let text = schema_text(file);
    let parts: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&text).expect("an object");
    let ordered = |part: &str| {
        let Ordered(fields) = parts.get(part).map_or(Ordered(Vec::new()), |raw| {
            serde_json::from_str(raw.get()).expect("an object")
        });
        fields
    };
    let patterned = ordered("patternProperties")
        .into_iter()
        .map(|(_, property)| (said(&property, "x-field").to_owned(), property));
    ordered("properties").into_iter().chain(patterned).collect()
}

/// The members of an object as they stand in the file.
struct Ordered(Vec<(String, Json)>);

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Ordered;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Ordered(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}
