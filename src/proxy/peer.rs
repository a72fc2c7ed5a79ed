//! Who is at the other end of a connection: a client, or a proxy that speaks for clients.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use crate::model::networks::Networks;
use crate::policy::client;

/// The other end of a connection, known before its first request.
pub(super) struct Peer {
    /// Its address, canonical.
    pub(super) address: IpAddr,
    /// The same as `x-forwarded-for` says it.
    pub(super) header: HeaderValue,
    /// Whether what it says about clients is believed.
    pub(super) trusted: bool,
}

impl Peer {
    pub(super) fn new(address: IpAddr, trusted: &Networks) -> Self {
        let address = address.to_canonical();
        let text = Bytes::from(address.to_string());
        Self {
            address,
            header: HeaderValue::from_maybe_shared(text)
                .unwrap_or(HeaderValue::from_static("unknown")),
            trusted: trusted.contains(address),
        }
    }

    /// The client that asks by this peer.
    pub(super) fn client(&self, headers: &HeaderMap, trusted: &Networks) -> IpAddr {
        if self.trusted {
            client::address(self.address, headers, trusted)
        } else {
            self.address
        }
    }
}
