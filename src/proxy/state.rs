//! What a client's connection, its requests and the sweep know of each other.
//!
//! Invariant: all of it stays on one thread, so that nothing here is locked or atomic.

use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead as _, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::framing::Violation;
use super::guard::{Holding, Told};
use super::peer::Peer;
use super::record::Record;
use super::socket;
use super::tunnel::Tunnel;
use super::worker::Worker;

/// A connection without a request for this long gives its buffers back.
pub(super) const PARK_AFTER_MS: u64 = 500;
/// Deadlines farther away than this may be missed by one sweep.
const FAR_MS: u64 = 2_000;
/// How long a client may take to accept bytes of its answer, or to send the next of its body.
const CLIENT_STALL_MS: u64 = 60_000;

/// What the sweep wants of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    None,
    Park,
    Close,
}

/// How much of an answer the client's socket took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Some,
    Nothing,
}

/// What a connection, its requests and the sweep know of each other. All on one thread.
pub(super) struct State {
    /// Who connected; who speaks may be told by it.
    pub(super) socket: SocketAddr,
    peer: OnceCell<Peer>,
    /// A doubt about framing: nothing more is read.
    pub(super) violation: Cell<Option<Violation>>,
    /// The request in whose body the doubt arose answers for it.
    pub(super) told: Cell<bool>,
    /// The status with which hyper refused a head.
    pub(super) refused: Cell<Option<u16>>,
    /// The client's socket, until the connection ends.
    pub(super) stream: RefCell<Option<TcpStream>>,
    /// How many requests were handed to the handler.
    pub(super) requests: Cell<u64>,
    /// The request in flight came over HTTP/1.0.
    pub(super) http10: Cell<bool>,
    /// An answer was cut: the client must not take it for whole.
    pub(super) cut: Cell<bool>,
    /// The client is waited for in the middle of a body.
    pub(super) waits_for_body: Cell<bool>,
    /// What is known of the request in flight.
    pub(super) record: Record,
    /// What the request in flight holds of limits, until the end of its answer.
    pub(super) holding: Cell<Option<Box<Holding>>>,
    /// What its answer says of limits.
    pub(super) told_limit: Cell<Option<Told>>,
    /// Both ends of a switched protocol, left here by the handler.
    pub(super) tunnel: RefCell<Option<Box<Tunnel>>>,
    /// When the request in flight looks at its clock, in ms of the worker's clock; 0: never.
    pub(super) alarm: Cell<u64>,
    /// Coarse time of the last progress, in ms of the worker's clock.
    pub(super) progress: Cell<u64>,
    /// When the first byte of a head came that is not complete yet.
    pub(super) head_since: Cell<u64>,
    /// A request was handed to the handler and its answer's body still lives.
    pub(super) in_flight: Cell<bool>,
    /// Bytes may be written: an answer was begun and not all of it is flushed.
    pub(super) owing: Cell<bool>,
    /// The client does not take what we write.
    pub(super) blocked: Cell<bool>,
    /// Hyper is not there.
    pub(super) parked: Cell<bool>,
    pub(super) order: Cell<Order>,
    pub(super) waker: RefCell<Option<Waker>>,
    pub(super) worker: Rc<Worker>,
}

impl State {
    pub(super) fn new(stream: TcpStream, socket: SocketAddr, worker: Rc<Worker>) -> Self {
        let now = worker.now_ms();
        Self {
            socket,
            peer: OnceCell::new(),
            violation: Cell::new(None),
            told: Cell::new(false),
            refused: Cell::new(None),
            stream: RefCell::new(Some(stream)),
            requests: Cell::new(0),
            http10: Cell::new(false),
            cut: Cell::new(false),
            waits_for_body: Cell::new(false),
            record: Record::new(Instant::now()),
            holding: Cell::new(None),
            told_limit: Cell::new(None),
            tunnel: RefCell::new(None),
            alarm: Cell::new(0),
            progress: Cell::new(now),
            head_since: Cell::new(now),
            in_flight: Cell::new(false),
            owing: Cell::new(false),
            blocked: Cell::new(false),
            parked: Cell::new(true),
            order: Cell::new(Order::None),
            waker: RefCell::new(None),
            worker,
        }
    }

    /// Who is at the other end.
    pub(super) fn peer(&self) -> &Peer {
        // Without a word from a proxy it is who connected.
        (self.peer)
            .get_or_init(|| Peer::new(self.socket.ip(), &self.worker.options.trusted_proxies))
    }

    /// Learns who that is, before the first request.
    pub(super) fn meet(&self, peer: Peer) {
        // Only the first word counts, and only one is read.
        let _known_already = self.peer.set(peer);
    }

    /// A request begins.
    pub(super) fn begin(&self, http10: bool) {
        self.in_flight.set(true);
        self.owing.set(true);
        self.requests.set(self.requests.get() + 1);
        self.http10.set(http10);
    }

    /// The body of its answer is gone: sent, cut or never wanted.
    pub(super) fn end(&self) {
        self.in_flight.set(false);
        drop(self.holding.take());
        self.record
            .end(&self.worker, self.tunnel.borrow().is_some());
    }

