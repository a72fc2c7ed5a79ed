//! The bodies that pass through: a request's on its way up, an answer's on its way down.
//!
//! Invariant: no byte is changed, none is held longer than it takes the other side to accept it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::error::Error;
use super::state::State;
use super::upstream::{InFlight, Lease};
use super::worker::Held;
use crate::policy::balance::least_time;
use crate::policy::health::{self, Seen};
use crate::policy::scan::Scanner;
use crate::telemetry;

/// A body was cut on purpose; the reason stands in the exchange's `Fate`.
#[derive(Debug)]
pub(super) struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body was cut")
    }
}

impl std::error::Error for Cut {}

/// What became of a request's body, seen from the task that waits for the answer.
#[derive(Debug)]
pub(super) struct Fate {
    /// Why it was cut.
    pub(super) error: RefCell<Option<Error>>,
    /// When the upstream last took a part of it.
    pub(super) progress: Cell<Instant>,
    /// All of it was handed over.
    pub(super) done: Cell<bool>,
}

impl Fate {
    pub(super) fn new(done: bool) -> Rc<Self> {
        Rc::new(Self {
            error: RefCell::new(None),
            progress: Cell::new(Instant::now()),
            done: Cell::new(done),
        })
    }
}

/// A request's body on its way to an upstream.
#[derive(Default)]
pub(super) enum SendBody {
    #[default]
    Empty,
    Full(Bytes),
    Stream(Box<Stream>),
}

/// A body that is forwarded while it arrives.
pub(super) struct Stream {
    /// Read before the upstream was known.
    pub(super) ahead: VecDeque<Bytes>,
    /// The room these take of the entry's buffer.
    pub(super) held: Vec<Held>,
    pub(super) incoming: Incoming,
    /// Named entry: goes on checking that this is one JSON object with one `server_name`.
    pub(super) scanner: Option<Box<Scanner>>,
    /// The setting that bounds it, and its value.
    pub(super) bound: Option<(&'static str, u64)>,
    /// Bytes that arrived, those ahead included.
    pub(super) seen: u64,
    /// Nothing was taken of it yet: it can be sent from its beginning.
    pub(super) untouched: bool,
    pub(super) fate: Rc<Fate>,
    pub(super) state: Rc<State>,
}

impl Stream {
    fn cut(&self, error: Error) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.fate.error.borrow_mut().get_or_insert(error);
        Poll::Ready(Some(Err(Cut)))
    }

    /// Checks the next bytes; `last` when none follow.
    fn check(&mut self, data: &[u8], last: bool) -> Result<(), Error> {
        self.seen += data.len() as u64;
        self.state.record.took(self.seen);
        if let Some((setting, bound)) = self.bound
            && self.seen > bound
        {
            return Err(Error::BodyTooLarge(setting, bound));
        }
        if let Some(scanner) = &mut self.scanner {
            scanner.feed(data).map_err(super::entry::refuse)?;
            if last {
                scanner.finish().map_err(super::entry::refuse)?;
            }
        }
        Ok(())
    }
}

/// Why reading a client's body failed: a doubt about framing, or the client left.
pub(super) fn read_failure(state: &State) -> Error {
    match state.violation.get() {
        Some(super::framing::Violation::Malformed(why)) => Error::BadRequest(why),
        Some(super::framing::Violation::TooLarge(bound)) => Error::HeadTooLarge(bound),
        None => Error::ClientGone,
    }
}

impl SendBody {
    /// What becomes of it, where it is not here as a whole.
    pub(super) fn fate(&self) -> Option<Rc<Fate>> {
        match self {
            Self::Empty | Self::Full(_) => None,
            Self::Stream(stream) => Some(Rc::clone(&stream.fate)),
        }
    }
}

impl Body for SendBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        let stream = match this {
            Self::Empty => return Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Self::Empty;
                return Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))));
            }
            Self::Stream(stream) => stream,
        };
        if let Some(bytes) = stream.ahead.pop_front() {
            stream.untouched = false;
            stream.fate.progress.set(Instant::now());
            if stream.ahead.is_empty() {
                stream.held.clear();
            }
            stream.state.record.sent(&bytes);
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let frame = ready!(Pin::new(&mut stream.incoming).poll_frame(cx));
        stream.untouched = false;
        stream.fate.progress.set(Instant::now());
        match frame {
            Some(Ok(frame)) => {
                let last = stream.incoming.is_end_stream();
                if let Some(data) = frame.data_ref() {
                    let data = data.clone();
                    if let Err(error) = stream.check(&data, last) {
                        return stream.cut(error);
                    }
                    stream.state.record.sent(&data);
                }
                stream.fate.done.set(last);
                if last {
                    stream.state.record.sent_all(&stream.state.worker);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(_)) => {
                let why = read_failure(&stream.state);
                stream.cut(why)
            }
            None => {
                if !stream.fate.done.replace(true)
                    && let Err(error) = stream.check(&[], true)
                {
                    return stream.cut(error);
                }
                stream.state.record.sent_all(&stream.state.worker);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Stream(stream) => {
                stream.ahead.is_empty() && stream.incoming.is_end_stream() && stream.fate.done.get()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(stream) => match stream.incoming.size_hint().exact() {
                Some(left) => SizeHint::with_exact(
                    left + stream.ahead.iter().map(|b| b.len() as u64).sum::<u64>(),
                ),
                None => SizeHint::default(),
            },
        }
    }
}

/// An answer's body on its way to the client. Dropping it ends the exchange.
pub(super) struct AnswerBody {
    kind: Kind,
    exchange: Option<Rc<State>>,
}

enum Kind {
    Empty,
    Full(Bytes),
    Upstream(Box<Upstream>),
}

/// What a body that comes from an upstream is bound by.
pub(super) struct Terms {
    /// The endpoint answers for what breaks.
    pub(super) place: InFlight,
    /// The request's body, where it may still be on its way.
    pub(super) fate: Option<Rc<Fate>>,
    pub(super) stall: Duration,
    /// When the whole exchange must be over.
    pub(super) deadline: Option<Instant>,
    /// The head was no failure: whether the answer is one shows at its end.
    pub(super) good: bool,
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
    pub(super) fn empty() -> Self {
        Self {
            kind: Kind::Empty,
            exchange: None,
        }
    }

    pub(super) fn full(bytes: Bytes) -> Self {
        Self {
            kind: Kind::Full(bytes),
            exchange: None,
        }
    }

    /// The body that comes over a lent connection; its end gives the connection back.
    pub(super) fn upstream(mut lease: Lease, terms: Terms) -> Self {
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
    pub(super) fn into_full(mut self) -> Bytes {
        match std::mem::replace(&mut self.kind, Kind::Empty) {
            Kind::Full(bytes) => bytes,
            Kind::Empty | Kind::Upstream(_) => Bytes::new(),
        }
    }

    /// Ties the exchange's end to this body's end.
    pub(super) fn ends(&mut self, state: Rc<State>) {
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
