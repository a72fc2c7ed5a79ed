//! What a pilot reads: policies, weights, endpoints, counts, and what it remembered.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Options;
use super::bounds::{Base, COARSE_MIN, FINE_MIN};
use super::said::{decoded, is_in_force, lineup, no_hash, weights_of};
use crate::judge::trial::{Trial, Unit};
use crate::model::decode::Fields;
use crate::model::endpoint::Endpoints;
use crate::model::keys::{Keys, Object};
use crate::model::name::{Name, ServiceName, VersionName};
use crate::model::object::Value;
use crate::model::rollout::{self, Rollout};
use crate::model::settings::{Effective, Settings};
use crate::model::shadow::Shadow;
use crate::model::weights::Weights;
use crate::policy::rollout::evidence::ShadowCounts;
use crate::policy::rollout::{
    Copies, Counters, Decision, Evidence, Memory, Scene, Slow, State, Unread,
};
use crate::store::{Error, View};

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
/// For how long a Redis beside the configuration is let be that did not answer: each rollout would
/// wait for it.
const REST: Duration = Duration::from_secs(2);
/// What is said where the Redis with the results of copies does not answer.
const UNREAD: &str = "the results of copies cannot be read";

/// What was last read and right of one service.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// All that was read; `None` where something stood that is no hash.
    read: Vec<Option<Fields>>,
    policy: Option<Rollout>,
    /// The text of `state` beside that policy: a text that is no order is not heard.
    order: String,
    endpoints: Endpoints,
    defaults: Settings,
    service: Settings,
    shadow: Option<Shadow>,
    seen: Seen,
    bounds_ms: u64,
    slow: Option<Slow>,
}

/// What was counted of a candidate, as it was last read.
#[derive(Debug, Default)]
struct Seen {
    candidate: Option<VersionName>,
    counts: Fields,
    results: Option<Fields>,
}

/// How much of the counts could be read.
#[derive(Debug, Default)]
struct Sight {
    /// Whether counts are others than at the last look.
    changed: bool,
    /// Whether counts could not be read now.
    no_counts: bool,
    /// Whether results of copies were never read.
    no_results: bool,
    /// What failed.
    away: Option<Error>,
}

/// Everything that one decision needs.
#[derive(Debug)]
pub(super) struct Facts {
    now_ms: u64,
    policy: Rollout,
    order: String,
    /// The field `state` as it stands, also where it is no order.
    pub(super) order_text: String,
    weights: Weights,
    unread: Option<Unread>,
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
    sight: Sight,
}

impl Facts {
    /// Whether counts are others than at the last look.
    pub(super) fn changed(&self) -> bool {
        self.sight.changed
    }

    /// What could not be read.
    pub(super) fn take_away(&mut self) -> Option<Error> {
        self.sight.away.take()
    }

    /// Whether that may be decided on what could be read. Without counts only a person is obeyed who
    /// holds or ends it, and a candidate that was taken back is kept away. Where results of copies
    /// were never read, no trial begins: old ones would count in it.
    pub(super) fn allow(&self, decision: &Decision) -> bool {
        let (next, before) = (&decision.memory, self.memory.as_ref());
        let is_new = before.is_none_or(|before| before.trial != next.trial);
        let is_heard = before.is_some_and(|before| before.order != self.order);
        let is_kept = before.is_some_and(|before| before.state == next.state);
        let ends = next.state == State::Aborted || (next.state.is_over() && is_kept);
        let holds = next.state == State::Paused && is_heard && !is_new;
        ends || ((holds || !self.sight.no_counts) && !(is_new && self.sight.no_results))
    }

    /// The same, as `policy` wants it.
    pub(super) fn scene(&self) -> Scene<'_> {
        Scene {
            now_ms: self.now_ms,
            policy: &self.policy,
            order: &self.order,
            weights: &self.weights,
            unread: self.unread.as_ref(),
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
    stats: Side,
    /// Where results of comparisons are, if elsewhere.
    shadow: Side,
}

/// A Redis beside the configuration, or the same.
#[derive(Debug)]
struct Side {
    view: Option<View>,
    /// When it last did not answer.
    silent: Mutex<Option<Instant>>,
}

impl Side {
    fn rests(&self) -> bool {
        let silent = *self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.is_some_and(|since| since.elapsed() < REST)
    }

