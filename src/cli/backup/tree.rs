//! A file as a tree of texts: what its parser takes, with no word of a value in what it says.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::settings::FileForm;

/// How the TOML parser hands a moment over: as a table with this one key.
const MOMENT: &str = "$__toml_private_datetime";

/// A place in a file and what is below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tree {
    /// A text, or what people write for one: a whole number, true or false.
    Text(String),
    /// Names, each once, and what is below them.
    Table(BTreeMap<String, Tree>),
    /// Anything else.
    Odd,
}

/// The tree of a file; why it has none otherwise, with line and column and without the file's words.
pub(super) fn parse(text: &str, form: FileForm) -> Result<Tree, String> {
    match form {
        // It quotes nothing: values of any kind are taken, so no value is ever refused.
        FileForm::Json => serde_json::from_str(text).map_err(|error| format!("no JSON: {error}")),
        FileForm::Toml => toml::from_str(text).map_err(|error| {
            let at = error.span().map(|span| place(text, span.start));
            let why = error.message().split_whitespace().collect::<Vec<_>>();
            format!("no TOML: {}{}", why.join(" "), at.unwrap_or_default())
        }),
    }
}

/// Line and column of a byte, as the JSON parser words them.
fn place(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default();
    format!(" at line {line} column {}", column.chars().count() + 1)
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Grow)
    }
}

struct Grow;

impl<'de> Visitor<'de> for Grow {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_bool<E>(self, on: bool) -> Result<Tree, E> {
        Ok(Tree::Text(on.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Text(number.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
        Ok(Tree::Text(number.to_string()))
    }

    fn visit_i128<E>(self, _: i128) -> Result<Tree, E> {
        Ok(Tree::Odd)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Tree, E> {
        Ok(Tree::Odd)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Odd)
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Odd)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Tree, A::Error> {
        while all.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Tree::Odd)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut all: A) -> Result<Tree, A::Error> {
        let mut table = BTreeMap::new();
        while let Some((name, below)) = all.next_entry::<String, Tree>()? {
            // The name may be a token, written where its hash belongs.
            if table.insert(name, below).is_some() {
                return Err(A::Error::custom("a name stands twice in one table"));
            }
        }
        Ok(if table.contains_key(MOMENT) {
            Tree::Odd
        } else {
            Tree::Table(table)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_told_by_its_place_alone() {
        for (form, text, wanted) in [
            (
                FileForm::Toml,
                "[service.a]\nset_request_headers = \"authorization: Bearer geheim\n",
                "at line 2 column ",
            ),
            (FileForm::Toml, "\n[token.sl_geheim", "at line 2 column "),
            (FileForm::Toml, "a = geheim", "at line 1 column 5"),
            (
                FileForm::Toml,
                "geheim = 1\ngeheim = 2",
                "at line 2 column 1",
            ),
            (FileForm::Toml, "a = 12geheim", "at line 1 column "),
            (FileForm::Toml, "geheim", "at line 1 column "),
            (FileForm::Json, "{\"alert\": geheim}", "at line 1 column 11"),
            (FileForm::Json, "{\"a\": \"geheim", "at line 1 column 13"),
            (
                FileForm::Json,
                "{\n\"geheim\": 1,\n\"geheim\": 2}",
                "a name stands twice in one table at line 3 column ",
            ),
        ] {
            let why = parse(text, form).expect_err(text);
            assert!(why.contains(wanted), "{text}: {why}");
            assert!(!why.contains("geheim"), "{why}");
            assert_eq!(why.lines().count(), 1, "{why}");
        }
    }

    #[test]
    fn what_is_no_text_is_odd() {
        for (text, wanted) in [
            ("a = 1.5", Tree::Odd),
            ("a = [1]", Tree::Odd),
            ("a = 1979-05-27", Tree::Odd),
            ("a = 7", Tree::Text("7".to_owned())),
            ("a = false", Tree::Text("false".to_owned())),
        ] {
            let all = parse(text, FileForm::Toml).expect(text);
            assert_eq!(all, Tree::Table([("a".to_owned(), wanted)].into()));
        }
        let all = parse("{\"a\": null}", FileForm::Json).expect("JSON");
        assert_eq!(all, Tree::Table([("a".to_owned(), Tree::Odd)].into()));
    }
}
