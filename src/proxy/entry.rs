//! The named entry: a POST whose JSON body says by `server_name` which service it is for.
//!
//! A small body is read whole and checked before anything is sent. A larger one is scanned as it
//! arrives: forwarding begins once the name is known and goes on beside the scan, and a mistake
//! found later leaves the upstream without a complete body.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::slice;
use std::task::Poll;

use bytes::Bytes;
use http::HeaderValue;
use http::request::Parts;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::body::{Fate, SendBody, Stream, read_failure};
use super::error::Error;
use super::forward::{self, Call};
use super::guard;
use super::handler::{Exchange, Failure, Outcome};
use super::keys::Keys;
use super::worker::Held;
use super::{cors, micros};
use crate::access::Rule;
use crate::policy::scan::{self, ScanError, Scanner};

/// Up to this a body is read whole before anything is sent.
const WHOLE_MAX: u64 = 64 * 1024;

/// Whether the target is the named entry, with or without the closing slash.
pub(super) fn is_named(entry: &str, parts: &Parts) -> bool {
    let path = parts.uri.path();
    path.strip_suffix('/').unwrap_or(path) == entry && path.len() > 1
}

/// Serves a POST to the named entry.
pub(super) async fn serve(
    exchange: &Exchange,
    parts: &Parts,
    body: Incoming,
    origin: Option<&HeaderValue>,
) -> Outcome {
    (exchange.state.record).note(|line| line.rule = Some(Rule::Named));
    // The room that a whole body takes of the entry's buffer is held until its answer begins.
    let (name, mut body, mut held) = read(exchange, body).await?;
    let found = exchange.table.services.get(&name);
    let (service, caller) = guard::admit(exchange, parts, found, &name).await?;
    let bound = service.settings.max_body;
    let (seen, announced) = body.length();
    if announced > bound {
        return Err(Failure::of(service, Error::BodyTooLarge("max_body", bound)));
    }
    exchange.state.record.took(seen);
    let newer = guard::enter(exchange, service, &caller, parts, body.here()).await?;
    let service = guard::current(newer.as_ref(), service);
    let keys = Keys::of(service, (parts, &caller), body.here());
    let body = match body {
        Body::Whole(bytes) => SendBody::Full(bytes),
        Body::Begun(begun) => SendBody::Stream(Box::new(Stream {
            ahead: begun.ahead,
            held: std::mem::take(&mut held),
            incoming: begun.incoming,
            scanner: Some(begun.scanner),
            bound: Some(("max_body", bound)),
            seen: begun.seen,
            untouched: true,
            fate: Fate::new(false),
            state: exchange.state.clone(),
        })),
    };
    let call = Call {
        service,
        caller,
        pinned: None,
        keys,
        path: None,
        parts,
        body,
    };
    let mut response = forward::forward(exchange, call)
        .await
        .map_err(|error| Failure::of(service, error))?;
    cors::mark_entry(&service.settings, origin, response.headers_mut());
    Ok(response)
}

enum Body {
    Whole(Bytes),
    Begun(Box<Begun>),
}

impl Body {
    /// How much of it is here, and how long it will be at least.
    fn length(&self) -> (u64, u64) {
        match self {
            Self::Whole(bytes) => (bytes.len() as u64, bytes.len() as u64),
            Self::Begun(begun) => (begun.seen, begun.seen + begun.incoming.size_hint().lower()),
        }
    }

    /// What of it is here, in pieces.
    fn here(&mut self) -> &[Bytes] {
        match self {
            Self::Whole(bytes) => slice::from_ref(bytes),
            Self::Begun(begun) => begun.ahead.make_contiguous(),
        }
    }
}

struct Begun {
    ahead: VecDeque<Bytes>,
    incoming: Incoming,
    scanner: Box<Scanner>,
    seen: u64,
}

/// Reads as much of the body as it takes to know the service.
async fn read(
    exchange: &Exchange,
    mut incoming: Incoming,
) -> Result<(Box<str>, Body, Vec<Held>), Error> {
    let declared = incoming.size_hint().exact();
    let first = next(exchange, &mut incoming).await?;
    if declared.is_some_and(|length| length <= WHOLE_MAX) && incoming.is_end_stream() {
        // Most bodies: small, and here in one piece.
        let whole = first.unwrap_or_default();
        let name = name_in(&whole, exchange.table.defaults.max_body)?;
        return Ok((name, Body::Whole(whole), Vec::new()));
    }
    Box::pin(read_on(exchange, incoming, first)).await
}

