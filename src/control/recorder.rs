//! Tells Redis what was counted: collects what came in since the last time, and sends it in
//! numbered batches, one at a time, each until it is answered.
//!
//! Invariant: a count is told exactly once, whatever gets lost on the way; nothing here is waited
//! for by a request.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::chain;
use crate::model::trial::Tag;
use crate::stats::batch::Cut;
use crate::stats::journal::{Answer, Journal, Order};
use crate::stats::trial::TrialSum;
use crate::stats::{Collector, Series, Sum};
use crate::store::{Error, Ledger, Terms};
use crate::telemetry;

/// How the recorder works.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How often what was counted is collected and told.
    pub interval: Duration,
    /// How windows are cut and kept.
    pub cut: Cut,
}

/// How long telling the last counts may take when the gateway stops.
const LEAVE: Duration = Duration::from_secs(2);
/// When the gateway stops, between two looks whether Redis is back.
const AGAIN: Duration = Duration::from_millis(20);
/// Between two tries of what Redis refused.
const REFUSED: Duration = Duration::from_secs(1);

/// The most full sets of callers of which it is remembered that it was said.
const FULL_TOLD_MAX: usize = 1_000;

/// Readers that wait for an answer.
const READERS_MAX: usize = 4;

/// The books at one moment: all that Redis was told, or is about to be.
#[derive(Clone, Debug)]
pub struct Books {
    /// What was counted of each series that has a cell, in parts that add up.
    pub counted: Vec<(Series, Arc<Sum>)>,
    /// How telling Redis goes.
    pub flush: Flush,
}

/// How telling Redis goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flush {
    /// Whether the Redis of the counts answers.
    pub connected: bool,
    /// The age of the oldest count that Redis does not know.
    pub lag: Duration,
    /// Batches that were applied.
    pub applied: u64,
    /// Batches that had been applied before their answer was lost.
    pub known: u64,
    /// Batches answered by a gap: Redis had lost some before.
    pub gaps: u64,
    /// Batches that were refused or not answered; they are sent again.
    pub failed: u64,
    /// Batches that Redis lost and that were too old to be told again.
    pub lost: u64,
}

/// Asks for the books; cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader(mpsc::Sender<oneshot::Sender<Books>>);

/// The other end of a `Reader`.
#[derive(Debug)]
pub struct Readers(mpsc::Receiver<oneshot::Sender<Books>>);

/// Both ends: for those who ask, and for the recorder.
#[must_use]
pub fn reader() -> (Reader, Readers) {
    let (ask, asked) = mpsc::channel(READERS_MAX);
    (Reader(ask), Readers(asked))
}

impl Readers {
    /// The next who asks; `None` where nobody is left who could.
    pub async fn next(&mut self) -> Option<oneshot::Sender<Books>> {
        self.0.recv().await
    }
}

impl Reader {
    /// The books as they are now; `None` where the recorder is gone.
    pub async fn read(&self) -> Option<Books> {
        let (answer, answered) = oneshot::channel();
        self.0.send(answer).await.ok()?;
        answered.await.ok()
    }
}

/// By what means Redis is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Script,
    /// By a transaction of single increments, because scripts are refused.
    Plain,
}

/// Collects and tells.
#[derive(Debug)]
pub struct Recorder {
    ledger: Arc<Ledger>,
    options: Options,
    collector: Collector,
    journal: Journal,
    readers: Readers,
    flush: Flush,
    way: Way,
    /// A refusal was told to the log and nothing was accepted since.
    refused: bool,
    /// It was said that callers were dropped.
    callers_dropped: bool,
    /// Full sets of callers of which it was said.
    full: BTreeSet<String>,
    /// Nothing is sent before.
    wait_until: Option<Instant>,
}

/// An order on its way, and what became of it.
type Sending = JoinHandle<(Order, Result<Answer, Error>)>;

impl Recorder {
    /// A recorder that has not begun; `collector` reads what the data plane counts, `readers` ask
    /// for the books.
    #[must_use]
    pub fn new(
        ledger: Arc<Ledger>,
        options: Options,
        collector: Collector,
        readers: Readers,
    ) -> Self {
        Self {
            ledger,
            options,
            collector,
            journal: Journal::default(),
            readers,
            flush: Flush::default(),
            way: Way::Script,
            refused: false,
            callers_dropped: false,
            full: BTreeSet::new(),
            wait_until: None,
        }
    }

