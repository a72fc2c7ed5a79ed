//! The exact split of a service's requests between its versions.
//!
//! Each request draws the next ticket of one shared counter; the ticket alone decides the version.
//! Tickets are mapped by jittered strata: with a share `w` there is exactly one ticket of the
//! version in each stratum of `1/w` tickets, at a place that nobody can predict. So counts are
//! exact for any number of requests and threads, and no caller can keep in step with the pattern.
//! More than two versions are split in two groups, again and again, each group with tickets of
//! its own; where so many forks in a row could add up to more than the bound, the places keep to
//! the middle of their strata.
//!
//! Invariant: among the first n tickets every version's count is within 2 of its share of n.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use super::hash::mix;

/// A split in force: shares that do not change, and the counter that all threads share.
#[derive(Debug)]
pub struct Split {
    tickets: Arc<CachePadded<AtomicU64>>,
    root: Arc<Group>,
    /// Where the caller keeps each member now.
    positions: Box<[usize]>,
}

/// Members by their number, in the order in which the weights named them.
#[derive(Debug)]
enum Group {
    One(usize),
    Two(Box<Fork>),
}

/// How far a count may be from its share.
const DEVIATION_MAX: f64 = 2.0;

/// Two groups; the lighter one owns one ticket of each stratum.
#[derive(Debug)]
struct Fork {
    strata: Strata,
    lighter: Group,
    heavier: Group,
}

/// One ticket in each stratum of `sum / light` tickets.
#[derive(Debug)]
struct Strata {
    seed: u64,
    /// Weight of the lighter side; at most half of `sum`.
    light: u64,
    /// Weight of both sides.
    sum: u64,
    /// The part of a stratum, around its middle, in which its ticket lies; 1 is all of it.
    span: f64,
}

/// To which side of a fork a ticket falls, and its number among that side's tickets.
#[derive(Debug, PartialEq, Eq)]
enum Side {
    Lighter(u64),
    Heavier(u64),
}

impl Split {
    /// A split between positions by weight, or `None` where all weights are 0. `seed` comes from
    /// the system's random source, new for every split.
    #[must_use]
    pub fn new(weights: impl IntoIterator<Item = (usize, u32)>, seed: u64) -> Option<Self> {
        let (positions, weights): (Vec<usize>, Vec<u64>) = weights
            .into_iter()
            .filter(|(_, weight)| *weight > 0)
            .map(|(at, weight)| (at, u64::from(weight)))
            .unzip();
        let mut seeds = seed;
        let mut root = Group::build(weights.into_iter().enumerate().collect(), &mut seeds)?;
        root.keep_within(DEVIATION_MAX);
        Some(Self {
            tickets: Arc::default(),
            root: Arc::new(root),
            positions: positions.into(),
        })
    }

    /// The same split, still counting, for a caller who keeps its members elsewhere from now on:
    /// as many `positions`, in the order in which the weights named them.
    #[must_use]
    pub fn moved(&self, positions: impl IntoIterator<Item = usize>) -> Self {
        Self {
            tickets: Arc::clone(&self.tickets),
            root: Arc::clone(&self.root),
            positions: positions.into_iter().collect(),
        }
    }

    /// The positions that take requests, in the order in which the weights named them.
    #[must_use]
    pub fn positions(&self) -> &[usize] {
        &self.positions
    }

    /// Draws the next ticket: the position that serves this request.
    pub fn draw(&self) -> usize {
        let member = match &*self.root {
            Group::One(member) => *member,
            Group::Two(_) => self.root.find(self.tickets.fetch_add(1, Ordering::Relaxed)),
        };
        self.positions.get(member).copied().unwrap_or_default()
    }
}

impl Group {
    fn build(mut members: Vec<(usize, u64)>, seeds: &mut u64) -> Option<Self> {
        if members.len() < 2 {
            return members.pop().map(|(at, _)| Self::One(at));
        }
        members.sort_by_key(|(at, weight)| (std::cmp::Reverse(*weight), *at));
        let (mut a, mut b) = (Vec::new(), Vec::new());
        let (mut sum_a, mut sum_b) = (0, 0);
        for (at, weight) in members {
            let (side, sum) = if sum_a <= sum_b {
                (&mut a, &mut sum_a)
            } else {
                (&mut b, &mut sum_b)
            };
            side.push((at, weight));
            *sum += weight;
        }
        let (lighter, heavier) = if sum_a <= sum_b { (a, b) } else { (b, a) };
        *seeds = mix(*seeds);
        let strata = Strata {
            seed: *seeds,
            light: sum_a.min(sum_b),
            sum: sum_a + sum_b,
            span: 1.0,
        };
        let lighter = Self::build(lighter, seeds)?;
        let heavier = Self::build(heavier, seeds)?;
        Some(Self::Two(Box::new(Fork {
            strata,
            lighter,
            heavier,
        })))
    }

