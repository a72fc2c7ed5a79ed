//! Which version a caller stays with: a point from who asks, and a race that the weights decide.
//!
//! The rule is the same for any number of versions, on every gateway and in every release:
//!
//! 1. The caller's point in [0, 1) is `hash::spread(service name, key)`, in units of 2^-64. It
//!    depends on the service, so that the same people are not everybody's canary.
//! 2. For each version with a weight, `u = (mix(point ^ spread(version name)) | 1) / 2^64`.
//! 3. The version with the smallest `-log2(u) / weight` serves the caller: weighted rendezvous
//!    (Schindelhauer, Schomaker: "Weighted Distributed Hash Tables", SPAA 2005).
//!
//! `-log2(u)` is distributed exponentially, and of exponential clocks each is the first to ring
//! with its share of the sum of their rates: shares are those of the weights. Raising a weight
//! makes its own clock earlier and leaves the others alone, so callers move only towards that
//! version; lowering it back moves the same ones back. Only relations count: 9 to 1 is 90 to 10.
//! Where several weights change at once, a caller changes from one version to another only if that
//! one's weight rose in relation to the first's; between two versions this is the same sentence.
//!
//! Intervals over the point itself do this for two versions, not for three. Were a version's part
//! always to grow and shrink at its edges only, also when another's share stays as it is, that
//! part would depend on its own share alone: `A(x)` for the first. With the third at 0 the second
//! would own the complement of `A(1 - x)`, with the second at 0 so would the third: the same part
//! twice. (Bavarian et al., "Optimality of Correlated Sampling Strategies", 2016, prove how close
//! one can come, and that this race does.) And two versions must follow the rule of three, or the
//! third that comes would mix everybody.
//!
//! Everything is whole numbers, so that no platform's logarithm decides where a caller belongs.

use std::sync::Arc;

use crate::model::hash::{mix, spread};
use crate::model::table::{Service, Version};

/// How many bits of a logarithm stand behind its point: shares of one in a million are still exact
/// to a hundred-thousandth of themselves.
const FRACTION: u32 = 40;

/// The point of a caller of a service, in units of 2^-64.
#[must_use]
pub fn point(service: &str, key: &[u8]) -> u64 {
    spread(&[service.as_bytes(), key])
}

/// The version that the caller at this point stays with; `None` where none has a weight.
#[must_use]
pub fn choose(service: &Service, point: u64) -> Option<&Arc<Version>> {
    let versions = service.versions.iter();
    let racers = versions.map(|version| (version, version.name.as_str(), version.weight));
    first(racers, point)
}

/// Who wins the race at this point; the earlier one where two are level.
fn first<'n, T>(racers: impl Iterator<Item = (T, &'n str, u32)>, point: u64) -> Option<T> {
    let mut best: Option<(T, u128, u128)> = None;
    for (racer, name, weight) in racers {
        if weight == 0 {
            continue;
        }
        let (time, weight) = (ring(point, name), u128::from(weight));
        // time / weight < best time / best weight, without dividing.
        let is_first = (best.as_ref())
            .is_none_or(|(_, best_time, best_weight)| time * best_weight < best_time * weight);
        if is_first {
            best = Some((racer, time, weight));
        }
    }
    best.map(|(racer, _, _)| racer)
}

/// When the clock of a version would ring at weight 1: `-log2(u)` in units of 2^-40.
fn ring(point: u64, version: &str) -> u128 {
    u128::from(minus_log2(mix(point ^ spread(&[version.as_bytes()])) | 1))
}

/// `-log2(number / 2^64)` in units of 2^-40, above 0, for a number above 0. Digit by digit: the
/// square of a number in [1, 2) is at least 2 where the next binary digit of its logarithm is 1.
fn minus_log2(number: u64) -> u64 {
    let zeros = number.leading_zeros();
    // In [1, 2), in units of 2^-63.
    let mut rest = number << zeros;
    let mut fraction = 0;
    for _ in 0..FRACTION {
        // In [1, 4), in units of 2^-62.
        let square = (u128::from(rest) * u128::from(rest)) >> u64::BITS;
        let square = u64::try_from(square).expect("two numbers of 64 bits make one of 128");
        let digit = square >> 63;
        fraction = (fraction << 1) | digit;
        rest = square << (1 - digit);
    }
    (u64::from(zeros + 1) << FRACTION) - fraction
}

#[cfg(test)]
mod tests;
