//! A rollout that drives: it moves the weights, as long as nobody else does.

use std::ops::ControlFlow;

use super::evidence::{ms_for, step_name};
use super::memory::{Memory, State};
use super::order::{change, pause, roll_back, to_base};
use super::{Copies, Decision, Evidence, IN_FORCE_MAX_MS, MISDIVIDED, Scene, Unread, shares};
use crate::judge::trial::{Trial, Unit};
use crate::model::rollout::{OnFinish, OnTimeout, Order, Rollout};

/// The largest share at which the candidate is compared: beyond it too few ask `base`.
const COMPARED_MAX: u16 = 500;
/// A step that would take longer than this for want of requests is passed over.
const SLOW_STEP_MS: f64 = 3_600_000.0;
/// No step from this share on is passed over.
const PASSED_OVER_MAX: u16 = 250;
/// How long requests are counted at least before their rate is believed.
const RATE_SEEN_MS: u64 = 60_000;

/// The shares of the steps at which both are compared.
fn held_steps(policy: &Rollout) -> Vec<u16> {
    let steps = policy.steps.iter().copied();
    let held: Vec<u16> = steps
        .filter(|share| (1..=COMPARED_MAX).contains(share))
        .collect();
    if held.is_empty() {
        vec![COMPARED_MAX]
    } else {
        held
    }
}

/// The shares of all steps, the last of which is everything.
fn all_steps(policy: &Rollout) -> Vec<u16> {
    let mut steps = held_steps(policy);
    let later = policy.steps.iter().copied();
    steps.extend(later.filter(|share| (COMPARED_MAX + 1..1000).contains(share)));
    steps.push(1000);
    steps
}

/// The step whose share is nearest, from 1, of those at which both are compared.
pub(super) fn nearest(policy: &Rollout, share: u16) -> usize {
    let steps = held_steps(policy);
    let steps = steps.iter().enumerate();
    let nearest = steps.min_by_key(|(_, step)| step.abs_diff(share));
    nearest.map_or(1, |(at, _)| at + 1)
}

/// What a rollout that drives does next.
pub(super) fn drive(scene: &Scene<'_>, memory: &Memory, evidence: &Evidence) -> Option<Decision> {
    if memory.state.is_over() {
        return None;
    }
    // Weights that are nobody's hold no rollback, only a person who says so does.
    let is_nobodys = scene.unread == Some(&Unread::NoHash);
    let is_free = is_nobodys && scene.policy.state == Order::Running;
    if let Some(harm) = evidence.harm().filter(|_| is_free) {
        return Some(roll_back(scene, memory, &harm));
    }
    if memory.state == State::Paused {
        return warn(scene, memory, evidence);
    }
    if let Some(why) = stranger(scene, memory) {
        return Some(pause(scene, memory.clone(), &why));
    }
    if let Some(harm) = evidence.harm() {
        return Some(roll_back(scene, memory, &harm));
    }
    if evidence.misdivided.is_proven() {
        return Some(pause(scene, memory.clone(), MISDIVIDED));
    }
    if scene.build.is_empty() && (memory.state.is_live() || memory.state == State::Shadow) {
        let mut next = change(
            scene,
            memory.clone(),
            "the candidate has no endpoint any more",
        );
        next.state = State::Waiting;
        return Some(to_base(scene, next));
    }
    match memory.state {
        State::Waiting => waiting(scene, memory, evidence),
        State::Shadow => shadow(scene, memory, evidence),
        State::Running | State::Proof => step(scene, memory, evidence),
        State::Finish => finish(scene, memory, evidence),
        State::Bake => bake(scene, memory),
        State::Done | State::RolledBack | State::Paused | State::Aborted => None,
    }
}

/// Why the weights are not ours to move; `None` where they are.
fn stranger(scene: &Scene<'_>, memory: &Memory) -> Option<String> {
    if let Some(why) = scene.unread {
        return Some(format!("the weights cannot be read: {why}"));
    }
    if memory
        .own
        .as_ref()
        .is_none_or(|own| !shares::same(own, scene.weights))
    {
        let now = shares::shown(scene.weights);
        return Some(format!("weights were set to {now} by someone else"));
    }
    let pair = shares::share(scene.weights, &scene.policy.candidate);
    pair.is_none()
        .then(|| "neither base nor the candidate has a weight".to_owned())
}

/// Held, and proven bad: that is said once, and nothing is moved.
fn warn(scene: &Scene<'_>, memory: &Memory, evidence: &Evidence) -> Option<Decision> {
    const MARK: &str = "; held although ";
    let harm = evidence.harm()?;
    if memory.share == 0 || memory.reason.contains(MARK) {
        return None;
    }
    let mut next = memory.clone();
    next.reason = format!("{}{MARK}{harm}", memory.reason);
    next.decided_ms = scene.now_ms;
    Some(Decision::told(next))
}

