//! One attempt: a connection, the request on its way, the head of the answer, within the clocks of
//! the service.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Journey;
use super::reach::Reached;
use super::seat::Seat;
use crate::model::settings::{Effective, HostHeader};
use crate::model::table::{Endpoint, Version};
use crate::policy::balance::least_time;
use crate::policy::health::Seen;
use crate::policy::retry::Failure;
use crate::policy::route;
use crate::proxy::body::{Fate, SendBody};
use crate::proxy::error::Error;
use crate::proxy::handler::Exchange;
use crate::proxy::headers::Origin;
use crate::proxy::micros;
use crate::proxy::upstream::{
    self, Answer, Asking, Broken, ConnectError, InFlight, Lease, Patience, SendError,
};

/// An attempt that brought no answer.
pub(super) struct Setback {
    /// What it was, where another attempt may do better.
    pub(super) failure: Option<Failure>,
    /// What the client is told if this was the last.
    pub(super) error: Error,
    pub(super) version: Arc<Version>,
    /// The endpoint's `pool`.
    pub(super) pool: u64,
    /// The request's body, where it can be sent again.
    pub(super) body: Option<SendBody>,
}

/// How sending failed.
enum Failed {
    /// Nothing was sent.
    Unsent(SendBody),
    /// The upstream closed without an answer: it may have seen the request.
    Closed,
    /// What it sent is no answer.
    Malformed,
    /// This clock of the endpoint ran out.
    Late(&'static str, Duration),
    /// The client's doing.
    Client(Error),
}

impl Journey<'_> {
    /// Tries one endpoint.
    pub(super) async fn attempt(
        &self,
        settings: &Effective,
        Seat {
            version,
            place,
            since_us,
        }: Seat,
        body: SendBody,
        patience: Patience,
    ) -> Result<Reached, Setback> {
        let worker = &self.exchange.worker;
        let endpoint = place.endpoint();
        let setback = |failure, error, body| Setback {
            failure,
            error,
            version: Arc::clone(&version),
            pool: endpoint.pool,
            body,
        };
        let pending = Pending::begin(self, &version, &place, since_us);
        let mut lease = match self.lend(endpoint, settings, patience, since_us).await {
            Ok(lease) => lease,
            Err((failure, error)) => {
                if failure.is_some() {
                    pending.failed(worker.now_us());
                }
                return Err(setback(failure, error, Some(body)));
            }
        };
        // A kept connection was there at once.
        let reused = lease.is_reused();
        let sent_us = if reused { since_us } else { worker.now_us() };
        let again = match &body {
            SendBody::Empty => Some(SendBody::Empty),
            SendBody::Full(bytes) if self.repeatable => Some(SendBody::Full(bytes.clone())),
            SendBody::Full(_) | SendBody::Stream(_) => None,
        };
        let asked = self
            .ask(&mut lease, endpoint, settings, body, sent_us)
            .await;
        let now_us = worker.now_us();
        let failed = match asked {
            Ok(answer) => {
                let status = answer.response.status();
                let seen = if status.is_server_error() {
                    pending.failed(now_us);
                    Seen::Failed
                } else {
                    pending.answered(now_us, sent_us);
                    if lease.is_done() {
                        Seen::Answered
                    } else {
                        Seen::Begun
                    }
                };
                worker.saw(endpoint, settings, (seen, now_us), &status);
                self.exchange.state.record.first_byte(now_us);
                return Ok(Reached {
                    lease,
                    place,
                    answer,
                    version,
                    again,
                    own_us: sent_us - self.exchange.state.record.started_us(),
                });
            }
            Err(failed) => failed,
        };
        let spare = self.repeatable && again.is_some();
        let meaning = failed.explain(reused, spare, Duration::from_micros(now_us - sent_us));
        if let Some(why) = meaning.blame {
            pending.failed(now_us);
            worker.saw(endpoint, settings, (Seen::Failed, now_us), &why);
        }
        let body = match failed {
            Failed::Unsent(body) => Some(body),
            _ => again.or_else(|| lease.take_untouched()),
        };
        Err(setback(meaning.failure, meaning.error, body))
    }

