//! The only place that wires rooms together and begins what runs in the background.

mod control;
mod error;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use self::control::{Control, ControlOptions};
pub use self::error::Error;
use crate::control::alerter::Secrets;
use crate::control::{lookout, recorder, watcher};
use crate::stats::Meters;
use crate::{access, admin, proxy, store, telemetry, trace};

/// What the gateway needs to know.
#[derive(Debug)]
pub struct Options {
    /// How requests are served.
    pub proxy: proxy::Options,
    /// The admin port, where there is one.
    pub admin: Option<admin::Options>,
    /// Where Redis is, and our name there.
    pub store: store::Options,
    /// Where counts go: mostly the same Redis.
    pub stats: store::Options,
    /// Where shadow records go: mostly the same Redis.
    pub shadow: store::Options,
    /// Brokers of Kafka to begin with, for shadow records that go there.
    pub kafka: Option<String>,
    /// How counts are told.
    pub recorder: recorder::Options,
    /// Whether rollouts are walked here too.
    pub pilot: bool,
    /// How often all known objects are read again, whatever was heard.
    pub reconcile: Duration,
    /// The snapshot file, where one is kept.
    pub snapshot: Option<PathBuf>,
    /// Where the secrets of alerts are.
    pub secrets: Secrets,
    /// The access log, where there is one.
    pub access: Option<access::Options>,
    /// Where spans of requests go, if anywhere.
    pub trace: Option<trace::Options>,
}

/// The whole gateway.
#[derive(Debug)]
pub struct App;

/// A gateway whose sockets are open and whose first table is loaded, or waited for.
#[derive(Debug)]
pub struct Bound {
    /// The public addresses, with their real ports.
    pub public: Vec<SocketAddr>,
    /// The address of the admin port, where there is one.
    pub admin: Option<SocketAddr>,
    instance: String,
    proxy: proxy::Bound,
    control: Control,
    access: Option<(access::Log, access::Writer)>,
    trace: Option<(trace::Tap, trace::Sender)>,
}

impl App {
    /// Opens all sockets and starts the control plane. Clients may connect from now on and are
    /// answered by `Bound::run`. Blocks for about a second at most.
    pub fn bind(options: Options) -> Result<Bound, Error> {
        let threads = options.proxy.threads.max(1);
        let meters: Arc<Meters> = Arc::default();
        let access = options.access.as_ref();
        let access = access.map(|access| access::start(access, &meters));
        let access = access.transpose().map_err(Error::AccessLog)?;
        let trace = options.trace.map(|trace| trace::start(trace, &meters));
        let trace = trace.transpose().map_err(Error::Spans)?;
        let proxy = proxy::bind(options.proxy)?;
        let public = proxy.addresses().to_vec();
        let instance = options.store.instance.clone();
        let control = Control::start(ControlOptions {
            watcher: watcher::Options {
                reconcile: options.reconcile,
                instance: instance.clone(),
                address: public.first().map(ToString::to_string).unwrap_or_default(),
                snapshot: options.snapshot,
            },
            store: options.store,
            stats: options.stats,
            shadow: options.shadow,
            kafka: options.kafka,
            recorder: options.recorder,
            threads,
            pilot: options.pilot,
            admin: options.admin,
            secrets: options.secrets,
            unwatched: lookout::PATIENCE,
            meters,
        })?;
        Ok(Bound {
            public,
            admin: control.admin,
            instance,
            proxy,
            control,
            access,
            trace,
        })
    }
}

impl Bound {
    /// Serves until `stop` ends, then drains: running requests finish, the snapshot is written.
    /// Blocks all the while.
    pub fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::Runtime)?;
        let counters = std::mem::take(&mut self.control.counters);
        let (log, writer) = self.access.unzip();
        let (tracer, sender) = self.trace.unzip();
        let links = proxy::Links {
            access: log,
            tracer,
            ..self.control.links.clone()
        };
        let running = self.proxy.start(&self.control.table, &links, counters)?;
        drop(links);
        telemetry::listening(&self.instance, &self.public, self.admin);
        if self.public.iter().any(|at| !at.ip().is_loopback()) {
            let table = self.control.table.load();
            if let Some(first) = table.open().next() {
                telemetry::open_services(table.open().count(), first.name.as_str());
            }
        }
        runtime.block_on(stop);
        telemetry::draining();
        self.control.status.set_draining();
        running.drain()?;
        if let Some(writer) = writer {
            writer.finish();
        }
        if let Some(sender) = sender {
            sender.finish();
        }
        drop(self.control);
        telemetry::stopped();
        Ok(())
    }
}
