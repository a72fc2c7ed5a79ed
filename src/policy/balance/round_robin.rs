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

#[cfg(test)]
mod tests {
    use super::super::fixture::{hits, pool, settings};
    use crate::model::settings::Balance;

    #[test]
    fn everybody_with_a_weight_gets_the_same() {
        let settings = settings(Balance::RoundRobin);
        assert_eq!(hits(&pool(&[1, 1, 1]), &settings, 9), [3, 3, 3]);
        assert_eq!(hits(&pool(&[5, 1, 1]), &settings, 9), [3, 3, 3]);
        assert_eq!(hits(&pool(&[0, 1, 1]), &settings, 10), [0, 5, 5]);
        assert_eq!(hits(&pool(&[1; 40]), &settings, 80), [2; 40]);
    }
}
