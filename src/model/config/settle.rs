//! From a batch of changed objects to the next table: judge what is touched, build what is
//! different, name what is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::build::{self, Plan};
use super::judge::{self, Hand, Shares, Use, Verdict};
use super::slot::{Content, Slot};
use super::{Applied, Batch, Config};
use crate::model::decode::ConfigError;
use crate::model::endpoint::Endpoints;
use crate::model::hash::mix;
use crate::model::keys::{Object, first_digits};
use crate::model::name::{Name, VersionName};
use crate::model::settings::{Effective, Settings};
use crate::model::table::{Alerts, Service, Services, Table};
use crate::model::weights::Weights;

/// The settings of all services, in force.
#[derive(Debug)]
pub(super) struct Defaults {
    settings: Settings,
    effective: Arc<Effective>,
    misconfigured: Option<Box<str>>,
}

impl Default for Defaults {
    fn default() -> Self {
        Self::new(Settings::default(), None)
    }
}

impl Defaults {
    fn new(settings: Settings, misconfigured: Option<Box<str>>) -> Self {
        Self {
            effective: Arc::new(Effective::merge(&Settings::default(), &settings)),
            settings,
            misconfigured,
        }
    }
}

/// What became of the services.
pub(super) struct Settled {
    pub(super) services: Services,
    /// Whether any is different.
    changed: bool,
    /// Those that came, went, or are different in what a route depends on.
    pub(super) altered: BTreeSet<Name>,
}

impl Config {
    /// Ends a batch.
    pub(super) fn settle(&mut self, mut batch: Batch) -> Applied {
        let is_issuer = |object: &Object| matches!(object, Object::Issuer(_));
        let issuers = batch.touched.iter().any(is_issuer);
        let defaults_changed = self.settle_defaults(issuers, &mut batch);
        let settled = self.settle_services(issuers || defaults_changed, &mut batch);
        let routes = self.settle_routes(&settled, &mut batch);
        self.settle_marks(&mut batch);
        self.settle_history(&mut batch);
        let alerts = self.settle_alerts(&batch);
        let issuers = self.settle_issuers(&batch);
        let noted = std::mem::take(&mut self.noted);
        let mut applied = Applied::default();
        self.settle_errors(&batch, &mut applied);
        let loaded = batch.load || self.table.loaded;
        let different = settled.changed
            || defaults_changed
            || routes.is_some()
            || !batch.changed.is_empty()
            || noted > 0
            || loaded != self.table.loaded;
        if different {
            self.table = Arc::new(Table {
                revision: self.table.revision + 1,
                digest: format!("{:032x}", self.digest).into(),
                services: settled.services,
                routes: routes.map_or_else(|| Arc::clone(&self.table.routes), Arc::new),
                alerts: alerts.unwrap_or_else(|| Arc::clone(&self.table.alerts)),
                issuers: issuers.unwrap_or_else(|| Arc::clone(&self.table.issuers)),
                tokens: self.roster.tokens().clone(),
                defaults: Arc::clone(&self.defaults.effective),
                defaults_misconfigured: self.defaults.misconfigured.clone(),
                loaded,
            });
            applied.table = Some(Arc::clone(&self.table));
            applied.changed = batch.changed.iter().map(describe).collect();
            if noted > 0 {
                applied.changed.push(format!("{noted} tokens"));
            }
        }
        applied.history = batch.history;
        applied
    }

    /// Whether the defaults in force are others now.
    fn settle_defaults(&mut self, issuers: bool, batch: &mut Batch) -> bool {
        if !issuers && !batch.touched.contains(&Object::Defaults) {
            return false;
        }
        self.judge_settings(Object::Defaults, batch);
        let slot = self.slots.get(&Object::Defaults);
        let settings = slot.and_then(settings_of).cloned().unwrap_or_default();
        let closed = slot
            .and_then(Slot::closes)
            .map(|error| error.to_string().into());
        let different = settings != self.defaults.settings || closed != self.defaults.misconfigured;
        if different {
            self.defaults = Defaults::new(settings, closed);
        }
        different
    }

    fn settle_services(&mut self, all: bool, batch: &mut Batch) -> Settled {
        let mut names: BTreeSet<Name> = batch.touched.iter().filter_map(service_of).collect();
        if all {
            names.extend(
                self.table
                    .services
                    .iter()
                    .map(|service| service.name.clone()),
            );
        }
        let mut settled = Settled {
            services: self.table.services.clone(),
            changed: false,
            altered: BTreeSet::new(),
        };
        for name in names {
            let before = self.table.services.get(name.as_str()).cloned();
            let after = self.settle_service(&name, before.as_ref(), batch);
            if is_same(before.as_ref(), after.as_ref()) {
                continue;
            }
            settled.changed = true;
            settled.services.set(&name, after.clone());
            if !is_same_to_routes(before.as_deref(), after.as_deref()) {
                settled.altered.insert(name);
            }
        }
        settled
    }

