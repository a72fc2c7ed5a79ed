//! A value in a body, by pointer (RFC 6901).

use std::borrow::Cow;

use super::is_space;
use super::text::plain_len;

/// What stands at `pointer` in a JSON object of which this is the beginning: a text without its
/// escapes, a number or a switch as it is written. `None` where nothing stands there, where it is
/// an object, an array, `null` or no text (half a surrogate pair), or where it does not end within
/// `body`. Of several members with one name the first counts.
///
/// The caller has found the beginning to be JSON; of anything else the value is any or none.
#[must_use]
pub fn value_at<'b>(body: &'b [u8], pointer: &str) -> Option<Cow<'b, [u8]>> {
    let mut rest = after_space(body);
    for token in pointer.split('/').skip(1) {
        rest = match rest.split_first()? {
            (b'{', members) => member(members, &unescaped(token))?,
            (b'[', items) => item(items, index(token)?)?,
            _ => return None,
        };
    }
    match rest.first()? {
        b'"' => text(rest).map(|(text, _)| text),
        b'{' | b'[' => None,
        _ => {
            let end = rest.iter().position(|byte| ends_scalar(*byte))?;
            let written = rest.get(..end)?;
            (written != b"null").then_some(Cow::Borrowed(written))
        }
    }
}

/// A token of a pointer as a name.
fn unescaped(token: &str) -> Cow<'_, str> {
    if token.contains('~') {
        // In this order: `~01` is `~1`.
        Cow::Owned(token.replace("~1", "/").replace("~0", "~"))
    } else {
        Cow::Borrowed(token)
    }
}

/// A token as a place in an array: digits without leading zeros.
fn index(token: &str) -> Option<usize> {
    let is_index = token == "0"
        || (!token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit()));
    is_index.then(|| token.parse().ok()).flatten()
}

/// From behind an opening brace to the value of the member.
fn member<'b>(members: &'b [u8], name: &str) -> Option<&'b [u8]> {
    let mut rest = after_space(members);
    loop {
        let (found, after) = (rest.first() == Some(&b'"')).then(|| key(rest))??;
        let value = after_space(after_space(after).strip_prefix(b":")?);
        if found.is_some_and(|found| *found == *name.as_bytes()) {
            return Some(value);
        }
        rest = after_space(after_space(past(value)?).strip_prefix(b",")?);
    }
}

/// From behind an opening bracket to the item.
fn item(items: &[u8], index: usize) -> Option<&[u8]> {
    let mut rest = after_space(items);
    for _ in 0..index {
        rest = after_space(after_space(past(rest)?).strip_prefix(b",")?);
    }
    (rest.first() != Some(&b']')).then_some(rest)
}

/// What stands behind a value.
fn past(value: &[u8]) -> Option<&[u8]> {
    match value.first()? {
        b'"' => string_end(value).and_then(|end| value.get(end..)),
        b'{' | b'[' => past_nested(value),
        _ => {
            let end = value.iter().position(|byte| ends_scalar(*byte))?;
            // What is no value would not take us further.
            value.get(end..).filter(|_| end > 0)
        }
    }
}

/// What stands behind an object or an array: its brackets are known to fit.
fn past_nested(value: &[u8]) -> Option<&[u8]> {
    let mut depth = 0_usize;
    let mut rest = value;
    loop {
        match rest.first()? {
            b'"' => {
                rest = rest.get(string_end(rest)?..)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        rest = rest.get(1..)?;
        if depth == 0 {
            return Some(rest);
        }
    }
}

/// A name, and what stands behind it; no name where it is no text.
#[expect(
    clippy::type_complexity,
    reason = "a name that is no text is passed over, one that does not end ends the search"
)]
fn key(quoted: &[u8]) -> Option<(Option<Cow<'_, [u8]>>, &[u8])> {
    let end = string_end(quoted)?;
    Some((unquoted(quoted.get(..end)?), quoted.get(end..)?))
}

/// A text without its escapes, and what stands behind it.
fn text(quoted: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let (text, rest) = key(quoted)?;
    Some((text?, rest))
}

