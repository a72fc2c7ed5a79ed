//! A request whose version was chosen by the split of a trial, until its end: what it counts as.
//!
//! It counts for the version that was chosen, whichever answers. As slow it counts when its time is
//! up, not when it ends: a version that hangs must not look fine until its clock runs out.
//!
//! Invariant: a request is counted once, slow once for each bound, and bad once, at its end.

use std::sync::Arc;

use super::error::Error;
use super::record::{CLIENT_LEFT, Record, kind};
use super::worker::Worker;
use crate::model::name::VersionName;
use crate::model::trial::{Arm, Mark, Marks, OVER, OnTrial, Side};
use crate::stats::trial::Caller;
use crate::stats::{Counter, Outcome};

/// Where a request stands in a trial.
#[derive(Debug)]
pub(super) struct Standing {
    trial: Arc<OnTrial>,
    side: Side,
    /// The caller's point, where callers stay in a version.
    point: Option<u64>,
    /// When it passes the next bound, on the coarse clock; never where none is left.
    due_ms: u64,
    /// How many bounds it was counted to have passed.
    passed: usize,
    counted: bool,
    /// The version failed, whoever answered.
    bad: bool,
    /// It ended for a reason that says nothing of the version.
    nobodys: bool,
    /// The status of the answer's head, where the client left after it.
    head: Option<u16>,
}

impl Record {
    /// The split of this trial chose a version for it; `point` where the caller stays there.
    pub(super) fn on_trial(&self, trial: &Arc<OnTrial>, chosen: &VersionName, point: Option<u64>) {
        let Some(side) = trial.side(chosen) else {
            return;
        };
        let mut standing = Standing {
            trial: Arc::clone(trial),
            side,
            point,
            due_ms: 0,
            passed: 0,
            counted: false,
            bad: false,
            nobodys: false,
            head: None,
        };
        standing.set_due(self.started_us());
        self.trial.replace(Some(Box::new(standing)));
    }

    fn with_standing(&self, act: impl FnOnce(&mut Standing)) {
        if let Some(standing) = &mut *self.trial.borrow_mut() {
            act(standing);
        }
    }

    /// Another version is asked than the one that was chosen, for want of an endpoint.
    pub(super) fn goes_elsewhere(&self) {
        self.with_standing(|standing| standing.bad = true);
    }

    /// It is answered by this error.
    pub(super) fn fails_on_trial(&self, error: &Error) {
        self.with_standing(|standing| match error {
            // Its end tells.
            Error::ClientGone => {}
            _ if is_bad(error) => standing.bad = true,
            _ => standing.nobodys = true,
        });
    }

    /// The client left after a head with this status, or before there was one.
    pub(super) fn leaves_on_trial(&self, status: u16) {
        self.with_standing(|standing| standing.head = Some(status).filter(|it| *it != CLIENT_LEFT));
    }

    /// Looks at the clock for it; called by the sweep.
    pub(super) fn sweep_trial(&self, now_ms: u64, worker: &Worker) {
        self.with_standing(|standing| {
            if now_ms >= standing.due_ms {
                let started_us = self.started_us();
                // The coarse clock is ahead by less than a millisecond.
                let took_us = ((now_ms - 1) * 1_000).saturating_sub(started_us);
                standing.pass(took_us, &worker.counter, false);
                standing.set_due(started_us);
            }
        });
    }
}

impl Standing {
    fn arm(&self) -> &Arm {
        self.trial.arm(self.side)
    }

    fn bounds(&self) -> &[u64] {
        let bounds = self.arm().slow.as_ref();
        bounds.map(<[u64; 3]>::as_slice).unwrap_or_default()
    }

    fn set_due(&mut self, started_us: u64) {
        let next = self.bounds().get(self.passed);
        self.due_ms = next.map_or(u64::MAX, |bound| (started_us + bound) / 1_000 + 2);
    }

    /// Counts the bounds it passed by now, and with the first of them itself; `bad` at its end.
    fn pass(&mut self, took_us: u64, counter: &Counter, bad: bool) {
        let passed = self.bounds().partition_point(|bound| *bound < took_us);
        let over = OVER;
        let newly = over.get(self.passed..passed).unwrap_or_default();
        let is_new = !self.counted;
        counter.mark(self.arm(), |marks: &Marks| {
            if is_new {
                marks.add(Mark::Request);
            }
            for over in newly {
                marks.add(*over);
            }
            if bad {
                marks.add(Mark::Bad);
            }
        });
        self.passed = self.passed.max(passed);
        self.counted = true;
    }

    /// It is over.
    pub(super) fn end(mut self, counter: &Counter, outcome: &Outcome) {
        let left = outcome.status == CLIENT_LEFT && outcome.error.is_none();
        let status = if left {
            self.head
        } else {
            Some(outcome.status)
        };
        let failed = status.is_some_and(|status| (500..600).contains(&status));
        let bad = !self.nobodys && (self.bad || outcome.error.is_some() || failed);
        let is_slow = (self.bounds().first()).is_some_and(|bound| *bound < outcome.total_us);
        let is_known = !self.nobodys && (status.is_some() || bad || is_slow);
        if !(self.counted || is_known) {
            return;
        }
        self.pass(outcome.total_us, counter, bad);
        if let Some(point) = self.point {
            counter.meet(self.arm(), Caller { point, bad });
        }
    }
}

/// Whether an error is the version's: it failed, or it has no place left.
fn is_bad(error: &Error) -> bool {
    let places = ["max_conns", "queue", "queue_timeout"];
    match error {
        Error::Overloaded(bound) => places.contains(bound),
        _ => kind(error).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_error_is_the_versions_or_nobodys() {
        let second = Duration::from_secs(1);
        for (error, bad) in [
            (Error::ConnectFailed(String::new()), true),
            (Error::UpstreamTimeout("connect_timeout", second), true),
            (Error::UpstreamTimeout("timeout", second), true),
            (Error::UpstreamTimeout("stall", second), true),
            (Error::UpstreamTimeout("total", second), true),
            (Error::UpstreamReset, true),
            (Error::BadResponse, true),
            (Error::NoEndpoint, true),
            (Error::Overloaded("max_conns"), true),
            (Error::Overloaded("queue"), true),
            (Error::Overloaded("queue_timeout"), true),
            (Error::Overloaded("file descriptors"), false),
            (Error::BodyStalled(second), false),
            (Error::BodyTooLarge("max_body", 1), false),
            (Error::InvalidJson(String::new()), false),
            (Error::CallerBusy, false),
            (Error::RateLimited("rate", 1), false),
        ] {
            assert_eq!(is_bad(&error), bad, "{error:?}");
        }
    }
}
