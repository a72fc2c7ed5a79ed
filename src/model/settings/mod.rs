//! The settings of a service, and of `defaults`.
//!
//! A `Settings` says only what a hash says; `Effective` is a service's settings over the defaults
//! over what is built in.

mod decode;

pub use decode::decode;

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::name::Name;
use super::networks::Networks;
use super::quota::{Quota, RateLimit};

/// One place in a request from which a key is taken: for `sticky`, `hash:` and `rate_by`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A request header.
    Header(HeaderName),
    /// A cookie.
    Cookie(Box<str>),
    /// A parameter of the query string.
    Query(Box<str>),
    /// A value in the JSON body, by pointer (RFC 6901); named entry only.
    Json(Box<str>),
    /// The client's address.
    Ip,
    /// The caller's token.
    Token,
}

/// How an endpoint is chosen among those of a version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// Live response time and requests in flight.
    #[default]
    LeastTime,
    /// In turn.
    RoundRobin,
    /// In turn, smoothly by weight.
    Weighted,
    /// Fewest requests in flight.
    LeastConn,
    /// By chance.
    Random,
    /// By a consistent hash of a key.
    Hash(KeySource),
}

/// What beside a failed connect may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RetryOn {
    /// The connection could not be made: nothing was sent.
    Connect,
    /// The connection broke before an answer.
    Reset,
    /// No answer in time.
    Timeout,
    /// The upstream answered 502.
    Status502,
    /// The upstream answered 503.
    Status503,
    /// The upstream answered 504.
    Status504,
}

/// How endpoints are checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HealthCheck {
    /// By the traffic itself.
    #[default]
    Passive,
    /// By connecting.
    Tcp,
    /// By asking for a path.
    Http(Box<str>),
}

/// Whose requests a rate counts together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RateBy {
    /// All of the service.
    #[default]
    Service,
    /// Each key its own.
    Key(KeySource),
}

/// Where a rate is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RateScope {
    /// By each gateway.
    #[default]
    Gateway,
    /// By all gateways together.
    Shared,
}

/// Events per second, exact: `count` in `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u64,
    /// In how long.
    pub per: Duration,
}

/// One way to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Anybody.
    Open,
    /// A token of ours.
    Token,
    /// A JWT of this issuer.
    Jwt(Name),
}

/// Which web origins may read answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cors {
    /// None: preflights are ordinary requests.
    Off,
    /// All, `*`.
    Any,
    /// These, compared exactly.
    Origins(Vec<HeaderValue>),
}

/// Which `Host` the upstream sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostHeader {
    /// The endpoint's own.
    #[default]
    Upstream,
    /// The client's.
    Client,
}

/// A value that may be switched off: `off` in the text is `Off`, silence is `None` outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit<T> {
    /// No limit.
    Off,
    /// This much.
    At(T),
}

impl<T> Limit<T> {
    /// The limit, where there is one.
    #[must_use]
    pub fn at(self) -> Option<T> {
        match self {
            Self::Off => None,
            Self::At(value) => Some(value),
        }
    }
}

/// What one hash says; a field it does not name is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(
    missing_docs,
    reason = "each field is the setting of the same name; the manual explains it once"
)]
pub struct Settings {
    pub balance: Option<Balance>,
    pub sticky: Option<Limit<KeySource>>,
    pub spill: Option<bool>,
    pub connect_timeout: Option<Duration>,
    pub timeout: Option<Duration>,
    pub stall: Option<Duration>,
    pub total: Option<Limit<Duration>>,
    pub retries: Option<u32>,
    pub retry_on: Option<Vec<RetryOn>>,
    pub retry_unsafe: Option<bool>,
    pub retry_budget: Option<f64>,
    pub health: Option<HealthCheck>,
    pub health_interval: Option<Duration>,
    pub health_timeout: Option<Duration>,
    pub fall: Option<u32>,
    pub rise: Option<u32>,
    pub eject_5xx: Option<Limit<u32>>,
    pub eject_time: Option<Duration>,
    pub max_ejected: Option<f64>,
    pub slow_start: Option<Limit<Duration>>,
    pub hold: Option<Duration>,
    pub rate: Option<Limit<Rate>>,
    pub burst: Option<u32>,
    pub rate_scope: Option<RateScope>,
    pub rate_by: Option<RateBy>,
    pub concurrency: Option<Limit<u32>>,
    pub queue: Option<u32>,
    pub queue_timeout: Option<Duration>,
    pub max_body: Option<u64>,
    pub max_stream: Option<Limit<u64>>,
    pub auth: Option<Vec<Auth>>,
    pub cors: Option<Cors>,
    pub cors_credentials: Option<bool>,
    pub cors_max_age: Option<Duration>,
    pub allow_ip: Option<Networks>,
    pub deny_ip: Option<Networks>,
    pub forward_credentials: Option<bool>,
    pub enabled: Option<bool>,
    pub host_header: Option<HostHeader>,
    pub tls_verify: Option<bool>,
    pub tls_ca: Option<Box<str>>,
    pub tls_name: Option<Box<str>>,
    pub http2: Option<bool>,
    pub set_request_headers: Option<HeaderList>,
    pub set_response_headers: Option<HeaderList>,
    pub remove_request_headers: Option<Vec<HeaderName>>,
    pub remove_response_headers: Option<Vec<HeaderName>>,
    pub expose_headers: Option<bool>,
}

