//! An entry of `smartlink:audit:<svc>`: what was decided, and every number from which anybody can
//! compute the evidence again.

use std::fmt::Write as _;

use super::evidence::ShadowCounts;
use super::memory::{Memory, Slow, State, moment};
use super::{Counters, Decision, Evidence, Scene, shares};
use crate::judge::trial::{Arm, Trial, Unit};
use crate::model::decode::Fields;
use crate::model::name::Name;
use crate::model::rollout::{self, Rollout};

/// The fields of an entry, in their order.
pub type Entry = Vec<(&'static str, String)>;

/// What is written of a decision; `leader` is who decides.
#[must_use]
pub fn entry(
    scene: &Scene<'_>,
    before: Option<&Memory>,
    decision: &Decision,
    evidence: &Evidence,
    leader: &str,
) -> Entry {
    let policy = scene.policy;
    let after = &decision.memory;
    let judged = before.unwrap_or(after);
    let counters = if scene.counters.number == judged.trial {
        live(&scene.counters.trial, policy.candidate.as_str())
    } else {
        String::new()
    };
    let weights = decision.weights.as_ref();
    let mut entry = vec![
        ("at_ms", scene.now_ms.to_string()),
        ("candidate", policy.candidate.to_string()),
        (
            "from",
            before
                .map_or("none", |memory| memory.state.name())
                .to_owned(),
        ),
        ("to", after.state.name().to_owned()),
        ("step", after.step.to_string()),
        ("share", shares::percent(after.share)),
        ("why", after.reason.clone()),
        ("weights_before", shares::shown(scene.weights)),
        (
            "weights",
            weights.map_or_else(|| "unchanged".to_owned(), shares::shown),
        ),
        ("evidence", evidence.line()),
        ("trial", judged.trial.to_string()),
        (
            "unit",
            match scene.unit {
                Unit::Request => "request",
                Unit::Caller => "caller",
            }
            .to_owned(),
        ),
        ("confidence", policy.confidence.to_string()),
        ("proof", policy.proof.to_string()),
        ("error_tolerance", policy.error_tolerance.to_string()),
        ("max_error_increase", policy.max_error_increase.to_string()),
        ("live", counters),
        (
            "shadow",
            scene.counters.shadow.since(judged.shadow_before).to_list(),
        ),
        ("leader", leader.to_owned()),
    ];
    if let Some(least) = policy.min_match {
        entry.push(("min_match", least.to_string()));
    }
    if let Some(slow) = judged.slow {
        let share = slow.share.map(|share| share.to_string());
        entry.push(("slow_share", share.join(",")));
    }
    if let Some((bad, all)) = judged.bake_base {
        entry.push(("bake_base", format!("{bad},{all}")));
    }
    entry
}

/// The counts of a trial as fields of its hash, those above 0.
fn live(trial: &Trial, candidate: &str) -> String {
    let mut text = String::new();
    for (share, arms) in &trial.shares {
        for (version, arm) in [("base", &arms.base), (candidate, &arms.candidate)] {
            for (name, count) in named(arm) {
                if count > 0 {
                    // Writing into a text cannot fail.
                    let _written = write!(text, "{share}.{version}.{name}={count} ");
                }
            }
        }
    }
    text.truncate(text.trim_end().len());
    text
}

fn named(arm: &Arm) -> [(&'static str, u64); 7] {
    let [p50, p90, p99] = arm.over;
    [
        ("requests", arm.requests),
        ("bad", arm.bad),
        ("over_50", p50),
        ("over_90", p90),
        ("over_99", p99),
        ("first", arm.first),
        ("first_bad", arm.first_bad),
    ]
}

/// The evidence, computed again from an entry alone; `None` where it is none.
#[must_use]
pub fn recompute(entry: &Fields) -> Option<Evidence> {
    let text = |name: &str| entry.get(name).map(String::as_str);
    let number = |name: &str| text(name)?.parse::<f64>().ok();
    let candidate = Name::parse(text("candidate")?)?;
    let (plain, _) = rollout::decode("", &Fields::new());
    let policy = Rollout {
        candidate: candidate.clone(),
        confidence: number("confidence")?,
        proof: number("proof")?,
        error_tolerance: number("error_tolerance")?,
        max_error_increase: number("max_error_increase")?,
        min_match: number("min_match"),
        ..plain?
    };
    let share: Option<Vec<f64>> = text("slow_share").map(|list| {
        list.split(',')
            .map_while(|part| part.parse().ok())
            .collect()
    });
    let memory = Memory {
        trial: text("trial")?.parse().ok()?,
        slow: share
            .and_then(|share| <[f64; 3]>::try_from(share).ok())
            .map(|share| Slow {
                at_us: [0; 3],
                candidate_at_us: [0; 3],
                share,
            }),
        bake_base: text("bake_base")
            .and_then(|list| list.split_once(','))
            .and_then(|(bad, all)| Some((bad.parse().ok()?, all.parse().ok()?))),
        ..Memory::default()
    };
    let fields = text("live")?.split_whitespace();
    let fields = fields.filter_map(|field| field.split_once('='));
    let counters = Counters {
        number: memory.trial,
        trial: Trial::from_fields(fields, "base", candidate.as_str()),
        shadow: ShadowCounts::from_list(text("shadow")?),
    };
    let unit = match text("unit")? {
        "caller" => Unit::Caller,
        _ => Unit::Request,
    };
    Some(Evidence::weigh(&policy, &memory, unit, &counters))
}

/// The entry as a sentence or two; `None` where it is none.
#[must_use]
pub fn sentence(entry: &Fields) -> Option<String> {
    let text = |name: &str| entry.get(name).map(String::as_str);
    let at = moment(text("at_ms")?.parse().ok()?);
    let (from, to) = (State::parse(text("from")?), State::parse(text("to")?)?);
    let candidate = text("candidate")?;
    let what = match from {
        None => format!("{at} The rollout of {candidate} is {}", word(to)),
        Some(from) if from == to => format!("{at} {candidate} is still {}", word(to)),
        Some(from) => format!("{at} {candidate} went from {} to {}", word(from), word(to)),
    };
    let moved = match text("weights").filter(|weights| *weights != "unchanged") {
        Some(weights) => {
            let before = text("weights_before")?;
            format!(" Weights: {before} before, {weights} now.")
        }
        None => String::new(),
    };
    let (why, evidence) = (text("why")?, text("evidence")?);
    Some(format!("{what}: {why}.{moved} Evidence: {evidence}."))
}

/// A state in a sentence.
fn word(state: State) -> String {
    state.name().replace('_', " ")
}
