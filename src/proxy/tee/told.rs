//! What the copy of a request in flight is told on its way. Where there is none, each of these is one
//! look.

use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::Tee;
use crate::model::copies::Fate;
use crate::model::name::VersionName;
use crate::proxy::error::Error;
use crate::proxy::micros;
use crate::proxy::record::Record;
use crate::proxy::worker::Worker;
use crate::shadow::Outcome;
use crate::stats::ErrorKind;

impl Record {
    fn with_copy(&self, act: impl FnOnce(&mut Tee)) {
        if let Some(tee) = &mut *self.copy.borrow_mut() {
            act(tee);
        }
    }

    /// Whether it is copied.
    pub(in crate::proxy) fn is_copied(&self) -> bool {
        self.copy.borrow().is_some()
    }

    /// It waited so much longer.
    pub(in crate::proxy) fn waited(&self, us: u64) {
        self.with_copy(|tee| tee.course.queue_us += us);
    }

    /// Its connection took so long.
    pub(in crate::proxy) fn connected(&self, us: u64) {
        self.with_copy(|tee| tee.course.connect_us = us);
    }

    /// It is sent, or is to be sent, to this version.
    pub(in crate::proxy) fn asks(&self, version: &VersionName, worker: &Worker) {
        self.with_copy(|tee| {
            tee.version = Some(version.clone());
            tee.begins(worker);
        });
    }

    /// More of its body goes up.
    pub(in crate::proxy) fn sent(&self, data: &[u8]) {
        self.with_copy(|tee| tee.keep_asked(data));
    }

    /// All of its body went up.
    pub(in crate::proxy) fn sent_all(&self, worker: &Worker) {
        self.with_copy(|tee| {
            tee.asked.body.complete = true;
            tee.begins(worker);
        });
    }

    /// This head goes down.
    pub(in crate::proxy) fn gives_head(&self, status: StatusCode, headers: &HeaderMap) {
        self.with_copy(|tee| tee.keep_head(status, headers));
    }

    /// More of its answer's body goes down.
    pub(in crate::proxy) fn gives(&self, data: &[u8]) {
        self.with_copy(|tee| {
            let since = Instant::now().saturating_duration_since(self.started());
            tee.keep_answered(data, micros(since) / 1_000);
        });
    }

    /// It is answered by this error, or not at all.
    pub(in crate::proxy) fn copies_failure(&self, error: &Error) {
        let Some(outcome) = outcome(error) else {
            return self.is_no_copy();
        };
        self.with_copy(|tee| {
            tee.outcome = Some(outcome);
            // An answer that had come before is not what the client gets.
            tee.answered = None;
            tee.events = None;
        });
    }

    /// Its answer broke off.
    pub(in crate::proxy) fn copies_break(&self, kind: ErrorKind) {
        self.with_copy(|tee| {
            tee.broke = true;
            tee.outcome = Some(match kind {
                ErrorKind::Timeout => Outcome::Stall,
                _ => Outcome::Cut,
            });
        });
    }

    /// It is nothing to copy.
    pub(in crate::proxy) fn is_no_copy(&self) {
        if let Some(tee) = self.copy.take() {
            tee.service.live.copies.count(Fate::NotSampled, 1);
        }
    }
}

/// How a request ends with an error; none where that is the client's or the gateway's own doing.
fn outcome(error: &Error) -> Option<Outcome> {
    Some(match error {
        Error::ConnectFailed(_)
        | Error::NoEndpoint
        | Error::UpstreamTimeout("connect_timeout", _) => Outcome::Connect,
        Error::UpstreamTimeout("stall", _) => Outcome::Stall,
        Error::UpstreamTimeout(..) => Outcome::Timeout,
        Error::UpstreamReset | Error::BadResponse => Outcome::Reset,
        Error::ClientGone => Outcome::ClientLeft,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_failures_of_the_way_up_are_outcomes() {
        let second = Duration::from_secs(1);
        for (error, wanted) in [
            (Error::ConnectFailed(String::new()), Some(Outcome::Connect)),
            (Error::NoEndpoint, Some(Outcome::Connect)),
            (
                Error::UpstreamTimeout("connect_timeout", second),
                Some(Outcome::Connect),
            ),
            (
                Error::UpstreamTimeout("timeout", second),
                Some(Outcome::Timeout),
            ),
            (
                Error::UpstreamTimeout("total", second),
                Some(Outcome::Timeout),
            ),
            (
                Error::UpstreamTimeout("stall", second),
                Some(Outcome::Stall),
            ),
            (Error::UpstreamReset, Some(Outcome::Reset)),
            (Error::BadResponse, Some(Outcome::Reset)),
            (Error::ClientGone, Some(Outcome::ClientLeft)),
            (Error::BodyTooLarge("max_body", 1), None),
            (Error::BodyStalled(second), None),
            (Error::Overloaded("queue"), None),
        ] {
            assert_eq!(outcome(&error), wanted, "{error:?}");
        }
    }
}
