//! One HTTP/1.1 connection to an endpoint, driven by the request that holds it.
//!
//! No task and no channel stands between a request and its socket: writing the request and reading
//! the answer happen in the same poll, so an answer that comes before the body was sent is seen,
//! and dropping the exchange closes the socket at once.
//!
//! Invariant: `reusable` only after a whole answer to a wholly sent request, with nothing behind it.

use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::Method;
use http_body::Frame;
use tokio_util::io::poll_read_buf;

use super::Broken;
use super::answer_head::{self, Head, Length};
use super::chunks::Chunks;
use super::outbound::{Coding, Outbound, Progress, SendFailure};
use super::socket::Socket;
use crate::proxy::body::SendBody;
use crate::proxy::socket::{self, LITTLE};
use crate::transport::UpstreamIo;

/// What is read at once of a longer body.
const BODY_READ: usize = 64 * 1024;
/// A connection.
pub(super) struct Http1 {
    socket: Socket,
    read: BytesMut,
    out: Outbound,
    inbound: Inbound,
    keep_alive: bool,
    /// The address it leads to.
    pub(super) address: IpAddr,
}

/// The answer on its way.
enum Inbound {
    Idle,
    Known(u64),
    Chunked(Chunks),
    Close,
    Done,
}

impl Http1 {
    pub(super) fn new(io: UpstreamIo, address: IpAddr) -> Self {
        Self {
            socket: Socket::new(io),
            read: BytesMut::new(),
            out: Outbound::idle(),
            inbound: Inbound::Idle,
            keep_alive: true,
            address,
        }
    }

