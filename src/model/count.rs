//! What requests count: one cell for each data-plane thread, which alone writes it.
//!
//! A cell is made when its thread first counts in it, so that what nobody asks for costs nothing.
//! Invariant: counting takes no lock and no locked instruction; a reader never makes a writer wait.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};

/// The place of one data-plane thread among all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    index: usize,
    of: usize,
}

impl Seat {
    /// A place for each of so many threads. Two threads must never share one.
    pub fn all(threads: usize) -> impl Iterator<Item = Self> {
        (0..threads).map(move |index| Self { index, of: threads })
    }
}

/// One cell for each thread that ever counted here.
#[derive(Debug)]
pub struct Cells<T> {
    seats: OnceLock<Box<[OnceLock<Arc<T>>]>>,
}

impl<T> Default for Cells<T> {
    fn default() -> Self {
        Self {
            seats: OnceLock::new(),
        }
    }
}

impl<T: Default> Cells<T> {
    /// The cell of that thread; `born` is told of it when it is made.
    ///
    /// # Panics
    /// Where seats of two different rows count in the same cells.
    pub fn at(&self, seat: Seat, born: impl FnOnce(&Arc<T>)) -> &T {
        let empty = || (0..seat.of).map(|_| OnceLock::new()).collect();
        let cell = self
            .seats
            .get_or_init(empty)
            .get(seat.index)
            .expect("all threads of a process have seats of one and the same row");
        cell.get_or_init(|| {
            let cell = Arc::default();
            born(&cell);
            cell
        })
    }

    /// The cells there are.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        let seats = self.seats.get().into_iter().flatten();
        seats.filter_map(OnceLock::get)
    }
}

/// A count that one thread writes and others may read.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds; only for the one thread that writes.
    pub fn add(&self, more: u64) {
        let sum = self.0.load(Ordering::Relaxed).wrapping_add(more);
        self.0.store(sum, Ordering::Relaxed);
    }

    /// What it came to so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts by small numbers of which few are ever seen: memory comes in blocks, when needed.
#[derive(Debug)]
pub struct Sparse<const BLOCKS: usize, const WIDTH: usize> {
    blocks: [OnceLock<Box<[Count; WIDTH]>>; BLOCKS],
}

impl<const BLOCKS: usize, const WIDTH: usize> Default for Sparse<BLOCKS, WIDTH> {
    fn default() -> Self {
        Self {
            blocks: [const { OnceLock::new() }; BLOCKS],
        }
    }
}

impl<const BLOCKS: usize, const WIDTH: usize> Sparse<BLOCKS, WIDTH> {
    /// Adds one at `index`; what is past the end counts at the end.
    pub fn add(&self, index: usize) {
        let index = index.min(BLOCKS * WIDTH - 1);
        let Some(block) = self.blocks.get(index / WIDTH) else {
            return;
        };
        let block = block.get_or_init(|| Box::new([const { Count(AtomicU64::new(0)) }; WIDTH]));
        if let Some(count) = block.get(index % WIDTH) {
            count.add(1);
        }
    }

    /// Every index that was counted, in order, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (usize, u64)> {
        self.blocks
            .iter()
            .enumerate()
            .filter_map(|(at, block)| Some((at * WIDTH, block.get()?)))
            .flat_map(|(first, block)| {
                let counts = block.iter().enumerate();
                counts.map(move |(at, count)| (first + at, count.get()))
            })
            .filter(|(_, count)| *count > 0)
    }
}

/// Plain counts of a `Tally`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// Requests that ended.
    Requests,
    /// Those among them that count as errors.
    Failed,
    /// Attempts after the first.
    Retries,
    /// Bytes of request bodies.
    BytesIn,
    /// Bytes of answer bodies.
    BytesOut,
    /// Microseconds from the head of the request to the end of the answer, summed.
    Latency,
    /// Microseconds to the head of the upstream's answer, summed over requests that had one.
    FirstByte,
    /// Ended because no connection could be made.
    ErrorConnect,
    /// Ended because a clock of the service ran out.
    ErrorTimeout,
    /// Ended because the upstream closed or reset.
    ErrorReset,
    /// Ended by another fault of the upstream or the gateway.
    ErrorOther,
    /// Turned away: no or a bad credential, or a forbidden address.
    RejectedAuth,
    /// Turned away: too many a second.
    RejectedRate,
    /// Turned away: too many at once.
    RejectedBusy,
}

/// How many plain counts there are.
pub const SCALARS: usize = 14;

/// The lowest status there is.
pub const STATUS_MIN: usize = 100;

