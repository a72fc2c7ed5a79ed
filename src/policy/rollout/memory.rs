//! What a rollout remembers: `smartlink:pilot:<svc>`, which the pilot alone writes.

use std::collections::BTreeSet;

use super::evidence::ShadowCounts;
use super::shares;
use crate::model::decode::Fields;
use crate::model::name::{Name, VersionName};
use crate::model::weights::Weights;

/// How far a rollout is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// The candidate has no live endpoint.
    #[default]
    Waiting,
    /// Copies are compared.
    Shadow,
    /// The candidate has a share of the traffic.
    Running,
    /// The last step at which both can be compared: safety is being proven.
    Proof,
    /// On the way from there to everything.
    Finish,
    /// The candidate has everything and is watched.
    Bake,
    /// Over: the candidate has everything.
    Done,
    /// Over: the candidate was proven bad.
    RolledBack,
    /// Held until a person says how to go on.
    Paused,
    /// Over: a person said so.
    Aborted,
}

const STATES: [(State, &str); 10] = [
    (State::Waiting, "waiting"),
    (State::Shadow, "shadow"),
    (State::Running, "running"),
    (State::Proof, "proof"),
    (State::Finish, "finish"),
    (State::Bake, "bake"),
    (State::Done, "done"),
    (State::RolledBack, "rolled_back"),
    (State::Paused, "paused"),
    (State::Aborted, "aborted"),
];

impl State {
    /// Its name in Redis.
    #[must_use]
    pub fn name(self) -> &'static str {
        let found = STATES.iter().find(|(state, _)| *state == self);
        found.map_or("", |(_, name)| name)
    }

    /// The state of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let found = STATES.iter().find(|(_, name)| *name == text);
        found.map(|(state, _)| *state)
    }

    /// Whether nothing more happens by itself.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::RolledBack | Self::Aborted)
    }

    /// Whether the candidate is on trial under traffic of users.
    #[must_use]
    pub fn is_live(self) -> bool {
        matches!(
            self,
            Self::Running | Self::Proof | Self::Finish | Self::Bake
        )
    }
}

/// The frozen bounds of slowness: near the p50, p90 and p99 of `base`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slow {
    /// Those of `base`, in microseconds.
    pub at_us: [u64; 3],
    /// Those of the candidate: as many times later as it may be slower.
    pub candidate_at_us: [u64; 3],
    /// The part of `base` that was over each.
    pub share: [f64; 3],
}

/// What a rollout remembers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Grows with each decision: what was decided on an older one is not written.
    pub turn: u64,
    /// How far it is.
    pub state: State,
    /// The step it is at, from 1; 0 before the first.
    pub step: usize,
    /// The candidate's share, in thousandths.
    pub share: u16,
    /// Why it is so.
    pub reason: String,
    /// When that was decided.
    pub decided_ms: u64,
    /// Since when its state or step lasts.
    pub since_ms: u64,
    /// Weights as it wrote or accepted them last.
    pub own: Option<Weights>,
    /// The number of the trial: counts of another one are not looked at.
    pub trial: u64,
    /// The candidate.
    pub candidate: Option<VersionName>,
    /// URLs of its endpoints.
    pub build: BTreeSet<String>,
    /// What a person said last: the text of `state` in the rollout hash.
    pub order: String,
    /// The candidate's requests when the step began.
    pub step_requests: u64,
    /// Whether the weights of this step are served by every gateway, or that was waited for.
    pub is_in_force: bool,
    /// The bounds of slowness, once frozen.
    pub slow: Option<Slow>,
    /// What was compared before this trial.
    pub shadow_before: ShadowCounts,
    /// Bad requests of `base` and all of them, when the candidate got everything.
    pub bake_base: Option<(u64, u64)>,
}

impl Memory {
    /// What stands in the hash; `None` where there is none.
    #[must_use]
    pub fn from_fields(fields: &Fields) -> Option<Self> {
        let text = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        let number = |name: &str| text(name).parse::<u64>().unwrap_or_default();
        let state = State::parse(text("state"))?;
        Some(Self {
            turn: number("turn"),
            state,
            step: text("step").parse().unwrap_or_default(),
            share: parse_percent(text("share")),
            reason: text("reason").to_owned(),
            decided_ms: number("decided_ms"),
            since_ms: number("since_ms"),
            own: fields.get("own").and_then(|own| shares::parse(own)),
            trial: number("trial"),
            candidate: Name::parse(text("candidate")),
            build: (text("build").split_whitespace().map(str::to_owned)).collect(),
            order: text("order").to_owned(),
            step_requests: number("step_requests"),
            is_in_force: text("in_force") == "yes",
            slow: slow(fields),
            shadow_before: ShadowCounts::from_list(text("shadow_before")),
            bake_base: (text("bake_base").split_once(','))
                .and_then(|(bad, all)| Some((bad.parse().ok()?, all.parse().ok()?))),
        })
    }

