//! The data plane: one runtime a core, hyper on both sides, nothing shared that locks.
//!
//! Invariant: nothing here waits for Redis, for another thread, or for anything without a bound.

mod body;
mod client_io;
mod connection;
mod cors;
mod entry;
mod error;
pub mod explain;
mod forward;
mod forwarded;
mod framing;
mod guard;
mod handler;
mod headers;
mod keys;
mod listener;
mod notes;
mod peer;
mod proxy_protocol;
mod record;
mod routed;
mod socket;
mod state;
mod tee;
mod trial;
mod tunnel;
mod upstream;
mod worker;

use std::hash::RandomState;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::access::Log;
use crate::inquiry::Desk;
use crate::model::table::Table;
use crate::policy::health::Report;
use crate::policy::quotas::{Demand, Quotas};
use crate::stats::{Counter, Meters};
use crate::trace::Tap;
use framing::Bounds;
pub use tee::Copier;
use worker::{Limits, Worker};

pub use proxy_protocol::Versions as ProxyProtocol;

/// The most threads one runtime uses for what blocks.
const BLOCKING_MAX: usize = 8;

/// How long who is on the way in when the gateway stops may take to arrive: one round trip.
const HANDSHAKES: Duration = Duration::from_millis(100);

/// How the data plane is to run.
#[derive(Debug)]
pub struct Options {
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Sockets that were opened for us (systemd); where there are any, `listen` is not used.
    pub inherited: Vec<TcpListener>,
    /// Threads, at least 1.
    pub threads: usize,
    /// Path of the named entry.
    pub entry: String,
    /// How long a request's head may take to arrive.
    pub header_timeout: Duration,
    /// How long a connection may be quiet between requests.
    pub idle_timeout: Duration,
    /// What all bodies of the named entry hold together until their service is known, in bytes.
    pub entry_buffer: u64,
    /// Whose `x-forwarded-*` headers count.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether connections begin with the PROXY protocol; only those proxies may connect then.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// The largest head of a request, in bytes.
    pub max_head: usize,
    /// The most header lines of a request.
    pub max_headers: usize,
    /// How long running requests may take to finish when the gateway stops.
    pub drain_timeout: Duration,
}

