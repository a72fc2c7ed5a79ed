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
use tokio::net::TcpStream;

use super::connection::{State, Taken};
use super::framing::Framing;

/// One client's socket.
pub(super) struct ClientIo {
    pub(super) stream: TcpStream,
    pub(super) framing: Framing,
    /// Read and checked before, to be read again first.
    pub(super) prefix: Bytes,
    state: Rc<State>,
}

impl ClientIo {
    pub(super) fn new(stream: TcpStream, state: Rc<State>) -> Self {
        Self {
            stream,
            framing: Framing::new(),
            prefix: Bytes::new(),
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
        if !this.prefix.is_empty() {
            let ready = this.prefix.split_to(this.prefix.len().min(out.remaining()));
            out.put_slice(&ready);
            return Poll::Ready(Ok(()));
        }
        if this.framing.is_undecided()
            && !this.state.owes_answer()
            && let Err(violation) = this.framing.decline_upgrade()
        {
            this.state.violation.set(Some(violation));
        }
        if this.state.violation.get().is_some() {
            return this.refuse();
        }
        let before = out.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, out))?;
        let bytes = out.filled().get(before..).unwrap_or_default();
        if bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        this.state.on_read();
        let Err((passed, violation)) = this.framing.check(bytes) else {
            return Poll::Ready(Ok(()));
        };
        out.set_filled(before + passed);
        this.state.violation.set(Some(violation));
        if passed > 0 {
            return Poll::Ready(Ok(()));
        }
        let in_its_body = this.framing.in_body() && this.state.owes_answer();
        this.state.told.set(in_its_body);
        this.refuse()
    }
}

impl ClientIo {
    /// Nothing more is read. Requests before the doubt are answered first; their end polls again.
    fn refuse(&self) -> Poll<io::Result<()>> {
        if self.state.owes_answer() && !self.framing.in_body() {
            Poll::Pending
        } else {
            Poll::Ready(Err(io::ErrorKind::InvalidData.into()))
        }
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
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
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
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.state.on_write(if written.is_ready() {
            Taken::Some
        } else {
            Taken::Nothing
        });
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A TCP socket holds nothing back; hyper asks for this when all it had is written.
        self.state.on_flushed(self.framing.in_head());
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection closes its socket itself, after the last word.
        Poll::Ready(Ok(()))
    }
}
