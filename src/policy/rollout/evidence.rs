//! What the counters of a trial say: how much evidence there is for each question, and how much is
//! needed.
//!
//! The chance of a false rollback over the whole rollout, 1 − `confidence`, is divided between the
//! questions; see `judge::trial::part`. Safety is asked for by `proof`.

use super::memory::Memory;
use super::shares::percent;
use crate::judge::assignment;
use crate::judge::bake::{self, Counts};
use crate::judge::betting::{Bet, PAIR};
use crate::judge::tally::Marks;
use crate::judge::trial::{Bound, Trial, Unit, ln_needed, part};
use crate::model::decode::Fields;
use crate::model::rollout::Rollout;

/// No answer is ever looked for behind this many requests.
const NEEDED_MAX: u64 = 1 << 40;

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counters {
    /// The number of the trial that the live counts belong to.
    pub number: u64,
    /// Live counts.
    pub trial: Trial,
    /// Comparisons of copies, since there are any.
    pub shadow: ShadowCounts,
}

/// Comparisons of copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShadowCounts {
    /// Pairs in which only the candidate is bad.
    pub candidate_bad_only: u64,
    /// Pairs in which only `base` is.
    pub base_bad_only: u64,
    /// All other pairs.
    pub other: u64,
    /// Pairs for which `base` was asked again.
    pub triples: u64,
    /// Of these, those in which only the candidate's answer differs.
    pub candidate_only: u64,
    /// Of these, those in which only the second answer of `base` does.
    pub noise_only: u64,
}

impl ShadowCounts {
    /// From `smartlink:shadow-results`.
    #[must_use]
    pub fn from_results(fields: &Fields) -> Self {
        let number = |name: &str| {
            let text = fields.get(name).map(String::as_str);
            text.and_then(|text| text.parse().ok()).unwrap_or(0_u64)
        };
        Self {
            candidate_bad_only: number("candidate_bad_only"),
            base_bad_only: number("base_bad_only"),
            other: number("both_ok").saturating_add(number("both_bad")),
            triples: number("triples"),
            candidate_only: number("answers.candidate_only"),
            noise_only: number("answers.noise_only"),
        }
    }

    fn array(self) -> [u64; 6] {
        [
            self.candidate_bad_only,
            self.base_bad_only,
            self.other,
            self.triples,
            self.candidate_only,
            self.noise_only,
        ]
    }

    fn from_array(counts: [u64; 6]) -> Self {
        let [
            candidate_bad_only,
            base_bad_only,
            other,
            triples,
            candidate_only,
            noise_only,
        ] = counts;
        Self {
            candidate_bad_only,
            base_bad_only,
            other,
            triples,
            candidate_only,
            noise_only,
        }
    }

    /// Six numbers in the order of the fields.
    #[must_use]
    pub fn to_list(self) -> String {
        self.array().map(|count| count.to_string()).join(",")
    }

    /// What `to_list` wrote; nothing where it did not.
    #[must_use]
    pub fn from_list(list: &str) -> Self {
        let parts: Vec<u64> = list
            .split(',')
            .map_while(|part| part.parse().ok())
            .collect();
        <[u64; 6]>::try_from(parts).map_or(Self::default(), Self::from_array)
    }

    /// What came after `before`; all, where there is less than that: somebody began anew.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        let pairs = self.array().into_iter().zip(before.array());
        let less: Option<Vec<u64>> = pairs.map(|(now, then)| now.checked_sub(then)).collect();
        let less = less.and_then(|less| <[u64; 6]>::try_from(less).ok());
        less.map_or(self, Self::from_array)
    }

    /// All pairs.
    #[must_use]
    pub fn pairs(self) -> u64 {
        self.candidate_bad_only + self.base_bad_only + self.other
    }
}

/// Evidence for one thing, and what is needed of it, as logarithms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// ln E.
    pub ln_e: f64,
    /// From where on it is proven.
    pub needed: f64,
}

impl Line {
    fn new(ln_e: f64, probability: f64) -> Self {
        let needed = ln_needed(probability);
        Self { ln_e, needed }
    }

    /// Whether it is proven.
    #[must_use]
    pub fn is_proven(self) -> bool {
        self.ln_e >= self.needed
    }
}

