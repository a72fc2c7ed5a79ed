//! The form of the file: `defaults`, and for each other kind of hash its hashes by name.

use std::collections::BTreeMap;

use serde::Serialize;

use super::tree::{self, Tree};
use crate::cli::write::Objects;
use crate::model::decode::{Fields, nearest};
use crate::model::keys::{Keys, NAMED_KINDS, Object, Parsed};
use crate::settings::FileForm;

/// The kind that has no name.
const DEFAULTS: &str = "defaults";

#[derive(Serialize)]
struct Written<'o> {
    #[serde(skip_serializing_if = "Option::is_none")]
    defaults: Option<&'o Fields>,
    #[serde(flatten)]
    named: BTreeMap<String, BTreeMap<String, &'o Fields>>,
}

/// The text of a file with these objects, sorted.
pub(super) fn write(keys: &Keys, objects: &Objects, form: FileForm) -> String {
    let mut written = Written {
        defaults: objects.get(&Object::Defaults),
        named: BTreeMap::new(),
    };
    for (object, fields) in objects {
        let key = keys.object(object);
        let rest = key.strip_prefix(keys.prefix()).unwrap_or_default();
        if let Some((kind, name)) = rest.split_once(':') {
            let hashes = written.named.entry(kind.to_owned()).or_default();
            hashes.insert(name.to_owned(), fields);
        }
    }
    match form {
        FileForm::Toml => toml::to_string(&written).expect("maps of texts are TOML"),
        FileForm::Json => {
            let json = serde_json::to_string_pretty(&written).expect("maps of texts are JSON");
            format!("{json}\n")
        }
    }
}

/// What a file says; what is wrong with its form otherwise, a line each, without its values.
pub(super) fn read(keys: &Keys, text: &str, form: FileForm) -> Result<Objects, Vec<String>> {
    let mut reader = Reader {
        keys,
        objects: Objects::new(),
        wrong: Vec::new(),
    };
    match tree::parse(text, form) {
        Ok(Tree::Table(kinds)) => {
            for (kind, below) in kinds {
                reader.take_kind(&kind, below);
            }
        }
        Ok(Tree::Text(_) | Tree::Odd) => reader.wrong.push("want a table of kinds".to_owned()),
        Err(why) => reader.wrong.push(why),
    }
    if reader.wrong.is_empty() {
        Ok(reader.objects)
    } else {
        Err(reader.wrong)
    }
}

/// Takes what a file says, kind by kind.
struct Reader<'k> {
    keys: &'k Keys,
    objects: Objects,
    wrong: Vec<String>,
}

