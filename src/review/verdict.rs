//! What the counters of a candidate prove by now: the bets of `judge` over what the worker and
//! people counted, each question by itself, with the chances of error that rollouts have by default.

use serde::Serialize;

use super::Picture;
use super::count::slower;
use crate::judge::betting::{Bet, PAIR, SCORES};
use crate::judge::trial::{ln_needed, part};
use crate::model::decode::Fields;

/// The chance that a candidate which is as good is called worse, all questions together.
const ALPHA: f64 = 0.01;
/// The chance that one which is worse by the margin is called fine.
const UNPROVEN: f64 = 0.05;
/// Answers may be bad, or differ, by so much more often.
const TOLERANCE: f64 = 0.001;
/// Fine answers are bad less than so much more often.
const ERRORS_MARGIN: f64 = 0.01;
/// Fine scores, labels and times are worse by less than this.
const MARGIN: f64 = 0.1;
/// A candidate that is slower in so much more than half of all pairs is not called slower yet.
const TIMES_TOLERANCE: f64 = 0.02;
/// Where the scorer said nothing of more than this share of the pairs, what it said of the others
/// proves nothing.
const UNSCORED_MAX: f64 = 0.2;

/// What is proven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Proven {
    /// Nothing yet.
    #[default]
    Open,
    /// The candidate is worse.
    Worse,
    /// The candidate is not worse by the margin.
    Fine,
    /// Too much is missing to say anything.
    Inconclusive,
}

/// What the counters say to one question.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// What is proven.
    pub proven: Proven,
    /// By so many pairs.
    pub pairs: u64,
    /// The logarithm of the evidence that the candidate is worse, and of what is needed.
    pub ln_harm: [f64; 2],
    /// The same that it is fine; `None`: that is not asked.
    pub ln_safety: Option<[f64; 2]>,
}

/// What is proven of a candidate; `None` where nothing was counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Findings {
    /// Whether its answers are bad more often.
    pub errors: Option<Finding>,
    /// Whether they differ more often than those of `base` from each other.
    pub answers: Option<Finding>,
    /// Whether it takes longer.
    pub latency: Option<Finding>,
    /// Whether the scorer finds it worse.
    pub scores: Option<Finding>,
    /// Whether people do.
    pub labels: Option<Finding>,
}

impl Finding {
    fn of(values: &[f64], counts: &[u64], tolerance: f64, alpha: f64, margin: Option<f64>) -> Self {
        let harm = [Bet::harm(values, tolerance).ln_e(counts), ln_needed(alpha)];
        let safety = |margin| {
            [
                Bet::safety(values, margin).ln_e(counts),
                ln_needed(UNPROVEN),
            ]
        };
        let safety = margin.map(safety);
        let is_proven = |[ln_e, needed]: [f64; 2]| ln_e >= needed;
        let proven = if is_proven(harm) {
            Proven::Worse
        } else if safety.is_some_and(is_proven) {
            Proven::Fine
        } else {
            Proven::Open
        };
        Self {
            proven,
            pairs: counts.iter().sum(),
            ln_harm: harm,
            ln_safety: safety,
        }
    }
}

impl Findings {
    /// What these counters prove.
    #[must_use]
    pub fn of(results: &Fields) -> Self {
        let counter = |name: &str| -> u64 {
            let text = results.get(name);
            text.and_then(|text| text.parse().ok()).unwrap_or(0)
        };
        let asked = |finding: Finding| (finding.pairs > 0).then_some(finding);
        let pairs = |worse, better, all: u64| {
            [
                worse,
                better,
                all.saturating_sub(worse).saturating_sub(better),
            ]
        };
        let (worse, better) = (counter("candidate_bad_only"), counter("base_bad_only"));
        let all = worse + better + counter("both_ok") + counter("both_bad");
        let errors = pairs(worse, better, all);
        let (worse, better) = (
            counter("answers.candidate_only"),
            counter("answers.noise_only"),
        );
        let answers = pairs(worse, better, counter("triples"));
        let labels = ["loss", "win", "tie"].map(|it| counter(&format!("label.{it}")));
        let of_answers = ALPHA * part::SHADOW_ANSWERS;
        Self {
            errors: asked(Finding::of(
                &PAIR,
                &errors,
                TOLERANCE,
                ALPHA * part::SHADOW_ERRORS,
                Some(ERRORS_MARGIN),
            )),
            answers: asked(Finding::of(&PAIR, &answers, TOLERANCE, of_answers, None)),
            latency: asked(Finding::of(
                &PAIR,
                &slower(results),
                TIMES_TOLERANCE,
                ALPHA * 3.0 * part::LIVE_LATENCY,
                Some(MARGIN),
            )),
            scores: scores(results, of_answers),
            labels: asked(Finding::of(&PAIR, &labels, 0.0, of_answers, Some(MARGIN))),
        }
    }
}

