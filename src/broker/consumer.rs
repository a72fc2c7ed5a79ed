//! Records out of a topic, as a member of a group. Offsets are kept by the caller: the group only
//! says whose partitions are whose, and what is committed to Kafka is for Kafka's own tools.
//!
//! Events and records come on queues of their own, so that a member who wants no record for a while
//! still answers the group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::stream_consumer::StreamPartitionQueue;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::metadata::MetadataTopic;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::producer::step;
use super::{Error, Fetched, Marks, Membership, Move};

/// The most that the library reads ahead.
const READ_AHEAD_KBYTES: &str = "16384";
/// How often it is looked whether the topic has other partitions, or is there at all.
const LOOK_AROUND_MS: &str = "10000";
/// The most that a question to a broker may take.
const ASK_MAX: Duration = Duration::from_secs(5);
/// How long leaving the group may take.
const LEAVE_MAX: Duration = Duration::from_secs(3);
/// The longest and the shortest silence that a group can be told of.
const SILENCE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_mins(5));

/// A member of a group that shares the partitions of one topic.
pub struct Consumer {
    inner: Arc<StreamConsumer<Context>>,
    /// Asks where partitions end: a client of its own, so that no question touches the group.
    asker: Arc<BaseConsumer>,
    topic: String,
    moves: mpsc::UnboundedReceiver<Move>,
    events: mpsc::UnboundedReceiver<Result<Fetched, Error>>,
    pump: JoinHandle<()>,
    partitions: BTreeMap<i32, StreamPartitionQueue<Context>>,
    /// After which partition it is looked first.
    turn: i32,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

/// Takes word of the group.
struct Context {
    moves: mpsc::UnboundedSender<Move>,
    leaving: AtomicBool,
}

impl ClientContext for Context {
    // The same error comes out of the queue of events.
    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let assigned = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if assigned && !self.leaving.load(Ordering::Relaxed) {
            // Whoever owns the offsets says where to begin; until then nothing is read.
            let partitions = partitions.elements();
            let ours = partitions
                .iter()
                .map(TopicPartitionListElem::partition)
                .collect();
            drop(self.moves.send(Move::Assigned(ours)));
        } else {
            // What it answers shows in the next event.
            drop(consumer.unassign());
            drop(self.moves.send(Move::Revoked));
        }
    }
}

impl Consumer {
    /// Joins the group. Needs a runtime.
    pub fn join(membership: &Membership) -> Result<Self, Error> {
        let silence = membership.silence.clamp(SILENCE.0, SILENCE.1).as_millis();
        let (tell_moves, moves) = mpsc::unbounded_channel();
        let context = Context {
            moves: tell_moves,
            leaving: AtomicBool::new(false),
        };
        let consumer: StreamConsumer<Context> = ClientConfig::new()
            .set("bootstrap.servers", &membership.servers)
            .set("client.id", "smartlink")
            .set("group.id", &membership.group)
            .set("session.timeout.ms", silence.to_string())
            .set("heartbeat.interval.ms", (silence / 4).max(1).to_string())
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("queued.max.messages.kbytes", READ_AHEAD_KBYTES)
            .set("topic.metadata.refresh.interval.ms", LOOK_AROUND_MS)
            .create_with_context(context)
            .map_err(step("make a consumer"))?;
        let asker: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &membership.servers)
            .set("client.id", "smartlink")
            .create()
            .map_err(step("make a client"))?;
        let subscribed = consumer.subscribe(&[&membership.topic]);
        subscribed.map_err(step("subscribe to the topic"))?;
        let inner = Arc::new(consumer);
        let (tell, events) = mpsc::unbounded_channel();
        let theirs = Arc::clone(&inner);
        let pump = tokio::spawn(async move {
            loop {
                let event = theirs.recv().await;
                let event = event.map(|message| fetched(&message));
                if tell.send(event.map_err(step("read records"))).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            inner,
            asker: Arc::new(asker),
            topic: membership.topic.clone(),
            moves,
            events,
            pump,
            partitions: BTreeMap::new(),
            turn: -1,
        })
    }

    /// What became of our share since the last call, the oldest first.
    pub fn moved(&mut self) -> Option<Move> {
        let moved = self.moves.try_recv().ok();
        if moved.is_some() {
            self.partitions.clear();
        }
        moved
    }

