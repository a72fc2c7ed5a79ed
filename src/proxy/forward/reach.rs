//! From attempt to attempt, until one brings the answer that the client gets.

use std::rc::Rc;
use std::sync::Arc;

use http::StatusCode;
use tokio::time::Instant;

use super::Journey;
use super::attempt::Setback;
use super::seat::{Seat, Shortage, Standing};
use crate::access::Why;
use crate::model::table::{Service, Version};
use crate::policy::retry::{self, Asked, Failure, Verdict};
use crate::policy::route;
use crate::proxy::body::SendBody;
use crate::proxy::error::Error;
use crate::proxy::notes;
use crate::proxy::upstream::{Answer, InFlight, Lease, Patience};
use crate::proxy::worker::View;
use crate::trace::Attempt;

/// An exchange that reached an upstream.
pub(super) struct Reached {
    pub(super) lease: Lease,
    pub(super) place: InFlight,
    pub(super) answer: Box<Answer>,
    pub(super) version: Arc<Version>,
    /// The request's body, where it can be sent again.
    pub(super) again: Option<SendBody>,
    /// Time not spent waiting for the upstream, in microseconds.
    pub(super) own_us: u64,
}

/// What became of a request so far.
#[derive(Default)]
pub(super) struct Run {
    /// The endpoints that were tried, by their `pool`.
    pub(super) tried: Vec<u64>,
    /// It reached an endpoint, as far as one can know.
    pub(super) sent: bool,
    /// What the client is told if nobody is left to ask.
    pub(super) last: Option<Error>,
    /// Until when it may wait for an endpoint, once it waited for one.
    pub(super) hold_until: Option<Instant>,
    /// Until when it may wait for a place, likewise.
    pub(super) queue_until: Option<Instant>,
    attempts: u32,
    failed: u32,
    stale: u32,
}

