//! What the upstream is told about where a request came from.
//!
//! Invariant: nothing that a stranger said about it is passed on.

use http::{HeaderMap, HeaderValue};

use super::headers::{self, Origin};
use crate::policy::client::X_FORWARDED_FOR;
use crate::policy::forwarded;

const FORWARDED: &str = "forwarded";
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";
const X_FORWARDED_HOST: &str = "x-forwarded-host";
/// What begins with this speaks of where a request came from.
const X_FORWARDED: &[u8] = b"x-forwarded-";

/// Whether a header speaks of where a request came from.
pub(super) fn speaks_of_origin(name: &str) -> bool {
    headers::begins(name, X_FORWARDED) || name == FORWARDED
}

/// What proxies before us said about the client, as far as they are to be believed.
#[derive(Default)]
pub(super) struct Told<'a> {
    chain: Vec<u8>,
    proto: Option<&'a HeaderValue>,
    host: Option<&'a HeaderValue>,
    /// There was a `Forwarded` of a trusted proxy.
    standard: bool,
}

impl<'a> Told<'a> {
    /// Takes note of a header that speaks of origin; whether it may be passed on as it is.
    pub(super) fn see(&mut self, name: &str, value: &'a HeaderValue, origin: &Origin<'_>) -> bool {
        if !origin.state.peer().trusted {
            return false;
        }
        match name {
            X_FORWARDED_FOR => {
                self.chain.extend_from_slice(value.as_bytes());
                self.chain.extend_from_slice(b", ");
            }
            X_FORWARDED_PROTO => self.proto = Some(value),
            X_FORWARDED_HOST => self.host = Some(value),
            FORWARDED => self.standard = true,
            // Servers that know no hyphens take an underscore for one; no proxy writes any.
            _ => return !name.contains('_'),
        }
        false
    }

    /// Says it anew, with our own hop behind.
    pub(super) fn tell(
        mut self,
        origin: &Origin<'_>,
        headers: &HeaderMap,
        emit: &mut impl FnMut(&str, &[u8]),
    ) {
        let peer = origin.state.peer();
        let hops = if self.standard && self.chain.is_empty() {
            forwarded::hops(headers).unwrap_or_default()
        } else {
            // Where `x-forwarded-for` counts, anybody may have written the other one.
            Vec::new()
        };
        if !hops.is_empty() {
            let mut standard = Vec::new();
            for line in headers.get_all(FORWARDED) {
                standard.extend_from_slice(line.as_bytes());
                standard.extend_from_slice(b", ");
            }
            standard.extend_from_slice(forwarded::written(peer.address).as_bytes());
            emit(FORWARDED, &standard);
        }
        for hop in &hops {
            let client = hop.client.map_or("unknown".to_owned(), |it| it.to_string());
            self.chain.extend_from_slice(client.as_bytes());
            self.chain.extend_from_slice(b", ");
        }
        if self.chain.is_empty() {
            emit(X_FORWARDED_FOR, peer.header.as_bytes());
        } else {
            self.chain.extend_from_slice(peer.header.as_bytes());
            emit(X_FORWARDED_FOR, &self.chain);
        }
        // The hop that names the client was written by a proxy that is trusted.
        let trusted = &origin.worker.options.trusted_proxies;
        let is_client = |hop: &&forwarded::Hop| hop.client.is_none_or(|it| !trusted.contains(it));
        let client = hops.iter().rev().find(is_client).or(hops.first());
        let proto = self.proto.map(HeaderValue::as_bytes);
        let proto = proto.or(client.and_then(|hop| hop.proto.as_ref().map(String::as_bytes)));
        emit(X_FORWARDED_PROTO, proto.unwrap_or(b"http"));
        let host = self.host.map(HeaderValue::as_bytes);
        let host = host.or(client.and_then(|hop| hop.host.as_ref().map(String::as_bytes)));
        if let Some(host) = host.or(origin.host.map(HeaderValue::as_bytes)) {
            emit(X_FORWARDED_HOST, host);
        }
    }
}
