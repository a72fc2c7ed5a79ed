//! Records of a topic of Kafka. Its group says which partitions are ours; which records are finished
//! stands in Redis, where what they came to stands, so that both move in one script. Two workers may
//! hold a partition for a while: each record is counted once all the same.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use super::Error;
use crate::broker::{Consumer, Fetched, Marks, Membership, Move};
use crate::store::{Log, Numbered, Start, Taken};
use crate::worker::lane::Lane;

/// After how long a worker that says nothing is missed, unless the operator says otherwise.
const SILENCE: Duration = Duration::from_secs(10);
/// Between two questions whether anything is left.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// A member of the group of a candidate.
pub(in crate::worker) struct Topic {
    servers: String,
    name: Box<str>,
    consumer: Option<Consumer>,
    /// Partitions that are ours, and not begun yet.
    assigned: Option<Vec<i32>>,
    /// They were taken from us, and that is not told yet.
    revoked: bool,
    /// Those that are read.
    reading: BTreeMap<i32, Reading>,
    /// Records that were read, and are not handed out yet.
    waiting: VecDeque<(Numbered, Vec<u8>)>,
    /// How far all was when it was last found that nothing is left.
    seen_empty: Option<Marks>,
    /// When it was last asked whether anything is left.
    asked: Option<Instant>,
}

/// How far a partition is read.
struct Reading {
    /// The offset behind the last record that was read.
    next: i64,
    /// Records from there on that are finished.
    finished: BTreeSet<u64>,
}

/// What says where a record comes from.
#[derive(Deserialize)]
struct Origin {
    gateway: String,
    epoch: u64,
    sequence: u64,
}

impl Topic {
    pub(super) fn new(servers: String, topic: &str) -> Self {
        Self {
            servers,
            name: topic.into(),
            consumer: None,
            assigned: None,
            revoked: false,
            reading: BTreeMap::new(),
            waiting: VecDeque::new(),
            seen_empty: None,
            asked: None,
        }
    }

    /// Joins the group, and remembers where its partitions begin.
    pub(super) async fn open(&mut self, lane: &Lane) -> Result<(), Error> {
        let plan = lane.plan();
        if matches!(plan.start, Start::After(_)) {
            return Err(Error::Asked("of a topic, --from takes new or oldest"));
        }
        let candidate = lane.candidate();
        let consumer = match self.consumer.take() {
            Some(consumer) => consumer,
            None => Consumer::join(&Membership {
                servers: self.servers.clone(),
                topic: self.name.to_string(),
                group: format!("{}:candidate:{candidate}", self.name),
                silence: plan.claim_after.unwrap_or(SILENCE),
            })?,
        };
        let marks = self.consumer.insert(consumer).marks().await?;
        let (of, start) = ((lane.service(), candidate), &plan.start);
        let comparisons = lane.comparisons();
        let opened = comparisons.open_log(of, &self.name, start, &marks).await;
        opened?;
        Ok(())
    }

    /// Follows what the group says of our share.
    pub(super) async fn follow(&mut self, lane: &Lane) -> Result<(), Error> {
        let Some(consumer) = &mut self.consumer else {
            return Ok(());
        };
        while let Some(moved) = consumer.moved() {
            self.reading.clear();
            self.waiting.clear();
            self.assigned = match moved {
                Move::Assigned(partitions) => Some(partitions),
                Move::Revoked => {
                    self.revoked = true;
                    None
                }
            };
        }
        if self.revoked {
            // What we work on goes to others too, and not because we died of it.
            let (service, candidate) = (lane.service(), lane.candidate());
            let working = lane.entries();
            let back = lane.comparisons().hand_back(service, candidate, &working);
            back.await?;
            self.revoked = false;
        }
        let Some(assigned) = &self.assigned else {
            return Ok(());
        };
        let mut marks = consumer.marks().await?;
        marks.retain(|partition, _| assigned.contains(partition));
        let (of, start) = ((lane.service(), lane.candidate()), &lane.plan().start);
        let comparisons = lane.comparisons();
        let opened = comparisons.open_log(of, &self.name, start, &marks).await?;
        if consumer.has_moved() {
            return Ok(());
        }
        let mut starts = BTreeMap::new();
        for (partition, mark) in opened {
            let next = i64::try_from(mark.low).unwrap_or(i64::MAX);
            let finished = mark.finished.into_iter().collect();
            starts.insert(partition, next);
            self.reading.insert(partition, Reading { next, finished });
        }
        consumer.begin(&starts)?;
        self.assigned = None;
        Ok(())
    }