/// Why the data plane cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listening socket could not be opened.
    #[error("cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// A socket that was handed over cannot be used.
    #[error("cannot use the inherited socket")]
    Inherit(#[source] io::Error),
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// What ties the data plane to the rest of the gateway, beside the table.
#[derive(Clone, Debug)]
pub struct Links {
    /// Where the clock of `model::live` starts.
    pub epoch: Instant,
    /// Takes what requests find out about endpoints; what it has no room for is dropped.
    pub reports: mpsc::Sender<Report>,
    /// Counts what is of no service.
    pub meters: Arc<Meters>,
    /// The access log, where there is one.
    pub access: Option<Log>,
    /// What all threads count against limits.
    pub quotas: Arc<Quotas>,
    /// Hashes keys of limits as no stranger can foresee.
    pub seed: RandomState,
    /// Takes word of shared quotas that requests come for; what it has no room for is said again.
    pub demands: mpsc::Sender<Demand>,
    /// Takes spans, where they are recorded.
    pub tracer: Option<Tap>,
    /// Where the keys of issuers are, and where to ask about tokens.
    pub issuers: Desk,
    /// Takes shadow copies, where there are any.
    pub copier: Option<Copier>,
}

/// A data plane whose sockets are open, and which does not accept yet.
#[derive(Debug)]
pub struct Bound {
    addresses: Vec<SocketAddr>,
    /// For each thread its sockets.
    sockets: Vec<Vec<TcpListener>>,
    /// The same sockets, where they are ours to close.
    ours: Vec<TcpListener>,
    limits: Limits,
    drain_timeout: Duration,
}

/// Opens the sockets.
pub fn bind(options: Options) -> Result<Bound, Error> {
    let threads = options.threads.max(1);
    let mut addresses = Vec::new();
    let mut sockets: Vec<Vec<TcpListener>> = (0..threads).map(|_| Vec::new()).collect();
    let mut opened = Vec::new();
    let mut ours = Vec::new();
    if options.inherited.is_empty() {
        for address in options.listen {
            let failed = |error| Error::Listen(address, error);
            let copies = listener::open(address, threads).map_err(failed)?;
            for socket in &copies {
                ours.push(socket.try_clone().map_err(failed)?);
            }
            opened.push(copies);
        }
    } else {
        for inherited in &options.inherited {
            opened.push(listener::share(inherited, threads).map_err(Error::Inherit)?);
        }
    }
    for copies in opened {
        addresses.extend(copies.first().and_then(|socket| socket.local_addr().ok()));
        for (thread, socket) in sockets.iter_mut().zip(copies) {
            thread.push(socket);
        }
    }
    let limits = Limits {
        entry: options.entry.trim_end_matches('/').into(),
        header_timeout_ms: millis(options.header_timeout),
        idle_timeout_ms: millis(options.idle_timeout),
        entry_buffer: options.entry_buffer,
        trusted_proxies: options.trusted_proxies.into_iter().collect(),
        proxy_protocol: options.proxy_protocol,
        bounds: Bounds {
            head: options.max_head,
            headers: options.max_headers,
        },
    };
    Ok(Bound {
        addresses,
        sockets,
        ours,
        limits,
        drain_timeout: options.drain_timeout,
    })
}

impl Bound {
    /// The addresses that are listened on, with their real ports.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Starts the threads; each request uses the table in force when it came, and is counted by the
    /// counter of its thread.
    ///
    /// # Panics
    /// Where there is not one counter for each thread.
    pub fn start(
        self,
        table: &Arc<ArcSwap<Table>>,
        links: &Links,
        counters: Vec<Counter>,
    ) -> Result<Running, Error> {
        assert_eq!(counters.len(), self.sockets.len(), "one for each thread");
        let (stop, stopped) = watch::channel(false);
        let entry_bytes = Arc::new(AtomicU64::new(0));
        let mut threads = Vec::new();
        let threads_of = self.sockets.into_iter().zip(counters);
        for (number, (sockets, counter)) in threads_of.enumerate() {
            let (limits, table, entry_bytes) = (
                self.limits.clone(),
                Arc::clone(table),
                Arc::clone(&entry_bytes),
            );
            let (stopped, drain_timeout) = (stopped.clone(), self.drain_timeout);
            let links = links.clone();
            let runtime = move || -> io::Result<()> {
                let runtime = Builder::new_current_thread()
                    .enable_all()
                    // Only look-ups of names and PEM files block.
                    .max_blocking_threads(BLOCKING_MAX)
                    .build_local(LocalOptions::default())?;
                runtime.block_on(async {
                    let worker = Worker::new(limits, table, entry_bytes, links, counter);
                    listener::run(worker, sockets, stopped, drain_timeout).await;
                });
                // Look-ups of names may hang in the system's resolver: nobody waits for them.
                runtime.shutdown_background();
                Ok(())
            };
            let thread = std::thread::Builder::new()
                .name(format!("data-{number}"))
                .spawn(runtime)
                .map_err(Error::Thread)?;
            threads.push(thread);
        }
        Ok(Running {
            ours: self.ours,
            stop,
            threads,
        })
    }
}

/// A data plane at work.
#[derive(Debug)]
pub struct Running {
    ours: Vec<TcpListener>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Running {
    /// Stops accepting, lets running requests finish, and returns when all are done or
    /// `drain_timeout` is over. Blocks.
    pub fn drain(self) -> Result<(), Error> {
        if !self.ours.is_empty() {
            for socket in &self.ours {
                if let Err(error) = listener::turn_away(socket) {
                    tracing::debug!(%error, "newcomers are not turned away");
                }
            }
            std::thread::sleep(HANDSHAKES);
        }
        // From here on only the threads hold them, so that they close.
        drop(self.ours);
        // No receiver means that all threads ended already.
        self.stop.send_replace(true);
        for thread in self.threads {
            match thread.join() {
                Ok(ended) => ended.map_err(Error::Thread)?,
                Err(_) => return Err(Error::Thread(io::Error::other("a thread panicked"))),
            }
        }
        Ok(())
    }
}

/// Whole milliseconds; what does not fit is as good as forever.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}

/// Whole microseconds, likewise.
fn micros(duration: Duration) -> u64 {
    let whole = duration.as_secs().saturating_mul(1_000_000);
    whole.saturating_add(u64::from(duration.subsec_micros()))
}
