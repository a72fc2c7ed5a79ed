//! Words, names, pointers, and lists of them.

use crate::model::decode::{Wanted, nearest, quote};
use crate::model::name::Name;
use crate::model::settings::{KeySource, Limit};

use super::header_name;

/// The most items a list may have.
const LIST_MAX: usize = 1000;

/// The longest free text, in bytes.
const TEXT_MAX: usize = 1024;

/// The longest name for people, in bytes.
const SHORT_TEXT_MAX: usize = 128;

/// `on` or `off`, in every usual spelling.
pub fn switch(text: &str) -> Result<bool, Wanted> {
    let is = |words: [&str; 4]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(["on", "true", "yes", "1"]) {
        Ok(true)
    } else if is(["off", "false", "no", "0"]) {
        Ok(false)
    } else {
        Err("on or off".to_owned())
    }
}

/// One of these words; the nearest one is named where the text is a slip of the pen.
pub fn word<T: Clone>(words: &'static [(&'static str, T)]) -> impl Fn(&str) -> Result<T, Wanted> {
    move |text| match words.iter().find(|(word, _)| *word == text) {
        Some((_, value)) => Ok(value.clone()),
        None => Err(one_of(text, words.iter().map(|(word, _)| *word))),
    }
}

/// What to say where `text` is none of `words`.
pub(crate) fn one_of(text: &str, words: impl Iterator<Item = &'static str> + Clone) -> Wanted {
    let all = words.clone().collect::<Vec<_>>().join(", ");
    match nearest(text, words) {
        Some(near) => format!("one of {all} (did you mean {near}?)"),
        None => format!("one of {all}"),
    }
}

/// `off`, or what `parse` takes.
pub fn limit<T>(
    parse: impl Fn(&str) -> Result<T, Wanted>,
) -> impl Fn(&str) -> Result<Limit<T>, Wanted> {
    move |text| match text {
        "off" => Ok(Limit::Off),
        _ => parse(text)
            .map(Limit::At)
            .map_err(|wanted| format!("off or {wanted}")),
    }
}

/// Items between commas, none of them empty.
pub fn list<T>(
    parse: impl Fn(&str) -> Result<T, Wanted>,
) -> impl Fn(&str) -> Result<Vec<T>, Wanted> {
    long_list(LIST_MAX, parse)
}

/// As `list`, with at most so many items.
pub(super) fn long_list<T>(
    most: usize,
    parse: impl Fn(&str) -> Result<T, Wanted>,
) -> impl Fn(&str) -> Result<Vec<T>, Wanted> {
    move |text| {
        let items: Vec<&str> = text.split(',').take(most + 1).map(str::trim).collect();
        if items.len() > most {
            return Err(format!("a list of at most {most} items"));
        }
        let several = items.len() > 1;
        let parse = |item: &str| match item {
            "" => Err("a list without empty items, separated by commas".to_owned()),
            _ => parse(item).map_err(|wanted| {
                if several {
                    format!("a list, each item {wanted} (not {})", quote(item))
                } else {
                    wanted
                }
            }),
        };
        items.into_iter().map(parse).collect()
    }
}

/// A name of a service, a version or a configured thing.
pub fn name(text: &str) -> Result<Name, Wanted> {
    Name::parse(text).ok_or_else(|| {
        "a name: letters, digits, _ . and -, the first a letter or digit, at most 128".to_owned()
    })
}

/// A name in which `*` stands for any run of characters.
pub fn name_glob(text: &str) -> Result<Box<str>, Wanted> {
    let valid = !text.is_empty()
        && text.len() <= 128
        && (text.bytes())
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'*'));
    valid.then(|| text.into()).ok_or_else(|| {
        "a name such as ner, a pattern such as ner-*, or * for every service".to_owned()
    })
}

/// Any text of one line.
pub fn text(text: &str) -> Result<Box<str>, Wanted> {
    line(text, TEXT_MAX)
}

/// A text of one line, short enough for a log line or a label.
pub fn short_text(text: &str) -> Result<Box<str>, Wanted> {
    line(text, SHORT_TEXT_MAX)
}

