//! What is known of each service's records: how many its sink was handed, how large they are, what
//! became of them, and what of that the books in Redis do not know yet.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::model::copies::Fate;
use crate::model::live::ServiceLive;
use crate::model::name::ServiceName;
use crate::model::shadow::Shadow;
use crate::model::table::{Service, Table};
use crate::shadow::{Draft, Held, Record};
use crate::store::{Part, Shipment};

/// The most records in a shipment.
pub(super) const RECORDS_MAX: usize = 64;
/// After so many bytes no further record is put in: about a millisecond to write them as JSON.
const BYTES_MAX: u64 = 1 << 20;
/// The most services in a shipment.
const PARTS_MAX: usize = 256;
/// How fast the mean size follows: by this part of each record.
const MEAN_STEP: f64 = 1.0 / 64.0;
/// What a record takes in Redis beside its text: measured 1.05 to 1.25 times its size, because
/// memory comes in classes.
const IN_REDIS: f64 = 1.25;
/// After so long without drops the next one begins an episode of its own.
const QUIET: Duration = Duration::from_secs(30);

/// The fates that requests count themselves.
const BY_REQUESTS: [Fate; 5] = [
    Fate::DroppedQueue,
    Fate::DroppedMemory,
    Fate::NotSampled,
    Fate::Truncated,
    Fate::NotReplayable,
];

/// All services that have, or had, a shadow.
#[derive(Debug)]
pub(super) struct Book {
    gateway: String,
    epoch: u64,
    shipments: u64,
    accounts: BTreeMap<ServiceName, Account>,
}

/// One service.
#[derive(Debug, Default)]
struct Account {
    /// The number of the last record.
    sequence: u64,
    /// What a record takes in Redis, in bytes.
    mean: f64,
    /// Its counts, and what was taken over of them. More than one where the service was taken out of
    /// the table and came back; the last one counts.
    lives: Vec<(Arc<ServiceLive>, [u64; BY_REQUESTS.len()])>,
    /// What the books do not know yet.
    untold: [u64; Fate::ALL.len()],
    /// Records dropped by now, and when the last was seen to be, in milliseconds.
    dropped: u64,
    dropped_ms: Option<u64>,
}

/// Records of a service began to be dropped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Episode {
    pub(super) service: ServiceName,
    pub(super) why: String,
}

impl Book {
    pub(super) fn new(gateway: String, epoch: u64) -> Self {
        Self {
            gateway,
            epoch,
            shipments: 0,
            accounts: BTreeMap::new(),
        }
    }

    /// Opens an account for each service of the table that has a shadow.
    pub(super) fn meet_all(&mut self, table: &Table) {
        for service in table.services.iter().filter(|it| it.shadow.is_some()) {
            self.account(&service.name, &service.live);
        }
    }

    /// Whether there is no account.
    pub(super) fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    fn account(&mut self, name: &ServiceName, live: &Arc<ServiceLive>) -> &mut Account {
        let account = self.accounts.entry(name.clone()).or_default();
        if !account
            .lives
            .iter()
            .any(|(known, _)| Arc::ptr_eq(known, live))
        {
            account.lives.push((Arc::clone(live), Default::default()));
        }
        account
    }

    /// A record of a service came to this end, and the books are to know.
    pub(super) fn count(&mut self, service: &Service, fate: Fate) {
        let account = self.account(&service.name, &service.live);
        service.live.copies.count(fate, 1);
        // What requests count as well is taken over from there.
        if !BY_REQUESTS.contains(&fate) {
            account.add(fate, 1);
        }
    }

    /// The last record of a service that was written went nowhere: its number is free.
    pub(super) fn take_back(&mut self, service: &ServiceName) {
        if let Some(account) = self.accounts.get_mut(service) {
            account.sequence = account.sequence.saturating_sub(1);
        }
    }

    /// The record of a draft, with the next number of its service, in JSON.
    pub(super) fn write(&mut self, draft: Draft) -> (Vec<u8>, Held) {
        let (gateway, epoch) = (self.gateway.clone(), self.epoch);
        let account = self.account(&draft.service.name, &draft.service.live);
        account.sequence += 1;
        let (record, held) = draft.into_record(&gateway, epoch, account.sequence);
        let json = json(&record);
        account.measure(json.len());
        (json, held)
    }

    /// The next shipment: what waits longest, and what the books do not know yet. `None` where there
    /// is nothing to say.
    pub(super) fn load(
        &mut self,
        waiting: &mut VecDeque<Box<Draft>>,
        now_ms: u64,
    ) -> Option<(Shipment, Vec<Held>)> {
        let mut parts: BTreeMap<ServiceName, Part> = BTreeMap::new();
        let (mut all_held, mut bytes) = (Vec::new(), 0);
        while all_held.len() < RECORDS_MAX && bytes < BYTES_MAX && parts.len() < PARTS_MAX {
            let Some(draft) = waiting.pop_front() else {
                break;
            };
            if age(&draft, now_ms) > draft.policy.max_age {
                self.count(&draft.service, Fate::DroppedAge);
                continue;
            }
            let (name, policy) = (draft.service.name.clone(), Arc::clone(&draft.policy));
            bytes += draft.held.bytes();
            let (json, held) = self.write(*draft);
            all_held.push(held);
            let part = parts.entry(name).or_insert_with_key(Part::of);
            part.maxlen = self
                .accounts
                .get(&part.service)
                .map_or(1, |it| it.maxlen(&policy));
            part.records.push(json);
        }
        for (name, account) in &mut self.accounts {
            account.collect();
            let untold = account.untold.iter().any(|count| *count > 0);
            if untold && parts.len() < PARTS_MAX {
                parts.entry(name.clone()).or_insert_with_key(Part::of);
            }
            if let Some(part) = parts.get_mut(name) {
                part.counts = account.tell();
            }
        }
        if parts.is_empty() {
            return None;
        }
        self.shipments += 1;
        let shipment = Shipment {
            number: self.shipments,
            parts: parts.into_values().collect(),
        };
        Some((shipment, all_held))
    }

