//! Who may ask an admin port: programs on this machine, or whoever has the token.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, HOST, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;

use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

use super::{Error, Options, text};

/// Who is let in.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) address: SocketAddr,
    /// SHA-256 of the token: digests are compared, so that timing tells nothing about the token.
    token: Option<[u8; 32]>,
}

impl Door {
    #[cfg(test)]
    pub(super) fn new(address: SocketAddr, token: Option<&str>) -> Self {
        let token = token.map(Sha256::digest).map(Into::into);
        Self { address, token }
    }

    /// The door of this listener.
    pub(super) fn try_new(options: &Options, listener: &TcpListener) -> Result<Self, Error> {
        let address = listener
            .local_addr()
            .map_err(|source| Error::Bind(options.address, source))?;
        let token = options.token_file.as_ref().map(read_token).transpose()?;
        if !address.ip().is_loopback() && token.is_none() {
            return Err(Error::Open(address));
        }
        Ok(Self { address, token })
    }

    /// Why this request gets nothing, if so; `paths` are all there are, `probes` those that tell
    /// nothing and are asked for by any name.
    pub(super) fn refuse(
        &self,
        (method, path, headers): (&Method, &str, &HeaderMap),
        paths: &[&str],
        probes: &[&str],
    ) -> Option<Response<Full<Bytes>>> {
        if !probes.contains(&path)
            && let Some(refusal) = self.refuse_caller(headers)
        {
            return Some(refusal);
        }
        if !paths.contains(&path) {
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

    /// Why this caller gets nothing, if so.
    fn refuse_caller(&self, headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
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
