//! One call: the request of a record, sent to an endpoint, and what came of it.
//!
//! Each call makes a connection of its own, whose making is not part of its time: both versions are
//! asked alike.

use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioExecutor;
use tokio::time::{Instant, timeout, timeout_at};

use super::desk::Job;
use crate::judge::compare::Ending;
use crate::model::endpoint::{EndpointSpec, Target};
use crate::model::path;
use crate::model::settings::{Effective, HostHeader, Settings};
use crate::review::Heard;
use crate::shadow::Record;
use crate::transport::{self, TlsConfigs, UpstreamIo};

/// Longer answers than so many times `max_body` are not read to their end.
const LONGER: u64 = 4;
/// Nor are answers longer than this, where that is more.
const ANSWER_MAX: u64 = 1 << 20;
/// How long looking up a name may take.
const LOOK_UP_MAX: Duration = Duration::from_secs(5);

/// Headers that belong to one connection, frame the body, or would let a replay pass for the
/// original.
const NOT_SENT: [&str; 14] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "idempotency-key",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

/// Makes calls.
#[derive(Debug, Default)]
pub(super) struct Caller {
    tls: TlsConfigs,
    turn: Cell<usize>,
}

/// What came of a call, and the URL that was asked.
pub(super) struct Called {
    pub(super) heard: Heard,
    pub(super) url: String,
}

/// A request that is ready to be sent to any endpoint.
pub(super) struct Replay {
    method: Method,
    headers: HeaderMap,
    host: Option<HeaderValue>,
    path: Option<String>,
    body: Bytes,
}

impl Replay {
    /// The request of a record; `None` where it makes none.
    pub(super) fn of(record: &Record, settings: &Effective) -> Option<Self> {
        let mut headers = HeaderMap::new();
        for (name, value) in &record.request.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            let own = name.as_str().starts_with("x-smartlink-");
            let removed = settings.remove_request_headers.contains(&name);
            if own || removed || NOT_SENT.contains(&name.as_str()) {
                continue;
            }
            headers.insert(name, latin1(value)?);
        }
        for (name, value) in &settings.set_request_headers {
            headers.insert(name.clone(), value.clone());
        }
        headers.insert("x-request-id", latin1(&record.id)?);
        headers.insert("x-smartlink-shadow", HeaderValue::from_static("1"));
        let host = match settings.host_header {
            HostHeader::Client => record.request.headers.get("host"),
            HostHeader::Upstream => None,
        };
        Some(Self {
            method: Method::from_bytes(record.request.method.as_bytes()).ok()?,
            headers,
            host: host.and_then(|host| latin1(host)),
            path: record.request.path.clone(),
            body: record.request.body.to_bytes()?.into(),
        })
    }

    /// Path and query at an endpoint.
    pub(super) fn path_at(&self, target: &Target) -> String {
        match &self.path {
            None => target.path.to_string(),
            Some(path) => {
                let (path, query) = match path.split_once('?') {
                    Some((path, query)) => (path, Some(query)),
                    None => (path.as_str(), None),
                };
                path::join(&target.path, path, query)
            }
        }
    }

    /// The URL at an endpoint.
    pub(super) fn url_at(&self, target: &Target) -> String {
        let scheme = if target.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", target.authority, self.path_at(target))
    }

    fn request(&self, target: &Target, http2: bool) -> io::Result<Request<Full<Bytes>>> {
        let uri = if http2 {
            self.url_at(target)
        } else {
            self.path_at(target)
        };
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri.parse::<Uri>().map_err(io::Error::other)?;
        request.headers_mut().clone_from(&self.headers);
        if !http2 {
            let own = || HeaderValue::from_str(&target.authority).map_err(io::Error::other);
            let host = self.host.clone().map_or_else(own, Ok)?;
            request.headers_mut().insert(HOST, host);
        }
        Ok(request)
    }
}

/// A header's value: each character is the byte of that number.
fn latin1(text: &str) -> Option<HeaderValue> {
    let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
    HeaderValue::from_bytes(&bytes?).ok()
}

impl Caller {
    /// Asks one of these endpoints; the next one where one cannot be reached.
    pub(super) async fn call(&self, replay: &Replay, job: &Job, at: &[&EndpointSpec]) -> Called {
        let first = self.turn.get();
        self.turn.set(first.wrapping_add(1));
        let mut url = String::new();
        for step in 0..at.len() {
            let Some(spec) = at.get((first.wrapping_add(step)) % at.len()) else {
                break;
            };
            url = replay.url_at(&spec.target);
            if let Ok(io) = self.connect(&spec.target, &job.settings).await {
                let heard = exchange(io, replay, &spec.target, job).await;
                return Called { heard, url };
            }
        }
        Called {
            heard: Heard::nothing(Ending::Connect, Duration::ZERO),
            url,
        }
    }

    /// Whether one of these endpoints takes a connection.
    pub(super) async fn reaches(&self, job: &Job, at: &[&EndpointSpec]) -> bool {
        for spec in at {
            if self.connect(&spec.target, &job.settings).await.is_ok() {
                return true;
            }
        }
        false
    }

