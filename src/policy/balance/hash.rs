//! By a consistent hash of a key, with bounded load.
//!
//! Rendezvous hashing (Thaler and Ravishankar 1998): every endpoint has a score for every key, the
//! highest wins; removing an endpoint moves only its own keys. The score is weighted as by Schindelhauer
//! and Schomaker 2005 (also Resch 2015): w / -ln(h) for a hash h in (0,1). The load is bounded as by
//! Mirrokni, Thorup and Zadimoghaddam 2016: an endpoint has at most 1.25 times its fair share of the
//! requests in flight, the next in the order of scores takes what is more.

use std::sync::Arc;

use super::{Ask, Candidate, random};
use crate::model::hash::mix;
use crate::model::table::Endpoint;

/// How much more than its fair share an endpoint may have in flight.
const SPARE: f32 = 1.25;

/// The candidate with the highest score for the request's key among those with room; by chance where
/// the request has no key.
pub(super) fn pick<'v>(candidates: &[Candidate<'v>], ask: &Ask<'_>) -> Option<&'v Arc<Endpoint>> {
    let Some(key) = ask.key else {
        return random::pick(candidates, ask);
    };
    let (mut running, mut weights) = (1.0, 0.0);
    for candidate in candidates {
        running += candidate.inflight();
        weights += candidate.weight;
    }
    let mut best: Option<(f64, &Arc<Endpoint>)> = None;
    for candidate in candidates {
        let bound = (SPARE * running * candidate.weight / weights).ceil();
        if candidate.inflight() >= bound {
            continue;
        }
        let score = score(candidate, key);
        if best.is_none_or(|(most, _)| score > most) {
            best = Some((score, candidate.endpoint));
        }
    }
    // Somebody has room, unless loads grew while we looked.
    best.map(|(_, endpoint)| endpoint)
        .or_else(|| random::pick(candidates, ask))
}

fn score(candidate: &Candidate<'_>, key: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit exactly")]
    let hash =
        ((mix(candidate.endpoint.seed ^ mix(key)) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    f64::from(candidate.weight) / -hash.ln()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{ask, load, pool, position, settings, turn};
    use super::*;
    use crate::model::live::State;
    use crate::model::settings::{Balance, Effective, KeySource};
    use crate::model::table::Version;

    const KEYS: u64 = 20_000;

    fn by_key() -> Effective {
        settings(Balance::Hash(KeySource::Ip))
    }

    fn homes(version: &Version, settings: &Effective) -> Vec<usize> {
        let asks = (0..KEYS).map(|key| Ask {
            key: Some(key),
            ..ask(settings, mix(key))
        });
        asks.map(|ask| position(version, &ask)).collect()
    }

    fn count(homes: &[usize], endpoint: usize) -> u64 {
        homes.iter().filter(|home| **home == endpoint).count() as u64
    }

    #[test]
    fn keys_are_spread_by_weight() {
        let homes = homes(&pool(&[5, 3, 2]), &by_key());
        for (endpoint, share) in [(0, 10_000), (1, 6_000), (2, 4_000)] {
            let keys = count(&homes, endpoint);
            assert!(keys.abs_diff(share) <= 300, "{keys} for {share}");
        }
    }

    #[test]
    fn only_the_keys_of_an_endpoint_that_goes_move() {
        for weights in [vec![1; 3], vec![3, 1, 2, 5, 1], vec![1; 40]] {
            let version = pool(&weights);
            let before = homes(&version, &by_key());
            turn(&version, 1, State::Down);
            let after = homes(&version, &by_key());
            for (before, after) in before.iter().zip(&after) {
                assert!(before == after || *before == 1);
                assert_ne!(*after, 1);
            }
            turn(&version, 1, State::Up);
            assert_eq!(homes(&version, &by_key()), before);
        }
    }

    #[test]
    fn a_greater_weight_takes_keys_from_others_and_moves_none_between_them() {
        let before = homes(&pool(&[1, 1, 1]), &by_key());
        let after = homes(&pool(&[1, 3, 1]), &by_key());
        for (before, after) in before.iter().zip(&after) {
            assert!(before == after || *after == 1);
        }
    }

    #[test]
    fn the_keys_of_one_endpoint_are_not_lost_to_one_other() {
        let version = pool(&[1; 5]);
        let before = homes(&version, &by_key());
        turn(&version, 0, State::Down);
        let after = homes(&version, &by_key());
        let moved = before.iter().zip(after).filter(|(home, _)| **home == 0);
        let heirs: Vec<_> = moved.map(|(_, after)| after).collect();
        for heir in 1..5 {
            let keys = count(&heirs, heir);
            assert!(keys.abs_diff(heirs.len() as u64 / 4) <= 150, "{keys}");
        }
    }

    #[test]
    fn a_hot_key_fills_its_endpoint_to_a_quarter_above_its_share_and_no_more() {
        let (version, settings) = (pool(&[1, 1, 2]), by_key());
        let ask = Ask {
            key: Some(42),
            ..ask(&settings, 7)
        };
        let mut inflight = [0; 3];
        for running in 1..=400_u32 {
            inflight[position(&version, &ask)] += 1;
            load(&version, &inflight);
            for (inflight, weight) in inflight.iter().zip([1.0, 1.0, 2.0]) {
                let bound = (1.25 * f64::from(running) * weight / 4.0).ceil();
                assert!(f64::from(*inflight) <= bound, "{inflight} of {running}");
            }
        }
    }

    #[test]
    fn without_a_key_chance_decides() {
        let (version, settings) = (pool(&[1, 1]), by_key());
        let picks: Vec<_> = [0, u64::MAX]
            .map(|random| position(&version, &ask(&settings, random)))
            .into();
        assert_eq!(picks, [0, 1]);
    }
}
