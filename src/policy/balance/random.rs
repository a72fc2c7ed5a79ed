//! By chance, by weight.

use std::sync::Arc;

use super::{Ask, Candidate, turn, unit};
use crate::model::table::Endpoint;

/// Each candidate with the chance that its weight gives it.
pub(super) fn pick<'v>(candidates: &[Candidate<'v>], ask: &Ask<'_>) -> Option<&'v Arc<Endpoint>> {
    let sum: f32 = candidates.iter().map(|candidate| candidate.weight).sum();
    let drawn = turn::by_share(unit(ask.random) * sum, || candidates.iter());
    Some(drawn?.endpoint)
}
