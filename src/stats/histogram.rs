//! Latency by buckets: fine ones that grow by 2^(1/32), from 100 microseconds to 14 minutes, and
//! every 32nd bound as a coarse one.
//!
//! A bucket holds what is above the bound before it and at most its own bound, both in whole
//! microseconds, so that a coarse count is an exact sum of fine ones.

/// Fine buckets an octave.
pub const STEPS: usize = 32;
/// Octaves between the first and the last bound.
const OCTAVES: usize = 23;
/// The bound of the first bucket, in microseconds.
const FIRST_US: u64 = 100;

/// How many bounded buckets there are; one more takes what is above all bounds.
pub const BUCKETS: usize = OCTAVES * STEPS + 1;

/// How many coarse bounds there are.
pub const COARSE: usize = OCTAVES + 1;

/// 2^(n/32) as a fraction of 2^32, for n of 0 to 31.
const ROOTS: [u64; STEPS] = [
    4_294_967_296,
    4_389_014_833,
    4_485_121_744,
    4_583_333_121,
    4_683_695_048,
    4_786_254_615,
    4_891_059_943,
    4_998_160_210,
    5_107_605_667,
    5_219_447_668,
    5_333_738_689,
    5_450_532_358,
    5_569_883_475,
    5_691_848_042,
    5_816_483_285,
    5_943_847_684,
    6_074_001_000,
    6_207_004_303,
    6_342_919_999,
    6_481_811_861,
    6_623_745_059,
    6_768_786_189,
    6_917_003_306,
    7_068_465_956,
    7_223_245_206,
    7_381_413_680,
    7_543_045_592,
    7_708_216_783,
    7_877_004_752,
    8_049_488_696,
    8_225_749_546,
    8_405_870_007,
];

/// Parts of an octave, all of the same width.
const PARTS: usize = 1 << PARTS_LOG;
const PARTS_LOG: u32 = 6;

/// For each part of an octave a step at or below the right one, which is at most one above.
const GUESS: [u8; PARTS] = [
    1, 1, 2, 3, 3, 4, 5, 5, 6, 7, 7, 8, 8, 9, 10, 10, 11, 11, 12, 13, 13, 14, 14, 15, 15, 16, 16,
    17, 17, 18, 18, 19, 19, 20, 20, 21, 21, 22, 22, 22, 23, 23, 24, 24, 25, 25, 26, 26, 26, 27, 27,
    28, 28, 28, 29, 29, 30, 30, 30, 31, 31, 31, 32, 32,
];

/// The fine bounds, in microseconds.
const BOUNDS: [u64; BUCKETS] = bounds();

#[expect(
    clippy::indexing_slicing,
    reason = "computed by the compiler, which would not let it pass"
)]
const fn bounds() -> [u64; BUCKETS] {
    let mut bounds = [0; BUCKETS];
    let mut at = 0;
    while at < BUCKETS {
        let scaled = (FIRST_US * ROOTS[at % STEPS]) << (at / STEPS);
        bounds[at] = (scaled + (1 << 31)) >> 32;
        at += 1;
    }
    bounds
}

/// The upper bound of a fine bucket, in microseconds; `None` past the last.
#[must_use]
pub fn bound(bucket: usize) -> Option<u64> {
    BOUNDS.get(bucket).copied()
}

/// The coarse bounds, in microseconds: 100 times the powers of two.
pub fn coarse_bounds() -> impl Iterator<Item = u64> {
    (0..COARSE).map(|octave| FIRST_US << octave)
}

/// The fine bucket of a latency in microseconds; `BUCKETS` for what is above all bounds.
#[must_use]
pub fn bucket(us: u64) -> usize {
    if us <= FIRST_US {
        return 0;
    }
    // The octave of (100 * 2^k, 100 * 2^(k+1)], from the position of the highest bit.
    let octave = ((us - 1) / FIRST_US).ilog2() as usize;
    if octave >= OCTAVES {
        return BUCKETS;
    }
    let part = (((us - 1) << PARTS_LOG) >> octave) / FIRST_US;
    let part = usize::try_from(part).map_or(0, |part| part % PARTS);
    let guess = GUESS.get(part).copied().map_or(0, usize::from);
    let mut bucket = octave * STEPS + guess;
    while BOUNDS.get(bucket).is_some_and(|bound| us > *bound) {
        bucket += 1;
    }
    bucket
}

