//! Reads what the board wants: a bounded number of commands, sent together.

use crate::model::decode::Fields;
use crate::model::keys::Object;
use crate::model::name::{Name, ServiceName};
use crate::store::{Error, Scan, View};
use crate::top::facts::Hashes;
use crate::top::{Reading, Sighting, Wanted};

/// Steps through all keys in one reading, of a thousand keys each.
const STEPS: usize = 4;
/// Keys that name services and gateways: endpoints, gateway, live.
const NAMING: &str = "[egl]*";
/// Every so many readings the gateways' own list of services is read.
const LIST_EVERY: u64 = 10;
/// The newest events that are read.
const EVENTS: u64 = 50;

/// How far a reading looks for keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// To the end.
    All,
    /// Some steps.
    Part,
}

/// Reads from Redis, and from that of the counts where it is another.
pub(super) struct Reader {
    config: View,
    stats: Option<View>,
    scan: Scan,
    readings: u64,
}

impl Reader {
    pub(super) fn new(config: View, stats: Option<View>) -> Self {
        Self {
            config,
            stats,
            scan: Scan::default(),
            readings: 0,
        }
    }

    /// Waits until Redis is there; a few seconds at most.
    pub(super) async fn wait(&self) -> Result<(), Error> {
        self.config.wait().await?;
        self.stats().wait().await
    }

    fn stats(&self) -> &View {
        self.stats.as_ref().unwrap_or(&self.config)
    }

    /// Reads what is wanted, and what everybody wants.
    pub(super) async fn read(&mut self, wanted: Wanted, extent: Extent) -> Result<Reading, Error> {
        let keys = self.config.keys().clone();
        let now_ms = self.config.now_ms().await?;
        let sighting = self.look(extent).await?;
        let details = self.details(wanted.details).await?;
        let survey = self.survey(wanted.survey).await?;
        let mut own = vec![keys.errors()];
        own.extend(wanted.gateways.iter().map(|name| keys.gateway(name)));
        let mut own = self.config.hashes(&own).await?.into_iter();
        Ok(Reading {
            now_ms,
            sighting,
            survey,
            details,
            errors: own.next().unwrap_or_default(),
            gateways: wanted.gateways.into_iter().zip(own).collect(),
            events: self.config.events(EVENTS).await?,
            refused: self.config.refusal(&keys.errors()).await?,
        })
    }

    /// Looks for names of services and gateways.
    async fn look(&mut self, extent: Extent) -> Result<Sighting, Error> {
        let keys = self.config.keys().clone();
        let mut sighting = Sighting::default();
        if self.readings.is_multiple_of(LIST_EVERY) {
            let listed = self.config.services_with_health().await?;
            let listed = listed.iter().filter_map(|name| Name::parse(name));
            sighting.services.extend(listed);
        }
        self.readings += 1;
        let mut steps = 0;
        while !sighting.complete && (extent == Extent::All || steps < STEPS) {
            for key in self.config.keys_like(&mut self.scan, NAMING).await? {
                sighting.services.extend(keys.parse_service(&key));
                sighting
                    .gateways
                    .extend(keys.parse_gateway(&key).map(str::to_owned));
            }
            sighting.complete = self.scan.is_at_start();
            steps += 1;
        }
        Ok(sighting)
    }

    /// Live, health and weights of each.
    async fn survey(&self, names: Vec<ServiceName>) -> Result<Vec<(ServiceName, Hashes)>, Error> {
        let keys = self.config.keys();
        let live: Vec<String> = names.iter().map(|name| keys.live(name)).collect();
        let config = names.iter().flat_map(|name| {
            let weights = keys.object(&Object::Weights(name.clone()));
            [keys.health(name), weights]
        });
        let config: Vec<String> = config.collect();
        let mut live = self.stats().hashes(&live).await?.into_iter();
        let mut config = self.config.hashes(&config).await?.into_iter();
        let next = |from: &mut dyn Iterator<Item = Fields>| from.next().unwrap_or_default();
        let read = names.into_iter().map(|name| {
            let hashes = Hashes {
                live: next(&mut live),
                health: next(&mut config),
                weights: next(&mut config),
                ..Hashes::default()
            };
            (name, hashes)
        });
        Ok(read.collect())
    }

    /// All hashes of each.
    async fn details(&self, names: Vec<ServiceName>) -> Result<Vec<(ServiceName, Hashes)>, Error> {
        let keys = self.config.keys();
        let live: Vec<String> = names.iter().map(|name| keys.live_endpoints(name)).collect();
        let config = names
            .iter()
            .map(|name| keys.object(&Object::Endpoints(name.clone())));
        let config: Vec<String> = config.collect();
        let live = self.stats().hashes(&live).await?;
        let config = self.config.hashes(&config).await?;
        let surveyed = self.survey(names).await?;
        let more = live.into_iter().zip(config);
        let read = surveyed
            .into_iter()
            .zip(more)
            .map(|((name, hashes), more)| {
                let hashes = Hashes {
                    live_endpoints: more.0,
                    endpoints: more.1,
                    ..hashes
                };
                (name, hashes)
            });
        Ok(read.collect())
    }
}
