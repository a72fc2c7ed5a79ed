//! Routes: which requests, other than those of the named entry, go to which service.

use http::{HeaderName, Method};

use super::name::{Name, ServiceName, VersionName};

/// The decoded `route:<id>`.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its id.
    pub id: Name,
    /// The service it leads to.
    pub service: ServiceName,
    /// Which paths it takes.
    pub path: PathMatch,
    /// Which hosts it takes.
    pub host: HostMatch,
    /// Which methods it takes; empty: all.
    pub methods: Vec<Method>,
    /// Headers that must be there.
    pub headers: Vec<(HeaderName, ValueMatch)>,
    /// Query parameters that must be there.
    pub query: Vec<(Box<str>, ValueMatch)>,
    /// Whether the matched prefix is taken off.
    pub strip_prefix: bool,
    /// The new path, with `$1` from the regex.
    pub rewrite: Option<Box<str>>,
    /// The version it pins.
    pub version: Option<VersionName>,
    /// Higher wins before everything else.
    pub priority: i32,
    /// Whether it is there at all.
    pub enabled: bool,
}

/// Which paths a route takes.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// All.
    Any,
    /// This one.
    Exact(Box<str>),
    /// Those that start with this, which ends in `/`.
    Prefix(Box<str>),
    /// Those that match as a whole.
    Regex(regex::Regex),
}

/// Which hosts a route takes; compared without port and case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostMatch {
    /// All.
    Any,
    /// This one, lower case.
    Exact(Box<str>),
    /// Those below this domain: `.example.com`, lower case.
    Below(Box<str>),
}

/// What a header or query parameter must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueMatch {
    /// Present.
    Present,
    /// Exactly this.
    Exact(Box<str>),
}
