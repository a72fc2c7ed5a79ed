//! What a pilot reads: policies, weights, endpoints, counts, and what it remembered.

use std::collections::BTreeSet;

use super::Options;
use super::bounds::{Base, COARSE_MIN, FINE_MIN};
use crate::judge::trial::{Trial, Unit};
use crate::model::decode::Fields;
use crate::model::endpoint::{Duty, Endpoints};
use crate::model::keys::Object;
use crate::model::name::{Name, ServiceName};
use crate::model::object::{Value, decode_object};
use crate::model::rollout::Rollout;
use crate::model::settings::{Effective, Settings};
use crate::model::shadow::Shadow;
use crate::model::weights::Weights;
use crate::policy::rollout::evidence::ShadowCounts;
use crate::policy::rollout::{Copies, Counters, Evidence, Memory, Scene, Slow, State};
use crate::store::{Error, View};
use crate::telemetry;

/// A worker that is silent for this long is taken to be gone: it asks for records several times a
/// second.
const WORKER_IDLE_MAX_MS: u64 = 30_000;
/// How much of the windows of `base` is looked at, in seconds.
const HOUR: u64 = 3600;
/// The length of a window, where nothing else is said.
const WINDOW: u64 = 10;
/// How long fine buckets are kept, in seconds.
const FINE: u64 = 30;
/// How often bounds are looked for that are not there yet.
const BOUNDS_EVERY_MS: u64 = 15_000;

/// What was last read and right of one service.
#[derive(Debug, Default)]
pub(super) struct Standing {
    read: Vec<Fields>,
    policy: Option<Rollout>,
    endpoints: Endpoints,
    defaults: Settings,
    service: Settings,
    shadow: Option<Shadow>,
    counts: Fields,
    bounds_ms: u64,
    slow: Option<Slow>,
}

/// Everything that one decision needs.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and no state"
)]
pub(super) struct Facts {
    now_ms: u64,
    policy: Rollout,
    order: String,
    weights: Weights,
    weights_mistake: Option<String>,
    build: BTreeSet<String>,
    is_up: bool,
    has_base: bool,
    counters: Counters,
    unit: Unit,
    copies: Copies,
    in_force: bool,
    slow: Option<Slow>,
    /// What was remembered.
    pub(super) memory: Option<Memory>,
    /// The turn that stands there, also where nothing else can be read.
    pub(super) turn: Option<u64>,
    /// Whether counts are others than at the last look.
    pub(super) changed: bool,
}

impl Facts {
    /// The same, as `policy` wants it.
    pub(super) fn scene(&self) -> Scene<'_> {
        Scene {
            now_ms: self.now_ms,
            policy: &self.policy,
            order: &self.order,
            weights: &self.weights,
            weights_mistake: self.weights_mistake.as_deref(),
            build: &self.build,
            is_up: self.is_up,
            has_base: self.has_base,
            counters: &self.counters,
            unit: self.unit,
            copies: &self.copies,
            in_force: self.in_force,
            slow: self.slow,
        }
    }

    /// What the counts say.
    pub(super) fn evidence(&self) -> Evidence {
        let none = Memory::default();
        let memory = self.memory.as_ref().unwrap_or(&none);
        Evidence::weigh(&self.policy, memory, self.unit, &self.counters)
    }
}

/// Reads.
#[derive(Debug)]
pub(super) struct Desk {
    config: View,
    /// Where counts are, if elsewhere.
    stats: Option<View>,
    /// Where results of comparisons are, if elsewhere.
    shadow: Option<View>,
}

impl Desk {
    pub(super) fn new(options: &Options) -> Result<Self, Error> {
        let other = |there: &crate::store::Options| {
            let is_same = there.url == options.config.url;
            (!is_same).then(|| View::connect(there)).transpose()
        };
        Ok(Self {
            config: View::connect(&options.config)?,
            stats: other(&options.stats)?,
            shadow: other(&options.shadow)?,
        })
    }

    pub(super) async fn wait(&self) -> Result<(), Error> {
        self.config.wait().await?;
        for view in self.stats.iter().chain(&self.shadow) {
            view.wait().await?;
        }
        Ok(())
    }

    /// The way to the configuration.
    pub(super) fn view(&self) -> &View {
        &self.config
    }

    fn stats(&self) -> &View {
        self.stats.as_ref().unwrap_or(&self.config)
    }

    fn shadow(&self) -> &View {
        self.shadow.as_ref().unwrap_or(&self.config)
    }