fn waiting(scene: &Scene<'_>, memory: &Memory, evidence: &Evidence) -> Option<Decision> {
    let missing = if scene.build.is_empty() {
        "the candidate has no endpoint"
    } else if !scene.has_base {
        "base has no endpoint"
    } else if !scene.is_up {
        "no endpoint of the candidate is up"
    } else if scene.policy.shadow_first && !evidence.is_safe_in_shadow() {
        let mut next = change(scene, memory.clone(), "comparing copies");
        next.state = State::Shadow;
        return Some(Decision::told(next));
    } else {
        return Some(to_step(scene, memory, evidence, 1, ""));
    };
    say(memory, missing)
}

/// The same, with another reason; `None` where that is the reason already.
fn say(memory: &Memory, reason: &str) -> Option<Decision> {
    (memory.reason != reason).then(|| {
        let mut next = memory.clone();
        reason.clone_into(&mut next.reason);
        Decision::quiet(next)
    })
}

fn shadow(scene: &Scene<'_>, memory: &Memory, evidence: &Evidence) -> Option<Decision> {
    if evidence.is_safe_in_shadow() {
        return Some(to_step(
            scene,
            memory,
            evidence,
            1,
            "copies prove that it is as good as base: ",
        ));
    }
    if lasts(scene, memory) >= millis(scene.policy.hold_after) {
        if scene.policy.on_timeout == OnTimeout::Promote {
            let why = "copies were too few to prove it, and on_timeout is promote: ";
            return Some(to_step(scene, memory, evidence, 1, why));
        }
        let why = format!(
            "not enough copies were compared: {} of {}",
            evidence.pairs, evidence.needed
        );
        return Some(pause(scene, memory.clone(), &why));
    }
    match scene.copies {
        Copies::Missing(what) => say(memory, what),
        Copies::Compared if evidence.shadow_match.is_some() && evidence.pairs > evidence.needed => {
            let triples = evidence.triples;
            let reason = if triples == 0 {
                "comparing copies: base was not asked again yet, which min_match needs"
            } else {
                "comparing copies"
            };
            say(memory, reason)
        }
        Copies::Compared => say(memory, "comparing copies"),
    }
}

