//! Writing counts: `lua/record_batch.lua`, or a transaction where scripts are refused.
//!
//! A connection of its own, so that counts may go to another Redis and never delay the
//! configuration.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use fred::clients::{Client, Transaction};
use fred::interfaces::{
    ClientLike, FredResult, HashesInterface, KeysInterface, TransactionInterface,
};
use fred::types::scripts::Script;
use fred::types::{Expiration, Value};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::hearing::keep_connected;
use super::{Error, Options, new_client};
use crate::model::keys::Keys;
use crate::model::name::VersionName;
use crate::model::trial::{MARKS, Tag};
use crate::stats::batch::{Batch, Cut, FINE_SECONDS};
use crate::stats::journal::{Answer, Order};
use crate::stats::trial::TrialSum;
use crate::stats::{FIXED, Series, Sum, histogram};

/// For how many seconds the number of the last batch is kept.
const NUMBER_LIFE_S: i64 = 86_400;

/// For how many seconds the counts of a trial are kept that nobody counts any more.
const TRIAL_LIFE_S: u64 = 7 * 86_400;

/// The same for its callers.
const CALLERS_LIFE_S: u64 = TRIAL_LIFE_S + 86_400;

/// The most callers that a trial counts: their hashes take about half a gigabyte of Redis.
const CALLERS_MAX: u64 = 10_000_000;

const STEP: &str = "record a batch";

/// The fields of the counts of a trial, in the order of `Mark`.
const MARK_FIELDS: [&str; MARKS] = ["requests", "bad", "over_50", "over_90", "over_99"];

/// Where counts are written; a gateway that starts again begins a new life.
#[derive(Debug)]
pub struct Ledger {
    client: Client,
    keys: Keys,
    instance: String,
    /// The key of the number of our last batch.
    last: String,
    record: Script,
    fixed: Vec<String>,
    clock: Clock,
    callers_max: u64,
    /// The sets of callers that were found full and of which nobody heard yet.
    full: Mutex<BTreeSet<String>>,
    connection: JoinHandle<()>,
}

/// What a recording depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How windows are cut and kept.
    pub cut: Cut,
    /// The second it is now: what would be gone already is not written.
    pub now_s: u64,
}

/// A hash to write, and for how many seconds it lives.
struct Hash {
    key: String,
    life_s: Option<u64>,
    has_fixed: bool,
}

/// Hashes that get the same increments.
struct Entry {
    hashes: Vec<Hash>,
    fields: Vec<(String, u64)>,
}

impl Ledger {
    /// Begins to connect, and to connect again whenever the connection breaks. Each call begins a
    /// new life, whose batches are numbered from 1. Needs a runtime.
    pub fn connect(options: &Options) -> Result<Self, Error> {
        // The standard library seeds each `RandomState` from the system's random source.
        let life = RandomState::new().build_hasher().finish();
        let client = new_client(options.config()?, 32);
        let connection = tokio::spawn(keep_connected(client.clone()));
        let keys = options.keys.clone();
        let bounds = histogram::coarse_bounds().map(|bound| format!("latency_us_le_{bound}"));
        Ok(Self {
            client,
            last: keys.internal(&format!("batch:{}:{life:016x}", options.instance)),
            keys,
            instance: options.instance.clone(),
            record: Script::from_lua(include_str!("../../lua/record_batch.lua")),
            fixed: FIXED
                .iter()
                .map(|&field| field.to_owned())
                .chain(bounds)
                .collect(),
            clock: Clock::new(),
            callers_max: CALLERS_MAX,
            full: Mutex::default(),
            connection,
        })
    }

