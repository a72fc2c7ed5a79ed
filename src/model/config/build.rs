//! Builds one service of the table, and carries over from the one before whatever stayed the same:
//! counters, turns, connections.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use http::HeaderValue;

use super::judge::Shares;
use super::settle;
use crate::model::endpoint::{Duty, EndpointSpec, Endpoints};
use crate::model::hash;
use crate::model::live::{Crowd, ServiceLive};
use crate::model::name::{Name, VersionName};
use crate::model::pilot::Trial;
use crate::model::rollout::Rollout;
use crate::model::settings::{Effective, Transport};
use crate::model::shadow::Shadow;
use crate::model::split::Split;
use crate::model::table::{Endpoint, Service, Version};
use crate::model::trial::OnTrial;

/// What a service is built from.
pub(super) struct Plan<'a> {
    pub(super) name: &'a Name,
    pub(super) settings: Arc<Effective>,
    /// The endpoints in force, if any.
    pub(super) endpoints: Option<&'a Endpoints>,
    pub(super) shares: &'a Shares,
    pub(super) shadow: Option<&'a Arc<Shadow>>,
    pub(super) rollout: Option<&'a Arc<Rollout>>,
    /// The trial that is on.
    pub(super) trial: Option<&'a Arc<Trial>>,
    pub(super) misconfigured: Option<Box<str>>,
    /// The service as it is in the table now.
    pub(super) before: Option<&'a Arc<Service>>,
    pub(super) seed: u64,
}

/// The service; the very one from before where nothing is different. `pools` counts the numbers
/// of connection pools given out.
pub(super) fn service(plan: Plan<'_>, pools: &mut u64) -> Arc<Service> {
    let before = plan.before.map(Arc::as_ref);
    let settings = match before.map(|before| &before.settings) {
        Some(same) if *same == plan.settings => Arc::clone(same),
        _ => Arc::clone(&plan.settings),
    };
    let live = before.map_or_else(Arc::default, |before| Arc::clone(&before.live));
    let reuse = Reuse::new(plan.name, before, &settings.transport, &live);
    let versions: Vec<Arc<Version>> = by_version(plan.endpoints)
        .into_iter()
        .map(|(name, specs)| {
            let weight = plan.shares.get(name).copied().unwrap_or_default();
            reuse.version(name, weight, &specs, pools)
        })
        .collect();
    let split = split(&versions, before, plan.seed);
    let trial = plan
        .trial
        .map(|trial| on_trial(plan.name, trial, &versions, before));
    let service = Service {
        name: plan.name.clone(),
        settings,
        versions,
        split,
        shadow: plan.shadow.cloned(),
        rollout: plan.rollout.cloned(),
        trial,
        misconfigured: plan.misconfigured,
        live,
    };
    match plan.before {
        Some(same) if is_same(same, &service) => Arc::clone(same),
        _ => Arc::new(service),
    }
}

/// Endpoints that are not off, by version, `base` first.
fn by_version(endpoints: Option<&Endpoints>) -> Vec<(&VersionName, Vec<&EndpointSpec>)> {
    let mut versions: BTreeMap<&VersionName, Vec<&EndpointSpec>> = BTreeMap::new();
    let specs = endpoints.into_iter().flat_map(Endpoints::values);
    for spec in specs.filter(|spec| spec.duty != Duty::Off) {
        versions.entry(&spec.version).or_default().push(spec);
    }
    let mut versions: Vec<_> = versions.into_iter().collect();
    versions.sort_by_key(|(name, _)| !name.is_base());
    versions
}

/// What may be carried over.
struct Reuse<'a> {
    versions: HashMap<&'a VersionName, &'a Arc<Version>>,
    /// By URL, whichever version they served.
    endpoints: HashMap<&'a str, &'a Arc<Endpoint>>,
    same_transport: bool,
    service: &'a Name,
    group: &'a Arc<ServiceLive>,
}

impl<'a> Reuse<'a> {
    fn new(
        service: &'a Name,
        before: Option<&'a Service>,
        transport: &Transport,
        group: &'a Arc<ServiceLive>,
    ) -> Self {
        let versions = || before.into_iter().flat_map(|service| &service.versions);
        let endpoints = versions().flat_map(|version| &version.endpoints);
        Self {
            versions: versions().map(|version| (&version.name, version)).collect(),
            endpoints: endpoints.map(|there| (&*there.spec.url, there)).collect(),
            same_transport: before.is_some_and(|before| before.settings.transport == *transport),
            service,
            group,
        }
    }