/// The name in a body that is here whole. It must stand within the first `bound` bytes: where bodies
/// come in pieces no more is read without it.
pub(super) fn name_in(body: &[u8], bound: u64) -> Result<Box<str>, Error> {
    if body.len() as u64 > bound {
        feed(&mut Scanner::new(), body, 0, bound)?;
    }
    scan::name_of(body).map(Into::into).map_err(refuse)
}

/// Scans the next piece of a body, of which `seen` bytes came before. How it was cut into pieces
/// changes nothing.
fn feed(scanner: &mut Scanner, piece: &[u8], seen: u64, bound: u64) -> Result<(), Error> {
    let within = usize::try_from(bound.saturating_sub(seen)).unwrap_or(usize::MAX);
    let (within, beyond) = piece.split_at(within.min(piece.len()));
    scanner.feed(within).map_err(refuse)?;
    if beyond.is_empty() {
        return Ok(());
    }
    if scanner.server_name().is_none() {
        return Err(Error::BodyTooLarge("max_body", bound));
    }
    scanner.feed(beyond).map_err(refuse)
}

async fn read_on(
    exchange: &Exchange,
    mut incoming: Incoming,
    first: Option<Bytes>,
) -> Result<(Box<str>, Body, Vec<Held>), Error> {
    let bound = exchange.table.defaults.max_body;
    let mut scanner = Box::new(Scanner::new());
    let mut ahead = VecDeque::new();
    let mut seen = 0;
    let mut held: Vec<Held> = Vec::new();
    let mut chunk = first;
    while let Some(bytes) = chunk {
        held.push(
            exchange
                .worker
                .hold(bytes.len() as u64)
                .ok_or(Error::Overloaded("entry-buffer"))?,
        );
        feed(&mut scanner, &bytes, seen, bound)?;
        seen += bytes.len() as u64;
        ahead.push_back(bytes);
        if incoming.is_end_stream() {
            break;
        }
        if let (Some(name), true) = (scanner.server_name(), seen > WHOLE_MAX) {
            let name = name.into();
            let begun = Begun {
                ahead,
                incoming,
                scanner,
                seen,
            };
            return Ok((name, Body::Begun(Box::new(begun)), held));
        }
        chunk = next(exchange, &mut incoming).await?;
    }
    scanner.finish().map_err(refuse)?;
    let name = scanner
        .server_name()
        .ok_or(Error::InvalidInput("server_name is missing"))?
        .into();
    let whole = match ahead.pop_front() {
        Some(only) if ahead.is_empty() => only,
        first => {
            let mut whole = Vec::with_capacity(usize::try_from(seen).unwrap_or_default());
            for bytes in first.into_iter().chain(ahead) {
                whole.extend_from_slice(&bytes);
            }
            Bytes::from(whole)
        }
    };
    Ok((name, Body::Whole(whole), held))
}

/// The next bytes of the body, `None` at its end.
async fn next(exchange: &Exchange, incoming: &mut Incoming) -> Result<Option<Bytes>, Error> {
    loop {
        match frame(exchange, incoming).await? {
            None => return Ok(None),
            Some(Err(_)) => return Err(read_failure(&exchange.state)),
            Some(Ok(frame)) => {
                // Trailers of a body that is read whole say nothing.
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// The next frame; a client may pause no longer than `stall` of the defaults. Most frames are here
/// before anybody looks at the clock.
async fn frame(
    exchange: &Exchange,
    incoming: &mut Incoming,
) -> Result<Option<Result<Frame<Bytes>, hyper::Error>>, Error> {
    let mut frame = pin!(incoming.frame());
    let here = poll_fn(|cx| match frame.as_mut().poll(cx) {
        Poll::Ready(frame) => Poll::Ready(Some(frame)),
        Poll::Pending => Poll::Ready(None),
    });
    if let Some(frame) = here.await {
        return Ok(frame);
    }
    let stall = exchange.table.defaults.stall;
    let until_us = exchange.worker.now_us() + micros(stall);
    let come = exchange.state.before(until_us, frame).await;
    come.ok_or(Error::BodyStalled(stall))
}

/// What the client is told about a body that is not what it should be.
pub(super) fn refuse(error: ScanError) -> Error {
    match error {
        ScanError::MissingName => Error::InvalidInput("server_name is missing"),
        ScanError::NameNotText => Error::InvalidInput("server_name is not a text"),
        ScanError::DuplicateName => Error::InvalidInput("server_name stands there twice"),
        other => Error::InvalidJson(other.to_string()),
    }
}
