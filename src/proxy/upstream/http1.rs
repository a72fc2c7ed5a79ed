//! One HTTP/1.1 connection to an endpoint, driven by the request that holds it.
//!
//! No task and no channel stands between a request and its socket: writing the request and reading
//! the answer happen in the same poll, so an answer that comes before the body was sent is seen,
//! and dropping the exchange closes the socket at once.
//!
//! Invariant: `reusable` only after a whole answer to a wholly sent request, with nothing behind it.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use http::Method;
use http_body::{Body as _, Frame};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::Broken;
use super::answer_head::{self, Head, Length};
use super::chunks::Chunks;
use crate::proxy::body::SendBody;
use crate::proxy::headers;
use crate::proxy::socket::{self, LITTLE};
use crate::transport::UpstreamIo;

/// What is read at once of a longer body.
const BODY_READ: usize = 64 * 1024;
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

/// The socket. When it is dropped in the middle of a request it is reset: the upstream shall notice
/// at once that nobody waits any more, also behind bytes that it did not read.
struct Socket {
    io: Option<TokioIo<UpstreamIo>>,
    sending: bool,
}

impl Socket {
    fn io(&mut self) -> Pin<&mut TokioIo<UpstreamIo>> {
        let io = self.io.as_mut();
        Pin::new(io.expect("the socket stays until the protocol is switched"))
    }

    /// Most endpoints are asked without TLS: no layer in between.
    fn poll_read(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut io = self.io();
        match io.inner_mut() {
            MaybeHttpsStream::Http(tcp) => socket::poll_recv(tcp.inner(), cx, room),
            MaybeHttpsStream::Https(_) => {
                let mut buf = ReadBuf::new(room);
                ready!(io.poll_read(cx, &mut buf))?;
                Poll::Ready(Ok(buf.filled().len()))
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut io = self.io();
        match io.inner_mut() {
            MaybeHttpsStream::Http(tcp) => socket::poll_send(tcp.inner(), cx, bytes),
            MaybeHttpsStream::Https(_) => io.poll_write(cx, bytes),
        }
    }

    fn poll_write_parts(
        &mut self,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut io = self.io();
        match io.inner_mut() {
            MaybeHttpsStream::Http(tcp) => socket::poll_send_parts(tcp.inner(), cx, parts),
            MaybeHttpsStream::Https(_) => io.poll_write_vectored(cx, parts),
        }
    }

    /// TLS holds records back until it is told.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = self.io();
        match io.inner_mut() {
            MaybeHttpsStream::Http(_) => Poll::Ready(Ok(())),
            MaybeHttpsStream::Https(_) => io.poll_flush(cx),
        }
    }

    fn take(&mut self) -> UpstreamIo {
        let io = self.io.take();
        io.expect("the protocol is switched once").into_inner()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let Some(io) = self.io.as_ref().filter(|_| self.sending) else {
            return;
        };
        let tcp = match io.inner() {
            MaybeHttpsStream::Http(tcp) => tcp.inner(),
            MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner().inner(),
        };
        if let Err(error) = tcp.set_zero_linger() {
            tracing::debug!(%error, "an upstream may notice late that nobody waits");
        }
    }
}

/// The request on its way.
struct Outbound {
    /// Bytes of head, chunk sizes and small bodies, not written yet.
    buf: Vec<u8>,
    at: usize,
    /// Body bytes behind them.
    data: Bytes,
    body: SendBody,
    coding: Coding,
    /// Bytes behind the data, not written yet: the line end of a chunk, lest a reader waits for it.
    tail: &'static [u8],
    written: bool,
    state: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Going,
    Done,
    /// The other side takes no more; it may still answer.
    Failed,
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
        let out = Outbound {
            buf: Vec::new(),
            at: 0,
            data: Bytes::new(),
            body: SendBody::Empty,
            coding: Coding::Plain,
            tail: b"",
            written: false,
            state: Progress::Done,
        };
        Self {
            socket: Socket {
                io: Some(TokioIo::new(io)),
                sending: false,
            },
            read: BytesMut::new(),
            out,
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
        let out = &mut self.out;
        (out.buf, out.at, out.coding, out.tail, out.written) = (head, 0, coding, b"", false);
        out.state = Progress::Going;
        match &body {
            SendBody::Full(bytes) if coding == Coding::Plain && bytes.len() <= COALESCE => {
                out.buf.extend_from_slice(bytes);
            }
            SendBody::Full(bytes) if coding == Coding::Plain => out.data = bytes.clone(),
            _ => {}
        }
        out.body = body;
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

impl Outbound {
    fn has_bytes(&self) -> bool {
        self.at < self.buf.len() || !self.data.is_empty() || !self.tail.is_empty()
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, socket: &mut Socket) -> Poll<io::Result<()>> {
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
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendFailure>> {
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
