//! Tells people that something is wrong: looks once a second, where it holds the lease, and
//! delivers what is owed.
//!
//! One gateway judges for all and keeps what it knows of incidents in Redis, so that another can go
//! on with it. Only that Redis is lost each gateway tells by itself, for nobody can agree then. A
//! gateway without alerts sends no command.
//!
//! Invariant: a receiver that is slow or dead delays nobody but itself.

mod courier;
mod lead;
mod mail;
mod post;
mod rates;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

pub use post::Secrets;

use self::courier::{Couriers, Delivered, Source};
use self::lead::Lead;
use super::chain;
use super::status;
use super::watcher::Shared;
use crate::model::alert::{Alert, Kind};
use crate::model::name::Name;
use crate::model::table::Table;
use crate::policy::alert::{Book, Key, Look, Message, condition};
use crate::store::{ALERTS_LEASE, LeadOrder, Led, Ledger, Store};
use crate::telemetry;
use crate::transport::TlsConfigs;

/// How often everything is looked at.
const TICK: Duration = Duration::from_secs(1);
/// The most calls of one turn: readings of what just turned out to be of interest.
const CALLS_MAX: usize = 10;
/// Before the lease ends we stop sending, for our clock may be late.
const MARGIN: Duration = Duration::from_secs(2);

/// What the alerter needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Our name among the gateways.
    pub instance: String,
    /// Where Redis is, without user and password.
    pub place: String,
    /// Where secrets are.
    pub secrets: Secrets,
}

/// Tells people.
#[derive(Debug)]
pub struct Alerter {
    store: Store,
    ledger: Arc<Ledger>,
    options: Options,
    shared: Shared,
    /// Our name as a leader, new at each start.
    me: String,
    /// What this gateway judges for all.
    book: Book,
    /// What this gateway sees alone.
    own: Book,
    lead: Option<Lead>,
    couriers: Couriers,
    /// What Redis says where it does not let us judge.
    refused: Option<String>,
}

impl Alerter {
    /// An alerter that has not begun.
    #[must_use]
    pub fn new(store: Store, ledger: Arc<Ledger>, options: Options, shared: &Shared) -> Self {
        // The standard library seeds each `RandomState` from the system's random source.
        let life = RandomState::new().build_hasher().finish();
        Self {
            me: format!("{}:{life:016x}", options.instance),
            store,
            ledger,
            couriers: Couriers::new(options.clone(), shared.outbox.clone()),
            options,
            shared: shared.clone(),
            book: Book::default(),
            own: Book::default(),
            lead: None,
            refused: None,
        }
    }

