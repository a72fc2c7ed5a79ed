//! Where slowness begins: bounds near the p50, p90 and p99 of `base`, frozen before the candidate
//! gets its first share.
//!
//! They come from the fine buckets of the last half minute where these hold enough requests, else
//! from the windows of the last hour, whose octaves count as evenly filled. A bound that is off
//! costs power, never validity: both versions are held against it at the same time.

use crate::judge::trial::freeze;
use crate::model::decode::Fields;
use crate::policy::rollout::Slow;
use crate::stats::histogram::{self, BUCKETS, STEPS};
use crate::stats::live::Fine;

/// The fewest requests in fine buckets that say how `base` is.
pub(super) const FINE_MIN: u64 = 500;
/// The fewest requests in windows that do.
pub(super) const COARSE_MIN: u64 = 100;

/// So much later is never slow: a process that began just now, or another core, costs as much.
const NOISE_US: u64 = 1_000;

/// How many requests of `base` fell into each fine bucket, and how many all were.
#[derive(Clone, Debug)]
pub(super) struct Base {
    counts: Vec<u64>,
}

impl Default for Base {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS + 1],
        }
    }
}

impl Base {
    /// From hashes of fine buckets.
    pub(super) fn fine<'f>(hashes: impl IntoIterator<Item = &'f Fields>) -> Self {
        let mut base = Self::default();
        for fields in hashes {
            let texts = fields
                .iter()
                .map(|(name, text)| (name.as_str(), text.as_str()));
            for (bucket, count) in Fine::parse(texts).buckets() {
                base.add(bucket.into(), count);
            }
        }
        base
    }

    /// From windows, each with cumulative counts by coarse bounds.
    pub(super) fn coarse<'f>(windows: impl IntoIterator<Item = &'f Fields>) -> Self {
        let mut base = Self::default();
        for fields in windows {
            let mut before = 0;
            for (octave, bound) in histogram::coarse_bounds().enumerate() {
                let text = fields.get(&format!("latency_us_le_{bound}"));
                let until = text.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
                base.spread(octave, until.saturating_sub(before));
                before = until.max(before);
            }
        }
        base
    }

    /// Fills the buckets up to a coarse bound, from the one before, as evenly as may be.
    fn spread(&mut self, octave: usize, count: u64) {
        let last = octave * STEPS;
        let buckets = if octave == 0 { 1 } else { STEPS };
        let (each, more) = (count / buckets as u64, count % buckets as u64);
        for at in 0..buckets {
            let extra = u64::from((at as u64) < more);
            self.add(last + 1 - buckets + at, each + extra);
        }
    }

    fn add(&mut self, bucket: usize, count: u64) {
        if let Some(at) = self.counts.get_mut(bucket) {
            *at += count;
        }
    }

    /// All requests.
    pub(super) fn requests(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The bounds, where the candidate may be `ratio` times slower, or by `NOISE_US` if that is more;
    /// rounded to whole buckets.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a ratio is at most 100, which is 213 buckets"
    )]
    pub(super) fn slow(&self, ratio: f64) -> Option<Slow> {
        let later = (ratio.log2() * STEPS as f64).round().max(0.0) as usize;
        let frozen = freeze(&self.counts)?;
        let bound = |bucket: usize| histogram::bound(bucket.min(BUCKETS - 1)).unwrap_or_default();
        Some(Slow {
            at_us: frozen.map(|(bucket, _)| bound(bucket)),
            candidate_at_us: frozen.map(|(bucket, _)| {
                let least = bound(bucket) + NOISE_US;
                let far_enough = (bucket + later..BUCKETS).find(|at| bound(*at) >= least);
                bound(far_enough.unwrap_or(BUCKETS))
            }),
            share: frozen.map(|(_, share)| share),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(fields: &[(&str, &str)]) -> Fields {
        let fields = fields.iter();
        fields
            .map(|(f, v)| ((*f).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn bounds_are_those_of_base_and_later_for_the_candidate() {
        let hash = fields(&[
            ("800", "50"),
            ("1600", "40"),
            ("12800", "9"),
            ("25600", "1"),
        ]);
        let base = Base::fine([&hash]);
        assert_eq!(base.requests(), 100);
        let slow = base.slow(1.2).unwrap();
        assert_eq!(slow.at_us, [800, 1600, 12_800]);
        // A millisecond, a millisecond, and a quarter of an octave: 1.19 times.
        assert_eq!(slow.candidate_at_us, [1822, 2633, 15_222]);
        let near = slow.share.iter().zip([0.5, 0.1, 0.01]);
        assert!(
            near.into_iter()
                .all(|(share, wanted)| (share - wanted).abs() < 1e-9)
        );
        assert_eq!(
            base.slow(2.0).unwrap().candidate_at_us,
            [1822, 3200, 25_600]
        );
        assert_eq!(Base::default().slow(1.2), None);
    }

    #[test]
    fn an_octave_of_a_window_is_evenly_filled() {
        let window = fields(&[
            ("latency_us_le_6400", "0"),
            ("latency_us_le_12800", "160"),
            ("latency_us_le_25600", "160"),
            ("latency_us_le_838860800", "160"),
        ]);
        let base = Base::coarse([&window, &window]);
        assert_eq!(base.requests(), 320);
        let slow = base.slow(1.2).unwrap();
        assert!((slow.share[0] - 0.5).abs() < 1e-9);
        // The middle of the octave, as logarithms go.
        assert_eq!(slow.at_us[0], 9051);
    }
}
