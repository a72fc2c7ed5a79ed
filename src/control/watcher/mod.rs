//! Keeps the routing table in step with the hashes in Redis.
//!
//! A notification is only a hint to read a key again, whole. Where hints may be missing (a new
//! connection, a flush, silence) everything is read. The watcher is one task that does one thing
//! at a time; each wait in it is bounded.
//!
//! Invariant: what is in force changes only by a whole, consistent reading.

mod apply;
mod proof;
mod pulse;
mod read;
mod snapshot;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::chain;
use super::outbox::Outbox;
use super::prober::Board;
use super::status::{Standing, Status};
use crate::model::config::Config;
use crate::model::keys::Parsed;
use crate::model::table::Table;
use crate::policy::quotas::Quotas;
use crate::store::{Change, Error, Event, Events, Store};

/// How the watcher works.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often all known objects are read again, whatever was heard.
    pub reconcile: Duration,
    /// Our name among the gateways.
    pub instance: String,
    /// Where we take requests, for the gateway's hash.
    pub address: String,
    /// The snapshot file, where one is kept.
    pub snapshot: Option<PathBuf>,
}

/// What the watcher shares with the rest of the process.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The table in force.
    pub table: Arc<ArcSwap<Table>>,
    /// What the watcher knows about itself.
    pub status: Arc<Status>,
    /// News on its way to Redis.
    pub outbox: Outbox,
    /// The revision in force, for those who wait for the next.
    pub revision: watch::Sender<u64>,
    /// How endpoints are.
    pub health: Board,
    /// What requests count against limits; it is told how many gateways there are.
    pub quotas: Arc<Quotas>,
}

/// How often a life sign is given.
const BEAT: Duration = Duration::from_millis(500);
/// How often a step of the slow reading is taken.
const SWEEP: Duration = Duration::from_millis(500);
/// How long a start waits for Redis before it goes on without.
const START: Duration = Duration::from_secs(1);

/// Keeps the table in step.
#[derive(Debug)]
pub struct Watcher {
    store: Store,
    events: Events,
    options: Options,
    shared: Shared,
    config: Config,
    /// Keys that changed since they were last read.
    dirty: BTreeMap<String, Change>,
    /// Everything must be read.
    full: bool,
    /// Everything was read since the start.
    has_read_all: bool,
    proof: proof::State,
    /// `smartlink:errors` may hold something else than what stands.
    errors_unsure: bool,
    ring: u64,
    /// Config errors that stand, by place.
    standing: BTreeMap<String, Standing>,
    pulse: pulse::State,
    sweep: sweep::State,
    snapshot: snapshot::State,
}

impl Watcher {
    /// A watcher with an empty book.
    #[must_use]
    pub fn new(store: Store, events: Events, options: Options, shared: Shared) -> Self {
        Self {
            config: Config::new(store.keys().clone()),
            store,
            events,
            options,
            shared,
            dirty: BTreeMap::new(),
            full: true,
            has_read_all: false,
            proof: proof::State::default(),
            errors_unsure: true,
            ring: 0,
            standing: BTreeMap::new(),
            pulse: pulse::State::default(),
            sweep: sweep::State::default(),
            snapshot: snapshot::State::default(),
        }
    }

    /// Takes the snapshot, then Redis where it is there within a second. Fails where another live
    /// gateway has our name.
    pub async fn start(&mut self) -> Result<(), NameHeld> {
        self.restore();
        let end = Instant::now() + START;
        while !self.store.is_connected() {
            match tokio::time::timeout_at(end, self.events.next()).await {
                Ok(Some(event)) => self.hear(event),
                Ok(None) | Err(_) => break,
            }
        }
        if let Ok(true) = self.store.is_name_held().await {
            return Err(NameHeld(self.options.instance.clone()));
        }
        // A reachable Redis is read before requests are taken.
        let end = Instant::now() + START;
        while self.store.is_connected() && Instant::now() < end {
            self.work().await;
            if !self.full {
                break;
            }
            if let Ok(Some(event)) = timeout(START / 20, self.events.next()).await {
                self.hear(event);
            }
        }
        Ok(())
    }

    /// Watches until `stop`, then leaves Redis in order.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut beat = interval(BEAT);
        let mut sweep = interval(SWEEP);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut stop => break,
                event = self.events.next() => match event {
                    Some(event) => self.hear(event),
                    None => break,
                },
                _ = beat.tick() => self.beat().await,
                _ = sweep.tick() => self.sweep().await,
                turn = self.snapshot.turn() => self.keep_snapshot(turn),
            }
            self.work().await;
        }
        self.finish().await;
    }

    /// Takes one event in; what is to be done about it is done by `work`.
    fn hear(&mut self, event: Event) {
        match event {
            Event::Key(key, change) => self.mark(key, change),
            Event::Beat => self.proven(),
            // A ring that nobody waits for any more.
            Event::Ring(_) => {}
            Event::Hearing => self.hearing(),
            Event::Asking => self.asking(),
            Event::Deaf => self.pulse.hearing = false,
            Event::Lost(why) => self.lost(&why),
            Event::Refused(why) => self.refused(why),
            Event::Lagged => self.full = true,
        }
    }

    fn mark(&mut self, key: String, change: Change) {
        if self.store.keys().parse(&key) == Parsed::Other {
            return;
        }
        let marked = self.dirty.entry(key).or_insert(change);
        // Taken away and written again is one absence at most, and that one was ordered.
        *marked = (*marked).max(change);
    }

    /// Does what is to be done: asks for notifications, reads everything, or what changed.
    async fn work(&mut self) {
        while let Some(event) = self.events.try_next() {
            self.hear(event);
        }
        if !self.store.is_connected() {
            return;
        }
        if self.pulse.flags_wanted {
            self.ask_notifications().await;
        }
        if self.pulse.beat_wanted {
            self.beat().await;
        }
        // A partial reading may ask for a full one, and that may find that more has changed.
        for _ in 0..3 {
            if self.full {
                if !self.may_read_all() {
                    return;
                }
                self.read_all().await;
            } else if self.dirty.is_empty() {
                break;
            } else {
                self.read_dirty().await;
            }
        }
        self.prove_read().await;
    }

    /// Writes what is still to be written and takes our hash away.
    async fn finish(&mut self) {
        /// Longer, a stop would be felt.
        const LEAVE: Duration = Duration::from_secs(1);
        self.write_last_snapshot().await;
        let leave = async {
            self.shared.outbox.flush(&self.store).await;
            self.store.resign().await
        };
        match timeout(LEAVE, leave).await {
            Ok(Ok(()) | Err(Error::Away)) => {}
            Ok(Err(error)) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "left in disorder");
            }
            Err(_) => tracing::debug!("left in disorder: redis does not answer"),
        }
    }
}

/// Another live gateway has our name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another live gateway is called {0}: want another --instance")]
pub struct NameHeld(pub String);

/// A new number nobody can guess.
pub(super) fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    // The standard library seeds each `RandomState` from the system's random source.
    RandomState::new().build_hasher().finish()
}

/// Now, in Unix milliseconds.
pub(super) fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

/// Now, RFC 3339, whole seconds, UTC.
fn now_text() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

/// All the keys, sorted, once each.
fn union(a: impl IntoIterator<Item = String>, b: impl IntoIterator<Item = String>) -> Vec<String> {
    a.into_iter()
        .chain(b)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect()
}
