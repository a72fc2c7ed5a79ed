//! The life of one client connection: quiet and parked, in hyper's hands, lingering, gone.
//!
//! A quiet connection costs a socket and a small task: hyper's buffers exist only while requests
//! come. One sweep per thread looks at all connections now and then and ends what takes too long,
//! so that no request pays for a timer of its own.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::client_io::ClientIo;
use super::error::Error;
use super::framing::{HEAD_MAX, Violation};
use super::handler;
use super::tunnel::{self, Tunnel};
use super::worker::Worker;

/// A connection without a request for this long gives its buffers back.
pub(super) const PARK_AFTER_MS: u64 = 500;
/// Deadlines farther away than this may be missed by one sweep.
const FAR: Duration = Duration::from_secs(2);
/// How long a client may take to accept bytes of its answer, or to send the next of its body.
const CLIENT_STALL_MS: u64 = 60_000;
/// What is read and dropped of a body that nobody wanted, before the close.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

/// What the sweep wants of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
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
    /// The client's address.
    pub(super) peer: SocketAddr,
    /// The same as `x-forwarded-for` says it.
    pub(super) peer_header: HeaderValue,
    /// A doubt about framing: nothing more is read.
    pub(super) violation: Cell<Option<Violation>>,
    /// The request in whose body the doubt arose answers for it.
    pub(super) told: Cell<bool>,
    /// The status with which hyper refused a head.
    pub(super) refused: Cell<Option<u16>>,
    /// Both ends of a switched protocol, left here by the handler.
    pub(super) tunnel: RefCell<Option<Box<Tunnel>>>,
    /// When the request in flight looks at its clock, in ms of the worker's clock; 0: never.
    alarm: Cell<u64>,
    /// Coarse time of the last progress, in ms of the worker's clock.
    progress: Cell<u64>,
    /// When the first byte of a head came that is not complete yet.
    head_since: Cell<u64>,
    /// A request was handed to the handler and its answer's body still lives.
    in_flight: Cell<bool>,
    /// Bytes may be written: an answer was begun and not all of it is flushed.
    owing: Cell<bool>,
    /// The client does not take what we write.
    blocked: Cell<bool>,
    /// Hyper is not there.
    parked: Cell<bool>,
    order: Cell<Order>,
    waker: RefCell<Option<Waker>>,
    worker: Rc<Worker>,
}

