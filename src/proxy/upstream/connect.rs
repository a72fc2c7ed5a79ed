//! Making a connection: resolve, connect, TLS; all within `connect_timeout`.

use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use super::http1::Http1;
use super::{Link, http2, resolve};
use crate::model::settings::Effective;
use crate::model::table::Endpoint;
use crate::proxy::worker::Worker;
use crate::transport::{self, UpstreamIo};

/// Why no connection could be made. Nothing of the request was sent.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum ConnectError {
    /// `connect_timeout` ran out.
    #[error("connect_timeout of {0:?} ran out")]
    Timeout(Duration),
    /// Refused, unreachable, unknown name, TLS failed.
    #[error("{0}")]
    Failed(String),
    /// We have no open file, local port or memory left: nothing is known of the endpoint.
    #[error("no more {0}")]
    Ours(&'static str),
}

/// A new connection, or a stream on the shared one where the endpoint speaks HTTP/2; tells whether
/// the connection was there before.
pub(super) async fn open(
    worker: &Rc<Worker>,
    endpoint: &Endpoint,
    settings: &Effective,
) -> Result<(Link, bool), ConnectError> {
    let http2 = settings.transport.http2;
    if http2 && let Some(sender) = worker.pools.shared(endpoint.pool) {
        return Ok((Link::Many(http2::Stream::new(sender)), true));
    }
    let limit = settings.connect_timeout;
    let dialled = tokio::time::timeout(limit, dial(worker, endpoint, settings)).await;
    let (io, address) = match dialled {
        Ok(Ok(dialled)) => dialled,
        Ok(Err(e)) if e.kind() == io::ErrorKind::TimedOut => {
            return Err(ConnectError::Timeout(limit));
        }
        Ok(Err(e)) => match transport::ours(&e) {
            Some(what) => return Err(ConnectError::Ours(what)),
            None => return Err(ConnectError::Failed(e.to_string())),
        },
        Err(_elapsed) => return Err(ConnectError::Timeout(limit)),
    };
    if !transport::speaks_http2(&io, &settings.transport) {
        return Ok((Link::One(Box::new(Http1::new(io, address))), false));
    }
    let sender = http2::open(io)
        .await
        .map_err(|e| ConnectError::Failed(e.to_string()))?;
    worker.pools.keep_shared(endpoint.pool, sender.clone());
    Ok((Link::Many(http2::Stream::new(sender)), false))
}

async fn dial(
    worker: &Rc<Worker>,
    endpoint: &Endpoint,
    settings: &Effective,
) -> io::Result<(UpstreamIo, IpAddr)> {
    let (target, way) = (&endpoint.spec.target, &settings.transport);
    let addresses = resolve::resolve(worker, &target.host, target.port).await?;
    let (tcp, address) = transport::connect(&addresses, settings.connect_timeout).await?;
    let io = transport::speak(tcp, target, way, &worker.tls, worker.now_ms()).await?;
    Ok((io, address.ip()))
}
