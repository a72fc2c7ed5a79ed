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
