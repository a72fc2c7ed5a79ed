//! The border between text in Redis and values: fields in, a value and every config error out.
//!
//! Invariant: no text makes a decoder panic, one look names all the mistakes of an object, and no
//! message repeats a secret.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::token::Token;
use super::value;
use super::visible;

/// The fields of one hash, as text.
pub type Fields = BTreeMap<String, String>;

/// The most fields a configuration hash may have; a larger one is a mistake of that object.
pub const FIELDS_MAX: usize = 10_000;

/// The most errors named for one object; the rest is a number in the last one.
pub const ERRORS_MAX: usize = 100;

/// What stands in Redis under one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raw {
    /// Nothing.
    Absent,
    /// A hash of text fields.
    Hash(Fields),
    /// A good token, decoded at once, for a million of them in text are too many.
    Token(Arc<Token>),
    /// Something that cannot be read as configuration, with the reason: another type, too large,
    /// not text.
    Unreadable(String),
}

/// Something wrong in a hash, shown in `smartlink:errors`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigError {
    /// The Redis key, the hash of a token cut short.
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

/// What a decoder makes of a hash: the value where nothing was wrong, and everything that was.
pub type Decoded<T> = (Option<T>, Vec<ConfigError>);

/// Takes the fields of one hash one by one and remembers what was wrong.
#[derive(Debug)]
pub struct Decoder<'a> {
    key: &'a str,
    fields: &'a Fields,
    /// Names of fields; one that ends in a dot stands for all fields that begin so, the empty one
    /// for all fields.
    known: BTreeSet<&'static str>,
    errors: Vec<ConfigError>,
    /// Errors beyond the most that are named.
    more: usize,
}

/// Whether a refused text may be repeated in the message.
#[derive(Clone, Copy)]
enum Echo {
    Shown,
    Hidden,
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
            more: 0,
        }
    }

    /// The parsed value of `field`, or `None` where it is absent or wrong; wrong is remembered.
    pub fn take<T>(
        &mut self,
        field: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Wanted>,
    ) -> Option<T> {
        self.parse(field, parse, Echo::Shown)
    }

    /// As `take`, for a text that may hold a secret: the message does not repeat it, nor may what
    /// `parse` wants.
    pub fn take_secret<T>(
        &mut self,
        field: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Wanted>,
    ) -> Option<T> {
        self.parse(field, parse, Echo::Hidden)
    }

    /// As `take`, and absence is a mistake too.
    pub fn require<T>(
        &mut self,
        field: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Wanted>,
    ) -> Option<T> {
        self.demand(field);
        self.take(field, parse)
    }

    /// Makes the absence of `field` a mistake.
    pub fn demand(&mut self, field: &'static str) {
        self.known.insert(field);
        if !self.has(field) {
            self.mistake(Some(field), "is missing and required");
        }
    }

    /// Whether the hash has this field, right or wrong.
    #[must_use]
    pub fn has(&self, field: &str) -> bool {
        self.fields.contains_key(field)
    }

    /// Every field that starts with `prefix` (`header.`): what `parse` makes of the rest of its
    /// name, and of its text.
    pub fn take_prefixed<K, V>(
        &mut self,
        prefix: &'static str,
        parse_name: impl Fn(&str) -> Result<K, Wanted>,
        parse: impl Fn(&str) -> Result<V, Wanted>,
    ) -> Vec<(K, V)> {
        self.known.insert(prefix);
        let fields = self.fields;
        fields
            .iter()
            .filter_map(|(field, text)| {
                let name = parse_name(field.strip_prefix(prefix)?);
                self.pair(field, name, text, &parse)
            })
            .collect()
    }

    /// Every field, where names are values too: a URL, a version.
    pub fn take_all<K: Ord, V>(
        &mut self,
        parse_name: impl Fn(&str) -> Result<K, Wanted>,
        parse: impl Fn(&str) -> Result<V, Wanted>,
    ) -> BTreeMap<K, V> {
        let fields = self.fields;
        self.known.insert("");
        fields
            .iter()
            .filter_map(|(field, text)| self.pair(field, parse_name(field), text, &parse))
            .collect()
    }

    /// Fields that nobody asked for are somebody else's and no mistakes.
    pub fn leave_rest(&mut self) {
        self.known.insert("");
    }

    /// Names a mistake, of one field or of the hash; several of one field are one error.
    pub fn mistake(&mut self, field: Option<&str>, message: impl Into<String>) {
        let (field, message, named) = (field.map(shown), message.into(), self.errors.len());
        match self.errors.iter_mut().find(|error| error.field == field) {
            Some(error) => {
                error.message.push_str("; ");
                error.message.push_str(&message);
            }
            None if named == ERRORS_MAX => self.more += 1,
            None => self.errors.push(ConfigError {
                key: self.key.to_owned(),
                field,
                message,
            }),
        }
    }

    /// The value, if nothing was wrong, and all errors, after naming the fields nobody asked for.
    #[must_use]
    pub fn finish<T>(mut self, value: Option<T>) -> Decoded<T> {
        let fields = self.fields;
        for field in fields.keys() {
            if self.knows(field) {
                continue;
            }
            let message = match nearest(field, self.known.iter().copied()) {
                Some(near) => format!("unknown field, did you mean {near}?"),
                None => format!("unknown field, known are: {}", join(&self.known)),
            };
            self.mistake(Some(field), message);
        }
        if let Some(last) = self.errors.last_mut().filter(|_| self.more > 0) {
            let more = format!("; and {} more fields are wrong", self.more);
            last.message.push_str(&more);
        }
        (value.filter(|_| self.errors.is_empty()), self.errors)
    }

    fn parse<T>(
        &mut self,
        field: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Wanted>,
        echo: Echo,
    ) -> Option<T> {
        self.known.insert(field);
        let text = self.fields.get(field)?;
        let parsed = parse(text.trim());
        self.kept(field, text, parsed, echo)
    }

    fn pair<K, V>(
        &mut self,
        field: &str,
        name: Result<K, Wanted>,
        text: &str,
        parse: impl Fn(&str) -> Result<V, Wanted>,
    ) -> Option<(K, V)> {
        let name = name
            .map_err(|wanted| self.mistake(Some(field), format!("the field wants {wanted}")))
            .ok();
        let value = self.kept(field, text, parse(text.trim()), Echo::Shown);
        name.zip(value)
    }

    fn kept<T>(
        &mut self,
        field: &str,
        text: &str,
        parsed: Result<T, Wanted>,
        echo: Echo,
    ) -> Option<T> {
        let wanted = match parsed {
            Ok(value) => return Some(value),
            Err(wanted) => wanted,
        };
        let got = match echo {
            Echo::Shown => quote(text),
            Echo::Hidden => "something else, not shown here".to_owned(),
        };
        self.mistake(Some(field), format!("want {wanted}, got {got}"));
        None
    }

    fn knows(&self, field: &str) -> bool {
        let open = |known: &&str| known.is_empty() || known.ends_with('.');
        self.known.contains(field)
            || (self.known.iter().filter(|k| open(k))).any(|prefix| field.starts_with(prefix))
    }
}

