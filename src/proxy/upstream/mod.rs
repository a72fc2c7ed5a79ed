//! Connections to endpoints: made, lent to one exchange, kept for the next.
//!
//! Invariant: a connection whose exchange did not end cleanly is closed, never lent again.

mod answer_head;
mod chunks;
mod connect;
mod http1;
mod http2;
mod pool;
mod request_head;
mod resolve;

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;

use super::body::SendBody;
use super::headers::Origin;
use super::worker::Worker;
use crate::model::settings::Effective;
use crate::model::table::Endpoint;
use crate::transport::UpstreamIo;
use http1::Http1;

pub(super) use answer_head::recycle;
pub(super) use connect::ConnectError;
pub(super) use pool::{Patience, Pools};
pub(super) use resolve::Names;

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
    /// The protocol to switch to, where one may be passed on.
    pub(super) upgrade: Option<&'a HeaderValue>,
}

/// The head of an answer.
pub(super) struct Answer {
    pub(super) response: Response<()>,
    /// The protocol that was switched to.
    pub(super) upgrade: Option<HeaderValue>,
}

/// One more request in flight on an endpoint, for as long as this lives.
pub(super) struct InFlight(Arc<Endpoint>);

impl InFlight {
    fn new(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.live.inflight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(endpoint))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.live.inflight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection lent to one exchange, and the answer's body that comes over it. Dropping it
/// before the end closes the connection, or resets the stream.
pub(super) struct Lease {
    link: Link,
    guard: InFlight,
    worker: Rc<Worker>,
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
    endpoint: &Arc<Endpoint>,
    settings: &Effective,
    patience: Patience,
) -> Result<Lease, ConnectError> {
    let guard = InFlight::new(endpoint);
    let worker = Rc::clone(worker);
    let addresses = resolve::current(&worker, &endpoint.spec.target.host);
    if let Some(kept) = worker
        .pools
        .take(
            endpoint.pool,
            worker.now_ms(),
            patience,
            addresses.as_deref(),
        )
        .await
    {
        return Ok(Lease {
            link: Link::One(kept),
            guard,
            worker,
            reused: true,
        });
    }
    // Boxed: TLS and look-ups need room that most requests never use.
    let link = Box::pin(connect::open(&worker, endpoint, settings)).await?;
    Ok(Lease {
        link,
        guard,
        worker,
        reused: false,
    })
}

impl Lease {
    /// Sends the request and waits for the head of its answer.
    pub(super) async fn ask(
        &mut self,
        asking: &Asking<'_>,
        body: SendBody,
    ) -> Result<Answer, SendError> {
        match &mut self.link {
            Link::One(conn) => {
                let (head, coding) = request_head::write(asking, &body);
                conn.begin(head, body, coding);
                let head = poll_fn(|cx| conn.poll_head(cx, asking.method))
                    .await
                    .map_err(|failure| match failure {
                        http1::SendFailure::Unsent(body) => SendError::Unsent(body),
                        http1::SendFailure::Cut => SendError::Cut,
                        http1::SendFailure::Broken(broken) => SendError::Broken(broken),
                    })?;
                Ok(Answer {
                    response: head.response,
                    upgrade: head.upgrade,
                })
            }
            Link::Many(stream) => Box::pin(stream.ask(asking, body, &self.guard.0)).await,
        }
    }

    /// Whether the connection was there before this exchange.
    pub(super) fn is_reused(&self) -> bool {
        self.reused
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
    pub(super) fn into_switched(self) -> Option<(UpstreamIo, Bytes, InFlight)> {
        let Link::One(conn) = self.link else {
            return None;
        };
        let (io, read) = conn.into_switched();
        Some((io, read, self.guard))
    }

    /// The exchange is over: the connection is kept if it may serve another.
    pub(super) fn release(self) {
        let Self {
            link,
            guard,
            worker,
            ..
        } = self;
        if let Link::One(conn) = link
            && conn.reusable()
        {
            worker.pools.keep(guard.0.pool, conn, worker.now_ms());
        }
    }
}
