//! What is recorded of a request: its own span, and one for each attempt at an endpoint.

use std::net::SocketAddr;

use super::{Context, SpanId};
use crate::access::Line;

/// A request that is over.
#[derive(Clone, Debug)]
pub struct Request {
    /// What the access log says of it, too.
    pub line: Line,
    /// Its spans.
    pub trace: Trace,
}

/// The spans of a request; times in microseconds since its head was here.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Its own span.
    pub own: Context,
    /// The span of its caller.
    pub parent: Option<SpanId>,
    /// The caller's `tracestate`.
    pub state: Option<Box<str>>,
    /// The other end of its connection.
    pub peer: SocketAddr,
    /// Attempts at endpoints, in their order.
    pub attempts: Vec<Attempt>,
}

/// One attempt at an endpoint.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Its span.
    pub span: SpanId,
    /// The version that was asked.
    pub version: Box<str>,
    /// The endpoint, as it is written in Redis.
    pub endpoint: Box<str>,
    /// The URL that was asked for.
    pub url: String,
    /// Host and port.
    pub server: (Box<str>, u16),
    /// When it began.
    pub begun_us: u64,
    /// When it was over; with the request, where nobody said so.
    pub ended_us: Option<u64>,
    /// The status of the answer.
    pub status: Option<u16>,
    /// The code of what failed.
    pub error: Option<&'static str>,
}

impl Request {
    /// How many spans it has.
    #[must_use]
    pub fn spans(&self) -> u64 {
        1 + self.trace.attempts.len() as u64
    }
}

impl Trace {
    /// An attempt begins; the one before is over.
    pub fn begin(&mut self, attempt: Attempt) {
        if let Some(last) = self.attempts.last_mut() {
            last.ended_us.get_or_insert(attempt.begun_us);
        }
        self.attempts.push(attempt);
    }

    /// The attempt that runs brought the head of an answer.
    pub fn answered(&mut self, status: u16) {
        if let Some(last) = self.attempts.last_mut() {
            last.status = Some(status);
        }
    }

    /// The attempt that runs brought no answer.
    pub fn failed(&mut self, now_us: u64, error: &'static str) {
        if let Some(last) = self.attempts.last_mut() {
            last.ended_us = Some(now_us);
            last.error = Some(error);
        }
    }

    /// What the endpoint is told as its caller.
    #[must_use]
    pub fn caller(&self) -> Context {
        let span = self.attempts.last().map_or(self.own.span, |it| it.span);
        Context { span, ..self.own }
    }
}