/// Counts that one thread writes together and others read together.
#[derive(Debug, Default)]
pub struct Sheet<C> {
    /// Odd while the writer is at work.
    turn: AtomicU64,
    counts: C,
}

/// What one thread counted about one version, or about the requests of a service that ended before
/// a version was chosen.
pub type Tally = Sheet<Counts>;

/// The counts of a tally.
#[derive(Debug, Default)]
pub struct Counts {
    scalars: [Count; SCALARS],
    /// By status, from `STATUS_MIN` on.
    pub statuses: Sparse<18, 50>,
    /// By bucket of latency.
    pub latency: Sparse<24, 32>,
}

impl Counts {
    /// One of the plain counts.
    ///
    /// # Panics
    /// Never: there is a place for each.
    #[must_use]
    pub fn scalar(&self, which: Scalar) -> &Count {
        self.scalars
            .get(which as usize)
            .expect("there is a place for each scalar")
    }

    /// All plain counts, in the order of `Scalar`.
    #[must_use]
    pub fn scalars(&self) -> [u64; SCALARS] {
        std::array::from_fn(|at| self.scalars.get(at).map_or(0, Count::get))
    }
}

impl<C> Sheet<C> {
    /// How often a reader looks again where the writer was at work.
    const LOOKS: usize = 16;

    /// Writes what belongs together; only for the one thread that writes.
    pub fn write(&self, add: impl FnOnce(&C)) {
        let turn = self.turn.load(Ordering::Relaxed);
        self.turn.store(turn.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        add(&self.counts);
        self.turn.store(turn.wrapping_add(2), Ordering::Release);
    }

    /// A number that is another after each writing.
    #[must_use]
    pub fn turn(&self) -> u64 {
        self.turn.load(Ordering::Acquire)
    }

    /// Reads between two writings (a sequence lock: Boehm, "Can seqlocks get along with programming
    /// language memory models?", 2012). Where the writer never pauses, each count is right by
    /// itself and together they may be one request apart.
    pub fn read<T>(&self, read: impl Fn(&C) -> T) -> T {
        (0..Self::LOOKS)
            .find_map(|_| self.try_read(&read))
            .unwrap_or_else(|| read(&self.counts))
    }

    fn try_read<T>(&self, read: &impl Fn(&C) -> T) -> Option<T> {
        let before = self.turn.load(Ordering::Acquire);
        let counts = read(&self.counts);
        fence(Ordering::Acquire);
        let undisturbed = before.is_multiple_of(2) && self.turn.load(Ordering::Relaxed) == before;
        undisturbed.then_some(counts)
    }
}

/// What one thread counted about one endpoint.
#[derive(Debug, Default)]
pub struct Attempts {
    /// Attempts that ended.
    pub requests: Count,
    /// Those among them that failed.
    pub errors: Count,
    /// Microseconds they took, summed.
    pub took_us: Count,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_made_when_its_thread_first_counts() {
        let cells: Cells<Tally> = Cells::default();
        assert_eq!(cells.iter().count(), 0);
        let mut born = 0;
        let seats: Vec<Seat> = Seat::all(3).collect();
        for seat in [seats[1], seats[1], seats[2]] {
            cells.at(seat, |_| born += 1);
        }
        assert_eq!((born, cells.iter().count()), (2, 2));
    }

    #[test]
    fn sparse_counts_come_back_in_order() {
        let sparse: Sparse<4, 8> = Sparse::default();
        for index in [31, 0, 9, 9, 1000] {
            sparse.add(index);
        }
        let counts: Vec<_> = sparse.iter().collect();
        assert_eq!(counts, [(0, 1), (9, 2), (31, 2)]);
    }

    #[test]
    fn what_is_written_together_is_read_together() {
        const ROUNDS: u64 = 20_000;
        let tally = Tally::default();
        let both = |counts: &Counts| {
            let one = counts.scalar(Scalar::Requests).get();
            (one, counts.scalar(Scalar::BytesIn).get())
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    tally.write(|counts| {
                        counts.scalar(Scalar::Requests).add(1);
                        counts.scalar(Scalar::BytesIn).add(1);
                    });
                }
            });
            let mut before = (0, 0);
            while before.0 < ROUNDS {
                if let Some(together) = tally.try_read(&both) {
                    assert_eq!(together.0, together.1);
                }
                let now = tally.read(both);
                assert!(now.0 >= before.0 && now.1 >= before.1);
                before = now;
            }
        });
        assert_eq!(tally.read(both), (ROUNDS, ROUNDS));
    }
}
