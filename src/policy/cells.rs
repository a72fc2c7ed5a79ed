//! Cells by key, in bounded memory: by whatever key callers are told apart, and however many of them
//! a stranger makes up.
//!
//! A fixed array of slots. A key has two groups of slots where it may stand; where it stands in none
//! it takes over the slot whose cell is due first, with what is counted there. Mostly that one has
//! recovered, and says as much as a new one. Where no slot has, newcomers share what others used up:
//! so a caller may be held back for another, and nobody is ever let in without limit.
//!
//! Invariant: no lock, and no look at more than 16 slots. Memory is taken page by page, as keys come.

use std::sync::atomic::{AtomicU64, Ordering};

use zerocopy::FromZeros as _;

/// Slots that stand side by side: two or four cache lines.
const GROUP: usize = 8;

/// How often a slot that another thread was faster to take is looked for anew.
const RACES_MAX: u32 = 4;

/// What a slot remembers of a key.
#[derive(Debug)]
pub struct Cells {
    /// For each slot its key and its words.
    all: Box<[AtomicU64]>,
    /// How many words a slot has, the key included.
    width: usize,
    groups: u64,
}

/// The words of one key; the first is its cell, see `policy::gcra`.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'c> {
    place: usize,
    words: &'c [AtomicU64],
}

impl<'c> Slot<'c> {
    /// The cell.
    #[must_use]
    pub fn cell(self) -> &'c AtomicU64 {
        self.word(0)
    }

    /// A word beside it: of that number, from 0 for the cell.
    ///
    /// # Panics
    /// Where a slot has no such word.
    #[must_use]
    pub fn word(self, number: usize) -> &'c AtomicU64 {
        self.words.get(number + 1).expect("a slot is this wide")
    }

    /// Where it is, for `Cells::at`.
    #[must_use]
    pub fn place(self) -> usize {
        self.place
    }

    fn key(self) -> &'c AtomicU64 {
        self.words.first().expect("a slot has a key")
    }
}

impl Cells {
    /// Room for keys: `slots`, a power of two of at least 16, with so many `words` each.
    ///
    /// # Panics
    /// Where there is no memory for them.
    #[must_use]
    pub fn new(slots: usize, words: usize) -> Self {
        let width = words + 1;
        let groups = slots.next_power_of_two().max(2 * GROUP) / GROUP;
        let all = <[AtomicU64]>::new_box_zeroed_with_elems(groups * GROUP * width)
            .expect("there is memory for the keys of limits");
        Self {
            all,
            width,
            groups: groups as u64,
        }
    }

