//! `rollout`: typed help with `smartlink:rollout:<svc>`, and what the pilot makes of it.

use std::process::ExitCode;
use std::slice;

use super::{Error, redis_options, runtime};
use crate::model::decode::Fields;
use crate::model::endpoint::{self, Duty, Endpoints};
use crate::model::keys::{Keys, Object};
use crate::model::name::{ServiceName, VersionName};
use crate::model::rollout;
use crate::policy::rollout::{Memory, State, audit, shares};
use crate::settings::{self, RolloutAction, RolloutHistory, RolloutOf, RolloutStatus};
use crate::store::{self, Rollouts, View};

/// Does what is asked about rollouts.
pub(super) fn run(rollout: &settings::Rollout) -> Result<ExitCode, Error> {
    match &rollout.action {
        RolloutAction::Start(start) => go_on(&start.of, &start.fields, Standing::Optional),
        RolloutAction::Pause(of) => order(of, "paused"),
        RolloutAction::Abort(of) => order(of, "aborted"),
        RolloutAction::Resume(of) => go_on(of, &[], Standing::Wanted),
        RolloutAction::Status(status) => self::status(status),
        RolloutAction::Explain(history) => self::history(history, audit::sentence),
        RolloutAction::History(history) => self::history(history, line),
    }
}

/// Where Redis is, and what to say where it is not.
fn place(of: &RolloutOf) -> (store::Options, impl Fn(store::Error) -> Error + use<>) {
    let options = redis_options(&of.redis, &format!("rollout-{}", std::process::id()));
    let shown = options.shown();
    let failed = move |cause| Error::Redis {
        place: shown.clone(),
        cause,
    };
    (options, failed)
}

/// What stands in Redis: the rollout's hash, the pilot's, the weights.
async fn read(view: &View, service: &ServiceName) -> Result<[Fields; 3], store::Error> {
    view.wait().await?;
    let keys = view.keys();
    let names = [
        keys.object(&Object::Rollout(service.clone())),
        keys.pilot(service),
        keys.object(&Object::Weights(service.clone())),
    ];
    let mut hashes = view.hashes(&names).await?.into_iter();
    Ok(std::array::from_fn(|_| hashes.next().unwrap_or_default()))
}

/// Whether a rollout must stand there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Wanted,
    Optional,
}

/// What `state` must be for the pilot to go on: `running` or none at all, which mean the same,
/// whichever is not what it heard last; for it obeys a word that is another one than before.
fn word_to_go_on(stands: &Fields, pilot: &Fields) -> &'static str {
    let heard = pilot.get("state").map(|_| pilot.get("order"));
    match heard {
        Some(Some(order)) if order == "running" => "",
        None if !stands.contains_key("state") => "",
        _ => "running",
    }
}

/// Whether any endpoint is there for this version.
async fn is_served(
    view: &View,
    service: &ServiceName,
    version: &VersionName,
) -> Result<bool, store::Error> {
    let key = view.keys().object(&Object::Endpoints(service.clone()));
    let fields = view.hashes(slice::from_ref(&key)).await?.pop();
    let (endpoints, _) = endpoint::decode(&key, &fields.unwrap_or_default());
    let mut specs = endpoints.iter().flat_map(Endpoints::values);
    Ok(specs.any(|spec| spec.version == *version && spec.duty != Duty::Off))
}

