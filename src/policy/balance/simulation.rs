//! Servers and clients in simulated time, to see what a balancer makes of them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::Ordering::Relaxed;

use super::fixture::{pool, position, settings};
use super::{Ask, least_time};
use crate::model::hash::mix;
use crate::model::settings::{Balance, Effective};
use crate::model::table::Version;

/// How a server answers.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// The time of an answer, in milliseconds, before noise.
    pub(super) ms: f64,
    /// Log-normal noise, and one answer in fifty takes ten times as long.
    pub(super) noisy: bool,
    /// The part of requests that fail, after one millisecond.
    pub(super) fails: f64,
    /// No answer at all.
    pub(super) frozen: bool,
    /// When each of its workers is free; the requests above their number wait. Empty: none waits.
    pub(super) free_us: Vec<u64>,
}

impl Server {
    pub(super) fn steady(ms: f64) -> Self {
        Self {
            ms,
            noisy: false,
            fails: 0.0,
            frozen: false,
            free_us: Vec::new(),
        }
    }

    pub(super) fn noisy(ms: f64) -> Self {
        Self {
            noisy: true,
            ..Self::steady(ms)
        }
    }

    pub(super) fn failing(part: f64) -> Self {
        Self {
            fails: part,
            ..Self::steady(60.0)
        }
    }

    /// When a request that comes now is done.
    fn done_us(&mut self, now_us: u64, work_us: u64) -> u64 {
        let Some(free) = self.free_us.iter_mut().min() else {
            return now_us + work_us;
        };
        *free = now_us.max(*free) + work_us;
        *free
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Load {
    /// So many clients, each of which asks again as soon as it is answered.
    Closed(usize),
    /// So many requests a second at random times, whatever comes back.
    Open(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ask,
    Done {
        server: usize,
        began_us: u64,
        good: bool,
    },
    Leave {
        server: usize,
        began_us: u64,
    },
}

/// Servers behind a balancer, and clients before it.
pub(super) struct World {
    pub(super) version: Version,
    pub(super) settings: Effective,
    pub(super) servers: Vec<Server>,
    pub(super) now_us: u64,
    /// How long clients wait, in milliseconds.
    pub(super) patience_ms: u64,
    /// Requests for each server, and how long each answer took in milliseconds, since `forget`.
    pub(super) hits: Vec<u64>,
    pub(super) took_ms: Vec<f64>,
    load: Load,
    random: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    scheduled: u64,
}

impl World {
    pub(super) fn new(servers: Vec<Server>, load: Load, seed: u64) -> Self {
        let mut world = Self {
            version: pool(&vec![1; servers.len()]),
            settings: settings(Balance::LeastTime),
            hits: vec![0; servers.len()],
            servers,
            now_us: 1_000_000,
            patience_ms: 1_000_000,
            took_ms: Vec::new(),
            load,
            random: mix(seed),
            events: BinaryHeap::new(),
            scheduled: 0,
        };
        let clients = match load {
            Load::Closed(clients) => clients,
            Load::Open(_) => 1,
        };
        for _ in 0..clients {
            world.schedule(world.now_us, Event::Ask);
        }
        world
    }

    pub(super) fn balanced(mut self, balance: Balance) -> Self {
        self.settings = settings(balance);
        self
    }

    /// Lets so much time pass.
    pub(super) fn run(&mut self, seconds: f64) {
        let end_us = self.now_us + micros(seconds * 1000.0);
        while let Some(Reverse((at_us, ..))) = self.events.peek()
            && *at_us <= end_us
        {
            let Some(Reverse((at_us, _, event))) = self.events.pop() else {
                break;
            };
            self.now_us = at_us;
            self.happen(event);
        }
        self.now_us = end_us;
    }

    /// Counts anew.
    pub(super) fn forget(&mut self) {
        self.hits.fill(0);
        self.took_ms.clear();
    }

    /// The part of requests that this server got.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(super) fn share(&self, server: usize) -> f64 {
        self.hits[server] as f64 / self.hits.iter().sum::<u64>() as f64
    }

    /// Mean and 99th percentile of the answers' times, in milliseconds.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(super) fn mean_and_p99(&mut self) -> (f64, f64) {
        self.took_ms.sort_by(f64::total_cmp);
        let mean = self.took_ms.iter().sum::<f64>() / self.took_ms.len() as f64;
        (mean, self.took_ms[self.took_ms.len() * 99 / 100])
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Ask => {
                self.ask();
                if let Load::Open(rate) = self.load {
                    let gap_ms = -(1.0 - self.uniform()).ln() / rate * 1000.0;
                    self.schedule(self.now_us + micros(gap_ms), Event::Ask);
                }
            }
            Event::Done { server, .. } if self.servers[server].frozen => {
                if let Event::Done { began_us, .. } = event {
                    let gone_us = began_us + self.patience_ms * 1000;
                    self.schedule(gone_us.max(self.now_us), Event::Leave { server, began_us });
                }
            }
            Event::Done {
                server,
                began_us,
                good,
            } => {
                let live = &self.version.endpoints[server].live;
                let elapsed_us = self.now_us - began_us;
                if good {
                    least_time::answered(live, self.now_us, elapsed_us);
                    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
                    self.took_ms.push(elapsed_us as f64 / 1000.0);
                } else {
                    least_time::failed(&self.version, live, self.now_us, elapsed_us);
                }
                self.over(server);
            }
            Event::Leave { server, began_us } => {
                let live = &self.version.endpoints[server].live;
                least_time::abandoned(live, self.now_us, self.now_us - began_us);
                self.over(server);
            }
        }
    }

    fn ask(&mut self) {
        let random = self.next();
        let ask = Ask {
            settings: &self.settings,
            now_us: self.now_us,
            tried: &[],
            random,
            key: None,
        };
        let server = position(&self.version, &ask);
        self.hits[server] += 1;
        let live = &self.version.endpoints[server].live;
        live.inflight.fetch_add(1, Relaxed);
        least_time::begin(live, self.now_us);
        let good = self.uniform() >= self.servers[server].fails;
        let ms = if good { self.work_ms(server) } else { 1.0 };
        let done_us = self.servers[server].done_us(self.now_us, micros(ms));
        let done = Event::Done {
            server,
            began_us: self.now_us,
            good,
        };
        self.schedule(done_us, done);
    }

    fn work_ms(&mut self, server: usize) -> f64 {
        let ms = self.servers[server].ms;
        if !self.servers[server].noisy {
            return ms;
        }
        // Box and Muller 1958.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * self.uniform()).cos();
        let outlier = if self.uniform() < 0.02 { 10.0 } else { 1.0 };
        ms * (0.5 * normal).exp() * outlier
    }

    fn over(&mut self, server: usize) {
        let live = &self.version.endpoints[server].live;
        live.inflight.fetch_sub(1, Relaxed);
        if matches!(self.load, Load::Closed(_)) {
            self.schedule(self.now_us, Event::Ask);
        }
    }

    fn schedule(&mut self, at_us: u64, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse((at_us, self.scheduled, event)));
    }

    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.random)
    }

    fn uniform(&mut self) -> f64 {
        f64::from(super::unit(self.next()))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "simulated times are small and positive"
)]
fn micros(ms: f64) -> u64 {
    (ms * 1000.0) as u64
}