impl Journey<'_> {
    /// Tries endpoints until one takes the request.
    pub(super) async fn reach(&self, mut body: SendBody) -> Result<Reached, Error> {
        retry::count(&self.service.live, self.exchange.worker.now_ms());
        let mut run = Run::default();
        let mut patience = match body {
            SendBody::Empty | SendBody::Full(_) if self.repeatable => Patience::Kept,
            _ => Patience::Recent,
        };
        let mut newer: Option<Rc<View>> = None;
        let chosen = self.choose(self.service);
        if let (Some(trial), Some(chosen)) = (&self.service.trial, chosen)
            && self.pinned.is_none()
            && self.asked.is_none()
        {
            let record = &self.exchange.state.record;
            record.on_trial(trial, &chosen.name, self.keys.point);
        }
        let mut version = None;
        let mut seat = chosen.map_or(Err(Shortage::Nobody), |chosen| {
            self.seat(self.service, chosen, &run, Standing::New)
        });
        loop {
            let seated = match seat {
                Ok(seated) => seated,
                Err(shortage) => {
                    let wanted = version.as_ref().or(chosen);
                    // Boxed: most requests never wait.
                    let waiting = self.wait_noted(wanted, &mut run, &mut newer, shortage);
                    Box::pin(waiting).await?
                }
            };
            let service = self.current(newer.as_ref());
            let record = &self.exchange.state.record;
            if run.attempts > 0 {
                record.retried(run.attempts);
            }
            run.attempts += 1;
            if record.is_noted() {
                self.note(&seated, chosen, run.attempts);
            }
            record.asks(&seated.version.name, &self.exchange.worker);
            let tried = self.attempt(&service.settings, seated, body, patience);
            let tried = tried.await;
            if record.is_noted() {
                self.note_end(&tried);
            }
            let (failure, stays) = match tried {
                Ok(reached) => {
                    let Some(failure) = self.is_worse(service, &reached, &mut run) else {
                        return Ok(reached);
                    };
                    run.tried.push(reached.place.endpoint().pool);
                    reached.lease.discard();
                    body = reached.again.unwrap_or_default();
                    (failure, reached.version)
                }
                Err(setback) => {
                    let (failure, stays, whole) = self.is_over(service, setback, &mut run)?;
                    body = whole;
                    (failure, stays)
                }
            };
            if matches!(failure, Failure::Stale | Failure::Unsent) {
                patience = Patience::Fresh;
            }
            seat = self.next(service, &stays, &mut run);
            version = Some(stays);
        }
    }

    /// Writes down that an attempt begins.
    fn note(&self, seat: &Seat, chosen: Option<&Arc<Version>>, attempts: u32) {
        let Seat { version, place, .. } = seat;
        let why = match chosen {
            _ if self.pinned.is_some() => Why::Chosen,
            Some(chosen) if chosen.name != version.name => Why::Spill,
            _ if self.asked == Some(version.name.as_str()) => Why::Chosen,
            _ if self.keys.point.is_some() => Why::Sticky,
            _ => Why::Weight,
        };
        self.exchange.state.record.note(|line| {
            line.version = Some(version.name.as_str().into());
            line.endpoint = Some(place.endpoint().spec.url.clone());
            line.why = Some(why);
            line.attempts = attempts;
        });
        let worker = &self.exchange.worker;
        self.exchange.state.record.trace(|trace| {
            let spec = &place.endpoint().spec;
            let target = &spec.target;
            let scheme = if target.tls { "https" } else { "http" };
            let path = match self.path {
                None => target.path.to_string(),
                Some(path) => route::join(&target.path, path, self.parts.uri.query()),
            };
            trace.begin(Attempt {
                span: notes::span_id(worker),
                version: version.name.as_str().into(),
                endpoint: spec.url.clone(),
                url: format!("{scheme}://{}{path}", target.authority),
                server: (target.host.clone(), target.port),
                begun_us: self.since_us(),
                ended_us: None,
                status: None,
                error: None,
            });
        });
    }

    /// Writes down how it ended.
    fn note_end(&self, tried: &Result<Reached, Setback>) {
        self.exchange.state.record.trace(|trace| match tried {
            Ok(reached) => trace.answered(reached.answer.response.status().as_u16()),
            Err(setback) => trace.failed(self.since_us(), setback.error.code()),
        });
    }

    /// How long ago the request began, in microseconds.
    fn since_us(&self) -> u64 {
        let begun_us = self.exchange.state.record.started_us();
        self.exchange.worker.now_us().saturating_sub(begun_us)
    }

    /// Waits, and tells the access log how long.
    async fn wait_noted(
        &self,
        version: Option<&Arc<Version>>,
        run: &mut Run,
        newer: &mut Option<Rc<View>>,
        shortage: Shortage,
    ) -> Result<Seat, Error> {
        let worker = &self.exchange.worker;
        let begun_us = worker.now_us();
        let waited = self.wait(version, run, newer, shortage).await;
        let record = &self.exchange.state.record;
        record.note(|line| line.wait_us += worker.now_us() - begun_us);
        record.waited(worker.now_us() - begun_us);
        waited
    }

    /// The service as it is now, for a request that waited.
    pub(super) fn current<'s>(&'s self, newer: Option<&'s Rc<View>>) -> &'s Arc<Service> {
        newer
            .and_then(|view| view.services.get(self.service.name.as_str()))
            .unwrap_or(self.service)
    }

    /// How an answer failed that is to be dropped for another attempt.
    fn is_worse(&self, service: &Service, reached: &Reached, run: &mut Run) -> Option<Failure> {
        let status = reached.answer.response.status();
        let gateway = [
            StatusCode::BAD_GATEWAY,
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::GATEWAY_TIMEOUT,
        ];
        if !gateway.contains(&status) || self.is_down(service, &reached.version, run) {
            return None;
        }
        let failure = Failure::Status(status);
        let verdict = self.judge(service, failure, reached.again.is_some(), run);
        (verdict == Verdict::Again).then_some(failure)
    }

    /// What to do after an attempt without an answer: the error where this is the end.
    fn is_over(
        &self,
        service: &Service,
        setback: Setback,
        run: &mut Run,
    ) -> Result<(Failure, Arc<Version>, SendBody), Error> {
        let Setback {
            failure,
            error,
            version,
            pool,
            body,
        } = setback;
        let record = &self.exchange.state.record;
        let Some(failure) = failure else {
            record.of_version(version);
            return Err(error);
        };
        let verdict = self.judge(service, failure, body.is_some(), run);
        let again = verdict == Verdict::Again;
        // Where nothing was sent and nobody is left, the request may still wait for somebody.
        let holds = failure == Failure::Connect
            && !service.settings.hold.is_zero()
            && self.is_down(service, &version, run);
        match body {
            Some(body) if again || holds => {
                if !matches!(failure, Failure::Stale | Failure::Unsent) {
                    run.tried.push(pool);
                }
                run.last = Some(error);
                Ok((failure, version, body))
            }
            _ => {
                record.of_version(version);
                Err(error)
            }
        }
    }

    fn judge(&self, service: &Service, failure: Failure, whole: bool, run: &mut Run) -> Verdict {
        match failure {
            Failure::Stale | Failure::Unsent => run.stale += 1,
            _ => run.failed += 1,
        }
        let unsent = [Failure::Connect, Failure::Unsent, Failure::Stale];
        run.sent |= !unsent.contains(&failure);
        let asked = Asked {
            settings: &service.settings,
            failure,
            failed: run.failed,
            stale: run.stale,
            repeatable: self.repeatable,
            whole,
        };
        let share = service.settings.retry_budget;
        let now_ms = self.exchange.worker.now_ms();
        retry::judge(&asked, || retry::spend(&service.live, share, now_ms))
    }

    /// A place for the next attempt: on an endpoint that was not tried, or where all were and the
    /// request may be repeated, on any.
    fn next(
        &self,
        service: &Service,
        version: &Arc<Version>,
        run: &mut Run,
    ) -> Result<Seat, Shortage> {
        let seat = self.seat(service, version, run, Standing::New);
        if matches!(seat, Err(Shortage::Nobody)) && run.sent && !run.tried.is_empty() {
            run.tried.clear();
            return self.seat(service, version, run, Standing::New);
        }
        seat
    }
}