    /// Judges and builds one service; `None`: it has no endpoints hash.
    fn settle_service(
        &mut self,
        name: &Name,
        before: Option<&Arc<Service>>,
        batch: &mut Batch,
    ) -> Option<Arc<Service>> {
        self.judge_settings(Object::Service(name.clone()), batch);
        let endpoints_at = Object::Endpoints(name.clone());
        let weights_at = Object::Weights(name.clone());
        let shares = self.settle_split(&endpoints_at, &weights_at, batch);
        batch.touched.insert(weights_at);
        let slot = self.slots.get(&endpoints_at)?;
        batch.touched.insert(endpoints_at);
        let own = self.slots.get(&Object::Service(name.clone()));
        let settings = match own.and_then(settings_of) {
            Some(own) => Arc::new(Effective::merge(own, &self.defaults.settings)),
            None => Arc::clone(&self.defaults.effective),
        };
        let closed = own.and_then(Slot::closes).or_else(|| slot.closes());
        let misconfigured = (self.defaults.misconfigured.clone())
            .or(closed.map(|error| error.to_string().into()))
            .or_else(|| self.unproven(&settings.auth));
        let plan = Plan {
            name,
            settings,
            endpoints: endpoints_of(slot.in_force()),
            shares: &shares,
            shadow: match in_force(&self.slots, &Object::Shadow(name.clone())) {
                Some(Content::Shadow(shadow)) => Some(shadow),
                _ => None,
            },
            rollout: match in_force(&self.slots, &Object::Rollout(name.clone())) {
                Some(Content::Rollout(rollout)) => Some(rollout),
                _ => None,
            },
            trial: match in_force(&self.slots, &Object::Pilot(name.clone())) {
                Some(Content::Trial(trial)) => Some(trial),
                _ => None,
            },
            misconfigured,
            before,
            seed: self.seed_of(name, batch.seed),
        };
        Some(build::service(plan, &mut self.pools))
    }

    /// Judges endpoints and weights of a service and puts in force what fits.
    fn settle_split(&mut self, endpoints: &Object, weights: &Object, batch: &mut Batch) -> Shares {
        let endpoints_hand = hand(self.slots.get(endpoints), endpoints_of);
        let weights_hand = hand(self.slots.get(weights), weights_of);
        let verdict = if self.slots.contains_key(endpoints) {
            judge::judge(&endpoints_hand, &weights_hand)
        } else {
            judge::without_service()
        };
        let Verdict {
            endpoints: endpoints_used,
            weights: weights_used,
            shares,
            endpoints_fault,
            weights_faults,
        } = verdict;
        if let Some(slot) = self.slots.get_mut(endpoints) {
            if endpoints_used == Use::New {
                slot.adopt();
            }
            let error = |message| ConfigError {
                key: self.keys.shown(endpoints),
                field: None,
                message,
            };
            slot.discord = endpoints_fault.map(error).into_iter().collect();
        }
        let Some(slot) = self.slots.get_mut(weights) else {
            return shares;
        };
        if slot.is_deleted() && weights_used == Use::None {
            self.remove(weights, batch);
            return shares;
        }
        if weights_used == Use::New {
            slot.adopt();
        }
        slot.discord = weights_faults
            .into_iter()
            .filter(|_| !slot.is_refused() && !slot.is_deleted())
            .map(|(version, message)| ConfigError {
                key: self.keys.shown(weights),
                field: version.as_ref().map(VersionName::to_string),
                message,
            })
            .collect();
        shares
    }

    /// Brings the digest up to date, and notes what of it changed.
    fn settle_marks(&mut self, batch: &mut Batch) {
        for object in &batch.touched {
            let serves = match object {
                // Weights without a service are in force for nobody.
                Object::Weights(name) => self.slots.contains_key(&Object::Endpoints(name.clone())),
                _ => true,
            };
            let Some(slot) = self.slots.get_mut(object) else {
                continue;
            };
            let mark = if serves {
                slot.digest(&self.keys, object)
            } else {
                0
            };
            if mark != slot.mark {
                self.digest = self.digest.wrapping_sub(slot.mark).wrapping_add(mark);
                slot.mark = mark;
                batch.changed.insert(object.clone());
            }
        }
    }

    /// Takes note of the texts that came into force.
    fn settle_history(&mut self, batch: &mut Batch) {
        let was_known = self.table.loaded && !batch.restored;
        let touched = std::mem::take(&mut batch.touched);
        for object in &touched {
            let slot = self.slots.get_mut(object);
            if let Some((old, new)) = slot.and_then(Slot::take_change)
                && was_known
            {
                batch.note(object, old.as_ref(), Some(new));
            }
        }
        batch.touched = touched;
    }

    /// The alerts in force, where any of them is another one.
    fn settle_alerts(&self, batch: &Batch) -> Option<Arc<Alerts>> {
        let altered = |object: &Object| matches!(object, Object::Alert(_));
        batch.changed.iter().find(|object| altered(object))?;
        let alerts = self.slots.iter().filter_map(|(object, slot)| {
            let (Object::Alert(id), Some(Content::Alert(alert))) = (object, slot.in_force()) else {
                return None;
            };
            Some((id.clone(), Arc::clone(alert)))
        });
        Some(Arc::new(alerts.collect()))
    }

