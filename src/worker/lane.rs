//! One candidate of one service: takes records as it has room for them, and counts what they come
//! to.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeSet;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::call::Caller;
use super::desk::Job;
use super::feed::Feed;
use super::gate::Gate;
use super::pace::Pace;
use super::scorer::Scorer;
use super::status::{Doing, Status};
use super::{Plan, Shared, result};
use crate::model::name::{ServiceName, VersionName};
use crate::review::{self, Extremes, Mode};
use crate::store::{Comparisons, Finding, Taken};
use crate::telemetry;

/// Between two looks while there is nothing to do.
const IDLE: Duration = Duration::from_millis(100);
/// Between two tries while Redis is away.
const RETRY: Duration = Duration::from_millis(200);
/// Between two complaints.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);
/// Between two times that others are told we are alive, at most.
const TOUCH_MAX: Duration = Duration::from_secs(10);
/// Between two tries to reach a candidate that is away.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Between two looks whether users still need the candidate.
const BUSY: Duration = Duration::from_millis(100);
/// Beside twice the time-out of a call, for how long a worker may be silent.
const SILENT: Duration = Duration::from_secs(10);
/// How long a count may be tried for once the worker is to end.
const LAST_TRIES: Duration = Duration::from_secs(5);

/// What others see of a lane.
pub(super) struct Handle {
    lane: Rc<Lane>,
}

/// One candidate of one service.
pub(super) struct Lane {
    shared: Rc<Shared>,
    service: ServiceName,
    candidate: VersionName,
    job: RefCell<Rc<Job>>,
    gate: Gate,
    pace: Pace,
    status: RefCell<Status>,
    /// How often `base` was asked again, by all workers.
    triples: Cell<u64>,
    /// Entries being worked on.
    entries: RefCell<BTreeSet<String>>,
    complained: Cell<Option<Instant>>,
    /// Records that were trimmed unread, as far as was told.
    lost: Cell<u64>,
    /// Which pairs differ most.
    extremes: RefCell<Extremes>,
    /// This lane is to end, whatever the others do.
    ending: watch::Sender<bool>,
    stopping: watch::Sender<bool>,
}

/// A new lane, and its handle.
pub(super) fn open(
    shared: Rc<Shared>,
    (service, candidate): (ServiceName, VersionName),
    job: Rc<Job>,
) -> (Handle, Rc<Lane>) {
    let status = Status::new(service.clone(), candidate.clone());
    let lane = Rc::new(Lane {
        pace: Pace::new(shared.plan.max_rate),
        shared,
        service,
        candidate,
        job: RefCell::new(job),
        gate: Gate::default(),
        status: RefCell::new(status),
        triples: Cell::new(0),
        entries: RefCell::default(),
        complained: Cell::new(None),
        lost: Cell::new(0),
        extremes: RefCell::default(),
        ending: watch::Sender::new(false),
        stopping: watch::Sender::new(false),
    });
    (
        Handle {
            lane: Rc::clone(&lane),
        },
        lane,
    )
}

impl Handle {
    /// What stands in the configuration now.
    pub(super) fn give(&self, job: Rc<Job>) {
        self.lane.job.replace(job);
    }

    /// Ends this lane: what is in flight is finished.
    pub(super) fn end(&self) {
        self.lane.ending.send_replace(true);
    }

    pub(super) fn status(&self) -> Status {
        let mut status = self.lane.status.borrow().clone();
        status.in_flight = self.lane.entries.borrow().len();
        status.lost = self.lane.lost.get();
        status
    }
}

/// When the lane looks at what.
struct Turns {
    look: Instant,
    touch: Instant,
}

impl Lane {
    pub(super) fn job(&self) -> Rc<Job> {
        Rc::clone(&self.job.borrow())
    }

    pub(super) fn service(&self) -> &ServiceName {
        &self.service
    }

    pub(super) fn candidate(&self) -> &VersionName {
        &self.candidate
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.shared.plan
    }

    pub(super) fn comparisons(&self) -> &Comparisons {
        &self.shared.comparisons
    }

    /// Where events are told.
    pub(super) fn herald(&self) -> &Comparisons {
        let shared = &self.shared;
        shared.herald.as_ref().unwrap_or(&shared.comparisons)
    }