/// The counts at most at each coarse bound, from fine buckets in order; what is above all bounds
/// is in none.
#[must_use]
pub fn cumulative(fine: &[(u16, u64)]) -> [u64; COARSE] {
    let mut counts = [0; COARSE];
    for (bucket, count) in fine {
        let first = usize::from(*bucket).div_ceil(STEPS);
        for sum in counts.iter_mut().skip(first) {
            *sum += count;
        }
    }
    counts
}

/// The latency in microseconds that the share `q` of all requests does not exceed, from fine
/// buckets in order; `None` without requests.
///
/// Between its bounds a bucket is filled as its neighbours say; where they say nothing, the answer
/// is its middle, which is off by 1.1 % at most.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "counts far below 2^53, of an estimate"
)]
pub fn quantile(fine: &[(u16, u64)], q: f64) -> Option<f64> {
    let all: u64 = fine.iter().map(|(_, count)| count).sum();
    if all == 0 {
        return None;
    }
    let rank = q.clamp(0.0, 1.0) * all as f64;
    let mut below = 0;
    let mut found = None;
    for (at, (bucket, count)) in fine.iter().enumerate() {
        if *count > 0 {
            found = Some((at, usize::from(*bucket), *count, below));
        }
        below += count;
        if below as f64 >= rank {
            break;
        }
    }
    let (at, bucket, count, below) = found?;
    let near = |steps: isize| {
        let wanted = bucket.checked_add_signed(steps);
        let at = at.saturating_sub(2);
        let around = fine.iter().skip(at).take(5);
        let mut found = around.filter(|(bucket, _)| Some(usize::from(*bucket)) == wanted);
        found.next().map_or(0.0, |(_, count)| *count as f64)
    };
    let count = count as f64;
    let share = ((rank - below as f64) / count).clamp(0.0, 1.0);
    let around = [near(-2), near(-1), count, near(1), near(2)];
    Some(inside(bucket, place(share, around)))
}

/// Where in the middle one of five buckets the share `share` of its requests lies, from 0 to 1.
fn place(share: f64, [far_left, left, count, right, far_right]: [f64; 5]) -> f64 {
    if left > 0.0 && right > 0.0 {
        // The density leans towards the fuller neighbour; how far they reach up to it tells how
        // evenly it is filled.
        let evenly = ((left + right) / count).min(1.0);
        0.5 + (lean(share, (right - left) / (2.0 * count)) - 0.5) * evenly
    } else if left > 0.0 && far_left > 0.0 {
        // The last one: filled from the left, as densely as its neighbour.
        share * (count / left).min(1.0)
    } else if right > 0.0 && far_right > 0.0 {
        1.0 - (1.0 - share) * (count / right).min(1.0)
    } else {
        0.5
    }
}

/// Where the share `share` of a density on [0, 1] lies that grows linearly with this slope.
fn lean(share: f64, slope: f64) -> f64 {
    let slope = slope.clamp(-1.0, 1.0);
    if slope.abs() < 1e-6 {
        return share;
    }
    // The density is 1 + 2 s (x - 1/2), its integral (1 - s) x + s x^2.
    let straight = 1.0 - slope;
    ((straight * straight + 4.0 * slope * share).max(0.0).sqrt() - straight) / (2.0 * slope)
}

#[expect(clippy::cast_precision_loss, reason = "bounds are far below 2^53")]
fn inside(bucket: usize, position: f64) -> f64 {
    let last = FIRST_US << OCTAVES;
    let upper = bound(bucket).unwrap_or(last) as f64;
    match bucket.checked_sub(1).and_then(bound) {
        Some(lower) => lower as f64 * (upper / lower as f64).powf(position),
        None => upper * position,
    }
}

