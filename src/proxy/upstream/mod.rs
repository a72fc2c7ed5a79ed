//! Connections to endpoints: made, lent to one exchange, kept for the next.
//!
//! Invariant: a connection whose exchange did not end cleanly is closed, never lent again.

mod answer_head;
mod chunks;
mod connect;
mod http1;
mod http2;
mod in_flight;
mod outbound;
mod pool;
mod request_head;
mod resolve;
mod socket;

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;

use super::body::SendBody;
use super::guard::Hidden;
use super::headers::Origin;
use super::worker::Worker;
use crate::model::settings::Effective;
use crate::model::table::Endpoint;
use crate::transport::UpstreamIo;
use http1::Http1;
use outbound::SendFailure;

pub(super) use answer_head::recycle;
pub(super) use connect::ConnectError;
pub(super) use in_flight::InFlight;
pub(super) use pool::{Patience, Pools};
pub(super) use resolve::Names;

/// How many pieces of an answer that nobody wants are passed over to keep its connection.
const DISCARDED_MAX: usize = 8;

/// How an upstream failed after the connection was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// It closed or reset the connection before its answer was complete.
    Closed,
    /// What it sent is not HTTP, or can be understood in two ways.
    Protocol,
}

/// Why there is no answer.
pub(super) enum SendError {
    /// Nothing was sent: the body is as it was.
    Unsent(SendBody),
    /// The body was cut on purpose; its fate says why.
    Cut,
    /// The upstream failed.
    Broken(Broken),
}

/// A request as it is to be sent.
pub(super) struct Asking<'a> {
    pub(super) method: &'a Method,
    /// Path and query.
    pub(super) path: &'a str,
    pub(super) host: &'a HeaderValue,
    /// The client's headers.
    pub(super) headers: &'a HeaderMap,
    pub(super) origin: &'a Origin<'a>,
    pub(super) settings: &'a Effective,
    /// The credentials that it does not see.
    pub(super) hidden: Hidden,
    /// The protocol to switch to, where one may be passed on.
    pub(super) upgrade: Option<&'a HeaderValue>,
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response<()>,
    /// The protocol that was switched to.
    pub(super) upgrade: Option<HeaderValue>,
}

/// A connection lent to one exchange, and the answer's body that comes over it. Dropping it
/// before the end closes the connection, or resets the stream.
pub(super) struct Lease {
    link: Link,
    worker: Rc<Worker>,
    /// Where it is kept afterwards.
    pool: u64,
    /// It served another exchange before: the other side may have closed it meanwhile.
    reused: bool,
}

enum Link {
    One(Box<Http1>),
    Many(http2::Stream),
}

/// Lends a kept connection or makes a new one.
pub(super) async fn lend(
    worker: &Rc<Worker>,
    endpoint: &Endpoint,
    settings: &Effective,
    patience: Patience,
) -> Result<Lease, ConnectError> {
    let worker = Rc::clone(worker);
    let target = &endpoint.spec.target;
    let addresses = if target.is_address {
        None
    } else {
        resolve::current(&worker, &target.host)
    };
    let (pool, now_ms) = (endpoint.pool, worker.now_ms());
    let kept = (worker.pools).take(pool, now_ms, patience, addresses.as_deref());
    let (link, reused) = match kept.await {
        Some(kept) => (Link::One(kept), true),
        // Boxed: TLS and look-ups need room that most requests never use.
        None => Box::pin(connect::open(&worker, endpoint, settings)).await?,
    };
    Ok(Lease {
        link,
        worker,
        pool,
        reused,
    })
}

impl Lease {
    /// Sends the request and waits for the head of its answer.
    pub(super) async fn ask(
        &mut self,
        asking: &Asking<'_>,
        body: SendBody,
        endpoint: &Endpoint,
    ) -> Result<Box<Answer>, SendError> {
        match &mut self.link {
            Link::One(conn) => {
                let (head, coding) = request_head::write(asking, &body);
                conn.begin(head, body, coding);
                let head = poll_fn(|cx| conn.poll_head(cx, asking.method))
                    .await
                    .map_err(|failure| match failure {
                        SendFailure::Unsent(body) => SendError::Unsent(body),
                        SendFailure::Cut => SendError::Cut,
                        SendFailure::Broken(broken) => SendError::Broken(broken),
                    })?;
                Ok(head.answer)
            }
            Link::Many(stream) => Box::pin(stream.ask(asking, body, endpoint)).await,
        }
    }

    /// Whether the connection was there before this exchange.
    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    /// The body of a request that failed, where nothing of it was taken.
    pub(super) fn take_untouched(&mut self) -> Option<SendBody> {
        match &mut self.link {
            Link::One(conn) => {
                let whole =
                    |body: &SendBody| matches!(body, SendBody::Stream(stream) if stream.untouched);
                conn.take_body().filter(whole)
            }
            Link::Many(_) => None,
        }
    }

    /// Nobody wants this answer. What is here of it is passed over; the connection is kept if that
    /// was all.
    pub(super) fn discard(mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..DISCARDED_MAX {
            if self.is_done() {
                return self.release();
            }
            if !matches!(self.poll_frame(&mut cx), Poll::Ready(Some(Ok(_)))) {
                return;
            }
        }
    }

    /// The thread that lent it.
    pub(super) fn worker(&self) -> &Worker {
        &self.worker
    }

    /// The next frame of the answer's body.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut self.link {
            Link::One(conn) => conn.poll_frame(cx),
            Link::Many(stream) => stream.poll_frame(cx),
        }
    }

    /// The whole body of the answer, where all of it is here.
    pub(super) fn take_whole(&mut self) -> Option<Bytes> {
        match &mut self.link {
            Link::One(conn) => conn.take_whole(),
            Link::Many(_) => None,
        }
    }

    /// Whether the answer's body is at its end.
    pub(super) fn is_done(&self) -> bool {
        match &self.link {
            Link::One(conn) => conn.is_done(),
            Link::Many(stream) => stream.answer().is_none_or(Incoming::is_end_stream),
        }
    }

    /// How much of the answer's body is to come, where that is known.
    pub(super) fn length(&self) -> Option<u64> {
        match &self.link {
            Link::One(conn) => conn.length(),
            Link::Many(stream) => stream.answer().and_then(|body| body.size_hint().exact()),
        }
    }

    /// The protocol was switched: the socket, and what was read of the new protocol.
    pub(super) fn into_switched(self) -> Option<(UpstreamIo, Bytes)> {
        let Link::One(conn) = self.link else {
            return None;
        };
        Some(conn.into_switched())
    }

    /// The exchange is over: the connection is kept if it may serve another.
    pub(super) fn release(self) {
        let Self {
            link, worker, pool, ..
        } = self;
        if let Link::One(conn) = link
            && conn.reusable()
        {
            worker.pools.keep(pool, conn, worker.now_ms());
        }
    }
}
