//! The way of the shadow worker to Redis: records in, what they came to out, each counted once.
//!
//! Invariant: a record is pending in its group until the script that counts it takes it out, so that
//! whatever dies in between, it is compared again and counted once.

mod finding;
mod labels;
mod logs;

use std::collections::HashMap;

use fred::clients::Client;
use fred::interfaces::{ClientLike, HashesInterface, StreamsInterface};
use fred::types::scripts::Script;
use fred::types::streams::XCapKind;
use fred::types::{CustomCommand, Value};
use tokio::task::JoinHandle;

use super::hearing::keep_connected;
use super::live::read_hashes;
use super::{COMMAND_TIMEOUT, Error, Options, new_client};
use crate::model::decode::Fields;
use crate::model::keys::Keys;
use crate::model::name::{ServiceName, VersionName};

pub use finding::{Finding, Letter, Mark, Offer};
pub use labels::{Offered, Pick, Saved, Verdicts};
pub use logs::{Log, Mark as LowMark, Numbered};

/// How many records are looked at to see how far gateways have counted.
const LOOKED_AT: u32 = 200;
/// The most examples read.
const EXAMPLES_MAX: u64 = 1_000;
/// The most events kept.
const EVENTS_MAX: u32 = 10_000;

/// Redis as the worker uses it. It connects again by itself.
#[derive(Debug)]
pub struct Comparisons {
    client: Client,
    keys: Keys,
    consumer: String,
    scripts: Scripts,
    connection: JoinHandle<()>,
}

#[derive(Debug)]
struct Scripts {
    open: Script,
    read: Script,
    claim: Script,
    open_log: Script,
    hand_out: Script,
    commit: Script,
    commit_offset: Script,
    reserve: Script,
    save: Script,
}

/// Where a group begins that is not there yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Behind what stands in the stream.
    #[default]
    New,
    /// At the first record that stands there.
    Oldest,
    /// Behind the entry of this id.
    After(String),
}

/// A record as it was handed to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its entry in the stream.
    pub entry: String,
    /// How often it was handed to anybody.
    pub deliveries: u64,
    /// Its text; empty where the entry holds none.
    pub record: Vec<u8>,
    /// Where it stands, if not in a stream.
    pub numbered: Option<Numbered>,
}

/// Records taken over from others, and where to look next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// `0-0` where all were looked at.
    pub cursor: String,
    /// The records.
    pub taken: Vec<Taken>,
}

impl Comparisons {
    /// Begins to connect; `options.instance` is the name of our consumer. Needs a runtime.
    pub fn connect(options: &Options) -> Result<Self, Error> {
        let client = new_client(options.config()?, 32);
        let connection = tokio::spawn(keep_connected(client.clone()));
        let lua = |text: &str| Script::from_lua(text);
        Ok(Self {
            client,
            keys: options.keys.clone(),
            consumer: options.instance.clone(),
            scripts: Scripts {
                open: lua(include_str!("../../../lua/open_comparison.lua")),
                read: lua(include_str!("../../../lua/read_records.lua")),
                claim: lua(include_str!("../../../lua/claim_records.lua")),
                open_log: lua(include_str!("../../../lua/open_log.lua")),
                hand_out: lua(include_str!("../../../lua/hand_out.lua")),
                commit: lua(concat!(
                    include_str!("../../../lua/commit_entry.lua"),
                    include_str!("../../../lua/count_finding.lua")
                )),
                commit_offset: lua(concat!(
                    include_str!("../../../lua/commit_offset.lua"),
                    include_str!("../../../lua/count_finding.lua")
                )),
                reserve: lua(include_str!("../../../lua/reserve_pair.lua")),
                save: lua(include_str!("../../../lua/save_label.lua")),
            },
            connection,
        })
    }

    /// Waits a few seconds at most until commands can be sent.
    pub async fn wait(&self) -> Result<(), Error> {
        let there = self.client.wait_for_connect();
        // Which of the two it was shows in what is there now.
        drop(tokio::time::timeout(3 * COMMAND_TIMEOUT, there).await);
        self.here().map(drop)
    }

