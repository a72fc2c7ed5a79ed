//! The key of a request: by what `sticky`, `hash:` and limits tell callers apart.

use std::borrow::Cow;
use std::net::IpAddr;

use bytes::Bytes;
use http::header::COOKIE;
use http::{HeaderMap, HeaderName};

use super::scan;
use crate::model::credential::Identity;
use crate::model::path;
use crate::model::settings::KeySource;

/// What a key may be taken from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'r> {
    /// The header fields.
    pub headers: &'r HeaderMap,
    /// What stands behind the first `?`, as it was sent.
    pub query: Option<&'r str>,
    /// The client, see `policy::client`.
    pub client: IpAddr,
    /// Who asks, where a good credential says so: `Credential::id`.
    pub caller: Option<&'r Identity>,
    /// The JSON body of the named entry as far as it is here, at least its first 64 KiB; empty for
    /// routed requests.
    pub body: &'r [Bytes],
}

/// How much of a body is searched for a key: what is known of every body, however it came.
const SEARCHED: usize = 64 * 1024;

/// The key of a request; `None` where it has none. An empty one is none, and of several with the
/// same name the first counts.
#[must_use]
pub fn key<'r>(source: &KeySource, facts: &Facts<'r>) -> Option<Cow<'r, [u8]>> {
    let key = match source {
        KeySource::Header(name) => header(facts.headers, name),
        KeySource::Cookie(name) => cookie(facts.headers, name).map(Cow::Borrowed),
        KeySource::Query(name) => query(facts.query?, name),
        KeySource::Json(pointer) => json(facts.body, pointer),
        KeySource::Ip => Some(Cow::Owned(facts.client.to_string().into_bytes())),
        // Of a credential that was not checked nothing is a key: it is anybody's to write.
        KeySource::Token => facts.caller.map(|id| Cow::Borrowed(id.as_slice())),
    };
    key.filter(|key| !key.is_empty())
}

fn header<'r>(headers: &'r HeaderMap, name: &HeaderName) -> Option<Cow<'r, [u8]>> {
    headers
        .get(name)
        .map(|value| Cow::Borrowed(value.as_bytes()))
}

/// As servers read what clients send by RFC 6265 section 5.4, in one line or in several; a value in
/// double quotes is what stands between them (section 4.1.1).
fn cookie<'r>(headers: &'r HeaderMap, name: &str) -> Option<&'r [u8]> {
    let lines = headers.get_all(COOKIE).into_iter();
    let mut pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let value = pairs.find_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (found, value) = pair.split_at(equals);
        (found.trim_ascii() == name.as_bytes()).then(|| value.get(1..).unwrap_or_default())
    })?;
    let value = value.trim_ascii();
    let quoted = value
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    Some(quoted.unwrap_or(value))
}

/// The first parameter of that name, decoded once.
fn query<'r>(query: &'r str, name: &str) -> Option<Cow<'r, [u8]>> {
    let pairs = query.split('&');
    let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.find(|(found, _)| path::query_text(found) == name)?;
    Some(match path::query_text(value) {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    })
}

