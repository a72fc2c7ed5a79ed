//! The socket of a client as hyper sees it: every byte read passes the framing check, every byte
//! written belongs to an answer of ours.
//!
//! hyper answers a head that it cannot parse by itself, without a body and without a code. Such
//! bytes are recognised by nobody having asked for them; they are held back, and the connection
//! answers in the standard form instead.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

use super::connection::{State, Taken};
use super::framing::Framing;

/// How much is read at once.
const READ_MAX: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_MAX].into_boxed_slice());
}

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

impl Read for ClientIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut out: ReadBufCursor<'_>,
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
            // Requests before the doubt are answered first; their end polls again.
            return if this.state.owes_answer() && !this.framing.in_body() {
                Poll::Pending
            } else {
                Poll::Ready(Err(io::ErrorKind::InvalidData.into()))
            };
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let room = out.remaining().min(READ_MAX);
            let mut buf = ReadBuf::new(scratch.get_mut(..room).unwrap_or_default());
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buf))?;
            let bytes = buf.filled();
            if bytes.is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.state.on_read();
            match this.framing.check(bytes) {
                Ok(()) => out.put_slice(bytes),
                Err((passed, violation)) => {
                    this.state.violation.set(Some(violation));
                    this.state
                        .told
                        .set(passed == 0 && this.framing.in_body() && this.state.owes_answer());
                    if passed == 0 && (this.framing.in_body() || !this.state.owes_answer()) {
                        return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                    }
                    if passed == 0 {
                        // Requests before the doubt are answered first; their end polls again.
                        return Poll::Pending;
                    }
                    out.put_slice(bytes.get(..passed).unwrap_or_default());
                }
            }
            Poll::Ready(Ok(()))
        })
    }
}

impl Write for ClientIo {
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
