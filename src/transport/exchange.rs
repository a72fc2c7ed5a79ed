//! One request to somebody who is no endpoint: a receiver of alerts, an issuer of tokens.
//!
//! Invariant: redirects are not followed, and no more is read than was asked for.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;

use super::TlsConfigs;
use crate::model::endpoint::Target;
use crate::model::settings::Transport;

/// Sends a request over a connection of its own, which may take so long to make, and brings back
/// status and body of the answer; a body of more than so many bytes is an error. `now_ms` is for
/// the age of TLS set-ups.
pub async fn exchange(
    target: &Target,
    request: Request<Full<Bytes>>,
    connecting: Duration,
    answer_max: usize,
    (tls, now_ms): (&TlsConfigs, u64),
) -> io::Result<(StatusCode, Bytes)> {
    let addresses = tokio::net::lookup_host((&*target.host, target.port)).await?;
    let addresses: Vec<_> = addresses.collect();
    let (tcp, _) = super::connect(&addresses, connecting).await?;
    let transport = Transport::default();
    let io = super::speak(tcp, target, &transport, tls, now_ms).await?;
    let (mut sender, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
    let exchange = pin!(async {
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(io::Error::other)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), answer_max).collect().await;
        Ok((status, body.map_err(io::Error::other)?.to_bytes()))
    });
    // The connection may end first: what it read is still to be taken.
    match select(exchange, pin!(connection)).await {
        Either::Left((answer, _)) => answer,
        Either::Right((_, exchange)) => exchange.await,
    }
}