    /// Whether `moved` has something to say.
    #[must_use]
    pub fn has_moved(&self) -> bool {
        !self.moves.is_empty()
    }

    /// Reads our partitions, each from this offset on.
    pub fn begin(&mut self, starts: &BTreeMap<i32, i64>) -> Result<(), Error> {
        let mut list = TopicPartitionList::with_capacity(starts.len());
        self.partitions.clear();
        for (partition, offset) in starts {
            let added = list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset));
            added.map_err(step("name an offset"))?;
            // Before anything is read, so that nothing comes on the queue of events.
            let queue = self.inner.split_partition_queue(&self.topic, *partition);
            self.partitions
                .extend(queue.map(|queue| (*partition, queue)));
        }
        let assigned = self.inner.assign(&list);
        assigned.map_err(step("take over partitions"))
    }

    /// The next record or mishap, where there is one right now; partitions in turn.
    pub fn fetch(&mut self) -> Option<Result<Fetched, Error>> {
        if let Ok(event) = self.events.try_recv() {
            return Some(event);
        }
        let (before, after): (Vec<_>, Vec<_>) = self
            .partitions
            .iter()
            .partition(|(at, _)| **at <= self.turn);
        for (partition, queue) in after.into_iter().chain(before) {
            if let Some(message) = queue.recv().now_or_never() {
                self.turn = *partition;
                let message = message.map(|message| fetched(&message));
                return Some(message.map_err(step("read records")));
            }
        }
        None
    }

    /// Where the partitions of the topic begin and end; none where there is no such topic yet.
    pub fn marks(&self) -> impl Future<Output = Result<Marks, Error>> + use<> {
        let (asker, topic) = (Arc::clone(&self.asker), self.topic.clone());
        let found = tokio::task::spawn_blocking(move || {
            // Errors pile up otherwise; who asks is told anyway.
            while asker.poll(Duration::ZERO).is_some() {}
            let known = asker.fetch_metadata(Some(&topic), ASK_MAX);
            let known = known.map_err(step("ask for the partitions of the topic"))?;
            let partitions = known.topics().iter().flat_map(MetadataTopic::partitions);
            let marks = partitions.map(|it| {
                let marks = asker.fetch_watermarks(&topic, it.id(), ASK_MAX);
                Ok((it.id(), marks.map_err(step("ask where a partition ends"))?))
            });
            marks.collect::<Result<Marks, Error>>()
        });
        async move {
            let found = found.await;
            found.unwrap_or_else(|ended| {
                Err(Error::Step {
                    step: "ask where partitions end",
                    source: super::Reason(ended.to_string()),
                })
            })
        }
    }

    /// Tells Kafka how far we are, for its own tools; whether that arrives is nobody's concern.
    pub fn show(&self, lows: &BTreeMap<i32, i64>) {
        let mut list = TopicPartitionList::with_capacity(lows.len());
        for (partition, low) in lows {
            let ours = self.partitions.contains_key(partition);
            let offset = Offset::Offset(*low);
            if ours
                && list
                    .add_partition_offset(&self.topic, *partition, offset)
                    .is_err()
            {
                return;
            }
        }
        if list.count() > 0 {
            drop(self.inner.commit(&list, CommitMode::Async));
        }
    }

    /// Leaves the group, so that others need not wait until we are missed; within seconds.
    pub async fn leave(mut self) {
        self.pump.abort();
        drop((&mut self.pump).await);
        self.partitions.clear();
        self.inner.context().leaving.store(true, Ordering::Relaxed);
        let Self { inner, .. } = self;
        let (say, left) = oneshot::channel();
        // Not on the runtime's own threads: nobody is to wait for a group that does not answer.
        let leave = std::thread::Builder::new().name("kafka-leave".to_owned());
        let leaving = leave.spawn(move || {
            // A share that was never begun would be waited for.
            drop(inner.unassign());
            drop(inner);
            // Nobody waits any more where it took too long.
            say.send(()).ok();
        });
        if leaving.is_ok() {
            drop(timeout(LEAVE_MAX, left).await);
        }
    }
}

fn fetched(message: &BorrowedMessage<'_>) -> Fetched {
    Fetched {
        partition: message.partition(),
        offset: message.offset(),
        value: message.payload().unwrap_or_default().to_vec(),
    }
}