    /// Whether nothing came since the last answer: neither its end nor a byte that nobody asked for.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.socket.poll_read(&mut cx, &mut [0; 1]).is_pending()
    }

    /// Begins an exchange with a written head.
    pub(super) fn begin(&mut self, head: Vec<u8>, body: SendBody, coding: Coding) {
        self.out.begin(head, body, coding);
        self.socket.sending = true;
        self.inbound = Inbound::Idle;
    }

    /// Sends, and reads until the head of the answer is here.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
    ) -> Poll<Result<Head, SendFailure>> {
        if let Poll::Ready(Err(failure)) = self.poll_send(cx) {
            return Poll::Ready(Err(failure));
        }
        loop {
            if !self.read.is_empty() {
                match answer_head::take(&mut self.read, method) {
                    Ok(Some(head)) => {
                        self.keep_alive = head.keep_alive;
                        self.inbound = match head.length {
                            Length::Known(0) => Inbound::Done,
                            Length::Known(length) => Inbound::Known(length),
                            Length::Chunked => Inbound::Chunked(Chunks::Size),
                            Length::Close => Inbound::Close,
                        };
                        return Poll::Ready(Ok(head));
                    }
                    Ok(None) => {}
                    Err(broken) => return Poll::Ready(Err(SendFailure::Broken(broken))),
                }
            }
            match ready!(self.poll_first(cx)) {
                Ok(0) if self.read.is_empty() => return Poll::Ready(Err(self.closed())),
                Ok(0) => return Poll::Ready(Err(SendFailure::Broken(Broken::Protocol))),
                Ok(_) => {}
                Err(_) => return Poll::Ready(Err(self.closed())),
            }
        }
    }

    /// The body of a request that failed, as far as it was not taken.
    pub(super) fn take_body(&mut self) -> Option<SendBody> {
        let sent = self.out.state == Progress::Done;
        (!sent).then(|| std::mem::take(&mut self.out.body))
    }

    /// The connection ended without a byte of an answer.
    fn closed(&mut self) -> SendFailure {
        if self.out.written {
            SendFailure::Broken(Broken::Closed)
        } else {
            SendFailure::Unsent(std::mem::take(&mut self.out.body))
        }
    }

    /// Reads through a shared buffer, so that a waiting exchange holds none of its own.
    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        socket::with_scratch(|scratch| {
            let read = ready!(self.socket.poll_read(cx, scratch))?;
            let bytes = scratch.get(..read).unwrap_or_default();
            if self.read.is_empty() {
                self.read = BytesMut::from(bytes);
            } else {
                self.read.extend_from_slice(bytes);
            }
            Poll::Ready(Ok(bytes.len()))
        })
    }

    /// Whether the whole answer was handed over.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.inbound, Inbound::Done)
    }

    /// How long the body is, where that is known.
    pub(super) fn length(&self) -> Option<u64> {
        match self.inbound {
            Inbound::Known(left) => Some(left),
            Inbound::Idle | Inbound::Done => Some(0),
            Inbound::Chunked(_) | Inbound::Close => None,
        }
    }

    /// The next frame of the answer's body, `None` at its end.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Poll::Ready(Err(SendFailure::Cut)) = self.poll_send(cx) {
            return Poll::Ready(Some(Err(Broken::Closed)));
        }
        loop {
            if let Some(frame) = self.next_here()? {
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.is_done() {
                return Poll::Ready(None);
            }
            let most = match self.inbound {
                Inbound::Known(left) => usize::try_from(left).unwrap_or(BODY_READ).min(BODY_READ),
                _ => LITTLE,
            };
            let read = if most <= LITTLE {
                ready!(self.poll_first(cx))
            } else {
                self.read.reserve(most);
                ready!(poll_read_buf(self.socket.io(), cx, &mut self.read))
            };
            match read {
                Ok(1..) => {}
                Ok(0) if matches!(self.inbound, Inbound::Close) => {
                    self.inbound = Inbound::Done;
                    self.keep_alive = false;
                }
                Ok(0) | Err(_) => return Poll::Ready(Some(Err(Broken::Closed))),
            }
        }
    }

    /// The whole body, where its length is known and all of it was read with the head.
    pub(super) fn take_whole(&mut self) -> Option<Bytes> {
        match self.inbound {
            Inbound::Known(left) if left <= self.read.len() as u64 => Some(self.take_known(left)),
            _ => None,
        }
    }

    /// As much as was read of a body with so many bytes to come.
    fn take_known(&mut self, left: u64) -> Bytes {
        let here = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(self.read.len());
        self.inbound = match left - here as u64 {
            0 => Inbound::Done,
            left => Inbound::Known(left),
        };
        if here == self.read.len() {
            std::mem::take(&mut self.read).freeze()
        } else {
            self.read.split_to(here).freeze()
        }
    }

    /// The next frame of what was read already.
    fn next_here(&mut self) -> Result<Option<Frame<Bytes>>, Broken> {
        match &mut self.inbound {
            Inbound::Idle | Inbound::Done => Ok(None),
            _ if self.read.is_empty() => Ok(None),
            Inbound::Known(left) => {
                let left = *left;
                Ok(Some(Frame::data(self.take_known(left))))
            }
            Inbound::Chunked(chunks) => {
                let frame = chunks.next(&mut self.read)?;
                if chunks.is_done() {
                    self.inbound = Inbound::Done;
                }
                Ok(frame)
            }
            Inbound::Close => Ok(Some(Frame::data(std::mem::take(&mut self.read).freeze()))),
        }
    }

    /// Whether the connection may serve another request; its exchange is over.
    pub(super) fn reusable(&self) -> bool {
        let whole = self.is_done() && self.out.state == Progress::Done && self.read.is_empty();
        whole && self.keep_alive
    }

    /// The socket after a switch of protocols, and what was read of the new one.
    pub(super) fn into_switched(mut self) -> (UpstreamIo, Bytes) {
        (self.socket.take(), self.read.freeze())
    }

    /// Writes as much of the request as the socket takes.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendFailure>> {
        while self.out.state == Progress::Going {
            if self.out.has_bytes() {
                match ready!(self.out.poll_write(cx, &mut self.socket)) {
                    Ok(()) => continue,
                    Err(_) if !self.out.written => {
                        return Poll::Ready(Err(SendFailure::Unsent(std::mem::take(
                            &mut self.out.body,
                        ))));
                    }
                    Err(_) => {
                        self.out.state = Progress::Failed;
                        return Poll::Ready(Ok(()));
                    }
                }
            }
            match ready!(self.out.poll_fill(cx)) {
                Ok(()) => {}
                Err(failure) => return Poll::Ready(Err(failure)),
            }
        }
        // What was sent whole is at the upstream: an ordinary close will do from here on.
        self.socket.sending &= self.out.state != Progress::Done;
        Poll::Ready(Ok(()))
    }
}
