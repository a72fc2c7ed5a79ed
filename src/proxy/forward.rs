//! From a known service to the head of its answer: version, endpoint, connection, clocks.

use std::borrow::Cow;
use std::fmt::Display;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use tokio::time::Instant;

use super::body::{AnswerBody, Fate, SendBody};
use super::error::Error;
use super::handler::Exchange;
use super::headers::{self, Origin, SERVER_TIMING, VERSION};
use super::keys::Keys;
use super::tunnel::Tunnel;
use super::upstream::{self, Answer, Asking, Broken, ConnectError, Lease, Patience, SendError};
use crate::model::settings::{Effective, HostHeader};
use crate::model::table::{Endpoint, Service, Version};
use crate::policy::balance::Picked;
use crate::policy::health::{Report, Seen};
use crate::policy::{balance, health, retry, route, version};

/// How often a request that was not sent is given to another connection of the same endpoint.
const UNSENT_MAX: u32 = 3;

/// A request whose service is known.
pub(super) struct Call<'a> {
    pub(super) service: &'a Arc<Service>,
    /// The version a route pins.
    pub(super) pinned: Option<&'a str>,
    pub(super) keys: Keys,
    /// What is appended to the endpoint's path; `None`: the named entry, which appends nothing.
    pub(super) path: Option<Box<str>>,
    pub(super) parts: Parts,
    pub(super) body: SendBody,
}

/// An exchange that reached an upstream.
struct Reached {
    lease: Lease,
    answer: Answer,
    version: Arc<Version>,
    /// Time not spent waiting for the upstream.
    own: Duration,
}

/// Sends the call to an endpoint of its service and brings back the answer's head; the body
/// follows by itself.
pub(super) async fn forward(
    exchange: &Exchange,
    call: Call<'_>,
) -> Result<Response<AnswerBody>, Error> {
    let Call {
        service,
        pinned,
        keys,
        path,
        parts,
        body,
    } = call;
    let settings = &service.settings;
    let upgrade = match (&path, &body) {
        (Some(_), SendBody::Empty) => headers::wanted_upgrade(&parts),
        _ => None,
    };
    let fate = body.fate();
    let deadline = settings.total.map(|total| exchange.started + total);
    let attempt = Attempt {
        exchange,
        service,
        settings,
        pinned,
        keys,
        path: path.as_deref(),
        parts: &parts,
        upgrade: upgrade.as_ref(),
        fate: fate.as_deref(),
        deadline,
    };
    let reached = attempt.reach(body).await?;
    upstream::recycle(parts.headers);
    if reached.answer.response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return switch(exchange, reached, settings, upgrade.is_some());
    }
    Ok(answer(reached, settings, fate, deadline))
}

/// What stays the same over all attempts of one request.
struct Attempt<'a> {
    exchange: &'a Exchange,
    service: &'a Service,
    settings: &'a Effective,
    pinned: Option<&'a str>,
    keys: Keys,
    path: Option<&'a str>,
    parts: &'a Parts,
    upgrade: Option<&'a HeaderValue>,
    fate: Option<&'a Fate>,
    deadline: Option<Instant>,
}

