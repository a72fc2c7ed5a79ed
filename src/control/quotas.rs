//! Leases shares of the quotas that gateways share, ahead of demand: requests count against what is
//! leased already and wait for nothing.
//!
//! A quota is asked for while requests come for it, ten times a second. One that is idle costs no
//! command; its share goes back by itself.
//!
//! Invariant: whatever Redis does, requests go on. Without a lease a gateway's share is an equal part
//! for each gateway of the fleet as it was last known.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::chain;
use crate::model::quota::Quota;
use crate::model::table::Service;
use crate::policy::quotas::{Demand, Meter, Quotas};
use crate::policy::share::{self, Appetite, Lease, WHOLE};
use crate::store::{QUOTA_LEASE, QuotaWish, Store};

/// How often shares are asked for.
const TURN: Duration = Duration::from_millis(100);
/// A quota without requests for this long is asked for no more.
const IDLE: Duration = Duration::from_secs(1);
/// By so much a lease ends here before it ends in Redis.
const MARGIN: Duration = Duration::from_millis(100);
/// The most quotas held on lease at once; requests for others count against an equal part.
const HELD_MAX: usize = 4_096;
/// Quotas asked for by one script call.
const AT_ONCE: usize = 128;

/// A quota that is asked for.
#[derive(Debug)]
struct Held {
    service: Arc<Service>,
    key: Option<u64>,
    appetite: Appetite,
    /// When requests came last, and since when they are counted.
    came: Instant,
    counted: Instant,
}

/// Keeps shares on lease.
#[derive(Debug)]
pub struct Leases {
    store: Store,
    quotas: Arc<Quotas>,
    demands: mpsc::Receiver<Demand>,
    /// What all moments are counted from.
    epoch: Instant,
    held: HashMap<String, Held>,
}

impl Leases {
    /// A task that has not begun.
    #[must_use]
    pub fn new(
        store: Store,
        quotas: Arc<Quotas>,
        demands: mpsc::Receiver<Demand>,
        epoch: Instant,
    ) -> Self {
        Self {
            store,
            quotas,
            demands,
            epoch,
            held: HashMap::new(),
        }
    }

    /// Goes on for as long as requests may come.
    pub async fn run(mut self) {
        loop {
            if self.held.is_empty() {
                let Some(demand) = self.demands.recv().await else {
                    return;
                };
                self.hear(demand);
            }
            let turn = Instant::now();
            while let Ok(demand) = self.demands.try_recv() {
                self.hear(demand);
            }
            self.count();
            if let Err(error) = self.ask().await {
                tracing::debug!(error = chain(&error), "quotas are not leased");
            }
            sleep_until(turn + TURN).await;
        }
    }

    /// Requests come for a quota.
    fn hear(&mut self, demand: Demand) {
        let Demand { service, key } = demand;
        let name = match &key {
            None => service.name.to_string(),
            Some((_, digest)) => format!("{}:{digest}", service.name),
        };
        let now = Instant::now();
        if let Some(held) = self.held.get_mut(&name) {
            held.service = service;
            held.came = now;
        } else if self.held.len() < HELD_MAX {
            let held = Held {
                service,
                key: key.map(|(key, _)| key),
                appetite: Appetite::default(),
                came: now,
                counted: now.checked_sub(TURN).unwrap_or(now),
            };
            self.held.insert(name, held);
        } else if let Some(metered) = self.quotas.metered(&service, key.map(|(key, _)| key)) {
            // The next request says it again: by then there may be room.
            metered.demand.store(0, Ordering::Relaxed);
        }
    }

    /// Counts what came since the last turn; lets go of what is idle, or shared no more.
    fn count(&mut self) {
        let (now, quotas) = (Instant::now(), &self.quotas);
        self.held.retain(|_, held| {
            let Some(metered) = quotas.metered(&held.service, held.key) else {
                return false;
            };
            let requests = metered.demand.swap(0, Ordering::Relaxed);
            let elapsed = now.saturating_duration_since(held.counted);
            held.appetite.feed(requests, elapsed.as_secs_f64());
            held.counted = now;
            now.saturating_duration_since(held.came) < IDLE
        });
    }

    async fn ask(&mut self) -> Result<(), crate::store::Error> {
        let names: Vec<String> = self.held.keys().cloned().collect();
        for names in names.chunks(AT_ONCE) {
            let wishes: Vec<QuotaWish> = names.iter().filter_map(|name| self.wish(name)).collect();
            let asked = Instant::now();
            let shares = self.store.lease_quotas(&wishes, WHOLE).await?;
            for (wish, share) in wishes.iter().zip(shares) {
                self.grant(&wish.quota, share, asked);
            }
        }
        Ok(())
    }

    fn wish(&self, name: &str) -> Option<QuotaWish> {
        let held = self.held.get(name)?;
        let quota = held.quota()?;
        let metered = self.quotas.metered(&held.service, held.key)?;
        let lease = Lease::unpack(metered.lease.load(Ordering::Relaxed));
        let holds = self.now_ms() < lease.until_ms;
        Some(QuotaWish {
            quota: name.to_owned(),
            want: held.appetite.want(quota),
            held: if holds { lease.share } else { 0 },
        })
    }

    /// Puts a share in force that was asked for at that moment.
    fn grant(&self, name: &str, share: u64, asked: Instant) {
        let Some(held) = self.held.get(name) else {
            return;
        };
        let metered = self.quotas.metered(&held.service, held.key);
        let (Some(quota), Some(metered)) = (held.quota(), metered) else {
            return;
        };
        let until = asked + QUOTA_LEASE.saturating_sub(MARGIN);
        let next = Lease {
            share,
            until_ms: self.ms(until),
        };
        let Meter { cell, lease, .. } = metered;
        let before = Lease::unpack(lease.load(Ordering::Relaxed));
        let before = before.share_at(self.now_ms(), self.quotas.fleet());
        share::grow(cell, quota, before, share, self.now_us());
        lease.store(next.pack(), Ordering::Relaxed);
    }

    fn ms(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.epoch);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn now_ms(&self) -> u64 {
        self.ms(Instant::now())
    }

    fn now_us(&self) -> u64 {
        let since = self.epoch.elapsed();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }
}

impl Held {
    fn quota(&self) -> Option<&Quota> {
        self.service
            .settings
            .rate
            .as_ref()
            .map(|limit| &limit.quota)
    }
}
