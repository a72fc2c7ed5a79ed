//! Counts of a trial on their way to Redis: the cells of data-plane threads, and the callers that
//! stay in a version, each of which is to count once.
//!
//! Invariant: what waits here has a bound, and what does not fit is told.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};

use crate::model::count::{Seat, Sheet};
use crate::model::hash::{self, NumberHasher};
use crate::model::trial::{Arm, MARKS, Marks, Tag};

/// Callers that one thread remembers to have told; past that it forgets them all, and those that
/// come again are told again, which changes nothing.
const MET_MAX: usize = 65_536;

/// Callers on their way from all threads to the flush; what does not fit is not counted.
const QUEUE_MAX: usize = 65_536;

/// Callers of one series that wait for Redis; those beyond are not counted.
const WAITING_MAX: usize = 262_144;

/// So many callers weigh as much as one hash.
const CALLERS_PER_HASH: usize = 10;

/// A caller who stays in a version, and how the first request went that was seen of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// A hash of the service and the caller's key.
    pub point: u64,
    /// Whether that request was bad.
    pub bad: bool,
}

/// What came in of one tag of a trial.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrialSum {
    /// By `Mark`.
    pub marks: [u64; MARKS],
    /// Callers, in the order in which they were seen; whether they are new is for Redis to say.
    pub callers: Vec<Caller>,
}

impl TrialSum {
    /// Adds another sum; how many callers there were beyond the most that may wait: they are
    /// dropped.
    pub fn add(&mut self, more: &Self) -> usize {
        for (sum, more) in self.marks.iter_mut().zip(more.marks) {
            *sum += more;
        }
        let room = WAITING_MAX.saturating_sub(self.callers.len());
        let taken = more.callers.iter().take(room);
        self.callers.extend(taken);
        more.callers.len().saturating_sub(room)
    }

    /// How much of a batch it is, in hashes.
    #[must_use]
    pub fn weight(&self) -> usize {
        1 + self.callers.len() / CALLERS_PER_HASH
    }

    /// Takes out as much as weighs no more than `most`, at least 1; nothing is left where that is
    /// all.
    #[must_use]
    pub fn split_off(&mut self, most: usize) -> Self {
        let callers = most.saturating_sub(1) * CALLERS_PER_HASH;
        if self.callers.len() <= callers {
            return std::mem::take(self);
        }
        let later = self.callers.split_off(callers);
        let rest = Self {
            callers: later,
            ..Self::default()
        };
        std::mem::replace(self, rest)
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.callers.is_empty() && self.marks.iter().all(|count| *count == 0)
    }
}

/// A cell that was made, and what it counts.
#[derive(Debug)]
struct Birth {
    tag: Arc<Tag>,
    sheet: Arc<Sheet<Marks>>,
}

/// What one thread counts of trials with.
#[derive(Debug)]
pub(super) struct Clerk {
    births: Sender<Birth>,
    callers: Sender<(Arc<Tag>, Caller)>,
    queue: Arc<Queue>,
    met: RefCell<HashSet<u64, NumberHasher>>,
}

/// The side that reads.
#[derive(Debug)]
pub(super) struct Gatherer {
    births: Receiver<Birth>,
    callers: Receiver<(Arc<Tag>, Caller)>,
    queue: Arc<Queue>,
    sources: Vec<Source>,
}

/// How many callers are on their way, and how many found no room.
#[derive(Debug, Default)]
struct Queue {
    length: AtomicUsize,
    dropped: AtomicUsize,
}

#[derive(Debug)]
struct Source {
    tag: Arc<Tag>,
    sheet: Arc<Sheet<Marks>>,
    turn: u64,
    read: [u64; MARKS],
}

/// Both sides: for so many threads, and for the flush.
pub(super) fn clerks(threads: usize) -> (impl Iterator<Item = Clerk>, Gatherer) {
    let (births, born) = mpsc::channel();
    let (callers, called) = mpsc::channel();
    let queue = Arc::new(Queue::default());
    let gatherer = Gatherer {
        births: born,
        callers: called,
        queue: Arc::clone(&queue),
        sources: Vec::new(),
    };
    let clerks = (0..threads).map(move |_| Clerk {
        births: births.clone(),
        callers: callers.clone(),
        queue: Arc::clone(&queue),
        met: RefCell::default(),
    });
    (clerks, gatherer)
}

