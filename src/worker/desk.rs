//! What stands in the configuration, read each second: the last good state of each hash stays in
//! force.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::usual::Usual;
use crate::judge::compare::Rules;
use crate::model::decode::Fields;
use crate::model::endpoint::{Duty, EndpointSpec, Endpoints};
use crate::model::keys::Object;
use crate::model::name::{ServiceName, VersionName};
use crate::model::object::{Value, decode_object};
use crate::model::settings::{Effective, Limit, Settings};
use crate::model::shadow::Shadow;
use crate::store::{Error, View};
use crate::telemetry;

/// What a lane needs to know of its service.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) policy: Arc<Shadow>,
    pub(super) rules: Rules,
    pub(super) settings: Effective,
    pub(super) endpoints: Endpoints,
    /// Requests in flight by version, as the gateways say.
    in_flight: BTreeMap<String, u64>,
    concurrency: Option<u32>,
    /// The versions whose users wait longer than usual.
    strained: BTreeSet<String>,
}

impl Job {
    /// The endpoints of a version that may be called, backups only where there is no other.
    pub(super) fn endpoints(&self, version: &VersionName) -> Vec<&EndpointSpec> {
        let of = |duty: Duty| {
            let all = self.endpoints.values();
            let all = all.filter(move |spec| spec.duty == duty && spec.version == *version);
            all.filter(|spec| spec.weight > 0).collect::<Vec<_>>()
        };
        let active = of(Duty::Active);
        if active.is_empty() {
            of(Duty::Backup)
        } else {
            active
        }
    }

    /// Whether users need what the candidate can do: their requests come first.
    pub(super) fn is_busy(&self, version: &VersionName) -> bool {
        let in_flight = self.in_flight.get(version.as_str()).copied().unwrap_or(0);
        let is_full = |most: u32| in_flight > 0 && in_flight + 1 >= u64::from(most);
        self.concurrency.is_some_and(is_full) || self.strained.contains(version.as_str())
    }
}

/// What is in force of one service.
#[derive(Default)]
struct Standing {
    read: Vec<Fields>,
    defaults: Settings,
    service: Settings,
    endpoints: Endpoints,
    policy: Option<Arc<Shadow>>,
    /// How long users wait for each version.
    usual: BTreeMap<String, Usual>,
    job: Option<Rc<Job>>,
}

impl Standing {
    /// Looks at how long users wait now; the versions where that is longer than usual.
    fn look(&mut self, live: &Fields) -> BTreeSet<String> {
        let number = |version: &str, name: &str| -> Option<f64> {
            live.get(&format!("{version}.{name}"))?.parse().ok()
        };
        let versions = live.keys().filter_map(|field| field.strip_suffix(".rps"));
        let now = Instant::now();
        self.usual = versions
            .map(|version| {
                let mut usual = self.usual.remove(version).unwrap_or_default();
                let rps = number(version, "rps").unwrap_or(0.0);
                usual.look(now, rps, number(version, "p99_ms"));
                (version.to_owned(), usual)
            })
            .collect();
        let strained = self.usual.iter().filter(|(_, usual)| usual.is_strained());
        strained.map(|(version, _)| version.clone()).collect()
    }
}

/// Reads the configuration of some services.
pub(super) struct Desk {
    view: View,
    standing: BTreeMap<ServiceName, Standing>,
}

impl Desk {
    pub(super) fn new(view: View, services: Vec<ServiceName>) -> Self {
        let standing = services.into_iter().map(|it| (it, Standing::default()));
        Self {
            view,
            standing: standing.collect(),
        }
    }

    /// Reads this service from now on, too; whether it did not before.
    pub(super) fn watch(&mut self, service: &ServiceName) -> bool {
        let is_new = !self.standing.contains_key(service);
        if is_new {
            self.standing.insert(service.clone(), Standing::default());
        }
        is_new
    }

    /// The services that have a shadow, and what stands of each.
    pub(super) fn jobs(&self) -> impl Iterator<Item = (&ServiceName, &Rc<Job>)> {
        let standing = self.standing.iter();
        standing.filter_map(|(service, it)| Some((service, it.job.as_ref()?)))
    }

    /// Reads everything once.
    pub(super) async fn read(&mut self) -> Result<(), Error> {
        let keys = self.view.keys().clone();
        for (service, standing) in &mut self.standing {
            let wanted = [
                Object::Defaults,
                Object::Service(service.clone()),
                Object::Endpoints(service.clone()),
                Object::Shadow(service.clone()),
            ];
            let mut names: Vec<String> = wanted.iter().map(|it| keys.object(it)).collect();
            names.push(keys.live(service));
            let read = self.view.hashes(&names).await?;
            let strained = standing.look(read.last().unwrap_or(&Fields::new()));
            let known = standing.job.as_ref();
            if read == standing.read && known.is_some_and(|job| job.strained == strained) {
                continue;
            }
            for (at, (object, fields)) in wanted.iter().zip(&read).enumerate() {
                if standing.read.get(at) == Some(fields) {
                    continue;
                }
                let (value, mistakes) = decode_object(&keys, object, fields);
                mistakes.iter().for_each(telemetry::config_error);
                let is_empty = fields.is_empty();
                match value.filter(|_| mistakes.is_empty()) {
                    Some(Value::Defaults(settings)) => standing.defaults = settings,
                    Some(Value::Service(settings)) => standing.service = settings,
                    Some(Value::Endpoints(endpoints)) => standing.endpoints = endpoints,
                    Some(Value::Shadow(policy)) if !is_empty || standing.policy.is_none() => {
                        standing.policy = Some(Arc::new(policy));
                    }
                    _ => {}
                }
            }
            let live = read.last().cloned().unwrap_or_default();
            standing.job = standing.policy.clone().map(|policy| {
                let settings = Effective::merge(&standing.service, &standing.defaults);
                let in_flight = live.iter().filter_map(|(field, value)| {
                    let version = field.strip_suffix(".inflight")?;
                    Some((version.to_owned(), value.parse().ok()?))
                });
                let concurrency = standing.service.concurrency.as_ref();
                Rc::new(Job {
                    rules: Rules::new(&policy.comparison),
                    settings,
                    endpoints: standing.endpoints.clone(),
                    in_flight: in_flight.collect(),
                    concurrency: concurrency.copied().and_then(Limit::at),
                    strained,
                    policy,
                })
            });
            standing.read = read;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_that_wait_longer_than_usual_come_first() {
        let live = |p99: &str| -> Fields {
            [
                ("base.rps", "500"),
                ("base.p99_ms", "9.5"),
                ("v1.2.rps", "50.5"),
                ("v1.2.p99_ms", p99),
                ("new.rps", "50"),
            ]
            .map(|(field, value)| (field.to_owned(), value.to_owned()))
            .into()
        };
        let mut standing = Standing::default();
        for _ in 0..30 {
            assert!(standing.look(&live("40.1")).is_empty());
        }
        let strained = standing.look(&live("80.3"));
        assert_eq!(strained, BTreeSet::from(["v1.2".to_owned()]));
        assert!(standing.look(&live("80.1")).is_empty());
        assert!(standing.look(&Fields::new()).is_empty());
        assert!(standing.usual.is_empty(), "who is gone is forgotten");
    }
}
