//! One thread of the data plane: its view of the table, its clock, its connections.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt::Display;
use std::hash::{BuildHasher, RandomState};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::framing::Bounds;
use super::guard::Issued;
use super::proxy_protocol::Versions;
use super::state::{PARK_AFTER_MS, State};
use super::upstream::{Names, Pools};
use super::{Copier, Links, micros, millis};
use crate::access::Log;
use crate::model::hash::mix;
use crate::model::networks::Networks;
use crate::model::settings::Effective;
use crate::model::table::{Endpoint, Table};
use crate::policy::health::{self, Report, Seen};
use crate::policy::quotas::{Demand, Quotas};
use crate::stats::{Counter, Meters};
use crate::trace::Tap;
use crate::transport::TlsConfigs;

/// For how long after a drain began requests on kept connections are still answered.
const GRACE_MS: u64 = 1_000;

/// After so many connections got busy the quiet ones give their buffers back at once.
const CROWD: u64 = 64;

/// What the data plane is told once.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// Path of the named entry, without the closing slash.
    pub(super) entry: Box<str>,
    pub(super) header_timeout_ms: u64,
    pub(super) idle_timeout_ms: u64,
    /// All bodies of the named entry whose service is not known yet hold at most this together.
    pub(super) entry_buffer: u64,
    pub(super) trusted_proxies: Networks,
    /// Connections begin with a word of a proxy.
    pub(super) proxy_protocol: Option<Versions>,
    pub(super) bounds: Bounds,
}

/// The clock runs.
const RUNS: u64 = u64::MAX;
/// The clock will stand where it is seen next.
const UNSEEN: u64 = 0;

/// The clock of a thread stands still while this lives.
struct Still<'w>(&'w Worker);

impl Drop for Still<'_> {
    fn drop(&mut self) {
        self.0.stands_at.set(RUNS);
    }
}

/// This thread's hold on a table: requests share it without counting across threads.
pub(super) struct View(Arc<Table>);

impl Deref for View {
    type Target = Table;

    fn deref(&self) -> &Table {
        &self.0
    }
}

/// What the requests of one thread share.
pub(super) struct Worker {
    pub(super) options: Limits,
    pub(super) pools: Pools,
    pub(super) names: Names,
    pub(super) tls: TlsConfigs,
    /// Bytes held for the named entry, over all threads.
    pub(super) entry_bytes: Arc<AtomicU64>,
    source: Arc<ArcSwap<Table>>,
    table: RefCell<Rc<View>>,
    /// What the whole gateway counts time from.
    started: Instant,
    reports: mpsc::Sender<Report>,
    /// Counts what this thread's requests come to.
    pub(super) counter: Counter,
    /// Counts what is of no service.
    pub(super) meters: Arc<Meters>,
    /// The access log, where there is one.
    pub(super) access: Option<Log>,
    /// Takes spans, where they are recorded.
    pub(super) tracer: Option<Tap>,
    /// What issuers are known to say.
    pub(super) issued: Issued,
    /// Takes shadow copies, where there are any.
    pub(super) copier: Option<Copier>,
    now: Cell<u64>,
    /// Where the precise clock stands.
    stands_at: Cell<u64>,
    draining: Cell<Option<u64>>,
    cut: Notify,
    connections: RefCell<HashMap<u64, Rc<State>>>,
    next_connection: Cell<u64>,
    awakened: Cell<u64>,
    ids: Cell<(u64, u64)>,
    /// What all threads count against limits.
    pub(super) quotas: Arc<Quotas>,
    /// Hashes keys of limits as no stranger can foresee, the same on all threads.
    pub(super) seed: RandomState,
    /// Where it is said that a share of a quota is wanted.
    pub(super) demands: mpsc::Sender<Demand>,
}

impl Worker {
    pub(super) fn new(
        options: Limits,
        source: Arc<ArcSwap<Table>>,
        entry_bytes: Arc<AtomicU64>,
        links: Links,
        counter: Counter,
    ) -> Rc<Self> {
        let table = RefCell::new(Rc::new(View(source.load_full())));
        let random = RandomState::new();
        Rc::new(Self {
            options,
            pools: Pools::default(),
            names: Names::default(),
            tls: TlsConfigs::default(),
            entry_bytes,
            source,
            table,
            started: links.epoch,
            reports: links.reports,
            counter,
            meters: links.meters,
            access: links.access,
            tracer: links.tracer,
            issued: Issued::new(links.issuers),
            copier: links.copier,
            now: Cell::new(1),
            stands_at: Cell::new(RUNS),
            draining: Cell::new(None),
            cut: Notify::new(),
            connections: RefCell::default(),
            next_connection: Cell::new(0),
            awakened: Cell::new(0),
            ids: Cell::new((random.hash_one(1), random.hash_one(2))),
            quotas: links.quotas,
            seed: links.seed,
            demands: links.demands,
        })
    }

    /// The table in force; the caller keeps this one to the end of its request. Counted without
    /// an atomic operation: only a new table is taken from the shared place.
    pub(super) fn table(&self) -> Rc<View> {
        let newest = self.source.load();
        let mut table = self.table.borrow_mut();
        if !Arc::ptr_eq(&newest, &table.0) {
            *table = Rc::new(View(Arc::clone(&newest)));
        }
        Rc::clone(&table)
    }

    /// Coarse milliseconds since the thread began, never 0: as old as the last sweep at most.
    pub(super) fn now_ms(&self) -> u64 {
        self.now.get()
    }

    /// When a moment comes on the coarse clock.
    pub(super) fn ms_at(&self, moment: Instant) -> u64 {
        1 + millis(moment.saturating_duration_since(self.started))
    }

