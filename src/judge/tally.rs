//! Many comparisons as counters: classes, pairs, and for each path how often the candidate differs
//! there and how often `base` differs from itself.
//!
//! Counters only add up, so that those of many workers, written by increments, are the same as
//! those of one.

use std::collections::BTreeMap;

use crate::model::comparison::Class;

use super::compare::{OTHER, PATHS_MAX, Pair, Verdict};

/// What is counted of many comparisons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Which sides were bad, by pair.
    pub pairs: BTreeMap<Pair, u64>,
    /// What the candidate's answers came to.
    pub candidate: BTreeMap<Class, u64>,
    /// What the answers of `base` came to.
    pub base: BTreeMap<Class, u64>,
    /// Pairs whose answers were compared.
    pub compared: u64,
    /// Of these, pairs without a difference.
    pub equal: u64,
    /// Pairs for which `base` was asked again, and both answers were compared with its first one.
    pub triples: u64,
    /// Of these, by whether there was any difference.
    pub answers: Marks,
    /// Of these, by path; at most [`PATHS_MAX`] paths, then [`OTHER`].
    pub paths: BTreeMap<Box<str>, Marks>,
}

/// In how many triples something differs from the first answer of `base`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Only in the candidate's answer.
    pub candidate_only: u64,
    /// Only in the second answer of `base`: noise.
    pub noise_only: u64,
    /// In both.
    pub both: u64,
}

impl Marks {
    /// Of so many triples: only the candidate differs, only the second answer of `base`, neither or
    /// both; in this order.
    #[must_use]
    pub fn pair(&self, triples: u64) -> [u64; 3] {
        let rest = triples.saturating_sub(self.candidate_only + self.noise_only);
        [self.candidate_only, self.noise_only, rest]
    }

    pub(super) fn mark(&mut self, candidate: bool, noise: bool) {
        match (candidate, noise) {
            (true, false) => self.candidate_only += 1,
            (false, true) => self.noise_only += 1,
            (true, true) => self.both += 1,
            (false, false) => {}
        }
    }

    fn add(&mut self, other: Self) {
        self.candidate_only += other.candidate_only;
        self.noise_only += other.noise_only;
        self.both += other.both;
    }
}

impl Tally {
    /// Counts one comparison of the candidate with `base`, and that of the second answer of `base`
    /// with its first one, where it was asked again.
    pub fn count(&mut self, candidate: &Verdict, noise: Option<&Verdict>) {
        *self.pairs.entry(candidate.pair).or_default() += 1;
        *self.candidate.entry(candidate.candidate).or_default() += 1;
        *self.base.entry(candidate.base).or_default() += 1;
        let Some(differs) = &candidate.differences else {
            return;
        };
        self.compared += 1;
        self.equal += u64::from(differs.is_empty());
        let Some(noise) = noise.and_then(|noise| noise.differences.as_ref()) else {
            return;
        };
        self.triples += 1;
        self.answers.mark(!differs.is_empty(), !noise.is_empty());
        // A path beyond the most counts as one with all others of its kind, once a triple.
        let mut other = (false, false);
        for path in differs
            .keys()
            .chain(noise.keys().filter(|path| !differs.contains_key(*path)))
        {
            let (in_candidate, in_noise) = (differs.contains_key(path), noise.contains_key(path));
            if self.has_room_for(path) {
                let marks = self.paths.entry(path.clone()).or_default();
                marks.mark(in_candidate, in_noise);
            } else {
                other = (other.0 || in_candidate, other.1 || in_noise);
            }
        }
        if other != (false, false) {
            self.paths
                .entry(OTHER.into())
                .or_default()
                .mark(other.0, other.1);
        }
    }

