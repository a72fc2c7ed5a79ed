//! The admin port: readiness, metrics and the JSON API, for people and programs on this machine.
//!
//! Invariant: nothing here changes anything, and no answer holds a secret.

mod door;
mod metrics;
mod picture;
pub mod worker;

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use self::door::Door;
use self::metrics::{Metrics, Pieces};
use crate::control::live::Look;
use crate::control::prober::Board;
use crate::control::recorder::Reader;
use crate::control::status::Status;
use crate::control::watcher::Shared;
use crate::model::table::Table;
use crate::stats::Meters;
use crate::worker::Board as Lanes;

/// How the admin port is offered.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// A file with the token that the API asks for; needed where others than this machine may
    /// connect.
    pub token_file: Option<PathBuf>,
}

/// Why the admin port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours.
    #[error("cannot listen on admin address {0}")]
    Bind(SocketAddr, #[source] std::io::Error),
    /// Everybody could ask.
    #[error("admin address {0} is not loopback: want --admin-token-file")]
    Open(SocketAddr),
    /// The token file cannot be read.
    #[error("admin token file {0}")]
    TokenFile(PathBuf, #[source] std::io::Error),
    /// The token file holds nothing to ask for.
    #[error("admin token file {0} is empty")]
    NoToken(PathBuf),
}

/// Connections at a time; more wait.
const CONNECTIONS_MAX: usize = 64;
/// How long a request head may take.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may live, so that idle ones do not use up the places.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(1);

/// Everything there is.
const PATHS: [&str; 7] = [
    "/healthz",
    "/readyz",
    "/metrics",
    "/api/v1/table",
    "/api/v1/live",
    "/api/v1/health",
    "/api/v1/errors",
];

/// What the admin port shows.
pub struct Admin {
    table: Arc<ArcSwap<Table>>,
    status: Arc<Status>,
    health: Board,
    live: Look,
    metrics: Metrics,
    door: Door,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("address", &self.door.address)
            .finish_non_exhaustive()
    }
}

impl Admin {
    /// The admin port behind `listener`; `reader` asks for what was counted of requests, `meters` is
    /// what was counted of the gateway itself, `live` looks at what all gateways say, `lanes` are
    /// those of the mirror.
    pub fn try_new(
        options: &Options,
        listener: &TcpListener,
        shared: &Shared,
        meters: Arc<Meters>,
        reader: Reader,
        live: Look,
        lanes: Lanes,
    ) -> Result<Self, Error> {
        let door = Door::try_new(options, listener)?;
        Ok(Self {
            table: Arc::clone(&shared.table),
            status: Arc::clone(&shared.status),
            health: shared.health.clone(),
            live,
            metrics: Metrics::new(
                Arc::clone(&shared.table),
                Arc::clone(&shared.status),
                shared.health.clone(),
                meters,
                reader,
                lanes,
            ),
            door,
        })
    }

    /// The bound address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.door.address
    }

    async fn answer(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Response<Either<Full<Bytes>, Pieces>> {
        // Probes come by any name and tell nothing.
        let refusal = (self.door).refuse((method, path, headers), &PATHS, &["/healthz", "/readyz"]);
        if let Some(refusal) = refusal {
            return refusal.map(Either::Left);
        }
        if path != "/metrics" {
            return self.show(path).await.map(Either::Left);
        }
        match self.metrics.page().await {
            Some(page) => answer(StatusCode::OK, metrics::KIND, page).map(Either::Right),
            None => text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n").map(Either::Left),
        }
    }

    async fn show(&self, path: &str) -> Response<Full<Bytes>> {
        match path {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.readiness(),
            "/api/v1/table" => json(&picture::table(&self.table.load_full(), &self.status)),
            "/api/v1/live" => self.live().await,
            "/api/v1/health" => json(&picture::health(&self.table.load_full(), &self.health)),
            _ => json(&picture::errors(&self.status.errors())),
        }
    }

    async fn live(&self) -> Response<Full<Bytes>> {
        match self.live.read().await {
            Some(live) => json(&picture::live(&live)),
            None => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "Redis does not say what is live\n",
            ),
        }
    }

    fn readiness(&self) -> Response<Full<Bytes>> {
        if self.status.is_draining() {
            text(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
        } else if self.table.load().loaded {
            text(StatusCode::OK, "ready\n")
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, "starting\n")
        }
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    answer(
        status,
        "text/plain; charset=utf-8",
        Full::new(Bytes::from_static(text.as_bytes())),
    )
}

fn json(value: &serde_json::Value) -> Response<Full<Bytes>> {
    answer(
        StatusCode::OK,
        "application/json",
        Full::new(format!("{value}\n").into()),
    )
}

fn answer<B>(status: StatusCode, kind: &'static str, body: B) -> Response<B> {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
    answer
}

/// Serves until the runtime ends.
pub async fn serve(listener: TcpListener, admin: Admin) {
    let admin = Arc::new(admin);
    let answer = move |req: Request<Incoming>| {
        let admin = Arc::clone(&admin);
        async move {
            let answer = admin.answer(req.method(), req.uri().path(), req.headers());
            answer.await
        }
    };
    accept(listener, answer).await;
}

/// Accepts connections, not too many at a time, whose requests are answered so.
async fn accept<A, F, B>(listener: TcpListener, answer: A)
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let answer = answer.clone();
                tokio::spawn(async move {
                    serve_connection(stream, answer).await;
                    drop(place);
                });
            }
            // Out of descriptors, say: others may give some back.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve_connection<A, F, B>(stream: TcpStream, answer: A)
where
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<B>>,
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + 'static,
{
    let service = service_fn(|req| {
        let answer = answer(req);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%error, "admin connection"),
    }
}

#[cfg(test)]
mod tests;
