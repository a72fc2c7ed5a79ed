//! Batches by number: what Redis was told, what it must be told, and what it may have to be told
//! again because it lost what it had acknowledged.
//!
//! Invariant: what is in a batch never changes once it has a number.

use std::collections::VecDeque;
use std::sync::Arc;

use super::batch::{Batch, Cut};
use super::trial::TrialSum;
use super::{Series, Sum};
use crate::model::trial::Tag;

/// For how long an acknowledged batch is kept, in milliseconds.
pub const RING_MS: u64 = 60_000;

/// The most hashes that acknowledged batches hold together: about 40 MiB of memory.
pub const RING_MAX: usize = 50_000;

/// The most hashes one script call writes: a few milliseconds of Redis's time.
pub const CALL_MAX: usize = 200;

/// What Redis says to a batch. Numbers are the last one it knows of us, 0 for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Applied.
    Applied,
    /// It had been applied before.
    Known(u64),
    /// Batches before it are missing.
    Gap(u64),
}

/// A batch as it is to be sent.
#[derive(Clone, Debug)]
pub struct Order {
    /// Its number; the first is 1.
    pub number: u64,
    /// The number that Redis must know last for this one to be applied.
    pub after: u64,
    /// What it holds.
    pub batch: Arc<Batch>,
}

#[derive(Debug)]
struct Numbered {
    number: u64,
    batch: Arc<Batch>,
    /// When the oldest of its counts was collected.
    since_ms: Option<u64>,
    /// When it was last acknowledged.
    acknowledged_ms: u64,
}

/// The book of batches of one gateway's life.
#[derive(Debug, Default)]
pub struct Journal {
    /// Not numbered yet.
    waiting: Batch,
    /// When the oldest count of those was collected.
    waiting_since_ms: Option<u64>,
    /// Numbered ones in order; those up to `known` are acknowledged.
    ring: VecDeque<Numbered>,
    /// Hashes in the acknowledged ones.
    held: usize,
    last: u64,
    known: u64,
}

impl Journal {
    /// Adds what was counted in this second.
    pub fn add(&mut self, second: u64, cut: Cut, series: &Series, sum: &Sum) {
        self.waiting.add(second, cut, series, sum);
    }

    /// Adds what was counted of a trial; how many callers there were beyond the most that may wait.
    pub fn add_trial(&mut self, tag: &Tag, sum: &TrialSum) -> usize {
        self.waiting.add_trial(tag, sum)
    }

    /// Takes note that what was added since the last time was collected now.
    pub fn collected(&mut self, now_ms: u64) {
        if !self.waiting.is_empty() {
            self.waiting_since_ms.get_or_insert(now_ms);
        }
    }

