//! The slots of a service (`concurrency`), and who waits for one.
//!
//! While nobody waits, a slot is taken and given back by one atomic operation. Only where all are
//! taken is there a line, and a lock around it: held for a few look-ups in memory, never across a
//! wait.
//!
//! Invariant: a slot that is free while somebody waits is given away by whoever freed it, or is kept
//! for a caller until a moment at which somebody who waits looks again.

mod line;

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_utils::CachePadded;
use tokio::sync::Notify;

use line::{At, Line};

/// How fast the average of how long slots are held follows: by this part.
const PACE_PART: u64 = 8;

/// The slots of a service.
#[derive(Debug, Default)]
pub struct Gate {
    /// Requests that have one.
    running: CachePadded<AtomicU32>,
    /// Requests in line.
    waiting: AtomicU32,
    /// How many slots there are, as whoever came last knew it.
    limit: AtomicU32,
    /// How long one is held, on average, in microseconds; 0: not known yet.
    pace_us: AtomicU64,
    line: Mutex<Line<Arc<Turn>>>,
}

/// A request in line.
#[derive(Debug)]
pub struct Turn {
    caller: u64,
    number: AtomicU64,
    state: AtomicU8,
    /// When it is to call `Gate::look`, in microseconds; `u64::MAX`: never.
    look_us: AtomicU64,
    /// Told of each change of what is above.
    pub wake: Notify,
}

/// How a request in line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// It waits.
    Waits,
    /// It has a slot.
    Has,
    /// Others have a better right to wait.
    Out,
}

/// How a slot was got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// At once, while nobody waited: the line does not know of it.
    AtOnce,
    /// From the line.
    InLine,
}

/// What became of the wish to stand in line.
#[derive(Debug)]
pub enum Joined {
    /// There is a slot after all.
    Slot,
    /// It waits.
    Waits(Arc<Turn>),
    /// The line is full.
    Full,
    /// It would wait longer than it can.
    Hopeless,
}

/// A request that wants to stand in line.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Whose it is.
    pub caller: u64,
    /// How many may wait.
    pub queue: u32,
    /// How long it can wait, in microseconds.
    pub patience_us: u64,
    /// The time, in microseconds.
    pub now_us: u64,
}

impl Turn {
    /// How it stands.
    #[must_use]
    pub fn stand(&self) -> Stand {
        match self.state.load(Ordering::Acquire) {
            0 => Stand::Waits,
            1 => Stand::Has,
            _ => Stand::Out,
        }
    }

    /// When it is to look, in microseconds; `u64::MAX`: never.
    #[must_use]
    pub fn look_us(&self) -> u64 {
        self.look_us.load(Ordering::Relaxed)
    }

    /// It looks, as it was told for that time.
    pub fn looked(&self, look_us: u64) {
        let never = u64::MAX;
        let order = Ordering::Relaxed;
        // Where it was told another time since, that one counts.
        (self.look_us.compare_exchange(look_us, never, order, order)).ok();
    }

    fn tell(&self, stand: Stand) {
        let state = match stand {
            Stand::Waits => 0,
            Stand::Has => 1,
            Stand::Out => 2,
        };
        self.state.store(state, Ordering::Release);
        self.wake.notify_one();
    }
}

impl Gate {
    /// How many requests have a slot.
    #[must_use]
    pub fn running(&self) -> u32 {
        self.running.load(Ordering::Relaxed)
    }

    /// How many wait for one.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes a slot of so many, where one is free and nobody waits for it.
    pub fn enter(&self, limit: u32) -> bool {
        self.set(limit);
        // Who begins to wait says so first and then looks for a slot.
        self.waiting.load(Ordering::SeqCst) == 0 && self.take(limit)
    }

    /// From now on there are so many slots; tells whether that is new.
    pub fn set(&self, limit: u32) -> bool {
        let changes = self.limit.load(Ordering::Relaxed) != limit;
        if changes {
            self.limit.store(limit, Ordering::Relaxed);
        }
        changes
    }