impl State {
    pub(super) fn new(peer: SocketAddr, worker: Rc<Worker>) -> Self {
        let now = worker.now_ms();
        let peer_text = peer.ip().to_canonical().to_string();
        Self {
            peer,
            peer_header: HeaderValue::from_maybe_shared(Bytes::from(peer_text))
                .unwrap_or(HeaderValue::from_static("unknown")),
            violation: Cell::new(None),
            told: Cell::new(false),
            refused: Cell::new(None),
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

    /// A request begins.
    pub(super) fn begin(&self) {
        self.in_flight.set(true);
        self.owing.set(true);
    }

    /// The body of its answer is gone: sent, cut or never wanted.
    pub(super) fn end(&self) {
        self.in_flight.set(false);
    }

    /// Whether bytes written now belong to an answer.
    pub(super) fn owes_answer(&self) -> bool {
        self.owing.get()
    }

    pub(super) fn on_read(&self) {
        let now = self.worker.now_ms();
        self.progress.set(now);
        if !self.owing.get() && self.head_since.get() == 0 {
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
    /// here already.
    pub(super) fn on_flushed(&self, head_begun: bool) {
        // Hyper flushes also when it wrote nothing, while a head comes in drop by drop.
        if !self.in_flight.get() && self.owing.replace(false) {
            let since = if head_begun { self.worker.now_ms() } else { 0 };
            self.head_since.set(since);
            if self.violation.get().is_some() {
                // Reading was held up until now.
                self.wake();
            }
        }
    }

    /// What `work` comes to, or `None` when it is not done at `deadline`. Far deadlines are
    /// watched by the sweep, so that a request pays for no timer; near ones by a timer.
    pub(super) async fn before<F: Future>(
        &self,
        deadline: Instant,
        mut work: Pin<&mut F>,
    ) -> Option<F::Output> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left < FAR {
            return timeout(left, work).await.ok();
        }
        let alarm = self.worker.ms_at(deadline);
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

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Looks at the clock for this connection; called by the sweep.
    pub(super) fn sweep(&self, now: u64, park_after: u64) {
        let options = &self.worker.options;
        let quiet = now.saturating_sub(self.progress.get());
        if self.alarm.get() != 0 && now >= self.alarm.get() {
            self.wake();
        }
        let order = if self.owing.get() {
            // While the upstream works, the clocks of the service run.
            let stuck = quiet >= CLIENT_STALL_MS && self.blocked.get();
            if stuck { Order::Close } else { Order::None }
        } else if self.worker.past_grace() {
            Order::Close
        } else if self.head_since.get() != 0 {
            let waited = now.saturating_sub(self.head_since.get());
            if waited >= options.header_timeout_ms {
                Order::Close
            } else {
                Order::None
            }
        } else if self.parked.get() {
            if quiet >= options.idle_timeout_ms {
                Order::Close
            } else {
                Order::None
            }
        } else if quiet >= park_after {
            Order::Park
        } else {
            Order::None
        };
        if order != Order::None {
            self.order.set(order);
            self.wake();
        }
    }

    fn register(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|old| old.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }
}

/// Serves one connection until it ends.
pub(super) async fn serve(stream: TcpStream, state: Rc<State>) {
    let mut io = ClientIo::new(stream, Rc::clone(&state));
    loop {
        if io.prefix.is_empty() && !wait_for_data(&io.stream, &state).await {
            return;
        }
        // Boxed, so that a quiet connection's task does not hold room for a busy one.
        match Box::pin(converse(io, &state)).await {
            Some(quiet) => io = quiet,
            None => return,
        }
    }
}

/// Waits for the first byte of a request; false when the connection is to end.
async fn wait_for_data(stream: &TcpStream, state: &State) -> bool {
    state.parked.set(true);
    let go_on = poll_fn(|cx| {
        state.register(cx);
        match state.order.replace(Order::None) {
            Order::Close => return Poll::Ready(false),
            Order::Park | Order::None => {}
        }
        stream.poll_read_ready(cx).map(|ready| ready.is_ok())
    })
    .await;
    state.parked.set(false);
    if go_on && state.head_since.get() == 0 {
        state.head_since.set(state.worker.now_ms());
    }
    go_on
}

/// How a conversation ended.
enum Exit {
    Quiet,
    Close,
    Done(Result<(), hyper::Error>),
}

/// Lets hyper serve requests until the connection is quiet (which gives it back) or ends.
async fn converse(io: ClientIo, state: &Rc<State>) -> Option<ClientIo> {
    let worker = Rc::clone(&state.worker);
    let service = service_fn({
        let state = Rc::clone(state);
        move |req: http::Request<Incoming>| {
            // Not later: hyper reads on before it polls the answer.
            state.begin();
            handler::handle(Rc::clone(&worker), Rc::clone(&state), req)
        }
    });
    let mut conn = http1::Builder::new()
        .max_buf_size(HEAD_MAX * 2)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(io), service);
    let exit = poll_fn(|cx| {
        state.register(cx);
        match state.order.replace(Order::None) {
            Order::Close => return Poll::Ready(Exit::Close),
            Order::Park if !state.owing.get() && state.head_since.get() == 0 => {
                return Poll::Ready(Exit::Quiet);
            }
            Order::Park | Order::None => {}
        }
        Pin::new(&mut conn).poll(cx).map(Exit::Done)
    })
    .await;
    let parts = conn.into_parts();
    let mut io = parts.io.into_inner();
    match exit {
        Exit::Quiet => {
            if !parts.read_buf.is_empty() {
                // An empty one would still hold the whole buffer that it was cut from.
                io.prefix = parts.read_buf;
            }
            return Some(io);
        }
        Exit::Close => return None,
        Exit::Done(result) => {
            if let Some(tunnel) = state.tunnel.take() {
                tunnel::run(io.stream, parts.read_buf, *tunnel, &state.worker).await;
                return None;
            }
            finish(io, state, result.is_err()).await;
        }
    }
    None
}

/// The end of a connection after its last answer: says what was wrong, then lets the client read
/// what it was told before the socket closes.
async fn finish(mut io: ClientIo, state: &State, failed: bool) {
    let refusal = match (state.violation.get(), state.refused.get()) {
        (Some(Violation::Malformed(why)), _) => Some(Error::BadRequest(why)),
        (Some(Violation::TooLarge), _) | (None, Some(431 | 414)) => Some(Error::HeadTooLarge),
        (None, Some(_)) => Some(Error::BadRequest("the request head is malformed")),
        (None, None) => None,
    };
    let doubt = refusal.is_some();
    if let (Some(error), false) = (refusal, state.told.get() || state.owing.get()) {
        let answer = handler::raw_answer(&error, &state.worker);
        if io.stream.write_all(&answer).await.is_err() {
            return;
        }
    } else if failed && !doubt && !io.framing.in_body() {
        return;
    }
    if io.stream.shutdown().await.is_err() {
        return;
    }
    let body_unread = io.framing.in_body() && !doubt;
    let bytes = if body_unread { LINGER_BYTES } else { HEAD_MAX };
    let time = if body_unread {
        LINGER_TIME
    } else {
        Duration::from_millis(20)
    };
    // The client may as well be gone: how the draining ends does not matter.
    let _drained = timeout(time, drain(&mut io.stream, bytes)).await;
}

/// Reads and drops up to `most` bytes, so that the close does not reset what was sent.
async fn drain(stream: &mut TcpStream, most: usize) {
    let mut scratch = vec![0; 16 * 1024];
    let mut dropped = 0;
    while dropped < most {
        match stream.read(&mut scratch).await {
            Ok(0) | Err(_) => return,
            Ok(read) => dropped += read,
        }
    }
}
