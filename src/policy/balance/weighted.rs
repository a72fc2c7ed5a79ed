//! In turn, smoothly by weight: nginx's algorithm without its lock.
//!
//! At each choice every candidate's credit grows by its weight, and the one with the most pays the
//! sum of all weights: 5, 1, 1 gives a a b a c a a (nginx, commit 52327e0627f4). The credit is one
//! atomic for each endpoint. Whatever threads do at the same time, no credit is lost or made: each
//! choice adds as much as it takes, so an endpoint was chosen its share of times but for its credit,
//! divided by the sum. Choices at the same instant may see the same one lead and all take it; its
//! credit is then that much lower, and it waits that much longer. So the error is bounded by the number
//! of threads, at any time, and does not grow.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Candidate;
use crate::model::table::Endpoint;

/// The steps in which a weight that grows by `slow_start` counts.
const STEPS: f32 = 64.0;

/// The candidate with the most credit.
pub(super) fn pick<'v>(candidates: &[Candidate<'v>]) -> Option<&'v Arc<Endpoint>> {
    let mut sum = 0;
    let mut most = None;
    for candidate in candidates {
        let weight = steps(candidate.weight);
        sum += weight;
        let pace = &candidate.endpoint.live.pace;
        let credit = pace.credit.fetch_add(weight, Ordering::Relaxed) + weight;
        if most.is_none_or(|(most, _)| credit > most) {
            most = Some((credit, candidate.endpoint));
        }
    }
    let (_, endpoint) = most?;
    endpoint.live.pace.credit.fetch_sub(sum, Ordering::Relaxed);
    Some(endpoint)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a weight is a million at most"
)]
fn steps(weight: f32) -> i64 {
    ((weight * STEPS) as i64).max(1)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::super::fixture::{ask, hits, pool, position, settings};
    use crate::model::settings::Balance;

    #[test]
    fn turns_are_spread_as_nginx_spreads_them() {
        let (version, settings) = (pool(&[5, 1, 1]), settings(Balance::Weighted));
        let order: Vec<_> = (0..14)
            .map(|n| position(&version, &ask(&settings, n)))
            .collect();
        assert_eq!(order, [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn shares_hold_after_every_request_within_one() {
        let weights = [7, 3, 2, 1];
        let (version, settings) = (pool(&weights), settings(Balance::Weighted));
        let mut hits = [0.0; 4];
        for n in 1..1_000_u32 {
            hits[position(&version, &ask(&settings, 0))] += 1.0;
            for (hits, weight) in hits.iter().zip(weights) {
                let share: f64 = f64::from(n * weight) / 13.0;
                assert!((hits - share).abs() <= 1.0, "{hits} for {share}");
            }
        }
    }

    #[test]
    fn shares_hold_among_threads_within_their_number() {
        let (version, settings) = (pool(&[7, 3, 2, 1]), settings(Balance::Weighted));
        let mut all = [0_u64; 4];
        thread::scope(|scope| {
            let count = || scope.spawn(|| hits(&version, &settings, 13_000));
            let counts: Vec<_> = (0..4).map(|_| count()).collect();
            for counted in counts {
                for (all, hits) in all.iter_mut().zip(counted.join().expect("it counts")) {
                    *all += hits;
                }
            }
        });
        for (hits, share) in all.into_iter().zip([28_000, 12_000, 8_000, 4_000]) {
            assert!(hits.abs_diff(share) <= 5, "{all:?}");
        }
    }
}
