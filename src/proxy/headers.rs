//! What happens to headers on their way: those of one hop stay there, ours are set.

use http::header::{CONNECTION, HOST, ORIGIN, TE, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use super::forwarded::{Told, speaks_of_origin};
use super::guard::Hidden;
use super::notes;
use super::state::State;
use super::upstream::Asking;
use super::worker::Worker;
use crate::model::credential::Credential;
use crate::model::settings::Effective;
use crate::trace::Context;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const VERSION: HeaderName = HeaderName::from_static("x-smartlink-version");
pub(super) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
pub(super) const TRACEPARENT: &str = "traceparent";
/// What begins with this is ours alone.
const OURS: &[u8] = b"x-smartlink-";
const REQUEST_ID_MAX: usize = 128;

/// What a request tells its upstream about where it came from.
pub(super) struct Origin<'a> {
    pub(super) state: &'a State,
    pub(super) worker: &'a Worker,
    pub(super) request_id: &'a HeaderValue,
    /// The host the client asked for.
    pub(super) host: Option<&'a HeaderValue>,
}

/// Whether a header is meant for one connection only (RFC 9110 section 7.6.1), or is ours. Those
/// that frame a message are judged where messages are read.
pub(super) fn stays_on_this_hop(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(
        name,
        "te" | "upgrade"
            | "connection"
            | "keep-alive"
            | "proxy-connection"
            | "transfer-encoding"
            | "proxy-authenticate"
            | "proxy-authorization"
    ) || begins(name, OURS)
}

/// Whether a name begins so, an underscore for a hyphen, too: many servers cannot tell them apart.
pub(super) fn begins(name: &str, beginning: &[u8]) -> bool {
    let start = name.as_bytes().get(..beginning.len());
    let same = |(byte, wanted): (&u8, &u8)| byte == wanted || (*wanted == b'-' && *byte == b'_');
    start.is_some_and(|start| start.iter().zip(beginning).all(same))
}

/// Whether a header may stand behind a body (RFC 9110 section 6.5.1): not what frames, routes,
/// admits or describes the message, lest somebody merges it into the head.
pub(super) fn may_trail(name: &HeaderName) -> bool {
    let text = name.as_str();
    !stays_on_this_hop(name)
        && !text.starts_with("content-")
        && !speaks_of_origin(text)
        && !matches!(
            text,
            "host"
                | "trailer"
                | "expect"
                | "authorization"
                | "x-api-key"
                | "cookie"
                | "set-cookie"
                | "x-request-id"
        )
}

/// Tells every header of the upstream's request but `Host`, those of framing and of connections.
pub(super) fn upward(asking: &Asking<'_>, mut emit: impl FnMut(&str, &[u8])) {
    let Asking {
        headers,
        origin,
        settings,
        hidden,
        ..
    } = asking;
    let named = named_by_connection(headers);
    let mut told = Told::default();
    let (mut trailers, mut traced) = (false, false);
    // Where spans are recorded, the one of this attempt is the upstream's caller.
    let recorded = origin.state.record.trace(|trace| trace.caller().header());
    let removed = |name: &str| {
        settings
            .remove_request_headers
            .iter()
            .any(|removed| removed == name)
            || settings
                .set_request_headers
                .iter()
                .any(|(set, _)| set == name)
    };
    for (name, value) in *headers {
        let text = name.as_str();
        match text {
            "host" | "content-length" | "expect" | "x-request-id" => continue,
            "authorization" if hidden.contains(Hidden::AUTHORIZATION) => continue,
            "x-api-key" if hidden.contains(Hidden::API_KEY) => continue,
            "te" => {
                trailers |= value
                    .as_bytes()
                    .split(|b| *b == b',')
                    .any(|t| t.trim_ascii().eq_ignore_ascii_case(b"trailers"));
                continue;
            }
            _ if speaks_of_origin(text) && !told.see(text, value, origin) => continue,
            _ => {}
        }
        if stays_on_this_hop(name) || named.contains(name) || removed(text) {
            continue;
        }
        if text == TRACEPARENT {
            if recorded.is_some() {
                continue;
            }
            traced = true;
        }
        emit(text, value.as_bytes());
    }
    let mut ours = |name: &str, value: &[u8]| {
        if !removed(name) {
            emit(name, value);
        }
    };
    told.tell(origin, headers, &mut ours);
    ours(REQUEST_ID.as_str(), origin.request_id.as_bytes());
    if !traced {
        let caller = recorded.unwrap_or_else(|| new_trace(origin.worker));
        ours(TRACEPARENT, &caller);
    }
    if trailers {
        emit("te", b"trailers");
    }
    for (name, value) in &settings.set_request_headers {
        emit(name.as_str(), value.as_bytes());
    }
}

