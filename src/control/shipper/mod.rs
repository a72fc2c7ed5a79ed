//! Takes shadow copies out of the queue and ships them, in numbered batches, one at a time, each
//! until it is answered.
//!
//! Invariant: a record is in the sink and in the books, or dropped and in the books; nothing here is
//! waited for by a request.

mod book;
mod mirrors;
mod topics;

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use self::book::{Book, RECORDS_MAX};
use self::mirrors::Mirrors;
use self::topics::Topics;
use super::chain;
use super::outbox::Outbox;
use super::watcher::Shared;
use crate::model::shadow::Sink;
use crate::model::table::Table;
use crate::shadow::{Draft, Held, Parcel};
use crate::store::{Error, ShadowStream, Shipment};
use crate::telemetry;

/// How long a record may wait for others to be shipped with.
const LINGER: Duration = Duration::from_millis(20);
/// How often the books are told where no record is shipped.
const TELL_EVERY: Duration = Duration::from_millis(250);
/// Between two tries: at first, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long the last records may take when the gateway stops, and then again the books about those
/// that were given up.
const LEAVE: Duration = Duration::from_secs(2);

/// Where records go.
#[derive(Debug)]
pub struct Sinks {
    /// The streams, and the books about all records.
    pub stream: Arc<ShadowStream>,
    /// Brokers of Kafka to begin with: `host:port`, commas between.
    pub kafka: Option<String>,
    /// Who compares records in this process.
    pub mirror: mpsc::UnboundedSender<Parcel>,
}

/// Ships.
#[derive(Debug)]
pub struct Shipper {
    stream: Arc<ShadowStream>,
    topics: Topics,
    mirrors: Mirrors,
    gateway: String,
    inbox: mpsc::Receiver<Box<Draft>>,
    table: Arc<ArcSwap<Table>>,
    revision: watch::Receiver<u64>,
    outbox: Outbox,
    book: Book,
    /// What is to be shipped, the oldest first; the room bounds it.
    waiting: VecDeque<Box<Draft>>,
    /// When the first of them came.
    since: Option<Instant>,
    /// What is on its way or must be sent again, and what of the room it takes.
    current: Option<(Arc<Shipment>, Vec<Held>)>,
    told: Instant,
    /// Nothing is sent before, and how long the next wait is.
    wait_until: Option<Instant>,
    back_off: Duration,
    /// A refusal was told to the log and nothing was accepted since.
    refused: bool,
    /// Nobody sends copies any more.
    is_over: bool,
}

/// A shipment on its way, and how many records of each of its parts were taken.
type Sending = JoinHandle<Result<Vec<u64>, Error>>;

impl Shipper {
    /// A shipper that has not begun, of the gateway called `gateway`.
    #[must_use]
    pub fn new(
        sinks: Sinks,
        gateway: String,
        inbox: mpsc::Receiver<Box<Draft>>,
        shared: &Shared,
    ) -> Self {
        Self {
            stream: sinks.stream,
            topics: Topics::new(sinks.kafka),
            mirrors: Mirrors::new(sinks.mirror),
            book: Book::new(gateway.clone(), now_ms()),
            gateway,
            inbox,
            table: Arc::clone(&shared.table),
            revision: shared.revision.subscribe(),
            outbox: shared.outbox.clone(),
            waiting: VecDeque::new(),
            since: None,
            current: None,
            told: Instant::now(),
            wait_until: None,
            back_off: BACK_OFF.0,
            refused: false,
            is_over: false,
        }
    }