    /// Narrows the places in all strata so far that no count can deviate by more than `bound`.
    fn keep_within(&mut self, bound: f64) {
        let farthest = self.deviation(0.0);
        if farthest > bound {
            // A place within `span` around the middle makes a fork deviate by (1 + span) / 2.
            self.narrow((2.0 * bound / farthest - 1.0).max(0.0));
        }
    }

    /// The farthest any member's count can be from its share where each fork deviates by 1 and
    /// this group's own count by `before`.
    fn deviation(&self, before: f64) -> f64 {
        match self {
            Self::One(_) => before,
            Self::Two(fork) => {
                let share = fork.strata.share();
                let lighter = fork.lighter.deviation(share * before + 1.0);
                lighter.max(fork.heavier.deviation((1.0 - share) * before + 1.0))
            }
        }
    }

    fn narrow(&mut self, span: f64) {
        if let Self::Two(fork) = self {
            fork.strata.span = span;
            fork.lighter.narrow(span);
            fork.heavier.narrow(span);
        }
    }

    fn find(&self, mut ticket: u64) -> usize {
        let mut group = self;
        loop {
            match group {
                Self::One(at) => return *at,
                Self::Two(fork) => match fork.strata.side(ticket) {
                    Side::Lighter(number) => (group, ticket) = (&fork.lighter, number),
                    Side::Heavier(number) => (group, ticket) = (&fork.heavier, number),
                },
            }
        }
    }
}

