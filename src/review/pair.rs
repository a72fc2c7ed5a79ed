//! Pairs for people: what they are shown, what they may say, how far they agree.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::example::json;
use super::{Heard, Told};
use crate::model::decode::Fields;
use crate::model::name::VersionName;
use crate::shadow::{Record, Request};

/// The most of an answer that a pair keeps, in bytes.
const ANSWER_MAX: usize = 1 << 20;

/// Two answers to one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// The request's `x-request-id`.
    pub id: String,
    /// The candidate.
    pub candidate: String,
    /// Why people are asked about it.
    pub chosen: Chosen,
    /// When the request came, in Unix milliseconds.
    pub started_ms: u64,
    /// What was asked.
    pub request: Request,
    /// Whether parts of the request or the answer were left out.
    pub redacted: bool,
    /// What `base` answered.
    pub base: Told,
    /// What the candidate answered.
    pub answer: Told,
    /// By how much the scorer finds the candidate's answer better, -1 to 1; `None` where it was not
    /// asked, or said nothing.
    pub score: Option<f64>,
}

/// Why people are asked about a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// At random: what they say of these is counted.
    Random,
    /// Because the answers differ.
    Disagreement,
}

impl Chosen {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Disagreement => "disagreement",
        }
    }
}

/// What a person says of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Choice {
    /// `base` is better.
    Base,
    /// The candidate is better.
    Candidate,
    /// They are as good.
    Tie,
    /// Both are bad.
    BothBad,
    /// Nothing.
    Skip,
}

impl Choice {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Base,
        Self::Candidate,
        Self::Tie,
        Self::BothBad,
        Self::Skip,
    ];

    /// Its name in `smartlink:label:...`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Candidate => "candidate",
            Self::Tie => "tie",
            Self::BothBad => "both_bad",
            Self::Skip => "skip",
        }
    }

    /// The choice of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|choice| choice.name() == name)
    }

    /// What a key says: `a` for the left answer, `b` for the right one, `e` equal, `x` both bad,
    /// `s` skip.
    #[must_use]
    pub fn pressed(key: char, base_left: bool) -> Option<Self> {
        match key.to_ascii_lowercase() {
            'a' if base_left => Some(Self::Base),
            'a' => Some(Self::Candidate),
            'b' if base_left => Some(Self::Candidate),
            'b' => Some(Self::Base),
            'e' => Some(Self::Tie),
            'x' => Some(Self::BothBad),
            's' => Some(Self::Skip),
            _ => None,
        }
    }
}

impl Pair {
    /// The pair of a record and the candidate's answer.
    #[must_use]
    pub fn of(
        record: &Record,
        chosen: Chosen,
        candidate: &VersionName,
        base: &Heard,
        answer: &Heard,
    ) -> Self {
        Self {
            id: record.id.clone(),
            candidate: candidate.to_string(),
            chosen,
            started_ms: record.started_ms,
            request: record.request.clone(),
            redacted: record.redacted.iter().any(|it| it.starts_with('/')),
            base: Told::of(base, ANSWER_MAX),
            answer: Told::of(answer, ANSWER_MAX),
            score: None,
        }
    }

    /// The fields of its entry.
    #[must_use]
    pub fn fields(&self, name: &str) -> Vec<(&'static str, String)> {
        let mut fields = vec![
            ("pair", name.to_owned()),
            ("id", self.id.clone()),
            ("candidate", self.candidate.clone()),
            ("chosen", self.chosen.name().to_owned()),
            ("started_ms", self.started_ms.to_string()),
            (
                "redacted",
                if self.redacted { "on" } else { "off" }.to_owned(),
            ),
            ("request", json(&self.request)),
            ("base", json(&self.base)),
            ("answer", json(&self.answer)),
        ];
        fields.extend(self.score.map(|score| ("score", score.to_string())));
        fields
    }

    /// The pair that stands in these fields.
    #[must_use]
    pub fn parse(fields: &Fields) -> Option<Self> {
        let text = |name: &str| fields.get(name).map(String::as_str);
        Some(Self {
            id: text("id")?.to_owned(),
            candidate: text("candidate")?.to_owned(),
            chosen: match text("chosen")? {
                "random" => Chosen::Random,
                _ => Chosen::Disagreement,
            },
            started_ms: text("started_ms")?.parse().ok()?,
            redacted: text("redacted") == Some("on"),
            request: serde_json::from_str(text("request")?).ok()?,
            base: serde_json::from_str(text("base")?).ok()?,
            answer: serde_json::from_str(text("answer")?).ok()?,
            score: text("score").and_then(|score| score.parse().ok()),
        })
    }
}

/// What reviewers said of a pair: by their names.
pub type Reviews = BTreeMap<String, Choice>;