    pub(super) async fn next(&mut self, lane: &Lane, most: usize) -> Result<Vec<Taken>, Error> {
        self.follow(lane).await?;
        let working = lane.entries();
        while self.waiting.len() < most {
            let fetched = self.consumer.as_mut().and_then(Consumer::fetch);
            match fetched {
                None => break,
                Some(fetched) => self.sort(fetched?, &working),
            }
        }
        let most = most.min(self.waiting.len());
        if most == 0 {
            return Ok(Vec::new());
        }
        let first = self.waiting.iter().take(most);
        let entries: Vec<String> = first.map(|(numbered, _)| numbered.entry()).collect();
        let (service, candidate) = (lane.service(), lane.candidate());
        let handed = lane.comparisons().hand_out(service, candidate, &entries);
        let handed = handed.await?;
        let records = self.waiting.drain(..most).zip(entries).zip(handed);
        let taken = records.map(|(((numbered, record), entry), deliveries)| Taken {
            entry,
            deliveries,
            record,
            numbered: Some(numbered),
        });
        Ok(taken.collect())
    }

    /// Puts a record among those that are to be handed out, unless it is finished or being worked on.
    fn sort(&mut self, fetched: Fetched, working: &[String]) {
        let Some(reading) = self.reading.get_mut(&fetched.partition) else {
            return;
        };
        if fetched.offset < reading.next {
            return;
        }
        let from = u64::try_from(reading.next).unwrap_or_default();
        let number = u64::try_from(fetched.offset).unwrap_or_default();
        reading.next = fetched.offset + 1;
        if reading.finished.remove(&number) {
            return;
        }
        let origin: Option<Origin> = serde_json::from_slice(&fetched.value).ok();
        let numbered = Numbered {
            log: Log::Partition(self.name.clone(), fetched.partition),
            number,
            from,
            origin: origin.map(|it| (it.gateway, it.epoch, it.sequence)),
        };
        if !working.contains(&numbered.entry()) {
            self.waiting.push_back((numbered, fetched.value));
        }
    }

    /// How far each partition is finished, and where it ends.
    async fn ends(&self, lane: &Lane) -> Result<(BTreeMap<i32, i64>, Marks), Error> {
        let (service, candidate) = (lane.service(), lane.candidate());
        let lows = lane.comparisons().lows(service, candidate, &self.name);
        let lows = lows.await?;
        let marks = match &self.consumer {
            Some(consumer) => consumer.marks().await?,
            None => Marks::new(),
        };
        Ok((lows, marks))
    }

    pub(super) async fn is_empty(&mut self, lane: &Lane) -> Result<bool, Error> {
        let now = Instant::now();
        if self.asked.is_some_and(|at| now < at + ASK_EVERY) {
            return Ok(false);
        }
        self.asked = Some(now);
        let (lows, marks) = self.ends(lane).await?;
        Ok(are_finished(&lows, &marks))
    }

    /// Shows Kafka how far we are. What is missing is missing for good where nothing was left now and
    /// the last time, and nothing came between: records of one gateway stand in several partitions.
    pub(super) async fn touch(&mut self, lane: &Lane) -> Result<bool, Error> {
        let (lows, marks) = self.ends(lane).await?;
        if let Some(consumer) = &self.consumer {
            consumer.show(&lows);
        }
        let empty = are_finished(&lows, &marks).then_some(marks);
        let before = std::mem::replace(&mut self.seen_empty, empty);
        Ok(before.is_some() && before == self.seen_empty)
    }

    pub(super) async fn leave(self) {
        if let Some(consumer) = self.consumer {
            consumer.leave().await;
        }
    }
}

/// Whether all partitions are finished up to their ends.
fn are_finished(lows: &BTreeMap<i32, i64>, marks: &Marks) -> bool {
    marks.iter().all(|(partition, (first, end))| {
        first == end || lows.get(partition).is_some_and(|low| low >= end)
    })
}
