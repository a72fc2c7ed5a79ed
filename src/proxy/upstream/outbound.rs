//! The request on its way over an HTTP/1.1 connection: its head, then its body as it comes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http_body::{Body as _, Frame};

use super::Broken;
use super::socket::Socket;
use crate::proxy::body::SendBody;
use crate::proxy::headers;

/// Up to this a whole body is written behind the head in one piece.
const COALESCE: usize = 8 * 1024;

/// How the body of a request is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// By the length in the head, or there is none.
    Plain,
    /// By chunks.
    Chunked,
}

/// Why a request was not sent whole.
pub(super) enum SendFailure {
    /// Not a byte was written: the body is as it was.
    Unsent(SendBody),
    /// The body was cut on purpose.
    Cut,
    /// The connection broke, or the answer is not HTTP.
    Broken(Broken),
}

/// The request on its way.
pub(super) struct Outbound {
    /// Bytes of head, chunk sizes and small bodies, not written yet.
    buf: Vec<u8>,
    at: usize,
    /// Body bytes behind them.
    data: Bytes,
    pub(super) body: SendBody,
    coding: Coding,
    /// Bytes behind the data, not written yet: the line end of a chunk, lest a reader waits for it.
    tail: &'static [u8],
    /// A byte of it left.
    pub(super) written: bool,
    pub(super) state: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Going,
    Done,
    /// The other side takes no more; it may still answer.
    Failed,
}

impl Outbound {
    /// Nothing to send.
    pub(super) fn idle() -> Self {
        Self {
            buf: Vec::new(),
            at: 0,
            data: Bytes::new(),
            body: SendBody::Empty,
            coding: Coding::Plain,
            tail: b"",
            written: false,
            state: Progress::Done,
        }
    }

    /// Begins a request with a written head.
    pub(super) fn begin(&mut self, head: Vec<u8>, body: SendBody, coding: Coding) {
        (self.buf, self.at, self.coding, self.tail, self.written) = (head, 0, coding, b"", false);
        self.state = Progress::Going;
        match &body {
            SendBody::Full(bytes) if coding == Coding::Plain && bytes.len() <= COALESCE => {
                self.buf.extend_from_slice(bytes);
            }
            SendBody::Full(bytes) if coding == Coding::Plain => self.data = bytes.clone(),
            _ => {}
        }
        self.body = body;
    }

    pub(super) fn has_bytes(&self) -> bool {
        self.at < self.buf.len() || !self.data.is_empty() || !self.tail.is_empty()
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
    ) -> Poll<io::Result<()>> {
        let head = self.buf.get(self.at..).unwrap_or_default();
        let written = if self.data.is_empty() && self.tail.is_empty() {
            ready!(socket.poll_write(cx, head))?
        } else if head.is_empty() && self.tail.is_empty() {
            ready!(socket.poll_write(cx, &self.data))?
        } else {
            let parts = [head, &self.data, self.tail].map(IoSlice::new);
            ready!(socket.poll_write_parts(cx, &parts))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.written = true;
        let of_head = written.min(head.len());
        self.at += of_head;
        let of_data = (written - of_head).min(self.data.len());
        self.data.advance(of_data);
        let of_tail = written - of_head - of_data;
        self.tail = self.tail.get(of_tail..).unwrap_or_default();
        if !self.has_bytes() {
            self.buf.clear();
            self.at = 0;
            return socket.poll_flush(cx);
        }
        Poll::Ready(Ok(()))
    }

    /// Takes the next part of the body.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendFailure>> {
        if let (SendBody::Full(_) | SendBody::Empty, Coding::Plain) = (&self.body, self.coding) {
            // Written with the head.
            self.body = SendBody::Empty;
            self.state = Progress::Done;
            return Poll::Ready(Ok(()));
        }
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => self.fill(frame),
            Some(Err(_cut)) => return Poll::Ready(Err(SendFailure::Cut)),
            None => self.end(None),
        }
        Poll::Ready(Ok(()))
    }

    fn fill(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) if self.coding == Coding::Chunked => {
                if !data.is_empty() {
                    self.buf
                        .extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
                    self.data = data;
                    self.tail = b"\r\n";
                }
            }
            Ok(data) => self.data = data,
            Err(frame) => self.end(frame.into_trailers().ok().as_ref()),
        }
    }

    fn end(&mut self, trailers: Option<&http::HeaderMap>) {
        self.state = Progress::Done;
        if self.coding == Coding::Chunked {
            self.buf.extend_from_slice(b"0\r\n");
            let trailers = trailers.into_iter().flatten();
            for (name, value) in trailers.filter(|(name, _)| headers::may_trail(name)) {
                self.buf.extend_from_slice(name.as_str().as_bytes());
                self.buf.extend_from_slice(b": ");
                self.buf.extend_from_slice(value.as_bytes());
                self.buf.extend_from_slice(b"\r\n");
            }
            self.buf.extend_from_slice(b"\r\n");
            self.state = Progress::Going;
            self.coding = Coding::Plain;
            self.body = SendBody::Empty;
        }
    }
}