    /// Records until `stop`, and then what is left, for two seconds at most.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut tick = interval(self.options.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sending = None;
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = tick.tick() => self.collect(),
                (order, told) = ended(&mut sending) => self.answered(&order, told),
                Some(reader) = self.readers.next() => self.show(reader),
            }
            self.send(&mut sending);
        }
        self.collect();
        let rest = async {
            while !self.journal.is_settled() {
                self.send(&mut sending);
                tokio::select! {
                    (order, told) = ended(&mut sending) => self.answered(&order, told),
                    () = sleep(AGAIN) => {}
                }
            }
            self.ledger.close().await
        };
        match timeout(LEAVE, rest).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(error = chain(&error), "left in disorder"),
            Err(_) if self.journal.is_settled() => tracing::debug!("redis does not let go"),
            Err(_) => telemetry::stats_unsaid(),
        }
    }

    fn collect(&mut self) {
        let now_ms = self.ledger.now_ms();
        let cut = self.options.cut;
        let journal = &mut self.journal;
        self.collector
            .collect(|series, sum| journal.add(now_ms / 1000, cut, series, sum));
        let mut dropped = 0;
        let add = |tag: &Tag, sum: &TrialSum| dropped += journal.add_trial(tag, sum);
        let unqueued = self.collector.collect_trials(add);
        dropped += unqueued;
        if dropped > 0 && !std::mem::replace(&mut self.callers_dropped, true) {
            telemetry::trial_callers_dropped(dropped);
        }
        journal.collected(now_ms);
        journal.bound(now_ms, cut);
    }

    /// Shows the books with all that is counted by now.
    fn show(&mut self, reader: oneshot::Sender<Books>) {
        self.collect();
        let oldest_ms = self.journal.oldest_ms();
        let lag_ms = oldest_ms.map_or(0, |at| self.ledger.now_ms().saturating_sub(at));
        let books = Books {
            counted: self.collector.held(),
            flush: Flush {
                connected: self.ledger.is_connected(),
                lag: Duration::from_millis(lag_ms),
                ..self.flush
            },
        };
        // Whoever asked may have left.
        drop(reader.send(books));
    }

    /// Sends the next batch, where none is on its way.
    fn send(&mut self, sending: &mut Option<Sending>) {
        let must_wait = self.wait_until.is_some_and(|at| Instant::now() < at);
        if sending.is_some() || must_wait || !self.ledger.is_connected() {
            return;
        }
        let Some(order) = self.journal.next_order() else {
            return;
        };
        let ledger = Arc::clone(&self.ledger);
        let terms = Terms {
            cut: self.options.cut,
            now_s: self.ledger.now_ms() / 1000,
        };
        let way = self.way;
        *sending = Some(tokio::spawn(async move {
            let told = match way {
                Way::Script => ledger.record(&order, terms).await,
                Way::Plain => ledger.record_plainly(&order, terms).await,
            };
            (order, told)
        }));
    }

    fn answered(&mut self, order: &Order, told: Result<Answer, Error>) {
        self.wait_until = None;
        let answer = match told {
            Ok(answer) => answer,
            Err(error) => return self.failed(&error),
        };
        self.refused = false;
        self.tell_full();
        match answer {
            Answer::Applied => self.flush.applied += 1,
            Answer::Known(_) => self.flush.known += 1,
            Answer::Gap(known) => {
                let lost = self.journal.lost_after(known);
                self.flush.gaps += 1;
                self.flush.lost += lost;
                telemetry::stats_gap(known, order.after, lost);
            }
        }
        let now_ms = self.ledger.now_ms();
        self.journal
            .answered(order, answer, now_ms, self.options.cut);
    }

    /// Says once of each trial that it counts no new callers.
    fn tell_full(&mut self) {
        let (full, most) = self.ledger.take_full();
        for callers in full {
            if self.full.len() < FULL_TOLD_MAX && self.full.insert(callers.clone()) {
                telemetry::trial_callers_full(&callers, most);
            }
        }
    }

    /// The same batch is sent again under the same number: it may have been applied.
    fn failed(&mut self, error: &Error) {
        self.flush.failed += 1;
        // Whoever does not answer is not asked faster than we collect.
        self.wait_until = Some(Instant::now() + self.options.interval.min(REFUSED));
        if !error.is_refused() {
            tracing::debug!(error = chain(error), "counts are kept");
            return;
        }
        if self.way == Way::Script && error.is_script_refused() {
            telemetry::stats_plain(&chain(error));
            self.way = Way::Plain;
            self.wait_until = None;
            return;
        }
        self.wait_until = Some(Instant::now() + REFUSED);
        if !std::mem::replace(&mut self.refused, true) {
            telemetry::redis_refuses("counts", &chain(error));
        }
    }
}

/// Waits for what is on its way; forever, where nothing is.
async fn ended(sending: &mut Option<Sending>) -> (Order, Result<Answer, Error>) {
    let Some(running) = sending else {
        return std::future::pending().await;
    };
    let ended = running.await;
    *sending = None;
    match ended {
        Ok(ended) => ended,
        // It is never aborted while this waits, and it does not panic; were it to, the batch stays
        // unanswered and is sent again.
        Err(_) => std::future::pending().await,
    }
}
