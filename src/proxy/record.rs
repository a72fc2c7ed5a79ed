//! What is known of the request in flight on a connection; at its end it becomes one outcome.
//!
//! Invariant: a request whose service is known is counted exactly once, however it ends.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use tokio::time::Instant;

use super::error::Error;
use super::notes::Note;
use super::tee::Tee;
use super::trial::Standing;
use super::worker::Worker;
use crate::access::Line;
use crate::model::table::{Service, Version};
use crate::stats::{ErrorKind, Outcome, Rejection};
use crate::trace::Trace;

/// The status of a request whose client left before the end of its answer.
pub(super) const CLIENT_LEFT: u16 = 499;

/// What a request is counted under.
#[derive(Debug, Default)]
enum Under {
    /// Nothing: its service is not known, or it was counted.
    #[default]
    Nothing,
    /// It ended, or waits, before a version was chosen.
    Service(Arc<Service>),
    /// The version that was asked last.
    Version(Arc<Version>),
}

/// One request from its head to the end of its answer. A connection has one at a time.
#[derive(Debug)]
pub(super) struct Record {
    started: Cell<Instant>,
    under: RefCell<Under>,
    status: Cell<u16>,
    error: Cell<Option<ErrorKind>>,
    rejection: Cell<Option<Rejection>>,
    retries: Cell<u32>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    /// On the worker's clock, in microseconds.
    started_us: Cell<u64>,
    first_byte_us: Cell<Option<u64>>,
    /// What is written of it, where something is.
    note: RefCell<Option<Box<Note>>>,
    /// Its shadow copy, where there is one.
    pub(super) copy: RefCell<Option<Box<Tee>>>,
    /// What it counts as in a trial, where its version was chosen by one.
    pub(super) trial: RefCell<Option<Box<Standing>>>,
}

impl Record {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            started: Cell::new(now),
            under: RefCell::default(),
            status: Cell::new(0),
            error: Cell::new(None),
            rejection: Cell::new(None),
            retries: Cell::new(0),
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            started_us: Cell::new(0),
            first_byte_us: Cell::new(None),
            note: RefCell::new(None),
            copy: RefCell::new(None),
            trial: RefCell::new(None),
        }
    }

    /// A request begins. Nothing is left of the one before.
    pub(super) fn begin(&self, worker: &Worker) {
        let now_us = worker.now_us();
        self.started.set(worker.moment(now_us));
        self.started_us.set(now_us);
        self.under.take();
        self.status.set(CLIENT_LEFT);
        self.error.set(None);
        self.rejection.set(None);
        self.retries.set(0);
        self.bytes_in.set(0);
        self.bytes_out.set(0);
        self.first_byte_us.set(None);
    }

    /// When it began.
    pub(super) fn started(&self) -> Instant {
        self.started.get()
    }

    /// The same in microseconds.
    pub(super) fn started_us(&self) -> u64 {
        self.started_us.get()
    }

    /// It is for this service.
    pub(super) fn of_service(&self, service: &Arc<Service>) {
        self.under.replace(Under::Service(Arc::clone(service)));
    }

    /// This is written of it.
    pub(super) fn take_note(&self, note: Note) {
        self.note.replace(Some(Box::new(note)));
    }

    /// Whether something is written of it.
    pub(super) fn is_noted(&self) -> bool {
        self.note.borrow().is_some()
    }

    /// Writes in its line, where it has one.
    pub(super) fn note(&self, write: impl FnOnce(&mut Line)) {
        if let Some(note) = &mut *self.note.borrow_mut() {
            write(&mut note.line);
        }
    }

    /// Writes in its spans, where it has some; what is written comes back.
    pub(super) fn trace<T>(&self, write: impl FnOnce(&mut Trace) -> T) -> Option<T> {
        let mut note = self.note.borrow_mut();
        note.as_mut()?.trace.as_mut().map(write)
    }

    /// It was sent, or was to be sent, to this version.
    pub(super) fn of_version(&self, version: Arc<Version>) {
        self.under.replace(Under::Version(version));
    }

    /// Whether it was asked of a version.
    pub(super) fn has_version(&self) -> bool {
        matches!(&*self.under.borrow(), Under::Version(_))
    }

    /// So many attempts were made after the first.
    pub(super) fn retried(&self, retries: u32) {
        self.retries.set(retries);
    }

    /// The head of the upstream's answer came.
    pub(super) fn first_byte(&self, now_us: u64) {
        self.first_byte_us.set(Some(now_us));
    }

    /// So many bytes of its body came so far.
    pub(super) fn took(&self, bytes: u64) {
        self.bytes_in.set(bytes);
    }

    /// These bytes of its answer's body went out.
    pub(super) fn gave(&self, data: &[u8]) {
        self.bytes_out.set(self.bytes_out.get() + data.len() as u64);
        self.gives(data);
    }

    /// An answer with this status goes out.
    pub(super) fn answered(&self, status: u16) {
        self.status.set(status);
    }

    /// It is answered by this error.
    pub(super) fn failed(&self, error: &Error) {
        self.error.set(kind(error));
        self.rejection.set(rejection(error));
        self.note(|line| (line.error, line.clock) = (Some(error.code()), error.clock()));
        self.copies_failure(error);
        self.fails_on_trial(error);
    }

    /// The answer broke off after its head: by this clock, or else by the upstream.
    pub(super) fn broke(&self, clock: Option<&'static str>) {
        if self.error.get().is_none() {
            let (kind, code) = match clock {
                Some(_) => (ErrorKind::Timeout, "upstream_timeout"),
                None => (ErrorKind::Reset, "upstream_reset"),
            };
            self.error.set(Some(kind));
            self.note(|line| (line.error, line.clock) = (Some(code), clock));
            self.copies_break(kind);
        }
    }

    /// The client left before the end of its answer.
    pub(super) fn left(&self) {
        if self.error.get().is_none() {
            self.leaves_on_trial(self.status.replace(CLIENT_LEFT));
        }
    }

    /// So many more bytes went through after its protocol was switched.
    pub(super) fn carried(&self, bytes_in: usize, bytes_out: usize) {
        self.bytes_in.set(self.bytes_in.get() + bytes_in as u64);
        self.bytes_out.set(self.bytes_out.get() + bytes_out as u64);
    }

    /// It is over: counted, where there is something to count it under. Where its protocol was
    /// `switched`, its line waits for the end of the connection.
    pub(super) fn end(&self, worker: &Worker, switched: bool) {
        let (under, note, copy) = (self.under.take(), self.note.take(), self.copy.take());
        let trial = self.trial.take();
        if matches!(under, Under::Nothing) && note.is_none() && copy.is_none() && trial.is_none() {
            return;
        }
        let started_us = self.started_us.get();
        let outcome = Outcome {
            status: self.status.get(),
            error: self.error.get(),
            rejection: self.rejection.get(),
            retries: self.retries.get(),
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
            total_us: worker.now_us() - started_us,
            first_byte_us: self.first_byte_us.get().map(|at_us| at_us - started_us),
        };
        if let Some(mut note) = note {
            finish(&mut note.line, &under, &outcome);
            if switched {
                self.note.replace(Some(note));
            } else {
                note.tell(worker);
            }
        }
        if let Some(copy) = copy {
            let version = match &under {
                Under::Version(version) => Some(&version.name),
                Under::Nothing | Under::Service(_) => None,
            };
            copy.end(worker, version, &outcome);
        }
        if let Some(trial) = trial {
            trial.end(&worker.counter, &outcome);
        }
        match under {
            Under::Nothing => {}
            Under::Service(service) => worker.counter.count_service(&service, &outcome),
            Under::Version(version) => worker.counter.count_version(&version, &outcome),
        }
    }

    /// Its connection is over, and with it a switched protocol.
    pub(super) fn close(&self, worker: &Worker) {
        if let Some(mut note) = self.note.take() {
            note.line.bytes_in = self.bytes_in.get();
            note.line.bytes_out = self.bytes_out.get();
            note.line.total_us = worker.now_us() - self.started_us.get();
            note.tell(worker);
        }
    }
}

