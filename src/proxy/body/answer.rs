//! An answer's body on its way down: watched by the clocks of its service until its end.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{Cut, Fate};
use crate::policy::balance::least_time;
use crate::policy::health::{self, Seen};
use crate::proxy::state::State;
use crate::proxy::upstream::{InFlight, Lease};
use crate::telemetry;

/// An answer's body on its way to the client. Dropping it ends the exchange.
pub(in crate::proxy) struct AnswerBody {
    kind: Kind,
    exchange: Option<Rc<State>>,
}

enum Kind {
    Empty,
    Full(Bytes),
    Upstream(Box<Upstream>),
}

/// What a body that comes from an upstream is bound by.
pub(in crate::proxy) struct Terms {
    /// The endpoint answers for what breaks.
    pub(in crate::proxy) place: InFlight,
    /// The request's body, where it may still be on its way.
    pub(in crate::proxy) fate: Option<Rc<Fate>>,
    pub(in crate::proxy) stall: Duration,
    /// When the whole exchange must be over.
    pub(in crate::proxy) deadline: Option<Instant>,
    /// The head was no failure: whether the answer is one shows at its end.
    pub(in crate::proxy) good: bool,
}

/// Why an answer broke off.
#[derive(Clone, Copy)]
enum Cause {
    /// This clock of the service ran out.
    Clock(&'static str),
    Upstream,
}

struct Upstream {
    lease: Lease,
    terms: Terms,
    /// Runs only while the upstream is waited for.
    timer: Option<Pin<Box<Sleep>>>,
    /// It broke off, and what came before is being flushed.
    broken: bool,
    /// Why it broke off, where that is not the client's doing.
    cut: Option<Cause>,
}

impl AnswerBody {
    pub(in crate::proxy) fn empty() -> Self {
        Self {
            kind: Kind::Empty,
            exchange: None,
        }
    }

    pub(in crate::proxy) fn full(bytes: Bytes) -> Self {
        Self {
            kind: Kind::Full(bytes),
            exchange: None,
        }
    }

    /// The body that comes over a lent connection; its end gives the connection back.
    pub(in crate::proxy) fn upstream(mut lease: Lease, terms: Terms) -> Self {
        if lease.is_done() {
            lease.release();
            return Self::empty();
        }
        // Most answers are here whole with their head: nothing is left to wait for.
        let whole = terms.fate.is_none().then(|| lease.take_whole()).flatten();
        let upstream = Upstream {
            lease,
            terms,
            timer: None,
            broken: false,
            cut: None,
        };
        if let Some(whole) = whole {
            upstream.release();
            return Self::full(whole);
        }
        Self {
            kind: Kind::Upstream(Box::new(upstream)),
            exchange: None,
        }
    }

    /// The bytes of a whole body; nothing of one that streams.
    pub(in crate::proxy) fn into_full(mut self) -> Bytes {
        match std::mem::replace(&mut self.kind, Kind::Empty) {
            Kind::Full(bytes) => bytes,
            Kind::Empty | Kind::Upstream(_) => Bytes::new(),
        }
    }

    /// Ties the exchange's end to this body's end.
    pub(in crate::proxy) fn ends(&mut self, state: Rc<State>) {
        self.exchange = Some(state);
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        if let Some(state) = &self.exchange {
            if let Kind::Upstream(upstream) = &self.kind
                && !upstream.broken
            {
                state.record.left();
            }
            state.end();
        }
    }
}

impl Upstream {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let fate = self.terms.fate.as_ref();
        if fate.is_some_and(|fate| fate.error.borrow().is_some()) {
            return Poll::Ready(Some(Err(Cut)));
        }
        if self.is_late() {
            telemetry::answer_cut("total");
            self.cut = Some(Cause::Clock("total"));
            return Poll::Ready(Some(Err(Cut)));
        }
        match self.lease.poll_frame(cx) {
            Poll::Ready(frame) => {
                self.timer = None;
                if let Some(Err(_)) = &frame {
                    self.cut = Some(Cause::Upstream);
                    self.broke(&"the answer broke off");
                }
                Poll::Ready(frame.map(|frame| frame.map_err(|_malformed| Cut)))
            }
            Poll::Pending => self.poll_stall(cx),
        }
    }

