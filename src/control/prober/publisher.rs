//! Keeps `smartlink:health:<svc>` in step with what this gateway holds.
//!
//! Every endpoint of every service stands there. A service is written when something about it
//! turned, in batches; all are gone through slowly beside that, because other gateways and flushes
//! take away what they do not mean to. The script writes only what is different.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::Board;
use crate::control::chain;
use crate::control::status::Status;
use crate::control::watcher::Shared;
use crate::model::name::{Name, ServiceName};
use crate::model::table::{Service, Table};
use crate::store::{EndpointHealth, Merged, ServiceHealth, Store};
use crate::telemetry;

/// What turns within this time is written together.
const GATHER: Duration = Duration::from_millis(50);
/// How often the slow turn goes one batch on, and a failed write is tried again.
const STEP: Duration = Duration::from_secs(1);
/// The slow turn begins again at the earliest after this.
const ROUND: Duration = Duration::from_secs(5);
/// The most endpoints in one script call, which blocks Redis for about 20 microseconds each.
const BATCH: usize = 100;
/// How long a stop waits until all of ours is taken back; what is left the others take away.
const LEAVE: Duration = Duration::from_secs(1);
/// After so many rounds without being mentioned a gateway that is gone is not asked about.
const GONE_ROUNDS: u32 = 3;

/// Writes health to Redis.
#[derive(Debug)]
pub struct Publisher {
    store: Store,
    instance: String,
    table: Arc<ArcSwap<Table>>,
    status: Arc<Status>,
    board: Board,
    /// Services to be written.
    waiting: BTreeSet<ServiceName>,
    /// Services the slow turn has not come to, and when it began.
    round: (BTreeSet<ServiceName>, Instant),
    /// Other gateways, and for how many rounds they are known to be gone; 0: they live.
    peers: BTreeMap<String, u32>,
    /// The doubts about Redis when everything was last marked.
    doubts: Option<u64>,
    refused: bool,
}

impl Publisher {
    /// A publisher that has not begun.
    #[must_use]
    pub fn new(store: Store, instance: String, shared: &Shared) -> Self {
        Self {
            store,
            instance,
            table: Arc::clone(&shared.table),
            status: Arc::clone(&shared.status),
            board: shared.health.clone(),
            waiting: BTreeSet::new(),
            round: (BTreeSet::new(), Instant::now()),
            peers: BTreeMap::new(),
            doubts: None,
            refused: false,
        }
    }