    /// Whether commands can be sent right now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.is_connected()
    }

    /// Unix milliseconds by the clock of Redis, so that the seconds of all gateways are the same.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(super) fn instance(&self) -> &str {
        &self.instance
    }

    pub(super) fn here(&self) -> Result<&Client, Error> {
        if self.client.is_connected() {
            Ok(&self.client)
        } else {
            Err(Error::Away)
        }
    }

    /// Applies the batch by one script call, exactly once however often it is sent.
    pub async fn record(&self, order: &Order, terms: Terms) -> Result<Answer, Error> {
        let client = self.here()?;
        let mut keys = vec![self.last.clone()];
        let mut args: Vec<Value> = Vec::new();
        push(&mut args, [order.number, order.after]);
        push(&mut args, [NUMBER_LIFE_S]);
        push(&mut args, [self.fixed.len()]);
        args.extend(self.fixed.iter().map(|field| Value::from(field.as_str())));
        push(&mut args, [TRIAL_LIFE_S, CALLERS_LIFE_S, self.callers_max]);
        push(&mut args, [order.batch.trials.len()]);
        for (tag, sum) in &order.batch.trials {
            keys.push(self.keys.trial(&tag.service, &tag.candidate));
            keys.push(self.keys.trial_callers(&tag.service, &tag.candidate));
            push_trial(&mut args, tag, sum);
        }
        for entry in self.entries(&order.batch, terms) {
            push(&mut args, [entry.hashes.len()]);
            for hash in entry.hashes {
                keys.push(hash.key);
                args.push(
                    hash.life_s
                        .map(|life| life.to_string())
                        .unwrap_or_default()
                        .into(),
                );
                push(&mut args, [u8::from(hash.has_fixed)]);
            }
            push(&mut args, [entry.fields.len()]);
            for (field, increment) in entry.fields {
                args.push(field.into());
                push(&mut args, [increment]);
            }
        }
        let answer: Value = self
            .record
            .evalsha_with_reload(client, keys, args)
            .await
            .map_err(Error::step(STEP))?;
        let Recorded {
            answer,
            now_ms,
            full,
        } = decode(answer).ok_or(Error::Answer(STEP))?;
        self.clock.set(now_ms);
        if !full.is_empty() {
            let mut known = self.full.lock().unwrap_or_else(PoisonError::into_inner);
            known.extend(full);
        }
        Ok(answer)
    }

    /// The sets of callers that were found full since the last time, and how many a set may hold.
    #[must_use]
    pub fn take_full(&self) -> (BTreeSet<String>, u64) {
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut *full), self.callers_max)
    }

    /// The same without a script, and without the counts of trials, which need one: only we write our number, so looking before the transaction is
    /// as good as looking in it.
    pub async fn record_plainly(&self, order: &Order, terms: Terms) -> Result<Answer, Error> {
        let client = self.here()?;
        let known: Option<u64> = client.get(&*self.last).await.map_err(Error::step(STEP))?;
        let known = known.unwrap_or(0);
        let answer = if known >= order.number {
            Answer::Known(known)
        } else if known != order.after {
            Answer::Gap(known)
        } else {
            self.transact(client, order, terms)
                .await
                .map_err(Error::step(STEP))?;
            Answer::Applied
        };
        Ok(answer)
    }

    async fn transact(&self, client: &Client, order: &Order, terms: Terms) -> FredResult<()> {
        let all: Transaction = client.multi();
        for entry in self.entries(&order.batch, terms) {
            for hash in entry.hashes {
                for (field, increment) in &entry.fields {
                    let increment = i64::try_from(*increment).unwrap_or(i64::MAX);
                    let _: Value = all.hincrby(&*hash.key, &**field, increment).await?;
                }
                if hash.has_fixed {
                    let _: Value = all
                        .hset(&*hash.key, ("updated_ms", (terms.now_s * 1000).to_string()))
                        .await?;
                }
                if let Some(life_s) = hash.life_s {
                    let life_s = i64::try_from(life_s).unwrap_or(i64::MAX);
                    let _: Value = all.expire(&*hash.key, life_s, None).await?;
                }
            }
        }
        let life = Some(Expiration::EX(NUMBER_LIFE_S));
        let _: Value = all
            .set(&*self.last, order.number.to_string(), life, None, false)
            .await?;
        // A key of another type loses its own counts and nobody else's.
        let _: Value = all.exec(true).await?;
        Ok(())
    }

    fn entries<'a>(&'a self, batch: &'a Batch, terms: Terms) -> impl Iterator<Item = Entry> + 'a {
        let Terms { cut, now_s } = terms;
        let totals = batch.totals.iter();
        let totals = totals.map(|(series, sum)| self.entry(series, sum, None));
        let windows = batch.windows.iter().map(move |((start, series), sum)| {
            let end = (start + cut.window + cut.keep).saturating_sub(now_s);
            self.entry(series, sum, (end > 0).then_some((*start, end)))
        });
        let seconds = batch
            .seconds
            .iter()
            .filter_map(move |((second, series), sum)| {
                let left = (second + FINE_SECONDS).saturating_sub(now_s);
                let version = series.version.as_ref()?;
                (left > 0).then(|| Entry {
                    hashes: vec![Hash {
                        key: self.keys.hist(&series.service, version, *second),
                        life_s: Some(left),
                        has_fixed: false,
                    }],
                    fields: sum.fine_fields(),
                })
            });
        totals
            .chain(windows)
            .chain(seconds)
            .filter(|entry| !entry.fields.is_empty())
    }

    /// What counts in the totals, and in a window where it still has one.
    fn entry(&self, series: &Series, sum: &Sum, window: Option<(u64, u64)>) -> Entry {
        let service = &series.service;
        let version: Option<&VersionName> = series.version.as_ref();
        let mut hashes = vec![Hash {
            key: self.keys.stats(service, version),
            life_s: None,
            has_fixed: true,
        }];
        if let Some((start, life_s)) = window {
            hashes.push(Hash {
                key: self.keys.stats_window(service, version, start),
                life_s: Some(life_s),
                has_fixed: true,
            });
        }
        let mut fields = sum.fields();
        if version.is_none() && !fields.is_empty() {
            for field in crate::stats::FIXED_EARLY {
                if !fields.iter().any(|(there, _)| there == field) {
                    fields.push((field.to_owned(), 0));
                }
            }
        }
        Entry { hashes, fields }
    }

    /// Closes the connection.
    pub async fn close(&self) -> Result<(), Error> {
        self.client.quit().await.map_err(Error::step("leave"))
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// What the script says.
struct Recorded {
    answer: Answer,
    now_ms: u64,
    /// The sets of callers that are full.
    full: Vec<String>,
}

fn decode(answer: Value) -> Option<Recorded> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let [word, known, now_ms, full] = <[Value; 4]>::try_from(parts).ok()?;
    let known = known.as_u64()?;
    let answer = match word.as_str()?.as_ref() {
        "ok" => Answer::Applied,
        "dup" => Answer::Known(known),
        "gap" => Answer::Gap(known),
        _ => return None,
    };
    let Value::Array(full) = full else {
        return None;
    };
    Some(Recorded {
        answer,
        now_ms: now_ms.as_string()?.parse().ok()?,
        full: full.iter().filter_map(Value::as_string).collect(),
    })
}