impl Strata {
    /// The lighter side's part of the tickets.
    #[expect(
        clippy::cast_precision_loss,
        reason = "sums of weights stay far below 2^53"
    )]
    fn share(&self) -> f64 {
        self.light as f64 / self.sum as f64
    }

    /// Whose ticket `n` is. The strata repeat every `sum` tickets, `light` of them a round; inside
    /// a round all numbers are small enough for exact floating point.
    fn side(&self, n: u64) -> Side {
        let (round, within) = (n / self.sum, n % self.sum);
        let (rounds_before, tickets_before) = (round * self.light, round * self.sum);
        let nearest = within * self.light / self.sum + rounds_before;
        let mut before = nearest.saturating_sub(1);
        for stratum in nearest.saturating_sub(1)..=nearest + 1 {
            let owned = self.owned(stratum, rounds_before, tickets_before);
            if owned == n {
                return Side::Lighter(stratum);
            }
            if owned < n {
                before = stratum + 1;
            }
        }
        Side::Heavier(n - before)
    }

    /// The one ticket of a stratum that is the lighter side's: neighbours never own the same.
    fn owned(&self, stratum: u64, rounds_before: u64, tickets_before: u64) -> u64 {
        let place = self.place(stratum, rounds_before, tickets_before);
        let taken = stratum > 0 && self.place(stratum - 1, rounds_before, tickets_before) == place;
        place + u64::from(taken)
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "numbers within one round stay far below 2^53 and the floor is wanted"
    )]
    fn place(&self, stratum: u64, rounds_before: u64, tickets_before: u64) -> u64 {
        let jitter = (mix(self.seed ^ stratum.wrapping_mul(0x9E37_79B9_7F4A_7C15)) >> 11) as f64
            / (1u64 << 53) as f64;
        let jitter = 0.5 + (jitter - 0.5) * self.span;
        // A neighbour may lie one stratum before this round.
        let within = stratum.cast_signed() - rounds_before.cast_signed();
        let place = ((within as f64 + jitter) * self.sum as f64 / self.light as f64).floor();
        tickets_before.wrapping_add_signed(place as i64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Draws `requests` tickets; the farthest that any count ever was from its share.
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    fn worst_deviation(weights: &[u32], seed: u64, requests: u64) -> f64 {
        let split = Split::new(weights.iter().copied().enumerate(), seed).expect("a weight");
        let sum: f64 = weights.iter().copied().map(f64::from).sum();
        let mut counts = vec![0.0; weights.len()];
        let mut worst = 0.0_f64;
        for drawn in 1..=requests {
            counts[split.draw()] += 1.0;
            for (count, weight) in counts.iter().zip(weights) {
                let expected = f64::from(*weight) / sum * drawn as f64;
                worst = worst.max((count - expected).abs());
            }
        }
        worst
    }

    fn drawn(split: &Split, requests: usize) -> Vec<usize> {
        (0..requests).map(|_| split.draw()).collect()
    }

    fn any_weight() -> impl Strategy<Value = u32> {
        prop_oneof![
            Just(0),
            Just(1),
            1..100_u32,
            1..1_000_000_u32,
            Just(1_000_000)
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn every_count_is_within_2_of_its_share_for_any_n(
            weights in prop::collection::vec(any_weight(), 2..=12),
            seed: u64,
        ) {
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            let worst = worst_deviation(&weights, seed, 2_000);
            prop_assert!(worst <= 2.0, "{worst}");
        }

        #[test]
        fn one_ticket_belongs_to_one_member(light in 1..50_u64, more in 0..5_000_u64, seed: u64) {
            let strata = Strata { seed, light, sum: 2 * light + more, span: 1.0 };
            let (mut lighter, mut heavier) = (Vec::new(), Vec::new());
            for n in 0..3 * strata.sum {
                match strata.side(n) {
                    Side::Lighter(number) => lighter.push(number),
                    Side::Heavier(number) => heavier.push(number),
                }
            }
            prop_assert_eq!(lighter.len() as u64, 3 * light);
            for numbers in [lighter, heavier] {
                prop_assert!(numbers.iter().copied().eq(0..numbers.len() as u64));
            }
        }
    }

    #[test]
    fn counts_stay_within_2_over_50_000_requests() {
        let cases: [&[u32]; 9] = [
            &[
                10_059, 1_000_000, 1_000_000, 1_000_000, 409_918, 32_726, 411_409,
            ],
            &[90, 10],
            &[1, 99],
            &[1, 1, 1],
            &[1_000_000, 1],
            &[1_000_000, 1, 999_999, 1],
            &[7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47],
            &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048],
            &[333_333, 333_333, 333_334],
        ];
        for weights in cases {
            for seed in [0, 7, u64::MAX] {
                let worst = worst_deviation(weights, seed, 50_000);
                assert!(worst <= 2.0, "{weights:?} {seed}: {worst}");
            }
        }
    }

    #[test]
    fn up_to_three_versions_use_the_whole_strata() {
        for weights in [
            vec![1, 1],
            vec![1, 1, 1],
            vec![1_000_000, 1, 1],
            vec![5, 4, 3],
        ] {
            let split = Split::new(weights.into_iter().enumerate(), 1).expect("weights");
            assert!(split.root.deviation(0.0) <= DEVIATION_MAX);
        }
    }

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "counts are small")]
    fn counts_are_exact_when_8_threads_draw() {
        const EACH: u64 = 6_251;
        let weights = [70_u32, 20, 7, 3];
        let split = Split::new(weights.iter().copied().enumerate(), 42).expect("weights");
        let counts: Vec<AtomicU64> = weights.iter().map(|_| AtomicU64::new(0)).collect();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..EACH {
                        counts[split.draw()].fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        for (count, weight) in counts.iter().zip(weights) {
            let expected = f64::from(weight) / 100.0 * (8 * EACH) as f64;
            let count = count.load(Ordering::Relaxed) as f64;
            assert!((count - expected).abs() <= 2.0, "{count} of {expected}");
        }
    }

    #[test]
    fn counts_stay_exact_far_from_the_start() {
        let split = Split::new([(0, 999_983), (1, 17)], 3).expect("weights");
        for start in [1 << 32, 1 << 40, 1 << 52] {
            split.tickets.store(start, Ordering::Relaxed);
            let requests = 1_000_000_u32;
            let second = (0..requests).filter(|_| split.draw() == 1).count();
            assert!((15..=19).contains(&second), "{second} after {start}");
        }
    }

    #[test]
    fn nobody_can_keep_in_step() {
        let draws = |seed| drawn(&Split::new([(0, 75), (1, 25)], seed).expect("weights"), 400);
        assert_ne!(draws(1), draws(2), "another seed is another pattern");
        let one = draws(1);
        for period in 1..=100 {
            let repeats = one.iter().zip(&one[period..]).all(|(a, b)| a == b);
            assert!(!repeats, "repeats every {period}");
        }
        // A client in the rhythm of the strata meets both versions.
        for phase in 0..4 {
            let met: Vec<_> = one.iter().skip(phase).step_by(4).collect();
            assert!(met.contains(&&0) && met.contains(&&1), "phase {phase}");
        }
    }

    #[test]
    fn frequent_changes_do_not_starve_a_small_share() {
        // A new split every 10 requests: 1 % must still get about 1 % of 100,000.
        let small: usize = (0..10_000_u64)
            .map(|seed| Split::new([(0, 99), (1, 1)], mix(seed)).expect("weights"))
            .map(|split| drawn(&split, 10).iter().sum::<usize>())
            .sum();
        assert!((850..=1150).contains(&small), "{small}");
    }

    #[test]
    fn weightless_members_get_nothing() {
        assert!(Split::new([], 1).is_none());
        assert!(Split::new([(0, 0), (1, 0)], 1).is_none());
        let only = Split::new([(0, 0), (1, 5), (2, 0)], 1).expect("weights");
        assert_eq!(drawn(&only, 3), [1, 1, 1]);
        assert_eq!(only.positions(), [1]);
    }

    #[test]
    fn a_moved_split_goes_on_counting() {
        let weights = [(0, 3), (1, 2), (2, 1)];
        let whole = drawn(&Split::new(weights, 9).expect("weights"), 60);
        let first = Split::new(weights, 9).expect("weights");
        let mut parts = drawn(&first, 30);
        let moved = first.moved([4, 2, 7]);
        let back = |at| [4, 2, 7].iter().position(|p| *p == at).expect("a member");
        parts.extend(drawn(&moved, 30).into_iter().map(back));
        assert_eq!(parts, whole);
    }
}
