//! A rollout that does not drive: another program moves the weights, and the pilot takes a candidate
//! back that is proven bad (`guard`), or only says what it sees (`advise`).

use super::memory::{Memory, State};
use super::order::{change, roll_back, to_base};
use super::{Copies, Decision, Evidence, MISDIVIDED, Scene, Unread, shares};

/// How often it is told that a candidate was taken back once more.
const TELL_AGAIN_MS: u64 = 10_000;

/// What a guard does next.
pub(super) fn guard(scene: &Scene<'_>, memory: &Memory, evidence: &Evidence) -> Option<Decision> {
    if matches!(scene.unread, Some(Unread::Mistake(_))) {
        // The gateways go on with what was right; so does whoever owns the weights.
        return None;
    }
    match memory.state {
        State::Paused | State::Done => None,
        State::RolledBack | State::Aborted => keep(scene, memory),
        _ => {
            if let Some(harm) = evidence.harm() {
                let mut decision = roll_back(scene, memory, &harm);
                decision.force = true;
                return Some(decision);
            }
            if evidence.misdivided.is_proven() {
                // Said once. Not held: a guard that sleeps guards nobody.
                let is_said = memory.reason == MISDIVIDED;
                let said = || Decision::told(change(scene, memory.clone(), MISDIVIDED));
                return (!is_said).then(said);
            }
            look(scene, memory, "another program moves the weights")
        }
    }
}

/// Takes the candidate back again, where a program gave it something.
fn keep(scene: &Scene<'_>, memory: &Memory) -> Option<Decision> {
    let weight = scene.weights.get(&scene.policy.candidate).copied();
    if weight.unwrap_or_default() == 0 && scene.unread.is_none() {
        return None;
    }
    let mut decision = to_base(scene, memory.clone());
    decision.force = true;
    decision.told = scene.now_ms.saturating_sub(memory.decided_ms) >= TELL_AGAIN_MS;
    if decision.told {
        decision.memory.decided_ms = scene.now_ms;
    }
    Some(decision)
}

/// Follows what others do with the weights.
fn look(scene: &Scene<'_>, memory: &Memory, why: &str) -> Option<Decision> {
    let share = shares::share(scene.weights, &scene.policy.candidate).unwrap_or_default();
    let (state, reason) = match (share, scene.copies) {
        (1.., _) => (State::Running, why),
        (0, _) if !scene.is_up => (State::Waiting, "no endpoint of the candidate is up"),
        (0, Copies::Missing(_)) => (State::Waiting, why),
        (0, Copies::Compared) => (State::Shadow, why),
    };
    let slow = memory.slow.or(scene.slow.filter(|_| share > 0));
    let same = (memory.state, memory.share, memory.slow) == (state, share, slow);
    if same && memory.reason == reason {
        return None;
    }
    let next = Memory {
        state,
        share,
        slow,
        reason: reason.to_owned(),
        is_in_force: true,
        own: Some(scene.weights.clone()),
        ..memory.clone()
    };
    Some(Decision::quiet(next))
}

/// What an adviser says next.
pub(super) fn advise(scene: &Scene<'_>, memory: &Memory, evidence: &Evidence) -> Option<Decision> {
    if memory.state.is_over() || memory.state == State::Paused || scene.unread.is_some() {
        return None;
    }
    let (mark, why) = if let Some(harm) = evidence.harm() {
        ("take it back", harm)
    } else if evidence.misdivided.is_proven() {
        ("believe nothing", MISDIVIDED.to_owned())
    } else if evidence.safety.is_proven() {
        (
            "give it everything",
            "it is proven to be as good as base".to_owned(),
        )
    } else {
        return look(scene, memory, "only watching");
    };
    if memory.reason.starts_with(mark) {
        return None;
    }
    let next = change(scene, memory.clone(), &format!("{mark}: {why}"));
    Some(Decision::told(next))
}