    /// The shipment arrived; so many records of each part were taken, and the books know.
    pub(super) fn arrived(&mut self, shipment: &Shipment, taken: &[u64]) {
        let taken = taken.iter().copied().chain(std::iter::repeat(u64::MAX));
        for (part, taken) in shipment.parts.iter().zip(taken) {
            let records = part.records.len() as u64;
            let taken = taken.min(records);
            let account = self.accounts.get(&part.service);
            if let Some((live, _)) = account.and_then(|account| account.lives.last()) {
                live.copies.count(Fate::Delivered, taken);
                live.copies.count(Fate::DroppedSink, records - taken);
            }
        }
    }

    /// The services of which records began to be dropped since the last look.
    pub(super) fn episodes(&mut self, now_ms: u64) -> Vec<Episode> {
        let mut begun = Vec::new();
        for (name, account) in &mut self.accounts {
            let counts = account.drops();
            let dropped = counts.iter().map(|(_, count)| count).sum();
            if dropped <= account.dropped {
                continue;
            }
            let before = account.dropped_ms.replace(now_ms);
            let quiet = u128::from(now_ms.saturating_sub(before.unwrap_or(0)));
            if before.is_none() || quiet >= QUIET.as_millis() {
                let by: Vec<String> = (counts.iter().filter(|(_, count)| *count > 0))
                    .map(|(fate, count)| format!("{} {count}", fate.as_str()))
                    .collect();
                begun.push(Episode {
                    service: name.clone(),
                    why: format!(
                        "shadow records are dropped, requests are not touched; since the start: {}",
                        by.join(", ")
                    ),
                });
            }
            account.dropped = dropped;
        }
        begun
    }
}

impl Account {
    fn add(&mut self, fate: Fate, more: u64) {
        if let Some(count) = self.untold.get_mut(fate as usize) {
            *count += more;
        }
    }

    /// Takes over what requests counted.
    fn collect(&mut self) {
        let mut more = [0; BY_REQUESTS.len()];
        for (live, told) in &mut self.lives {
            for ((fate, told), more) in BY_REQUESTS.iter().zip(told).zip(&mut more) {
                let now = live.copies.get(*fate);
                *more += now - *told;
                *told = now;
            }
        }
        for (fate, more) in BY_REQUESTS.into_iter().zip(more) {
            self.add(fate, more);
        }
        // A life that nobody else knows of counts nothing any more.
        let last = self.lives.len().saturating_sub(1);
        let mut at = 0;
        self.lives.retain(|(live, _)| {
            at += 1;
            at > last || Arc::strong_count(live) > 1
        });
    }

    /// What the books do not know yet, by field; every field, so that none is ever missing.
    fn tell(&mut self) -> Vec<(&'static str, u64)> {
        let untold = std::mem::take(&mut self.untold);
        let ends = Fate::ALL
            .iter()
            .zip(&untold)
            .filter(|(fate, _)| fate.is_end());
        let sampled = ends.map(|(_, count)| count).sum();
        let each = Fate::ALL.iter().zip(untold);
        let each = each.map(|(fate, count)| (fate.as_str(), count));
        [("sampled", sampled)].into_iter().chain(each).collect()
    }

    fn drops(&self) -> Vec<(Fate, u64)> {
        let drops = Fate::ALL.into_iter().filter(|fate| fate.is_drop());
        let sum = |fate| {
            self.lives
                .iter()
                .map(|(live, _)| live.copies.get(fate))
                .sum()
        };
        drops.map(|fate| (fate, sum(fate))).collect()
    }

    fn measure(&mut self, bytes: usize) {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let size = bytes as f64 * IN_REDIS;
        let step = if self.sequence <= 1 { 1.0 } else { MEAN_STEP };
        self.mean += (size - self.mean) * step;
    }

    /// How many entries the stream may hold to keep both bounds.
    fn maxlen(&self, policy: &Shadow) -> u64 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "sizes are positive and far below 2^53"
        )]
        let by_bytes = (policy.max_bytes as f64 / self.mean.max(1.0)) as u64;
        policy.maxlen.min(by_bytes).max(1)
    }
}

impl Part {
    fn of(service: &ServiceName) -> Self {
        Self {
            service: service.clone(),
            maxlen: 1,
            records: Vec::new(),
            counts: Vec::new(),
        }
    }
}

/// For how long a draft has been waiting.
fn age(draft: &Draft, now_ms: u64) -> Duration {
    let ended_ms = draft.course.started_ms + draft.course.total_us / 1_000;
    Duration::from_millis(now_ms.saturating_sub(ended_ms))
}

fn json(record: &Record) -> Vec<u8> {
    serde_json::to_vec(record).expect("texts and numbers are JSON")
}
