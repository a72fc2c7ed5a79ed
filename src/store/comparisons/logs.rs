//! Records of logs in which each has a number: topics in Kafka, and what a gateway hands over by
//! itself. Which are finished stands in Redis, beside what they came to.

use std::collections::BTreeMap;

use fred::interfaces::HashesInterface;
use fred::types::Value;

use super::{Comparisons, Start, bytes};
use crate::model::keys::Keys;
use crate::model::name::{ServiceName, VersionName};
use crate::store::Error;

/// For how many seconds what a gateway handed over by itself is remembered, since the last one.
const HANDED_OVER_S: u32 = 30 * 86_400;

/// A log of numbered records.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Log {
    /// A partition of a topic.
    Partition(Box<str>, i32),
    /// What one life of a gateway handed over.
    Life(Box<str>),
}

/// A record of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// The log.
    pub log: Log,
    /// Its number.
    pub number: u64,
    /// The first number behind the record before it; those between do not exist.
    pub from: u64,
    /// Which gateway wrote it, when that started, and as which record of its service.
    pub origin: Option<(String, u64, u64)>,
}

/// How far a partition is finished.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Everything below.
    pub low: u64,
    /// And these above.
    pub finished: Vec<u64>,
}

impl Log {
    /// The field of its low mark, and what the names of its records begin with.
    fn name(&self) -> String {
        match self {
            Self::Partition(topic, partition) => format!("{topic}:{partition}"),
            Self::Life(life) => format!("mirror:{life}"),
        }
    }
}

impl Numbered {
    /// Its name among those being worked on.
    #[must_use]
    pub fn entry(&self) -> String {
        format!("{}:{}", self.log.name(), self.number)
    }

    /// The keys of `commit_offset.lua` that are its own: low marks, finished ones, handed out.
    pub(super) fn keys(
        &self,
        keys: &Keys,
        service: &ServiceName,
        candidate: &VersionName,
    ) -> [String; 3] {
        match &self.log {
            Log::Partition(..) => [
                keys.shadow_offsets(service, candidate),
                keys.shadow_offsets_done(service, candidate, &self.log.name()),
                keys.shadow_offsets_handed(service, candidate),
            ],
            Log::Life(life) => {
                let key = format!("mirror:{service}:{candidate}:{life}");
                ["", ":done", ":handed"].map(|end| keys.internal(&format!("{key}{end}")))
            }
        }
    }

    /// The arguments of `commit_offset.lua` that are its own.
    pub(super) fn args(&self) -> Vec<Vec<u8>> {
        let life = match self.log {
            Log::Partition(..) => 0,
            Log::Life(_) => HANDED_OVER_S,
        };
        let (gateway, epoch, sequence) = match &self.origin {
            Some((gateway, epoch, sequence)) => {
                (gateway.clone(), epoch.to_string(), sequence.to_string())
            }
            None => Default::default(),
        };
        let texts = [
            self.log.name(),
            self.number.to_string(),
            self.from.to_string(),
            life.to_string(),
            gateway,
            epoch,
            sequence,
        ];
        texts.iter().map(|text| bytes(text)).collect()
    }
}

impl Comparisons {
    /// Where the partitions of a topic are to be read from, given the first number that still
    /// stands in each and the one that comes next.
    pub async fn open_log(
        &self,
        (service, candidate): (&ServiceName, &VersionName),
        topic: &str,
        start: &Start,
        ends: &BTreeMap<i32, (i64, i64)>,
    ) -> Result<BTreeMap<i32, Mark>, Error> {
        const STEP: &str = "say where partitions are read from";
        let mut keys = vec![
            self.keys.shadow_offsets(service, candidate),
            self.keys.shadow_results(service, candidate),
        ];
        let start = match start {
            Start::New => "new",
            Start::Oldest | Start::After(_) => "oldest",
        };
        let mut args = vec![bytes(start)];
        for (partition, (first, next)) in ends {
            let log = Log::Partition(topic.into(), *partition).name();
            keys.push(self.keys.shadow_offsets_done(service, candidate, &log));
            args.extend([&log, &first.to_string(), &next.to_string()].map(|text| bytes(text)));
        }
        let answer = self.run(STEP, &self.scripts.open_log, keys, args).await?;
        decode_marks(answer, ends.keys()).ok_or(Error::Answer(STEP))
    }

    /// Counts that these records are handed to us; how often each was by now.
    pub async fn hand_out(
        &self,
        service: &ServiceName,
        candidate: &VersionName,
        entries: &[String],
    ) -> Result<Vec<u64>, Error> {
        self.hand(service, candidate, "1", entries).await
    }

    /// Takes that back: we live, and others get these records too.
    pub async fn hand_back(
        &self,
        service: &ServiceName,
        candidate: &VersionName,
        entries: &[String],
    ) -> Result<(), Error> {
        if entries.is_empty() {
            return Ok(());
        }
        let back = self.hand(service, candidate, "-1", entries).await;
        back.map(drop)
    }

    async fn hand(
        &self,
        service: &ServiceName,
        candidate: &VersionName,
        step: &str,
        entries: &[String],
    ) -> Result<Vec<u64>, Error> {
        const STEP: &str = "take records of a topic";
        let keys = vec![self.keys.shadow_offsets_handed(service, candidate)];
        let entries = entries.iter().map(String::as_str);
        let args = std::iter::once(step).chain(entries).map(bytes).collect();
        let answer = self.run(STEP, &self.scripts.hand_out, keys, args).await?;
        let Value::Array(counts) = answer else {
            return Err(Error::Answer(STEP));
        };
        let counts: Option<Vec<u64>> = counts.iter().map(Value::as_u64).collect();
        counts.ok_or(Error::Answer(STEP))
    }

    /// The low marks of the partitions of a topic.
    pub async fn lows(
        &self,
        service: &ServiceName,
        candidate: &VersionName,
        topic: &str,
    ) -> Result<BTreeMap<i32, i64>, Error> {
        let key = self.keys.shadow_offsets(service, candidate);
        let read: Result<BTreeMap<String, String>, _> = self.here()?.hgetall(key).await;
        let fields = read.map_err(Error::step("read how far partitions are"))?;
        let lows = fields.iter().filter_map(|(field, low)| {
            let (of, partition) = field.rsplit_once(':')?;
            (of == topic).then_some((partition.parse().ok()?, low.parse().ok()?))
        });
        Ok(lows.collect())
    }
}

fn decode_marks<'p>(
    answer: Value,
    partitions: impl Iterator<Item = &'p i32>,
) -> Option<BTreeMap<i32, Mark>> {
    let Value::Array(marks) = answer else {
        return None;
    };
    let marks = partitions.zip(marks).map(|(partition, mark)| {
        let Value::Array(numbers) = mark else {
            return None;
        };
        let numbers: Option<Vec<u64>> = numbers.iter().map(Value::as_u64).collect();
        let (low, finished) = numbers.as_ref()?.split_first()?;
        let mark = Mark {
            low: *low,
            finished: finished.to_vec(),
        };
        Some((*partition, mark))
    });
    marks.collect()
}