    /// Adds what another worker counted.
    pub fn merge(&mut self, other: &Self) {
        for (pair, count) in &other.pairs {
            *self.pairs.entry(*pair).or_default() += count;
        }
        for (class, count) in &other.candidate {
            *self.candidate.entry(*class).or_default() += count;
        }
        for (class, count) in &other.base {
            *self.base.entry(*class).or_default() += count;
        }
        self.compared += other.compared;
        self.equal += other.equal;
        self.triples += other.triples;
        self.answers.add(other.answers);
        for (path, marks) in &other.paths {
            let path = if self.has_room_for(path) { path } else { OTHER };
            self.paths.entry(path.into()).or_default().add(*marks);
        }
    }

    /// The share of compared pairs without a difference; `None` where nothing was compared.
    #[must_use]
    pub fn match_rate(&self) -> Option<f64> {
        share(self.equal, self.compared)
    }

    /// How much more often the candidate differs from `base` than `base` differs from itself, -1
    /// to 1; `None` where `base` was never asked again.
    #[must_use]
    pub fn excess_mismatch(&self) -> Option<f64> {
        let candidate = share(self.answers.candidate_only, self.triples)?;
        let noise = share(self.answers.noise_only, self.triples)?;
        Some(candidate - noise)
    }

    fn has_room_for(&self, path: &str) -> bool {
        path != OTHER && (self.paths.contains_key(path) || self.named() < PATHS_MAX)
    }

    fn named(&self) -> usize {
        self.paths.len() - usize::from(self.paths.contains_key(OTHER))
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::compare::{Ending, Rules, Side, compare};

    fn verdict(base: &str, candidate: &str) -> Verdict {
        let side = |body| Side {
            ending: Ending::Whole,
            status: 200,
            content_type: Some("application/json"),
            body,
        };
        let (base, candidate) = (side(base.as_bytes()), side(candidate.as_bytes()));
        compare(&Rules::default(), &base, &candidate)
    }

    #[test]
    fn noise_is_what_base_differs_from_itself_in() {
        let mut tally = Tally::default();
        let base = r#"{"ts":1,"label":"a"}"#;
        for (candidate, again) in [
            (r#"{"ts":2,"label":"a"}"#, Some(r#"{"ts":3,"label":"a"}"#)),
            (r#"{"ts":1,"label":"b"}"#, Some(r#"{"ts":3,"label":"a"}"#)),
            (r#"{"ts":1,"label":"a"}"#, Some(base)),
            (r#"{"ts":1,"label":"b"}"#, None),
            (r#"{"status":false}"#, Some(base)),
        ] {
            let noise = again.map(|again| verdict(base, again));
            tally.count(&verdict(base, candidate), noise.as_ref());
        }
        assert_eq!(tally.pairs[&Pair::BothOk], 4);
        assert_eq!(tally.pairs[&Pair::CandidateBadOnly], 1);
        assert_eq!(tally.candidate[&Class::Business], 1);
        assert_eq!((tally.compared, tally.equal, tally.triples), (4, 1, 3));
        let marks = |candidate_only, noise_only, both| Marks {
            candidate_only,
            noise_only,
            both,
        };
        assert_eq!(tally.paths["/ts"], marks(0, 1, 1));
        assert_eq!(tally.paths["/label"], marks(1, 0, 0));
        assert_eq!(tally.answers, marks(0, 0, 2));
        assert_eq!(tally.match_rate(), Some(0.25));
        assert_eq!(tally.excess_mismatch(), Some(0.0));
    }

    #[test]
    fn paths_beyond_the_most_are_one() {
        let (mut one, mut other) = (Tally::default(), Tally::default());
        for n in 0..PATHS_MAX + 100 {
            let candidate = format!(r#"{{"a{n}":1}}"#);
            let tally = if n % 2 == 0 { &mut one } else { &mut other };
            tally.count(&verdict("{}", &candidate), Some(&verdict("{}", "{}")));
        }
        one.merge(&other);
        assert_eq!(one.paths.len(), PATHS_MAX + 1);
        assert_eq!(one.paths[OTHER].candidate_only, 100);
        assert_eq!(one.answers.candidate_only, PATHS_MAX as u64 + 100);
        assert_eq!(one.excess_mismatch(), Some(1.0));
    }
}
