//! The endpoint with the fewest requests in flight, over its weight.

use std::sync::Arc;

use super::{Candidate, turn};
use crate::model::table::{Endpoint, Version};

/// The candidate with the fewest requests in flight over its weight; several take turns by weight.
pub(super) fn pick<'v>(
    candidates: &[Candidate<'v>],
    version: &Version,
) -> Option<&'v Arc<Endpoint>> {
    let loads = candidates.iter().map(Candidate::load);
    let least = loads.fold(f32::INFINITY, f32::min);
    let idlest = || candidates.iter().filter(|one| one.load() <= least);
    // Where a load grew meanwhile nobody is left: then all are as good.
    let found = turn::among(&version.rotor, idlest).or(candidates.first());
    Some(found?.endpoint)
}