/// Where a text ends, behind its closing quote.
fn string_end(quoted: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        let rest = quoted.get(at..)?;
        at += plain_len(rest);
        match quoted.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// A text in its quotes, without them and its escapes; `None` where it holds half a surrogate pair.
fn unquoted(quoted: &[u8]) -> Option<Cow<'_, [u8]>> {
    let inside = quoted.get(1..quoted.len() - 1)?;
    if inside.contains(&b'\\') {
        let text: String = serde_json::from_slice(quoted).ok()?;
        Some(Cow::Owned(text.into_bytes()))
    } else {
        Some(Cow::Borrowed(inside))
    }
}

fn ends_scalar(byte: u8) -> bool {
    is_space(byte) || matches!(byte, b',' | b'}' | b']')
}

fn after_space(bytes: &[u8]) -> &[u8] {
    let begin = bytes.iter().position(|byte| !is_space(*byte));
    bytes
        .get(begin.unwrap_or(bytes.len())..)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn find(body: &str, pointer: &str) -> Option<String> {
        let value = value_at(body.as_bytes(), pointer)?;
        Some(String::from_utf8(value.into_owned()).expect("text"))
    }

    #[test]
    fn a_value_is_found_by_its_pointer() {
        let body = r#" { "a" : "x" , "n": -1.50e+3, "t":true,"z" :null,"e":"",
            "o": {"p": {"a": 1}, "q": [10, [20, "y]"], {"r": "}s"}, false]},
            "":"empty", "a/b": "slash", "m~n": "tilde", "~1": "odd", "0": "zero",
            "caf\u00e9": "key", "u": "\u00e9\ud83d\ude00\n\"", "half": "\ud83d",
            "\ud83d": "half key", "a": "second" }"#;
        for (pointer, want) in [
            ("/a", Some("x")),
            ("/n", Some("-1.50e+3")),
            ("/t", Some("true")),
            ("/z", None),
            ("/e", Some("")),
            ("/o", None),
            ("/o/q", None),
            ("/o/p/a", Some("1")),
            ("/o/q/0", Some("10")),
            ("/o/q/1/1", Some("y]")),
            ("/o/q/2/r", Some("}s")),
            ("/o/q/3", Some("false")),
            ("/o/q/4", None),
            ("/o/q/-", None),
            ("/o/q/00", None),
            ("/o/q/+1", None),
            ("/o/q/", None),
            ("/o/q/99999999999999999999", None),
            ("/", Some("empty")),
            ("/a~1b", Some("slash")),
            ("/m~0n", Some("tilde")),
            ("/~01", Some("odd")),
            ("/0", Some("zero")),
            ("/caf\u{e9}", Some("key")),
            ("/u", Some("\u{e9}\u{1f600}\n\"")),
            ("/half", None),
            ("/a/b", None),
            ("/missing", None),
        ] {
            assert_eq!(find(body, pointer).as_deref(), want, "{pointer}");
        }
        assert_eq!(find(r#"{"a":[]}"#, "/a/0"), None);
        assert_eq!(find("{}", "/a"), None);
    }

    #[test]
    fn a_value_that_does_not_end_is_not_there() {
        let body = r#"{"a": {"b": [12, "c\"d"]}}"#;
        let ends = |value: &str| body.find(value).expect("it is there") + value.len();
        for (pointer, value, needs) in [
            ("/a/b/0", "12", ends("12") + 1),
            ("/a/b/1", "c\"d", ends("d\"")),
        ] {
            for cut in 0..=body.len() {
                let want = (cut >= needs).then_some(value);
                let (begun, _) = body.split_at(cut);
                assert_eq!(find(begun, pointer).as_deref(), want, "{begun}");
            }
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-c/~\"\\\\\u{e9}]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c/~0-2]{0,2}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_pointer_finds_what_a_whole_parser_finds(
            member in any_json(),
            pointer in "(/(a|b|c|~0|~1|0|1|2|01){0,2}){1,4}",
            pretty in any::<bool>(),
        ) {
            let body = json!({"a": member.clone(), "b": [member], "c": 1});
            let text = if pretty { format!("{body:#}") } else { body.to_string() };
            let want = body.pointer(&pointer).and_then(|value| match value {
                Value::String(text) => Some(text.clone()),
                Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
                _ => None,
            });
            prop_assert_eq!(find(&text, &pointer), want, "{} in {}", pointer, text);
        }

        #[test]
        fn no_bytes_make_it_panic(body in "[\\PC]{0,40}|[{}\\[\\]\",:a0\\\\ ]{0,40}", pointer in "(/[a0]?){1,4}") {
            let _any = value_at(body.as_bytes(), &pointer);
        }
    }
}