    /// The body of its answer broke off.
    pub(super) fn cut(&self) {
        self.cut.set(true);
    }

    /// How many requests began.
    pub(super) fn requests(&self) -> u64 {
        self.requests.get()
    }

    /// Whether the client is waited for in the middle of a body.
    pub(super) fn waits_for_body(&self, waits: bool) {
        self.waits_for_body.set(waits);
    }

    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self.stream.borrow_mut() {
            Some(stream) => Pin::new(stream).poll_read(cx, out),
            None => Poll::Ready(Ok(())),
        }
    }

    /// The same of what is expected to be little: `LITTLE` at most.
    pub(super) fn poll_read_little(
        &self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = self.stream.borrow();
        let Some(stream) = &*stream else {
            return Poll::Ready(Ok(()));
        };
        socket::with_scratch(|scratch| {
            let most = out.remaining().min(scratch.len());
            let room = scratch.get_mut(..most).unwrap_or_default();
            let read = ready!(socket::poll_recv(stream, cx, room))?;
            out.put_slice(room.get(..read).unwrap_or_default());
            Poll::Ready(Ok(()))
        })
    }

    pub(super) fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &*self.stream.borrow() {
            Some(stream) => socket::poll_send(stream, cx, buf),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    pub(super) fn poll_write_vectored(
        &self,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &*self.stream.borrow() {
            Some(stream) => socket::poll_send_parts(stream, cx, bufs),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// Whether the client closed its side, which counts as leaving; seen also behind bytes that
    /// nobody reads now.
    fn has_left(&self) -> bool {
        let stream = self.stream.borrow();
        let Some(stream) = &*stream else { return false };
        let mut ready = pin!(stream.ready(Interest::READABLE));
        let seen = ready.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        matches!(seen, Poll::Ready(Ok(ready)) if ready.is_read_closed() || ready.is_error())
    }

    /// Whether bytes written now belong to an answer.
    pub(super) fn owes_answer(&self) -> bool {
        self.owing.get()
    }

    /// Bytes came; `between` tells whether they end with a request.
    pub(super) fn on_read(&self, between: bool) {
        let now = self.worker.now_ms();
        self.progress.set(now);
        if self.owing.get() {
            return;
        }
        if between {
            self.head_since.set(0);
        } else if self.head_since.get() == 0 {
            self.head_since.set(now);
        }
    }

    pub(super) fn on_write(&self, taken: Taken) {
        self.blocked.set(taken == Taken::Nothing);
        if taken == Taken::Some {
            self.progress.set(self.worker.now_ms());
        }
    }

    /// All that was written is on its way; `head_begun` tells whether a part of the next head is
    /// here already, `held` whether reading was held up until now.
    pub(super) fn on_flushed(&self, head_begun: bool, held: bool) {
        // Hyper flushes also when it wrote nothing, while a head comes in drop by drop.
        if !self.in_flight.get() && self.owing.replace(false) {
            let since = if head_begun { self.worker.now_ms() } else { 0 };
            self.head_since.set(since);
            if held || self.violation.get().is_some() {
                // Hyper knows of nothing to read.
                self.wake();
            }
        }
    }

    /// What `work` comes to, or `None` when it is not done at `deadline_us` on the worker's clock.
    /// Far deadlines are watched by the sweep, so that a request pays for no timer; near ones by a
    /// timer.
    pub(super) async fn before<F: Future>(
        &self,
        deadline_us: u64,
        mut work: Pin<&mut F>,
    ) -> Option<F::Output> {
        let alarm = 1 + deadline_us / 1_000;
        // The coarse clock is behind by a sweep at most: a request asks no other.
        if alarm < self.worker.now_ms() + FAR_MS {
            let deadline = self.worker.moment(deadline_us);
            return timeout_at(deadline, work).await.ok();
        }
        self.alarm.set(alarm);
        let done = poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.worker.now_ms() >= alarm => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await;
        self.alarm.set(0);
        done
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Looks at the clock for this connection; called by the sweep.
    pub(super) fn sweep(&self, now: u64, park_after: u64) {
        let options = &self.worker.options;
        self.record.sweep_trial(now, &self.worker);
        let quiet = now.saturating_sub(self.progress.get());
        if self.alarm.get() != 0 && now >= self.alarm.get() {
            self.wake();
        }
        let order = if self.owing.get() {
            // While the upstream works, the clocks of the service run.
            let waits = self.blocked.get() || self.waits_for_body.get();
            close_if((waits && quiet >= CLIENT_STALL_MS) || self.has_left())
        } else if self.worker.past_grace() {
            Order::Close
        } else if self.head_since.get() != 0 {
            close_if(now.saturating_sub(self.head_since.get()) >= options.header_timeout_ms)
        } else if quiet >= options.idle_timeout_ms {
            Order::Close
        } else if !self.parked.get() && quiet >= park_after {
            Order::Park
        } else {
            Order::None
        };
        if order != Order::None {
            self.order.set(order);
            self.wake();
        }
    }

    pub(super) fn register(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|old| old.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.record.close(&self.worker);
    }
}

fn close_if(late: bool) -> Order {
    if late { Order::Close } else { Order::None }
}
