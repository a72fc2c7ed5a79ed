//! What a rollout does next: facts as they stand in, one decision out.
//!
//! A rollout waits for its candidate, compares copies (`shadow`), gives it shares of the traffic
//! step by step (`running`), waits for proof that it is as good as `base` (`proof`), gives it
//! everything (`finish`), watches it for a while (`bake`), and is `done`. Proven harm takes it
//! back at any time; a person stops or turns it at any time.
//!
//! Invariant: all that is remembered stands in Redis, so that whoever decides next, after whatever
//! crash, decides the same. A person's weights are never written over by a rollout that drives.

pub mod audit;
pub mod evidence;
pub mod memory;
mod order;
pub mod shares;
#[cfg(test)]
mod tests;
mod walk;
mod watch;

use std::collections::BTreeSet;
use std::fmt;

use crate::judge::trial::Unit;
use crate::model::rollout::{Mode, Rollout};
use crate::model::weights::Weights;

pub use evidence::{Counters, Evidence};
pub use memory::{Memory, Slow, State};

/// After how long gateways that do not show new weights are not waited for any more.
const IN_FORCE_MAX_MS: u64 = 10_000;
/// What is wrong when no comparison means anything.
const MISDIVIDED: &str = "the split does not match the weights";

/// What is known when a decision is due.
#[derive(Clone, Debug)]
pub struct Scene<'s> {
    /// Redis's clock, Unix milliseconds.
    pub now_ms: u64,
    /// What the operator wants.
    pub policy: &'s Rollout,
    /// The field `state` of the rollout hash as it stands, empty where it is absent: that it
    /// changes is how a person speaks.
    pub order: &'s str,
    /// The weights as they stand; none where there is no hash.
    pub weights: &'s Weights,
    /// Why the weights cannot be read, where that is so.
    pub unread: Option<&'s Unread>,
    /// URLs of the candidate's endpoints.
    pub build: &'s BTreeSet<String>,
    /// Whether one of them may be up.
    pub is_up: bool,
    /// Whether `base` has an endpoint.
    pub has_base: bool,
    /// What was counted.
    pub counters: &'s Counters,
    /// What is independent of each other.
    pub unit: Unit,
    /// Whether copies are compared, and what is missing where they are not.
    pub copies: &'s Copies,
    /// Whether every live gateway shows that it serves the weights.
    pub in_force: bool,
    /// What could be frozen as the bounds of slowness now.
    pub slow: Option<Slow>,
}

/// Why weights cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// Their hash is wrong: somebody meant something by it.
    Mistake(String),
    /// Something else than a hash stands there: these are nobody's weights, so that proven harm
    /// writes over it. Those that are remembered stand for them.
    NoHash,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mistake(mistake) => f.write_str(mistake),
            Self::NoHash => f.write_str("what stands there is no hash"),
        }
    }
}

/// Whether copies are compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Copies {
    /// A worker takes them.
    #[default]
    Compared,
    /// Something is missing, and the command that would mend it.
    Missing(String),
}

/// What is to be written, all at once or not at all.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What is remembered from now on.
    pub memory: Memory,
    /// The weights to write.
    pub weights: Option<Weights>,
    /// Whether the weights are written whatever stands there by then.
    pub force: bool,
    /// Whether the candidate's endpoints become those of `base`.
    pub promote: bool,
    /// Whether it is told: an audit entry and an event.
    pub told: bool,
}

impl Decision {
    /// Remembers, says nothing.
    fn quiet(memory: Memory) -> Self {
        Self {
            memory,
            weights: None,
            force: false,
            promote: false,
            told: false,
        }
    }

    /// Remembers, and says so.
    fn told(memory: Memory) -> Self {
        Self {
            told: true,
            ..Self::quiet(memory)
        }
    }

    /// And writes these weights.
    fn with_weights(mut self, weights: Weights) -> Self {
        self.memory.own = Some(weights.clone());
        self.weights = Some(weights);
        self
    }
}

/// What to do now; `None` where everything stays as it is. `memory` is what was remembered last,
/// `None` where there is no rollout yet; `evidence` is what the counters say of it.
#[must_use]
pub fn decide(scene: &Scene<'_>, memory: Option<&Memory>, evidence: &Evidence) -> Option<Decision> {
    let Some(memory) = memory else {
        return Some(order::begin(scene, None, "the rollout begins"));
    };
    if memory.candidate.as_ref() != Some(&scene.policy.candidate) {
        return Some(order::begin(scene, Some(memory), "another candidate"));
    }
    if scene.order != memory.order {
        return Some(order::obey(scene, memory));
    }
    if let Some(decision) = order::build(scene, memory, evidence) {
        return Some(decision);
    }
    match scene.policy.mode {
        Mode::Drive => walk::drive(scene, memory, evidence),
        Mode::Guard => watch::guard(scene, memory, evidence),
        Mode::Advise => watch::advise(scene, memory, evidence),
    }
}