/// The rest of its line.
fn finish(line: &mut Line, under: &Under, outcome: &Outcome) {
    match under {
        Under::Nothing => {}
        Under::Service(service) => line.service = Some(service.name.as_str().into()),
        Under::Version(version) => {
            line.service = Some(version.service.as_str().into());
            line.version = Some(version.name.as_str().into());
        }
    }
    line.first_byte_us = outcome.first_byte_us;
    line.total_us = outcome.total_us;
    line.bytes_in = outcome.bytes_in;
    line.bytes_out = outcome.bytes_out;
    line.status = outcome.status;
    if outcome.status == CLIENT_LEFT {
        line.error = Some("client_gone");
    }
}

/// What an error counts as; nothing where it is the client's.
pub(super) fn kind(error: &Error) -> Option<ErrorKind> {
    Some(match error {
        Error::ConnectFailed(_) | Error::UpstreamTimeout("connect_timeout", _) => {
            ErrorKind::Connect
        }
        Error::UpstreamTimeout(..) => ErrorKind::Timeout,
        Error::UpstreamReset => ErrorKind::Reset,
        Error::BadResponse | Error::NoEndpoint => ErrorKind::Other,
        _ => return None,
    })
}

fn rejection(error: &Error) -> Option<Rejection> {
    match error {
        Error::Unauthenticated(_) | Error::Forbidden(_) => Some(Rejection::Auth),
        Error::RateLimited(..) => Some(Rejection::Rate),
        Error::Overloaded(_) | Error::CallerBusy | Error::IssuerAway => Some(Rejection::Busy),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proxy::error::Lack;

    #[test]
    fn errors_are_counted_by_their_kind() {
        let second = Duration::from_secs(1);
        for (error, wanted, turned_away) in [
            (
                Error::ConnectFailed(String::new()),
                Some(ErrorKind::Connect),
                None,
            ),
            (
                Error::UpstreamTimeout("connect_timeout", second),
                Some(ErrorKind::Connect),
                None,
            ),
            (
                Error::UpstreamTimeout("timeout", second),
                Some(ErrorKind::Timeout),
                None,
            ),
            (
                Error::UpstreamTimeout("total", second),
                Some(ErrorKind::Timeout),
                None,
            ),
            (Error::UpstreamReset, Some(ErrorKind::Reset), None),
            (Error::BadResponse, Some(ErrorKind::Other), None),
            (Error::NoEndpoint, Some(ErrorKind::Other), None),
            (Error::Overloaded("queue"), None, Some(Rejection::Busy)),
            (Error::CallerBusy, None, Some(Rejection::Busy)),
            (Error::RateLimited("rate", 1), None, Some(Rejection::Rate)),
            (
                Error::Unauthenticated(Lack::Good),
                None,
                Some(Rejection::Auth),
            ),
            (Error::Forbidden("x"), None, Some(Rejection::Auth)),
            (Error::BodyTooLarge("max_body", 1), None, None),
            (Error::ClientGone, None, None),
        ] {
            assert_eq!(kind(&error), wanted, "{error:?}");
            assert_eq!(rejection(&error), turned_away, "{error:?}");
        }
    }
}