    /// Microseconds on the clock that all threads and the control half share, never 0.
    pub(super) fn micros(&self, moment: Instant) -> u64 {
        1 + micros(moment.saturating_duration_since(self.started))
    }

    /// The time on that clock. During one poll of a conversation it stands still: a request is asked
    /// about five times what happens at two moments.
    pub(super) fn now_us(&self) -> u64 {
        match self.stands_at.get() {
            RUNS => self.micros(Instant::now()),
            UNSEEN => {
                let now_us = self.micros(Instant::now());
                self.stands_at.set(now_us);
                now_us
            }
            at_us => at_us,
        }
    }

    /// Lets the clock stand still, from its next look on, for as long as what comes back lives.
    pub(super) fn stand_still(&self) -> impl Drop {
        self.stands_at.set(UNSEEN);
        Still(self)
    }

    /// The moment that this clock calls so.
    pub(super) fn moment(&self, us: u64) -> Instant {
        self.started + Duration::from_micros(us)
    }

    /// A random number, new each time: good enough to choose by, not to keep a secret.
    pub(super) fn random(&self) -> u64 {
        let (seed, count) = self.ids.get();
        self.ids.set((seed, count.wrapping_add(1)));
        mix(seed.wrapping_sub(count))
    }

    /// Takes note of what was seen of an endpoint at a time in microseconds, and tells the control half what must follow.
    pub(super) fn saw(
        &self,
        endpoint: &Arc<Endpoint>,
        settings: &Effective,
        sight: (Seen, u64),
        why: &dyn Display,
    ) {
        let (seen, now_us) = sight;
        if let Some(finding) = health::observe(endpoint, settings, seen, now_us / 1_000) {
            self.report(Report {
                service: endpoint.service.clone(),
                version: endpoint.spec.version.clone(),
                endpoint: Arc::clone(endpoint),
                finding,
                why: why.to_string(),
            });
        }
    }

    /// Tells the control half of an endpoint. Where nobody listens fast enough it is dropped: the
    /// prober looks at all endpoints now and then by itself.
    fn report(&self, report: Report) {
        if let Err(error) = self.reports.try_send(report) {
            tracing::debug!(%error, "a finding is not reported");
        }
    }

    /// 128 bits that no other request has, as 32 hex digits.
    pub(super) fn unique(&self) -> [u8; 32] {
        let (seed, count) = self.ids.get();
        self.ids.set((seed, count.wrapping_add(1)));
        let mut digits = [0; 32];
        let (high, low) = digits.split_at_mut(16);
        push_hex(high, mix(seed ^ count));
        push_hex(
            low,
            mix(seed.rotate_left(32) ^ count.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        );
        digits
    }

    /// Remembers a connection for the sweep until the returned number is forgotten.
    pub(super) fn remember(&self, state: &Rc<State>) -> u64 {
        let number = self.next_connection.get();
        self.next_connection.set(number + 1);
        self.connections
            .borrow_mut()
            .insert(number, Rc::clone(state));
        number
    }

    /// A quiet connection gets busy. Where many do at once, those that are quiet again make room.
    pub(super) fn on_busy(&self) {
        let awakened = self.awakened.get() + 1;
        self.awakened.set(awakened % CROWD);
        if awakened == CROWD {
            self.look_around(0);
        }
    }

    pub(super) fn forget(&self, number: u64) {
        self.connections.borrow_mut().remove(&number);
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.borrow().len()
    }

    /// Looks at the clock for everything this thread holds.
    pub(super) fn sweep(&self) {
        let now = self.ms_at(Instant::now());
        self.now.set(now);
        self.look_around(PARK_AFTER_MS);
        self.pools.sweep(now);
        // An idle thread lets go of an old table here.
        drop(self.table());
    }

    fn look_around(&self, park_after: u64) {
        let now = self.now.get();
        for state in self.connections.borrow().values() {
            state.sweep(now, park_after);
        }
    }

    /// From now on answers end their connections.
    pub(super) fn drain(&self) {
        self.now.set(self.ms_at(Instant::now()));
        self.draining.set(Some(self.now.get()));
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.get().is_some()
    }

    /// Whether idle connections are to be closed.
    pub(super) fn past_grace(&self) -> bool {
        self.draining
            .get()
            .is_some_and(|since| self.now.get().saturating_sub(since) >= GRACE_MS)
    }

    /// Ends tunnels, which have no end of their own.
    pub(super) fn cut_tunnels(&self) {
        self.cut.notify_waiters();
    }

    pub(super) async fn cut(&self) {
        self.cut.notified().await;
    }

    /// Reserves room for bytes held back by the named entry.
    pub(super) fn hold(&self, bytes: u64) -> Option<Held> {
        let held = Held {
            bytes,
            all: Arc::clone(&self.entry_bytes),
        };
        let before = self.entry_bytes.fetch_add(bytes, Ordering::Relaxed);
        (before + bytes <= self.options.entry_buffer).then_some(held)
    }
}

/// Room reserved for held bytes, given back when dropped.
pub(super) struct Held {
    bytes: u64,
    all: Arc<AtomicU64>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Two hex digits for each byte, the pair of byte `b` at `2b`.
const HEX: &[u8; 512] = b"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\
202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f\
404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f\
606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f\
808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f\
a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf\
c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf\
e0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";

fn push_hex(out: &mut [u8], value: u64) {
    for (pair, byte) in out.chunks_exact_mut(2).zip(value.to_be_bytes()) {
        let at = usize::from(byte) * 2;
        if let Some(digits) = HEX.get(at..at + 2) {
            pair.copy_from_slice(digits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_hex() {
        for value in [0, 1, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, u64::MAX] {
            let mut out = [0; 16];
            push_hex(&mut out, value);
            assert_eq!(out, format!("{value:016x}").as_bytes());
        }
    }
}
