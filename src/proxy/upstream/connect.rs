//! Making a connection: resolve, connect, TLS; all within `connect_timeout`.

use std::io;
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
#[derive(Debug)]
pub(in crate::proxy) enum ConnectError {
    /// `connect_timeout` ran out.
    Timeout(Duration),
    /// Refused, unreachable, unknown name, TLS failed.
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
    let io = match tokio::time::timeout(limit, dial(worker, endpoint, settings)).await {
        Ok(Ok(io)) => io,
        Ok(Err(e)) => return Err(ConnectError::Failed(e.to_string())),
        Err(_elapsed) => return Err(ConnectError::Timeout(limit)),
    };
    if !http2 || (endpoint.spec.target.tls && !tls::chose_http2(&io)) {
        return Ok(Link::One(Box::new(Http1::new(io))));
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
) -> io::Result<UpstreamIo> {
    let target = &endpoint.spec.target;
    let mut last = io::Error::other("the name has no address");
    for address in resolve::resolve(worker, &target.host, target.port).await? {
        match TcpStream::connect(address).await {
            Ok(tcp) => {
                tcp.set_nodelay(true)?;
                if target.tls {
                    return tls::wrap(&worker.tls, &settings.transport, &target.host, tcp).await;
                }
                return Ok(MaybeHttpsStream::Http(TokioIo::new(tcp)));
            }
            Err(e) => last = e,
        }
    }
    Err(last)
}
