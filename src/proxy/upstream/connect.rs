//! Making a connection: resolve, connect, TLS; all within `connect_timeout`.

use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::http1::Http1;
use super::{Link, UpstreamIo, http2, resolve, tls};
use crate::model::settings::Effective;
use crate::model::table::Endpoint;
use crate::proxy::worker::Worker;

/// Why no connection could be made. Nothing of the request was sent.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum ConnectError {
    /// `connect_timeout` ran out.
    #[error("connect_timeout of {0:?} ran out")]
    Timeout(Duration),
    /// Refused, unreachable, unknown name, TLS failed.
    #[error("{0}")]
    Failed(String),
}

/// A new connection, or a stream on the shared one where the endpoint speaks HTTP/2.
pub(super) async fn open(
    worker: &Rc<Worker>,
    endpoint: &Endpoint,
    settings: &Effective,
) -> Result<Link, ConnectError> {
    let http2 = settings.transport.http2;
    if http2 && let Some(sender) = worker.pools.shared(endpoint.pool) {
        return Ok(Link::Many(http2::Stream::new(sender)));
    }
    let limit = settings.connect_timeout;
    let dialled = tokio::time::timeout(limit, dial(worker, endpoint, settings)).await;
    let (io, address) = match dialled {
        Ok(Ok(dialled)) => dialled,
        Ok(Err(e)) if e.kind() == io::ErrorKind::TimedOut => {
            return Err(ConnectError::Timeout(limit));
        }
        Ok(Err(e)) => return Err(ConnectError::Failed(e.to_string())),
        Err(_elapsed) => return Err(ConnectError::Timeout(limit)),
    };
    if !http2 || (endpoint.spec.target.tls && !tls::chose_http2(&io)) {
        return Ok(Link::One(Box::new(Http1::new(io, address))));
    }
    let sender = http2::open(io)
        .await
        .map_err(|e| ConnectError::Failed(e.to_string()))?;
    worker.pools.keep_shared(endpoint.pool, sender.clone());
    Ok(Link::Many(http2::Stream::new(sender)))
}

async fn dial(
    worker: &Rc<Worker>,
    endpoint: &Endpoint,
    settings: &Effective,
) -> io::Result<(UpstreamIo, IpAddr)> {
    let target = &endpoint.spec.target;
    let (tcp, address) = connect(worker, &target.host, target.port, settings).await?;
    tcp.set_nodelay(true)?;
    let io = if target.tls {
        tls::wrap(worker, &settings.transport, &target.host, tcp).await?
    } else {
        MaybeHttpsStream::Http(TokioIo::new(tcp))
    };
    Ok((io, address))
}

/// Tries the addresses of a host in turn; a silent one may not use up the time of the others.
async fn connect(
    worker: &Rc<Worker>,
    host: &str,
    port: u16,
    settings: &Effective,
) -> io::Result<(TcpStream, IpAddr)> {
    let addresses = resolve::resolve(worker, host, port).await?;
    let share = settings.connect_timeout / u32::try_from(addresses.len().max(1)).unwrap_or(1);
    let mut last = io::Error::other("the name has no address");
    for address in addresses {
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok((tcp, address.ip())),
            Ok(Err(e)) => last = e,
            Err(_elapsed) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}