/// Writes fields, and lets the pilot go on.
fn go_on(
    of: &RolloutOf,
    fields: &[(String, String)],
    standing: Standing,
) -> Result<ExitCode, Error> {
    let (options, failed) = place(of);
    let service = &of.service;
    let key = options.keys.object(&Object::Rollout(service.clone()));
    let done = runtime()?.block_on(async {
        let view = View::connect(&options)?;
        let [mut stands, pilot, _] = read(&view, service).await?;
        if stands.is_empty() && standing == Standing::Wanted {
            return Ok(None);
        }
        let word = word_to_go_on(&stands, &pilot);
        let is_so = stands.get("state").map_or("", String::as_str) == word;
        stands.extend(fields.iter().cloned());
        let mut written = fields.to_vec();
        if !stands.contains_key("candidate") {
            written.push(("candidate".to_owned(), "candidate".to_owned()));
        }
        let (policy, mistakes) = rollout::decode(&key, &stands);
        let Some(policy) = policy.filter(|_| mistakes.is_empty()) else {
            return Ok(Some(Err(mistakes)));
        };
        let is_served = is_served(&view, service, &policy.candidate).await?;
        let rollouts = Rollouts::connect(&options)?;
        rollouts.wait().await?;
        let says = fields.iter().any(|(field, _)| field == "state");
        if !says && !is_so && !word.is_empty() {
            written.push(("state".to_owned(), word.to_owned()));
        }
        if !written.is_empty() {
            rollouts.order(service, written).await?;
        }
        if !says && !is_so && word.is_empty() {
            rollouts.let_go(service).await?;
        }
        let said = fields.iter().rev().find(|(field, _)| field == "state");
        let state = said.map_or("running".to_owned(), |(_, state)| state.clone());
        Ok(Some(Ok((state, (!is_served).then_some(policy.candidate)))))
    });
    match done.map_err(failed)? {
        None => Ok(no_rollout(service)),
        Some(Ok((state, missing))) => {
            super::print(&format!("{service}: {state}\n"))?;
            if let Some(candidate) = missing {
                let key = options.keys.object(&Object::Endpoints(service.clone()));
                eprintln!(
                    "smartlink: {key}: no endpoint has version {candidate}: it is waited for"
                );
            }
            Ok(ExitCode::SUCCESS)
        }
        Some(Err(mistakes)) => {
            for mistake in mistakes {
                eprintln!("smartlink: {mistake}");
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Writes what a person wants.
fn order(of: &RolloutOf, state: &str) -> Result<ExitCode, Error> {
    let (options, failed) = place(of);
    let service = &of.service;
    let is_there = runtime()?.block_on(async {
        let view = View::connect(&options)?;
        let [stands, _, _] = read(&view, service).await?;
        if stands.is_empty() {
            return Ok(false);
        }
        let rollouts = Rollouts::connect(&options)?;
        rollouts.wait().await?;
        let fields = vec![("state".to_owned(), state.to_owned())];
        rollouts.order(service, fields).await.map(|()| true)
    });
    if !is_there.map_err(failed)? {
        return Ok(no_rollout(service));
    }
    super::print(&format!("{service}: {state}\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn no_rollout(service: &ServiceName) -> ExitCode {
    eprintln!("smartlink: {service} has no rollout: smartlink rollout start {service}");
    ExitCode::FAILURE
}

fn status(status: &RolloutStatus) -> Result<ExitCode, Error> {
    let (options, failed) = place(&status.of);
    let service = &status.of.service;
    let read = runtime()?.block_on(async {
        let view = View::connect(&options)?;
        read(&view, service).await
    });
    let [rollout, pilot, weights] = read.map_err(failed)?;
    if rollout.is_empty() {
        return Ok(no_rollout(service));
    }
    super::print(&if status.json {
        let json = serde_json::json!({
            "service": service.as_str(), "rollout": rollout, "pilot": pilot, "weights": weights,
        });
        format!("{json:#}\n")
    } else {
        picture(service, &pilot, &weights)
    })?;
    let key = Keys::new(&status.of.redis.prefix).object(&Object::Rollout(service.clone()));
    for mistake in rollout::decode(&key, &rollout).1 {
        eprintln!("smartlink: {mistake}");
    }
    Ok(ExitCode::SUCCESS)
}

/// How far it is, in a few lines.
fn picture(service: &ServiceName, pilot: &Fields, weights: &Fields) -> String {
    let Some(memory) = Memory::from_fields(pilot) else {
        return format!("{service}: no pilot has seen it yet: smartlink pilot\n");
    };
    let text = |name: &str| pilot.get(name).map(String::as_str).unwrap_or_default();
    let candidate = text("candidate");
    let weights: Vec<String> = (weights.iter())
        .map(|(version, weight)| format!("{version}={weight}"))
        .collect();
    let weights = if weights.is_empty() {
        "none, everything goes to base".to_owned()
    } else {
        weights.join(",")
    };
    format!(
        "{service}: {candidate} is {} at {}\n  why       {}\n  since     {}\n  weights   {weights}\n  \
         evidence  {}\n  led by    {}\n",
        memory.state.name(),
        shares::percent(memory.share),
        memory.reason,
        text("decided_at"),
        text("evidence"),
        text("leader"),
    )
}

/// One line of an audit entry.
fn line(entry: &Fields) -> Option<String> {
    let text = |name: &str| entry.get(name).map(String::as_str);
    let at = crate::policy::rollout::memory::moment(text("at_ms")?.parse().ok()?);
    let state = State::parse(text("to")?)?;
    let (share, why) = (text("share")?, text("why")?);
    Some(format!("{at}  {:11}  {share:>5}  {why}", state.name()))
}

fn history(
    history: &RolloutHistory,
    print: impl Fn(&Fields) -> Option<String>,
) -> Result<ExitCode, Error> {
    let (options, failed) = place(&history.of);
    let read = runtime()?.block_on(async {
        let view = View::connect(&options)?;
        view.wait().await?;
        let key = view.keys().audit(&history.of.service);
        view.entries(&key, history.last).await
    });
    let mut entries = read.map_err(failed)?;
    entries.reverse();
    let lines: Vec<String> = if history.json {
        let json = |entry| serde_json::to_string(entry).expect("texts are JSON");
        entries.iter().map(json).collect()
    } else {
        entries.iter().filter_map(print).collect()
    };
    if lines.is_empty() {
        eprintln!("smartlink: nothing was decided yet");
        return Ok(ExitCode::FAILURE);
    }
    super::print(&format!("{}\n", lines.join("\n")))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_to_go_on_is_never_the_one_that_was_heard() {
        let fields = |fields: &[(&str, &str)]| -> Fields {
            let fields = fields.iter();
            fields
                .map(|(f, v)| ((*f).to_owned(), (*v).to_owned()))
                .collect()
        };
        let heard = |order: &str| fields(&[("state", "paused"), ("order", order)]);
        for (stands, pilot, word) in [
            (fields(&[]), fields(&[]), ""),
            (fields(&[("state", "paused")]), fields(&[]), "running"),
            // The hash was deleted, and the pilot remembers one without a word.
            (fields(&[]), fields(&[("state", "rolled_back")]), "running"),
            (fields(&[("state", "running")]), heard("running"), ""),
            (fields(&[("state", "paused")]), heard("running"), ""),
            (fields(&[("state", "paused")]), heard("paused"), "running"),
            (fields(&[]), heard("paused"), "running"),
        ] {
            assert_eq!(word_to_go_on(&stands, &pilot), word, "{stands:?} {pilot:?}");
        }
    }
}