impl std::fmt::Display for Line {
    /// `3.1 of 286`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let needed = self.needed.exp().round();
        match self.ln_e.exp() {
            e if e < 999.5 => write!(f, "{e:.1} of {needed}"),
            e if e.is_finite() => write!(f, "{e:.1e} of {needed}"),
            _ => write!(f, "1e308 of {needed}"),
        }
    }
}

/// What the counters say.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// That the candidate fails copies more often.
    pub shadow_errors: Line,
    /// That too many of its answers differ; where that is asked.
    pub shadow_answers: Option<Line>,
    /// That it does not fail copies more often by the margin.
    pub shadow_safety: Line,
    /// That enough of its answers match; where that is asked.
    pub shadow_match: Option<Line>,
    /// That it fails users more often.
    pub errors: Line,
    /// That it is slower at each of the bounds; where they are frozen, and callers do not stay.
    pub slow: Option<[Line; 3]>,
    /// That it does not fail users more often by the margin.
    pub safety: Line,
    /// That it fails more often than `base` did, now that it has everything.
    pub bake: Option<Line>,
    /// That requests are not divided as the weights say.
    pub misdivided: Line,
    /// Pairs compared in this trial.
    pub pairs: u64,
    /// Of these, pairs for which `base` was asked again.
    pub triples: u64,
    /// The candidate's requests in this trial; where callers stay in a version, its callers.
    pub candidate: u64,
    /// The same of both.
    pub requests: u64,
    /// How many of the candidate's prove safety where nothing fails.
    pub needed: u64,
}

impl Evidence {
    /// What these counters say of the trial that is remembered.
    #[must_use]
    pub fn weigh(policy: &Rollout, memory: &Memory, unit: Unit, counters: &Counters) -> Self {
        let none = Trial::default();
        let trial = if counters.number == memory.trial && memory.trial > 0 {
            &counters.trial
        } else {
            &none
        };
        let shadow = counters.shadow.since(memory.shadow_before);
        let (alpha, unproven) = (1.0 - policy.confidence, 1.0 - policy.proof);
        let (tolerance, margin) = (policy.error_tolerance, policy.max_error_increase);
        let pairs = [
            shadow.candidate_bad_only,
            shadow.base_bad_only,
            shadow.other,
        ];
        let marks = Marks {
            candidate_only: shadow.candidate_only,
            noise_only: shadow.noise_only,
            both: 0,
        };
        let answers = marks.pair(shadow.triples);
        // More different answers than this are too many; fewer are fine.
        let differing = policy.min_match.map(|least| (1.0 - least).max(tolerance));
        // Requests of one caller are slow together: only independent ones are held to the bounds.
        let bounds = memory.slow.filter(|_| unit == Unit::Request);
        let slow = bounds.map(|slow| {
            let [p50, p90, p99] = slow.share;
            let line = |(bound, centre)| {
                Line::new(trial.slowness(bound, centre), alpha * part::LIVE_LATENCY)
            };
            [(Bound::P50, p50), (Bound::P90, p90), (Bound::P99, p99)].map(line)
        });
        Self {
            shadow_errors: Line::new(
                Bet::harm(&PAIR, tolerance).ln_e(&pairs),
                alpha * part::SHADOW_ERRORS,
            ),
            shadow_answers: differing.map(|most| {
                let ln_e = Bet::harm(&PAIR, most).ln_e(&answers);
                Line::new(ln_e, alpha * part::SHADOW_ANSWERS)
            }),
            shadow_safety: Line::new(Bet::safety(&PAIR, margin).ln_e(&pairs), unproven),
            shadow_match: differing
                .map(|most| Line::new(Bet::safety(&PAIR, most).ln_e(&answers), unproven)),
            errors: Line::new(trial.harm(unit, tolerance), alpha * part::LIVE_ERRORS),
            slow,
            safety: Line::new(trial.safety(unit, margin), unproven),
            bake: baked(memory, trial),
            misdivided: Line::new(trial.misdivided(unit), 1.0 / assignment::DOUBT),
            pairs: shadow.pairs(),
            triples: shadow.triples,
            candidate: trial.of_candidate(unit),
            requests: trial.of_both(unit),
            needed: needed(margin, unproven),
        }
    }

