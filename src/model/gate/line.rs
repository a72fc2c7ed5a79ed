//! Who waits for a slot, by caller, and whose turn it is: max-min fairness of slots.
//!
//! The next slot goes to the caller that holds the fewest, and among those to the one that was
//! served longest ago; a caller's own requests go in the order they came. Where the line is full a
//! newcomer pushes out the last request of the caller that has most in it (Stochastic
//! Fairness Queueing, 1990), if that has more than the newcomer would.
//!
//! A caller with few connections has nobody in line at the very moment that its slot gets free: the
//! next request is on its way. So its slot is kept for it for a breath, as a disk is kept for whoever
//! reads in a row (Iyer and Druschel, Anticipatory Scheduling, 2001): only while it holds no more than
//! its share, only if it came back so fast before, and only for a part of the time a slot is held.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::Way;
use crate::model::hash::NumberHasher;

/// The part of the time that a slot is held, on average, for which it is kept for who comes back.
const BREATH_PART: u64 = 8;
/// And no longer than this, in microseconds.
const BREATH_MAX_US: u64 = 20_000;
/// So many callers more than have something here are remembered.
const REMEMBERED: usize = 64;

/// Those who wait. Callers are told apart by a number.
#[derive(Debug)]
pub(super) struct Line<W> {
    callers: HashMap<u64, Caller<W>, NumberHasher>,
    /// Callers with requests in line: slots held, when served last, who.
    order: BTreeSet<(u32, u64, u64)>,
    /// The same by how many they have in line.
    lengths: BTreeSet<(usize, u64)>,
    /// Slots that are kept: for whom, until when.
    kept: Vec<(u64, u64)>,
    waiting: usize,
    /// Numbers what happens, so that it has an order.
    clock: u64,
}

#[derive(Debug)]
struct Caller<W> {
    queue: VecDeque<(u64, W)>,
    held: u32,
    served: u64,
    /// When its last slot got free, in microseconds.
    left_us: u64,
    /// It came back within a breath the last time.
    returns: bool,
}

/// A moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    /// In microseconds.
    pub(super) now_us: u64,
    /// How long slots are held, on average, in microseconds.
    pub(super) pace_us: u64,
}

impl At {
    /// For how long a slot is kept.
    fn breath_us(self) -> u64 {
        (self.pace_us / BREATH_PART).min(BREATH_MAX_US)
    }
}

impl<W> Default for Line<W> {
    fn default() -> Self {
        Self {
            callers: HashMap::default(),
            order: BTreeSet::new(),
            lengths: BTreeSet::new(),
            kept: Vec::new(),
            waiting: 0,
            clock: 0,
        }
    }
}

impl<W> Line<W> {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// How many will be served before a newcomer of this caller, at most.
    pub(super) fn ahead(&self, caller: u64) -> usize {
        let mine = self.callers.get(&caller).map_or(0, |own| own.queue.len());
        let others = self.order.len() + usize::from(mine == 0);
        self.waiting
            .min(mine.saturating_add(1).saturating_mul(others))
    }

    /// A request of this caller comes: remembers whether it came back soon.
    pub(super) fn came(&mut self, caller: u64, at: At) {
        if let Some(own) = self.callers.get_mut(&caller)
            && own.left_us > 0
        {
            own.returns = at.now_us.saturating_sub(own.left_us) <= at.breath_us();
            own.left_us = 0;
        }
    }

    /// Puts a request at the end of its caller's queue; gives the number by which it is removed.
    pub(super) fn push(&mut self, caller: u64, waits: W) -> u64 {
        let number = self.tick();
        self.change(caller, |own| own.queue.push_back((number, waits)));
        self.waiting += 1;
        number
    }

    /// Takes a request out that waits no longer; false where it is not in line.
    pub(super) fn remove(&mut self, caller: u64, number: u64) -> bool {
        let removed = self.change(caller, |own| {
            let at = own
                .queue
                .binary_search_by_key(&number, |(number, _)| *number);
            at.ok().and_then(|at| own.queue.remove(at))
        });
        self.waiting -= usize::from(removed.is_some());
        removed.is_some()
    }

