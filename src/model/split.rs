//! The exact split of a service's requests between its versions.
//!
//! Each request draws the next ticket of one shared counter; the ticket alone decides the version.
//! Tickets are mapped by jittered strata: with a share `w` there is exactly one ticket of the
//! version in each stratum of `1/w` tickets, at a place that nobody can predict. So counts are
//! exact for any number of requests and threads, and no caller can keep in step with the pattern.
//! More than two versions are split in two groups, again and again, each group with tickets of
//! its own.
//!
//! Invariant: among the first n tickets every version's count is within 2 of its share of n.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

/// A split in force: shares that do not change, and the counter that all threads share.
#[derive(Debug)]
pub struct Split {
    tickets: CachePadded<AtomicU64>,
    root: Group,
}

#[derive(Debug)]
enum Group {
    One(usize),
    Two(Box<Fork>),
}

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
        let weighted: Vec<(usize, u64)> = weights
            .into_iter()
            .filter(|(_, weight)| *weight > 0)
            .map(|(at, weight)| (at, u64::from(weight)))
            .collect();
        let mut seeds = seed;
        let root = Group::build(weighted, &mut seeds)?;
        Some(Self {
            tickets: CachePadded::new(AtomicU64::new(0)),
            root,
        })
    }

    /// Draws the next ticket: the position that serves this request.
    pub fn draw(&self) -> usize {
        match &self.root {
            Group::One(at) => *at,
            Group::Two(_) => self.root.find(self.tickets.fetch_add(1, Ordering::Relaxed)),
        }
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
        *seeds = splitmix64(*seeds);
        let strata = Strata {
            seed: *seeds,
            light: sum_a.min(sum_b),
            sum: sum_a + sum_b,
        };
        let lighter = Self::build(lighter, seeds)?;
        let heavier = Self::build(heavier, seeds)?;
        Some(Self::Two(Box::new(Fork {
            strata,
            lighter,
            heavier,
        })))
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
        clippy::cast_sign_loss,
        reason = "numbers within one round stay far below 2^53 and the floor is wanted"
    )]
    fn place(&self, stratum: u64, rounds_before: u64, tickets_before: u64) -> u64 {
        let jitter = (splitmix64(self.seed ^ stratum.wrapping_mul(0x9E37_79B9_7F4A_7C15)) >> 11)
            as f64
            / (1u64 << 53) as f64;
        // A neighbour may lie one stratum before this round.
        let within = stratum as i64 - rounds_before as i64;
        let place = ((within as f64 + jitter) * self.sum as f64 / self.light as f64).floor();
        tickets_before.wrapping_add_signed(place as i64)
    }
}

/// Sebastiano Vigna's splitmix64: a good hash of a counter (public domain reference, 2015).
fn splitmix64(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