impl Clerk {
    /// Counts a request on that side of a trial.
    pub(super) fn mark(&self, seat: Seat, arm: &Arm, mark: impl FnOnce(&Marks)) {
        let sheet = arm.cells.at(seat, |sheet| {
            let birth = Birth {
                tag: Arc::clone(&arm.tag),
                sheet: Arc::clone(sheet),
            };
            // Nobody listens only where nobody will ever ask for the counts.
            drop(self.births.send(birth));
        });
        sheet.write(mark);
    }

    /// Tells of a caller, where this thread has not told of it in this trial. Where too many are
    /// on their way it is not counted now, and may be when it comes again.
    pub(super) fn meet(&self, arm: &Arm, caller: Caller) {
        let tag = &arm.tag;
        let mut met = self.met.borrow_mut();
        let name = tag.candidate.as_str().as_bytes();
        let mark = hash::mix(caller.point ^ hash::mix(tag.number ^ hash::spread(&[name])));
        if met.contains(&mark) {
            return;
        }
        if self.queue.length.fetch_add(1, Ordering::Relaxed) >= QUEUE_MAX {
            self.queue.length.fetch_sub(1, Ordering::Relaxed);
            self.queue.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if met.len() >= MET_MAX {
            met.clear();
        }
        met.insert(mark);
        // As above.
        drop(self.callers.send((Arc::clone(tag), caller)));
    }
}

impl Gatherer {
    /// Hands over what came in since the last time, in parts; a tag may be named more than once. A
    /// cell that nobody can write any more is read once more and forgotten. Comes back with how
    /// many callers found no room meanwhile.
    pub(super) fn gather(&mut self, mut take: impl FnMut(&Tag, &TrialSum)) -> usize {
        let born = self.births.try_iter().map(|Birth { tag, sheet }| Source {
            tag,
            sheet,
            turn: 0,
            read: [0; MARKS],
        });
        self.sources.extend(born);
        self.sources.retain_mut(|source| {
            // Asked before reading: who is alone now has nobody who could still write.
            let alone = Arc::get_mut(&mut source.sheet).is_some();
            if let Some(marks) = source.difference() {
                let sum = TrialSum {
                    marks,
                    ..TrialSum::default()
                };
                take(&source.tag, &sum);
            }
            !alone
        });
        for (tag, caller) in self.callers.try_iter() {
            self.queue.length.fetch_sub(1, Ordering::Relaxed);
            let sum = TrialSum {
                callers: vec![caller],
                ..TrialSum::default()
            };
            take(&tag, &sum);
        }
        self.queue.dropped.swap(0, Ordering::Relaxed)
    }
}

impl Source {
    fn difference(&mut self) -> Option<[u64; MARKS]> {
        let turn = self.sheet.turn();
        if turn == self.turn {
            return None;
        }
        let now = self.sheet.read(Marks::all);
        let mut difference = now;
        for (now, before) in difference.iter_mut().zip(self.read) {
            *now = now.saturating_sub(before);
        }
        self.turn = turn;
        self.read = now;
        difference
            .iter()
            .any(|count| *count > 0)
            .then_some(difference)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::name::Name;
    use crate::model::pilot::Trial;
    use crate::model::trial::{Mark, OnTrial, Side};

    fn on_trial(number: u64) -> OnTrial {
        let name = |text: &str| Name::parse(text).expect("valid");
        let trial = Trial {
            number,
            candidate: name("v2"),
            slow: None,
        };
        OnTrial::new(&name("a"), &Arc::new(trial), &[])
    }

    fn gathered(gatherer: &mut Gatherer) -> (BTreeMap<Tag, TrialSum>, usize) {
        let mut sums: BTreeMap<Tag, TrialSum> = BTreeMap::new();
        let dropped = gatherer.gather(|tag, sum| {
            sums.entry(tag.clone()).or_default().add(sum);
        });
        (sums, dropped)
    }

    fn count(clerk: &Clerk, arm: &Arm, seat: usize) {
        let seat = Seat::all(2).nth(seat).expect("one of two");
        clerk.mark(seat, arm, |marks| {
            marks.add(Mark::Request);
            marks.add(Mark::Bad);
        });
    }

    #[test]
    fn threads_add_up_and_what_is_gone_is_told_once_more() {
        let (clerks, mut gatherer) = clerks(2);
        let clerks: Vec<Clerk> = clerks.collect();
        let trial = on_trial(1);
        for (seat, clerk) in clerks.iter().enumerate() {
            count(clerk, trial.arm(Side::Candidate), seat);
        }
        let (sums, _) = gathered(&mut gatherer);
        let marks: Vec<_> = sums.values().map(|sum| sum.marks).collect();
        assert_eq!(marks, [[2, 2, 0, 0, 0]]);
        assert!(gathered(&mut gatherer).0.is_empty());
        count(&clerks[0], trial.arm(Side::Candidate), 0);
        drop(trial);
        assert_eq!(gathered(&mut gatherer).0.len(), 1);
        assert_eq!(gatherer.sources.len(), 0);
    }

    #[test]
    fn a_caller_is_told_once_by_a_thread_in_each_trial() {
        let (clerks, mut gatherer) = clerks(1);
        let clerk = clerks.into_iter().next().expect("one");
        let (one, two) = (on_trial(1), on_trial(2));
        let meet = |trial: &OnTrial, point, bad| {
            clerk.meet(trial.arm(Side::Base), Caller { point, bad });
        };
        for (point, bad) in [(1, false), (1, true), (2, true)] {
            meet(&one, point, bad);
        }
        meet(&two, 1, true);
        let told: Vec<_> = gathered(&mut gatherer)
            .0
            .into_iter()
            .map(|(tag, sum)| (tag.number, sum.callers))
            .collect();
        let caller = |point, bad| Caller { point, bad };
        assert_eq!(
            told,
            [
                (1, vec![caller(1, false), caller(2, true)]),
                (2, vec![caller(1, true)])
            ]
        );
    }

    #[test]
    fn callers_without_room_are_told_of_when_they_come_again() {
        let (clerks, mut gatherer) = clerks(1);
        let clerk = clerks.into_iter().next().expect("one");
        let trial = on_trial(1);
        let all = u64::try_from(QUEUE_MAX + 5).expect("few");
        let meet_all = || {
            for point in 0..all {
                clerk.meet(trial.arm(Side::Base), Caller { point, bad: false });
            }
        };
        meet_all();
        let (sums, dropped) = gathered(&mut gatherer);
        let callers = |sums: &BTreeMap<Tag, TrialSum>| -> usize {
            sums.values().map(|sum| sum.callers.len()).sum()
        };
        assert_eq!((callers(&sums), dropped), (QUEUE_MAX, 5));
        meet_all();
        let (sums, dropped) = gathered(&mut gatherer);
        assert_eq!((callers(&sums), dropped), (5, 0));
        assert!(clerk.met.borrow().len() <= MET_MAX);
    }

    #[test]
    fn a_large_sum_is_told_in_parts() {
        let caller = |point| Caller { point, bad: false };
        let mut sum = TrialSum {
            marks: [1; MARKS],
            callers: (0..95).map(caller).collect(),
        };
        let mut parts = Vec::new();
        while !sum.is_empty() {
            let part = sum.split_off(4);
            assert!(part.weight() <= 4);
            parts.push(part);
        }
        let marks = parts.iter().map(|part| part.marks.iter().sum::<u64>());
        assert_eq!(marks.collect::<Vec<_>>(), [5, 0, 0, 0]);
        let callers = parts.iter().flat_map(|part| &part.callers);
        assert!(callers.map(|it| it.point).eq(0..95));
        let mut full = TrialSum::default();
        let many = TrialSum {
            callers: vec![caller(0); WAITING_MAX],
            ..TrialSum::default()
        };
        assert_eq!((full.add(&many), full.add(&many)), (0, WAITING_MAX));
    }
}
