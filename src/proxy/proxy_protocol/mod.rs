//! The PROXY protocol: a trusted proxy says, before the first byte of HTTP, for whom it connects.
//!
//! Invariant: no byte of a connection is passed on before its header is read; behind the header
//! nothing is read here.

mod header;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;
use tokio::net::TcpStream;

pub use header::Versions;
use header::{Seen, Source};

use super::peer::Peer;
use super::state::{Order, State};

/// Reads the header of a new connection and learns by it who is there; `false` when the connection
/// is to end: it came from somebody else, it begins otherwise, it is late.
pub(super) async fn introduce(state: &State, versions: Versions) -> bool {
    let trusted = &state.worker.options.trusted_proxies;
    let proxy = Peer::new(state.socket.ip(), trusted);
    if !proxy.trusted {
        tracing::debug!(peer = %proxy.address, "a connection without a right to the PROXY protocol is closed");
        return false;
    }
    let mut bytes = Vec::new();
    let met = poll_fn(|cx| {
        state.register(cx);
        if state.order.replace(Order::None) == Order::Close {
            return Poll::Ready(Err("no PROXY header in time"));
        }
        match &mut *state.stream.borrow_mut() {
            Some(stream) => poll_header(stream, &mut bytes, versions, cx),
            None => Poll::Ready(Err("the connection is gone")),
        }
    })
    .await;
    match met {
        Ok(Source::Itself) => state.meet(proxy),
        Ok(Source::Client(address)) => state.meet(Peer::new(address, trusted)),
        Err(why) => {
            tracing::debug!(peer = %proxy.address, why, "a connection of a proxy is closed");
            return false;
        }
    }
    true
}

/// Looks at what came, and takes what belongs to the header for sure.
fn poll_header(
    stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
    versions: Versions,
    cx: &mut Context<'_>,
) -> Poll<Result<Source, &'static str>> {
    loop {
        let least = match header::read(bytes, versions) {
            Ok(Seen::Part(least)) => least,
            Ok(Seen::Whole(_, source)) => return Poll::Ready(Ok(source)),
            Err(why) => return Poll::Ready(Err(why)),
        };
        let wanted = least - bytes.len();
        let read = ready!(poll_some(stream, bytes, wanted, cx));
        if !matches!(read, Ok(1..)) {
            return Poll::Ready(Err("the connection broke off in the PROXY header"));
        }
    }
}

/// Reads at most so many bytes.
fn poll_some(
    stream: &mut TcpStream,
    bytes: &mut Vec<u8>,
    most: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    use tokio::io::AsyncRead as _;

    let mut room = [0; 512];
    let most = most.min(room.len());
    let mut buf = ReadBuf::new(room.get_mut(..most).unwrap_or_default());
    ready!(Pin::new(stream).poll_read(cx, &mut buf))?;
    bytes.extend_from_slice(buf.filled());
    Poll::Ready(Ok(buf.filled().len()))
}
