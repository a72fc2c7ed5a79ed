//! One probe of one endpoint: connect as a request would, and ask for the health path where there
//! is one.

use std::io;
use std::pin::pin;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioExecutor;
use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::model::settings::{Effective, HealthCheck};
use crate::model::table::Endpoint;
use crate::transport::{self, TlsConfigs, UpstreamIo};

/// What endpoints see who asks.
const AGENT: HeaderValue = HeaderValue::from_static("smartlink-health");

/// What a probe found.
pub(super) enum Found {
    /// The endpoint is well.
    Good,
    /// What is wrong with it, in a few words.
    Bad(String),
    /// We lack what it takes to ask.
    Nothing,
}

/// Probes an endpoint within `health_timeout`.
pub(super) async fn probe(
    endpoint: &Endpoint,
    settings: &Effective,
    tls: &TlsConfigs,
    now_ms: u64,
) -> Found {
    let limit = settings.health_timeout;
    let asked = async {
        let io = match connect(endpoint, settings, tls, now_ms).await {
            Ok(io) => io,
            Err(error) if transport::ours(&error).is_some() => return Ok(Found::Nothing),
            Err(error) => return Err(error.to_string()),
        };
        match &settings.health {
            HealthCheck::Passive | HealthCheck::Tcp => Ok(Found::Good),
            HealthCheck::Http(path) => {
                let asked = if transport::speaks_http2(&io, &settings.transport) {
                    ask_http2(io, endpoint, path).await
                } else {
                    ask_http1(io, endpoint, path).await
                };
                let status = asked.map_err(|error| error.to_string())?;
                let good = status.is_success() || status.is_redirection();
                good.then_some(Found::Good)
                    .ok_or_else(|| format!("{status} to {path}"))
            }
        }
    };
    let asked = timeout(limit, asked).await;
    let asked =
        asked.unwrap_or_else(|_elapsed| Err(format!("health_timeout of {limit:?} ran out")));
    asked.unwrap_or_else(Found::Bad)
}

async fn connect(
    endpoint: &Endpoint,
    settings: &Effective,
    tls: &TlsConfigs,
    now_ms: u64,
) -> io::Result<UpstreamIo> {
    let target = &endpoint.spec.target;
    let addresses: Vec<_> = lookup_host((&*target.host, target.port)).await?.collect();
    // What is too slow for a request is not up for one.
    let limit = settings.connect_timeout.min(settings.health_timeout);
    let (tcp, _) = transport::connect(&addresses, limit).await?;
    transport::speak(tcp, target, &settings.transport, tls, now_ms).await
}

async fn ask_http1(io: UpstreamIo, endpoint: &Endpoint, path: &str) -> Result<StatusCode, Error> {
    let request = Request::get(path)
        .header(HOST, &endpoint.host)
        .header(CONNECTION, "close")
        .header(USER_AGENT, AGENT)
        .body(Empty::<Bytes>::new())?;
    let (mut sender, connection) = http1::handshake(io).await?;
    let mut asked = pin!(sender.send_request(request));
    let answer = tokio::select! {
        answer = &mut asked => answer,
        // The answer may be here although the connection is at its end.
        _ended = connection => asked.await,
    };
    Ok(answer?.status())
}

async fn ask_http2(io: UpstreamIo, endpoint: &Endpoint, path: &str) -> Result<StatusCode, Error> {
    let target = &endpoint.spec.target;
    let uri = Uri::builder()
        .scheme(if target.tls { "https" } else { "http" })
        .authority(&*target.authority)
        .path_and_query(path)
        .build()?;
    let request = Request::get(uri)
        .header(USER_AGENT, AGENT)
        .body(Empty::<Bytes>::new())?;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
    let mut asked = pin!(sender.send_request(request));
    let answer = tokio::select! {
        answer = &mut asked => answer,
        _ended = connection => asked.await,
    };
    Ok(answer?.status())
}

/// Why a path could not be asked for.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("bad health path: {0}")]
    Path(#[from] http::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
}
