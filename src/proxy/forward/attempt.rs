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
            since,
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
        let pending = Pending::begin(self, &version, &place, since);
        let mut lease = match self.lend(endpoint, settings, patience, since).await {
            Ok(lease) => lease,
            Err((failure, error)) => {
                if failure.is_some() {
                    pending.failed(Instant::now());
                }
                return Err(setback(failure, error, Some(body)));
            }
        };
        // A kept connection was there at once.
        let reused = lease.is_reused();
        let sent = if reused { since } else { Instant::now() };
        let again = match &body {
            SendBody::Empty => Some(SendBody::Empty),
            SendBody::Full(bytes) if self.repeatable => Some(SendBody::Full(bytes.clone())),
            SendBody::Full(_) | SendBody::Stream(_) => None,
        };
        let asked = self.ask(&mut lease, endpoint, settings, body, sent).await;
        let now = Instant::now();
        let failed = match asked {
            Ok(answer) => {
                let status = answer.response.status();
                let seen = if status.is_server_error() {
                    pending.failed(now);
                    Seen::Failed
                } else {
                    pending.answered(now, sent);
                    if lease.is_done() {
                        Seen::Answered
                    } else {
                        Seen::Begun
                    }
                };
                worker.saw(endpoint, settings, (seen, now), &status);
                self.exchange.state.record.first_byte(now);
                return Ok(Reached {
                    lease,
                    place,
                    answer,
                    version,
                    again,
                    own: sent - self.exchange.started,
                });
            }
            Err(failed) => failed,
        };
        let spare = self.repeatable && again.is_some();
        let meaning = failed.explain(reused, spare, now - sent);
        if let Some(why) = meaning.blame {
            pending.failed(now);
            worker.saw(endpoint, settings, (Seen::Failed, now), &why);
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
        since: Instant,
    ) -> Result<Lease, (Option<Failure>, Error)> {
        let exchange = self.exchange;
        let worker = &exchange.worker;
        let lending = pin!(upstream::lend(worker, endpoint, settings, patience));
        let lent = match self.deadline {
            None => Some(lending.await),
            Some((deadline, _)) => exchange.state.before(deadline, lending).await,
        };
        let Some(lent) = lent else {
            let total = self.deadline.map(|(_, total)| total).unwrap_or_default();
            if is_most_of(since.elapsed(), total) {
                let sight = (Seen::ConnectFailed, Instant::now());
                worker.saw(endpoint, settings, sight, &"total ran out");
            }
            return Err((None, Error::UpstreamTimeout("total", total)));
        };
        lent.map_err(|error| {
            let sight = (Seen::ConnectFailed, Instant::now());
            worker.saw(endpoint, settings, sight, &error);
            let error = match error {
                ConnectError::Failed(why) => Error::ConnectFailed(why),
                ConnectError::Timeout(length) => Error::UpstreamTimeout("connect_timeout", length),
            };
            (Some(Failure::Connect), error)
        })
    }

    /// Sends the request and waits for the head of the answer, with the clocks of the service.
    async fn ask(
        &self,
        lease: &mut Lease,
        endpoint: &Endpoint,
        settings: &Effective,
        body: SendBody,
        sent: Instant,
    ) -> Result<Answer, Failed> {
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
            upgrade: self.upgrade,
        };
        let mut asked = pin!(lease.ask(&asking, body, endpoint));
        let first_look = match self.fate {
            Some(_) => settings.stall.min(settings.timeout),
            None => settings.timeout,
        };
        let mut until = sent + first_look;
        loop {
            let wake = self.deadline.map_or(until, |(end, _)| end.min(until));
            match exchange.state.before(wake, asked.as_mut()).await {
                Some(done) => return done.map_err(|error| self.failed(error)),
                None => until = self.expired(settings, sent)?,
            }
        }
    }

    /// Which clock ran out, or when to look again: while a body is on its way up, its pauses
    /// count, not its length.
    fn expired(&self, settings: &Effective, sent: Instant) -> Result<Instant, Failed> {
        let now = Instant::now();
        if let Some((_, total)) = self.deadline.filter(|(end, _)| now >= *end) {
            return Err(Failed::Late("total", total));
        }
        let (clock, length, since) = match self.fate {
            Some(fate) if !fate.done.get() => ("stall", settings.stall, fate.progress.get()),
            Some(fate) => ("timeout", settings.timeout, fate.progress.get()),
            None => ("timeout", settings.timeout, sent),
        };
        let until = since.max(sent) + length;
        if now >= until {
            Err(Failed::Late(clock, length))
        } else {
            // A body that ends meanwhile starts the other clock.
            Ok(until.min(now + settings.timeout))
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
    since: Instant,
    fate: Option<&'p Fate>,
    over: bool,
}

impl<'p> Pending<'p> {
    fn begin(
        journey: &'p Journey<'_>,
        version: &'p Arc<Version>,
        place: &'p InFlight,
        since: Instant,
    ) -> Self {
        let exchange = journey.exchange;
        least_time::begin(&place.endpoint().live, exchange.worker.micros(since));
        Self {
            exchange,
            version,
            place,
            since,
            fate: journey.fate,
            over: false,
        }
    }

    /// What the endpoint took since `from`, in microseconds: not the time that the client's body was
    /// on its way, and 0 while it is.
    fn own_us(&self, now: Instant, from: Instant) -> u64 {
        match self.fate {
            Some(fate) if !fate.done.get() => 0,
            Some(fate) => micros(now.saturating_duration_since(from.max(fate.progress.get()))),
            None => micros(now - from),
        }
    }

    /// Now, and what the endpoint took since it was chosen, in microseconds.
    fn clock(&self, now: Instant) -> (u64, u64) {
        let now_us = self.exchange.worker.micros(now);
        (now_us, self.own_us(now, self.since))
    }

    fn answered(mut self, now: Instant, sent: Instant) {
        self.over = true;
        let now_us = self.exchange.worker.micros(now);
        least_time::answered(&self.place.endpoint().live, now_us, self.own_us(now, sent));
    }

    fn failed(mut self, now: Instant) {
        self.over = true;
        self.place.failed();
        let (now_us, waited) = self.clock(now);
        least_time::failed(self.version, &self.place.endpoint().live, now_us, waited);
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if !self.over {
            let (now_us, waited) = self.clock(Instant::now());
            least_time::abandoned(&self.place.endpoint().live, now_us, waited);
            let record = &self.exchange.state.record;
            record.of_version(Arc::clone(self.version));
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
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