/// The headers that `Connection` declares to be of this hop; what routes or frames a message
/// cannot be declared away.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let mut named = Vec::new();
    let lines = headers.iter().filter(|(name, _)| **name == CONNECTION);
    for (_, value) in lines {
        for token in value
            .as_bytes()
            .split(|b| *b == b',')
            .map(<[u8]>::trim_ascii)
        {
            if token.eq_ignore_ascii_case(b"keep-alive") || token.eq_ignore_ascii_case(b"close") {
                continue;
            }
            if let Ok(name) = HeaderName::from_bytes(token)
                && name != HOST
                && name != TE
            {
                named.push(name);
            }
        }
    }
    named
}

/// The version that the caller wishes for, where that caller may choose.
pub(super) fn wish<'h>(headers: &'h HeaderMap, caller: Option<&Credential>) -> Option<&'h str> {
    if !caller?.may_choose {
        return None;
    }
    first(headers, &VERSION)?.to_str().ok()
}

/// The first line of that name. Requests have few headers: a look at each is quicker than a hash.
pub(super) fn first<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut lines = headers.iter().filter(|(other, _)| *other == name);
    lines.next().map(|(_, value)| value)
}

/// The protocol a client asks to switch to, where that may be passed on.
pub(super) fn wanted_upgrade(parts: &Parts) -> Option<HeaderValue> {
    // HTTP/1.0 knows none (RFC 9110 section 7.8).
    if parts.version < Version::HTTP_11 {
        return None;
    }
    let headers = &parts.headers;
    let protocol = first(headers, &UPGRADE)?;
    let asked = named_by_connection(headers).contains(&UPGRADE);
    // h2c would carry requests past the routing.
    let h2c = protocol
        .as_bytes()
        .split(|b| *b == b',')
        .any(|p| p.trim_ascii().eq_ignore_ascii_case(b"h2c"));
    (asked && !h2c).then(|| protocol.clone())
}

/// What every request is asked for, found in one pass: the first of each name counts.
#[derive(Default)]
pub(super) struct Said<'a> {
    pub(super) host: Option<&'a HeaderValue>,
    pub(super) origin: Option<&'a HeaderValue>,
    pub(super) request_id: Option<&'a HeaderValue>,
}

impl<'a> Said<'a> {
    pub(super) fn by(headers: &'a HeaderMap) -> Self {
        let mut said = Self::default();
        for (name, value) in headers {
            if *name == HOST {
                said.host.get_or_insert(value);
            } else if *name == ORIGIN {
                said.origin.get_or_insert(value);
            } else if *name == REQUEST_ID {
                said.request_id.get_or_insert(value);
            }
        }
        said
    }
}

/// The client's request id if it is a sane one, else a new one.
pub(super) fn request_id(asked: Option<&HeaderValue>, worker: &Worker) -> HeaderValue {
    if let Some(id) = asked {
        let sane = (1..=REQUEST_ID_MAX).contains(&id.len())
            && id
                .as_bytes()
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if sane {
            return id.clone();
        }
    }
    HeaderValue::from_bytes(&worker.unique()).unwrap_or(HeaderValue::from_static("0"))
}

/// A new trace that nobody records.
fn new_trace(worker: &Worker) -> [u8; 55] {
    let own = Context {
        trace: worker.unique(),
        span: notes::span_id(worker),
        sampled: false,
    };
    own.header()
}

/// Turns the headers of an HTTP/2 answer into those of one that came over HTTP/1.1.
pub(super) fn strip_hop(headers: &mut HeaderMap) {
    let gone: Vec<HeaderName> = headers
        .keys()
        .filter(|name| stays_on_this_hop(name))
        .cloned()
        .collect();
    for name in gone {
        headers.remove(name);
    }
}

/// Edits an answer's headers as the service wants it.
pub(super) fn edit_answer(headers: &mut HeaderMap, settings: &Effective) {
    for name in &settings.remove_response_headers {
        headers.remove(name);
    }
    for (name, value) in &settings.set_response_headers {
        headers.insert(name, value.clone());
    }
}
