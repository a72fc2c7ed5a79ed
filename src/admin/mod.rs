//! The admin port: readiness, metrics and the JSON API, for people and programs on this machine.
//!
//! Invariant: nothing here changes anything, and no answer holds a secret.

mod metrics;
mod picture;

use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use self::metrics::{Metrics, Pieces};
use crate::control::prober::Board;
use crate::control::recorder::Reader;
use crate::control::status::Status;
use crate::control::watcher::Shared;
use crate::model::table::Table;
use crate::stats::Meters;

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
const PATHS: [&str; 6] = [
    "/healthz",
    "/readyz",
    "/metrics",
    "/api/v1/table",
    "/api/v1/health",
    "/api/v1/errors",
];

/// What the admin port shows.
pub struct Admin {
    table: Arc<ArcSwap<Table>>,
    status: Arc<Status>,
    health: Board,
    metrics: Metrics,
    address: SocketAddr,
    /// SHA-256 of the token: digests are compared, so that timing tells nothing about the token.
    token: Option<[u8; 32]>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Admin {
    /// The admin port behind `listener`; `reader` asks for what was counted of requests, `meters` is
    /// what was counted of the gateway itself.
    pub fn try_new(
        options: &Options,
        listener: &TcpListener,
        shared: &Shared,
        meters: Arc<Meters>,
        reader: Reader,
    ) -> Result<Self, Error> {
        let address = listener
            .local_addr()
            .map_err(|source| Error::Bind(options.address, source))?;
        let token = options.token_file.as_ref().map(read_token).transpose()?;
        if !address.ip().is_loopback() && token.is_none() {
            return Err(Error::Open(address));
        }
        Ok(Self {
            table: Arc::clone(&shared.table),
            status: Arc::clone(&shared.status),
            health: shared.health.clone(),
            metrics: Metrics::new(
                Arc::clone(&shared.table),
                Arc::clone(&shared.status),
                shared.health.clone(),
                meters,
                reader,
            ),
            address,
            token,
        })
    }

    /// The bound address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    async fn answer(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Response<Either<Full<Bytes>, Pieces>> {
        if let Some(refusal) = self.refuse_request(method, path, headers) {
            return refusal.map(Either::Left);
        }
        if path != "/metrics" {
            return self.show(path).map(Either::Left);
        }
        match self.metrics.page().await {
            Some(page) => answer(StatusCode::OK, metrics::KIND, page).map(Either::Right),
            None => text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n").map(Either::Left),
        }
    }

    fn refuse_request(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Option<Response<Full<Bytes>>> {
        // Probes come by any name and tell nothing.
        let is_probe = matches!(path, "/healthz" | "/readyz");
        if !is_probe && let Some(refusal) = self.refuse(headers) {
            return Some(refusal);
        }
        if !PATHS.contains(&path) {
            return Some(text(StatusCode::NOT_FOUND, "not found\n"));
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "want GET or HEAD\n");
            answer
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Some(answer);
        }
        None
    }

    fn show(&self, path: &str) -> Response<Full<Bytes>> {
        match path {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.readiness(),
            "/api/v1/table" => json(&picture::table(&self.table.load_full(), &self.status)),
            "/api/v1/health" => json(&picture::health(&self.table.load_full(), &self.health)),
            _ => json(&picture::errors(&self.status.errors())),
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

    /// Why this caller gets nothing, if so.
    fn refuse(&self, headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
        match self.token {
            Some(token) if presented(headers) == Some(token) => return None,
            Some(_) => {
                let mut answer = text(StatusCode::UNAUTHORIZED, "want the admin token\n");
                answer
                    .headers_mut()
                    .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                return Some(answer);
            }
            None => {}
        }
        if self.is_own_name(headers) {
            return None;
        }
        // A web page can make a name of its own point here, but it cannot choose another `Host`.
        Some(text(
            StatusCode::FORBIDDEN,
            "want the admin address or localhost as Host\n",
        ))
    }

    fn is_own_name(&self, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return false;
        };
        let Ok(host) = host.to_str() else {
            return false;
        };
        let name = without_port(host);
        if name.eq_ignore_ascii_case("localhost") {
            return true;
        }
        name.parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_loopback() || ip == self.address.ip())
    }
}

/// The name of a `Host` header, IPv6 without brackets.
fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

fn presented(headers: &HeaderMap) -> Option<[u8; 32]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| Sha256::digest(token.trim_ascii()).into())
}

fn read_token(path: &PathBuf) -> Result<[u8; 32], Error> {
    let token = std::fs::read(path).map_err(|source| Error::TokenFile(path.clone(), source))?;
    let token = token.trim_ascii();
    if token.is_empty() {
        return Err(Error::NoToken(path.clone()));
    }
    Ok(Sha256::digest(token).into())
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
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let admin = Arc::clone(&admin);
                tokio::spawn(async move {
                    serve_connection(stream, admin).await;
                    drop(place);
                });
            }
            // Out of descriptors, say: others may give some back.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve_connection(stream: TcpStream, admin: Arc<Admin>) {
    let service = service_fn(move |req: Request<Incoming>| {
        let admin = Arc::clone(&admin);
        async move {
            let answer = admin.answer(req.method(), req.uri().path(), req.headers());
            Ok::<_, Infallible>(answer.await)
        }
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