    pub(super) async fn connect(
        &self,
        target: &Target,
        settings: &Effective,
    ) -> io::Result<UpstreamIo> {
        let found = tokio::net::lookup_host((&*target.host, target.port));
        let found = timeout(LOOK_UP_MAX, found)
            .await
            .map_err(io::Error::from)??;
        let addresses: Vec<_> = found.collect();
        let limit = settings.connect_timeout;
        let (tcp, _) = transport::connect(&addresses, limit).await?;
        let now = jiff::Timestamp::now().as_millisecond();
        let now_ms = u64::try_from(now).unwrap_or_default();
        let speak = transport::speak(tcp, target, &settings.transport, &self.tls, now_ms);
        timeout(limit, speak).await.map_err(io::Error::from)?
    }
}

/// Sends the request and reads the answer, within the time-outs of the service.
async fn exchange(io: UpstreamIo, replay: &Replay, target: &Target, job: &Job) -> Heard {
    let began = Instant::now();
    let settings = &job.settings;
    let most = ANSWER_MAX.max(LONGER * job.policy.max_body);
    let end = settings.total.map(|total| began + total);
    let head_by = end
        .unwrap_or(began + settings.timeout)
        .min(began + settings.timeout);
    let answer = match timeout_at(head_by, send(io, replay, target, settings)).await {
        Err(_elapsed) => return Heard::nothing(Ending::Timeout, began.elapsed()),
        Ok(Err(_broken)) => return Heard::nothing(Ending::Reset, began.elapsed()),
        Ok(Ok(answer)) => answer,
    };
    let (parts, mut body) = answer.into_parts();
    let content_type = parts.headers.get(CONTENT_TYPE);
    let content_type = content_type.map(|it| String::from_utf8_lossy(it.as_bytes()).into_owned());
    let mut bytes = Vec::new();
    let ending = loop {
        let stall = Instant::now() + settings.stall;
        let frame = timeout_at(end.unwrap_or(stall).min(stall), body.frame());
        match frame.await {
            Err(_elapsed) => break Ending::Timeout,
            Ok(None) => break Ending::Whole,
            Ok(Some(Err(_broken))) => break Ending::Cut,
            Ok(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    bytes.extend_from_slice(data);
                }
            }
        }
        if bytes.len() as u64 > most {
            break Ending::TooLarge;
        }
    };
    Heard {
        ending,
        status: parts.status.as_u16(),
        content_type,
        body: bytes,
        took: began.elapsed(),
    }
}

async fn send(
    io: UpstreamIo,
    replay: &Replay,
    target: &Target,
    settings: &Effective,
) -> io::Result<http::Response<Incoming>> {
    let http2 = transport::speaks_http2(&io, &settings.transport);
    let request = replay.request(target, http2)?;
    // How the connection ends shows in the answer.
    if http2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io)
            .await
            .map_err(io::Error::other)?;
        tokio::task::spawn_local(async move { drop(connection.await) });
        sender.send_request(request).await.map_err(io::Error::other)
    } else {
        let (mut sender, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
        tokio::task::spawn_local(async move { drop(connection.await) });
        sender.send_request(request).await.map_err(io::Error::other)
    }
}

/// What is posted, and what may come of it.
pub(super) struct Post<'p> {
    pub(super) target: &'p Target,
    /// JSON.
    pub(super) body: String,
    /// Sent only where nobody else can read it.
    pub(super) authorization: Option<HeaderValue>,
    /// How long it may take.
    pub(super) limit: Duration,
    /// The most of the answer.
    pub(super) most: usize,
}

/// Posts JSON to a scorer and reads its answer.
pub(super) async fn post(caller: &Caller, post: Post<'_>) -> io::Result<Vec<u8>> {
    let settings = Effective::merge(&Settings::default(), &Settings::default());
    let (target, limit) = (post.target, post.limit);
    let exchange = async {
        let io = caller.connect(target, &settings).await?;
        let mut request = Request::post(&*target.path)
            .header(HOST, &*target.authority)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(post.body)))
            .map_err(io::Error::other)?;
        if let Some(key) = post.authorization.filter(|_| is_private(target)) {
            request.headers_mut().insert(AUTHORIZATION, key);
        }
        let (mut sender, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
        tokio::task::spawn_local(async move { drop(connection.await) });
        let answer = sender
            .send_request(request)
            .await
            .map_err(io::Error::other)?;
        if !answer.status().is_success() {
            return Err(io::Error::other(format!(
                "status {}",
                answer.status().as_u16()
            )));
        }
        let body = http_body_util::Limited::new(answer.into_body(), post.most);
        let body = body.collect().await.map_err(io::Error::other)?;
        Ok(body.to_bytes().to_vec())
    };
    timeout(limit, exchange).await.map_err(io::Error::from)?
}

/// Whether what is sent there is read by nobody else: it is encrypted, or stays on this machine.
fn is_private(target: &Target) -> bool {
    let address = target.host.parse::<IpAddr>();
    target.tls || &*target.host == "localhost" || address.is_ok_and(|ip| ip.is_loopback())
}