impl Attempt<'_> {
    /// Tries endpoints until one takes the request.
    async fn reach(&self, mut body: SendBody) -> Result<Reached, Error> {
        let chosen =
            version::choose(self.service, self.pinned, self.keys.point).ok_or(Error::NoEndpoint)?;
        // May be repeated although it was sent (RFC 9110 section 9.2.2).
        let repeatable = self.parts.method.is_idempotent() && matches!(body, SendBody::Empty);
        let mut patience = if repeatable {
            Patience::Kept
        } else {
            Patience::Recent
        };
        let (mut tried, mut last, mut unsent) = (Vec::new(), None, 0);
        while let Some((version, endpoint)) = self.next(chosen, &tried) {
            let mut lease = match self.lend(endpoint, patience).await? {
                Ok(lease) => lease,
                Err(error) => {
                    tried.push(endpoint.pool);
                    self.saw(version, endpoint, Seen::ConnectFailed, &error);
                    last = Some(connect_error(error));
                    if retry::connect_again(self.settings, tried.len()) {
                        continue;
                    }
                    break;
                }
            };
            let sent = Instant::now();
            match self.ask(&mut lease, endpoint, body, sent).await {
                Ok(answer) => {
                    let status = answer.response.status();
                    let seen = if status.is_server_error() {
                        Seen::Failed
                    } else {
                        Seen::Answered
                    };
                    self.saw(version, endpoint, seen, &status);
                    let own = sent - self.exchange.started;
                    return Ok(Reached {
                        lease,
                        answer,
                        version: Arc::clone(version),
                        own,
                    });
                }
                Err(Failed::Unsent(unchanged)) if unsent < UNSENT_MAX => body = unchanged,
                // A kept connection was closed while the request was on its way.
                Err(Failed::Closed) if repeatable && lease.is_reused() && unsent < UNSENT_MAX => {
                    body = SendBody::Empty;
                }
                Err(Failed::Unsent(_) | Failed::Closed) => return Err(Error::UpstreamReset),
                Err(Failed::Other(error)) => return Err(error),
            }
            unsent += 1;
            patience = Patience::Fresh;
        }
        Err(last.unwrap_or(Error::NoEndpoint))
    }

    /// A connection to the endpoint, within what `total` leaves.
    async fn lend(
        &self,
        endpoint: &Arc<Endpoint>,
        patience: Patience,
    ) -> Result<Result<Lease, ConnectError>, Error> {
        let worker = &self.exchange.worker;
        let lending = upstream::lend(worker, endpoint, self.settings, patience);
        let (Some(deadline), Some(total)) = (self.deadline, self.settings.total) else {
            return Ok(lending.await);
        };
        let lent = self.exchange.state.before(deadline, pin!(lending)).await;
        lent.ok_or(Error::UpstreamTimeout("total", total))
    }

    /// Takes note of what was seen of an endpoint, and tells the control half what must follow.
    fn saw(&self, version: &Version, endpoint: &Arc<Endpoint>, seen: Seen, why: &dyn Display) {
        let worker = &self.exchange.worker;
        let now_ms = worker.micros(Instant::now()) / 1000;
        if let Some(finding) = health::observe(endpoint, self.settings, seen, now_ms) {
            worker.report(Report {
                service: self.service.name.clone(),
                version: version.name.clone(),
                endpoint: Arc::clone(endpoint),
                finding,
                why: why.to_string(),
            });
        }
    }

    /// The next endpoint nobody tried: of the chosen version, then of the others.
    fn next<'v>(
        &'v self,
        chosen: &'v Arc<Version>,
        tried: &[u64],
    ) -> Option<(&'v Arc<Version>, &'v Arc<Endpoint>)> {
        if let Picked::Endpoint(endpoint) = balance::pick(chosen, &self.choice(tried)) {
            return Some((chosen, endpoint));
        }
        if !self.settings.spill || self.pinned.is_some() {
            return None;
        }
        version::spill(self.service, chosen).find_map(|version| {
            match balance::pick(version, &self.choice(tried)) {
                Picked::Endpoint(endpoint) => Some((version, endpoint)),
                Picked::Full | Picked::Nobody => None,
            }
        })
    }

    fn choice<'t>(&'t self, tried: &'t [u64]) -> balance::Ask<'t> {
        let worker = &self.exchange.worker;
        balance::Ask {
            settings: self.settings,
            now_us: worker.micros(Instant::now()),
            tried,
            random: worker.random(),
            key: self.keys.balance,
        }
    }

    /// Sends the request and waits for the head of the answer, with the clocks of the service.
    async fn ask(
        &self,
        lease: &mut Lease,
        endpoint: &Endpoint,
        body: SendBody,
        sent: Instant,
    ) -> Result<Answer, Failed> {
        let target = &endpoint.spec.target;
        let path = match self.path {
            None => Cow::Borrowed(&*target.path),
            Some(path) => Cow::Owned(route::join(&target.path, path, self.parts.uri.query())),
        };
        let host = match self.settings.host_header {
            HostHeader::Client => self.exchange.host.as_ref().unwrap_or(&endpoint.host),
            HostHeader::Upstream => &endpoint.host,
        };
        let exchange = self.exchange;
        let origin = Origin {
            state: &exchange.state,
            worker: &exchange.worker,
            request_id: &exchange.request_id,
            host: exchange.host.as_ref(),
        };
        let asking = Asking {
            method: &self.parts.method,
            path: &path,
            host,
            headers: &self.parts.headers,
            origin: &origin,
            settings: self.settings,
            upgrade: self.upgrade,
        };
        let mut asked = pin!(lease.ask(&asking, body));
        let first_look = match self.fate {
            Some(_) => self.settings.stall.min(self.settings.timeout),
            None => self.settings.timeout,
        };
        let mut until = sent + first_look;
        loop {
            let wake = self.deadline.map_or(until, |deadline| deadline.min(until));
            match exchange.state.before(wake, asked.as_mut()).await {
                Some(done) => return done.map_err(|error| self.failed(error)),
                None => until = self.expired(sent).map_err(Failed::Other)?,
            }
        }
    }

    /// Which clock ran out, or when to look again: while a body is on its way up, its pauses
    /// count, not its length.
    fn expired(&self, sent: Instant) -> Result<Instant, Error> {
        let now = Instant::now();
        if let (Some(deadline), Some(total)) = (self.deadline, self.settings.total)
            && now >= deadline
        {
            return Err(Error::UpstreamTimeout("total", total));
        }
        let (clock, length, since) = match self.fate {
            Some(fate) if !fate.done.get() => ("stall", self.settings.stall, fate.progress.get()),
            Some(fate) => ("timeout", self.settings.timeout, fate.progress.get()),
            None => ("timeout", self.settings.timeout, sent),
        };
        let until = since.max(sent) + length;
        if now >= until {
            Err(Error::UpstreamTimeout(clock, length))
        } else {
            // A body that ends meanwhile starts the other clock.
            Ok(until.min(now + self.settings.timeout))
        }
    }

    fn failed(&self, error: SendError) -> Failed {
        if let Some(why) = self.fate.and_then(|fate| fate.error.borrow().clone()) {
            return Failed::Other(why);
        }
        match error {
            SendError::Unsent(body) => Failed::Unsent(body),
            SendError::Broken(Broken::Closed) => Failed::Closed,
            SendError::Broken(Broken::Protocol) => Failed::Other(Error::BadResponse),
            SendError::Cut => Failed::Other(Error::ClientGone),
        }
    }
}