    fn version(
        &self,
        name: &VersionName,
        weight: u32,
        specs: &[&EndpointSpec],
        pools: &mut u64,
    ) -> Arc<Version> {
        let before = self.versions.get(name).copied();
        let crowd = before.map_or_else(Arc::default, |before| Arc::clone(&before.crowd));
        let endpoints: Vec<Arc<Endpoint>> = specs
            .iter()
            .map(|spec| self.endpoint(spec, &crowd, pools))
            .collect();
        if let Some(same) = before
            && same.weight == weight
            && all_same(&same.endpoints, &endpoints)
        {
            return Arc::clone(same);
        }
        Arc::new(Version {
            service: self.service.clone(),
            name: name.clone(),
            name_header: HeaderValue::from_str(name.as_str())
                .expect("a name is letters, digits and a few signs"),
            weight,
            endpoints,
            rotor: before.map_or_else(Arc::default, |before| Arc::clone(&before.rotor)),
            crowd,
            counts: before.map_or_else(Arc::default, |before| Arc::clone(&before.counts)),
        })
    }

    fn endpoint(&self, spec: &EndpointSpec, crowd: &Arc<Crowd>, pools: &mut u64) -> Arc<Endpoint> {
        let before = self.endpoints.get(&*spec.url).copied();
        let pool_before = before
            .filter(|before| self.same_transport && before.spec.target == spec.target)
            .map(|before| before.pool);
        if let Some(same) = before
            && pool_before.is_some()
            && same.spec == *spec
        {
            return Arc::clone(same);
        }
        Arc::new(Endpoint {
            service: self.service.clone(),
            spec: spec.clone(),
            host: HeaderValue::from_str(&spec.target.authority)
                .expect("decode takes only visible ASCII in an authority"),
            pool: pool_before.unwrap_or_else(|| {
                *pools += 1;
                *pools
            }),
            seed: hash::spread(&[spec.url.as_bytes()]),
            live: before.map_or_else(Arc::default, |before| Arc::clone(&before.live)),
            group: Arc::clone(self.group),
            crowd: Arc::clone(crowd),
        })
    }
}

/// The split from before where the same versions have the same weights, wherever they stand now.
fn split(versions: &[Arc<Version>], before: Option<&Service>, seed: u64) -> Option<Arc<Split>> {
    if let Some(before) = before
        && let Some(split) = &before.split
        && weighted(&before.versions).eq(weighted(versions))
    {
        let positions = positions(versions);
        return Some(if positions.iter().eq(split.positions()) {
            Arc::clone(split)
        } else {
            Arc::new(split.moved(positions))
        });
    }
    let weights = versions.iter().map(|version| version.weight).enumerate();
    Split::new(weights, seed).map(Arc::new)
}

/// The counts from before where they belong to the same trial under the same share.
fn on_trial(
    service: &Name,
    trial: &Arc<Trial>,
    versions: &[Arc<Version>],
    before: Option<&Service>,
) -> Arc<OnTrial> {
    match before.and_then(|before| before.trial.as_ref()) {
        Some(same) if same.goes_on(trial, versions) => Arc::clone(same),
        _ => Arc::new(OnTrial::new(service, trial, versions)),
    }
}

fn weighted(versions: &[Arc<Version>]) -> impl Iterator<Item = (&VersionName, u32)> {
    let weights = versions
        .iter()
        .map(|version| (&version.name, version.weight));
    weights.filter(|(_, weight)| *weight > 0)
}

fn positions(versions: &[Arc<Version>]) -> Vec<usize> {
    let numbered = versions.iter().enumerate();
    let weighted = numbered.filter(|(_, version)| version.weight > 0);
    weighted.map(|(position, _)| position).collect()
}

fn is_same(a: &Service, b: &Service) -> bool {
    settle::is_same(a.split.as_ref(), b.split.as_ref())
        && settle::is_same(a.shadow.as_ref(), b.shadow.as_ref())
        && settle::is_same(a.rollout.as_ref(), b.rollout.as_ref())
        && settle::is_same(a.trial.as_ref(), b.trial.as_ref())
        && Arc::ptr_eq(&a.settings, &b.settings)
        && all_same(&a.versions, &b.versions)
        && a.misconfigured == b.misconfigured
}

fn all_same<T>(a: &[Arc<T>], b: &[Arc<T>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}
