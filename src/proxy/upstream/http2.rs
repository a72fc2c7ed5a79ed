//! A stream of a shared HTTP/2 connection; hyper drives the connection.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri, Version};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::TokioTimer;

use super::{Answer, Asking, Broken, SendError, request_head};
use crate::model::table::Endpoint;
use crate::proxy::body::SendBody;
use crate::proxy::headers;
use crate::transport::UpstreamIo;

/// How often a quiet connection is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(30);

/// Sends requests over a connection that others use too.
pub(super) type Sender = http2::SendRequest<SendBody>;

/// One exchange on it.
pub(super) struct Stream {
    sender: Sender,
    answer: Option<Incoming>,
}

/// Speaks HTTP/2 over a socket.
pub(super) async fn open(io: UpstreamIo) -> Result<Sender, hyper::Error> {
    let mut builder = http2::Builder::new(LocalExecutor);
    let (sender, conn) = builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .handshake(io)
        .await?;
    tokio::task::spawn_local(async move {
        // Each exchange on it learns of its end by itself.
        let _ended = conn.await;
    });
    Ok(sender)
}

impl Stream {
    pub(super) fn new(sender: Sender) -> Self {
        Self {
            sender,
            answer: None,
        }
    }

    pub(super) fn answer(&self) -> Option<&Incoming> {
        self.answer.as_ref()
    }

    pub(super) async fn ask(
        &mut self,
        asking: &Asking<'_>,
        body: SendBody,
        endpoint: &Endpoint,
    ) -> Result<Box<Answer>, SendError> {
        let scheme = if endpoint.spec.target.tls {
            "https"
        } else {
            "http"
        };
        let authority = asking.host.as_bytes();
        let uri = Uri::builder()
            .scheme(scheme)
            .authority(authority)
            .path_and_query(asking.path)
            .build();
        let mut req = Request::new(body);
        *req.method_mut() = asking.method.clone();
        *req.uri_mut() = uri.map_err(|_malformed| SendError::Broken(Broken::Protocol))?;
        *req.version_mut() = Version::HTTP_2;
        *req.headers_mut() = request_head::as_map(asking);
        let response = self
            .sender
            .try_send_request(req)
            .await
            .map_err(|mut error| match error.take_message() {
                Some(unsent) => SendError::Unsent(unsent.into_body()),
                None => failure(&error.into_error()),
            })?;
        let (mut head, answer) = response.into_parts();
        headers::strip_hop(&mut head.headers);
        // What belonged to the upstream's connection ends here.
        head.extensions.clear();
        self.answer = Some(answer);
        Ok(Box::new(Answer {
            response: http::Response::from_parts(head, ()),
            upgrade: None,
        }))
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some(answer) = &mut self.answer else {
            return Poll::Ready(None);
        };
        Pin::new(answer)
            .poll_frame(cx)
            .map(|frame| frame.map(|frame| frame.map_err(|_malformed| Broken::Closed)))
    }
}

fn failure(error: &hyper::Error) -> SendError {
    if error.is_user() {
        SendError::Cut
    } else {
        SendError::Broken(Broken::Closed)
    }
}

/// Runs the tasks of a connection on this thread.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
{
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}