    /// Stands in line.
    pub fn join(&self, wish: Wish) -> Joined {
        let Wish { caller, now_us, .. } = wish;
        let limit = self.limit.load(Ordering::Relaxed);
        let pace_us = self.pace_us.load(Ordering::Relaxed);
        let mut line = self.lock();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        line.expire(now_us);
        line.came(caller, At { now_us, pace_us });
        let first = line.len() == 0 || line.is_kept_for(caller);
        let joined = if first && self.take(limit) {
            line.gave(caller);
            Joined::Slot
        } else {
            self.queue(&mut line, wish, limit, pace_us)
        };
        if !matches!(joined, Joined::Waits(_)) {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        // A slot may have got free since.
        self.give(&mut line, now_us);
        joined
    }

    fn queue(&self, line: &mut Line<Arc<Turn>>, wish: Wish, limit: u32, pace_us: u64) -> Joined {
        let ahead = line.ahead(wish.caller) as u64 + 1;
        if ahead.saturating_mul(pace_us) / u64::from(limit.max(1)) > wish.patience_us {
            return Joined::Hopeless;
        }
        if line.len() >= usize::try_from(wish.queue).unwrap_or(usize::MAX) {
            let Some(out) = line.push_out(wish.caller) else {
                return Joined::Full;
            };
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            out.tell(Stand::Out);
        }
        let turn = Arc::new(Turn {
            caller: wish.caller,
            number: AtomicU64::new(0),
            state: AtomicU8::new(0),
            look_us: AtomicU64::new(u64::MAX),
            wake: Notify::new(),
        });
        let number = line.push(wish.caller, Arc::clone(&turn));
        turn.number.store(number, Ordering::Relaxed);
        Joined::Waits(turn)
    }

    /// A request leaves the line, with a slot or without: what it does not take goes to the next.
    pub fn leave(&self, turn: &Turn, now_us: u64) {
        let mut line = self.lock();
        if line.remove(turn.caller, turn.number.load(Ordering::Relaxed)) {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        } else if turn.stand() == Stand::Has {
            self.running.fetch_sub(1, Ordering::SeqCst);
            let limit = self.limit.load(Ordering::Relaxed);
            let at = At { now_us, pace_us: 0 };
            line.freed(turn.caller, Way::InLine, limit, at);
        }
        self.give(&mut line, now_us);
    }

    /// Gives away what is free; called by those who wait, when they are told to.
    pub fn look(&self, now_us: u64) {
        self.give(&mut self.lock(), now_us);
    }

    /// Gives a slot back that was held for so long by this caller.
    pub fn release(&self, caller: u64, way: Way, held_us: u64, now_us: u64) {
        self.running.fetch_sub(1, Ordering::SeqCst);
        let pace_us = self.follow(held_us);
        if way == Way::InLine || self.waiting.load(Ordering::SeqCst) > 0 {
            let mut line = self.lock();
            let limit = self.limit.load(Ordering::Relaxed);
            line.freed(caller, way, limit, At { now_us, pace_us });
            self.give(&mut line, now_us);
        }
    }

    fn follow(&self, held_us: u64) -> u64 {
        let before = self.pace_us.load(Ordering::Relaxed);
        let now = if before == 0 {
            held_us
        } else {
            before - before / PACE_PART + held_us / PACE_PART
        };
        // Of two that end at once one counts: it is an average.
        self.pace_us.store(now.max(1), Ordering::Relaxed);
        now
    }

    /// Gives free slots to those whose turn it is.
    fn give(&self, line: &mut Line<Arc<Turn>>, now_us: u64) {
        let limit = self.limit.load(Ordering::Relaxed);
        let kept_until = line.expire(now_us);
        while let Some(caller) = line.next() {
            let kept = u32::try_from(line.kept_from(caller)).unwrap_or(u32::MAX);
            if !self.take(limit.saturating_sub(kept)) {
                break;
            }
            let Some(turn) = line.pop(caller) else {
                break;
            };
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            turn.tell(Stand::Has);
        }
        let next = line.next().and_then(|caller| line.first(caller));
        if let (Some(until_us), Some(turn)) = (kept_until, next)
            && turn.look_us.swap(until_us, Ordering::Relaxed) != until_us
        {
            turn.wake.notify_one();
        }
    }

    fn take(&self, limit: u32) -> bool {
        let more = |now: u32| (now < limit).then(|| now + 1);
        self.running
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, more)
            .is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, Line<Arc<Turn>>> {
        // A panic in here leaves a line that is still a line.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
