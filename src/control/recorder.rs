//! Tells Redis what was counted: collects what came in since the last time, and sends it in
//! numbered batches, one at a time, each until it is answered.
//!
//! Invariant: a count is told exactly once, whatever gets lost on the way; nothing here is waited
//! for by a request.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::chain;
use crate::stats::Collector;
use crate::stats::batch::Cut;
use crate::stats::journal::{Answer, Journal, Order};
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
    way: Way,
    /// A refusal was told to the log and nothing was accepted since.
    refused: bool,
    /// Nothing is sent before.
    wait_until: Option<Instant>,
}

/// An order on its way, and what became of it.
type Sending = JoinHandle<(Order, Result<Answer, Error>)>;

impl Recorder {
    /// A recorder that has not begun; `collector` reads what the data plane counts.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>, options: Options, collector: Collector) -> Self {
        Self {
            ledger,
            options,
            collector,
            journal: Journal::default(),
            way: Way::Script,
            refused: false,
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
        journal.bound(now_ms, cut);
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
        if let Answer::Gap(known) = answer {
            telemetry::stats_gap(known, order.after, self.journal.lost_after(known));
        }
        let now_ms = self.ledger.now_ms();
        self.journal
            .answered(order, answer, now_ms, self.options.cut);
    }

    /// The same batch is sent again under the same number: it may have been applied.
    fn failed(&mut self, error: &Error) {
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
