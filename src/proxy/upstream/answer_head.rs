//! The head of an upstream's answer: parsed by httparse, framed by the rules of RFC 9112.
//!
//! Invariant: an answer whose length two readers could understand differently is refused.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, SERVER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use hyper::ext::ReasonPhrase;
use memchr::{memchr2_iter, memmem};

use super::{Answer, Broken};
use crate::proxy::headers;

/// The most header lines of an answer.
const HEADERS_MAX: usize = 128;
/// The largest, in bytes.
const HEAD_MAX: usize = 64 * 1024;
/// Room for the headers that are added on the way down.
const ADDED: usize = 8;
/// Maps with more room than this are not kept.
const SPARE_MAX: usize = 64;

/// How the end of a body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// After this many bytes.
    Known(u64),
    /// After the last chunk.
    Chunked,
    /// When the connection closes.
    Close,
}

/// A parsed head, without what is meant for the upstream's connection only.
#[derive(Debug)]
pub(super) struct Head {
    /// Boxed: it is handed through several futures.
    pub(super) answer: Box<Answer>,
    pub(super) length: Length,
    /// The upstream keeps the connection open.
    pub(super) keep_alive: bool,
}

static HEAD_END: LazyLock<memmem::Finder<'static>> =
    LazyLock::new(|| memmem::Finder::new(b"\r\n\r\n"));

thread_local! {
    /// The map of a request that was sent, for the next answer.
    static SPARE: Cell<Option<HeaderMap>> = const { Cell::new(None) };
}

/// Takes back a map that nobody needs any more: its room serves the next answer.
pub(in crate::proxy) fn recycle(mut map: HeaderMap) {
    if map.capacity() <= SPARE_MAX {
        map.clear();
        SPARE.set(Some(map));
    }
}

/// Takes the head off the buffer, or `None` while it is not complete. Interim answers are taken
/// off and forgotten, but for 101.
pub(super) fn take(buffer: &mut BytesMut, method: &Method) -> Result<Option<Head>, Broken> {
    loop {
        let Some(end) = HEAD_END.find(buffer) else {
            return if buffer.len() > HEAD_MAX || has_bare_line_end(buffer) {
                Err(Broken::Protocol)
            } else {
                Ok(None)
            };
        };
        if end > HEAD_MAX {
            return Err(Broken::Protocol);
        }
        let bytes = buffer.split_to(end + 4).freeze();
        let head = parse(&bytes, method)?;
        let status = head.answer.response.status();
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Some(head));
        }
    }
}

/// Whether a CR or LF stands alone: other readers may see other lines. A CR at the end may get its
/// LF yet.
fn has_bare_line_end(bytes: &[u8]) -> bool {
    let mut after_cr = None;
    memchr2_iter(b'\r', b'\n', bytes).any(|at| {
        let follows_cr = after_cr == Some(at);
        let is_cr = bytes.get(at) == Some(&b'\r');
        let bare = follows_cr == is_cr || (after_cr.is_some() && !follows_cr);
        after_cr = is_cr.then_some(at + 1);
        bare
    })
}

