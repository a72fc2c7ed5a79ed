//! Rollouts: how a person wants a candidate to be led to all of the traffic.

use std::time::Duration;

use super::decode::{Decoded, Decoder, Fields, Wanted};
use super::name::VersionName;
use super::shadow::candidate;
use super::value::{
    self, duration, list, nonzero_duration, share, share_within, switch, whole, word,
};

/// The decoded `rollout:<svc>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollout {
    /// The version on trial.
    pub candidate: VersionName,
    /// Who moves the weights.
    pub mode: Mode,
    /// The candidate's shares on the way, in thousandths, rising.
    pub steps: Vec<u16>,
    /// How long a step lasts at least.
    pub step_min_time: Duration,
    /// How many requests the candidate serves in a step at least.
    pub step_min_requests: u64,
    /// How sure harm must be before the candidate is taken back, 0 to 1.
    pub confidence: f64,
    /// How sure safety must be before the candidate gets everything, 0 to 1.
    pub proof: f64,
    /// A rise of the error rate that is no harm, 0 to 1.
    pub error_tolerance: f64,
    /// A rise of the error rate that safety must exclude, 0 to 1.
    pub max_error_increase: f64,
    /// How many times slower than base is still fine.
    pub max_latency_ratio: f64,
    /// The share of answers that must match base's in shadow, 0 to 1.
    pub min_match: Option<f64>,
    /// Whether copies are compared before the first user sees the candidate.
    pub shadow_first: bool,
    /// How long it is watched after it has everything.
    pub bake: Duration,
    /// After how long in one step it is held for want of traffic.
    pub hold_after: Duration,
    /// What happens then.
    pub on_timeout: OnTimeout,
    /// What happens at the end.
    pub on_finish: OnFinish,
    /// What the person orders.
    pub state: Order,
}

/// Who moves the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The pilot.
    #[default]
    Drive,
    /// Another program; the pilot only takes a candidate proven bad to 0 and keeps it there.
    Guard,
    /// Somebody else; the pilot only says what it sees.
    Advise,
}

/// What happens when a step lasted for `hold_after`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnTimeout {
    /// The rollout pauses and says what is missing.
    #[default]
    Pause,
    /// The candidate is promoted without the proof.
    Promote,
}

/// What happens when a rollout is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFinish {
    /// The weights stay at 100 %.
    #[default]
    Keep,
    /// The candidate's endpoints become `base` and the weights go.
    Promote,
}

/// What a person orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Go on.
    #[default]
    Running,
    /// Hold.
    Paused,
    /// Back to base.
    Aborted,
}

const MODES: &[(&str, Mode)] = &[
    ("drive", Mode::Drive),
    ("guard", Mode::Guard),
    ("advise", Mode::Advise),
];

const ON_TIMEOUT: &[(&str, OnTimeout)] =
    &[("pause", OnTimeout::Pause), ("promote", OnTimeout::Promote)];

const ON_FINISH: &[(&str, OnFinish)] = &[("keep", OnFinish::Keep), ("promote", OnFinish::Promote)];

const ORDERS: &[(&str, Order)] = &[
    ("running", Order::Running),
    ("paused", Order::Paused),
    ("aborted", Order::Aborted),
];

/// The order of a person who stops a rollout by this text of `state`: it holds whatever is wrong
/// with the rest of the hash.
#[must_use]
pub fn stop(state: &str) -> Option<Order> {
    let order = word(ORDERS)(state).ok();
    order.filter(|order| *order != Order::Running)
}

/// The most steps; more would not be told apart.
const STEPS_MAX: usize = 20;

/// Decodes `rollout:<svc>`.
#[must_use]
pub fn decode(key: &str, fields: &Fields) -> Decoded<Rollout> {
    let mut decoder = Decoder::new(key, fields);
    let d = &mut decoder;
    let version = d.take("candidate", candidate);
    let sure = || share_within(0.5..=0.9999);
    let rollout = version
        .or_else(|| candidate("candidate").ok())
        .map(|candidate| Rollout {
            candidate,
            mode: d.take("mode", word(MODES)).unwrap_or_default(),
            steps: d
                .take("steps", steps)
                .unwrap_or_else(|| vec![10, 50, 250, 500]),
            step_min_time: d
                .take("step_min_time", duration)
                .unwrap_or(Duration::from_mins(1)),
            step_min_requests: (d.take("step_min_requests", whole(0..=1_000_000_000)))
                .unwrap_or(100),
            confidence: d.take("confidence", sure()).unwrap_or(0.99),
            proof: d.take("proof", sure()).unwrap_or(0.95),
            error_tolerance: d.take("error_tolerance", share).unwrap_or(0.001),
            max_error_increase: d.take("max_error_increase", share).unwrap_or(0.01),
            max_latency_ratio: (d.take("max_latency_ratio", value::number(1.0..=100.0)))
                .unwrap_or(1.2),
            min_match: d.take("min_match", share),
            shadow_first: d.take("shadow_first", switch).unwrap_or(true),
            bake: d.take("bake", duration).unwrap_or(Duration::from_mins(15)),
            hold_after: (d.take("hold_after", nonzero_duration))
                .unwrap_or(Duration::from_hours(24)),
            on_timeout: d.take("on_timeout", word(ON_TIMEOUT)).unwrap_or_default(),
            on_finish: d.take("on_finish", word(ON_FINISH)).unwrap_or_default(),
            state: d.take("state", word(ORDERS)).unwrap_or_default(),
        });
    if rollout
        .as_ref()
        .is_some_and(|rollout| rollout.error_tolerance >= rollout.max_error_increase)
    {
        let field = if d.has("max_error_increase") {
            "max_error_increase"
        } else {
            "error_tolerance"
        };
        d.mistake(
            Some(field),
            "max_error_increase must be above error_tolerance",
        );
    }
    decoder.finish(rollout)
}

/// Rising percentages.
fn steps(text: &str) -> Result<Vec<u16>, Wanted> {
    list(value::percent)(text)
        .ok()
        .filter(|steps| steps.len() <= STEPS_MAX && steps.is_sorted_by(|a, b| a < b))
        .ok_or_else(|| format!("at most {STEPS_MAX} rising percentages such as 1,5,25,50"))
}