fn line(text: &str, most: usize) -> Result<Box<str>, Wanted> {
    let valid = (1..=most).contains(&text.len()) && !text.chars().any(char::is_control);
    valid
        .then(|| text.into())
        .ok_or_else(|| format!("a text of one line, 1 to {most} bytes"))
}

/// The path of a file where the gateway runs.
pub fn file(path: &str) -> Result<Box<str>, Wanted> {
    text(path)
        .ok()
        .filter(|path| path.starts_with('/') && !path.ends_with('/'))
        .ok_or_else(|| "the absolute path of a file where the gateway runs".to_owned())
}

/// The name of an environment variable.
pub fn env_name(text: &str) -> Result<Box<str>, Wanted> {
    let mut bytes = text.bytes();
    let valid = text.len() <= 128
        && (bytes.next()).is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_');
    valid.then(|| text.into()).ok_or_else(|| {
        "the name of an environment variable of the gateway, which holds the secret".to_owned()
    })
}

/// A JSON pointer (RFC 6901) to a part of a document.
pub fn json_pointer(text: &str) -> Result<Box<str>, Wanted> {
    let escaped = text
        .split('~')
        .skip(1)
        .all(|rest| rest.starts_with(['0', '1']));
    let valid = text.starts_with('/') && text.len() <= TEXT_MAX && escaped;
    valid
        .then(|| text.into())
        .ok_or_else(|| "a JSON pointer such as /params/user".to_owned())
}

/// Where a key is taken from: `header:NAME`, `cookie:NAME`, `query:NAME`, `json:/pointer`, `ip`
/// or `token`.
pub fn key_source(text: &str) -> Result<KeySource, Wanted> {
    let parse = || match text.split_once(':') {
        None if text == "ip" => Some(KeySource::Ip),
        None if text == "token" => Some(KeySource::Token),
        Some(("header", name)) => header_name(name).ok().map(KeySource::Header),
        Some(("cookie", name)) => header_name(name)
            .ok()
            .map(|_| KeySource::Cookie(name.into())),
        Some(("query", name)) => self::text(name).ok().map(KeySource::Query),
        Some(("json", at)) => json_pointer(at).ok().map(KeySource::Json),
        _ => None,
    };
    parse().ok_or_else(|| {
        "header:NAME, cookie:NAME, query:NAME, json:/pointer, ip or token".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_said_in_every_usual_spelling() {
        for on in ["on", "ON", "true", "Yes", "1"] {
            assert_eq!(switch(on), Ok(true), "{on}");
        }
        for off in ["off", "Off", "FALSE", "no", "0"] {
            assert_eq!(switch(off), Ok(false), "{off}");
        }
        for bad in ["", "o", "enabled", "2"] {
            assert!(switch(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_list_names_the_item_that_is_wrong() {
        let names = list(|item: &str| name(item).map(|name| name.to_string()));
        assert_eq!(
            names("a , b").as_deref(),
            Ok(&["a".to_owned(), "b".to_owned()][..])
        );
        assert!(names("a,-").is_err_and(|wanted| wanted.ends_with(r#"(not "-")"#)));
        for bad in ["", ",", "a,", ",a", "a,,b"] {
            assert!(names(bad).is_err(), "{bad}");
        }
        assert!(names(&["a"; LIST_MAX].join(",")).is_ok());
        assert!(names(&["a"; LIST_MAX + 1].join(",")).is_err());
    }

    #[test]
    fn keys_are_taken_from_every_place_of_a_request() {
        for good in [
            "header:X-User",
            "cookie:sid",
            "query:k",
            "json:/a/b~1c",
            "ip",
            "token",
        ] {
            assert!(key_source(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "header",
            "header:a b",
            "cookie:",
            "query:",
            "json:",
            "json:a",
            "ip:",
            "IP",
        ] {
            assert!(key_source(bad).is_err(), "{bad}");
        }
        assert_eq!(limit(key_source)("off"), Ok(Limit::Off));
        assert_eq!(limit(key_source)("ip"), Ok(Limit::At(KeySource::Ip)));
    }
}