    pub(super) fn status_mut(&self) -> RefMut<'_, Status> {
        self.status.borrow_mut()
    }

    /// Whether a pair that differs in so many paths is one of those that differ most.
    pub(super) fn is_extreme(&self, id: &str, paths: usize, share: f64) -> bool {
        let mut extremes = self.extremes.borrow_mut();
        extremes.takes(id, paths, share, self.now_ms())
    }

    /// What is being worked on.
    pub(super) fn entries(&self) -> Vec<String> {
        self.entries.borrow().iter().cloned().collect()
    }

    pub(super) fn caller(&self) -> &Caller {
        &self.shared.calls
    }

    pub(super) fn scorer(&self) -> &Scorer {
        &self.shared.scorer
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(super) fn mode(&self) -> Mode {
        self.shared.plan.mode
    }

    pub(super) fn triples(&self) -> u64 {
        self.triples.get()
    }

    /// Unix milliseconds.
    #[expect(
        clippy::unused_self,
        reason = "whose clock it is is the lane's business"
    )]
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default()
    }

    /// After how long a silent worker's records are taken over.
    pub(super) fn silence(&self) -> Duration {
        let asked = self.shared.plan.claim_after;
        asked.unwrap_or_else(|| 2 * self.job().settings.timeout + SILENT)
    }

    /// Waits until the candidate may be called; `None` where the worker ends before.
    pub(super) async fn may_call(&self) -> Option<()> {
        let mut stopping = self.stopping.subscribe();
        let allowed = async {
            loop {
                self.gate.pass().await;
                while self.job().is_busy(&self.candidate) {
                    self.status_mut().yielding = true;
                    sleep(BUSY).await;
                }
                self.status_mut().yielding = false;
                self.pace.turn().await;
                if self.gate.is_open() {
                    return;
                }
            }
        };
        tokio::select! {
            biased;
            () = allowed => Some(()),
            _ = stopping.wait_for(|stopping| *stopping) => None,
        }
    }

    /// Works on what the feed has until `stop` says so, or nothing is left where that is enough.
    pub(super) async fn run(self: Rc<Self>, mut feed: Feed, mut stop: watch::Receiver<bool>) {
        let mut ending = self.ending.subscribe();
        let stop = async {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => {}
                _ = ending.wait_for(|ending| *ending) => {}
            }
        };
        let mut stop = pin!(stop);
        if !self.begin(&mut feed, stop.as_mut()).await {
            return;
        }
        let watcher = tokio::task::spawn_local(Rc::clone(&self).keep_watch());
        let keeper = tokio::task::spawn_local(Rc::clone(&self).keep_books());
        let mut works = JoinSet::new();
        let now = Instant::now();
        let mut turns = Turns {
            look: now,
            touch: now + TOUCH_MAX.min(self.silence() / 3),
        };
        let most = self.shared.plan.max_concurrent;
        loop {
            let free = most.saturating_sub(works.len());
            let may_look = free > 0 && self.gate.is_open();
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(_done) = works.join_next(), if !works.is_empty() => {}
                () = self.gate.closed(), if may_look => {}
                () = sleep_until(turns.touch) => {
                    turns.touch = Instant::now() + TOUCH_MAX.min(self.silence() / 3);
                    self.touch(&mut feed).await;
                }
                () = sleep_until(turns.look), if may_look => {
                    let taken = self.look(&mut feed, &mut turns, free).await;
                    if taken.is_empty() && works.is_empty() && self.is_done(&mut feed).await {
                        break;
                    }
                    for taken in taken {
                        self.entries.borrow_mut().insert(taken.entry.clone());
                        works.spawn_local(Rc::clone(&self).work(taken));
                    }
                }
                () = sleep(PROBE_EVERY), if !may_look => {
                    if let Err(error) = feed.tend(&self).await {
                        self.complain(&error);
                    }
                }
            }
        }
        self.stopping.send_replace(true);
        while works.join_next().await.is_some() {}
        watcher.abort();
        keeper.abort();
        if !matches!(feed, Feed::Topic(_)) {
            self.look_for_losses().await;
        }
        self.look_at_scores().await;
        if let Err(error) = feed.leave(&self).await {
            self.complain(&error);
        }
    }

    /// Opens the feed; `false` where the lane ends before.
    async fn begin(&self, feed: &mut Feed, mut stop: Pin<&mut impl Future<Output = ()>>) -> bool {
        loop {
            match feed.open(self).await {
                Ok(()) => {
                    let comparisons = &self.shared.comparisons;
                    let asked = comparisons.count(&self.service, &self.candidate, "triples");
                    self.triples.set(asked.await.unwrap_or(0));
                    self.tell(Doing::Comparing).await;
                    return true;
                }
                Err(error) => self.complain(&error),
            }
            tokio::select! {
                () = &mut stop => return false,
                () = sleep(RETRY) => {}
            }
        }
    }

    /// Says what is wrong, now and then.
    pub(super) fn complain(&self, error: &dyn std::error::Error) {
        let now = Instant::now();
        let silent = self.complained.get();
        if silent.is_none_or(|at| now >= at + COMPLAIN_EVERY) {
            self.complained.set(Some(now));
            let why = match error.source() {
                Some(cause) => format!("{error}: {cause}"),
                None => error.to_string(),
            };
            telemetry::worker_failed(self.service.as_str(), self.candidate.as_str(), &why);
        }
    }

    /// The next records.
    async fn look(&self, feed: &mut Feed, turns: &mut Turns, free: usize) -> Vec<Taken> {
        let found = feed.next(self, free).await;
        turns.look = Instant::now();
        match found {
            Ok(taken) => {
                if taken.is_empty() {
                    turns.look += IDLE;
                }
                taken
            }
            Err(error) => {
                turns.look += RETRY;
                self.complain(&error);
                Vec::new()
            }
        }
    }

    /// Whether nothing is left to do, where that is the end.
    async fn is_done(&self, feed: &mut Feed) -> bool {
        self.shared.plan.once && feed.is_empty(self).await.unwrap_or(false)
    }

    async fn touch(&self, feed: &mut Feed) {
        match feed.touch(self).await {
            Ok(true) => self.look_for_losses().await,
            Ok(false) => {}
            Err(error) => self.complain(&error),
        }
    }

    /// Says so when records were trimmed before anybody read them.
    async fn look_for_losses(&self) {
        let comparisons = &self.shared.comparisons;
        let read = comparisons.counters(&self.service, &self.candidate);
        let lost = match read.await {
            Ok(counters) => review::lost(&counters),
            Err(error) => return self.complain(&error),
        };
        let before = self.lost.replace(lost);
        if lost > before {
            let (service, candidate) = (self.service.as_str(), self.candidate.as_str());
            telemetry::worker_missed(service, candidate, lost);
            let why =
                format!("{lost} records were trimmed before {candidate} was compared on them");
            self.announce(self.event("shadow_dropped", why)).await;
        }
    }

    pub(super) fn event(&self, kind: &str, why: String) -> Vec<(&'static str, String)> {
        vec![
            ("at_ms", self.now_ms().to_string()),
            ("kind", kind.to_owned()),
            ("service", self.service.to_string()),
            ("version", self.candidate.to_string()),
            ("why", why),
        ]
    }

    async fn work(self: Rc<Self>, taken: Taken) {
        let finding = result::examine(&self, &taken).await;
        if let Some(finding) = finding {
            self.commit(&taken, &finding).await;
        }
        self.entries.borrow_mut().remove(&taken.entry);
    }

    /// Counts, however often Redis has to be asked; somebody else may have been faster.
    async fn commit(&self, taken: &Taken, finding: &Finding) {
        let mut stopping = self.stopping.subscribe();
        let counted = async {
            loop {
                let comparisons = &self.shared.comparisons;
                let done = comparisons.commit(&self.service, &self.candidate, taken, finding);
                match done.await {
                    Ok(counted) => return counted,
                    Err(error) => self.complain(&error),
                }
                sleep(RETRY).await;
            }
        };
        let given_up = async {
            drop(stopping.wait_for(|stopping| *stopping).await);
            sleep(LAST_TRIES).await;
        };
        tokio::select! {
            counted = counted => if counted {
                self.note(finding);
            },
            () = given_up => {}
        }
    }

    /// Keeps our own count, for whoever watches.
    fn note(&self, finding: &Finding) {
        self.status.borrow_mut().note(finding);
        if finding.counts.iter().any(|(field, _)| field == "triples") {
            self.triples.set(self.triples.get() + 1);
        }
    }

    /// Says when the candidate is away, and tries to reach it until it is back.
    async fn keep_watch(self: Rc<Self>) {
        loop {
            self.gate.closed().await;
            self.tell(Doing::Waiting).await;
            loop {
                let job = self.job();
                let at = job.endpoints(&self.candidate);
                if self.caller().reaches(&job, &at).await {
                    break;
                }
                sleep(PROBE_EVERY).await;
            }
            self.gate.reopen();
            self.tell(Doing::Comparing).await;
        }
    }

    async fn tell(&self, doing: Doing) {
        let before = std::mem::replace(&mut self.status.borrow_mut().doing, doing);
        let changed = before != doing;
        if changed {
            let (service, candidate) = (self.service.as_str(), self.candidate.as_str());
            telemetry::worker_state(service, candidate, doing.name());
        }
        let now = self.now_ms().to_string();
        let fields = [("state", doing.name().to_owned()), ("state_ms", now)];
        let comparisons = &self.shared.comparisons;
        let told = comparisons.tell(&self.service, &self.candidate, &fields, None);
        if let Err(error) = told.await {
            self.complain(&error);
        }
        if changed {
            let event = self.event("shadow_worker", doing.name().to_owned());
            self.announce(event).await;
        }
    }
}