    fn here(&self) -> Result<&Client, Error> {
        if self.client.is_connected() {
            Ok(&self.client)
        } else {
            Err(Error::Away)
        }
    }

    fn stream_and_results(&self, service: &ServiceName, candidate: &VersionName) -> Vec<String> {
        vec![
            self.keys.shadow_stream(service),
            self.keys.shadow_results(service, candidate),
        ]
    }

    async fn run(
        &self,
        step: &'static str,
        script: &Script,
        keys: Vec<String>,
        args: Vec<Vec<u8>>,
    ) -> Result<Value, Error> {
        let client = self.here()?;
        let args: Vec<Value> = (args.into_iter())
            .map(|arg| Value::Bytes(arg.into()))
            .collect();
        let answer = script.evalsha_with_reload(client, keys, args).await;
        answer.map_err(Error::step(step))
    }

    /// Makes the group of a candidate unless it is there; whether it was made.
    pub async fn open(
        &self,
        service: &ServiceName,
        candidate: &VersionName,
        start: &Start,
    ) -> Result<bool, Error> {
        const STEP: &str = "make the group of a candidate";
        let start = match start {
            Start::New => "$",
            Start::Oldest => "0",
            Start::After(id) => id,
        };
        let keys = self.stream_and_results(service, candidate);
        let args = [&group(candidate), start, &LOOKED_AT.to_string()].map(bytes);
        let answer = self
            .run(STEP, &self.scripts.open, keys, args.into())
            .await?;
        answer
            .as_u64()
            .map(|made| made == 1)
            .ok_or(Error::Answer(STEP))
    }

    /// Takes records that nobody has had, at most so many; none where there are none right now.
    pub async fn read(
        &self,
        service: &ServiceName,
        candidate: &VersionName,
        most: usize,
    ) -> Result<Vec<Taken>, Error> {
        const STEP: &str = "read shadow records";
        let keys = self.stream_and_results(service, candidate);
        let args = [&group(candidate), &self.consumer, &*most.to_string()].map(bytes);
        let answer = self
            .run(STEP, &self.scripts.read, keys, args.into())
            .await?;
        let Value::Array(parts) = answer else {
            return Err(Error::Answer(STEP));
        };
        let (pairs, []) = parts.as_chunks::<2>() else {
            return Err(Error::Answer(STEP));
        };
        let taken = pairs.iter().map(|[entry, record]| {
            Some(Taken {
                entry: entry.as_string()?,
                deliveries: 1,
                record: record.as_bytes()?.to_vec(),
                numbered: None,
            })
        });
        taken.collect::<Option<_>>().ok_or(Error::Answer(STEP))
    }

    /// Takes over records of which nothing was heard for so long, at most so many, beginning where
    /// the last call stopped.
    pub async fn claim(
        &self,
        service: &ServiceName,
        candidate: &VersionName,
        idle_ms: u64,
        most: usize,
        cursor: &str,
    ) -> Result<Claimed, Error> {
        const STEP: &str = "claim shadow records";
        let keys = self.stream_and_results(service, candidate);
        let (idle, most) = (idle_ms.to_string(), most.to_string());
        let group = group(candidate);
        let args = [&*group, &self.consumer, &idle, &most, cursor].map(bytes);
        let answer = self
            .run(STEP, &self.scripts.claim, keys, args.into())
            .await?;
        decode_claimed(answer).ok_or(Error::Answer(STEP))
    }

    /// Says that these records are still being worked on, so that nobody claims them.
    pub async fn touch(
        &self,
        service: &ServiceName,
        candidate: &VersionName,
        entries: &[String],
    ) -> Result<(), Error> {
        if entries.is_empty() {
            return Ok(());
        }
        let claim = CustomCommand::new_static("XCLAIM", None::<u16>, false);
        let mut args = vec![
            self.keys.shadow_stream(service),
            group(candidate),
            self.consumer.clone(),
            "0".to_owned(),
        ];
        args.extend_from_slice(entries);
        args.push("JUSTID".to_owned());
        let done: Result<Value, _> = self.here()?.custom(claim, args).await;
        done.map(drop).map_err(Error::step("keep shadow records"))
    }

