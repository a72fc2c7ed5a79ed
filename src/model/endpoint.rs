//! Endpoints: the addresses that serve a version of a service.

use std::collections::BTreeMap;

use super::name::VersionName;

/// What one field of `endpoints:<svc>` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSpec {
    /// The URL exactly as the operator wrote it; stats and health name the endpoint by it.
    pub url: Box<str>,
    /// The URL in parts.
    pub target: Target,
    /// The version it serves.
    pub version: VersionName,
    /// Its share among the endpoints of its version; 0 takes nothing.
    pub weight: u32,
    /// Whether it takes requests.
    pub duty: Duty,
    /// The most requests in flight per gateway, where limited.
    pub max_conns: Option<u32>,
}

/// Whether and when an endpoint takes requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Duty {
    /// Takes requests.
    #[default]
    Active,
    /// Takes requests only when no active endpoint of its version is up.
    Backup,
    /// Takes no new requests, finishes what runs.
    Drain,
    /// As if it were not there.
    Off,
}

/// An endpoint URL in parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Whether the upstream speaks TLS.
    pub tls: bool,
    /// Host name or address, as written, IPv6 without brackets.
    pub host: Box<str>,
    /// Port, 80 or 443 where the URL names none.
    pub port: u16,
    /// The `host[:port]` of the URL, as `Host` header.
    pub authority: Box<str>,
    /// The path as written, at least `/`.
    pub path: Box<str>,
}

/// The decoded `endpoints:<svc>`: URL to endpoint, in the order of the URLs.
pub type Endpoints = BTreeMap<Box<str>, EndpointSpec>;
