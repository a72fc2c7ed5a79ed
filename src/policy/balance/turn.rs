//! Turns among candidates that are equally good, by weight.

use std::sync::atomic::Ordering;

use super::{Ask, Candidate, unit};
use crate::model::table::Version;

/// One of those `candidates` that are as good as any: the next in turn where all are, all threads
/// taking turns together; by chance where only some are, because turns among a set that changes with
/// every choice fall in step with the changes and pass some over.
///
/// Candidates of one weight come strictly one after the other. Of several weights each comes as often
/// as its weight says: turn n falls on the fractional part of n times the golden ratio, which spreads
/// evenly over every interval (Weyl; Knuth, TAOCP 3, 6.4).
pub(super) fn among<'c, 'v>(
    candidates: &'c [Candidate<'v>],
    is_good: impl Fn(usize, &Candidate<'v>) -> bool,
    version: &Version,
    ask: &Ask<'_>,
) -> Option<&'c Candidate<'v>> {
    let good = || {
        let good = candidates.iter().enumerate();
        let good = good.filter(|(position, candidate)| is_good(*position, candidate));
        good.map(|(_, candidate)| candidate)
    };
    let (mut count, mut sum, mut equal) = (0, 0.0, true);
    let first = good().next()?;
    for candidate in good() {
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
    if count < candidates.len() {
        return by_share(unit(ask.random) * sum, good());
    }
    let turn = version.rotor.fetch_add(1, Ordering::Relaxed);
    if equal {
        return candidates.get(turn % count);
    }
    by_share(golden(turn) * sum, good())
}

/// The candidate in whose part of the sum of weights the point lies.
pub(super) fn by_share<'c, 'v: 'c>(
    mut point: f32,
    candidates: impl Iterator<Item = &'c Candidate<'v>>,
) -> Option<&'c Candidate<'v>> {
    let mut last = None;
    for candidate in candidates {
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
    unit((turn as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}
