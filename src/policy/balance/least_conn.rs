//! The endpoint with the fewest requests in flight, over its weight.

use std::sync::Arc;

use super::{Ask, Candidate, turn};
use crate::model::table::{Endpoint, Version};

/// The candidate with the fewest requests in flight over its weight; several take turns by weight.
pub(super) fn pick<'v>(
    candidates: &[Candidate<'v>],
    version: &Version,
    ask: &Ask<'_>,
) -> Option<&'v Arc<Endpoint>> {
    let loads = candidates.iter().map(Candidate::load);
    let least = loads.fold(f32::INFINITY, f32::min);
    let is_idlest = |_, candidate: &Candidate<'_>| candidate.load() <= least;
    // Where a load grew meanwhile nobody may be left: then all are as good.
    let found = turn::among(candidates, is_idlest, version, ask).or(candidates.first());
    Some(found?.endpoint)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{ask, hits, load, pool, position, settings};
    use crate::model::settings::Balance;

    #[test]
    fn the_fewest_requests_in_flight_over_weight_decide() {
        let settings = settings(Balance::LeastConn);
        for (weights, inflight, expected) in [
            ([1, 1, 1], [3, 2, 4], 1),
            ([1, 1, 1], [3, 2, 1], 2),
            ([4, 1, 1], [3, 1, 1], 0),
            ([4, 1, 2], [5, 2, 2], 2),
        ] {
            let version = pool(&weights);
            load(&version, &inflight);
            let picked = position(&version, &ask(&settings, 0));
            assert_eq!(picked, expected, "{weights:?} {inflight:?}");
        }
    }

    #[test]
    fn the_idle_take_turns_by_weight() {
        let settings = settings(Balance::LeastConn);
        assert_eq!(hits(&pool(&[1, 1, 1]), &settings, 9), [3, 3, 3]);
        let hits = hits(&pool(&[3, 1]), &settings, 1_000);
        assert!(hits[0].abs_diff(750) <= 3, "{hits:?}");
    }
}
