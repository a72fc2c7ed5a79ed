//! What a lane looks at beside its records: how many wait, and whether the scorer says enough.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use super::lane::Lane;
use crate::review;
use crate::telemetry;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// So many pairs must have been asked about before their share means anything.
const ASKED_MIN: u64 = 20;

impl Lane {
    /// Looks again and again.
    pub(super) async fn keep_books(self: Rc<Self>) {
        loop {
            self.look_at_backlog().await;
            self.look_at_scores().await;
            sleep(LOOK_EVERY).await;
        }
    }

    async fn look_at_backlog(&self) {
        let backlog = (self.comparisons()).backlog(self.service(), self.candidate());
        match backlog.await {
            Ok((waiting, pending)) => {
                let mut status = self.status_mut();
                (status.waiting, status.pending) = (waiting, pending);
            }
            Err(error) => self.complain(&error),
        }
    }

    /// Says so, once, when the scorer says nothing of so many pairs that its scores prove nothing.
    pub(super) async fn look_at_scores(&self) {
        if self.job().policy.scorer.is_none() {
            return;
        }
        let read = (self.comparisons()).counters(self.service(), self.candidate());
        let counters = match read.await {
            Ok(counters) => counters,
            Err(error) => return self.complain(&error),
        };
        let (unscored, asked) = review::scorings(&counters);
        let is_unscored = asked >= ASKED_MIN && review::is_unscored(&counters);
        let was = std::mem::replace(&mut self.status_mut().unscored, is_unscored);
        if !is_unscored || was {
            return;
        }
        let why = format!("inconclusive: the scorer said nothing of {unscored} of {asked} pairs");
        self.announce(self.event("shadow_unscored", why)).await;
    }

    /// Adds an event to those that everybody sees.
    pub(super) async fn announce(&self, event: Vec<(&'static str, String)>) {
        let told = (self.herald()).tell(self.service(), self.candidate(), &[], Some(event));
        if let Err(error) = told.await {
            self.complain(&error);
        }
    }

    /// Says, now and then, why the scorer says nothing.
    pub(super) fn complain_of_scorer(&self, why: &str) {
        if self.scorer().may_complain() {
            let (service, candidate) = (self.service().as_str(), self.candidate().as_str());
            telemetry::scorer_failed(service, candidate, why);
        }
    }
}
