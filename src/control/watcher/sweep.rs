//! The slow reading beside the notifications: known objects in chunks, unknown ones by and by; and
//! the quick one instead of them, where there are none.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{SWEEP, Watcher};
use crate::model::config::Extent;
use crate::model::keys::{Object, Parsed};
use crate::store::{Change, Scan};

/// Where there are no notifications, everything is read this often.
const POLL: Duration = Duration::from_secs(2);
/// The most objects read in one step: a few milliseconds of Redis's time.
const STEP_MAX: usize = 500;
/// Objects read in one step even where fewer would do, so that a small configuration costs one
/// command a cycle.
const STEP_MIN: usize = 200;

/// Which tokens are left in a cycle.
#[derive(Debug, Default)]
enum Tokens {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// Those behind this one.
    Behind(Object),
}

/// How far the slow reading has come.
#[derive(Debug, Default)]
pub(super) struct State {
    /// What is left of this cycle, last first: all but the tokens in force.
    left: Vec<String>,
    /// The tokens in force that are left.
    tokens: Tokens,
    cycle_began: Option<Instant>,
    polled: Option<Instant>,
    /// How long it took to read everything.
    walk: Duration,
    scan: Scan,
    odd: bool,
    not_before: Option<Instant>,
}

impl State {
    /// After a failure: nothing is read before `at`.
    pub(super) fn not_before(&mut self, at: Instant) {
        self.not_before = Some(at);
    }

    /// Everything was read, in that time.
    pub(super) fn walked(&mut self, walk: Duration) {
        self.walk = walk;
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
            // Of a million tokens Redis and we would do nothing else.
            let pause = POLL.max(3 * self.sweep.walk);
            let due = self.sweep.polled.is_none_or(|at| at.elapsed() >= pause);
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
        if self.sweep.left.is_empty() && matches!(self.sweep.tokens, Tokens::None) {
            let rested = |at: Instant| at.elapsed() >= reconcile;
            if !self.sweep.cycle_began.is_none_or(rested) {
                return;
            }
            self.sweep.cycle_began = Some(Instant::now());
            self.sweep.left = self.known_singly();
            self.sweep.tokens = Tokens::All;
        }
        let steps = (reconcile.as_millis() / SWEEP.as_millis()).max(1);
        let steps = usize::try_from(steps).unwrap_or(usize::MAX);
        let known = self.config.known_count();
        let chunk = self.next_known((known / steps).clamp(STEP_MIN, STEP_MAX));
        if chunk.is_empty() {
            return;
        }
        match self.read(BTreeMap::new(), chunk).await {
            Ok(found) => self.apply(found, Extent::Part),
            Err(error) => self.failed(&error),
        }
    }

    /// The next keys of the cycle, at most so many.
    fn next_known(&mut self, most: usize) -> Vec<String> {
        let left = &mut self.sweep.left;
        let mut chunk = left.split_off(left.len().saturating_sub(most));
        let room = most - chunk.len();
        let behind = match &self.sweep.tokens {
            Tokens::Behind(object) => Some(object),
            Tokens::All => None,
            Tokens::None => return chunk,
        };
        let tokens = self.config.known_tokens(behind).take(room);
        let tokens: Vec<Object> = tokens.collect();
        let keys = self.store.keys();
        chunk.extend(tokens.iter().map(|object| keys.object(object)));
        self.sweep.tokens = match tokens.last() {
            Some(last) => Tokens::Behind(last.clone()),
            None if room > 0 => Tokens::None,
            None => return chunk,
        };
        chunk
    }

    /// All keys that are to be read again by and by, but for the tokens in force.
    fn known_singly(&self) -> Vec<String> {
        let keys = self.store.keys();
        let objects = self.config.known_singly().map(|object| keys.object(object));
        let bad_names = self.config.bad_names().map(str::to_owned);
        objects.chain(bad_names).collect()
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
