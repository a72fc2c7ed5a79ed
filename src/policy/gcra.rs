//! May this request come now? The generic cell rate algorithm (ITU-T I.371, annex A, the virtual
//! scheduling algorithm): a cell remembers when the next request is due at the earliest if all come
//! at the rate, its theoretical arrival time; who comes earlier than the tolerance must wait.
//!
//! Exact over all threads, without a lock: one atomic for each cell, changed by compare-and-swap.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::quota::{Quota, TICKS_PER_US};

/// Who is held back for longer than its quota can ask for, by this much, was counted under another
/// quota: it starts anew with this one used up. Threads read their clocks at different moments, and
/// differ by far less.
const STALE: u64 = 1_000_000 * TICKS_PER_US;

/// Under which a request is counted, in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The time between two requests at the rate.
    pub spacing: u64,
    /// How much earlier one may come.
    pub tolerance: u64,
}

/// How a caller stands after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How long it must wait, in microseconds; `None`: the request was let in and counted.
    pub wait_us: Option<u64>,
    /// How many requests it may make now.
    pub left: u64,
    /// When all of its quota is there again, in microseconds from now.
    pub reset_us: u64,
}

impl From<&Quota> for Terms {
    fn from(quota: &Quota) -> Self {
        Self {
            spacing: quota.spacing,
            tolerance: quota.tolerance,
        }
    }
}

/// The moment in ticks.
#[must_use]
pub fn ticks(now_us: u64) -> u64 {
    now_us.saturating_mul(TICKS_PER_US)
}

/// Counts a request that comes at `now_us`, where the terms let it in.
pub fn take(cell: &AtomicU64, terms: Terms, now_us: u64) -> Standing {
    let now = ticks(now_us);
    let Terms { spacing, tolerance } = terms;
    let latest = now.saturating_add(tolerance);
    let full = latest.saturating_add(spacing);
    let mut seen = cell.load(Ordering::Relaxed);
    loop {
        let stale = seen > full.saturating_add(STALE);
        let due = if stale { full } else { seen.max(now) };
        let wait = due.saturating_sub(latest);
        let next = if wait == 0 {
            due.saturating_add(spacing)
        } else {
            due
        };
        if wait == 0 || stale {
            let swapped =
                cell.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed);
            if let Err(newer) = swapped {
                seen = newer;
                continue;
            }
        }
        return Standing {
            wait_us: (wait > 0).then(|| wait.div_ceil(TICKS_PER_US)),
            left: full.saturating_sub(next) / spacing.max(1),
            reset_us: (next - now).div_ceil(TICKS_PER_US),
        };
    }
}