    /// What is proven against the candidate, in words; `None` while nothing is.
    #[must_use]
    pub fn harm(&self) -> Option<String> {
        let mut proven = Vec::new();
        let mut look = |line: Option<Line>, what: &str| {
            if let Some(line) = line.filter(|line| line.is_proven()) {
                proven.push(format!("{what} (evidence {line})"));
            }
        };
        look(
            Some(self.shadow_errors),
            "it fails copies more often than base",
        );
        look(
            self.shadow_answers,
            "fewer of its answers match than min_match",
        );
        look(Some(self.errors), "it fails users more often than base");
        for (at, name) in ["p50", "p90", "p99"].into_iter().enumerate() {
            let line = self.slow.as_ref().and_then(|slow| slow.get(at)).copied();
            look(line, &format!("it is slower than base at its {name}"));
        }
        look(
            self.bake,
            "it fails more often than base did before it had everything",
        );
        (!proven.is_empty()).then(|| proven.join("; "))
    }

    /// Whether copies prove that it is as good as `base`.
    #[must_use]
    pub fn is_safe_in_shadow(&self) -> bool {
        self.shadow_safety.is_proven() && self.shadow_match.is_none_or(Line::is_proven)
    }

    /// One line for people: evidence of what was looked at so far.
    #[must_use]
    pub fn line(&self) -> String {
        let mut lines = Vec::new();
        if self.pairs > 0 {
            let mut parts = vec![
                format!("shadow: harm errors {}", self.shadow_errors),
                format!("safety {}", self.shadow_safety),
            ];
            if let Some((harm, safe)) = self.shadow_answers.zip(self.shadow_match) {
                parts.push(format!("answers harm {harm}, match {safe}"));
            }
            parts.push(format!("{} pairs", self.pairs));
            lines.push(parts.join("; "));
        }
        if self.candidate > 0 || self.pairs == 0 {
            let mut harm = vec![format!("harm errors {}", self.errors)];
            let slow = self.slow.iter().flatten().zip(["p50", "p90", "p99"]);
            harm.extend(slow.map(|(line, name)| format!("latency {name} {line}")));
            let mut parts = vec![harm.join(", "), format!("safety {}", self.safety)];
            parts.extend(self.bake.map(|bake| format!("bake {bake}")));
            let (seen, needed) = (self.candidate, self.needed);
            parts.push(format!("{seen} of {needed} candidate requests"));
            lines.push(parts.join("; "));
        }
        lines.join(" | ")
    }
}

/// Evidence that the candidate, which has everything, fails more often than `base` did.
fn baked(memory: &Memory, trial: &Trial) -> Option<Line> {
    let (bad, all) = memory.bake_base?;
    let alone = trial.shares.get(&1000).map(|arms| arms.candidate)?;
    let candidate = Counts {
        bad: alone.bad,
        all: alone.requests,
    };
    let ln_e = bake::harm(Counts { bad, all }, candidate);
    Some(Line::new(ln_e, bake::ALPHA))
}

/// How many requests of the candidate prove safety where nothing fails; the same at any share.
fn needed(margin: f64, unproven: f64) -> u64 {
    let bet = Bet::safety(&PAIR, margin);
    // A live request of the candidate is worth what a pair is, at any share.
    let enough = |n: u64| bet.ln_e(&[0, 0, n]) >= ln_needed(unproven);
    let (mut low, mut high) = (0, 1);
    while !enough(high) && high < NEEDED_MAX {
        (low, high) = (high, 2 * high);
    }
    while high - low > 1 {
        let middle = low.midpoint(high);
        if enough(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// How long a step needs for so many requests of the candidate, in milliseconds, at the rate seen.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub(super) fn ms_for(requests: u64, share: u16, seen: u64, in_ms: u64) -> f64 {
    let rate = seen as f64 / in_ms.max(1) as f64;
    requests as f64 / (rate * f64::from(share) / 1000.0).max(1e-12)
}

/// `step 2 of 4, 5%`
pub(super) fn step_name(step: usize, of: usize, share: u16) -> String {
    format!("step {step} of {of}, {}", percent(share))
}