    /// A connection to the endpoint, within what `total` leaves.
    async fn lend(
        &self,
        endpoint: &Arc<Endpoint>,
        settings: &Effective,
        patience: Patience,
        since_us: u64,
    ) -> Result<Lease, (Option<Failure>, Error)> {
        let exchange = self.exchange;
        let worker = &exchange.worker;
        let lending = pin!(upstream::lend(worker, endpoint, settings, patience));
        let lent = match self.deadline {
            None => Some(lending.await),
            Some((deadline, _)) => {
                let deadline_us = worker.micros(deadline);
                exchange.state.before(deadline_us, lending).await
            }
        };
        let Some(lent) = lent else {
            let total = self.deadline.map(|(_, total)| total).unwrap_or_default();
            let now_us = worker.now_us();
            if is_most_of(Duration::from_micros(now_us - since_us), total) {
                let sight = (Seen::ConnectFailed, now_us);
                worker.saw(endpoint, settings, sight, &"total ran out");
            }
            return Err((None, Error::UpstreamTimeout("total", total)));
        };
        if let Ok(lease) = &lent {
            let took = || {
                if lease.is_reused() {
                    0
                } else {
                    worker.now_us() - since_us
                }
            };
            let record = &exchange.state.record;
            record.note(|line| line.connect_us = took());
            if record.is_copied() {
                record.connected(took());
            }
        }
        lent.map_err(|error| {
            let sight = (Seen::ConnectFailed, worker.now_us());
            if !matches!(error, ConnectError::Ours(_)) {
                worker.saw(endpoint, settings, sight, &error);
            }
            let failed = Some(Failure::Connect);
            match error {
                ConnectError::Failed(why) => (failed, Error::ConnectFailed(why)),
                ConnectError::Timeout(length) => {
                    (failed, Error::UpstreamTimeout("connect_timeout", length))
                }
                ConnectError::Ours(what) => (None, Error::Overloaded(what)),
            }
        })
    }

    /// Sends the request and waits for the head of the answer, with the clocks of the service.
    async fn ask(
        &self,
        lease: &mut Lease,
        endpoint: &Endpoint,
        settings: &Effective,
        body: SendBody,
        sent_us: u64,
    ) -> Result<Box<Answer>, Failed> {
        let target = &endpoint.spec.target;
        let path = match self.path {
            None => Cow::Borrowed(&*target.path),
            Some(path) => Cow::Owned(route::join(&target.path, path, self.parts.uri.query())),
        };
        let exchange = self.exchange;
        let host = match settings.host_header {
            HostHeader::Client => exchange.host.as_ref().unwrap_or(&endpoint.host),
            HostHeader::Upstream => &endpoint.host,
        };
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
            settings,
            hidden: self.caller.hidden,
            upgrade: self.upgrade,
        };
        let mut asked = pin!(lease.ask(&asking, body, endpoint));
        let first_look = match self.fate {
            Some(_) => settings.stall.min(settings.timeout),
            None => settings.timeout,
        };
        let mut until_us = sent_us + micros(first_look);
        loop {
            let wake_us = self.deadline.map_or(until_us, |(end, _)| {
                exchange.worker.micros(end).min(until_us)
            });
            match exchange.state.before(wake_us, asked.as_mut()).await {
                Some(done) => return done.map_err(|error| self.failed(error)),
                None => until_us = self.expired(settings, sent_us)?,
            }
        }
    }

    /// Which clock ran out, or when to look again: while a body is on its way up, its pauses
    /// count, not its length.
    fn expired(&self, settings: &Effective, sent_us: u64) -> Result<u64, Failed> {
        let worker = &self.exchange.worker;
        let now = Instant::now();
        if let Some((_, total)) = self.deadline.filter(|(end, _)| now >= *end) {
            return Err(Failed::Late("total", total));
        }
        let (clock, length) = match self.fate {
            Some(fate) if !fate.done.get() => ("stall", settings.stall),
            _ => ("timeout", settings.timeout),
        };
        let progress_us = self.fate.map(|fate| worker.micros(fate.progress.get()));
        let until_us = progress_us.map_or(sent_us, |at| at.max(sent_us)) + micros(length);
        let now_us = worker.micros(now);
        if now_us >= until_us {
            Err(Failed::Late(clock, length))
        } else {
            // A body that ends meanwhile starts the other clock.
            Ok(until_us.min(now_us + micros(settings.timeout)))
        }
    }

    fn failed(&self, error: SendError) -> Failed {
        if let Some(why) = self.fate.and_then(|fate| fate.error.borrow().clone()) {
            return Failed::Client(why);
        }
        match error {
            SendError::Unsent(body) => Failed::Unsent(body),
            SendError::Broken(Broken::Closed) => Failed::Closed,
            SendError::Broken(Broken::Protocol) => Failed::Malformed,
            SendError::Cut => Failed::Client(Error::ClientGone),
        }
    }
}

