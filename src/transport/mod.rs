//! A socket to an endpoint, for requests and for probes alike: addresses in turn, then TLS.
//!
//! Both ways come through here, so that a probe fails where a request would.

mod exchange;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

pub use exchange::exchange;
pub use tls::TlsConfigs;

use crate::model::endpoint::Target;
use crate::model::settings::Transport;

/// A socket to an endpoint, with or without TLS.
pub type UpstreamIo = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Tries the addresses of a host in turn, within `limit` over all; a silent one may not use up the
/// time of the others. Returns the address that took us.
pub async fn connect(
    addresses: &[SocketAddr],
    limit: Duration,
) -> io::Result<(TcpStream, SocketAddr)> {
    let share = limit / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut last = io::Error::other("the name has no address");
    for address in addresses {
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok((tcp, *address)),
            Ok(Err(e)) => last = e,
            Err(_elapsed) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// What we ran out of ourselves where a connection failed for want of it: open files (`EMFILE`,
/// `ENFILE`), local ports (`EADDRNOTAVAIL`), memory (`ENOMEM`). Then nothing is known of the
/// endpoint.
#[must_use]
pub fn ours(error: &io::Error) -> Option<&'static str> {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    match (error.kind(), error.raw_os_error()) {
        (_, Some(ENFILE | EMFILE)) => Some("open files (ulimit -n)"),
        (io::ErrorKind::AddrNotAvailable, _) => Some("local ports (net.ipv4.ip_local_port_range)"),
        (io::ErrorKind::OutOfMemory, _) => Some("memory"),
        _ => None,
    }
}

/// Makes a connected socket speak as the target's URL says; `now_ms` is for the age of TLS set-ups.
pub async fn speak(
    tcp: TcpStream,
    target: &Target,
    transport: &Transport,
    configs: &TlsConfigs,
    now_ms: u64,
) -> io::Result<UpstreamIo> {
    tcp.set_nodelay(true)?;
    if !target.tls {
        return Ok(MaybeHttpsStream::Http(TokioIo::new(tcp)));
    }
    let config = configs.get(transport, now_ms).await?;
    let name = transport.tls_name.as_deref().unwrap_or(&target.host);
    tls::wrap(config, name, tcp).await
}

/// Whether HTTP/2 is spoken over this socket: by agreement over TLS, else by prior knowledge.
pub fn speaks_http2(io: &UpstreamIo, transport: &Transport) -> bool {
    transport.http2
        && match io {
            MaybeHttpsStream::Http(_) => true,
            MaybeHttpsStream::Https(tls) => tls.inner().get_ref().1.alpn_protocol() == Some(b"h2"),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_ran_out_of_is_named_and_nothing_else() {
        let said = |number| ours(&io::Error::from_raw_os_error(number));
        for (number, what) in [(23, "open files"), (24, "open files"), (12, "memory")] {
            assert!(said(number).is_some_and(|said| said.starts_with(what)));
        }
        for kind in [io::ErrorKind::ConnectionRefused, io::ErrorKind::TimedOut] {
            assert_eq!(ours(&kind.into()), None);
        }
        assert!(ours(&io::ErrorKind::AddrNotAvailable.into()).is_some());
    }
}