/// Whether no line of a parsed head ends in a bare LF, which the parser takes for a line end; a
/// bare CR it refuses, and the last line ends where the head was found to end.
fn lines_end_in_pairs(bytes: &[u8], lines: &[httparse::Header<'_>]) -> bool {
    let start = bytes.as_ptr().addr();
    let mut status = bytes;
    // Empty lines in front of it are passed over.
    while let Some(rest) = status.strip_prefix(b"\r\n") {
        status = rest;
    }
    status.first() == Some(&b'H')
        && lines.iter().all(|line| {
            let at = line.name.as_ptr().addr() - start;
            at.checked_sub(2).and_then(|end| bytes.get(end..at)) == Some(b"\r\n")
        })
}

/// The name of a header; the usual ones are known at sight.
fn name_of(text: &str) -> Result<HeaderName, Broken> {
    Ok(match text {
        "Server" | "server" => SERVER,
        "Date" | "date" => DATE,
        "Content-Type" | "content-type" => CONTENT_TYPE,
        "Content-Length" | "content-length" => CONTENT_LENGTH,
        "Connection" | "connection" => CONNECTION,
        "Transfer-Encoding" | "transfer-encoding" => TRANSFER_ENCODING,
        _ => HeaderName::from_bytes(text.as_bytes()).map_err(|_malformed| Broken::Protocol)?,
    })
}
/// What the header lines say about framing and the connection.
#[derive(Default)]
struct Framing {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    upgrade: Option<HeaderValue>,
    /// Headers that `Connection` names, where it names any.
    named: Vec<HeaderName>,
}

fn parse(bytes: &Bytes, method: &Method) -> Result<Head, Broken> {
    let mut lines = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    match parser.parse_response_with_uninit_headers(&mut parsed, bytes, &mut lines) {
        Ok(httparse::Status::Complete(taken)) if taken == bytes.len() => {}
        Ok(_) | Err(_) => return Err(Broken::Protocol),
    }
    if !lines_end_in_pairs(bytes, parsed.headers) {
        return Err(Broken::Protocol);
    }
    let status = parsed
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or(Broken::Protocol)?;
    let mut framing = Framing::default();
    let mut map = SPARE.take().unwrap_or_default();
    map.reserve(parsed.headers.len() + ADDED);
    for line in parsed.headers.iter() {
        let name = name_of(line.name)?;
        if name == CONNECTION {
            framing.read_connection(line.value);
            continue;
        }
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(line.value))
            .map_err(|_malformed| Broken::Protocol)?;
        if framing.read(&name, &value)? == Keep::Yes {
            map.append(name, value);
        }
    }
    for name in &framing.named {
        map.remove(name);
    }
    let http10 = parsed.version == Some(0);
    let length = framing.length_of(status, method, http10)?;
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = map;
    if let Some(reason) = parsed
        .reason
        .filter(|reason| Some(*reason) != status.canonical_reason())
        && let Ok(reason) = ReasonPhrase::try_from(reason.as_bytes())
    {
        response.extensions_mut().insert(reason);
    }
    // A 204 that announces a body may send it: those bytes would pass for the next answer.
    let honest = status != StatusCode::NO_CONTENT || !(framing.chunked || framing.length > Some(0));
    let keep_alive = honest && !framing.close && (!http10 || framing.keep_alive);
    let upgrade = framing.upgrade;
    Ok(Head {
        answer: Box::new(Answer { response, upgrade }),
        length,
        keep_alive,
    })
}

/// Whether a header line goes on to the client.
#[derive(PartialEq, Eq)]
enum Keep {
    Yes,
    /// In one form: what came was a list of equal lengths.
    Length(u64),
    No,
}

impl Framing {
    fn read(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<Keep, Broken> {
        if *name == CONTENT_LENGTH {
            let length = parse_length(value.as_bytes()).ok_or(Broken::Protocol)?;
            if self.length.is_some_and(|before| before != length) {
                return Err(Broken::Protocol);
            }
            // The same length twice is passed on once.
            return Ok(match self.length.replace(length) {
                None if value.as_bytes().contains(&b',') => Keep::Length(length),
                None => Keep::Yes,
                Some(_) => Keep::No,
            });
        }
        if *name == TRANSFER_ENCODING {
            if self.chunked || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err(Broken::Protocol);
            }
            self.chunked = true;
            return Ok(Keep::No);
        }
        if *name == UPGRADE {
            self.upgrade = Some(value.clone());
            return Ok(Keep::No);
        }
        Ok(if headers::stays_on_this_hop(name) {
            Keep::No
        } else {
            Keep::Yes
        })
    }

    fn read_connection(&mut self, value: &[u8]) {
        for token in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if let Ok(name) = HeaderName::from_bytes(token)
                && name != CONTENT_LENGTH
            {
                self.named.push(name);
            }
        }
    }

    fn length_of(
        &self,
        status: StatusCode,
        method: &Method,
        http10: bool,
    ) -> Result<Length, Broken> {
        if self.chunked && (self.length.is_some() || http10) {
            return Err(Broken::Protocol);
        }
        let bodiless = method == Method::HEAD
            || status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED;
        Ok(match self.length {
            _ if bodiless => Length::Known(0),
            _ if self.chunked => Length::Chunked,
            Some(length) => Length::Known(length),
            None => Length::Close,
        })
    }
}

