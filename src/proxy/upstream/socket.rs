//! The socket of an HTTP/1.1 connection to an endpoint, with TLS or without.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use crate::proxy::socket;
use crate::transport::UpstreamIo;

/// The socket. When it is dropped in the middle of a request it is reset: the upstream shall notice
/// at once that nobody waits any more, also behind bytes that it did not read.
pub(super) struct Socket {
    io: Option<TokioIo<UpstreamIo>>,
    /// A request is being sent.
    pub(super) sending: bool,
}

impl Socket {
    pub(super) fn new(io: UpstreamIo) -> Self {
        Self {
            io: Some(TokioIo::new(io)),
            sending: false,
        }
    }

    pub(super) fn io(&mut self) -> Pin<&mut TokioIo<UpstreamIo>> {
        let io = self.io.as_mut();
        Pin::new(io.expect("the socket stays until the protocol is switched"))
    }

    /// Most endpoints are asked without TLS: no layer in between.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
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

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut io = self.io();
        match io.inner_mut() {
            MaybeHttpsStream::Http(tcp) => socket::poll_send(tcp.inner(), cx, bytes),
            MaybeHttpsStream::Https(_) => io.poll_write(cx, bytes),
        }
    }

    pub(super) fn poll_write_parts(
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
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = self.io();
        match io.inner_mut() {
            MaybeHttpsStream::Http(_) => Poll::Ready(Ok(())),
            MaybeHttpsStream::Https(_) => io.poll_flush(cx),
        }
    }

    pub(super) fn take(&mut self) -> UpstreamIo {
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