    /// Takes out the last request of the caller with most in line, where a newcomer of this caller
    /// has a better right to wait.
    pub(super) fn push_out(&mut self, caller: u64) -> Option<W> {
        let mine = self.callers.get(&caller).map_or(0, |own| own.queue.len());
        let (longest, whose) = *self.lengths.last()?;
        if longest <= mine + 1 {
            return None;
        }
        let (_, waits) = self.change(whose, |own| own.queue.pop_back())?;
        self.waiting -= 1;
        Some(waits)
    }

    /// The caller whose turn it is.
    pub(super) fn next(&self) -> Option<u64> {
        self.order.first().map(|(_, _, caller)| *caller)
    }

    /// The first request of this caller.
    pub(super) fn first(&self, caller: u64) -> Option<&W> {
        let own = self.callers.get(&caller)?;
        own.queue.front().map(|(_, waits)| waits)
    }

    /// The first request of this caller gets a slot.
    pub(super) fn pop(&mut self, caller: u64) -> Option<W> {
        let (_, waits) = self.change(caller, |own| own.queue.pop_front())?;
        self.waiting -= 1;
        self.gave(caller);
        Some(waits)
    }

    /// This caller got a slot.
    pub(super) fn gave(&mut self, caller: u64) {
        let turn = self.tick();
        self.unkeep(caller);
        self.change(caller, |own| {
            own.held += 1;
            own.served = turn;
        });
    }

    /// A slot of this caller got free. Where it is to be kept, says until when.
    pub(super) fn freed(&mut self, caller: u64, way: Way, limit: u32, at: At) -> Option<u64> {
        let active = self.active().max(1);
        let fair = |held: u32| u64::from(held) * active as u64 <= u64::from(limit);
        let (waits, turn) = (self.waiting > 0, self.tick());
        let keeps = self.change(caller, |own| {
            if way == Way::AtOnce {
                // It was served before there was a line.
                own.served = turn;
            }
            let held = own.held;
            own.held -= u32::from(way == Way::InLine).min(held);
            own.left_us = at.now_us;
            waits && own.queue.is_empty() && own.returns && fair(held.max(1))
        });
        self.forget();
        let until_us = at.now_us + at.breath_us();
        (keeps && until_us > at.now_us).then(|| {
            self.kept.push((caller, until_us));
            until_us
        })
    }

    /// How many slots are kept for others than this caller.
    pub(super) fn kept_from(&self, caller: u64) -> usize {
        self.kept.iter().filter(|(who, _)| *who != caller).count()
    }

    /// Whether a slot is kept for this caller.
    pub(super) fn is_kept_for(&self, caller: u64) -> bool {
        self.kept.iter().any(|(who, _)| *who == caller)
    }

    /// Gives up slots that were kept in vain; says when the next one will be.
    pub(super) fn expire(&mut self, now_us: u64) -> Option<u64> {
        let callers = &mut self.callers;
        self.kept.retain(|(caller, until_us)| {
            let holds = now_us < *until_us;
            if !holds && let Some(own) = callers.get_mut(caller) {
                own.returns = false;
            }
            holds
        });
        self.kept.iter().map(|(_, until_us)| *until_us).min()
    }

    /// Callers that wait or hold a slot that was given here.
    fn active(&self) -> usize {
        let holding = self.callers.values();
        let holding = holding.filter(|own| own.held > 0 && own.queue.is_empty());
        self.order.len() + holding.count()
    }