/// The name of the scorer among the reviewers, which no person can have.
pub const SCORER: &str = "(scorer)";
/// Scores nearer to 0 than this are a tie: they are in the middle one of all counters.
const TIE: f64 = 0.05;

impl Pair {
    /// What the scorer says, as a reviewer would.
    #[must_use]
    pub fn scored(&self) -> Option<Choice> {
        let score = self.score?;
        Some(match score {
            _ if score.abs() < TIE => Choice::Tie,
            _ if score > 0.0 => Choice::Candidate,
            _ => Choice::Base,
        })
    }
}

/// What stands of that in the hash of a pair.
#[must_use]
pub fn reviews(labels: &Fields) -> Reviews {
    let choices = labels.iter().filter_map(|(field, value)| {
        let reviewer = field.strip_prefix("choice.")?;
        Some((reviewer.to_owned(), Choice::parse(value)?))
    });
    choices.collect()
}

/// How far two reviewers agree beyond chance: Cohen's kappa (Cohen 1960), 1 for always, 0 for as
/// often as chance would have it; and over how many pairs. `None` where they judged none in common,
/// or both always said the same one thing.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of labels, far below 2^53"
)]
pub fn agreement(all: &[Reviews], one: &str, other: &str) -> Option<(f64, usize)> {
    let common: Vec<(Choice, Choice)> = (all.iter())
        .filter_map(|reviews| Some((*reviews.get(one)?, *reviews.get(other)?)))
        .filter(|(a, b)| *a != Choice::Skip && *b != Choice::Skip)
        .collect();
    let n = common.len() as f64;
    let share = |count: usize| count as f64 / n;
    let observed = share(common.iter().filter(|(a, b)| a == b).count());
    let expected: f64 = Choice::ALL
        .iter()
        .map(|choice| {
            let first = common.iter().filter(|(a, _)| a == choice).count();
            let second = common.iter().filter(|(_, b)| b == choice).count();
            share(first) * share(second)
        })
        .sum();
    let defined = !common.is_empty() && expected < 1.0;
    defined.then(|| ((observed - expected) / (1.0 - expected), common.len()))
}

/// What a request asks, for people: what stands at the pointer; else the messages of a chat, the
/// `data` of the standard form, or the whole body.
#[must_use]
pub(super) fn prompt(request: &Request, pointer: Option<&str>) -> Json {
    at_pointer(
        &request.body.body,
        pointer,
        &["/messages", "/data", "/prompt"],
    )
}

/// What an answer says, likewise.
#[must_use]
pub(super) fn answered(told: &Told, pointer: Option<&str>) -> Json {
    let usual = ["/choices/0/message/content", "/data"];
    at_pointer(&told.body.body, pointer, &usual)
}

fn at_pointer(body: &str, pointer: Option<&str>, usual: &[&str]) -> Json {
    let Ok(document) = serde_json::from_str::<Json>(body) else {
        return Json::String(body.to_owned());
    };
    if let Some(pointer) = pointer {
        return document.pointer(pointer).cloned().unwrap_or(Json::Null);
    }
    let found = usual.iter().find_map(|pointer| document.pointer(pointer));
    found.cloned().unwrap_or(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_is_what_chance_does_not_explain() {
        // The example of Cohen's paper in the form of Wikipedia: 20, 5, 10, 15; kappa 0.4.
        let mut all = Vec::new();
        for (count, ann, bob) in [
            (20, Choice::Base, Choice::Base),
            (5, Choice::Base, Choice::Candidate),
            (10, Choice::Candidate, Choice::Base),
            (15, Choice::Candidate, Choice::Candidate),
            (3, Choice::Skip, Choice::Base),
        ] {
            for _ in 0..count {
                all.push(Reviews::from([
                    ("ann".to_owned(), ann),
                    ("bob".to_owned(), bob),
                ]));
            }
        }
        let (kappa, pairs) = agreement(&all, "ann", "bob").expect("common pairs");
        assert!((kappa - 0.4).abs() < 1e-12, "{kappa}");
        assert_eq!(pairs, 50);
        assert_eq!(agreement(&all, "ann", "eve"), None);
    }

    #[test]
    fn a_key_means_a_side() {
        for (key, base_left, choice) in [
            ('a', true, Some(Choice::Base)),
            ('A', false, Some(Choice::Candidate)),
            ('b', true, Some(Choice::Candidate)),
            ('b', false, Some(Choice::Base)),
            ('e', true, Some(Choice::Tie)),
            ('x', true, Some(Choice::BothBad)),
            ('s', true, Some(Choice::Skip)),
            ('q', true, None),
        ] {
            assert_eq!(Choice::pressed(key, base_left), choice, "{key}");
        }
    }
}
