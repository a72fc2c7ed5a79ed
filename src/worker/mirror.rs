//! The worker inside a gateway: what requests of services with `to mirror` came to is handed over
//! and compared at once, by the same lanes, limits and counts as in a process of its own.
//!
//! It has a thread of its own, so that comparing large answers delays nothing of the control half.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::desk::Desk;
use super::feed::{Feed, Handed, Place};
use super::lanes::Lanes;
use super::{Board, MAX_CONCURRENT, Plan, READ_EVERY, Shared, Status, usual_rate};
use crate::model::name::{ServiceName, VersionName};
use crate::review::Mode;
use crate::shadow::Parcel;
use crate::store::{Comparisons, Error, Options, Start, View};
use crate::telemetry;

/// How long calls in flight may take when the gateway stops.
const LEAVE: Duration = Duration::from_secs(2);
/// Between two tries while Redis is away.
const RETRY: Duration = Duration::from_millis(200);

/// Where lanes tell how far they are.
type Told = watch::Sender<Vec<Status>>;

/// Compares what it is handed, on a thread of its own, until nobody hands it anything any more.
#[derive(Debug)]
pub struct Mirror {
    thread: JoinHandle<()>,
}

impl Mirror {
    /// Waits for parcels; connects to nothing before the first one. Results go where records do;
    /// how far each lane is stands on the board. `scorer_key`: as in `Plan`.
    pub fn start(
        config: &Options,
        records: &Options,
        scorer_key: Option<HeaderValue>,
        parcels: UnboundedReceiver<Parcel>,
    ) -> io::Result<(Self, Board)> {
        let plan = Plan {
            config: config.clone(),
            records: records.clone(),
            kafka: None,
            services: Vec::new(),
            candidates: Vec::new(),
            start: Start::New,
            mode: Mode::Live,
            max_rate: Some(usual_rate()),
            max_concurrent: MAX_CONCURRENT,
            claim_after: None,
            once: false,
            scorer_key,
        };
        let thread = thread::Builder::new().name("mirror".to_owned());
        let (board, lanes) = watch::channel(Vec::new());
        let thread = thread.spawn(move || run_thread(plan, parcels, &board))?;
        Ok((Self { thread }, lanes))
    }

    /// Waits for its end, which comes within seconds once nobody hands it anything any more.
    pub fn finish(self) {
        if self.thread.join().is_err() {
            tracing::error!("the mirror ended in a panic");
        }
    }
}

fn run_thread(plan: Plan, mut parcels: UnboundedReceiver<Parcel>, board: &Told) {
    let Some(first) = parcels.blocking_recv() else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return telemetry::mirror_failed(&error.to_string()),
    };
    let done = runtime.block_on(LocalSet::new().run_until(work(plan, first, parcels, board)));
    if let Err(error) = done {
        telemetry::mirror_failed(&error.to_string());
    }
    // Look-ups of names may hang in the system's resolver: nobody waits for them.
    runtime.shutdown_background();
}

/// What takes parcels to the lanes.
struct Sorter {
    life: String,
    /// How many queues there were.
    opened: u64,
    lanes: Lanes,
    /// Of each candidate the queue of its lane.
    queues: BTreeMap<(ServiceName, VersionName), UnboundedSender<Rc<Parcel>>>,
}

async fn work(
    plan: Plan,
    first: Parcel,
    mut parcels: UnboundedReceiver<Parcel>,
    board: &Told,
) -> Result<(), Error> {
    let (say, stop) = watch::channel(false);
    let now = jiff::Timestamp::now().as_microsecond();
    let life = format!("{}:{now}", plan.config.instance);
    let view = View::connect(&plan.config)?;
    let comparisons = Comparisons::connect(&plan.records)?;
    let apart = plan.records.url != plan.config.url;
    let herald = apart.then(|| Comparisons::connect(&plan.config));
    let herald = herald.transpose()?;
    let mut desk = Desk::new(view, Vec::new());
    let shared = Rc::new(Shared::new(plan, comparisons, herald));
    let mut sorter = Sorter {
        life,
        opened: 0,
        lanes: Lanes::new(Rc::clone(&shared), stop),
        queues: BTreeMap::new(),
    };
    let mut turns = interval(READ_EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next = Some(first);
    while let Some(parcel) = next {
        // A policy that says so since a moment may not be known here.
        if desk.watch(&parcel.service) || !sorter.knows(&parcel.service) {
            while desk.read().await.is_err() && !parcels.is_closed() {
                sleep(RETRY).await;
            }
            sorter.give(&desk);
        }
        sorter.sort(&desk, parcel);
        next = loop {
            tokio::select! {
                parcel = parcels.recv() => break parcel,
                _ = turns.tick() => {
                    board.send_replace(sorter.lanes.statuses());
                    // What was read last stays in force while Redis is away; the watcher says so.
                    if desk.read().await.is_ok() {
                        sorter.give(&desk);
                    }
                }
            }
        };
    }
    say.send_replace(true);
    // What is in flight is counted; what waits is gone, as everything in the gateway's memory.
    drop(timeout(LEAVE, sorter.lanes.all_ended()).await);
    drop(timeout(LEAVE, shared.comparisons.close()).await);
    Ok(())
}

impl Sorter {
    /// Gives all lanes what stands in the configuration now.
    fn give(&mut self, desk: &Desk) {
        for (service, job) in desk.jobs() {
            let candidates = self.lanes.candidates(job).to_vec();
            for candidate in candidates {
                let key = (service.clone(), candidate.clone());
                let (queues, opened) = (&mut self.queues, &mut self.opened);
                let life = &self.life;
                self.lanes.give((service, &candidate), job, |place| {
                    queues.remove(&key);
                    if *place != Place::Handed {
                        return None;
                    }
                    let (queue, handed) = unbounded_channel();
                    queues.insert(key.clone(), queue);
                    *opened += 1;
                    let life = format!("{life}:{opened}");
                    Some(Feed::Handed(Handed::new(handed, &life)))
                });
            }
        }
    }

    /// Whether a lane waits for parcels of this service.
    fn knows(&self, service: &ServiceName) -> bool {
        self.queues.keys().any(|(known, _)| known == service)
    }

    /// Hands a parcel to the lane of each candidate. One whose service has no such lane is given up:
    /// its records are elsewhere by now.
    fn sort(&mut self, desk: &Desk, parcel: Parcel) {
        let job = desk.jobs().find(|(service, _)| **service == parcel.service);
        let Some((_, job)) = job else {
            return;
        };
        let parcel = Rc::new(parcel);
        for candidate in self.lanes.candidates(job) {
            let key = (parcel.service.clone(), candidate.clone());
            if let Some(queue) = self.queues.get(&key) {
                // A lane that ended wants nothing.
                drop(queue.send(Rc::clone(&parcel)));
            }
        }
    }
}
