//! The control plane: what it is made of, its one thread, and the order in which its parts begin and
//! end.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::Error;
use crate::admin::{self, Admin};
use crate::control::alerter::{self, Alerter, Secrets};
use crate::control::issuers::Issuers;
use crate::control::live::{Live, Look};
use crate::control::lookout::Lookout;
use crate::control::outbox::Outbox;
use crate::control::pilot::{self, Pilot};
use crate::control::prober::{self, Board, Prober, Publisher};
use crate::control::quotas::Leases;
use crate::control::recorder::{self, Recorder};
use crate::control::shipper::{Shipper, Sinks};
use crate::control::status::Status;
use crate::control::watcher::{self, Shared, Watcher};
use crate::inquiry::Office;
use crate::model::table::Table;
use crate::policy::quotas::Demand;
use crate::shadow::{Draft, RECORDS_MAX, Secret};
use crate::stats::{self, Collector, Counter, Meters};
use crate::store::{self, Ledger, ShadowStream, Store};
use crate::worker::{self, Board as Lanes, Mirror};
use crate::{inquiry, proxy};

/// Findings about endpoints on their way to the control plane. What does not fit is found again by
/// the prober's own look around.
const REPORTS_MAX: usize = 4096;

/// Word of shared quotas on its way to whoever leases shares. What does not fit is said again by the
/// next request.
const DEMANDS_MAX: usize = 4096;

/// Shadow copies on their way to the control plane: their room is bounded, this only follows.
#[expect(clippy::cast_possible_truncation, reason = "a few thousand")]
const COPIES_MAX: usize = RECORDS_MAX as usize;

/// What the control plane needs to know.
#[derive(Debug)]
pub struct ControlOptions {
    /// Where Redis is.
    pub store: store::Options,
    /// Where counts go: mostly the same Redis.
    pub stats: store::Options,
    /// Where shadow records go: mostly the same Redis.
    pub shadow: store::Options,
    /// Brokers of Kafka to begin with, for shadow records that go there.
    pub kafka: Option<String>,
    /// How counts are told.
    pub recorder: recorder::Options,
    /// How many threads of the data plane count.
    pub threads: usize,
    /// Whether rollouts are walked here too.
    pub pilot: bool,
    /// How it is watched.
    pub watcher: watcher::Options,
    /// The admin port, where there is one.
    pub admin: Option<admin::Options>,
    /// Where the secrets of alerts are.
    pub secrets: Secrets,
    /// How long a rollout may be without a pilot before people are told.
    pub unwatched: Duration,
    /// What the data plane counts of itself.
    pub meters: Arc<Meters>,
}

/// The control plane: one thread with one runtime, on which everything runs that is not a
/// request. Stopped when dropped.
#[derive(Debug)]
pub struct Control {
    /// The table in force.
    pub table: Arc<ArcSwap<Table>>,
    /// What the background tasks know about themselves.
    pub status: Arc<Status>,
    /// The bound address of the admin port, where there is one.
    pub admin: Option<SocketAddr>,
    /// What the data plane is tied to it by.
    pub links: proxy::Links,
    /// What the threads of the data plane count with, one each.
    pub counters: Vec<Counter>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Starts it, and returns when the first table is loaded, or after about a second without
    /// Redis: the table is then the snapshot's, or not loaded.
    pub fn start(options: ControlOptions) -> Result<Self, Error> {
        let epoch = Instant::now();
        let shared = Shared {
            table: Arc::default(),
            status: Arc::default(),
            outbox: Outbox::default(),
            revision: watch::Sender::default(),
            health: Board::new(epoch),
            quotas: Arc::default(),
        };
        let (reports, reported) = mpsc::channel(REPORTS_MAX);
        let (demands, demanded) = mpsc::channel(DEMANDS_MAX);
        let (issuers, office) = inquiry::desk();
        let (queue, copied) = mpsc::channel(COPIES_MAX);
        let links = proxy::Links {
            epoch,
            reports,
            meters: Arc::clone(&options.meters),
            access: None,
            quotas: Arc::clone(&shared.quotas),
            seed: RandomState::new(),
            demands,
            tracer: None,
            issuers,
            copier: Some(proxy::Copier {
                room: Arc::default(),
                queue,
                secret: new_secret(),
            }),
        };
        let prober = prober::Options {
            epoch,
            instance: options.watcher.instance.clone(),
        };
        let (counters, collector) = stats::counters(options.threads);
        let work = Work {
            prober: Prober::new(prober, &shared, reported),
            collector,
            demanded,
            epoch,
            office,
            copied,
        };
        let (stop, stopped) = oneshot::channel();
        let (started, start) = oneshot::channel();
        let theirs = shared.clone();
        let thread = thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || run_control(options, theirs, work, started, stopped))
            .map_err(Error::Runtime)?;
        let admin = start.blocking_recv().unwrap_or(Err(Error::Ended))?;
        Ok(Self {
            table: shared.table,
            status: shared.status,
            admin,
            links,
            counters,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Control {
    /// Writes the snapshot and leaves Redis in order; takes a second or two at most.
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It may have ended by itself, which the join below sees.
            stop.send(()).ok();
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the control plane ended in a panic");
        }
    }
}

/// What the control plane is handed by whoever starts it, beside its options.
struct Work {
    prober: Prober,
    collector: Collector,
    demanded: mpsc::Receiver<Demand>,
    /// What all moments are counted from.
    epoch: Instant,
    office: Office,
    /// Shadow copies that requests left.
    copied: mpsc::Receiver<Box<Draft>>,
}

/// A key that nobody knows and that is gone with the process. The standard library seeds each
/// `RandomState` from the system's random source.
fn new_secret() -> Secret {
    let mut bytes = [0; 32];
    for part in bytes.chunks_exact_mut(8) {
        let random = RandomState::new().build_hasher().finish();
        part.copy_from_slice(&random.to_le_bytes());
    }
    Secret::new(bytes)
}

fn run_control(
    options: ControlOptions,
    shared: Shared,
    work: Work,
    started: oneshot::Sender<Result<Option<SocketAddr>, Error>>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            // Nobody waits any more only where the process is ending.
            drop(started.send(Err(Error::Runtime(error))));
            return;
        }
    };
    runtime.block_on(async {
        match begin(options, shared, work).await {
            Ok(begun) => {
                drop(started.send(Ok(begun.admin)));
                let (running, _) = watch::channel(());
                let over = || over(running.subscribe());
                let (one, other, third, fourth) = (over(), over(), over(), over());
                // The watcher closes the connection by which the publisher takes back what it wrote.
                let (publishing, published) = watch::channel(());
                let publish = async {
                    begun.publisher.run(one).await;
                    drop(publishing);
                };
                let walk = async {
                    if let Some(pilot) = begun.pilot {
                        pilot.run(fourth).await;
                    }
                };
                let stop = async {
                    drop(stopped.await);
                    drop(running);
                };
                tokio::join!(
                    stop,
                    publish,
                    begun.watcher.run(self::over(published)),
                    begun.recorder.run(other),
                    begun.shipper.run(third),
                    walk
                );
                // The shipper is gone, and with it whoever hands it records.
                begun.mirror.finish();
            }
            Err(error) => drop(started.send(Err(error))),
        }
    });
    // Look-ups of names may hang in the system's resolver: nobody waits for them.
    runtime.shutdown_background();
}

