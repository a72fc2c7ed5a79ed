//! Once a second: says what the loads of this gateway are, and, where it holds the lease, makes
//! the live hashes of all gateways together.
//!
//! One gateway makes them, because each that did would read all fine buckets of all gateways; it
//! reads those of the newest seconds only and remembers the others. A gateway whose services are
//! all idle does nothing, and sends no command.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::{sleep, timeout};

use super::chain;
use crate::model::name::{Name, ServiceName, VersionName};
use crate::model::table::Table;
use crate::stats::live::{self, BELIEVED_S, Fine, Gauge, SECONDS};
use crate::stats::track::Tracks;
use crate::store::{Error, Ledger, LiveHashes};

/// How far into a second the one before is complete: every gateway has told its counts by then.
const COMPLETE_MS: u64 = 300;
/// After so many seconds nothing is added to a second any more.
const SETTLED_S: u64 = 3;
/// What a gateway said is removed from Redis when it is this old.
const FORGOTTEN_S: u64 = 30;

/// How long a look at what is live may take.
const LOOK: Duration = Duration::from_secs(2);

/// A version of a service.
type Key = (ServiceName, VersionName);

/// Looks at what is live, for whoever asks.
#[derive(Clone, Debug)]
pub struct Look(Arc<Ledger>);

impl Look {
    /// A look through this connection.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>) -> Self {
        Self(ledger)
    }

    /// The live hashes of the services that are at work, of all gateways together; `None` where
    /// Redis does not say.
    pub async fn read(&self) -> Option<Vec<(ServiceName, LiveHashes)>> {
        let since_s = (self.0.now_ms() / 1000).saturating_sub(BELIEVED_S);
        match timeout(LOOK, self.0.live(since_s)).await {
            Ok(Ok(live)) => Some(live),
            Ok(Err(error)) => {
                tracing::debug!(error = chain(&error), "what is live is not read");
                None
            }
            Err(_late) => None,
        }
    }
}

/// Keeps what is live up to date.
#[derive(Debug)]
pub struct Live {
    ledger: Arc<Ledger>,
    table: Arc<ArcSwap<Table>>,
    tracks: Tracks,
    /// Seconds to which nothing is added any more, as they were read.
    settled: HashMap<Key, BTreeMap<u64, Fine>>,
}

impl Live {
    /// A task that has not begun.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>, table: Arc<ArcSwap<Table>>) -> Self {
        Self {
            ledger,
            table,
            tracks: Tracks::default(),
            settled: HashMap::new(),
        }
    }

    /// Goes on for as long as the process runs.
    pub async fn run(mut self) {
        loop {
            let now_ms = self.ledger.now_ms();
            let next = 1000 - (now_ms + 1000 - COMPLETE_MS) % 1000;
            sleep(Duration::from_millis(next)).await;
            if let Err(error) = self.turn().await {
                tracing::debug!(error = chain(&error), "what is live is not told");
            }
        }
    }

    async fn turn(&mut self) -> Result<(), Error> {
        let now_s = self.ledger.now_ms() / 1000;
        let gauges = self.tracks.look(&self.table.load(), now_s);
        if gauges.is_empty() {
            self.settled.clear();
            return Ok(());
        }
        self.ledger.tell_gauges(&gauges).await?;
        if self.ledger.leads_live().await? {
            self.lead(now_s).await?;
        } else {
            self.settled.clear();
        }
        Ok(())
    }

    /// Makes the live hashes of all services that are at work anywhere.
    async fn lead(&mut self, now_s: u64) -> Result<(), Error> {
        let since_s = now_s.saturating_sub(BELIEVED_S);
        let services = self.ledger.active_services(since_s).await?;
        let forgotten_s = now_s.saturating_sub(FORGOTTEN_S);
        let said = self.ledger.gauges(&services, forgotten_s).await?;
        let merged: Vec<(ServiceName, Gauge)> = services
            .into_iter()
            .zip(said.iter().map(|gauges| live::merge(gauges, now_s)))
            .collect();
        let wanted = merged.iter().flat_map(|(service, gauge)| {
            let versions = gauge.versions.keys().filter_map(|name| Name::parse(name));
            versions.map(|version| (service.clone(), version))
        });
        let counted = self.count(wanted.collect(), now_s).await?;
        let hashes: Vec<(ServiceName, LiveHashes)> = merged
            .into_iter()
            .map(|(service, gauge)| {
                let nothing = BTreeMap::new();
                let fine = counted.get(&service).unwrap_or(&nothing);
                let hashes = LiveHashes {
                    versions: live::fields(&gauge, fine),
                    endpoints: endpoints(&gauge),
                };
                (service, hashes)
            })
            .collect();
        self.ledger.write_live(&hashes).await
    }

    /// What was counted in the last ten whole seconds.
    async fn count(
        &mut self,
        versions: HashSet<Key>,
        now_s: u64,
    ) -> Result<HashMap<ServiceName, BTreeMap<String, Fine>>, Error> {
        let first = now_s.saturating_sub(SECONDS);
        self.settled.retain(|key, seconds| {
            seconds.retain(|second, _| *second >= first);
            versions.contains(key)
        });
        let mut sums: HashMap<ServiceName, BTreeMap<String, Fine>> = HashMap::new();
        let mut add = |service: &ServiceName, version: &VersionName, fine: &Fine| {
            let of_service = sums.entry(service.clone()).or_default();
            of_service.entry(version.to_string()).or_default().add(fine);
        };
        let mut wanted = Vec::new();
        for key in &versions {
            let settled = self.settled.get(key);
            for second in first..now_s {
                match settled.and_then(|seconds| seconds.get(&second)) {
                    Some(fine) => add(&key.0, &key.1, fine),
                    None => wanted.push((key.0.clone(), key.1.clone(), second)),
                }
            }
        }
        let read = self.ledger.fine(&wanted).await?;
        for ((service, version, second), fine) in wanted.into_iter().zip(read) {
            add(&service, &version, &fine);
            if second + SETTLED_S < now_s {
                let seconds = self.settled.entry((service, version)).or_default();
                seconds.insert(second, fine);
            }
        }
        Ok(sums)
    }
}

fn endpoints(gauge: &Gauge) -> Vec<(String, String)> {
    let endpoints = gauge.endpoints.iter();
    endpoints
        .filter_map(|(url, endpoint)| Some((url.clone(), serde_json::to_string(endpoint).ok()?)))
        .collect()
}