    /// When the oldest count was collected that Redis does not know; `None` where it knows all.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<u64> {
        let unknown = self.ring.iter().filter(|batch| batch.number > self.known);
        let numbered = unknown.filter_map(|batch| batch.since_ms).min();
        numbered.into_iter().chain(self.waiting_since_ms).min()
    }

    /// Lets go of what is too old or too much; no count that Redis does not know yet is lost.
    pub fn bound(&mut self, now_ms: u64, cut: Cut) {
        self.waiting.bound(now_ms / 1000, cut);
        while let Some(oldest) = self.ring.front()
            && oldest.number <= self.known
            && (oldest.acknowledged_ms + RING_MS < now_ms || self.held > RING_MAX)
        {
            self.held -= oldest.batch.len();
            self.ring.pop_front();
        }
    }

    /// The next batch to send; the same one until it is answered.
    pub fn next_order(&mut self) -> Option<Order> {
        if self.last == self.known && !self.waiting.is_empty() {
            self.last += 1;
            self.ring.push_back(Numbered {
                number: self.last,
                batch: Arc::new(self.waiting.split_off(CALL_MAX)),
                since_ms: self.waiting_since_ms,
                acknowledged_ms: 0,
            });
            if self.waiting.is_empty() {
                self.waiting_since_ms = None;
            }
        }
        let next = self.ring.iter().find(|batch| batch.number > self.known)?;
        Some(Order {
            number: next.number,
            after: self.known,
            batch: Arc::clone(&next.batch),
        })
    }

    /// Takes note of what Redis said to the order.
    pub fn answered(&mut self, order: &Order, answer: Answer, now_ms: u64, cut: Cut) {
        // What was acknowledged long ago is not told again, even if the answer is that it is lost.
        self.bound(now_ms, cut);
        self.known = match answer {
            Answer::Applied => order.number,
            Answer::Known(known) | Answer::Gap(known) => known.min(self.last),
        };
        self.held = 0;
        for batch in &mut self.ring {
            if batch.number == order.number && batch.number <= self.known {
                batch.acknowledged_ms = now_ms;
            }
            if batch.number <= self.known {
                self.held += batch.batch.len();
            }
        }
    }

    /// Batches that Redis acknowledged, lost, and cannot be told again, were it to know this one
    /// last.
    #[must_use]
    pub fn lost_after(&self, known: u64) -> u64 {
        let first = self
            .ring
            .front()
            .map_or(self.last + 1, |batch| batch.number);
        first.saturating_sub(known + 1)
    }

    /// Whether Redis knows everything.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.waiting.is_empty() && self.known == self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::count::{Scalar, Tally};
    use crate::model::name::Name;
    use crate::stats::Outcome;
    use proptest::prelude::*;

    const CUT: Cut = Cut {
        window: 10,
        keep: 3600,
    };

    fn series() -> Series {
        Series {
            service: Name::parse("a").expect("valid"),
            version: Name::parse("base"),
        }
    }

    fn one() -> Sum {
        let tally = Tally::default();
        let outcome = Outcome {
            status: 200,
            ..Outcome::default()
        };
        tally.write(|counts| outcome.add_to(counts));
        Sum::of(&tally)
    }

    /// What the script does.
    #[derive(Clone, Default)]
    struct Redis {
        known: u64,
        requests: u64,
    }

    impl Redis {
        fn apply(&mut self, order: &Order) -> Answer {
            if self.known >= order.number {
                return Answer::Known(self.known);
            }
            if self.known != order.after {
                return Answer::Gap(self.known);
            }
            self.known = order.number;
            let windows = order.batch.windows.values();
            self.requests += windows.map(|sum| sum.scalar(Scalar::Requests)).sum::<u64>();
            Answer::Applied
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Count,
        Send,
        /// The order does not arrive.
        LoseOrder,
        /// It is applied and the answer does not arrive.
        LoseAnswer,
        /// Redis keeps what it has.
        Save,
        /// Redis falls back to what it kept: a restart, a failover.
        FallBack,
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Count),
            4 => Just(Step::Send),
            1 => Just(Step::LoseOrder),
            1 => Just(Step::LoseAnswer),
            1 => Just(Step::Save),
            1 => Just(Step::FallBack),
            1 => Just(Step::Restart),
        ]
    }

    proptest! {
        #[test]
        fn every_count_is_told_exactly_once_whatever_gets_lost(
            steps in prop::collection::vec(step(), 0..200)
        ) {
            let (mut journal, mut redis, mut saved) = (Journal::default(), Redis::default(), Redis::default());
            let mut counted = 0;
            let send = |journal: &mut Journal, redis: &mut Redis, heard: bool| {
                if let Some(order) = journal.next_order() {
                    let answer = redis.apply(&order);
                    if heard {
                        journal.answered(&order, answer, 1000, CUT);
                    }
                }
            };
            for step in steps {
                match step {
                    Step::Count => {
                        counted += 1;
                        journal.add(1000, CUT, &series(), &one());
                    }
                    Step::Send => send(&mut journal, &mut redis, true),
                    Step::LoseOrder => drop(journal.next_order()),
                    Step::LoseAnswer => send(&mut journal, &mut redis, false),
                    Step::Save => saved = redis.clone(),
                    Step::FallBack => redis = saved.clone(),
                    Step::Restart => {
                        redis = Redis::default();
                        saved = Redis::default();
                    }
                }
            }
            // A last count makes sure that a loss is noticed.
            counted += 1;
            journal.add(1000, CUT, &series(), &one());
            for _ in 0..1000 {
                if journal.is_settled() {
                    break;
                }
                send(&mut journal, &mut redis, true);
            }
            prop_assert!(journal.is_settled());
            prop_assert_eq!(redis.requests, counted);
        }
    }

    #[test]
    fn acknowledged_batches_are_kept_for_a_minute() {
        let mut journal = Journal::default();
        let mut redis = Redis::default();
        for second in 0..100 {
            journal.add(second, CUT, &series(), &one());
            let order = journal.next_order().expect("there is something to tell");
            let answer = redis.apply(&order);
            journal.answered(&order, answer, second * 1000, CUT);
        }
        redis = Redis::default();
        journal.add(100, CUT, &series(), &one());
        let order = journal.next_order().expect("there is something to tell");
        let answer = redis.apply(&order);
        assert_eq!(answer, Answer::Gap(0));
        journal.answered(&order, answer, 100_000, CUT);
        assert_eq!(journal.lost_after(0), 40);
        while let Some(order) = journal.next_order() {
            let answer = redis.apply(&order);
            journal.answered(&order, answer, 100_000, CUT);
        }
        assert_eq!(redis.requests, 61);
    }

    #[test]
    fn the_oldest_count_that_redis_does_not_know_is_known() {
        let mut journal = Journal::default();
        let mut redis = Redis::default();
        let add = |journal: &mut Journal, now_ms| {
            journal.add(now_ms / 1000, CUT, &series(), &one());
            journal.collected(now_ms);
        };
        journal.collected(500);
        assert_eq!(journal.oldest_ms(), None);
        add(&mut journal, 1_000);
        add(&mut journal, 1_100);
        let order = journal.next_order().expect("there is something to tell");
        add(&mut journal, 1_200);
        assert_eq!(journal.oldest_ms(), Some(1_000));
        let answer = redis.apply(&order);
        journal.answered(&order, answer, 1_300, CUT);
        assert_eq!(journal.oldest_ms(), Some(1_200));
        let order = journal.next_order().expect("there is something to tell");
        let answer = redis.apply(&order);
        journal.answered(&order, answer, 1_400, CUT);
        assert_eq!(journal.oldest_ms(), None);
    }

    #[test]
    fn an_outage_becomes_one_batch() {
        let mut journal = Journal::default();
        for second in 1000..1100 {
            journal.add(second, CUT, &series(), &one());
            if second == 1000 {
                assert!(journal.next_order().is_some(), "sent, and never answered");
            }
        }
        let mut redis = Redis::default();
        let mut calls = 0;
        while let Some(order) = journal.next_order() {
            let answer = redis.apply(&order);
            journal.answered(&order, answer, 1_100_000, CUT);
            calls += 1;
        }
        assert_eq!((calls, redis.requests), (2, 100));
    }
}
