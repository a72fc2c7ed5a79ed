//! What is live, in Redis: loads as each gateway says them, and the hashes that one gateway makes
//! of them for all. Plain commands, so that they work where scripts are refused.

use std::collections::HashMap;

use fred::clients::{Client, Pipeline, Transaction};
use fred::interfaces::{FredResult, HashesInterface, KeysInterface, TransactionInterface};
use fred::types::{Expiration, SetOptions, Value};

use super::{Error, Ledger};
use crate::model::name::{Name, ServiceName, VersionName};
use crate::stats::live::{EndpointGauge, Fine, Gauge};

/// A lease that is not renewed for this long goes to another gateway.
const LEASE_MS: i64 = 3_000;
/// A live hash goes this long after it was written last, in seconds: numbers that nobody keeps up
/// to date mislead those who steer by them.
const LIVE_LIFE_S: i64 = 10;
/// Loads go this long after the last gateway spoke of the service.
const GAUGE_LIFE_S: i64 = 60;
/// Hashes written in one transaction, a few milliseconds of Redis's time.
const SERVICES_AT_ONCE: usize = 50;
/// Commands sent together.
const COMMANDS_AT_ONCE: usize = 1000;

const STEP: &str = "write what is live";

/// The live hashes of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LiveHashes {
    /// Of its versions: field and value.
    pub versions: Vec<(String, String)>,
    /// Of its endpoints: URL and JSON.
    pub endpoints: Vec<(String, String)>,
}

impl Ledger {
    fn active_key(&self) -> String {
        self.keys().internal("active")
    }

    fn gauge_key(&self, service: &Name) -> String {
        self.keys().internal(&format!("gauge:{service}"))
    }

    /// Says what the loads of this gateway are.
    pub async fn tell_gauges(&self, gauges: &[(ServiceName, Gauge)]) -> Result<(), Error> {
        let client = self.here()?;
        let tell = async |part: &[(ServiceName, Gauge)]| -> FredResult<()> {
            let pipeline: Pipeline<_> = client.pipeline();
            let mut active = HashMap::new();
            for (service, gauge) in part {
                let key = self.gauge_key(service);
                let json = serde_json::to_string(gauge).unwrap_or_default();
                let _: Value = pipeline.hset(&*key, (self.instance(), json)).await?;
                let _: Value = pipeline.expire(&*key, GAUGE_LIFE_S, None).await?;
                active.insert(service.to_string(), gauge.at_s.to_string());
            }
            let _: Value = pipeline.hset(self.active_key(), active).await?;
            let _: Vec<Value> = pipeline.all().await?;
            Ok(())
        };
        for part in gauges.chunks(COMMANDS_AT_ONCE / 2) {
            tell(part).await.map_err(Error::step(STEP))?;
        }
        Ok(())
    }

    /// Whether this gateway is the one that makes the live hashes for all, for the next seconds.
    pub async fn leads_live(&self) -> Result<bool, Error> {
        let client = self.here()?;
        let key = self.keys().internal("live-lease");
        let lead = async || -> FredResult<bool> {
            let holder: Option<String> = client.get(&*key).await?;
            match holder {
                Some(holder) if holder == self.instance() => {
                    let renewed: bool = client.pexpire(&*key, LEASE_MS, None).await?;
                    Ok(renewed)
                }
                Some(_) => Ok(false),
                None => {
                    let life = Some(Expiration::PX(LEASE_MS));
                    let only_new = Some(SetOptions::NX);
                    let taken: Option<String> = client
                        .set(&*key, self.instance(), life, only_new, false)
                        .await?;
                    Ok(taken.is_some())
                }
            }
        };
        lead().await.map_err(Error::step("lead what is live"))
    }

    /// The services of which a gateway spoke since that second. What was said before is removed.
    pub async fn active_services(&self, since_s: u64) -> Result<Vec<ServiceName>, Error> {
        let (active, past) = self.spoken_of(since_s).await?;
        if !past.is_empty() {
            let removed: FredResult<Value> = self.here()?.hdel(self.active_key(), past).await;
            removed.map_err(Error::step("forget which services were at work"))?;
        }
        Ok(active)
    }

    /// The services of which a gateway spoke since that second, and the fields of all others.
    async fn spoken_of(&self, since_s: u64) -> Result<(Vec<ServiceName>, Vec<String>), Error> {
        let said: HashMap<String, String> = (self.here()?)
            .hgetall(self.active_key())
            .await
            .map_err(Error::step("read which services are at work"))?;
        let (mut active, mut past) = (Vec::new(), Vec::new());
        for (name, at_s) in said {
            match (Name::parse(&name), at_s.parse::<u64>()) {
                (Some(service), Ok(at_s)) if at_s >= since_s => active.push(service),
                _ => past.push(name),
            }
        }
        Ok((active, past))
    }