/// A text in quotes, cut where it is long, with control characters escaped and without what may
/// be a password in a URL.
#[must_use]
pub fn quote(text: &str) -> String {
    const SHOWN: usize = 80;
    format!("{:?}", cut(&without_credentials(text), SHOWN))
}

/// The known word nearest to `word`, where one is near enough to be a slip of the pen.
pub fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let letters = word.chars().count();
    let slips = |k: &str| 1 + k.len() / 4;
    known
        // What differs more in length needs no closer look.
        .filter(|k| letters.abs_diff(k.len()) <= slips(k))
        .map(|k| (strsim::damerau_levenshtein(word, k), k))
        .filter(|(distance, k)| *distance <= slips(k))
        .min()
        .map(|(_, k)| k)
}

/// A field's name as errors show it.
fn shown(field: &str) -> String {
    const SHOWN: usize = 200;
    visible::escaped(&cut(&without_credentials(field), SHOWN), &[]).into_owned()
}

fn cut(text: &str, most: usize) -> String {
    let mut cut: String = text.chars().take(most).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}

/// A URL that is not a good endpoint may hold a password or a key: neither user info nor query
/// are shown. Where `@` stands in a broken URL says nothing, so all before the last one goes.
fn without_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    if value::url(text).is_ok() {
        return text.to_owned();
    }
    let (user, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => ("***@", rest),
        None => ("", rest),
    };
    let (rest, query) = match rest.split_once(['?', '#']) {
        Some((rest, _)) => (rest, "?***"),
        None => (rest, ""),
    };
    format!("{scheme}://{user}{rest}{query}")
}

fn join(words: &BTreeSet<&'static str>) -> String {
    words.iter().copied().collect::<Vec<_>>().join(", ")
}