    /// Counts what a record came to; `false` where it was counted before.
    pub async fn commit(
        &self,
        service: &ServiceName,
        candidate: &VersionName,
        taken: &Taken,
        finding: &Finding,
    ) -> Result<bool, Error> {
        const STEP: &str = "count a comparison";
        let mut keys = self.stream_and_results(service, candidate);
        let name = finding.offer.as_ref().map_or("", |offer| &offer.name);
        keys.extend([
            self.keys.shadow_dead(service),
            self.keys.shadow_diffs(service, candidate),
            self.keys.labels(service),
            self.keys.labels_open(service),
            self.keys.label(service, name),
        ]);
        let (script, own) = match &taken.numbered {
            None => {
                let own = [&*group(candidate), &taken.entry].map(bytes);
                (&self.scripts.commit, own.into())
            }
            Some(numbered) => {
                let [lows, done, handed] = numbered.keys(&self.keys, service, candidate);
                if let Some(first) = keys.first_mut() {
                    *first = lows;
                }
                keys.extend([done, handed]);
                (&self.scripts.commit_offset, numbered.args())
            }
        };
        let args = finding.args(own, candidate, &taken.entry);
        let answer = self.run(STEP, script, keys, args).await?;
        answer
            .as_u64()
            .map(|counted| counted == 1)
            .ok_or(Error::Answer(STEP))
    }

    /// One of the counters of a candidate.
    pub async fn count(
        &self,
        service: &ServiceName,
        candidate: &VersionName,
        name: &str,
    ) -> Result<u64, Error> {
        let results = self.keys.shadow_results(service, candidate);
        let count: Result<Option<u64>, _> = self.here()?.hget(results, name).await;
        let count = count.map_err(Error::step("read a counter"))?;
        Ok(count.unwrap_or(0))
    }

    /// All counters of a candidate.
    pub async fn counters(
        &self,
        service: &ServiceName,
        candidate: &VersionName,
    ) -> Result<Fields, Error> {
        let results = self.keys.shadow_results(service, candidate);
        let hashes = read_hashes(self.here()?, &[results]).await?;
        Ok(hashes.into_iter().flatten().collect())
    }

    /// The hashes of results and of what the gateways delivered, and the examples, newest first.
    pub async fn results(
        &self,
        service: &ServiceName,
        candidate: &VersionName,
    ) -> Result<(Fields, Fields, Vec<Fields>), Error> {
        type Entries = Vec<(String, HashMap<String, String>)>;
        let keys = [
            self.keys.shadow_results(service, candidate),
            self.keys.shadow_counts(service),
        ];
        let mut hashes = read_hashes(self.here()?, &keys).await?.into_iter();
        let mut next = || Fields::from_iter(hashes.next().unwrap_or_default());
        let (results, shipped) = (next(), next());
        let diffs = self.keys.shadow_diffs(service, candidate);
        let read: Result<Entries, _> = (self.here()?)
            .xrevrange_values(diffs, "+", "-", Some(EXAMPLES_MAX))
            .await;
        let examples = read.map_err(Error::step("read examples"))?.into_iter();
        let examples = examples.map(|(_, fields)| Fields::from_iter(fields));
        Ok((results, shipped, examples.collect()))
    }

