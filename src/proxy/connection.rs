//! The life of one client connection: quiet and parked, in hyper's hands, lingering, gone.
//!
//! A quiet connection costs a socket and a small task: hyper's buffers exist only while requests
//! come. One sweep per thread looks at all connections now and then and ends what takes too long,
//! so that no request pays for a timer of its own.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client_io::ClientIo;
use super::error::Error;
use super::framing::{Bound, Violation};
use super::handler;
use super::proxy_protocol;
use super::state::{Order, State};
use super::tunnel;

/// What is read and dropped of a body that nobody wanted, before the close.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;
/// The same of what is in doubt.
const DOUBT_BYTES: usize = 64 * 1024;

/// So many header lines the codec takes by itself.
const CODEC_HEADERS: usize = 100;
/// The codec's buffer is no smaller.
const BUFFER_MIN: usize = 16 * 1024;

/// Serves one connection until it ends.
pub(super) async fn serve(state: Rc<State>) {
    if let Some(versions) = state.worker.options.proxy_protocol
        && !Box::pin(proxy_protocol::introduce(&state, versions)).await
    {
        return;
    }
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
    let bounds = state.worker.options.bounds;
    let mut builder = http1::Builder::new();
    if bounds.headers > CODEC_HEADERS {
        // Only then: it costs an allocation per request.
        builder.max_headers(bounds.headers);
    }
    let mut conn = builder
        .max_buf_size((bounds.head * 2).max(BUFFER_MIN))
        .header_read_timeout(None)
        // The sweep sees a client that leaves: no look for it, and no second buffer, per request.
        .half_close(true)
        .serve_connection(TokioIo::new(io), service);
    let exit = poll_fn(|cx| {
        let _still = state.worker.stand_still();
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
                tunnel::run(stream, early.into(), *tunnel, state).await;
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
        (Some(Violation::TooLarge(bound)), _) => Some(Error::HeadTooLarge(bound)),
        (None, Some(414 | 431)) => Some(Error::HeadTooLarge(Bound::Target)),
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
    let bytes = if body_unread {
        LINGER_BYTES
    } else {
        DOUBT_BYTES
    };
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
