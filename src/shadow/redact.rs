//! What must not stand in a record is taken out before the record leaves its request.
//!
//! Parts of JSON are replaced where they stand, so that the rest stays byte by byte what it was. Each
//! becomes a text with a keyed hash of what it was: within one life of a gateway, equal values stay
//! equal and nobody without the key can guess them.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::ops::Range;

use hmac::{Hmac, Mac};
use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use sha2::Sha256;

use crate::model::shadow::Redact;

/// How many digits of a hash are shown.
const DIGITS: usize = 8;
/// What stands in a pointer for every item of an array, or every member of an object.
const EVERY: &str = "*";

/// The key of one life of a gateway.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// A key of these bytes, which come from the system's random source.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// What stands instead of a value, as JSON.
    fn instead_of(&self, value: &str, how: Redact) -> String {
        if how == Redact::Remove {
            return "\"[redacted]\"".to_owned();
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length is one");
        mac.update(value.as_bytes());
        let hash = mac.finalize().into_bytes();
        let mut text = "\"[redacted:".to_owned();
        for byte in hash.iter().take(DIGITS / 2) {
            write!(text, "{byte:02x}").expect("a text takes text");
        }
        text.push_str("]\"");
        text
    }
}

/// What is left of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing was to be taken out.
    AsItWas,
    /// This, and what was taken out.
    Other(Vec<u8>, Vec<String>),
    /// It cannot be told what stands where: nothing may be kept.
    Nothing,
}

/// Takes these parts out of a body, which is one JSON text, or where `events` says so, a stream of
/// events with a JSON text each.
#[must_use]
pub(super) fn body(
    body: &[u8],
    pointers: &[Box<str>],
    how: Redact,
    secret: &Secret,
    events: bool,
) -> Left {
    if pointers.is_empty() || body.is_empty() {
        return Left::AsItWas;
    }
    let Ok(text) = std::str::from_utf8(body) else {
        return Left::Nothing;
    };
    let mut found: Vec<(Range<usize>, &str)> = Vec::new();
    if events {
        for (at, line) in lines(text) {
            let Some(data) = line.strip_prefix("data:") else {
                continue;
            };
            let at = at + "data:".len();
            if !places(data, at, pointers, &mut found) && data.contains(['{', '[']) {
                return Left::Nothing;
            }
        }
    } else if !places(text, 0, pointers, &mut found) {
        return Left::Nothing;
    }
    if found.is_empty() {
        return Left::AsItWas;
    }
    // A part of a part goes with it.
    found.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
    let (mut left, mut end, mut named) = (String::with_capacity(text.len()), 0, Vec::new());
    for (range, pointer) in found {
        if range.start >= end {
            left.push_str(text.get(end..range.start).unwrap_or_default());
            let value = text.get(range.clone()).unwrap_or_default();
            left.push_str(&secret.instead_of(value, how));
            end = range.end;
        }
        if !named.iter().any(|other| other == pointer) {
            named.push(pointer.to_owned());
        }
    }
    left.push_str(text.get(end..).unwrap_or_default());
    Left::Other(left.into_bytes(), named)
}

/// Lines and where they begin.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    text.split(['\n', '\r']).map(move |line| {
        let here = at;
        at += line.len() + 1;
        (here, line)
    })
}

/// Adds where in `text`, which begins at `offset`, the parts stand; false where it is no JSON.
fn places<'p>(
    text: &str,
    offset: usize,
    pointers: &'p [Box<str>],
    found: &mut Vec<(Range<usize>, &'p str)>,
) -> bool {
    let Ok(whole) = serde_json::from_str::<&RawValue>(text) else {
        return false;
    };
    let base = text.as_ptr() as usize;
    for pointer in pointers {
        let parts: Vec<Cow<'_, str>> = pointer.split('/').skip(1).map(unescape).collect();
        let mut here = vec![whole];
        for part in &parts {
            here = here
                .into_iter()
                .flat_map(|value| inside(value, part))
                .collect();
        }
        for value in here {
            let value = value.get();
            let start = offset + (value.as_ptr() as usize - base);
            found.push((start..start + value.len(), pointer));
        }
    }
    true
}

/// RFC 6901, section 4.
fn unescape(part: &str) -> Cow<'_, str> {
    if part.contains('~') {
        Cow::Owned(part.replace("~1", "/").replace("~0", "~"))
    } else {
        Cow::Borrowed(part)
    }
}

/// The members or items of a value that this part of a pointer names; all of them where a member
/// stands there twice.
fn inside<'v>(value: &'v RawValue, part: &str) -> Vec<&'v RawValue> {
    let mut reader = serde_json::Deserializer::from_str(value.get());
    let found = match value.get().as_bytes().first() {
        Some(b'{') => reader.deserialize_map(Members(part)),
        Some(b'[') => reader.deserialize_seq(Items(part)),
        _ => return Vec::new(),
    };
    found.unwrap_or_default()
}

struct Members<'p>(&'p str);

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while let Some((name, value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
            if self.0 == EVERY || name.0 == self.0 {
                found.push(value);
            }
        }
        Ok(found)
    }
}