fn lasts(scene: &Scene<'_>, memory: &Memory) -> u64 {
    scene.now_ms.saturating_sub(memory.since_ms)
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Gives the candidate the share of a step, from 1.
fn to_step(
    scene: &Scene<'_>,
    memory: &Memory,
    evidence: &Evidence,
    step: usize,
    why: &str,
) -> Decision {
    let policy = scene.policy;
    let (held, steps) = (held_steps(policy).len(), all_steps(policy));
    let share = steps.get(step - 1).copied().unwrap_or(1000);
    let named = step_name(step, steps.len(), share);
    let mut next = change(scene, memory.clone(), &format!("{why}{named}"));
    next.state = match step {
        step if step <= held => State::Running,
        _ if share < 1000 => State::Finish,
        _ if policy.bake.is_zero() => State::Done,
        _ => State::Bake,
    };
    next.step = step;
    next.share = share;
    next.step_requests = evidence.candidate;
    next.is_in_force = false;
    next.slow = memory.slow.or(scene.slow);
    if next.bake_base.is_none() && next.state == State::Bake {
        next.bake_base = Some(base_so_far(scene, memory));
    }
    if next.state == State::Done {
        return done(scene, next, &named);
    }
    let weights = shares::with_share(scene.weights, &policy.candidate, share);
    Decision::told(next).with_weights(weights)
}

/// Bad requests of `base`, and all of them, while both could be chosen.
fn base_so_far(scene: &Scene<'_>, memory: &Memory) -> (u64, u64) {
    let none = Trial::default();
    let trial = if scene.counters.number == memory.trial {
        &scene.counters.trial
    } else {
        &none
    };
    let arms = trial.shares.range(1..1000).map(|(_, arms)| arms.base);
    arms.fold((0, 0), |(bad, all), base| {
        (bad + base.bad, all + base.requests)
    })
}

/// Waits until the weights of a step are served everywhere; goes on where they are.
fn settle(
    scene: &Scene<'_>,
    memory: &Memory,
    evidence: &Evidence,
) -> ControlFlow<Option<Decision>> {
    if memory.is_in_force {
        return ControlFlow::Continue(());
    }
    let is_late = lasts(scene, memory) >= IN_FORCE_MAX_MS;
    if !scene.in_force && !is_late {
        return ControlFlow::Break(None);
    }
    let mut next = memory.clone();
    next.is_in_force = true;
    next.since_ms = scene.now_ms;
    next.step_requests = evidence.candidate;
    if !scene.in_force {
        next.reason += ", though not every gateway shows that it serves these weights";
    }
    ControlFlow::Break(Some(Decision::quiet(next)))
}

fn step(scene: &Scene<'_>, memory: &Memory, evidence: &Evidence) -> Option<Decision> {
    let policy = scene.policy;
    if let ControlFlow::Break(decision) = settle(scene, memory, evidence) {
        return decision;
    }
    if memory.slow.is_none() && scene.slow.is_some() {
        let mut next = memory.clone();
        next.slow = scene.slow;
        return Some(Decision::quiet(next));
    }
    if evidence.candidate < memory.step_requests {
        // Counts were lost: what comes from now on counts for the step.
        let mut next = memory.clone();
        next.step_requests = evidence.candidate;
        return Some(Decision::quiet(next));
    }
    let held = held_steps(policy);
    let served = evidence.candidate.saturating_sub(memory.step_requests);
    let lasted = lasts(scene, memory);
    let is_last = memory.step >= held.len();
    let is_enough = memory.state == State::Proof
        || (lasted >= millis(policy.step_min_time) && served >= policy.step_min_requests);
    if is_enough && !is_last {
        return Some(to_step(scene, memory, evidence, memory.step + 1, ""));
    }
    if is_enough && evidence.safety.is_proven() {
        let why = "it is proven to be as good as base: ";
        return Some(to_step(scene, memory, evidence, memory.step + 1, why));
    }
    if is_enough && memory.state == State::Running {
        let mut next = change(scene, memory.clone(), "waiting for proof of safety");
        next.state = State::Proof;
        return Some(Decision::told(next));
    }
    if let Some(decision) = passed_over(scene, memory, evidence, is_last) {
        return Some(decision);
    }
    if lasted < millis(policy.hold_after) {
        return None;
    }
    if policy.on_timeout == OnTimeout::Promote {
        let why = "it was held for long enough, and on_timeout is promote: ";
        return Some(to_step(scene, memory, evidence, memory.step + 1, why));
    }
    let (seen, wanted) = if is_last {
        (evidence.candidate, evidence.needed)
    } else {
        (served, policy.step_min_requests)
    };
    let why = if seen < wanted {
        format!("not enough traffic: {seen} of {wanted}")
    } else {
        format!(
            "safety is not proven after {seen} requests: evidence {}",
            evidence.safety
        )
    };
    Some(pause(scene, memory.clone(), &why))
}

/// The next step, where this one would take too long at the rate of requests that is seen.
fn passed_over(
    scene: &Scene<'_>,
    memory: &Memory,
    evidence: &Evidence,
    is_last: bool,
) -> Option<Decision> {
    let lasted = lasts(scene, memory);
    let believed = millis(scene.policy.step_min_time).max(RATE_SEEN_MS);
    if is_last || memory.share >= PASSED_OVER_MAX || lasted < believed {
        return None;
    }
    // Who counts nothing sees no harm either. And callers are counted once: that few new ones come
    // says nothing of how many requests there are.
    let is_counted = scene.counters.number == memory.trial && evidence.requests > 0;
    if !is_counted || scene.unit == Unit::Caller {
        return None;
    }
    // Shares are exact: so many of the candidate's are so many of all.
    let served = evidence.candidate.saturating_sub(memory.step_requests);
    let all = served * 1000 / u64::from(memory.share.max(1));
    let needs = ms_for(scene.policy.step_min_requests, memory.share, all, lasted);
    if needs <= SLOW_STEP_MS {
        return None;
    }
    let why = "the step before would take over an hour: ";
    Some(to_step(scene, memory, evidence, memory.step + 1, why))
}

fn finish(scene: &Scene<'_>, memory: &Memory, evidence: &Evidence) -> Option<Decision> {
    if let ControlFlow::Break(decision) = settle(scene, memory, evidence) {
        return decision;
    }
    let is_over = lasts(scene, memory) >= millis(scene.policy.step_min_time);
    is_over.then(|| to_step(scene, memory, evidence, memory.step + 1, ""))
}

fn bake(scene: &Scene<'_>, memory: &Memory) -> Option<Decision> {
    let is_over = lasts(scene, memory) >= millis(scene.policy.bake);
    is_over.then(|| {
        let why = "it was watched for long enough";
        let mut next = change(scene, memory.clone(), why);
        next.state = State::Done;
        done(scene, next, why)
    })
}

/// The end: the candidate has everything, or is `base` from now on.
fn done(scene: &Scene<'_>, mut next: Memory, why: &str) -> Decision {
    let candidate = &scene.policy.candidate;
    next.share = 1000;
    if scene.policy.on_finish == OnFinish::Keep {
        let weights = shares::with_share(scene.weights, candidate, 1000);
        let is_written = shares::same(&weights, scene.weights);
        let decision = Decision::told(next);
        return if is_written {
            decision
        } else {
            decision.with_weights(weights)
        };
    }
    next.reason = format!("{why}; its endpoints are base now, those of base are previous");
    next.share = 0;
    let mut weights = shares::with_share(scene.weights, candidate, 0);
    weights.remove(candidate);
    if weights
        .iter()
        .all(|(version, weight)| version.is_base() || *weight == 0)
    {
        // Without weights everything goes to base.
        weights.clear();
    }
    let mut decision = Decision::told(next).with_weights(weights);
    decision.promote = true;
    decision
}