#[cfg(test)]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small numbers of tests"
)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_grow_by_the_32nd_root_of_two() {
        for (at, bound) in BOUNDS.iter().enumerate() {
            let exact = 100.0 * (at as f64 / 32.0).exp2();
            assert!((*bound as f64 - exact).abs() <= 0.5001, "{at}: {bound}");
        }
        assert_eq!(bound(0), Some(100));
        assert_eq!(bound(32), Some(200));
        assert_eq!(bound(BUCKETS - 1), Some(838_860_800));
        assert!(bound(BUCKETS - 1) >= Some(600_000_000), "10 minutes fit");
        assert_eq!(coarse_bounds().count(), 24);
    }

    #[test]
    fn every_bound_belongs_to_its_own_bucket() {
        for at in 0..BUCKETS {
            let bound = bound(at).expect("there is one");
            assert_eq!(bucket(bound), at);
            assert_eq!(bucket(bound + 1), at + 1);
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS);
    }

    proptest! {
        #[test]
        fn a_latency_lies_between_the_bounds_of_its_bucket(us in 0_u64..2_000_000_000) {
            let bucket = bucket(us);
            if let Some(upper) = bound(bucket) {
                prop_assert!(us <= upper);
            }
            if let Some(lower) = bucket.checked_sub(1).and_then(bound) {
                prop_assert!(us > lower);
            }
        }

        #[test]
        fn coarse_counts_are_exact(values in prop::collection::vec(0_u64..2_000_000_000, 0..200)) {
            let coarse = cumulative(&fine(&values));
            for (bound, count) in coarse_bounds().zip(coarse) {
                let exact = values.iter().filter(|value| **value <= bound).count();
                prop_assert_eq!(count, exact as u64);
            }
        }
    }

    fn fine(values: &[u64]) -> Vec<(u16, u64)> {
        let mut counts = std::collections::BTreeMap::new();
        for value in values {
            *counts.entry(bucket(*value) as u16).or_insert(0) += 1;
        }
        counts.into_iter().collect()
    }

    fn check(name: &str, mut values: Vec<u64>, within: f64) {
        let fine = fine(&values);
        values.sort_unstable();
        for q in [0.5, 0.9, 0.99] {
            let rank = (q * values.len() as f64).ceil() as usize;
            let exact = values[rank.max(1) - 1] as f64;
            let estimate = quantile(&fine, q).expect("there are requests");
            let off = (estimate / exact - 1.0).abs();
            assert!(off <= within, "{name} {q}: {estimate} for {exact}");
        }
    }

    /// The quantiles of a distribution, evenly spread.
    fn spread(inverse: impl Fn(f64) -> f64) -> Vec<u64> {
        (0..20_000)
            .map(|i| inverse((f64::from(i) + 0.5) / 20_000.0).round() as u64)
            .collect()
    }

    #[test]
    fn quantiles_of_known_distributions_are_within_two_percent() {
        check("uniform", spread(|u| 1_000.0 + u * 99_000.0), 0.01);
        check("exponential", spread(|u| -20_000.0 * (1.0 - u).ln()), 0.01);
        check("pareto", spread(|u| 3_000.0 * (1.0 - u).powf(-0.8)), 0.01);
        check(
            "two bells",
            spread(|u| {
                let (mean, u) = if u < 0.7 {
                    (5_000.0, u / 0.7)
                } else {
                    (80_000.0, (u - 0.7) / 0.3)
                };
                // The logistic distribution stands for a bell.
                mean * (1.0 + 0.05 * (u / (1.0 - u)).ln()).max(0.1)
            }),
            0.02,
        );
        for start in 0..40 {
            let start = 10_000.0 * (f64::from(start) / 400.0).exp2();
            check("broad", spread(|u| start * (1.0 + 0.1 * u)), 0.01);
            check("narrow", spread(|u| start * (1.0 + 0.03 * u)), 0.0115);
            check("narrower", spread(|u| start * (1.0 + 0.01 * u)), 0.0115);
            check("point", vec![start as u64; 1000], 0.0115);
            // Nothing around them says where in their buckets they lie.
            let points = |n: u32, factor: f64| vec![(start * factor) as u64; n as usize];
            for (few, factor) in [(5, 1.02), (100, 1.03), (200, 1.7), (15, 40.0)] {
                let two = [points(1000 - few, 1.0), points(few, factor)].concat();
                check("two points", two, 0.0115);
            }
        }
    }

    #[test]
    fn without_requests_there_is_no_quantile() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[(3, 0)], 0.5), None);
        let above = quantile(&[(BUCKETS as u16, 1)], 0.5).expect("one request");
        assert!(above >= 838_860_800.0);
    }
}