    /// What gateways say of these services, in their order. What is older than `since_s` is
    /// removed.
    pub async fn gauges(
        &self,
        services: &[ServiceName],
        since_s: u64,
    ) -> Result<Vec<Vec<Gauge>>, Error> {
        let keys = services.iter().map(|service| self.gauge_key(service));
        let keys: Vec<String> = keys.collect();
        let mut all = Vec::with_capacity(keys.len());
        for (key, said) in keys.iter().zip(read_hashes(self.here()?, &keys).await?) {
            let (mut gauges, mut past) = (Vec::new(), Vec::new());
            for (instance, json) in said {
                match serde_json::from_str::<Gauge>(&json) {
                    Ok(gauge) if gauge.at_s >= since_s => gauges.push(gauge),
                    _ => past.push(instance),
                }
            }
            if !past.is_empty() {
                let removed: FredResult<Value> = self.here()?.hdel(&**key, past).await;
                removed.map_err(Error::step("remove the loads of a gateway that is gone"))?;
            }
            all.push(gauges);
        }
        Ok(all)
    }

    /// Fine buckets of these versions and Unix seconds, in their order.
    pub async fn fine(
        &self,
        wanted: &[(ServiceName, VersionName, u64)],
    ) -> Result<Vec<Fine>, Error> {
        let keys = wanted
            .iter()
            .map(|(service, version, second)| self.keys().hist(service, version, *second));
        let hashes = read_hashes(self.here()?, &keys.collect::<Vec<_>>()).await?;
        let parse = |hash: HashMap<String, String>| {
            Fine::parse(hash.iter().map(|(field, count)| (&**field, &**count)))
        };
        Ok(hashes.into_iter().map(parse).collect())
    }

    /// What is live of the endpoints of a service, all gateways together, as it was last written.
    pub async fn live_endpoints(
        &self,
        service: &ServiceName,
    ) -> Result<HashMap<String, EndpointGauge>, Error> {
        let key = self.keys().live_endpoints(service);
        let hashes = read_hashes(self.here()?, &[key]).await?;
        let endpoints = hashes.into_iter().flatten();
        Ok(endpoints
            .filter_map(|(url, json)| Some((url, serde_json::from_str(&json).ok()?)))
            .collect())
    }

    /// The live hashes, as they were last written, of the services of which a gateway spoke since
    /// that second. Changes nothing.
    pub async fn live(&self, since_s: u64) -> Result<Vec<(ServiceName, LiveHashes)>, Error> {
        let (services, _) = self.spoken_of(since_s).await?;
        let both = |name| [self.keys().live(name), self.keys().live_endpoints(name)];
        let keys: Vec<String> = services.iter().flat_map(both).collect();
        let mut hashes = read_hashes(self.here()?, &keys).await?.into_iter();
        let mut next = || hashes.next().unwrap_or_default().into_iter().collect();
        let live = services.into_iter().map(|service| {
            let hashes = LiveHashes {
                versions: next(),
                endpoints: next(),
            };
            (service, hashes)
        });
        // A service that was just asked for the first time has none yet.
        Ok(live.filter(|(_, it)| !it.versions.is_empty()).collect())
    }

    /// Writes the live hashes of these services anew, each whole: what is in them no more is gone.
    pub async fn write_live(&self, all: &[(ServiceName, LiveHashes)]) -> Result<(), Error> {
        let client = self.here()?;
        let write = async |part: &[(ServiceName, LiveHashes)]| -> FredResult<()> {
            let transaction = client.multi();
            for (service, live) in part {
                let keys = self.keys();
                replace(&transaction, keys.live(service), &live.versions).await?;
                replace(&transaction, keys.live_endpoints(service), &live.endpoints).await?;
            }
            let _: Value = transaction.exec(true).await?;
            Ok(())
        };
        for part in all.chunks(SERVICES_AT_ONCE) {
            write(part).await.map_err(Error::step(STEP))?;
        }
        Ok(())
    }
}

/// The hashes under these keys, in their order; empty where none stands.
pub(super) async fn read_hashes(
    client: &Client,
    keys: &[String],
) -> Result<Vec<HashMap<String, String>>, Error> {
    let found = read_if_hashes(client, keys).await?.into_iter();
    // Something else stands there, which is as good as nothing.
    Ok(found.map(Option::unwrap_or_default).collect())
}

/// The same; `None` where something stands that is no hash.
pub(super) async fn read_if_hashes(
    client: &Client,
    keys: &[String],
) -> Result<Vec<Option<HashMap<String, String>>>, Error> {
    const STEP: &str = "read what is live";
    let mut hashes = Vec::with_capacity(keys.len());
    for part in keys.chunks(COMMANDS_AT_ONCE) {
        let pipeline: Pipeline<_> = client.pipeline();
        for key in part {
            let queued: FredResult<Value> = pipeline.hgetall(&**key).await;
            queued.map_err(Error::step(STEP))?;
        }
        for answer in pipeline.try_all::<HashMap<String, String>>().await {
            hashes.push(match answer.map_err(Error::step(STEP)) {
                Ok(hash) => Some(hash),
                Err(error) if error.is_of_another_type() => None,
                Err(error) if error.is_refused() => Some(HashMap::new()),
                Err(error) => return Err(error),
            });
        }
    }
    Ok(hashes)
}

async fn replace(
    transaction: &Transaction,
    key: String,
    fields: &[(String, String)],
) -> FredResult<()> {
    let _: Value = transaction.del(&*key).await?;
    if !fields.is_empty() {
        let _: Value = transaction.hset(&*key, fields.to_vec()).await?;
        let _: Value = transaction.expire(&*key, LIVE_LIFE_S, None).await?;
    }
    Ok(())
}
