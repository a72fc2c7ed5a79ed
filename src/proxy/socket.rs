//! Reads and writes a TCP socket by the system calls themselves.
//!
//! The C library's `recv`, `send` and `writev` are points at which a thread can be cancelled: in a
//! process with threads each of them takes two locked instructions to say so, four times a request.
//!
//! Invariant: readiness is kept as tokio keeps it. A call that took or gave less than there was room
//! for shows that the socket is empty, or full: nobody asks it again before the next event.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::BufMut as _;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// What a read of little takes at most: most heads, and most answers, are here whole.
pub(super) const LITTLE: usize = 8 * 1024;

thread_local! {
    static SCRATCH: RefCell<[u8; LITTLE]> = const { RefCell::new([0; LITTLE]) };
}

/// Lends the buffer into which this thread reads what it expects to be little, so that nobody who
/// waits holds one.
///
/// # Panics
/// Where `work` asks for it once more.
pub(super) fn with_scratch<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| work(scratch))
}

/// Reads into `room`; 0 at the end, or where there is no room.
pub(super) fn poll_recv(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    room: &mut [u8],
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_read_ready(cx))?;
        let most = room.len();
        let read = once(stream, Interest::READABLE, most, || {
            Ok(rustix::net::recv(stream, &mut *room, RecvFlags::empty())?.1)
        });
        if let Some(read) = read {
            return Poll::Ready(read);
        }
    }
}

/// Writes as much of `bytes` as the socket takes.
pub(super) fn poll_send(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        let written = once(stream, Interest::WRITABLE, bytes.len(), || {
            Ok(rustix::net::send(stream, bytes, SendFlags::NOSIGNAL)?)
        });
        if let Some(written) = written {
            return Poll::Ready(written);
        }
    }
}

/// Writes as much of all `parts`, in their order, as the socket takes. Little is copied together
/// first: that costs less than the kernel's look at a list.
pub(super) fn poll_send_parts(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    parts: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let most = parts.iter().map(|part| part.len()).sum();
    if most <= LITTLE {
        return with_scratch(|scratch| {
            let mut room = &mut *scratch;
            for part in parts {
                room.put_slice(part);
            }
            poll_send(stream, cx, scratch.get(..most).unwrap_or_default())
        });
    }
    loop {
        ready!(stream.poll_write_ready(cx))?;
        let written = once(stream, Interest::WRITABLE, most, || {
            Ok(rustix::io::writev(stream, parts)?)
        });
        if let Some(written) = written {
            return Poll::Ready(written);
        }
    }
}

/// Calls once; `None` where the socket was not ready after all.
fn once(
    stream: &TcpStream,
    interest: Interest,
    most: usize,
    call: impl FnOnce() -> io::Result<usize>,
) -> Option<io::Result<usize>> {
    let mut moved = None;
    let tried = stream.try_io(interest, || {
        let count = call()?;
        moved = Some(count);
        if 0 < count && count < most {
            // Not an error: this is how tokio is told to wait for the next event.
            Err(io::ErrorKind::WouldBlock.into())
        } else {
            Ok(())
        }
    });
    match (moved, tried) {
        (Some(count), _) => Some(Ok(count)),
        (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => None,
        (None, Err(error)) => Some(Err(error)),
        (None, Ok(())) => None,
    }
}