/// A request that waits for the head of its answer. Where nobody says how that went, the client
/// left.
struct Pending<'p> {
    exchange: &'p Exchange,
    version: &'p Arc<Version>,
    place: &'p InFlight,
    since_us: u64,
    fate: Option<&'p Fate>,
    over: bool,
}

impl<'p> Pending<'p> {
    fn begin(
        journey: &'p Journey<'_>,
        version: &'p Arc<Version>,
        place: &'p InFlight,
        since_us: u64,
    ) -> Self {
        least_time::begin(&place.endpoint().live, since_us);
        Self {
            exchange: journey.exchange,
            version,
            place,
            since_us,
            fate: journey.fate,
            over: false,
        }
    }

    /// What the endpoint took since `from_us`: not the time that the client's body was on its way,
    /// and 0 while it is.
    fn own_us(&self, now_us: u64, from_us: u64) -> u64 {
        match self.fate {
            Some(fate) if !fate.done.get() => 0,
            Some(fate) => {
                let progress_us = self.exchange.worker.micros(fate.progress.get());
                now_us.saturating_sub(from_us.max(progress_us))
            }
            None => now_us - from_us,
        }
    }

    fn answered(mut self, now_us: u64, sent_us: u64) {
        self.over = true;
        let took_us = self.own_us(now_us, sent_us);
        least_time::answered(&self.place.endpoint().live, now_us, took_us);
    }

    fn failed(mut self, now_us: u64) {
        self.over = true;
        self.place.failed();
        let waited_us = self.own_us(now_us, self.since_us);
        least_time::failed(self.version, &self.place.endpoint().live, now_us, waited_us);
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.over {
            let now_us = self.exchange.worker.now_us();
            let waited_us = self.own_us(now_us, self.since_us);
            least_time::abandoned(&self.place.endpoint().live, now_us, waited_us);
            let record = &self.exchange.state.record;
            record.of_version(Arc::clone(self.version));
        }
    }
}

/// What follows from a failure.
struct Meaning {
    failure: Option<Failure>,
    error: Error,
    /// Why the endpoint answers for it, where it does.
    blame: Option<&'static str>,
}

impl Failed {
    /// What it means after `waited`, on a connection that was `reused` or not, for a request of which
    /// there is a `spare` one to send or not.
    fn explain(&self, reused: bool, spare: bool, waited: Duration) -> Meaning {
        let reset = Error::UpstreamReset;
        let (failure, error, blame) = match self {
            Self::Unsent(_) if reused => (Some(Failure::Unsent), reset, None),
            Self::Unsent(_) => (Some(Failure::Connect), reset, Some("reset")),
            // Servers close what is quiet for long: no fault of theirs, where nothing is lost.
            Self::Closed if reused && spare => (Some(Failure::Stale), reset, None),
            Self::Closed => (Some(Failure::Reset), reset, Some("reset")),
            Self::Malformed => (None, Error::BadResponse, Some("bad response")),
            Self::Late(clock, length) => {
                let (failure, blame) = match *clock {
                    "timeout" => (Some(Failure::Timeout), Some("timeout")),
                    "total" if is_most_of(waited, *length) => (None, Some("timeout")),
                    // A body that stalls may be the client's.
                    _ => (None, None),
                };
                (failure, Error::UpstreamTimeout(clock, *length), blame)
            }
            Self::Client(error) => (None, error.clone(), None),
        };
        Meaning {
            failure,
            error,
            blame,
        }
    }
}

/// Whether whoever used up this much of a time answers for its end.
fn is_most_of(part: Duration, whole: Duration) -> bool {
    part * 2 >= whole
}