/// Headers to set, in the order written.
pub type HeaderList = Vec<(HeaderName, HeaderValue)>;

/// How an upstream is reached: what makes two connections interchangeable, beside the address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Transport {
    /// Certificates are not checked.
    pub tls_insecure: bool,
    /// A PEM file of authorities, instead of the public ones.
    pub tls_ca: Option<Box<str>>,
    /// The name in the certificate and in SNI, where it is not the URL's host.
    pub tls_name: Option<Box<str>>,
    /// HTTP/2: by ALPN for https, by prior knowledge for http.
    pub http2: bool,
}

/// The settings in force for one service.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch that an operator has"
)]
#[expect(
    missing_docs,
    reason = "each field is the setting of the same name; the manual explains it once"
)]
pub struct Effective {
    pub enabled: bool,
    pub balance: Balance,
    pub spill: bool,
    pub connect_timeout: Duration,
    pub timeout: Duration,
    pub stall: Duration,
    pub total: Option<Duration>,
    pub sticky: Option<KeySource>,
    pub retries: u32,
    pub retry_on: Vec<RetryOn>,
    pub retry_unsafe: bool,
    /// The most repeats of sent requests, as a part of all requests.
    pub retry_budget: f64,
    pub health: HealthCheck,
    pub health_interval: Duration,
    pub health_timeout: Duration,
    pub fall: u32,
    pub rise: u32,
    pub eject_5xx: Option<u32>,
    pub eject_time: Duration,
    /// The most endpoints of a version that are ejected at once, as a part of all.
    pub max_ejected: f64,
    pub slow_start: Option<Duration>,
    pub hold: Duration,
    /// `rate` and what belongs to it.
    pub rate: Option<RateLimit>,
    pub concurrency: Option<u32>,
    pub queue: u32,
    pub queue_timeout: Duration,
    pub max_body: u64,
    pub max_stream: Option<u64>,
    /// Named entry: what `cors` says, `*` where nobody says.
    pub cors_entry: Cors,
    /// Routed requests: what `cors` says, off where nobody says.
    pub cors_routed: Cors,
    /// Whether pages of listed origins may send cookies and read what comes of it.
    pub cors_credentials: bool,
    /// How long a browser may remember a preflight.
    pub cors_max_age: Duration,
    /// Ways to be let in, any of which suffices; empty: anybody is.
    pub auth: Vec<Auth>,
    /// From where requests are let in; `None`: from everywhere.
    pub allow_ip: Option<Networks>,
    /// From where they are not, whatever `allow_ip` says.
    pub deny_ip: Option<Networks>,
    pub forward_credentials: bool,
    pub host_header: HostHeader,
    pub transport: Transport,
    pub set_request_headers: HeaderList,
    pub set_response_headers: HeaderList,
    pub remove_request_headers: Vec<HeaderName>,
    pub remove_response_headers: Vec<HeaderName>,
    pub expose_headers: bool,
}

