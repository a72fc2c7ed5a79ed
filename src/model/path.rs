//! The forms of a request's path: as sent, and as servers may read it.
//!
//! Servers decode escapes and take dots away, each in its own moment. A path whose forms differ is
//! where a stranger gets behind a rule, so both forms are made here, to be compared.

use std::borrow::Cow;

/// Whether every server reads the path as it is written: no escapes, no segment that begins with a
/// dot, no backslash.
#[must_use]
pub fn is_plain(path: &str) -> bool {
    let mut after_slash = false;
    path.bytes().all(|byte| {
        let plain = byte != b'%' && byte != b'\\' && !(after_slash && byte == b'.');
        after_slash = byte == b'/';
        plain
    })
}

/// The path as it is written, with those escapes replaced that are the only way to write a
/// character: spaces, letters beyond ASCII and other signs that no target may hold. `%25` stays.
#[must_use]
pub fn as_written(path: &str) -> Cow<'_, str> {
    let written = unescape(path, |byte| !may_stand(byte)).map(String::from_utf8);
    match written {
        Some(Ok(written)) => Cow::Owned(written),
        // Without escapes, or not text at all, there is only what was sent.
        Some(Err(_)) | None => Cow::Borrowed(path),
    }
}

/// The path as servers may read it: decoded, dots removed. `None` where it climbs above its root,
/// or takes back an empty segment, which some servers have merged away by then.
#[must_use]
pub fn as_read(path: &str) -> Option<String> {
    let decoded = decoded(path);
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_open = false;
    for segment in decoded.strip_prefix('/').unwrap_or(&decoded).split('/') {
        let dots = dots(segment);
        ends_open = dots.is_some();
        match dots {
            Some(Dots::Here) => {}
            Some(Dots::Up) => {
                kept.pop().filter(|taken_back| !taken_back.is_empty())?;
            }
            None => kept.push(segment),
        }
    }
    if ends_open {
        kept.push("");
    }
    Some(format!("/{}", kept.join("/")))
}

/// The text with every escape decoded once and backslashes as slashes. `%25` stays, so that a
/// decoded text still tells escapes from signs; what is not UTF-8 becomes the replacement character.
#[must_use]
pub fn decoded(text: &str) -> String {
    let bytes = unescape(text, |_| true).unwrap_or_else(|| text.as_bytes().to_vec());
    let text = String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    text.replace('\\', "/")
}

/// The reverse of [`as_written`]: escapes what no target may hold.
#[must_use]
pub fn encoded(path: &str) -> Cow<'_, str> {
    let stands = |byte: u8| may_stand(byte) || matches!(byte, b'%' | b'\\');
    if path.bytes().all(stands) {
        return Cow::Borrowed(path);
    }
    let mut encoded = String::with_capacity(path.len() + 16);
    for byte in path.bytes() {
        if stands(byte) {
            encoded.push(char::from(byte));
        } else {
            let nibbles = [byte >> 4, byte & 15].map(|nibble| char::from_digit(nibble.into(), 16));
            encoded.push('%');
            encoded.extend(
                nibbles
                    .into_iter()
                    .flatten()
                    .map(|digit| digit.to_ascii_uppercase()),
            );
        }
    }
    Cow::Owned(encoded)
}

/// The path of an endpoint's URL with `rest` behind it; an empty rest leaves it as it is.
#[must_use]
pub fn join(endpoint_path: &str, rest: &str, query: Option<&str>) -> String {
    let query_len = query.map_or(0, |query| query.len() + 1);
    let mut joined = String::with_capacity(endpoint_path.len() + rest.len() + query_len + 1);
    if rest.is_empty() {
        joined.push_str(endpoint_path);
    } else {
        joined.push_str(endpoint_path.strip_suffix('/').unwrap_or(endpoint_path));
        if !rest.starts_with('/') {
            joined.push('/');
        }
        joined.push_str(rest);
    }
    if joined.is_empty() {
        joined.push('/');
    }
    if let Some(query) = query {
        joined.push('?');
        joined.push_str(query);
    }
    joined
}

/// A query's name or value as people read it: `+` is a space, escapes are decoded.
#[must_use]
pub fn query_text(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    let bytes = decode(&spaced, |_| true).unwrap_or_else(|| spaced.into_bytes());
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

/// As `decode`, and `%25` stays.
fn unescape(path: &str, wanted: impl Fn(u8) -> bool) -> Option<Vec<u8>> {
    decode(path, |byte| byte != b'%' && wanted(byte))
}

/// Decodes the escapes of bytes that are `wanted`; `None` where there is no escape. What is not a
/// whole escape stays.
fn decode(text: &str, wanted: impl Fn(u8) -> bool) -> Option<Vec<u8>> {
    if !text.contains('%') {
        return None;
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = match tail {
            [high, low, ..] if first == b'%' => digit(*high).zip(digit(*low)),
            _ => None,
        };
        let byte;
        (byte, rest) = match escaped.map(|(high, low)| high << 4 | low) {
            Some(meant) if wanted(meant) => (meant, tail.get(2..).unwrap_or_default()),
            _ => (first, tail),
        };
        decoded.push(byte);
    }
    Some(decoded)
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|d| u8::try_from(d).ok())
}

