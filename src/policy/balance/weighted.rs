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
