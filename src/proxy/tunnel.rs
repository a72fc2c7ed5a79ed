//! A switched protocol (WebSocket): bytes both ways until one side ends, counted as they flow.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::net::TcpStream;

use super::guard::Holding;
use super::state::State;
use crate::model::table::Version;
use crate::transport::UpstreamIo;

/// The upstream's half, waiting for the client's.
pub(super) struct Tunnel {
    /// The upstream's socket.
    pub(super) io: UpstreamIo,
    /// What the upstream already sent in its protocol.
    pub(super) read_buf: Bytes,
    /// How long both sides may be quiet.
    pub(super) stall: Duration,
    /// What its bytes are counted under.
    pub(super) version: Arc<Version>,
    /// Held while the tunnel lives: the endpoint has one more request in flight.
    pub(super) guard: super::upstream::InFlight,
    /// Likewise what the request holds of limits.
    pub(super) holding: Option<Box<Holding>>,
}

/// Copies until both sides are done, one breaks, or both are quiet too long.
pub(super) async fn run(client: TcpStream, read_buf: Bytes, tunnel: Tunnel, state: &State) {
    let Tunnel {
        io,
        read_buf: upstream_buf,
        stall,
        version,
        guard,
        holding,
    } = tunnel;
    let activity = Activity::default();
    let mut client = Metered {
        inner: Rewound {
            prefix: read_buf,
            inner: client,
            activity: &activity,
        },
        version: &version,
        state,
    };
    let mut upstream = Rewound {
        prefix: upstream_buf,
        inner: TokioIo::new(io),
        activity: &activity,
    };
    let copy = copy_bidirectional(&mut client, &mut upstream);
    let watch = async {
        loop {
            let seen = activity.reads.get();
            tokio::time::sleep(stall).await;
            if seen == activity.reads.get() {
                return;
            }
        }
    };
    tokio::select! {
        // Either side may break off at any time; that is how tunnels end.
        _ended = copy => {}
        () = watch => {}
        () = state.worker.cut() => {}
    }
    drop((guard, holding));
}

#[derive(Default)]
struct Activity {
    reads: std::cell::Cell<u64>,
}

/// A socket whose first bytes were read before.
struct Rewound<'q, T> {
    prefix: Bytes,
    inner: T,
    activity: &'q Activity,
}

impl<T: AsyncRead + Unpin> AsyncRead for Rewound<'_, T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.prefix.is_empty() {
            let ready = this.prefix.split_to(this.prefix.len().min(buf.remaining()));
            buf.put_slice(&ready);
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut this.inner).poll_read(cx, buf);
        if read.is_ready() {
            this.activity.reads.set(this.activity.reads.get() + 1);
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Rewound<'_, T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

/// The client's side, on which bytes are counted: those it sent, and those it took.
struct Metered<'q, T> {
    inner: T,
    version: &'q Version,
    state: &'q State,
}

impl<T> Metered<'_, T> {
    fn carried(&self, bytes_in: usize, bytes_out: usize) {
        let counter = &self.state.worker.counter;
        counter.carried(self.version, bytes_in as u64, bytes_out as u64);
        self.state.record.carried(bytes_in, bytes_out);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<'_, T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(cx, buf);
        let bytes = buf.filled().len() - before;
        if bytes > 0 {
            this.carried(bytes, 0);
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<'_, T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes @ 1..)) = written {
            this.carried(0, bytes);
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