/// How an attempt failed on a connection that was there.
enum Failed {
    /// Nothing was sent.
    Unsent(SendBody),
    /// The upstream closed without an answer: it may have seen the request.
    Closed,
    Other(Error),
}

fn connect_error(error: ConnectError) -> Error {
    match error {
        ConnectError::Timeout(length) => Error::UpstreamTimeout("connect_timeout", length),
        ConnectError::Failed(why) => Error::ConnectFailed(why),
    }
}

/// The answer as the client gets it.
fn answer(
    reached: Reached,
    settings: &Effective,
    fate: Option<Rc<Fate>>,
    deadline: Option<Instant>,
) -> Response<AnswerBody> {
    let Reached {
        lease,
        answer,
        version,
        own,
    } = reached;
    let mut response = answer.response;
    let head = response.headers_mut();
    headers::edit_answer(head, settings);
    if settings.expose_headers {
        head.insert(VERSION, version.name_header.clone());
        head.append(SERVER_TIMING, timing(own));
    }
    let body = AnswerBody::upstream(lease, fate, settings.stall, deadline);
    response.map(|()| body)
}

/// `gateway;dur=` in milliseconds: the time the gateway itself took (W3C Server Timing).
fn timing(own: Duration) -> HeaderValue {
    const WORDS: usize = "gateway;dur=".len();
    let mut text = *b"gateway;dur=      0.000";
    let mut micros = own.as_micros().min(9_999_999_999);
    let mut first = text.len() - 5;
    for (at, digit) in text
        .iter_mut()
        .enumerate()
        .rev()
        .filter(|(_, digit)| **digit != b'.')
    {
        if micros == 0 || at < WORDS {
            break;
        }
        *digit = b'0' + u8::try_from(micros % 10).unwrap_or(0);
        micros /= 10;
        first = first.min(at);
    }
    // The digits move up to the words.
    let digits = text.len() - first;
    text.copy_within(first.., WORDS);
    HeaderValue::from_bytes(text.get(..WORDS + digits).unwrap_or_default())
        .unwrap_or(HeaderValue::from_static("gateway"))
}

/// The upstream switched protocols: the connection hands the client's socket to a tunnel as soon
/// as this answer is written.
fn switch(
    exchange: &Exchange,
    reached: Reached,
    settings: &Effective,
    asked: bool,
) -> Result<Response<AnswerBody>, Error> {
    let Reached {
        lease,
        answer,
        version,
        ..
    } = reached;
    let (Some(protocol), true) = (answer.upgrade, asked) else {
        return Err(Error::BadResponse);
    };
    let (io, read_buf, guard) = lease.into_switched().ok_or(Error::BadResponse)?;
    let mut response = answer.response;
    let head = response.headers_mut();
    headers::edit_answer(head, settings);
    head.remove(CONTENT_LENGTH);
    head.insert(UPGRADE, protocol);
    head.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if settings.expose_headers {
        head.insert(VERSION, version.name_header.clone());
    }
    exchange.state.tunnel.replace(Some(Box::new(Tunnel {
        io,
        read_buf,
        stall: settings.stall,
        guard,
    })));
    Ok(response.map(|()| AnswerBody::empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateways_own_time_is_in_milliseconds() {
        for (micros, expected) in [
            (0, "0.000"),
            (7, "0.007"),
            (171, "0.171"),
            (1_000, "1.000"),
            (23_456, "23.456"),
            (1_234_567_890, "1234567.890"),
            (u64::MAX, "9999999.999"),
        ] {
            let value = timing(Duration::from_micros(micros));
            assert_eq!(value, format!("gateway;dur={expected}"));
        }
    }
}
