//! The slow reading beside the notifications: known objects in chunks, unknown ones by and by; and
//! the quick one instead of them, where there are none.

use std::time::Duration;

use tokio::time::Instant;

use super::{SWEEP, Watcher};
use crate::model::config::Extent;
use crate::model::keys::Parsed;
use crate::store::{Change, Scan};

/// Where there are no notifications, everything is read this often.
const POLL: Duration = Duration::from_secs(2);
/// The most objects read in one step: a few milliseconds of Redis's time.
const STEP_MAX: usize = 500;
/// Objects read in one step even where fewer would do, so that a small configuration costs one
/// command a cycle.
const STEP_MIN: usize = 200;

/// How far the slow reading has come.
#[derive(Debug, Default)]
pub(super) struct State {
    /// What is left of this cycle, last first.
    left: Vec<String>,
    cycle_began: Option<Instant>,
    polled: Option<Instant>,
    scan: Scan,
    odd: bool,
    not_before: Option<Instant>,
}

impl State {
    /// After a failure: nothing is read before `at`.
    pub(super) fn not_before(&mut self, at: Instant) {
        self.not_before = Some(at);
    }

    /// Whether the pause after a failure is over.
    pub(super) fn may_read(&self) -> bool {
        self.not_before.is_none_or(|at| at <= Instant::now())
    }
}

impl Watcher {
    /// One step.
    pub(super) async fn sweep(&mut self) {
        if !self.store.is_connected() || self.full {
            return;
        }
        if self.is_polling() {
            let due = self.sweep.polled.is_none_or(|at| at.elapsed() >= POLL);
            if due {
                self.sweep.polled = Some(Instant::now());
                self.full = true;
            }
            return;
        }
        self.read_known().await;
        self.sweep.odd = !self.sweep.odd;
        if self.sweep.odd {
            self.look_for_unknown().await;
        }
    }

    async fn read_known(&mut self) {
        let reconcile = self.options.reconcile;
        if self.sweep.left.is_empty() {
            let rested = |at: Instant| at.elapsed() >= reconcile;
            if !self.sweep.cycle_began.is_none_or(rested) {
                return;
            }
            self.sweep.cycle_began = Some(Instant::now());
            self.sweep.left = self.known();
        }
        let steps = (reconcile.as_millis() / SWEEP.as_millis()).max(1);
        let steps = usize::try_from(steps).unwrap_or(usize::MAX);
        let known = self.sweep.left.len();
        let step = (known / steps).clamp(STEP_MIN, STEP_MAX).min(known);
        let chunk = self.sweep.left.split_off(known - step);
        if chunk.is_empty() {
            return;
        }
        match self.read(chunk).await {
            Ok(found) => self.apply(found, Extent::Part),
            Err(error) => self.failed(&error),
        }
    }

    async fn look_for_unknown(&mut self) {
        let mut scan = std::mem::take(&mut self.sweep.scan);
        let found = self.store.scan(&mut scan).await;
        self.sweep.scan = scan;
        match found {
            Ok(keys) => {
                for key in keys
                    .into_iter()
                    .filter(|key| !self.is_known(key))
                    .collect::<Vec<_>>()
                {
                    self.mark(key, Change::Written);
                }
            }
            Err(error) => tracing::debug!(error = super::chain(&error), "scan failed"),
        }
    }

    fn is_known(&self, key: &str) -> bool {
        match self.store.keys().parse(key) {
            Parsed::Object(object) => self.config.is_known(&object),
            Parsed::BadName => self.config.bad_names().any(|bad| bad == key),
            Parsed::Other => true,
        }
    }
}