/// Ends when the other end of the channel is gone.
async fn over(mut running: watch::Receiver<()>) {
    while running.changed().await.is_ok() {}
}

/// What has something to do when the control plane stops.
struct Begun {
    watcher: Watcher,
    recorder: Recorder,
    shipper: Shipper,
    publisher: Publisher,
    pilot: Option<Pilot>,
    mirror: Mirror,
    /// The bound address of the admin port, where there is one.
    admin: Option<SocketAddr>,
}

/// Opens the admin port: its bound address.
async fn open(
    options: admin::Options,
    shared: &Shared,
    meters: Arc<Meters>,
    reader: recorder::Reader,
    look: Look,
    lanes: Lanes,
) -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind(options.address)
        .await
        .map_err(|source| admin::Error::Bind(options.address, source))?;
    let admin = Admin::try_new(&options, &listener, shared, meters, reader, look, lanes)?;
    let address = admin.address();
    tokio::spawn(admin::serve(listener, admin));
    Ok(address)
}

/// Begins everything that runs on the control plane; what it hands back is run by the caller.
async fn begin(options: ControlOptions, shared: Shared, work: Work) -> Result<Begun, Error> {
    let (reader, readers) = recorder::reader();
    let ledger = Arc::new(Ledger::connect(&options.stats)?);
    let look = Look::new(Arc::clone(&ledger));
    let (parcels, handed) = mpsc::unbounded_channel();
    let scorer_key = worker::scorer_key(options.secrets)?;
    let mirror = Mirror::start(&options.store, &options.shadow, scorer_key, handed);
    let (mirror, lanes) = mirror.map_err(Error::Runtime)?;
    let bound = match options.admin {
        Some(admin) => Some(open(admin, &shared, options.meters, reader, look, lanes).await?),
        None => None,
    };
    let (store, events) = Store::connect(&options.store)?;
    tokio::spawn(shared.outbox.clone().run(store.clone()));
    let instance = options.watcher.instance.clone();
    let publisher = Publisher::new(store.clone(), instance, &shared);
    let recorder = Recorder::new(
        Arc::clone(&ledger),
        options.recorder,
        work.collector,
        readers,
    );
    let pilot = pilot::Options {
        config: options.store.clone(),
        stats: options.stats.clone(),
        shadow: options.shadow.clone(),
        services: Vec::new(),
        tick: pilot::TICK,
    };
    let pilot = options.pilot.then(|| Pilot::new(pilot)).transpose()?;
    let sinks = Sinks {
        stream: Arc::new(ShadowStream::new(&options.shadow)?),
        kafka: options.kafka,
        mirror: parcels,
    };
    let instance = options.watcher.instance.clone();
    let shipper = Shipper::new(sinks, instance, work.copied, &shared);
    let live = Live::new(Arc::clone(&ledger), Arc::clone(&shared.table));
    let secrets = options.secrets;
    let alerts = alerter::Options {
        instance: options.watcher.instance.clone(),
        place: options.store.shown(),
        secrets,
    };
    let alerter = Alerter::new(store.clone(), ledger, alerts, &shared);
    let quotas = Arc::clone(&shared.quotas);
    let leases = Leases::new(store.clone(), quotas, work.demanded, work.epoch);
    let instance = options.watcher.instance.clone();
    let lookout = Lookout::new(store.clone(), instance, options.unwatched, &shared);
    let issuers = Issuers::new(&shared, store.keys().clone(), work.office, secrets);
    let mut watcher = Watcher::new(store, events, options.watcher, shared);
    watcher.start().await?;
    tokio::task::spawn_local(work.prober.run());
    tokio::task::spawn_local(issuers.run());
    tokio::spawn(leases.run());
    tokio::spawn(live.run());
    tokio::spawn(lookout.run());
    tokio::task::spawn_local(alerter.run());
    Ok(Begun {
        watcher,
        recorder,
        shipper,
        publisher,
        pilot,
        mirror,
        admin: bound,
    })
}
