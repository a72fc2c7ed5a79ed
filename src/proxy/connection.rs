//! The life of one client connection: quiet and parked, in hyper's hands, lingering, gone.
//!
//! A quiet connection costs a socket and a small task: hyper's buffers exist only while requests
//! come. One sweep per thread looks at all connections now and then and ends what takes too long,
//! so that no request pays for a timer of its own.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{
    AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _, Interest, ReadBuf,
};
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
    /// The client's socket, until the connection ends.
    stream: RefCell<Option<TcpStream>>,
    /// How many requests were handed to the handler.
    requests: Cell<u64>,
    /// The request in flight came over HTTP/1.0.
    pub(super) http10: Cell<bool>,
    /// An answer was cut: the client must not take it for whole.
    cut: Cell<bool>,
    /// The client is waited for in the middle of a body.
    waits_for_body: Cell<bool>,
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
    pub(super) fn new(stream: TcpStream, peer: SocketAddr, worker: Rc<Worker>) -> Self {
        let now = worker.now_ms();
        let peer_text = peer.ip().to_canonical().to_string();
        Self {
            peer,
            peer_header: HeaderValue::from_maybe_shared(Bytes::from(peer_text))
                .unwrap_or(HeaderValue::from_static("unknown")),
            violation: Cell::new(None),
            told: Cell::new(false),
            refused: Cell::new(None),
            stream: RefCell::new(Some(stream)),
            requests: Cell::new(0),
            http10: Cell::new(false),
            cut: Cell::new(false),
            waits_for_body: Cell::new(false),
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
    pub(super) fn begin(&self, http10: bool) {
        self.in_flight.set(true);
        self.owing.set(true);
        self.requests.set(self.requests.get() + 1);
        self.http10.set(http10);
    }

    /// The body of its answer is gone: sent, cut or never wanted.
    pub(super) fn end(&self) {
        self.in_flight.set(false);
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

    pub(super) fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self.stream.borrow_mut() {
            Some(stream) => Pin::new(stream).poll_write(cx, buf),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    pub(super) fn poll_write_vectored(
        &self,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self.stream.borrow_mut() {
            Some(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
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

    fn register(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|old| old.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }
}

fn close_if(late: bool) -> Order {
    if late { Order::Close } else { Order::None }
}

/// Serves one connection until it ends.
pub(super) async fn serve(state: Rc<State>) {
    let mut io = ClientIo::new(Rc::clone(&state));
    loop {
        if io.prefix.is_empty() && !wait_for_data(&state).await {
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
async fn wait_for_data(state: &State) -> bool {
    state.parked.set(true);
    let go_on = poll_fn(|cx| {
        state.register(cx);
        let order = state.order.replace(Order::None);
        let ready = match &*state.stream.borrow() {
            Some(stream) => stream.poll_read_ready(cx).map(|ready| ready.is_ok()),
            None => Poll::Ready(false),
        };
        // A request that is here already is answered first.
        match ready {
            Poll::Pending if order == Order::Close => Poll::Ready(false),
            ready => ready,
        }
    })
    .await;
    state.parked.set(false);
    state.worker.on_busy();
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
            state.begin(req.version() == http::Version::HTTP_10);
            handler::handle(Rc::clone(&worker), Rc::clone(&state), req)
        }
    });
    let mut conn = http1::Builder::new()
        .max_buf_size(HEAD_MAX * 2)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(io), service);
    let exit = poll_fn(|cx| {
        state.register(cx);
        let order = state.order.replace(Order::None);
        match order {
            Order::Close if state.owing.get() => return Poll::Ready(Exit::Close),
            Order::Park if !state.owing.get() && state.head_since.get() == 0 => {
                return Poll::Ready(Exit::Quiet);
            }
            Order::Close | Order::Park | Order::None => {}
        }
        match Pin::new(&mut conn).poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Exit::Done(ended)),
            // A request that was here already is answered first.
            Poll::Pending if order == Order::Close && !state.owing.get() => {
                Poll::Ready(Exit::Close)
            }
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    let parts = conn.into_parts();
    let mut io = parts.io.into_inner();
    match exit {
        Exit::Quiet => {
            // Whatever is left in the buffer are empty lines: no head began. The buffer itself is
            // let go with it.
            drop(parts.read_buf);
            return Some(io);
        }
        Exit::Close => return None,
        Exit::Done(result) => {
            let stream = state.stream.take()?;
            if let Some(tunnel) = state.tunnel.take() {
                let mut early = parts.read_buf.to_vec();
                early.append(&mut io.held);
                tunnel::run(stream, early.into(), *tunnel, &state.worker).await;
            } else {
                finish(stream, &io, state, result.is_err()).await;
            }
        }
    }
    None
}

/// The end of a connection after its last answer: says what was wrong, then lets the client read
/// what it was told before the socket closes.
async fn finish(mut stream: TcpStream, io: &ClientIo, state: &State, failed: bool) {
    if state.cut.get() && state.http10.get() {
        // Without a length only a reset tells a broken answer from a whole one.
        if let Err(error) = stream.set_zero_linger() {
            tracing::debug!(%error, "a broken answer may look whole");
        }
        return;
    }
    let refusal = match (state.violation.get(), state.refused.get()) {
        (Some(Violation::Malformed(why)), _) => Some(Error::BadRequest(why)),
        (Some(Violation::TooLarge), _) | (None, Some(431 | 414)) => Some(Error::HeadTooLarge),
        (None, Some(_)) => Some(Error::BadRequest("the request head is malformed")),
        (None, None) => None,
    };
    let doubt = refusal.is_some();
    if let (Some(error), false) = (refusal, state.told.get() || state.owing.get()) {
        let answer = handler::raw_answer(&error, &state.worker);
        let told = timeout(LINGER_TIME, stream.write_all(&answer)).await;
        if !matches!(told, Ok(Ok(()))) {
            return;
        }
    } else if failed && !doubt && !io.framing.in_body() {
        return;
    }
    if stream.shutdown().await.is_err() {
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
    let _drained = timeout(time, drain(&mut stream, bytes)).await;
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