    /// What became of a question. One to the configuration itself needs no rest: the look ends.
    fn heard<T>(&self, answer: Result<T, Error>) -> Result<T, Error> {
        if self.view.is_some() {
            let silent = answer.is_err().then(Instant::now);
            *self.silent.lock().unwrap_or_else(PoisonError::into_inner) = silent;
        }
        answer
    }
}

impl Desk {
    pub(super) fn new(options: &Options) -> Result<Self, Error> {
        let other = |there: &crate::store::Options| {
            let is_same = there.url == options.config.url;
            let view = (!is_same).then(|| View::connect(there)).transpose()?;
            let silent = Mutex::default();
            Ok::<_, Error>(Side { view, silent })
        };
        Ok(Self {
            config: View::connect(&options.config)?,
            stats: other(&options.stats)?,
            shadow: other(&options.shadow)?,
        })
    }

    pub(super) async fn wait(&self) -> Result<(), Error> {
        self.config.wait().await?;
        for view in [&self.stats, &self.shadow]
            .into_iter()
            .filter_map(|side| side.view.as_ref())
        {
            view.wait().await?;
        }
        Ok(())
    }

    /// The way to the configuration.
    pub(super) fn view(&self) -> &View {
        &self.config
    }

    fn stats(&self) -> &View {
        self.stats.view.as_ref().unwrap_or(&self.config)
    }

    fn shadow(&self) -> &View {
        self.shadow.view.as_ref().unwrap_or(&self.config)
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
        let read = self.config.if_hashes(&names).await?;
        let hash = |at: usize| read.get(at).cloned().flatten();
        let (rollout, weights, pilot) = (hash(0), hash(5), hash(6).unwrap_or_default());
        if rollout.as_ref().is_some_and(Fields::is_empty) {
            *standing = Standing::default();
            return Ok(None);
        }
        for (at, object) in objects.iter().enumerate() {
            if standing.read.get(at) != read.get(at) {
                standing.read_anew(keys, object, hash(at));
            }
        }
        let rollout = rollout.unwrap_or_default();
        standing.heed_stop(&rollout);
        let memory = Memory::from_fields(&pilot);
        let own = || memory.as_ref().and_then(|memory| memory.own.clone());
        let (weights, unread) = match &weights {
            Some(fields) => weights_of(keys, service, fields),
            None => (own().unwrap_or_default(), Some(Unread::NoHash)),
        };
        let health = hash(7).unwrap_or_default();
        let Some(policy) = standing.policy.clone() else {
            standing.read = read;
            return Ok(None);
        };
        standing.read = read;
        let turn = pilot.get("turn").and_then(|turn| turn.parse().ok());
        let now_ms = self.config.now_ms().await?;
        let seen = &mut standing.seen;
        let sight = self.count(service, &policy.candidate, seen).await;
        let counters = counters(seen, memory.as_ref());
        let (build, is_up, has_base) = lineup(&standing.endpoints, &health, &policy.candidate);
        let mut facts = Facts {
            now_ms,
            order: standing.order.clone(),
            order_text: rollout.get("state").cloned().unwrap_or_default(),
            weights,
            unread,
            build,
            is_up,
            has_base,
            counters,
            unit: standing.unit(),
            copies: Copies::Compared,
            in_force: true,
            slow: standing.slow,
            sight,
            policy,
            memory,
            turn,
        };
        self.look_closer(service, standing, &mut facts).await?;
        Ok(Some(facts))
    }

    /// What was counted of the candidate. What cannot be read stays as it was: counts only grow, so
    /// that less is proven.
    async fn count(&self, service: &ServiceName, candidate: &Name, seen: &mut Seen) -> Sight {
        if seen.candidate.as_ref() != Some(candidate) {
            *seen = Seen {
                candidate: Some(candidate.clone()),
                ..Seen::default()
            };
        }
        let (keys, mut sight) = (self.config.keys(), Sight::default());
        let counts = self.hash(&self.stats, keys.trial(service, candidate));
        match counts.await {
            Ok(counts) => {
                sight.changed = counts != seen.counts;
                seen.counts = counts;
            }
            Err(error) => {
                sight.no_counts = true;
                sight.away = Some(error);
            }
        }
        let results = self.hash(&self.shadow, keys.shadow_results(service, candidate));
        match results.await {
            Ok(results) => seen.results = Some(results),
            Err(error) => sight.away = sight.away.or(Some(error)),
        }
        sight.no_results = seen.results.is_none();
        sight
    }