/// Takes back a request that was let in and then not made.
pub fn give_back(cell: &AtomicU64, terms: Terms) {
    let less = |due: u64| Some(due.saturating_sub(terms.spacing));
    // It always succeeds: the closure never says no.
    cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        .ok();
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::model::settings::Rate;

    const SECOND: u64 = 1_000_000;

    fn quota(count: u64, seconds: u64, burst: u32) -> Quota {
        let per = Duration::from_secs(seconds);
        Quota::new(Rate { count, per }, Some(burst))
    }

    fn terms(count: u64, seconds: u64, burst: u32) -> Terms {
        Terms::from(&quota(count, seconds, burst))
    }

    fn admitted(standing: Standing) -> bool {
        standing.wait_us.is_none()
    }

    #[test]
    fn a_burst_is_exact_and_then_one_comes_for_each_spacing() {
        let (cell, terms) = (AtomicU64::new(0), terms(10, 1, 5));
        let now = 7 * SECOND;
        let first: Vec<Standing> = (0..7).map(|_| take(&cell, terms, now)).collect();
        let said = first.iter().map(|said| (said.wait_us, said.left));
        let wanted = [
            (None, 4),
            (None, 3),
            (None, 2),
            (None, 1),
            (None, 0),
            (Some(SECOND / 10), 0),
            (Some(SECOND / 10), 0),
        ];
        assert_eq!(said.collect::<Vec<_>>(), wanted);
        assert_eq!(first[4].reset_us, SECOND / 2);
        assert!(!admitted(take(&cell, terms, now + SECOND / 10 - 1)));
        assert!(admitted(take(&cell, terms, now + SECOND / 10)));
        assert!(!admitted(take(&cell, terms, now + SECOND / 10)));
    }

    #[test]
    fn who_waits_as_told_is_let_in_and_not_before() {
        for terms in [terms(3, 1, 1), terms(7, 60, 3), terms(50_000, 3_600, 20)] {
            let (cell, mut now) = (AtomicU64::new(0), SECOND);
            for _ in 0..1_000 {
                match take(&cell, terms, now).wait_us {
                    None => now += 11,
                    Some(wait_us) => {
                        assert!(!admitted(take(&cell, terms, now + wait_us - 1)));
                        now += wait_us;
                        assert!(admitted(take(&cell, terms, now)));
                    }
                }
            }
        }
    }

    #[test]
    fn a_rate_is_held_for_a_day_to_the_request() {
        // Any rate, also one whose spacing is no whole number of nanoseconds.
        for count in [3, 7, 100, 7_919] {
            let (cell, terms) = (AtomicU64::new(0), terms(count, 1, 2));
            let start = SECOND;
            let seconds = if count > 100 { 600 } else { 86_400 };
            let mut made = 0_u64;
            let mut now = start;
            while now < start + seconds * SECOND {
                match take(&cell, terms, now).wait_us {
                    None => made += 1,
                    Some(wait_us) => now += wait_us,
                }
            }
            assert_eq!(made, count * seconds + 1, "{count} a second");
        }
    }

    #[test]
    fn another_quota_holds_from_the_next_request_on() {
        let cell = AtomicU64::new(0);
        let now = 5_000 * SECOND;
        for _ in 0..10 {
            take(&cell, terms(10, 3_600, 10), now);
        }
        let raised = terms(100, 1, 100);
        let said = take(&cell, raised, now);
        assert_eq!(said.wait_us, Some(SECOND / 100), "not the old hour");
        assert!(admitted(take(&cell, raised, now + SECOND / 100)));
        let lowered = terms(1, 1, 1);
        assert!(!admitted(take(&cell, lowered, now + SECOND / 100)));
        assert!(admitted(take(&cell, lowered, now + 3 * SECOND)));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let (cell, terms) = (AtomicU64::new(0), terms(1, 1, 2));
        assert_eq!(take(&cell, terms, SECOND).left, 1);
        give_back(&cell, terms);
        assert_eq!(take(&cell, terms, SECOND).left, 1);
    }

    #[test]
    fn threads_share_a_quota_to_the_request() {
        let (cell, terms, made) = (AtomicU64::new(0), terms(1, 1, 1_000), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        if admitted(take(&cell, terms, SECOND)) {
                            made.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(made.into_inner(), 1_000);
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_sees_more_than_burst_and_rate(
            count in 1..2_000_u64,
            seconds in 1..100_u64,
            burst in 1..50_u32,
            gaps in prop::collection::vec(0..200_000_u64, 1..300),
        ) {
            let terms = terms(count, seconds, burst);
            let (cell, mut now) = (AtomicU64::new(0), SECOND);
            let mut times = Vec::new();
            for gap in gaps {
                now += gap;
                if admitted(take(&cell, terms, now)) {
                    times.push(now);
                }
            }
            for (at, from) in times.iter().enumerate() {
                for (more, to) in times.iter().skip(at).enumerate() {
                    let earned = u128::from(to - from) * u128::from(count)
                        / u128::from(seconds * SECOND);
                    prop_assert!(more as u128 <= earned + u128::from(burst - 1));
                }
            }
        }
    }
}