    fn settle_errors(&mut self, batch: &Batch, applied: &mut Applied) {
        for object in &batch.touched {
            let now = self.slots.get(object).map(Slot::errors).unwrap_or_default();
            let before = self.errors.remove(object).unwrap_or_default();
            difference(&before, &now, applied);
            if !now.is_empty() {
                self.errors.insert(object.clone(), now);
            }
        }
        let notice = vanished_notice(self.vanished.len());
        let before = std::mem::replace(&mut self.vanished_notice, notice);
        difference(before.as_slice(), self.vanished_notice.as_slice(), applied);
        applied.vanished = Some(self.is_vanished()).filter(|now| *now != batch.was_vanished);
    }

    /// Another seed for each service and each table.
    fn seed_of(&self, name: &Name, seed: u64) -> u64 {
        let mixed = name.as_str().bytes().fold(seed, |seed, byte| {
            mix(seed.rotate_left(8) ^ u64::from(byte))
        });
        mix(mixed ^ self.table.revision)
    }
}

fn difference(before: &[ConfigError], now: &[ConfigError], applied: &mut Applied) {
    let is_new = |error: &&ConfigError| !before.contains(error);
    applied
        .errors_new
        .extend(now.iter().filter(is_new).cloned());
    let is_gone = |error: &&ConfigError| {
        let same_place =
            |other: &ConfigError| (&other.key, &other.field) == (&error.key, &error.field);
        !now.iter().any(same_place)
    };
    let gone = before.iter().filter(is_gone);
    applied.errors_gone.extend(gone.map(ConfigError::place));
}

fn vanished_notice(count: usize) -> Option<ConfigError> {
    (count > 0).then(|| ConfigError {
        key: super::VANISHED.to_owned(),
        field: None,
        message: format!(
            "{count} known keys are gone without an order and stay in force: write them again, or \
             drop them: all with `smartlink forget-vanished`, or one with HSET and then DEL"
        ),
    })
}

fn describe(object: &Object) -> String {
    match object {
        Object::Defaults => "defaults".to_owned(),
        Object::Endpoints(name) => format!("endpoints {name}"),
        Object::Weights(name) => format!("weights {name}"),
        Object::Service(name) => format!("service {name}"),
        Object::Route(id) => format!("route {id}"),
        Object::Token(hash) => format!("token {}", first_digits(hash)),
        Object::Issuer(id) => format!("issuer {id}"),
        Object::Shadow(name) => format!("shadow {name}"),
        Object::Rollout(name) => format!("rollout {name}"),
        Object::Pilot(name) => format!("pilot {name}"),
        Object::Alert(id) => format!("alert {id}"),
    }
}

/// The service whose place in the table an object decides.
fn service_of(object: &Object) -> Option<Name> {
    match object {
        Object::Endpoints(name)
        | Object::Weights(name)
        | Object::Service(name)
        | Object::Shadow(name)
        | Object::Rollout(name)
        | Object::Pilot(name) => Some(name.clone()),
        _ => None,
    }
}

fn hand<'a, T>(
    slot: Option<&'a Slot>,
    of: impl Fn(Option<&'a Content>) -> Option<&'a T>,
) -> Hand<'a, T> {
    Hand {
        good: of(slot.and_then(Slot::in_force)),
        new: of(slot.and_then(Slot::pending)),
        stands: slot.is_some_and(|slot| !slot.is_deleted()),
    }
}

fn in_force<'s>(slots: &'s BTreeMap<Object, Slot>, object: &Object) -> Option<&'s Content> {
    slots.get(object).and_then(Slot::in_force)
}

fn endpoints_of(content: Option<&Content>) -> Option<&Endpoints> {
    match content {
        Some(Content::Endpoints(endpoints)) => Some(endpoints),
        _ => None,
    }
}

fn weights_of(content: Option<&Content>) -> Option<&Weights> {
    match content {
        Some(Content::Weights(weights)) => Some(weights),
        _ => None,
    }
}

fn settings_of(slot: &Slot) -> Option<&Settings> {
    match slot.in_force() {
        Some(Content::Settings(settings)) => Some(settings),
        _ => None,
    }
}

pub(super) fn is_same<T>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// Whether two states of a service have the same routes: the same versions, and the same settings
/// that no route can follow.
fn is_same_to_routes(a: Option<&Service>, b: Option<&Service>) -> bool {
    let (Some(a), Some(b)) = (a, b) else {
        return a.is_none() && b.is_none();
    };
    let names = |service: &Service| -> Vec<VersionName> {
        service
            .versions
            .iter()
            .map(|version| version.name.clone())
            .collect()
    };
    names(a) == names(b)
        && a.misconfigured.is_none() == b.misconfigured.is_none()
        && a.settings.keyed_by_body().eq(b.settings.keyed_by_body())
}