    async fn hash(&self, side: &Side, key: String) -> Result<Fields, Error> {
        if side.rests() {
            return Err(Error::Away);
        }
        let view = side.view.as_ref().unwrap_or(&self.config);
        let read = side.heard(view.hashes(&[key]).await)?;
        Ok(read.into_iter().next().unwrap_or_default())
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
            facts.copies = self.copies(service, standing, &facts.policy).await;
        }
        if memory.state.is_live() && !memory.is_in_force {
            let gateways = self.config.gateways().await?;
            facts.in_force = is_in_force(&gateways, memory.decided_ms);
        }
        let is_due = facts.now_ms.saturating_sub(standing.bounds_ms) >= BOUNDS_EVERY_MS;
        let is_due = is_due && !facts.sight.no_counts;
        if memory.slow.is_none() && !memory.state.is_over() && is_due {
            standing.bounds_ms = facts.now_ms;
            standing.slow = self.bounds(service, facts).await?;
            facts.slow = standing.slow;
        }
        Ok(())
    }

    /// Whether copies are compared, and what is missing.
    async fn copies(&self, service: &ServiceName, standing: &Standing, policy: &Rollout) -> Copies {
        let candidate = &policy.candidate;
        let key = self.config.keys().object(&Object::Shadow(service.clone()));
        let copied = standing.shadow.as_ref();
        if copied.is_none_or(|shadow| !shadow.candidates.contains(candidate)) {
            return Copies::Missing(format!(
                "no copies for {candidate}: redis-cli HSET {key} candidate {candidate}"
            ));
        }
        if self.shadow.rests() {
            return Copies::Missing(UNREAD.to_owned());
        }
        let idle = self.shadow().worker_idle_ms(service, candidate).await;
        match self.shadow.heard(idle) {
            Ok(Some(idle)) if idle < WORKER_IDLE_MAX_MS => Copies::Compared,
            Ok(_) => Copies::Missing(format!(
                "no worker compares copies: smartlink shadow {service}"
            )),
            Err(_) => Copies::Missing(UNREAD.to_owned()),
        }
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
    /// Learns what an object says now; what is no hash says nothing, so that what was right before
    /// stays in force.
    fn read_anew(&mut self, keys: &Keys, object: &Object, hash: Option<Fields>) {
        match (object, hash) {
            (_, None) => no_hash(keys, object),
            (Object::Weights(_), Some(_)) => {}
            (_, Some(now)) => {
                let value = decoded(keys, object, &now);
                if matches!(value, Some(Value::Rollout(_))) {
                    self.order = now.get("state").cloned().unwrap_or_default();
                }
                self.learn(value, now.is_empty());
            }
        }
    }

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

    /// Obeys a person who stops the rollout, also where the rest of its hash is wrong.
    fn heed_stop(&mut self, hash: &Fields) {
        let text = hash.get("state").map(String::as_str).unwrap_or_default();
        if let (Some(order), Some(policy)) = (rollout::stop(text), &mut self.policy) {
            policy.state = order;
            text.clone_into(&mut self.order);
        }
    }

    fn unit(&self) -> Unit {
        match Effective::merge(&self.service, &self.defaults).sticky {
            Some(_) => Unit::Caller,
            None => Unit::Request,
        }
    }
}

/// Results that were never read say as much as those before the trial: nothing.
fn counters(seen: &Seen, memory: Option<&Memory>) -> Counters {
    let number = seen.counts.get("trial").and_then(|text| text.parse().ok());
    let fields = (seen.counts.iter()).map(|(name, text)| (name.as_str(), text.as_str()));
    let candidate = seen.candidate.as_ref().map_or("", Name::as_str);
    let results = seen.results.as_ref().map(ShadowCounts::from_results);
    let before = || memory.map(|memory| memory.shadow_before);
    Counters {
        number: number.unwrap_or_default(),
        trial: Trial::from_fields(fields, "base", candidate),
        shadow: results.or_else(before).unwrap_or_default(),
    }
}
