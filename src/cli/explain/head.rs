//! A request as a person types it.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request, Uri};

/// A request: head and body.
#[derive(Debug)]
pub(super) struct Typed {
    pub(super) parts: Parts,
    pub(super) body: Bytes,
}

/// Method, target and body in one text; the method may be left out for GET. Header lines are
/// `name: value`.
pub(super) fn parse(text: &str, lines: &[String]) -> Result<Typed, String> {
    let text = text.trim_start();
    let (method, rest) = match text.split_once(char::is_whitespace) {
        _ if text.starts_with('/') => ("GET", text),
        Some((method, rest)) => (method, rest.trim_start()),
        None => (text, ""),
    };
    let (target, body) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let method = Method::from_bytes(method.as_bytes()).map_err(|_malformed| {
        format!("{method:?} is no method: want 'POST /ai_server/ {{...}}'")
    })?;
    let uri: Uri = target.parse().map_err(|_malformed| {
        format!("{target:?} is no target: want a path such as /ai_server/")
    })?;
    let mut request = Request::builder().method(method).uri(uri);
    for line in lines {
        let (name, value) = header(line)?;
        request = request.header(name, value);
    }
    let body = Bytes::copy_from_slice(body.trim().as_bytes());
    let request = request.body(()).map_err(|error| error.to_string())?;
    let (parts, ()) = request.into_parts();
    Ok(Typed { parts, body })
}

fn header(line: &str) -> Result<(HeaderName, HeaderValue), String> {
    let pair = line.split_once(':').and_then(|(name, value)| {
        let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
        let value = HeaderValue::from_bytes(value.trim().as_bytes()).ok()?;
        Some((name, value))
    });
    // The line is not repeated: it may be a credential.
    pair.ok_or_else(|| "-H wants a header such as 'x-api-key: T'".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_is_typed() {
        for (text, method, target, body) in [
            (
                "POST /ai_server/ {\"a\": 1}",
                "POST",
                "/ai_server/",
                "{\"a\": 1}",
            ),
            ("GET /x?y=1", "GET", "/x?y=1", ""),
            ("/x", "GET", "/x", ""),
            ("  PUT   /x   a b ", "PUT", "/x", "a b"),
            ("OPTIONS *", "OPTIONS", "*", ""),
            ("GET http://h/x", "GET", "http://h/x", ""),
        ] {
            let typed = parse(text, &[]).expect(text);
            assert_eq!(typed.parts.method, method, "{text}");
            assert_eq!(typed.parts.uri.to_string(), target, "{text}");
            assert_eq!(typed.body, body, "{text}");
        }
        for text in ["", "GET", "G@T /x", "GET /x\u{7f}"] {
            assert!(parse(text, &[]).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_header_that_is_none_is_not_repeated() {
        let line = "secret without a colon".to_owned();
        let why = parse("/x", &[line]).expect_err("no header");
        assert!(!why.contains("secret"), "{why}");
        let typed = parse("/x", &["X-A:  b: c ".to_owned()]).expect("a header");
        assert_eq!(typed.parts.headers.get("x-a").expect("it is there"), "b: c");
    }
}
