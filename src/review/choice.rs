//! What is left to chance, and decided by a hash so that everybody who asks again gets the same
//! answer.

/// How often `base` is asked again: up to so many triples, for this share of the pairs. What is wrong
/// in one answer of a hundred needs about two thousand triples to be told from noise; they are there
/// after five thousand pairs.
const AGAIN: [(u64, f64); 2] = [(200, 1.0), (2_500, 0.5)];
/// The share afterwards.
const AFTERWARDS: f64 = 0.1;

/// Whether `base` is asked again for this record, which shows how much it differs from itself;
/// `triples` is how often it was.
#[must_use]
pub fn asks_base_again(id: &str, triples: u64) -> bool {
    let stage = AGAIN.iter().find(|(most, _)| triples < *most);
    let share = stage.map_or(AFTERWARDS, |(_, share)| *share);
    point(&["noise", id]) < share
}

/// Whether the candidate is asked before `base` is asked again.
#[must_use]
pub fn asks_candidate_first(id: &str) -> bool {
    point(&["order", id]) < 0.5
}

/// Whether a pair is one of the share, chosen at random, that people are asked to judge.
#[must_use]
pub fn is_offered(id: &str, share: f64) -> bool {
    point(&["label", "random", id]) < share
}

/// Whether the answer of `base` stands on the left for this reviewer: they cannot know.
#[must_use]
pub fn has_base_left(pair: &str, reviewer: &str) -> bool {
    point(&["side", reviewer, pair]) < 0.5
}

/// A point in [0, 1) that these texts have: FNV-1a, its bits mixed as splitmix64 does.
pub(super) fn point(texts: &[&str]) -> f64 {
    let bytes = texts.iter().flat_map(|text| text.bytes().chain([0xff]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let high = u32::try_from((hash ^ (hash >> 31)) >> 32).unwrap_or(u32::MAX);
    f64::from(high) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_held_and_answers_stay_the_same() {
        let ids: Vec<String> = (0..10_000).map(|n| format!("request-{n}")).collect();
        let share = |of: &dyn Fn(&str) -> bool| ids.iter().filter(|id| of(id)).count();
        assert!(share(&|id| asks_base_again(id, 199)) == 10_000);
        assert!((4_800..5_200).contains(&share(&|id| asks_base_again(id, 200))));
        assert!((900..1_100).contains(&share(&|id| asks_base_again(id, 2_500))));
        assert!((4_800..5_200).contains(&share(&|id| asks_candidate_first(id))));
        assert!((4_800..5_200).contains(&share(&|id| has_base_left(id, "ann"))));
        assert!((400..600).contains(&share(&|id| is_offered(id, 0.05))));
        assert_eq!(share(&|id| is_offered(id, 0.0)), 0);
        assert_eq!(share(&|id| is_offered(id, 1.0)), 10_000);
        let both = |id: &str| has_base_left(id, "ann") == has_base_left(id, "bob");
        assert!((4_800..5_200).contains(&share(&both)));
    }
}
