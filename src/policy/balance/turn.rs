//! Turns among candidates that are equally good, by weight.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Candidate;

/// The next in turn; all threads take turns together.
///
/// Candidates of one weight come strictly one after the other. Of several weights each comes as often
/// as its weight says: turn n falls on the fractional part of n times the golden ratio, which spreads
/// evenly over every interval (Weyl; Knuth, TAOCP 3, 6.4).
pub(super) fn among<'c, 'v: 'c, I>(
    rotor: &AtomicUsize,
    candidates: impl Fn() -> I,
) -> Option<&'c Candidate<'v>>
where
    I: Iterator<Item = &'c Candidate<'v>>,
{
    let (mut count, mut sum, mut equal) = (0, 0.0, true);
    let first = candidates().next()?;
    for candidate in candidates() {
        count += 1;
        sum += candidate.weight;
        #[expect(clippy::float_cmp, reason = "copies of the same whole number")]
        {
            equal &= candidate.weight == first.weight;
        }
    }
    if count == 1 {
        return Some(first);
    }
    let turn = rotor.fetch_add(1, Ordering::Relaxed);
    if equal {
        return candidates().nth(turn % count);
    }
    by_share(golden(turn) * sum, candidates)
}

/// The candidate in whose part of the sum of weights the point lies.
pub(super) fn by_share<'c, 'v: 'c, I>(
    mut point: f32,
    candidates: impl Fn() -> I,
) -> Option<&'c Candidate<'v>>
where
    I: Iterator<Item = &'c Candidate<'v>>,
{
    let mut last = None;
    for candidate in candidates() {
        point -= candidate.weight;
        last = Some(candidate);
        if point < 0.0 {
            break;
        }
    }
    last
}

/// The fractional part of `turn` times the golden ratio.
fn golden(turn: usize) -> f32 {
    super::unit((turn as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}