impl Reader<'_> {
    fn take_kind(&mut self, kind: &str, below: Tree) {
        if kind == DEFAULTS {
            self.take(DEFAULTS, below);
        } else if NAMED_KINDS.contains(&kind) {
            let Tree::Table(hashes) = below else {
                let wanted = format!("{kind}: want hashes by name, such as [{kind}.NAME]");
                return self.wrong.push(wanted);
            };
            for (name, fields) in hashes {
                self.take(&format!("{kind}:{name}"), fields);
            }
        } else {
            let known = NAMED_KINDS.into_iter().chain([DEFAULTS]);
            let near = nearest(kind, known).map(|near| format!(", did you mean {near}?"));
            let near = near.unwrap_or_default();
            self.wrong
                .push(format!("{kind}: no such kind of hash{near}"));
        }
    }

    fn take(&mut self, key: &str, below: Tree) {
        let object = match self.keys.parse(&format!("{}{key}", self.keys.prefix())) {
            Parsed::Object(object) if object.is_by_people() => object,
            // The name may be a token, written where its hash belongs.
            _ if key.starts_with("token:") => {
                let wanted = "token: want names of 64 lower-case hex digits";
                return self.wrong.push(wanted.to_owned());
            }
            _ => {
                return self.wrong.push(format!(
                    "{key}: want a name of 1 to 128 letters, digits, and after the first also _ . -"
                ));
            }
        };
        let shown = self.keys.shown(&object);
        let shown = shown.strip_prefix(self.keys.prefix()).unwrap_or(&shown);
        let Tree::Table(below) = below else {
            let wanted = format!("{shown}: want fields, each a name, = and a text");
            return self.wrong.push(wanted);
        };
        if below.is_empty() {
            return self.wrong.push(format!("{shown}: want at least one field"));
        }
        let mut fields = Fields::new();
        for (field, it) in below {
            if let Tree::Text(text) = it {
                fields.insert(field, text);
            } else {
                let wanted = "want a text, a whole number or true/false";
                self.wrong.push(format!("{shown} {field}: {wanted}"));
            }
        }
        self.objects.insert(object, fields);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::name::Name;

    fn any_object() -> impl Strategy<Value = Object> {
        let name =
            || "[a-z0-9][a-zA-Z0-9_.-]{0,8}".prop_map(|it| Name::parse(&it).expect("a name"));
        prop_oneof![
            Just(Object::Defaults),
            name().prop_map(Object::Endpoints),
            name().prop_map(Object::Weights),
            name().prop_map(Object::Service),
            name().prop_map(Object::Route),
            "[0-9a-f]{64}".prop_map(|it| Object::Token(it.into())),
            name().prop_map(Object::Issuer),
            name().prop_map(Object::Shadow),
            name().prop_map(Object::Rollout),
            name().prop_map(Object::Alert),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(
            objects in prop::collection::btree_map(
                any_object(),
                // Any text at all: quotes, control characters, the end of a line.
                prop::collection::btree_map(any::<String>(), any::<String>(), 1..4),
                0..12,
            ),
            prefix in prop_oneof![Just("smartlink:"), Just("{a}:")],
        ) {
            let keys = Keys::new(prefix);
            for form in [FileForm::Toml, FileForm::Json] {
                let text = write(&keys, &objects, form);
                let there_and_back = read(&keys, &text, form);
                prop_assert_eq!(there_and_back.as_ref(), Ok(&objects), "{}", text);
                // Sorted: the same objects are the same file.
                prop_assert_eq!(&write(&keys, &objects, form), &text);
            }
        }

        #[test]
        fn no_text_makes_the_reader_panic(text: String) {
            let keys = Keys::new("smartlink:");
            for form in [FileForm::Toml, FileForm::Json] {
                let _objects = read(&keys, &text, form);
            }
        }
    }

    #[test]
    fn people_may_write_numbers_and_switches() {
        let keys = Keys::new("smartlink:");
        let file = "[weights.a]\nbase = 90\n[defaults]\nspill = true\n";
        let objects = read(&keys, file, FileForm::Toml).expect("it is good");
        let texts: Vec<&str> = objects
            .values()
            .flat_map(|it| it.values())
            .map(|it| &**it)
            .collect();
        assert_eq!(texts, ["true", "90"]);
    }

    #[test]
    fn mistakes_of_form_are_named() {
        let keys = Keys::new("smartlink:");
        for (file, part) in [
            ("[weigths.a]\nbase = \"1\"", "did you mean weights?"),
            (
                "[weights.\"a b\"]\nbase = \"1\"",
                "weights:a b: want a name",
            ),
            ("[weights.a]", "want at least one field"),
            ("[token.secret]\nname = \"a\"", "token: want names of 64"),
            (
                "[weights.a]\nbase = 1.5",
                "weights:a base: want a text, a whole number or true/false",
            ),
            ("[weights.a]\nbase = [\"secret\"]", "weights:a base: want"),
            ("[weights.a.base]\nb = \"secret\"", "weights:a base: want"),
            ("[alert]\na = \"secret\"", "alert:a: want fields"),
            ("defaults = \"secret\"", "defaults: want fields"),
            ("weights = 1", "weights: want hashes by name"),
            ("[", "no TOML: "),
        ] {
            let wrong = read(&keys, file, FileForm::Toml).expect_err(part).concat();
            assert!(wrong.contains(part), "{file}: {wrong}");
            assert!(!wrong.contains("secret"), "{wrong}");
        }
    }
}
