//! Hosts that can be told to fail, and the book of all that reached them.
//!
//! A host is a server in this process, or, where the fault is that of a process, in a child.

pub mod child;
mod hole;
mod server;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use self::child::Child;
use super::eventually;
use super::port::Port;

/// How a host behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It answers 200 after this long.
    Well(Duration),
    /// It answers 500 after this long.
    Fails(Duration),
    /// It answers 500 and 200 in turn after this long.
    FailsHalf(Duration),
    /// It is gone, like a process that was killed: nobody listens, all connections are closed.
    Gone,
    /// It resets each connection as soon as it is quiet.
    ResetsQuiet,
    /// It resets each connection in the middle of an answer.
    ResetsMidway,
    /// Nothing that is sent to it arrives: no connection is made, no request is read.
    Unreachable,
}

/// What went to the hosts of one pool.
#[derive(Debug, Default)]
pub struct Ledger {
    runs: Mutex<HashMap<u64, u32>>,
}

impl Ledger {
    /// A host took this request up.
    fn ran(&self, id: u64) {
        *self.runs.lock().expect("no panic").entry(id).or_default() += 1;
    }

    /// How often a host took this request up.
    pub fn runs(&self, id: u64) -> u32 {
        let runs = self.runs.lock().expect("no panic");
        runs.get(&id).copied().unwrap_or_default()
    }
}

/// What one host knows of itself.
#[derive(Debug, Default)]
struct Book {
    /// Which host of its pool it is; its answers say so in `x-host`.
    number: usize,
    ledger: Arc<Ledger>,
    /// When each request was taken up.
    hits: Mutex<Vec<Instant>>,
    /// Requests that are being answered.
    busy: AtomicUsize,
    /// The most of them at once since somebody asked.
    peak: AtomicUsize,
    /// Tells somebody outside this process.
    tell: Option<fn(Option<u64>)>,
}

impl Book {
    fn ran(&self, id: Option<u64>) {
        if let Some(tell) = self.tell {
            tell(id);
        }
        self.hits.lock().expect("no panic").push(Instant::now());
        if let Some(id) = id {
            self.ledger.ran(id);
        }
    }
}

enum Control {
    Here(watch::Sender<Manner>),
    Away(Child),
}

/// One host; it stops when its pool is dropped.
pub struct Host {
    /// Where it listens, when it does.
    pub address: SocketAddr,
    book: Arc<Book>,
    control: Control,
    _port: Port,
}

impl Host {
    /// The URL of an endpoint on it.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Changes how it behaves, from this moment.
    #[track_caller]
    pub fn set(&self, manner: Manner) {
        match &self.control {
            Control::Here(sender) => drop(sender.send_replace(manner)),
            Control::Away(_) => panic!("a child can only be frozen"),
        }
    }

    /// Stops its process: connections stay open, nothing is answered.
    #[track_caller]
    pub fn freeze(&self) {
        self.child().signal("STOP");
    }

    /// Lets its process go on.
    #[track_caller]
    pub fn thaw(&self) {
        self.child().signal("CONT");
    }

    #[track_caller]
    fn child(&self) -> &Child {
        match &self.control {
            Control::Away(child) => child,
            Control::Here(_) => panic!("only a child can be frozen"),
        }
    }

    /// How many requests it took up.
    pub fn hits(&self) -> usize {
        self.book.hits.lock().expect("no panic").len()
    }

    /// How many requests it took up since that moment.
    pub fn hits_since(&self, moment: Instant) -> usize {
        let hits = self.book.hits.lock().expect("no panic");
        hits.iter().filter(|at| **at >= moment).count()
    }

    /// Waits until it took up so many more requests.
    #[track_caller]
    pub fn await_hits(&self, more: usize) {
        let wanted = self.hits() + more;
        eventually("the host is asked", || {
            (self.hits() >= wanted).then_some(())
        });
    }

    /// How many requests it was answering at once, at most, since this was asked last.
    pub fn take_peak(&self) -> usize {
        self.book.peak.swap(0, Ordering::SeqCst)
    }
}

/// Where the hosts of a pool live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// All in this process.
    Here,
    /// The first in a process of its own.
    FirstAway,
}

/// Some hosts and their common ledger.
pub struct Pool {
    /// The hosts.
    pub hosts: Vec<Host>,
    /// What went to them.
    pub ledger: Arc<Ledger>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Pool {
    /// Hosts that behave so.
    pub fn start(home: Home, manners: &[Manner]) -> Self {
        let ledger: Arc<Ledger> = Arc::default();
        let mut servers = Vec::new();
        let host = |(number, &manner): (usize, &Manner)| {
            let port = Port::reserve();
            let address = port.address();
            let book = Arc::new(Book {
                number,
                ledger: Arc::clone(&ledger),
                ..Book::default()
            });
            let control = if home == Home::FirstAway && number == 0 {
                Control::Away(Child::start(address, manner, &book))
            } else {
                let (sender, receiver) = watch::channel(manner);
                servers.push(server::Server::new(address, &book, receiver));
                Control::Here(sender)
            };
            Host {
                address,
                book,
                control,
                _port: port,
            }
        };
        let hosts: Vec<Host> = manners.iter().enumerate().map(host).collect();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || server::run(servers, stopped));
        Self {
            hosts,
            ledger,
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A test that fails already must not hide why.
            let _ended = thread.join();
        }
    }
}