    /// How many records nobody has had yet, where Redis can tell, and how many are pending.
    pub async fn backlog(
        &self,
        service: &ServiceName,
        candidate: &VersionName,
    ) -> Result<(Option<u64>, u64), Error> {
        const STEP: &str = "look at the group of a candidate";
        let groups: Result<Value, _> = (self.here()?)
            .xinfo_groups(self.keys.shadow_stream(service))
            .await;
        let groups = match groups.map_err(Error::step(STEP)) {
            Ok(groups) => groups,
            // There is no stream yet.
            Err(error) if error.is_refused() => return Ok((None, 0)),
            Err(error) => return Err(error),
        };
        let wanted = group(candidate);
        let facts = groups.into_array().into_iter().map(pairs_of);
        let found = facts
            .filter(|facts| {
                facts
                    .iter()
                    .any(|(k, v)| k == "name" && v.as_str().is_some_and(|v| *v == wanted))
            })
            .map(|facts| {
                let number = |name: &str| facts.iter().find(|(k, _)| k == name)?.1.as_u64();
                (number("lag"), number("pending").unwrap_or(0))
            })
            .next();
        Ok(found.unwrap_or((None, 0)))
    }

    /// Writes what the worker is doing, and an event where that is one.
    pub async fn tell(
        &self,
        service: &ServiceName,
        candidate: &VersionName,
        fields: &[(&str, String)],
        event: Option<Vec<(&'static str, String)>>,
    ) -> Result<(), Error> {
        const STEP: &str = "tell what the worker does";
        let client = self.here()?;
        let results = self.keys.shadow_results(service, candidate);
        let fields: Vec<(String, String)> = (fields.iter())
            .map(|(field, value)| ((*field).to_owned(), value.clone()))
            .collect();
        if !fields.is_empty() {
            let told: Result<Value, _> = client.hset(results, fields).await;
            told.map_err(Error::step(STEP))?;
        }
        let Some(event) = event else {
            return Ok(());
        };
        let cap = (
            XCapKind::MaxLen,
            fred::types::streams::XCapTrim::Exact,
            EVENTS_MAX.to_string(),
            None,
        );
        let event: Vec<(String, String)> =
            event.into_iter().map(|(f, v)| (f.to_owned(), v)).collect();
        let told: Result<Value, _> = client
            .xadd(self.keys.events(), false, cap, "*", event)
            .await;
        told.map(drop).map_err(Error::step(STEP))
    }

    /// Takes our consumer out of the group; only where none of its records is pending.
    pub async fn leave(&self, service: &ServiceName, candidate: &VersionName) -> Result<(), Error> {
        let stream = self.keys.shadow_stream(service);
        let group = group(candidate);
        let gone: Result<Value, _> = (self.here()?)
            .xgroup_delconsumer(stream, group, self.consumer.as_str())
            .await;
        gone.map(drop).map_err(Error::step("leave the group"))
    }

    /// Closes the connection.
    pub async fn close(&self) -> Result<(), Error> {
        self.client.quit().await.map_err(Error::step("leave"))
    }
}

impl Drop for Comparisons {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// The group in which a candidate's records are read.
pub(super) fn group(candidate: &VersionName) -> String {
    format!("candidate:{candidate}")
}

fn bytes(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

/// The facts of one line of `XINFO`: field and value.
pub(super) fn pairs_of(facts: Value) -> Vec<(String, Value)> {
    let facts = match facts {
        Value::Map(map) => {
            let pairs = map.inner().into_iter();
            return pairs
                .filter_map(|(k, v)| Some((k.into_string()?, v)))
                .collect();
        }
        facts => facts.into_array(),
    };
    let mut facts = facts.into_iter();
    let mut pairs = Vec::new();
    while let (Some(name), Some(value)) = (facts.next(), facts.next()) {
        pairs.extend(name.as_string().map(|name| (name, value)));
    }
    pairs
}

fn decode_claimed(answer: Value) -> Option<Claimed> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let (cursor, rest) = parts.split_first()?;
    let (triples, []) = rest.as_chunks::<3>() else {
        return None;
    };
    let taken = triples.iter().map(|[entry, deliveries, record]| {
        Some(Taken {
            entry: entry.as_string()?,
            deliveries: deliveries.as_u64()?,
            record: record.as_bytes()?.to_vec(),
            numbered: None,
        })
    });
    Some(Claimed {
        cursor: cursor.as_string()?,
        taken: taken.collect::<Option<_>>()?,
    })
}