fn push<T: ToString>(args: &mut Vec<Value>, numbers: impl IntoIterator<Item = T>) {
    let numbers = numbers.into_iter();
    args.extend(numbers.map(|number| Value::from(number.to_string())));
}

/// One entry of a trial.
fn push_trial(args: &mut Vec<Value>, tag: &Tag, sum: &TrialSum) {
    push(args, [tag.number]);
    args.push(format!("{}.{}.", tag.share, tag.version).into());
    let counted = || {
        let named = MARK_FIELDS.iter().zip(sum.marks);
        named.filter(|(_, count)| *count > 0)
    };
    push(args, [counted().count()]);
    for (field, count) in counted() {
        args.push((*field).into());
        push(args, [count]);
    }
    let mut callers = Vec::with_capacity(sum.callers.len() * 9);
    for caller in &sum.callers {
        callers.extend(caller.point.to_be_bytes());
        callers.push(if caller.bad { b'1' } else { b'0' });
    }
    args.push(Value::Bytes(callers.into()));
}

/// Unix time as Redis sees it; our own until Redis was heard.
#[derive(Debug)]
struct Clock {
    started: Instant,
    /// Unix milliseconds when it was started.
    unix_ms: AtomicU64,
}

impl Clock {
    fn new() -> Self {
        let ours = jiff::Timestamp::now().as_millisecond();
        Self {
            started: Instant::now(),
            unix_ms: AtomicU64::new(u64::try_from(ours).unwrap_or(0)),
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(0)
    }

    fn set(&self, now_ms: u64) {
        let then = now_ms.saturating_sub(self.elapsed_ms());
        self.unix_ms.store(then, Ordering::Relaxed);
    }

    fn now_ms(&self) -> u64 {
        self.unix_ms.load(Ordering::Relaxed) + self.elapsed_ms()
    }
}
