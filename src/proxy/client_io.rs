//! The socket of a client as hyper sees it: every byte read passes the framing check, every byte
//! written belongs to an answer of ours.
//!
//! hyper answers a head that it cannot parse by itself, without a body and without a code. Such
//! bytes are recognised by nobody having asked for them; they are held back, and the connection
//! answers in the standard form instead.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::framing::Framing;
use super::state::{State, Taken};

/// The most bytes of another protocol that are held while it is not decided.
const HELD_MAX: usize = 64 * 1024;

/// One client's socket, which stands in the connection's state.
pub(super) struct ClientIo {
    pub(super) framing: Framing,
    /// Read and checked before, to be read again first.
    pub(super) prefix: Bytes,
    /// Read behind a request that asks to switch protocols: they belong to that protocol, or are
    /// requests that were not checked yet.
    pub(super) held: Vec<u8>,
    state: Rc<State>,
}

impl ClientIo {
    pub(super) fn new(state: Rc<State>) -> Self {
        Self {
            framing: Framing::new(state.worker.options.bounds),
            prefix: Bytes::new(),
            held: Vec::new(),
            state,
        }
    }

    /// Bytes of an error that hyper answers on its own account: the status is kept, the bytes are
    /// not sent.
    fn hold_back(&self, bytes: &[u8]) -> bool {
        if self.state.owes_answer() {
            return false;
        }
        let status = bytes
            .get(9..12)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|s| s.parse().ok());
        self.state.refused.set(Some(status.unwrap_or(400)));
        true
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.framing.is_undecided() && this.prefix.is_empty() {
            if this.state.owes_answer() {
                return this.poll_hold(cx);
            }
            this.framing.decline_upgrade();
            let held = std::mem::take(&mut this.held);
            let passed = this.check(&held);
            this.prefix = Bytes::copy_from_slice(held.get(..passed).unwrap_or_default());
        }
        if !this.prefix.is_empty() {
            let ready = this.prefix.split_to(this.prefix.len().min(out.remaining()));
            out.put_slice(&ready);
            return Poll::Ready(Ok(()));
        }
        if this.state.violation.get().is_some() {
            return this.refuse();
        }
        let before = out.filled().len();
        let read = if this.framing.in_body() {
            this.state.poll_read(cx, out)
        } else {
            this.state.poll_read_little(cx, out)
        };
        this.state
            .waits_for_body(read.is_pending() && this.framing.in_body());
        ready!(read)?;
        let bytes = out.filled().get(before..).unwrap_or_default();
        if bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let passed = this.check(bytes);
        out.set_filled(before + passed);
        if passed == 0 {
            return if this.state.violation.get().is_some() {
                this.refuse()
            } else {
                Poll::Pending
            };
        }
        Poll::Ready(Ok(()))
    }
}

impl ClientIo {
    /// Checks bytes that were just read; how many may be passed on. The others are kept, or
    /// dropped after a violation.
    fn check(&mut self, bytes: &[u8]) -> usize {
        let passed = match self.framing.check(bytes) {
            Ok(passed) => {
                self.held
                    .extend_from_slice(bytes.get(passed..).unwrap_or_default());
                passed
            }
            Err((passed, violation)) => {
                self.state.violation.set(Some(violation));
                passed
            }
        };
        self.state.on_read(self.framing.between_requests());
        passed
    }

    /// Holds what comes while the answer decides about the protocol; sees the client leave.
    fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut room = [0; 4096];
        while self.held.len() < HELD_MAX {
            let mut buf = ReadBuf::new(&mut room);
            ready!(self.state.poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.held.extend_from_slice(buf.filled());
        }
        // The answer wakes this task; the sweep sees a client that leaves.
        Poll::Pending
    }

    /// Nothing more is read. Requests before the doubt are answered first; their end polls again.
    fn refuse(&self) -> Poll<io::Result<()>> {
        let in_its_body = self.framing.in_body() && self.framing.heads() == self.state.requests();
        if self.state.owes_answer() && !in_its_body {
            return Poll::Pending;
        }
        self.state.told.set(self.state.owes_answer());
        Poll::Ready(Err(io::ErrorKind::InvalidData.into()))
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.hold_back(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = this.state.poll_write(cx, buf);
        this.state.on_write(if written.is_ready() {
            Taken::Some
        } else {
            Taken::Nothing
        });
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if bufs.first().is_some_and(|first| this.hold_back(first)) {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let written = this.state.poll_write_vectored(cx, bufs);
        this.state.on_write(if written.is_ready() {
            Taken::Some
        } else {
            Taken::Nothing
        });
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A TCP socket holds nothing back; hyper asks for this when all it had is written.
        self.state
            .on_flushed(self.framing.in_head(), self.framing.is_undecided());
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection closes its socket itself, after the last word.
        Poll::Ready(Ok(()))
    }
}