    /// Ships until `stop`, and then what is left, for some seconds at most.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut sending = None;
        let mut came = Vec::new();
        loop {
            let due = self.due(sending.is_some());
            tokio::select! {
                () = &mut stop => break,
                count = self.inbox.recv_many(&mut came, RECORDS_MAX), if !self.is_over => {
                    self.is_over = count == 0;
                    self.sort(came.drain(..));
                }
                Ok(()) = self.revision.changed() => self.book.meet_all(&self.table.load()),
                shipped = ended(&mut sending) => self.answered(shipped),
                report = self.topics.reported() => self.topics.note(report, &mut self.book),
                () = until(due) => {}
            }
            self.watch();
            self.send(&mut sending);
        }
        if timeout(2 * LEAVE, self.finish(&mut sending)).await.is_err() {
            telemetry::shadow_unshipped();
        }
    }

    /// Ships what is left.
    async fn finish(&mut self, sending: &mut Option<Sending>) {
        let mut came = Vec::new();
        let mut give_up = Some(Instant::now() + LEAVE);
        self.is_over = true;
        loop {
            while let Ok(draft) = self.inbox.try_recv() {
                came.push(draft);
            }
            self.sort(came.drain(..));
            if give_up.is_some_and(|at| Instant::now() >= at) {
                give_up = None;
                self.topics.give_up();
            }
            self.send(sending);
            if sending.is_none() && self.current.is_none() && self.topics.on_the_way() == 0 {
                break;
            }
            let again = Instant::now() + LINGER;
            tokio::select! {
                shipped = ended(sending) => self.answered(shipped),
                report = self.topics.reported() => self.topics.note(report, &mut self.book),
                () = until(Some(again)) => {}
            }
        }
        // Whoever leaves in disorder leaves too.
        self.stream.close().await.ok();
    }

    /// Where each copy goes.
    fn sort(&mut self, came: impl Iterator<Item = Box<Draft>>) {
        for draft in came {
            match draft.policy.to {
                Sink::Stream => {
                    self.since.get_or_insert_with(Instant::now);
                    self.waiting.push_back(draft);
                }
                Sink::Kafka => self.topics.send(*draft, &mut self.book),
                Sink::Mirror => self.mirrors.send(*draft, &mut self.book),
            }
        }
    }

    /// When there is something to do, although nothing happens.
    fn due(&self, is_sending: bool) -> Option<Instant> {
        if is_sending || self.book.is_empty() {
            return None;
        }
        let tell = self.told + TELL_EVERY;
        let due = match self.since {
            _ if self.current.is_some() => tell,
            Some(since) => tell.min(since + LINGER),
            None => tell,
        };
        Some(self.wait_until.map_or(due, |until| due.max(until)))
    }

    /// Says where records began to be dropped.
    fn watch(&mut self) {
        let now_ms = now_ms();
        for episode in self.book.episodes(now_ms) {
            telemetry::shadow_dropped(episode.service.as_str(), &episode.why);
            self.outbox.note(vec![
                ("at_ms", now_ms.to_string()),
                ("kind", "shadow_dropped".to_owned()),
                ("service", episode.service.to_string()),
                ("gateway", self.gateway.clone()),
                ("why", episode.why),
            ]);
        }
    }

    /// Sends what is to be sent, where nothing is on its way.
    fn send(&mut self, sending: &mut Option<Sending>) {
        let now = Instant::now();
        let must_wait = self.wait_until.is_some_and(|at| now < at);
        if sending.is_some() || must_wait {
            return;
        }
        if self.book.is_empty() {
            return;
        }
        self.stream.open();
        if !self.stream.is_connected() {
            return self.wait();
        }
        if self.current.is_none() {
            let lingered = self.since.is_some_and(|since| now >= since + LINGER);
            let full = self.waiting.len() >= RECORDS_MAX;
            if !self.is_over && !lingered && !full && now < self.told + TELL_EVERY {
                return;
            }
            self.told = now;
            let loaded = self.book.load(&mut self.waiting, now_ms());
            self.since = (!self.waiting.is_empty()).then_some(now);
            self.current = loaded.map(|(shipment, held)| (Arc::new(shipment), held));
        }
        if let Some((shipment, _)) = &self.current {
            let (stream, shipment) = (Arc::clone(&self.stream), Arc::clone(shipment));
            *sending = Some(tokio::spawn(async move { stream.ship(&shipment).await }));
        }
    }

    fn answered(&mut self, shipped: Result<Vec<u64>, Error>) {
        match shipped {
            Ok(taken) => {
                if let Some((shipment, _held)) = self.current.take() {
                    self.book.arrived(&shipment, &taken);
                }
                self.wait_until = None;
                self.back_off = BACK_OFF.0;
                self.refused = false;
            }
            // It is sent again under the same number: it may have been applied.
            Err(error) => {
                self.wait();
                if error.is_refused() && !std::mem::replace(&mut self.refused, true) {
                    telemetry::redis_refuses("shadow records", &chain(&error));
                }
            }
        }
    }

    fn wait(&mut self) {
        self.wait_until = Some(Instant::now() + self.back_off);
        self.back_off = (self.back_off * 2).min(BACK_OFF.1);
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Waits for what is on its way; forever, where nothing is.
async fn ended(sending: &mut Option<Sending>) -> Result<Vec<u64>, Error> {
    let Some(running) = sending else {
        return std::future::pending().await;
    };
    let ended = running.await;
    *sending = None;
    // It is never aborted while this waits, and it does not panic.
    ended.unwrap_or(Err(Error::Away))
}

/// Unix milliseconds.
fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}
