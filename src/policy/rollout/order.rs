//! What people order, and where a trial begins: with a rollout, another candidate, another build, or
//! when a person says so.

use std::collections::BTreeSet;

use super::memory::{Memory, State};
use super::shares;
use super::walk::nearest;
use super::{Decision, Evidence, MISDIVIDED, Scene, Unread};
use crate::model::rollout::{Mode, Order, Rollout};

/// A new trial, with the weights as they stand.
pub(super) fn begin(scene: &Scene<'_>, before: Option<&Memory>, why: &str) -> Decision {
    let seen = before.map_or(0, |memory| memory.trial);
    let memory = Memory {
        turn: before.map_or(0, |memory| memory.turn),
        state: State::Waiting,
        reason: why.to_owned(),
        decided_ms: scene.now_ms,
        since_ms: scene.now_ms,
        own: Some(scene.weights.clone()),
        // Counts of a trial that nobody remembers may stand there too.
        trial: seen.max(scene.counters.number) + 1,
        candidate: Some(scene.policy.candidate.clone()),
        build: scene.build.clone(),
        order: scene.order.to_owned(),
        shadow_before: scene.counters.shadow,
        ..Memory::default()
    };
    match scene.policy.state {
        Order::Running if scene.policy.mode == Mode::Drive => adopt(scene, memory, why),
        Order::Running => Decision::told(memory),
        Order::Paused => pause(scene, memory, "a person said so"),
        Order::Aborted => abort(scene, memory),
    }
}

/// Follows a person whose order is another one than before.
pub(super) fn obey(scene: &Scene<'_>, memory: &Memory) -> Decision {
    let heard = Memory {
        order: scene.order.to_owned(),
        ..memory.clone()
    };
    let share = shares::share(scene.weights, &scene.policy.candidate);
    match (scene.policy.state, memory.state) {
        (Order::Aborted, State::Aborted) => Decision::quiet(heard),
        (Order::Aborted, _) => abort(scene, heard),
        (Order::Paused, state) if state.is_over() => Decision::quiet(heard),
        (Order::Paused, _) => pause(scene, heard, "a person said so"),
        (Order::Running, State::RolledBack | State::Aborted) => {
            begin(scene, Some(memory), "a person began it anew")
        }
        (Order::Running, State::Done) if share != Some(1000) => {
            begin(scene, Some(memory), "a person began it anew")
        }
        (Order::Running, State::Paused) => resume(scene, heard),
        (Order::Running, _) => Decision::quiet(heard),
    }
}

/// Goes on after a pause, with the weights as they are now.
fn resume(scene: &Scene<'_>, mut memory: Memory) -> Decision {
    if memory.reason.starts_with(MISDIVIDED) {
        // What was counted compares nothing; it would only pause again.
        memory.trial = memory.trial.max(scene.counters.number) + 1;
    }
    let why = "a person said to go on";
    match scene.policy.mode {
        Mode::Drive => adopt(scene, memory, why),
        Mode::Guard | Mode::Advise => {
            memory.state = State::Waiting;
            Decision::told(change(scene, memory, why))
        }
    }
}

/// Takes the weights as they stand for its own, and goes on from there.
fn adopt(scene: &Scene<'_>, mut memory: Memory, why: &str) -> Decision {
    let share = shares::share(scene.weights, &scene.policy.candidate).unwrap_or_default();
    memory.own = Some(scene.weights.clone());
    memory.share = share;
    memory.step_requests = 0;
    memory.is_in_force = true;
    (memory.state, memory.step) = match share {
        0 => (State::Waiting, 0),
        1000 if memory.bake_base.is_some() => (State::Bake, 0),
        1000 => (State::Done, 0),
        // Beyond the last step at which both are compared too, proof comes first.
        share => (State::Running, nearest(scene.policy, share)),
    };
    let why = match share {
        0 => why.to_owned(),
        share => format!("{why}, from {} on", shares::percent(share)),
    };
    Decision::told(change(scene, memory, &why))
}

/// Holds everything as it is.
pub(super) fn pause(scene: &Scene<'_>, mut memory: Memory, why: &str) -> Decision {
    memory.state = State::Paused;
    memory.share = shares::share(scene.weights, &scene.policy.candidate).unwrap_or(memory.share);
    Decision::told(change(scene, memory, why))
}

/// Back to `base`, because a person says so.
fn abort(scene: &Scene<'_>, mut memory: Memory) -> Decision {
    memory.state = State::Aborted;
    let memory = change(scene, memory, "a person said so");
    if scene.policy.mode == Mode::Advise {
        return Decision::told(memory);
    }
    let mut decision = to_base(scene, memory);
    // What cannot be read is not what anybody wanted kept.
    decision.force = scene.unread.is_some();
    decision
}

