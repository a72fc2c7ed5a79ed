//! The border between text in Redis and values: fields in, a value and every config error out.
//!
//! Invariant: no text makes a decoder panic, and one look names all the mistakes of an object.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The fields of one hash, as text.
pub type Fields = BTreeMap<String, String>;

/// The most fields a configuration hash may have; a larger one is a mistake of that object.
pub const FIELDS_MAX: usize = 10_000;

/// What stands in Redis under one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw {
    /// Nothing.
    Absent,
    /// A hash of text fields.
    Hash(Fields),
    /// Something that cannot be read as configuration, with the reason: another type, too large,
    /// not text.
    Unreadable(String),
}

/// Something wrong in a hash, shown in `smartlink:errors`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigError {
    /// The Redis key.
    pub key: String,
    /// The field, or `None` where the whole hash is meant.
    pub field: Option<String>,
    /// What is wrong, what was wanted, and the nearest known name.
    pub message: String,
}

impl ConfigError {
    /// The field of `smartlink:errors` under which this stands: the key, or key and field.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.field {
            Some(field) => format!("{} {field}", self.key),
            None => self.key.clone(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place(), self.message)
    }
}

/// Why a text was refused: completes the sentence "want ...".
pub type Wanted = String;

/// Takes the fields of one hash one by one and remembers what was wrong.
#[derive(Debug)]
pub struct Decoder<'a> {
    key: &'a str,
    fields: &'a Fields,
    known: BTreeSet<&'static str>,
    errors: Vec<ConfigError>,
}

impl<'a> Decoder<'a> {
    /// A decoder of the hash at `key`.
    #[must_use]
    pub fn new(key: &'a str, fields: &'a Fields) -> Self {
        Self {
            key,
            fields,
            known: BTreeSet::new(),
            errors: Vec::new(),
        }
    }

    /// The parsed value of `field`, or `None` where it is absent or wrong; wrong is remembered.
    pub fn take<T>(
        &mut self,
        field: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Wanted>,
    ) -> Option<T> {
        self.known.insert(field);
        let text = self.fields.get(field)?;
        match parse(text.trim()) {
            Ok(value) => Some(value),
            Err(wanted) => {
                self.refuse(field, text, &wanted);
                None
            }
        }
    }

    /// As `take`, and absence is a mistake too.
    pub fn require<T>(
        &mut self,
        field: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Wanted>,
    ) -> Option<T> {
        if !self.fields.contains_key(field) {
            self.known.insert(field);
            self.mistake(Some(field), "is missing and required".to_owned());
            return None;
        }
        self.take(field, parse)
    }

    /// Every field that starts with `prefix` (`header.`), without the prefix.
    pub fn take_prefixed(&mut self, prefix: &str) -> Vec<(&'a str, &'a str)> {
        let fields = self.fields;
        fields
            .iter()
            .filter_map(|(field, value)| Some((field.strip_prefix(prefix)?, value.as_str())))
            .collect()
    }

    /// Names a mistake about a field's text.
    pub fn refuse(&mut self, field: &str, got: &str, wanted: &str) {
        self.mistake(Some(field), format!("want {wanted}, got {}", quote(got)));
    }

    /// Names a mistake in free words.
    pub fn mistake(&mut self, field: Option<&str>, message: String) {
        self.errors.push(ConfigError {
            key: self.key.to_owned(),
            field: field.map(str::to_owned),
            message,
        });
    }

    /// Whether nothing was wrong so far.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }

    /// All errors, after naming the fields that nobody asked for (those that `also_known` accepts
    /// are fine).
    #[must_use]
    pub fn finish(mut self, also_known: impl Fn(&str) -> bool) -> Vec<ConfigError> {
        let fields = self.fields;
        for (field, _) in fields {
            if self.known.contains(field.as_str()) || also_known(field) {
                continue;
            }
            let message = match nearest(field, self.known.iter().copied()) {
                Some(near) => format!("unknown field, did you mean {near}?"),
                None => format!(
                    "unknown field, known are: {}",
                    join(self.known.iter().copied())
                ),
            };
            self.mistake(Some(field), message);
        }
        self.errors
    }
}

/// A text in quotes, cut where it is long, with control characters escaped.
#[must_use]
pub fn quote(text: &str) -> String {
    const SHOWN: usize = 80;
    let mut cut: String = text.chars().take(SHOWN).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    format!("{cut:?}")
}

/// The known word nearest to `word`, where one is near enough to be a slip of the pen.
pub fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    known
        .map(|k| (strsim::damerau_levenshtein(word, k), k))
        .filter(|(distance, k)| *distance <= 1 + k.len() / 4)
        .min()
        .map(|(_, k)| k)
}

fn join<'k>(words: impl Iterator<Item = &'k str>) -> String {
    words.collect::<Vec<_>>().join(", ")
}