    /// The fields of the hash; an empty one is to be removed. What is not known here (`evidence`,
    /// `leader`) is written beside them.
    #[must_use]
    pub fn to_fields(&self) -> Vec<(&'static str, String)> {
        let list = |numbers: [u64; 3]| numbers.map(|number| number.to_string()).join(",");
        let slow = |of: fn(&Slow) -> [u64; 3]| self.slow.as_ref().map(of).map(list);
        let or_none = Option::unwrap_or_default;
        vec![
            ("turn", self.turn.to_string()),
            ("state", self.state.name().to_owned()),
            ("step", self.step.to_string()),
            ("share", shares::percent(self.share)),
            ("reason", self.reason.clone()),
            ("decided_ms", self.decided_ms.to_string()),
            ("decided_at", moment(self.decided_ms)),
            ("since_ms", self.since_ms.to_string()),
            (
                "own",
                self.own
                    .as_ref()
                    .map(shares::text)
                    .map_or(String::new(), or_comma),
            ),
            ("trial", self.trial.to_string()),
            (
                "candidate",
                or_none(self.candidate.as_ref().map(ToString::to_string)),
            ),
            (
                "build",
                (self.build.iter().map(String::as_str).collect::<Vec<_>>()).join(" "),
            ),
            ("order", self.order.clone()),
            ("step_requests", self.step_requests.to_string()),
            (
                "in_force",
                (if self.is_in_force { "yes" } else { "no" }).to_owned(),
            ),
            ("slow_at_us", or_none(slow(|slow| slow.at_us))),
            (
                "slow_candidate_at_us",
                or_none(slow(|slow| slow.candidate_at_us)),
            ),
            (
                "slow_share",
                or_none(
                    self.slow
                        .map(|slow| slow.share.map(|share| format!("{share:.6}")).join(",")),
                ),
            ),
            ("shadow_before", self.shadow_before.to_list()),
            (
                "bake_base",
                or_none(self.bake_base.map(|(bad, all)| format!("{bad},{all}"))),
            ),
        ]
    }
}

/// No weights at all are remembered as such: an empty field would be no memory of them.
fn or_comma(own: String) -> String {
    if own.is_empty() { ",".to_owned() } else { own }
}

/// A moment as people read it, RFC 3339.
#[must_use]
pub fn moment(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or_default();
    let moment = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    format!("{moment:.0}")
}

fn slow(fields: &Fields) -> Option<Slow> {
    let list = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    Some(Slow {
        at_us: three(list("slow_at_us"))?,
        candidate_at_us: three(list("slow_candidate_at_us"))?,
        share: three(list("slow_share"))?,
    })
}

fn three<T: std::str::FromStr>(list: &str) -> Option<[T; 3]> {
    let parts: Option<Vec<T>> = list.split(',').map(|part| part.parse().ok()).collect();
    <[T; 3]>::try_from(parts?).ok()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped before"
)]
fn parse_percent(text: &str) -> u16 {
    let percent: f64 = text.trim_end_matches('%').parse().unwrap_or_default();
    (percent * 10.0).round().clamp(0.0, 1000.0) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_read_back() {
        let whole = Memory {
            turn: 7,
            state: State::Running,
            step: 2,
            share: 25,
            reason: "step 2 of 4".to_owned(),
            decided_ms: 1_700_000_000_000,
            since_ms: 1_700_000_000_000,
            own: shares::parse("base=975,candidate=25"),
            trial: 3,
            candidate: Name::parse("candidate"),
            build: ["http://a/".to_owned(), "http://b/".to_owned()].into(),
            order: "running".to_owned(),
            step_requests: 441,
            is_in_force: true,
            slow: Some(Slow {
                at_us: [1, 20, 300],
                candidate_at_us: [2, 24, 357],
                share: [0.5, 0.125, 0.01],
            }),
            shadow_before: ShadowCounts {
                candidate_bad_only: 1,
                base_bad_only: 2,
                other: 3,
                triples: 4,
                candidate_only: 5,
                noise_only: 6,
            },
            bake_base: Some((3, 5000)),
        };
        let nothing = Memory {
            own: Some(Weights::new()),
            ..Memory::default()
        };
        for memory in [whole, nothing, Memory::default()] {
            let fields = memory.to_fields().into_iter();
            let fields = fields.filter(|(_, text)| !text.is_empty());
            let fields = fields.map(|(name, text)| (name.to_owned(), text)).collect();
            assert_eq!(Memory::from_fields(&fields), Some(memory));
        }
        assert_eq!(Memory::from_fields(&Fields::new()), None);
    }

    #[test]
    fn moments_are_whole_seconds() {
        assert_eq!(moment(1_700_000_000_400), "2023-11-14T22:13:20Z");
    }
}
