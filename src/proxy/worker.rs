//! One thread of the data plane: its view of the table, its clock, its connections.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::connection::{PARK_AFTER_MS, State};
use super::millis;
use super::upstream::{Names, Pools, TlsConfigs};
use crate::model::table::Table;

/// For how long after a drain began requests on kept connections are still answered.
const GRACE_MS: u64 = 1_000;

/// After so many new connections the quiet ones give their buffers back at once.
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
    pub(super) trusted_proxies: Arc<[IpNet]>,
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
    table: RefCell<Rc<Arc<Table>>>,
    started: Instant,
    now: Cell<u64>,
    draining: Cell<Option<u64>>,
    cut: Notify,
    connections: RefCell<HashMap<u64, Rc<State>>>,
    next_connection: Cell<u64>,
    ids: Cell<(u64, u64)>,
}

impl Worker {
    pub(super) fn new(
        options: Limits,
        source: Arc<ArcSwap<Table>>,
        entry_bytes: Arc<AtomicU64>,
    ) -> Rc<Self> {
        let table = RefCell::new(Rc::new(source.load_full()));
        let random = RandomState::new();
        Rc::new(Self {
            options,
            pools: Pools::default(),
            names: Names::default(),
            tls: TlsConfigs::default(),
            entry_bytes,
            source,
            table,
            started: Instant::now(),
            now: Cell::new(1),
            draining: Cell::new(None),
            cut: Notify::new(),
            connections: RefCell::default(),
            next_connection: Cell::new(0),
            ids: Cell::new((random.hash_one(1), random.hash_one(2))),
        })
    }

    /// The table in force; the caller keeps this one to the end of its request. Counted without
    /// an atomic operation: only a new table is taken from the shared place.
    pub(super) fn table(&self) -> Rc<Arc<Table>> {
        let newest = self.source.load();
        let mut table = self.table.borrow_mut();
        if !Arc::ptr_eq(&newest, &table) {
            *table = Rc::new(Arc::clone(&newest));
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
        if number % CROWD == 0 {
            // Many new connections: those that are quiet make room at once.
            self.look_around(0);
        }
        number
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

/// The finaliser of splitmix64: every bit of the input reaches every bit of the output.
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Two hex digits for each byte.
const HEX: [[u8; 2]; 256] = {
    let digits = *b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    table
};

fn push_hex(out: &mut [u8], value: u64) {
    for (pair, byte) in out.chunks_exact_mut(2).zip(value.to_be_bytes()) {
        if let Some(digits) = HEX.get(usize::from(byte)) {
            pair.copy_from_slice(digits);
        }
    }
}