/// A member's name, borrowed where nothing is escaped in it.
#[derive(serde::Deserialize)]
struct Name<'n>(#[serde(borrow)] Cow<'n, str>);

struct Items<'p>(&'p str);

impl<'de> Visitor<'de> for Items<'_> {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let wanted: Option<usize> = self.0.parse().ok();
        let (mut found, mut at) = (Vec::new(), 0);
        while let Some(value) = seq.next_element()? {
            if self.0 == EVERY || wanted == Some(at) {
                found.push(value);
            }
            at += 1;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(text: &str, pointers: &[&str], events: bool) -> String {
        let pointers: Vec<Box<str>> = pointers.iter().map(|&text| text.into()).collect();
        let secret = Secret::new([7; 32]);
        match body(text.as_bytes(), &pointers, Redact::Hash, &secret, events) {
            Left::AsItWas => "as it was".to_owned(),
            Left::Nothing => "nothing".to_owned(),
            Left::Other(left, named) => {
                let left = String::from_utf8(left).expect("text");
                // The hash of each value is another one; its place is what counts.
                let mut plain = String::new();
                for (at, part) in left.split("[redacted:").enumerate() {
                    plain.push_str(if at > 0 { "#" } else { "" });
                    plain.push_str(if at > 0 {
                        part.get(DIGITS + 1..).expect("a hash")
                    } else {
                        part
                    });
                }
                format!("{plain} {}", named.join(" "))
            }
        }
    }

    #[test]
    fn parts_are_replaced_where_they_stand() {
        for (text, pointers, wanted) in [
            (r#"{"a": 1}"#, &[][..], "as it was"),
            ("", &["/a"], "as it was"),
            (r#"{"a": 1.50}"#, &["/b"], "as it was"),
            (
                r#" {"b":1.50, "a" : "x" } "#,
                &["/a"],
                r##" {"b":1.50, "a" : "#" }  /a"##,
            ),
            (
                r#"{"a":{"b":1},"b":2}"#,
                &["/a/b"],
                r##"{"a":{"b":"#"},"b":2} /a/b"##,
            ),
            (
                r#"{"a":{"b":1}}"#,
                &["/a/b", "/a"],
                r##"{"a":"#"} /a /a/b"##,
            ),
            (
                r#"{"\u0061":1,"a":2}"#,
                &["/a"],
                r##"{"\u0061":"#","a":"#"} /a"##,
            ),
            (
                r#"{"x/y":{"~":1}}"#,
                &["/x~1y/~0"],
                r##"{"x/y":{"~":"#"}} /x~1y/~0"##,
            ),
            (
                r#"[{"s":1},{"s":2},3]"#,
                &["/*/s"],
                r##"[{"s":"#"},{"s":"#"},3] /*/s"##,
            ),
            ("[1,2,3]", &["/1"], r##"[1,"#",3] /1"##),
            (r#"{"a":[1,2]}"#, &["/a"], r##"{"a":"#"} /a"##),
            (r#"{"a": 1"#, &["/a"], "nothing"),
            ("plain", &["/a"], "nothing"),
        ] {
            assert_eq!(left(text, pointers, false), wanted, "{text} {pointers:?}");
        }
    }

    #[test]
    fn each_event_of_a_stream_is_looked_at() {
        for (text, wanted) in [
            (
                "event: a\ndata: {\"s\": 1}\n\ndata:{\"s\":2}\r\n\r\ndata: [DONE]\n\n",
                "nothing",
            ),
            (
                "event: a\ndata: {\"s\": 1}\n\ndata:{\"s\":2}\r\n\r\ndata: done\n\n",
                "event: a\ndata: {\"s\": \"#\"}\n\ndata:{\"s\":\"#\"}\r\n\r\ndata: done\n\n /s",
            ),
            ("data: {\"s\":\n\n", "nothing"),
            ("id: 1\n\n", "as it was"),
        ] {
            assert_eq!(left(text, &["/s"], true), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_no_text_is_not_kept() {
        let secret = Secret::new([7; 32]);
        let left = body(b"\xff{}", &["/a".into()], Redact::Hash, &secret, false);
        assert_eq!(left, Left::Nothing);
    }

    #[test]
    fn equal_values_stay_equal_within_a_life_and_only_there() {
        let redact = |key, text: &str, how| {
            let left = body(
                text.as_bytes(),
                &["/a".into()],
                how,
                &Secret::new([key; 32]),
                false,
            );
            match left {
                Left::Other(left, _) => String::from_utf8(left).expect("text"),
                other => panic!("{other:?}"),
            }
        };
        let first = redact(1, r#"{"a":"x"}"#, Redact::Hash);
        assert_eq!(first, redact(1, r#"{"a":"x"}"#, Redact::Hash));
        assert_ne!(first, redact(1, r#"{"a":"y"}"#, Redact::Hash));
        assert_ne!(first, redact(2, r#"{"a":"x"}"#, Redact::Hash));
        assert_eq!(first.len(), r#"{"a":"[redacted:00000000]"}"#.len());
        assert_eq!(
            redact(1, r#"{"a":"x"}"#, Redact::Remove),
            r#"{"a":"[redacted]"}"#
        );
    }
}
