//! One comparison as increments of counters.

use std::time::Duration;

use crate::judge::compare::Verdict;
use crate::model::decode::Fields;
use crate::stats::histogram;

/// A path at which something differs from the first answer of `base`: in the candidate's answer,
/// in the second one of `base`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    /// The path.
    pub path: String,
    /// In the candidate's.
    pub candidate: bool,
    /// In the second one of `base`.
    pub noise: bool,
}

/// How long both took over the same request, asked by the same client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// The candidate.
    pub candidate: Duration,
    /// `base`.
    pub base: Duration,
}

/// Steps of a ratio of times in an octave, as of `histogram`.
pub(super) const STEPS: f64 = 16.0;
/// The furthest step that is told apart: a thousand times as long.
const STEP_MAX: f64 = 160.0;

/// What a comparison of the candidate's answer adds, and that of the second answer of `base` with
/// its first one, where it was asked again.
#[must_use]
pub fn counts(
    candidate: &Verdict,
    noise: Option<&Verdict>,
    times: Option<Times>,
) -> Vec<(String, u64)> {
    let mut counts = Vec::new();
    let mut count = |field: String| counts.push((field, 1));
    count(candidate.pair.name().to_owned());
    count(format!("class.{}", candidate.candidate.name()));
    count(format!("base_class.{}", candidate.base.name()));
    if let Some(differs) = &candidate.differences {
        count("compared".to_owned());
        if differs.is_empty() {
            count("equal".to_owned());
        }
        if let Some(noise) = noise.and_then(|noise| noise.differences.as_ref()) {
            count("triples".to_owned());
            match (differs.is_empty(), noise.is_empty()) {
                (false, true) => count("answers.candidate_only".to_owned()),
                (true, false) => count("answers.noise_only".to_owned()),
                (false, false) => count("answers.both".to_owned()),
                (true, true) => {}
            }
        }
    }
    if let Some(Times { candidate, base }) = times {
        count(format!("time.candidate.{}", bucket(candidate)));
        count(format!("time.base.{}", bucket(base)));
        let ratio = candidate.as_secs_f64().max(1e-6) / base.as_secs_f64().max(1e-6);
        let step = (ratio.log2() * STEPS).round().clamp(-STEP_MAX, STEP_MAX);
        count(format!("ratio.{step}"));
    }
    counts
}

/// The fine bucket of a time.
fn bucket(time: Duration) -> usize {
    histogram::bucket(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

/// Ratios of times less than so many steps from 1, 6 % up and down, say nothing.
const ALIKE: f64 = 2.0;

/// In how many pairs the candidate took clearly longer than `base`, in how many `base` did, and in
/// how many neither; from counters of ratios.
pub(super) fn slower(results: &Fields) -> [u64; 3] {
    let mut counts = [0; 3];
    for (field, count) in results {
        let step = field.strip_prefix("ratio.").and_then(|it| it.parse().ok());
        let (Some(step), Ok(count)) = (step, count.parse::<u64>()) else {
            continue;
        };
        let [slower, faster, alike] = &mut counts;
        let which = match step {
            _ if f64::abs(step) < ALIKE => alike,
            _ if step > 0.0 => slower,
            _ => faster,
        };
        *which += count;
    }
    counts
}

/// The paths at which either differs; none where one of the three answers cannot be compared.
#[must_use]
pub fn marks(candidate: &Verdict, noise: Option<&Verdict>) -> Vec<Marked> {
    let noise = noise.and_then(|noise| noise.differences.as_ref());
    let (Some(differs), Some(noise)) = (&candidate.differences, noise) else {
        return Vec::new();
    };
    let only_noise = noise.keys().filter(|path| !differs.contains_key(*path));
    let paths = differs.keys().chain(only_noise);
    paths
        .map(|path| Marked {
            path: path.to_string(),
            candidate: differs.contains_key(path),
            noise: noise.contains_key(path),
        })
        .collect()
}

/// The counter of a score: the candidate's minus that of `base`, -1 to 1, in steps of a tenth.
#[must_use]
pub fn scored(difference: f64) -> String {
    let tenths = (difference.clamp(-1.0, 1.0) * 10.0).round() / 10.0;
    // Zero has a sign of its own.
    format!("score.{:+.1}", tenths + 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_told_apart_in_tenths() {
        for (difference, counter) in [
            (0.0, "score.+0.0"),
            (-0.0, "score.+0.0"),
            (-0.04, "score.+0.0"),
            (0.25, "score.+0.3"),
            (-2.0, "score.-1.0"),
            (1.0, "score.+1.0"),
        ] {
            assert_eq!(scored(difference), counter, "{difference}");
        }
    }
}