    /// Tells for as long as the process runs; to be spawned where tasks need not be `Send`.
    pub async fn run(mut self) {
        let (done, mut delivered) = mpsc::unbounded_channel();
        let tls = Rc::new(TlsConfigs::default());
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => self.look().await,
                Some(done) = delivered.recv() => self.take(done).await,
            }
            self.send(&tls, &done);
            self.shared.status.set_alerts(status::Alerts {
                leads: self.lead.is_some(),
                open: self.book.open().chain(self.own.open()).fold(
                    BTreeMap::new(),
                    |mut open, key| {
                        *open.entry((key.alert.clone(), key.kind)).or_default() += 1;
                        open
                    },
                ),
                told: self.couriers.told(),
            });
        }
    }

    /// One look at everything.
    async fn look(&mut self) {
        let table = self.shared.table.load_full();
        if table.alerts.is_empty() && self.book.is_empty() && self.own.is_empty() {
            self.lead = None;
            return;
        }
        let now_ms = now_ms();
        self.look_for_redis(&table, now_ms);
        if !self.store.is_connected() {
            return;
        }
        match self.turn(&table, now_ms).await {
            Ok(()) => self.refused = None,
            Err(error) => {
                let why = chain(&error);
                tracing::debug!(error = why, "alerts are not judged");
                if error.is_refused() && self.refused.replace(why.clone()).is_none() {
                    telemetry::redis_refuses("alerts", &why);
                }
            }
        }
    }

    /// Whether Redis is there, and does what is asked of it, is for each gateway to say.
    fn look_for_redis(&mut self, table: &Table, now_ms: u64) {
        let place = &self.options.place;
        let why = if self.shared.status.is_connected() {
            let refused = self.refused.as_ref();
            refused
                .map(|words| format!("Redis at {place} refuses what judging alerts takes: {words}"))
        } else {
            Some(format!("this gateway cannot reach Redis at {place}"))
        };
        let scene = condition::Scene {
            keys: self.store.keys(),
            table,
        };
        let why = why.filter(|_| table.loaded);
        let sightings = why.map(|why| condition::redis_lost(scene, place, &why));
        let look = Look {
            sightings: sightings.unwrap_or_default(),
            known: [(Kind::RedisLost, None)].into(),
        };
        self.own.look(now_ms, &table.alerts, look);
        let changes = self.own.changes(now_ms);
        self.own.saved(changes, now_ms);
    }

    /// Takes or keeps the lease; where we hold it, judges everything.
    async fn turn(&mut self, table: &Arc<Table>, now_ms: u64) -> Result<(), crate::store::Error> {
        for _ in 0..CALLS_MAX {
            let order = self.order(table);
            let began = Instant::now();
            match self.store.lead_alerts(&order).await? {
                Led::Held => {
                    self.lead = None;
                    self.book.clear();
                    return Ok(());
                }
                Led::Won {
                    before,
                    incidents,
                    last,
                } => self.won(&before, incidents, last, now_ms, began),
                Led::Leads {
                    events,
                    last,
                    hashes,
                } => {
                    let keys = self.store.keys();
                    let Some(lead) = &mut self.lead else { break };
                    lead.until = began + ALERTS_LEASE.saturating_sub(MARGIN);
                    lead.take(keys, events, &last, order.hashes.into_iter().zip(hashes));
                    if !lead.wants_more() {
                        break;
                    }
                }
            }
        }
        self.judge(table, now_ms).await;
        self.save(now_ms).await
    }

    fn order(&mut self, table: &Table) -> LeadOrder {
        let mut order = LeadOrder {
            me: self.me.clone(),
            ..LeadOrder::default()
        };
        if let Some(lead) = &mut self.lead {
            order.cursor.clone_from(&lead.cursor);
            order.hashes = lead.wanted(self.store.keys(), table, &self.book);
        }
        order
    }

    /// We lead from now on, with what the one before us knew.
    fn won(
        &mut self,
        before: &str,
        mut incidents: BTreeMap<String, String>,
        last: String,
        now_ms: u64,
        began: Instant,
    ) {
        telemetry::alerts_led();
        let mut cursor = incidents.remove("cursor");
        if before.is_empty() {
            // Everything was lost, or this is the first time: what we know is all there is.
            self.book.unsave();
            cursor = None;
        } else if before != self.me {
            let known = incidents.iter().filter_map(|(field, json)| {
                Some((Key::parse(field)?, serde_json::from_str(json).ok()?))
            });
            self.book.replace(known, now_ms);
        }
        let cursor = cursor.unwrap_or(last);
        self.lead = Some(Lead::new(cursor, began));
    }

    /// Makes incidents of what was read.
    async fn judge(&mut self, table: &Arc<Table>, now_ms: u64) {
        let Some(lead) = &mut self.lead else { return };
        let scene = condition::Scene {
            keys: self.store.keys(),
            table,
        };
        let look = lead.look(scene, &self.ledger, &self.book).await;
        self.book.look(now_ms, &table.alerts, look);
    }

    /// Keeps in Redis what another gateway would need to go on.
    async fn save(&mut self, now_ms: u64) -> Result<(), crate::store::Error> {
        let Some(lead) = &mut self.lead else {
            return Ok(());
        };
        let changes = self.book.changes(now_ms);
        let mut order = LeadOrder {
            me: self.me.clone(),
            ..LeadOrder::default()
        };
        if let Some(cursor) = lead.unsaved_cursor() {
            order.set.push(("cursor".to_owned(), cursor));
        }
        for (key, incident) in &changes.set {
            let json = serde_json::to_string(incident).unwrap_or_default();
            order.set.push((key.to_string(), json));
        }
        order.gone = changes.gone.iter().map(Key::to_string).collect();
        if order.set.is_empty() && order.gone.is_empty() {
            return Ok(());
        }
        // Whoever lost the lease meanwhile has written nothing, and finds out with the next look.
        if let Led::Leads { .. } = self.store.lead_alerts(&order).await? {
            lead.cursor_saved();
            self.book.saved(changes, now_ms);
        }
        Ok(())
    }

    /// Sends what is owed, one message at a time to each receiver.
    fn send(&mut self, tls: &Rc<TlsConfigs>, done: &mpsc::UnboundedSender<Delivered>) {
        let table = self.shared.table.load_full();
        let leads = self.lead.as_ref().is_some_and(Lead::holds);
        let (now, now_ms) = (Instant::now(), now_ms());
        self.couriers.keep(&table.alerts);
        for (id, alert) in table.alerts.iter() {
            if !self.couriers.is_free(id, alert, now) {
                continue;
            }
            let gateway = &self.options.instance;
            let own = self.own.next_parcel(id.as_str(), gateway, now_ms);
            let own = own.map(|parcel| (Source::Own, parcel));
            let shared = || {
                let parcel = self.book.next_parcel(id.as_str(), gateway, now_ms)?;
                leads.then_some((Source::Shared, parcel))
            };
            if let Some((source, parcel)) = own.or_else(shared) {
                self.couriers.send(id, alert, source, parcel, tls, done);
            }
        }
        if leads {
            self.couriers
                .name_missing_secrets(&table.alerts, self.store.keys(), now);
        }
    }

    /// Takes note of how a delivery went.
    async fn take(&mut self, done: Delivered) {
        let (keys, tell) = (done.parcel.keys.clone(), done.parcel.tell);
        let source = done.source;
        let settled = self.couriers.take(done, self.store.keys());
        if !settled {
            return;
        }
        match source {
            Source::Own => self.own.told(&keys, tell),
            Source::Shared => {
                self.book.told(&keys, tell);
                // At once, so that a gateway that goes on does not tell it again.
                if let Err(error) = self.save(now_ms()).await {
                    tracing::debug!(error = chain(&error), "what was told is not saved");
                }
            }
        }
    }
}

/// Sends a test message by an alert; what its receiver answered, or why it did not take it.
pub async fn try_out(
    id: &Name,
    alert: &Alert,
    gateway: &str,
    secrets: Secrets,
) -> Result<String, String> {
    let now_ms = now_ms();
    let message = Message::test(id.as_str(), gateway, now_ms);
    post::deliver(alert, secrets, &message, &TlsConfigs::default(), now_ms).await
}

/// Unix milliseconds.
fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}
