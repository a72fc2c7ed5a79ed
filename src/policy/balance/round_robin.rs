//! In turn, whatever the weights.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Candidate;
use crate::model::table::{Endpoint, Version};

/// The next of the candidates; all threads take turns together.
pub(super) fn pick<'v>(
    candidates: &[Candidate<'v>],
    version: &Version,
) -> Option<&'v Arc<Endpoint>> {
    let turn = version.rotor.fetch_add(1, Ordering::Relaxed);
    let position = turn.checked_rem(candidates.len())?;
    Some(candidates.get(position)?.endpoint)
}