/// A length, or a list of equal lengths, which RFC 9112 section 6.3 lets a recipient accept.
fn parse_length(value: &[u8]) -> Option<u64> {
    let mut lengths = value.split(|b| *b == b',').map(|item| {
        let digits = item.trim_ascii();
        let valid = (1..=18).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
        valid.then(|| {
            digits
                .iter()
                .fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'))
        })
    });
    let first = lengths.next()??;
    lengths.all(|other| other == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &str, expected: Result<Length, ()>) {
        let mut buffer = BytesMut::from(format!("{head}\r\n\r\n").as_bytes());
        let length = take(&mut buffer, &Method::POST)
            .map(|head| head.expect("complete").length)
            .map_err(|_malformed| ());
        assert_eq!(length, expected, "{head}");
    }

    #[test]
    fn lengths_are_found_as_rfc_9112_says() {
        check("HTTP/1.1 200 OK\r\ncontent-length: 7", Ok(Length::Known(7)));
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\ncontent-length: 7",
            Ok(Length::Known(7)),
        );
        check(
            "HTTP/1.1 200 OK\r\ncontent-length: 7, 7",
            Ok(Length::Known(7)),
        );
        check(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked",
            Ok(Length::Chunked),
        );
        check("HTTP/1.1 200 OK", Ok(Length::Close));
        check("HTTP/1.0 200 OK", Ok(Length::Close));
        check(
            "HTTP/1.1 204 No Content\r\ncontent-length: 7",
            Ok(Length::Known(0)),
        );
        check(
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 7",
            Ok(Length::Known(0)),
        );
        check(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1",
            Ok(Length::Known(1)),
        );
    }

    #[test]
    fn ambiguous_answers_are_refused() {
        for head in [
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\ncontent-length: 8",
            "HTTP/1.1 200 OK\r\ncontent-length: 7, 8",
            "HTTP/1.1 200 OK\r\ncontent-length: +7",
            "HTTP/1.1 200 OK\r\ncontent-length: -1",
            "HTTP/1.1 200 OK\r\ncontent-length: ",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999",
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\ntransfer-encoding: chunked",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked",
            "HTTP/1.1 200 OK\r\na: b\r\n c",
            "HTTP/1.1 200 OK\r\na : b",
            "HTTP/1.1 200 OK\r\n: b",
            "HTTP/1.1 200 OK\na: b",
            "HTTP/1.1 200 OK\ra: b",
            "HTTP/1.1 200 OK\r\na: b\nc: d",
            "HTTP/1.1 200 OK\r\na: b\n\r\nc: d",
            "HTTP/1.1 200 OK\r\na: b\rc: d",
            "HTTP/1.1 200 OK\r\na: b\r\r\nc: d",
            "HTTP/1.1 200 OK\r\na: b\n",
            "HTTP/1.1 200 OK\n",
            "\nHTTP/1.1 200 OK\r\na: b",
            "HTTP/1.1 2000 OK",
            "HTTP/2 200 OK",
            "ICY 200 OK",
            "HTTP/1.1 200 OK\r\na: b\0",
        ] {
            check(head, Err(()));
        }
    }

    #[test]
    fn what_is_meant_for_this_hop_stays_here() {
        let text = "HTTP/1.1 200 Fine\r\nconnection: x-a, keep-alive\r\nx-a: 1\r\nkeep-alive: timeout=5\r\nx-smartlink-version: z\r\nx-b: 2\r\ncontent-length: 0\r\n\r\nrest";
        let mut buffer = BytesMut::from(text);
        let head = take(&mut buffer, &Method::GET)
            .expect("valid")
            .expect("complete");
        let mut names: Vec<&str> = head
            .answer
            .response
            .headers()
            .keys()
            .map(HeaderName::as_str)
            .collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "x-b"]);
        assert!(head.keep_alive);
        assert_eq!(&buffer[..], b"rest");
    }
}