impl Effective {
    /// The settings that want a key from the body, by name.
    pub fn keyed_by_body(&self) -> impl Iterator<Item = &'static str> {
        let is_json = |source: &KeySource| matches!(source, KeySource::Json(_));
        let sticky = self.sticky.as_ref().is_some_and(is_json);
        let balance = matches!(&self.balance, Balance::Hash(source) if is_json(source));
        let by = self.rate.as_ref().map(|limit| &limit.by);
        let rate = matches!(by, Some(RateBy::Key(source)) if is_json(source));
        let wanted = [("sticky", sticky), ("balance", balance), ("rate_by", rate)];
        wanted
            .into_iter()
            .filter(|(_, json)| *json)
            .map(|(name, _)| name)
    }

    /// `service` over `defaults` over what is built in.
    #[must_use]
    pub fn merge(service: &Settings, defaults: &Settings) -> Self {
        macro_rules! said {
            ($field:ident) => {
                service.$field.clone().or_else(|| defaults.$field.clone())
            };
        }
        // Whoever says which origins says whether with credentials: no list is widened from afar.
        let speaks = if service.cors.is_some() {
            service
        } else {
            defaults
        };
        let cors = speaks.cors.clone();
        Self {
            enabled: said!(enabled).unwrap_or(true),
            balance: said!(balance).unwrap_or_default(),
            spill: said!(spill).unwrap_or(true),
            connect_timeout: said!(connect_timeout).unwrap_or(Duration::from_secs(2)),
            timeout: said!(timeout).unwrap_or(Duration::from_mins(1)),
            stall: said!(stall).unwrap_or(Duration::from_mins(1)),
            total: said!(total).and_then(Limit::at),
            retries: said!(retries).unwrap_or(2),
            sticky: said!(sticky).and_then(Limit::at),
            retry_on: said!(retry_on).unwrap_or_else(|| vec![RetryOn::Connect]),
            retry_unsafe: said!(retry_unsafe).unwrap_or(false),
            retry_budget: said!(retry_budget).unwrap_or(0.2),
            health: said!(health).unwrap_or_default(),
            health_interval: said!(health_interval).unwrap_or(Duration::from_secs(5)),
            health_timeout: said!(health_timeout).unwrap_or(Duration::from_secs(1)),
            fall: said!(fall).unwrap_or(1),
            rise: said!(rise).unwrap_or(1),
            eject_5xx: said!(eject_5xx).unwrap_or(Limit::At(5)).at(),
            eject_time: said!(eject_time).unwrap_or(Duration::from_secs(10)),
            max_ejected: said!(max_ejected).unwrap_or(1.0),
            slow_start: said!(slow_start).and_then(Limit::at),
            hold: said!(hold).unwrap_or_default(),
            rate: said!(rate).and_then(Limit::at).map(|rate| {
                let quota = Quota::new(rate, said!(burst));
                let (by, scope) = (said!(rate_by), said!(rate_scope));
                RateLimit::new(quota, by.unwrap_or_default(), scope.unwrap_or_default())
            }),
            concurrency: said!(concurrency).and_then(Limit::at),
            queue: said!(queue).unwrap_or(0),
            queue_timeout: said!(queue_timeout).unwrap_or(Duration::from_secs(1)),
            max_body: said!(max_body).unwrap_or(MAX_BODY),
            max_stream: said!(max_stream).and_then(Limit::at),
            cors_entry: cors.clone().unwrap_or(Cors::Any),
            cors_routed: cors.unwrap_or(Cors::Off),
            cors_credentials: speaks.cors_credentials.unwrap_or(false),
            cors_max_age: said!(cors_max_age).unwrap_or(Duration::from_mins(10)),
            auth: ways_in(said!(auth)),
            allow_ip: said!(allow_ip),
            deny_ip: said!(deny_ip),
            forward_credentials: said!(forward_credentials).unwrap_or(false),
            host_header: said!(host_header).unwrap_or_default(),
            transport: Transport {
                tls_insecure: !said!(tls_verify).unwrap_or(true),
                tls_ca: said!(tls_ca),
                tls_name: said!(tls_name),
                http2: said!(http2).unwrap_or(false),
            },
            set_request_headers: said!(set_request_headers).unwrap_or_default(),
            set_response_headers: said!(set_response_headers).unwrap_or_default(),
            remove_request_headers: said!(remove_request_headers).unwrap_or_default(),
            remove_response_headers: said!(remove_response_headers).unwrap_or_default(),
            expose_headers: said!(expose_headers).unwrap_or(true),
        }
    }
}

/// The largest body of the named entry where no setting says otherwise.
pub const MAX_BODY: u64 = 10 * 1024 * 1024;

/// Where `open` stands alone nobody is asked for anything.
fn ways_in(auth: Option<Vec<Auth>>) -> Vec<Auth> {
    let ways = auth.unwrap_or_default();
    if ways.iter().all(|way| *way == Auth::Open) {
        return Vec::new();
    }
    ways
}
