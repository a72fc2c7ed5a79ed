//! Clients that ask with a pause between, each request with an id of its own, and the list of how
//! every one ended.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::eventually;
use super::faulty::Host;
use super::load::Caller;

/// A request and how it ended.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What its hosts know it by.
    pub id: u64,
    /// When it was sent.
    pub begun: Instant,
    /// How long its answer took.
    pub took: Duration,
    /// Which host answered.
    pub by: Option<usize>,
    /// What went wrong: the status and the code of an answer that is not the upstream's, or why
    /// there was none.
    pub failure: Option<String>,
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// A POST to the named entry.
    Named,
    /// A POST by the route of the service.
    Post,
    /// A GET by the route of the service.
    Get,
    /// A GET whose answer comes in this many pieces.
    Stream(u32),
}

impl Want {
    fn request(self, service: &str, id: u64) -> Vec<u8> {
        let named = format!(r#"{{"server_name": "{service}"}}"#);
        let routed = format!("/{service}/x");
        let (method, path, body) = match self {
            Self::Named => ("POST", "/ai_server/", named.as_str()),
            Self::Post => ("POST", routed.as_str(), "body"),
            Self::Get | Self::Stream(_) => ("GET", routed.as_str(), ""),
        };
        let length = body.len();
        let framing = match self {
            Self::Named | Self::Post => format!("content-length: {length}\r\n"),
            Self::Get => String::new(),
            Self::Stream(beats) => format!("x-beats: {beats}\r\n"),
        };
        let head = format!("{method} {path} HTTP/1.1\r\nhost: h\r\nx-id: {id}\r\n{framing}");
        format!("{head}\r\n{body}").into()
    }
}

/// Whom a crowd asks, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The gateway.
    pub address: SocketAddr,
    /// The service, which is also the first segment of its route.
    pub service: String,
    /// What each client asks for.
    pub wants: Vec<Want>,
    /// Between an answer and the next request.
    pub pause: Duration,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    next: AtomicU64,
    asked: Mutex<Vec<Asked>>,
    /// How many requests of each client ended.
    turns: Mutex<Vec<usize>>,
}

/// Clients that ask until told to stop.
pub struct Crowd {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// Sends them off.
    pub fn start(plan: &Plan) -> Self {
        let shared = Arc::new(Shared {
            turns: Mutex::new(vec![0; plan.wants.len()]),
            ..Shared::default()
        });
        let client = |(number, &want): (usize, &Want)| {
            let (shared, plan) = (Arc::clone(&shared), plan.clone());
            std::thread::spawn(move || shared.ask(&plan, number, want))
        };
        Self {
            threads: plan.wants.iter().enumerate().map(client).collect(),
            shared,
        }
    }

    /// What ended so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().expect("no panic").clone()
    }

    /// How many ended so far.
    pub fn count(&self) -> usize {
        self.shared.asked.lock().expect("no panic").len()
    }

    /// Waits until so many more have ended.
    #[track_caller]
    pub fn await_more(&self, more: usize) {
        let wanted = self.count() + more;
        eventually("the crowd goes on", || {
            (self.count() >= wanted).then_some(())
        });
    }

    /// Waits until every request that is under way now has ended.
    #[track_caller]
    pub fn await_turn(&self) {
        let turns = || self.shared.turns.lock().expect("no panic").clone();
        let before = turns();
        eventually("everybody is answered", || {
            let now = turns();
            let mut both = before.iter().zip(&now);
            both.all(|(before, now)| now > before).then_some(())
        });
    }

    /// Waits until this many in a row ended well.
    #[track_caller]
    pub fn await_good(&self, row: usize) {
        let from = self.count();
        eventually("requests are answered well", || {
            let asked = self.shared.asked.lock().expect("no panic");
            let since = asked.get(from..)?;
            let good = since.iter().rev().take_while(|one| one.failure.is_none());
            (good.count() >= row).then_some(())
        });
    }

    /// Waits until a host that they all ask for is asked no more.
    #[track_caller]
    pub fn await_silence(&self, host: &Host) {
        eventually("the host is left alone", || {
            let before = host.hits();
            self.await_more(40);
            (host.hits() == before).then_some(())
        });
    }

    /// Calls them back; what all of them asked, in the order in which it ended.
    pub fn stop(mut self) -> Vec<Asked> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("no panic");
        }
        std::mem::take(&mut *self.shared.asked.lock().expect("no panic"))
    }
}

impl Drop for Crowd {
    /// Nobody asks on where a test has failed.
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn ask(&self, plan: &Plan, number: usize, want: Want) {
        let mut kept = None;
        while !self.stop.load(Ordering::Relaxed) {
            let id = self.next.fetch_add(1, Ordering::Relaxed);
            let request = want.request(&plan.service, id);
            let begun = Instant::now();
            let connected = kept
                .take()
                .map_or_else(|| Caller::connect(plan.address), Ok);
            let answered = connected.and_then(|mut caller| Ok((caller.ask(&request)?, caller)));
            let (by, failure) = match answered {
                Ok((answer, caller)) => {
                    if !answer.closes() {
                        kept = Some(caller);
                    }
                    let (status, code) = (answer.status, answer.code());
                    let failure = (status != 200).then(|| format!("{status} {code}"));
                    (answer.header("x-host").parse().ok(), failure)
                }
                Err(error) => (None, Some(error.kind().to_string())),
            };
            let asked = Asked {
                id,
                begun,
                took: begun.elapsed(),
                by,
                failure,
            };
            self.asked.lock().expect("no panic").push(asked);
            if let Some(turns) = self.turns.lock().expect("no panic").get_mut(number) {
                *turns += 1;
            }
            std::thread::sleep(plan.pause);
        }
    }
}

/// Failures by kind, and how often: `504 upstream_timeout ×3`.
pub fn kinds<'a>(asked: impl IntoIterator<Item = &'a Asked>) -> String {
    let mut counts = std::collections::BTreeMap::new();
    for kind in asked.into_iter().filter_map(|one| one.failure.as_deref()) {
        *counts.entry(kind).or_insert(0) += 1;
    }
    let counts = counts
        .iter()
        .map(|(kind, count)| format!("{kind} ×{count}"));
    counts.collect::<Vec<_>>().join(", ")
}