    /// What stands there; `None` where there is no rollout, or none that was ever right.
    pub(super) async fn read(
        &self,
        service: &ServiceName,
        standing: &mut Standing,
    ) -> Result<Option<Facts>, Error> {
        let keys = self.config.keys();
        let objects = [
            Object::Rollout(service.clone()),
            Object::Endpoints(service.clone()),
            Object::Service(service.clone()),
            Object::Defaults,
            Object::Shadow(service.clone()),
            Object::Weights(service.clone()),
        ];
        let mut names: Vec<String> = objects.iter().map(|object| keys.object(object)).collect();
        names.extend([keys.pilot(service), keys.health(service)]);
        let read = self.config.hashes(&names).await?;
        let fields = |at: usize| read.get(at).cloned().unwrap_or_default();
        let (rollout, weights, pilot, health) = (fields(0), fields(5), fields(6), fields(7));
        if rollout.is_empty() {
            *standing = Standing::default();
            return Ok(None);
        }
        for (at, object) in objects.iter().take(5).enumerate() {
            let now = fields(at);
            if standing.read.get(at) != Some(&now) {
                standing.learn(decoded(keys, object, &now), now.is_empty());
            }
        }
        let (weights, weights_mistake) = weights_of(keys, service, &weights);
        let Some(policy) = standing.policy.clone() else {
            standing.read = read;
            return Ok(None);
        };
        standing.read = read;
        let memory = Memory::from_fields(&pilot);
        let turn = pilot.get("turn").and_then(|turn| turn.parse().ok());
        let now_ms = self.config.now_ms().await?;
        let counts = self
            .stats()
            .hashes(&[keys.trial(service, &policy.candidate)])
            .await?;
        let counts = counts.into_iter().next().unwrap_or_default();
        let results = keys.shadow_results(service, &policy.candidate);
        let results = self.shadow().hashes(&[results]).await?;
        let results = results.into_iter().next().unwrap_or_default();
        let (build, is_up, has_base) = lineup(&standing.endpoints, &health, &policy.candidate);
        let mut facts = Facts {
            now_ms,
            order: rollout.get("state").cloned().unwrap_or_default(),
            weights,
            weights_mistake,
            build,
            is_up,
            has_base,
            counters: counters(&counts, &results, &policy),
            unit: standing.unit(),
            copies: Copies::Compared,
            in_force: true,
            slow: standing.slow,
            changed: counts != standing.counts,
            policy,
            memory,
            turn,
        };
        standing.counts = counts;
        self.look_closer(service, standing, &mut facts).await?;
        Ok(Some(facts))
    }

    /// What is asked only where it matters.
    async fn look_closer(
        &self,
        service: &ServiceName,
        standing: &mut Standing,
        facts: &mut Facts,
    ) -> Result<(), Error> {
        let Some(memory) = &facts.memory else {
            standing.slow = None;
            facts.slow = None;
            return Ok(());
        };
        if matches!(memory.state, State::Shadow | State::Waiting) {
            facts.copies = self.copies(service, standing, &facts.policy).await?;
        }
        if memory.state.is_live() && !memory.is_in_force {
            let gateways = self.config.gateways().await?;
            facts.in_force = is_in_force(&gateways, memory.decided_ms);
        }
        let is_due = facts.now_ms.saturating_sub(standing.bounds_ms) >= BOUNDS_EVERY_MS;
        if memory.slow.is_none() && !memory.state.is_over() && is_due {
            standing.bounds_ms = facts.now_ms;
            standing.slow = self.bounds(service, facts).await?;
            facts.slow = standing.slow;
        }
        Ok(())
    }

    /// Whether copies are compared, and what is missing.
    async fn copies(
        &self,
        service: &ServiceName,
        standing: &Standing,
        policy: &Rollout,
    ) -> Result<Copies, Error> {
        let candidate = &policy.candidate;
        let key = self.config.keys().object(&Object::Shadow(service.clone()));
        let copied = standing.shadow.as_ref();
        if copied.is_none_or(|shadow| !shadow.candidates.contains(candidate)) {
            return Ok(Copies::Missing(format!(
                "no copies for {candidate}: redis-cli HSET {key} candidate {candidate}"
            )));
        }
        let idle = self.shadow().worker_idle_ms(service, candidate).await?;
        Ok(match idle {
            Some(idle) if idle < WORKER_IDLE_MAX_MS => Copies::Compared,
            _ => Copies::Missing(format!(
                "no worker compares copies: smartlink shadow {service}"
            )),
        })
    }

