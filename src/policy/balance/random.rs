//! By chance, by weight.

use std::sync::Arc;

use super::{Ask, Candidate, turn, unit};
use crate::model::table::Endpoint;

/// Each candidate with the chance that its weight gives it.
pub(super) fn pick<'v>(candidates: &[Candidate<'v>], ask: &Ask<'_>) -> Option<&'v Arc<Endpoint>> {
    let sum: f32 = candidates.iter().map(|candidate| candidate.weight).sum();
    let drawn = turn::by_share(unit(ask.random) * sum, candidates.iter());
    Some(drawn?.endpoint)
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{ask, hits, pool, position, settings};
    use crate::model::settings::Balance;

    #[test]
    fn chances_are_the_weights() {
        let settings = settings(Balance::Random);
        let hits = hits(&pool(&[5, 3, 0, 2]), &settings, 100_000);
        for (hits, share) in hits.iter().zip([50_000_u64, 30_000, 0, 20_000]) {
            assert!(hits.abs_diff(share) <= share / 50, "{hits} for {share}");
        }
    }

    #[test]
    fn the_ends_of_chance_fall_on_the_ends_of_the_pool() {
        let (version, settings) = (pool(&[1, 1]), settings(Balance::Random));
        assert_eq!(position(&version, &ask(&settings, 0)), 0);
        assert_eq!(position(&version, &ask(&settings, u64::MAX)), 1);
    }
}