/// What stands at the pointer, if it ends within the first 64 KiB, however the body was cut.
fn json<'r>(body: &'r [Bytes], pointer: &str) -> Option<Cow<'r, [u8]>> {
    let bounded = |piece: &'r [u8], room: usize| piece.get(..room).unwrap_or(piece);
    let first: &[u8] = body.first()?;
    if body.len() == 1 || first.len() >= SEARCHED {
        return scan::value_at(bounded(first, SEARCHED), pointer);
    }
    let mut joined = Vec::with_capacity(SEARCHED);
    for piece in body {
        joined.extend_from_slice(bounded(piece, SEARCHED - joined.len()));
    }
    scan::value_at(&joined, pointer).map(|value| Cow::Owned(value.into_owned()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::model::value::key_source;

    /// The key of a request with these header lines, this query and this body in pieces.
    fn find(source: &str, lines: &[(&str, &str)], query: &str, body: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        let body: Vec<Bytes> = body
            .iter()
            .map(|piece| Bytes::copy_from_slice(piece.as_bytes()))
            .collect();
        let facts = Facts {
            headers: &headers,
            query: Some(query),
            client: "192.0.2.7".parse().expect("an address"),
            caller: None,
            body: &body,
        };
        let source = key_source(source).expect("a source");
        let found = key(&source, &facts);
        found.map(|key| String::from_utf8_lossy(&key).into_owned())
    }

    #[test]
    fn a_header_is_its_first_line() {
        let find = |lines: &[(&str, &str)]| find("header:X-User", lines, "", &[]);
        assert_eq!(find(&[("x-user", "a, b")]).as_deref(), Some("a, b"));
        assert_eq!(
            find(&[("x-user", "a"), ("x-user", "b")]).as_deref(),
            Some("a")
        );
        assert_eq!(find(&[("x-user", ""), ("x-user", "b")]), None);
        assert_eq!(find(&[("x-other", "a")]), None);
    }

    #[test]
    fn a_cookie_is_found_in_any_line() {
        for (lines, want) in [
            (&["sid=a"][..], Some("a")),
            (&["x=1; sid=a;y=2"], Some("a")),
            (&["x=1;sid = a "], Some("a")),
            (&["x=1", "y=2; sid=a"], Some("a")),
            (&["sid=a; sid=b"], Some("a")),
            (&["sid=a=b=="], Some("a=b==")),
            (&["sid=\"a b\""], Some("a b")),
            (&["sid=\"a"], Some("\"a")),
            (&["sid=\""], Some("\"")),
            (&["SID=a; xsid=b; sid"], None),
            (&["sid=; sid=b"], None),
            (&["sid=\"\""], None),
            (&[""], None),
        ] {
            let lines: Vec<(&str, &str)> = lines.iter().map(|line| ("cookie", *line)).collect();
            let got = find("cookie:sid", &lines, "", &[]);
            assert_eq!(got.as_deref(), want, "{lines:?}");
        }
    }

    #[test]
    fn a_query_is_decoded_once() {
        for (query, want) in [
            ("user=a", Some("a")),
            ("x=1&user=a&user=b", Some("a")),
            ("%75ser=a%20b+c", Some("a b c")),
            ("user=%2561", Some("%61")),
            ("user=a=b", Some("a=b")),
            ("user=&user=b", None),
            ("user&user=b", None),
            ("users=a", None),
            ("", None),
        ] {
            assert_eq!(
                find("query:user", &[], query, &[]).as_deref(),
                want,
                "{query}"
            );
        }
    }

    #[test]
    fn an_address_is_its_text_and_a_token_that_was_not_checked_is_none() {
        assert_eq!(find("ip", &[], "", &[]).as_deref(), Some("192.0.2.7"));
        assert_eq!(
            find("token", &[("authorization", "Bearer a")], "", &[]),
            None
        );
    }

    #[test]
    fn a_pointer_looks_into_the_first_64_kib_however_the_body_was_cut() {
        let at = |body: &[&str]| find("json:/params/user", &[], "", body);
        assert_eq!(at(&[r#"{"params": {"user": "a"}}"#]).as_deref(), Some("a"));
        assert_eq!(
            at(&[r#"{"params": {"us"#, r#"er": 1"#, "2}}"]).as_deref(),
            Some("12")
        );
        assert_eq!(at(&[]), None);
        let tail = r#"","params":{"user":"ab"}}"#;
        let ends_at = |end: usize| {
            let long = format!("{{\"x\":\"{}{tail}", "x".repeat(end + 2 - 6 - tail.len()));
            let whole = at(&[&long]);
            let (a, b) = long.split_at(1_000);
            let (b, c) = b.split_at(SEARCHED - 1_001);
            assert_eq!(at(&[a, b, c]), whole);
            whole
        };
        assert_eq!(ends_at(SEARCHED).as_deref(), Some("ab"));
        assert_eq!(ends_at(SEARCHED + 1), None);
    }
}