    /// The slot of this key: a hash that nobody outside can foresee.
    ///
    /// # Panics
    /// Never: a key has groups, and these have slots.
    pub fn take(&self, key: u64) -> Slot<'_> {
        let key = key.max(1);
        let mut oldest = None;
        for _ in 0..RACES_MAX {
            if let Some(slot) = self.find(key) {
                return slot;
            }
            let Some(slot) = self.oldest(key) else {
                break;
            };
            oldest = Some(slot);
            let stood = slot.key().load(Ordering::Relaxed);
            let taken =
                (slot.key()).compare_exchange(stood, key, Ordering::SeqCst, Ordering::Relaxed);
            if taken.is_err() {
                continue;
            }
            for word in slot.words.iter().skip(2) {
                word.store(0, Ordering::Relaxed);
            }
            let twice = |slot: &Slot<'_>| slot.key().load(Ordering::SeqCst) == key;
            if self.slots(key).filter(twice).count() == 1 {
                return slot;
            }
            // Two threads met the key at the same moment: one slot is enough, and who sees both
            // withdraws.
            slot.key()
                .compare_exchange(key, 0, Ordering::SeqCst, Ordering::Relaxed)
                .ok();
        }
        // Others are faster each time: this request counts where they do.
        oldest.expect("a key has groups, and these have slots")
    }

    /// The slot of this key, where it stands in one.
    #[must_use]
    pub fn find(&self, key: u64) -> Option<Slot<'_>> {
        let key = key.max(1);
        let mut slots = self.slots(key);
        slots.find(|slot| slot.key().load(Ordering::SeqCst) == key)
    }

    /// The slot at a place.
    #[must_use]
    pub fn at(&self, place: usize) -> Option<Slot<'_>> {
        let words = self.all.get(place * self.width..(place + 1) * self.width)?;
        Some(Slot { place, words })
    }

    /// The slot that is due first; where both groups have new ones, of the group that has more, so
    /// that groups fill evenly (Azar et al., Balanced Allocations, 1999).
    fn oldest(&self, key: u64) -> Option<Slot<'_>> {
        let groups = self.groups_of(key).into_iter();
        let choices = groups.filter_map(|group| {
            let due = |slot: &Slot<'_>| slot.cell().load(Ordering::Relaxed);
            let taken = |slot: &Slot<'_>| slot.key().load(Ordering::Relaxed) != 0;
            let oldest = self.group(group).min_by_key(due)?;
            let full = self.group(group).filter(taken).count();
            Some(((due(&oldest), full), oldest))
        });
        let best = choices.min_by_key(|(rank, _)| *rank);
        best.map(|(_, slot)| slot)
    }

    /// The slots where a key may stand.
    fn slots(&self, key: u64) -> impl Iterator<Item = Slot<'_>> {
        let groups = self.groups_of(key).into_iter();
        groups.flat_map(|group| self.group(group))
    }

    fn groups_of(&self, key: u64) -> [u64; 2] {
        let (first, second) = (key >> 32, key & u64::from(u32::MAX));
        let first = first % self.groups;
        let second = second % self.groups;
        // Where both are the same the other is the next.
        let second = if first == second {
            (first + 1) % self.groups
        } else {
            second
        };
        [first, second]
    }

    fn group(&self, number: u64) -> impl Iterator<Item = Slot<'_>> {
        let first = usize::try_from(number).unwrap_or_default() * GROUP;
        (first..first + GROUP).filter_map(|place| self.at(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hash::mix;
    use crate::model::quota::{Quota, TICKS_PER_US};
    use crate::model::settings::Rate;
    use crate::policy::gcra::{self, Terms};

    const SECOND: u64 = 1_000_000;

    fn terms(count: u64, burst: u32) -> Terms {
        let per = std::time::Duration::from_secs(1);
        Terms::from(&Quota::new(Rate { count, per }, Some(burst)))
    }

    fn makes(cells: &Cells, key: u64, terms: Terms, now_us: u64) -> bool {
        let standing = gcra::take(cells.take(key).cell(), terms, now_us);
        standing.wait_us.is_none()
    }

    #[test]
    fn keys_count_for_themselves() {
        let (cells, terms) = (Cells::new(1 << 12, 1), terms(1, 2));
        for turn in 0..3 {
            for key in 0..1_000 {
                assert_eq!(makes(&cells, mix(key), terms, SECOND), turn < 2, "{key}");
            }
        }
    }

    #[test]
    fn a_full_table_lets_nobody_in_beyond_what_its_slots_allow() {
        const SLOTS: usize = 64;
        let (cells, terms) = (Cells::new(SLOTS, 1), terms(1, 3));
        let made = (0..100_000).filter(|key| makes(&cells, mix(*key), terms, SECOND));
        let most = SLOTS * 3;
        let made = made.count();
        assert!(made <= most, "{made} of {most}");
        // A second later each slot has one more.
        let later = (0..100_000).filter(|key| makes(&cells, mix(*key), terms, 2 * SECOND));
        assert!(later.count() <= SLOTS);
    }

    #[test]
    fn a_caller_gains_nothing_by_being_pushed_out() {
        let (cells, terms) = (Cells::new(16, 1), terms(1, 5));
        let mut made = 0;
        for turn in 0..1_000 {
            made += u32::from(makes(&cells, mix(0), terms, SECOND));
            for other in 0..100 {
                makes(&cells, mix(1 + turn * 100 + other), terms, SECOND);
            }
        }
        assert!(made <= 5 + 16 * 5, "{made}");
    }

    #[test]
    fn recovered_keys_make_room_first() {
        let (cells, terms) = (Cells::new(16, 1), terms(1, 1));
        for key in 0..8 {
            assert!(makes(&cells, mix(key), terms, SECOND));
        }
        let later = 5 * SECOND;
        assert!(makes(&cells, mix(0), terms, later));
        // Whoever comes now takes the place of one of the seven that have recovered.
        for key in 100..107 {
            assert!(makes(&cells, mix(key), terms, later));
        }
        assert!(!makes(&cells, mix(0), terms, later));
    }

    #[test]
    fn who_takes_a_slot_finds_the_words_beside_its_cell_empty() {
        let cells = Cells::new(16, 3);
        for key in 0..16 {
            let slot = cells.take(mix(key));
            slot.cell().store(SECOND * TICKS_PER_US, Ordering::Relaxed);
            slot.word(2).store(7, Ordering::Relaxed);
        }
        assert_eq!(cells.take(mix(99)).word(2).load(Ordering::Relaxed), 0);
        assert!(cells.find(mix(99)).is_some());
        assert!(cells.find(mix(98)).is_none());
    }

    #[test]
    fn threads_that_meet_a_key_at_once_share_one_slot() {
        let (cells, terms) = (Cells::new(1 << 10, 1), terms(1, 100));
        let made: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let keys = (0..50).flat_map(|key| std::iter::repeat_n(key, 50));
                        keys.filter(|key| makes(&cells, mix(*key), terms, SECOND))
                            .count()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .sum()
        });
        // A thread whose slot was withdrawn has counted at most one request there.
        assert!((50 * 100..=50 * 100 + 150).contains(&made), "{made}");
    }

    #[test]
    fn keys_at_work_that_are_half_as_many_as_slots_share_none() {
        // A million keys in two million slots, made smaller.
        const KEYS: u64 = 15_625;
        let (cells, terms) = (Cells::new(1 << 15, 1), terms(1, 1));
        for turn in 0..2 {
            let made = (0..KEYS).filter(|key| makes(&cells, mix(*key), terms, SECOND));
            assert_eq!(made.count() as u64, if turn == 0 { KEYS } else { 0 });
        }
    }
}