    /// Writes until `stop`, then takes back all that we hold: nobody is to believe it any more.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut turn = interval(STEP);
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut stop => break,
                () = self.board.marked() => sleep(GATHER).await,
                _ = turn.tick() => self.next_step().await,
            }
            self.waiting.append(&mut self.board.take_marked());
            self.write_waiting().await;
        }
        if timeout(LEAVE, self.withdraw()).await.is_err() {
            tracing::debug!("health is not all taken back: redis is slow");
        }
    }

    async fn withdraw(&mut self) {
        let table = self.table.load_full();
        let peers: Vec<String> = self.peers.keys().cloned().collect();
        let mut left: BTreeSet<ServiceName> = names(&table).collect();
        left.append(&mut self.waiting);
        left.append(&mut self.board.take_marked());
        while table.loaded && self.store.is_connected() && !left.is_empty() {
            let names = batch(&table, &left);
            let nothing = names.iter().map(|service| ServiceHealth {
                service: service.clone(),
                endpoints: Vec::new(),
            });
            let written = self
                .store
                .merge_health(&self.instance, nothing.collect(), &peers);
            if let Err(error) = written.await {
                return self.failed(&error);
            }
            left.retain(|name| !names.contains(name));
        }
    }

    /// Marks what the slow turn comes to, or everything where Redis may have lost it.
    async fn next_step(&mut self) {
        let table = self.table.load_full();
        if !table.loaded || !self.store.is_connected() {
            return;
        }
        let doubts = self.status.doubts();
        if self.doubts != Some(doubts) {
            // Services whose last endpoint went while we were not there stand there, too.
            match self.store.services_with_health().await {
                Ok(names) => self
                    .waiting
                    .extend(names.iter().filter_map(|it| Name::parse(it))),
                Err(error) => return self.failed(&error),
            }
            self.waiting.extend(names(&table));
            self.doubts = Some(doubts);
        }
        let (left, began) = &mut self.round;
        if left.is_empty() && began.elapsed() >= ROUND {
            self.round = (names(&table).collect(), Instant::now());
            self.peers.retain(|_, gone| {
                *gone += u32::from(*gone > 0);
                *gone <= GONE_ROUNDS
            });
        }
        let left = &mut self.round.0;
        let next = batch(&table, left);
        left.retain(|name| !next.contains(name));
        self.waiting.extend(next);
    }

    /// Writes what is waiting, batch by batch; what fails waits for the next step.
    async fn write_waiting(&mut self) {
        let mut table = self.table.load_full();
        while table.loaded && self.store.is_connected() && !self.waiting.is_empty() {
            let names = batch(&table, &self.waiting);
            let health = names.iter().map(|name| self.health(&table, name)).collect();
            let peers: Vec<String> = self.peers.keys().cloned().collect();
            match self
                .store
                .merge_health(&self.instance, health, &peers)
                .await
            {
                Ok(merged) => {
                    self.refused = false;
                    self.waiting.retain(|name| !names.contains(name));
                    self.meet(merged, &names);
                }
                Err(error) => return self.failed(&error),
            }
            table = self.table.load_full();
        }
    }

    fn health(&self, table: &Table, name: &ServiceName) -> ServiceHealth {
        let service = table.services.get(name.as_str());
        let versions = service.into_iter().flat_map(|service| &service.versions);
        let endpoints = versions.flat_map(|version| &version.endpoints);
        let endpoints = endpoints.map(|endpoint| {
            let shown = self.board.show(endpoint);
            EndpointHealth {
                url: endpoint.spec.url.clone(),
                state: shown.state,
                since_ms: shown.since_ms,
                why: shown.why,
            }
        });
        ServiceHealth {
            service: name.clone(),
            endpoints: endpoints.collect(),
        }
    }

    /// Remembers who else writes. Where somebody is found gone, all that was written is gone through.
    fn meet(&mut self, merged: Merged, written: &BTreeSet<ServiceName>) {
        let mut anybody_went = false;
        for (name, rounds_gone) in &mut self.peers {
            if !merged.gone.contains(name) {
                *rounds_gone = 0;
            } else if *rounds_gone == 0 {
                *rounds_gone = 1;
                anybody_went = true;
            }
        }
        if anybody_went {
            self.waiting.extend(names(&self.table.load_full()));
        }
        if !merged.unknown.is_empty() {
            self.peers
                .extend(merged.unknown.into_iter().map(|it| (it, 0)));
            // Asked about this time.
            self.waiting.extend(written.iter().cloned());
        }
    }

    fn failed(&mut self, error: &crate::store::Error) {
        if error.is_refused() && !std::mem::replace(&mut self.refused, true) {
            telemetry::redis_refuses("health of endpoints", &chain(error));
        }
        tracing::debug!(error = chain(error), "health is not written");
    }
}

fn names(table: &Table) -> impl Iterator<Item = ServiceName> {
    table.services.iter().map(|service| service.name.clone())
}

/// The first of the names whose services have no more than `BATCH` endpoints together, one at
/// least.
fn batch(table: &Table, names: &BTreeSet<ServiceName>) -> BTreeSet<ServiceName> {
    let size = |service: &Arc<Service>| -> usize {
        let versions = service.versions.iter();
        versions.map(|version| version.endpoints.len()).sum()
    };
    let mut room = BATCH;
    let fits = names.iter().enumerate().take_while(|(at, name)| {
        let size = table.services.get(name.as_str()).map_or(0, size);
        let fits = *at == 0 || size < room;
        room = room.saturating_sub(size + 1);
        fits
    });
    fits.map(|(_, name)| name.clone()).collect()
}