    fn unkeep(&mut self, caller: u64) {
        if let Some(at) = self.kept.iter().position(|(who, _)| *who == caller) {
            self.kept.swap_remove(at);
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Changes a caller, and where it stands in the orders.
    fn change<T>(&mut self, caller: u64, change: impl FnOnce(&mut Caller<W>) -> T) -> T {
        let own = self.callers.entry(caller).or_insert_with(|| Caller {
            queue: VecDeque::new(),
            held: 0,
            served: 0,
            left_us: 0,
            returns: false,
        });
        if !own.queue.is_empty() {
            self.order.remove(&(own.held, own.served, caller));
            self.lengths.remove(&(own.queue.len(), caller));
        }
        let changed = change(own);
        if !own.queue.is_empty() {
            self.order.insert((own.held, own.served, caller));
            self.lengths.insert((own.queue.len(), caller));
        }
        changed
    }

    /// Forgets callers that have nothing here, once they are many.
    fn forget(&mut self) {
        if self.callers.len() > REMEMBERED + 2 * self.active() {
            let kept = &self.kept;
            self.callers.retain(|caller, own| {
                own.held > 0 || !own.queue.is_empty() || kept.iter().any(|(who, _)| who == caller)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(line: &mut Line<&'static str>, slots: usize) -> Vec<&'static str> {
        let turns = (0..slots).map_while(|_| line.next().and_then(|caller| line.pop(caller)));
        turns.collect()
    }

    #[test]
    fn callers_take_turns_and_their_own_go_in_order() {
        let mut line = Line::default();
        for waits in ["a1", "a2", "a3", "a4"] {
            line.push(1, waits);
        }
        line.push(2, "b1");
        line.push(2, "b2");
        line.push(3, "c1");
        let order = served(&mut line, 7);
        assert_eq!(order, ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]);
        assert_eq!(line.len(), 0);
    }

    #[test]
    fn who_holds_fewest_goes_first() {
        let mut line = Line::default();
        for _ in 0..3 {
            line.gave(1);
        }
        line.gave(2);
        line.push(1, "a");
        line.push(2, "b");
        line.push(3, "c");
        assert_eq!(served(&mut line, 3), ["c", "b", "a"]);
    }

    #[test]
    fn who_leaves_is_not_served() {
        let mut line = Line::default();
        line.push(1, "a1");
        let gone = line.push(1, "a2");
        line.push(1, "a3");
        assert!(line.remove(1, gone) && !line.remove(1, gone));
        assert_eq!(served(&mut line, 3), ["a1", "a3"]);
    }

    #[test]
    fn a_newcomer_pushes_out_the_last_of_a_flood_and_nobody_else() {
        let mut line = Line::default();
        for waits in ["a1", "a2", "a3"] {
            line.push(1, waits);
        }
        assert_eq!(line.push_out(2), Some("a3"));
        line.push(2, "b1");
        assert_eq!(line.push_out(2), None, "it would have as many");
        assert_eq!(line.push_out(1), None);
        assert_eq!(served(&mut line, 3), ["a1", "b1", "a2"]);
    }

    #[test]
    fn what_is_ahead_of_a_newcomer_is_its_share_of_the_line() {
        let mut line = Line::default();
        for _ in 0..100 {
            line.push(1, "a");
        }
        assert_eq!((line.ahead(1), line.ahead(2)), (100, 2));
        line.push(2, "b");
        assert_eq!((line.ahead(2), line.ahead(3)), (4, 3));
    }

    #[test]
    fn a_slot_is_kept_only_for_who_comes_back_and_only_for_a_breath() {
        let mut line = Line::default();
        let at = |now_us| At {
            now_us,
            pace_us: 8_000,
        };
        line.push(1, "a");
        line.gave(2);
        assert_eq!(
            line.freed(2, Way::InLine, 4, at(10_000)),
            None,
            "never seen"
        );
        line.came(2, at(10_500));
        line.gave(2);
        assert_eq!(line.freed(2, Way::InLine, 4, at(20_000)), Some(21_000));
        assert_eq!((line.kept_from(1), line.kept_from(2)), (1, 0));
        assert_eq!(line.expire(20_999), Some(21_000));
        assert_eq!(line.expire(21_000), None);
        line.gave(2);
        assert_eq!(
            line.freed(2, Way::InLine, 4, at(30_000)),
            None,
            "in vain before"
        );
    }

    #[test]
    fn a_slot_is_not_kept_for_who_holds_more_than_its_share() {
        let mut line = Line::default();
        let at = |now_us| At {
            now_us,
            pace_us: 8_000,
        };
        line.push(1, "a");
        for _ in 0..3 {
            line.gave(2);
        }
        line.freed(2, Way::InLine, 4, at(10_000));
        line.came(2, at(10_100));
        line.gave(2);
        assert_eq!(line.freed(2, Way::InLine, 4, at(20_000)), None);
    }

    #[test]
    fn callers_without_anything_here_are_forgotten() {
        let mut line: Line<()> = Line::default();
        for caller in 0..10_000 {
            line.gave(caller);
            let at = At {
                now_us: 1,
                pace_us: 8,
            };
            line.freed(caller, Way::InLine, 4, at);
        }
        assert!(
            line.callers.len() <= REMEMBERED + 1,
            "{}",
            line.callers.len()
        );
    }
}