/// Takes all traffic from the candidate.
pub(super) fn to_base(scene: &Scene<'_>, mut memory: Memory) -> Decision {
    memory.share = 0;
    memory.step = 0;
    let weight = scene.weights.get(&scene.policy.candidate).copied();
    if weight.unwrap_or_default() == 0 && scene.unread.is_none() {
        return Decision::told(memory);
    }
    let weights = shares::with_share(scene.weights, &scene.policy.candidate, 0);
    Decision::told(memory).with_weights(weights)
}

/// The same, because harm is proven; also over what is no hash.
pub(super) fn roll_back(scene: &Scene<'_>, memory: &Memory, harm: &str) -> Decision {
    let mut next = change(scene, memory.clone(), harm);
    let is_nobodys = scene.unread == Some(&Unread::NoHash);
    if is_nobodys {
        next.reason += "; what stood in place of the weights was no hash, and is replaced";
    }
    next.state = State::RolledBack;
    let mut decision = to_base(scene, next);
    decision.force = is_nobodys;
    decision
}

/// The same, and since when and why it is so.
pub(super) fn change(scene: &Scene<'_>, mut memory: Memory, why: &str) -> Memory {
    why.clone_into(&mut memory.reason);
    memory.decided_ms = scene.now_ms;
    memory.since_ms = scene.now_ms;
    memory
}

/// What follows from endpoints of the candidate that came or went.
pub(super) fn build(scene: &Scene<'_>, memory: &Memory, evidence: &Evidence) -> Option<Decision> {
    if scene.build.is_empty() || *scene.build == memory.build {
        return None;
    }
    if scene.policy.state != Order::Running {
        // A person holds it: what is there when they let go counts.
        return Some(Decision::quiet(Memory {
            build: scene.build.clone(),
            trial: memory.trial.max(scene.counters.number) + 1,
            ..memory.clone()
        }));
    }
    if memory.build.is_empty() {
        return Some(Decision::quiet(Memory {
            build: scene.build.clone(),
            ..memory.clone()
        }));
    }
    if is_another(&memory.build, scene.build) {
        return Some(replaced(scene, memory));
    }
    // More or fewer of the same: the share stays, and old counts judge nobody.
    if memory.state.is_over() || memory.state == State::Paused {
        return Some(Decision::quiet(Memory {
            build: scene.build.clone(),
            ..memory.clone()
        }));
    }
    // Fewer of them are no other build; and what is proven by now is acted on first.
    if scene.build.is_subset(&memory.build) || evidence.harm().is_some() {
        return None;
    }
    let mut next = change(scene, memory.clone(), "the candidate's endpoints changed");
    next.build.clone_from(scene.build);
    next.trial = memory.trial.max(scene.counters.number) + 1;
    next.step_requests = 0;
    next.slow = None;
    next.shadow_before = scene.counters.shadow;
    if memory.state == State::Proof {
        next.state = State::Running;
    }
    Some(Decision::told(next))
}

/// Whether no endpoint is left of those there were.
fn is_another(before: &BTreeSet<String>, now: &BTreeSet<String>) -> bool {
    before.is_disjoint(now)
}

/// Another build: everything begins anew, at `base` where the old one was on trial.
fn replaced(scene: &Scene<'_>, memory: &Memory) -> Decision {
    let why = "the candidate was replaced by another build";
    let is_ours = |own| shares::same(own, scene.weights);
    let is_own = memory.own.as_ref().is_some_and(is_ours) && scene.unread.is_none();
    if memory.state == State::Paused {
        return Decision::quiet(Memory {
            build: scene.build.clone(),
            trial: memory.trial.max(scene.counters.number) + 1,
            ..memory.clone()
        });
    }
    if scene.policy.mode == Mode::Guard && memory.state == State::RolledBack {
        // It stays at nothing until a person says otherwise.
        return Decision::quiet(Memory {
            build: scene.build.clone(),
            ..memory.clone()
        });
    }
    let mut decision = begin(scene, Some(memory), why);
    let share = shares::share(scene.weights, &scene.policy.candidate);
    if drives(scene.policy) && !is_own && share.unwrap_or_default() > 0 {
        let now = shares::shown(scene.weights);
        let why = format!("weights were set to {now} by someone else");
        return pause(scene, decision.memory, &why);
    }
    if memory.state.is_live() && is_own && drives(scene.policy) {
        let mut next = change(scene, decision.memory, why);
        next.state = State::Waiting;
        decision = to_base(scene, next);
    }
    decision
}

fn drives(policy: &Rollout) -> bool {
    policy.mode == Mode::Drive
}