/// Whether a path may hold the byte as it is (RFC 3986, `pchar` and `/`).
fn may_stand(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte)
}

/// A segment that is an instruction.
enum Dots {
    Here,
    Up,
}

/// What a server may take a segment for, once it has cut off parameters or stopped at a NUL.
fn dots(segment: &str) -> Option<Dots> {
    match segment.split([';', '\0']).next()? {
        "." => Some(Dots::Here),
        ".." => Some(Dots::Up),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_servers_may_read_it() {
        for (path, want) in [
            ("/", Some("/")),
            ("/a/b", Some("/a/b")),
            ("/a/b/", Some("/a/b/")),
            ("/a//b", Some("/a//b")),
            ("/a/./b", Some("/a/b")),
            ("/a/.", Some("/a/")),
            ("/a/..", Some("/")),
            ("/a/b/..", Some("/a/")),
            ("/a/../b", Some("/b")),
            ("/a/..b/.c", Some("/a/..b/.c")),
            ("/a/...", Some("/a/...")),
            ("/a/%2e%2E/b", Some("/b")),
            ("/a/.%2e/b", Some("/b")),
            ("/a%2f..%2Fb", Some("/b")),
            ("/a\\..\\b", Some("/b")),
            ("/a%5c..%5Cb", Some("/b")),
            ("/a/..;x=1/b", Some("/b")),
            ("/a/..%00/b", Some("/b")),
            ("/a/.;/b", Some("/a/b")),
            ("/%252e%252e/b", Some("/%252e%252e/b")),
            ("/a%2", Some("/a%2")),
            ("/a%zz", Some("/a%zz")),
            ("/caf%C3%A9", Some("/caf\u{e9}")),
            ("/%ff", Some("/\u{fffd}")),
            ("/..", None),
            ("/../a", None),
            ("/a/../../a", None),
            ("/%2e%2e%2fa", None),
            ("/\\..", None),
            ("/a//..", None),
            ("/a//../b", None),
        ] {
            assert_eq!(as_read(path).as_deref(), want, "{path}");
        }
    }

    #[test]
    fn escapes_that_are_the_only_way_are_the_character() {
        for (path, want) in [
            ("/a", "/a"),
            ("/caf%C3%A9/%E5%9c%b0", "/caf\u{e9}/\u{5730}"),
            ("/a%20b", "/a b"),
            ("/a%2Fb%2e%2E%5C", "/a%2Fb%2e%2E\\"),
            ("/%25%32", "/%25%32"),
            ("/%ff%20", "/%ff%20"),
        ] {
            assert_eq!(as_written(path), want, "{path}");
        }
        for path in ["/caf%C3%A9", "/a%20b%25%2F%3F%23", "/a"] {
            assert_eq!(encoded(&as_written(path)), path);
        }
    }

    #[test]
    fn plain_paths_have_one_form() {
        for path in ["/", "/a/b.c", "/a/b/", "*", "/a;b=1/c,d", "/a//b"] {
            assert!(is_plain(path), "{path}");
        }
        for path in ["/.", "/a/.b", "/a/..", "/%61", "/a\\b"] {
            assert!(!is_plain(path), "{path}");
        }
    }

    #[test]
    fn the_rest_stands_behind_the_endpoints_path() {
        for (endpoint, rest, query, want) in [
            ("/", "/x", None, "/x"),
            ("/", "", None, "/"),
            ("/api", "", None, "/api"),
            ("/api/", "", Some("a=1"), "/api/?a=1"),
            ("/api/", "/x", None, "/api/x"),
            ("/api", "/x/", Some(""), "/api/x/?"),
            ("/api", "/", Some("a?b"), "/api/?a?b"),
            ("/api/", "//x", None, "/api//x"),
            ("", "", None, "/"),
        ] {
            assert_eq!(join(endpoint, rest, query), want);
        }
    }

    #[test]
    fn query_texts_are_read_as_forms_write_them() {
        for (text, want) in [
            ("a", "a"),
            ("a+b%2Bc%20", "a b+c "),
            ("%zz+", "%zz "),
            ("%ff", "\u{fffd}"),
        ] {
            assert_eq!(query_text(text), want);
        }
    }
}
