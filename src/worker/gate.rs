//! Whether the candidate can be reached at all: after some failures to connect in a row nobody asks
//! any more until it is back. A redeploy says nothing about bugs.

use std::cell::Cell;

use tokio::sync::watch;

/// So many failures to connect in a row count as results; then the candidate is away.
const FAILURES: u32 = 3;

/// What a failure to connect means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// A result, as any other.
    Result,
    /// A result, and the candidate is away from now on.
    LastResult,
    /// Nothing: the candidate is away.
    Away,
}

/// Open while the candidate is there.
#[derive(Debug)]
pub(super) struct Gate {
    failures: Cell<u32>,
    open: watch::Sender<bool>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            failures: Cell::new(0),
            open: watch::Sender::new(true),
        }
    }
}

impl Gate {
    pub(super) fn is_open(&self) -> bool {
        *self.open.borrow()
    }

    /// Waits until it is open.
    pub(super) async fn pass(&self) {
        // The sender lives as long as we do.
        drop(self.open.subscribe().wait_for(|open| *open).await);
    }

    /// Waits until it is closed.
    pub(super) async fn closed(&self) {
        drop(self.open.subscribe().wait_for(|open| !*open).await);
    }

    /// The candidate was reached.
    pub(super) fn reached(&self) {
        if self.is_open() {
            self.failures.set(0);
        }
    }

    /// It was not.
    pub(super) fn failed(&self) -> Failure {
        if !self.is_open() {
            return Failure::Away;
        }
        let failures = self.failures.get() + 1;
        self.failures.set(failures);
        if failures < FAILURES {
            return Failure::Result;
        }
        self.close();
        Failure::LastResult
    }

    /// It has no endpoint, or all of them are away.
    pub(super) fn close(&self) {
        self.open.send_replace(false);
    }

    /// It is back.
    pub(super) fn reopen(&self) {
        self.failures.set(0);
        self.open.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_in_a_row_count_and_no_more() {
        let gate = Gate::default();
        assert_eq!(gate.failed(), Failure::Result);
        gate.reached();
        assert_eq!(gate.failed(), Failure::Result);
        assert_eq!(gate.failed(), Failure::Result);
        assert_eq!(gate.failed(), Failure::LastResult);
        // What was on its way by then counts neither for nor against it.
        assert_eq!(gate.failed(), Failure::Away);
        gate.reached();
        assert!(!gate.is_open());
        gate.reopen();
        assert_eq!(gate.failed(), Failure::Result);
    }
}