fn scores(results: &Fields, alpha: f64) -> Option<Finding> {
    let counts = SCORES.map(|worse| {
        // A score is the candidate's minus that of `base`, Z how much lower it is.
        let text = results.get(&super::scored(-worse));
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    });
    let scored: u64 = counts.iter().sum();
    let mut finding = Finding::of(&SCORES, &counts, 0.0, alpha, Some(MARGIN));
    if is_unscored(results) {
        finding.proven = Proven::Inconclusive;
    }
    (scored > 0 || finding.proven == Proven::Inconclusive).then_some(finding)
}

/// Whether the scorer said nothing of so many pairs that its scores prove nothing.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub fn is_unscored(results: &Fields) -> bool {
    let (unscored, asked) = scorings(results);
    unscored as f64 > UNSCORED_MAX * asked as f64
}

/// Of how many pairs the scorer said nothing, and of how many it was asked.
#[must_use]
pub fn scorings(results: &Fields) -> (u64, u64) {
    let number = |text: &String| text.parse::<u64>().unwrap_or(0);
    let unscored = results.get("unscored").map_or(0, number);
    let scored = results
        .iter()
        .filter(|(field, _)| field.starts_with("score."));
    let scored: u64 = scored.map(|(_, text)| number(text)).sum();
    (unscored, unscored + scored)
}

/// One line: each question with its answer.
pub(super) fn line(picture: &Picture) -> String {
    let Findings {
        errors,
        answers,
        latency,
        scores,
        labels,
    } = &picture.findings;
    let all = [
        ("errors", errors),
        ("answers", answers),
        ("latency", latency),
        ("scores", scores),
        ("labels", labels),
    ];
    let said = all.into_iter().filter_map(|(question, finding)| {
        let proven = match finding.as_ref()?.proven {
            Proven::Open => "open",
            Proven::Worse => "worse",
            Proven::Fine => "fine",
            Proven::Inconclusive => "inconclusive",
        };
        Some(format!("{question} {proven}"))
    });
    said.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::Proven::{Fine, Inconclusive, Open, Worse};
    use super::*;

    fn findings(counters: &[(&str, u64)]) -> Findings {
        let fields = counters.iter();
        let fields = fields.map(|(field, count)| ((*field).to_owned(), count.to_string()));
        Findings::of(&fields.collect())
    }

    /// Counters, and what they prove.
    type Case = (&'static [(&'static str, u64)], Option<Proven>);

    #[track_caller]
    fn check(of: fn(Findings) -> Option<Finding>, cases: &[Case]) {
        for (counters, expected) in cases {
            let got = of(findings(counters)).map(|finding| finding.proven);
            assert_eq!(got, *expected, "{counters:?}");
        }
    }

    #[test]
    fn bad_answers_count_by_pairs() {
        let cases: [Case; 5] = [
            (&[], None),
            (&[("both_ok", 100)], Some(Open)),
            (&[("both_ok", 1_000)], Some(Fine)),
            (&[("both_ok", 999), ("candidate_bad_only", 20)], Some(Worse)),
            (&[("both_ok", 999), ("base_bad_only", 20)], Some(Fine)),
        ];
        check(|it| it.errors, &cases);
    }

    #[test]
    fn differences_and_times_count_by_triples() {
        let cases: [Case; 2] = [
            (
                &[("triples", 500), ("answers.candidate_only", 30)],
                Some(Worse),
            ),
            (&[("triples", 500), ("answers.both", 400)], Some(Open)),
        ];
        check(|it| it.answers, &cases);
        let cases: [Case; 3] = [
            (&[("ratio.4", 100)], Some(Worse)),
            (&[("ratio.1", 1_000)], Some(Fine)),
            (&[("ratio.-160", 200), ("ratio.160", 200)], Some(Open)),
        ];
        check(|it| it.latency, &cases);
    }

    #[test]
    fn too_few_scores_prove_nothing() {
        let cases: [Case; 5] = [
            (&[("score.-0.3", 300), ("score.+0.1", 100)], Some(Worse)),
            (&[("score.+0.3", 300)], Some(Fine)),
            (&[("score.-0.3", 300), ("unscored", 75)], Some(Worse)),
            (&[("score.-0.3", 300), ("unscored", 76)], Some(Inconclusive)),
            (&[("unscored", 1)], Some(Inconclusive)),
        ];
        check(|it| it.scores, &cases);
    }

    #[test]
    fn labels_count_by_what_most_reviewers_say() {
        let cases: [Case; 4] = [
            (&[("label.loss", 140), ("label.win", 60)], Some(Worse)),
            (&[("label.loss", 60), ("label.win", 140)], Some(Fine)),
            (&[("label.tie", 20)], Some(Open)),
            (&[("label.done", 20)], None),
        ];
        check(|it| it.labels, &cases);
    }
}