    /// Bounds of slowness, as `base` is now.
    async fn bounds(&self, service: &ServiceName, facts: &Facts) -> Result<Option<Slow>, Error> {
        let (keys, now) = (self.stats().keys(), facts.now_ms / 1000);
        let base = Name::base();
        let seconds = now.saturating_sub(FINE)..=now;
        let names: Vec<String> = seconds.map(|at| keys.hist(service, &base, at)).collect();
        let fine = Base::fine(&self.stats().hashes(&names).await?);
        if fine.requests() >= FINE_MIN {
            return Ok(fine.slow(facts.policy.max_latency_ratio));
        }
        let first = now.saturating_sub(HOUR) / WINDOW;
        let windows = (first..=now / WINDOW).map(|at| at * WINDOW);
        let names: Vec<String> = windows
            .map(|start| keys.stats_window(service, Some(&base), start))
            .collect();
        let coarse = Base::coarse(&self.stats().hashes(&names).await?);
        Ok(Some(coarse)
            .filter(|coarse| coarse.requests() >= COARSE_MIN)
            .and_then(|coarse| coarse.slow(facts.policy.max_latency_ratio)))
    }
}

impl Standing {
    /// What was read and is right stays in force.
    fn learn(&mut self, value: Option<Value>, is_absent: bool) {
        match value {
            Some(Value::Rollout(policy)) => self.policy = Some(policy),
            Some(Value::Endpoints(endpoints)) => self.endpoints = endpoints,
            Some(Value::Service(settings)) => self.service = settings,
            Some(Value::Defaults(settings)) => self.defaults = settings,
            Some(Value::Shadow(shadow)) => {
                self.shadow = Some(shadow).filter(|_| !is_absent);
            }
            _ => {}
        }
    }

    fn unit(&self) -> Unit {
        match Effective::merge(&self.service, &self.defaults).sticky {
            Some(_) => Unit::Caller,
            None => Unit::Request,
        }
    }
}

fn decoded(keys: &crate::model::keys::Keys, object: &Object, fields: &Fields) -> Option<Value> {
    let (value, mistakes) = decode_object(keys, object, fields);
    mistakes.iter().for_each(telemetry::config_error);
    value.filter(|_| mistakes.is_empty())
}

/// The weights, or what is wrong with them.
fn weights_of(
    keys: &crate::model::keys::Keys,
    service: &ServiceName,
    fields: &Fields,
) -> (Weights, Option<String>) {
    let object = Object::Weights(service.clone());
    let (value, mistakes) = decode_object(keys, &object, fields);
    match value {
        Some(Value::Weights(weights)) if mistakes.is_empty() => (weights, None),
        _ => {
            let first = mistakes.first().map(ToString::to_string);
            (Weights::new(), Some(first.unwrap_or_default()))
        }
    }
}

/// The candidate's endpoints, whether one may be up, and whether `base` has any.
fn lineup(
    endpoints: &Endpoints,
    health: &Fields,
    candidate: &Name,
) -> (BTreeSet<String>, bool, bool) {
    let serves = |duty: Duty| matches!(duty, Duty::Active | Duty::Backup);
    let of = |version: &str| {
        let specs = endpoints.values();
        let specs = specs.filter(move |spec| spec.version.as_str() == version && serves(spec.duty));
        specs
            .map(|spec| spec.url.to_string())
            .collect::<BTreeSet<_>>()
    };
    let build = of(candidate.as_str());
    let is_down = |url: &String| {
        let state = health.get(url).and_then(|text| {
            let json: serde_json::Value = serde_json::from_str(text).ok()?;
            Some(json.get("state")?.as_str()? == "down")
        });
        state.unwrap_or(false)
    };
    let is_up = build.iter().any(|url| !is_down(url));
    (build, is_up, !of("base").is_empty())
}

fn counters(counts: &Fields, results: &Fields, policy: &Rollout) -> Counters {
    let number = counts.get("trial").and_then(|text| text.parse().ok());
    let fields = counts
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()));
    Counters {
        number: number.unwrap_or_default(),
        trial: Trial::from_fields(fields, "base", policy.candidate.as_str()),
        shadow: ShadowCounts::from_results(results),
    }
}

/// Whether every gateway gave a life sign after that moment, and all have the same table.
fn is_in_force(gateways: &[Fields], since_ms: u64) -> bool {
    let beat = |fields: &Fields| fields.get("heartbeat_ms")?.parse::<u64>().ok();
    let digests: BTreeSet<_> = gateways.iter().map(|fields| fields.get("digest")).collect();
    let all_beat = gateways.iter().all(|fields| beat(fields) > Some(since_ms));
    all_beat && digests.len() <= 1
}