    /// Waits for the upstream, but not forever. While the request's body still moves, the upstream
    /// may be busy with it.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let (stall, deadline) = (self.terms.stall, self.terms.deadline);
        let at = |since: Instant| {
            let until = since + stall;
            deadline.map_or(until, |deadline| until.min(deadline))
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(at(Instant::now()))));
        while timer.as_mut().poll(cx).is_ready() {
            let moving = self
                .terms
                .fate
                .as_ref()
                .filter(|fate| !fate.done.get())
                .map(|fate| at(fate.progress.get()));
            match moving {
                Some(later) if later > Instant::now() => timer.as_mut().reset(later),
                _ => {
                    let late = self.is_late();
                    let clock = if late { "total" } else { "stall" };
                    telemetry::answer_cut(clock);
                    self.cut = Some(Cause::Clock(clock));
                    if !late {
                        self.broke(&"stall ran out in the middle of the answer");
                    }
                    return Poll::Ready(Some(Err(Cut)));
                }
            }
        }
        Poll::Pending
    }

    /// The answer broke off in its middle.
    fn broke(&self, why: &dyn fmt::Display) {
        self.terms.place.failed();
        let (worker, endpoint) = (self.lease.worker(), self.terms.place.endpoint());
        let table = worker.table();
        let service = table.services.get(endpoint.service.as_str());
        // A failure is no worse for breaking off.
        let Some(service) = service.filter(|_| self.terms.good) else {
            return;
        };
        let now_us = worker.now_us();
        let mut versions = service.versions.iter();
        if let Some(version) = versions.find(|version| version.name == endpoint.spec.version) {
            least_time::broke(version, &endpoint.live, now_us);
        }
        worker.saw(endpoint, &service.settings, (Seen::Failed, now_us), why);
    }

    /// The answer came whole.
    fn release(self) {
        if self.terms.good {
            health::completed(self.terms.place.endpoint());
        }
        self.lease.release();
    }

    fn is_late(&self) -> bool {
        self.terms
            .deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        match &mut this.kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.kind = Kind::Empty;
                if let Some(state) = &this.exchange {
                    state.record.gave(&bytes);
                }
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Kind::Upstream(upstream) if upstream.broken => Poll::Ready(Some(Err(Cut))),
            Kind::Upstream(upstream) => {
                let frame = upstream.poll_frame(cx);
                match (&frame, &this.exchange) {
                    (Poll::Ready(Some(Ok(frame))), Some(state)) => {
                        state
                            .record
                            .gave(frame.data_ref().map_or(&[][..], |data| data));
                    }
                    (Poll::Ready(Some(Err(_))), Some(state)) => {
                        state.cut();
                        match upstream.cut {
                            Some(Cause::Clock(clock)) => state.record.broke(Some(clock)),
                            Some(Cause::Upstream) => state.record.broke(None),
                            None => state.record.left(),
                        }
                    }
                    _ => {}
                }
                if matches!(frame, Poll::Ready(Some(Err(_)))) {
                    // Hyper drops what it has not flushed when a body fails: it gets a turn, so
                    // that the client sees an answer break off and not a close without one.
                    upstream.broken = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                if upstream.lease.is_done()
                    && let Kind::Upstream(upstream) = std::mem::replace(&mut this.kind, Kind::Empty)
                {
                    upstream.release();
                }
                frame
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(bytes) => bytes.is_empty(),
            Kind::Upstream(upstream) => upstream.lease.is_done(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Upstream(upstream) => upstream
                .lease
                .length()
                .map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
