//! What is written of a request on its way, for the access log and as spans.

use std::time::SystemTime;

use http::header::{HeaderName, REFERER, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Version as Protocol};

use super::handler::Exchange;
use super::headers::TRACEPARENT;
use super::worker::Worker;
use crate::access::Line;
use crate::trace::{Context, Request, SpanId, Tap, Trace};

/// The longest `tracestate` that is repeated (W3C Trace Context, section 3.3.1.5).
const TRACESTATE_MAX: usize = 512;

/// What is written of a request.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) line: Line,
    /// Its line goes to the access log.
    logged: bool,
    /// Its spans, where they are recorded.
    pub(super) trace: Option<Trace>,
}

impl Note {
    /// Hands it to those who write.
    pub(super) fn tell(self: Box<Self>, worker: &Worker) {
        let Self {
            line,
            logged,
            trace,
        } = *self;
        if let (Some(tap), Some(trace)) = (&worker.tracer, trace) {
            let line = line.clone();
            tap.tell(Box::new(Request { line, trace }));
        }
        if let (Some(log), true) = (&worker.access, logged) {
            log.tell(Box::new(line));
        }
    }
}

/// Begins what is written of the request, where something is to be.
pub(super) fn begin(exchange: &Exchange, parts: &Parts) {
    let worker = &exchange.worker;
    let log = worker.access.as_ref();
    let logged = log.is_some_and(|log| log.wants(worker.random()));
    let tap = worker.tracer.as_ref();
    let trace = tap.and_then(|tap| trace(exchange, &parts.headers, tap));
    if !logged && trace.is_none() {
        return;
    }
    let header = |name: HeaderName| parts.headers.get(name).map(text);
    let target = parts.uri.path_and_query();
    let line = Line {
        id: text(&exchange.request_id),
        method: parts.method.as_str().into(),
        target: target.map_or("", |target| target.as_str()).into(),
        minor: u8::from(parts.version != Protocol::HTTP_10),
        host: exchange.host.as_ref().map(text),
        user_agent: header(USER_AGENT),
        referer: header(REFERER),
        ..Line::new(SystemTime::now(), exchange.client(&parts.headers))
    };
    exchange.state.record.take_note(Note {
        line,
        logged,
        trace,
    });
}

/// The request's spans, where they are to be recorded.
fn trace(exchange: &Exchange, headers: &HeaderMap, tap: &Tap) -> Option<Trace> {
    let worker = &exchange.worker;
    let mut parents = headers.get_all(TRACEPARENT).iter();
    let parent = match (parents.next(), parents.next()) {
        (Some(only), None) => Context::parse(only.as_bytes()),
        _ => None,
    };
    if !tap.wants(parent.as_ref(), worker.random()) {
        return None;
    }
    let state = parent.and_then(|_| headers.get("tracestate"));
    let state = state.filter(|state| state.len() <= TRACESTATE_MAX);
    Some(Trace {
        own: Context {
            trace: parent.map_or_else(|| worker.unique(), |parent| parent.trace),
            span: span_id(worker),
            sampled: true,
        },
        parent: parent.map(|parent| parent.span),
        state: state.map(text),
        peer: exchange.state.socket,
        attempts: Vec::new(),
    })
}

/// A new span of this thread.
pub(super) fn span_id(worker: &Worker) -> SpanId {
    let mut span = [b'0'; 16];
    if let Some(digits) = worker.unique().first_chunk() {
        span = *digits;
    }
    span
}

fn text(value: &HeaderValue) -> Box<str> {
    String::from_utf8_lossy(value.as_bytes()).into()
}
