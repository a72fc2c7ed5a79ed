//! The routing table: an immutable view of the whole configuration, read by every request.
//!
//! Invariant: a table is never changed; the next one shares all parts that stayed the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crossbeam_utils::CachePadded;
use http::HeaderValue;

use super::alert::Alert;
use super::count::{Cells, Tally};
use super::endpoint::EndpointSpec;
use super::hash::TextHasher;
use super::issuer::Issuer;
use super::live::{Crowd, Live, ServiceLive};
use super::name::{Name, ServiceName, VersionName};
use super::path;
use super::rollout::Rollout;
use super::route::{PathMatch, Route};
use super::settings::Effective;
use super::shadow::Shadow;
use super::split::Split;
use super::tokens::Tokens;
use super::trial::OnTrial;

/// How many shards the services are spread over: one change copies one shard.
const SHARDS: usize = 256;

/// The routing table.
#[derive(Clone, Debug)]
pub struct Table {
    /// Counts the tables of this process; 0 is the empty one before the first load.
    pub revision: u64,
    /// Equal on gateways that serve the same configuration: lower-case hex.
    pub digest: Box<str>,
    /// Services by name.
    pub services: Services,
    /// Routes in order of precedence.
    pub routes: Arc<RouteIndex>,
    /// Who is told when something is wrong, by id.
    pub alerts: Arc<Alerts>,
    /// Issuers of JSON Web Tokens, by id.
    pub issuers: Arc<Issuers>,
    /// Tokens by their hashes.
    pub tokens: Tokens,
    /// The settings of `defaults`, for requests before their service is known.
    pub defaults: Arc<Effective>,
    /// Why no name at all can be served (503 `misconfigured`): bad `defaults` without a last good
    /// state.
    pub defaults_misconfigured: Option<Box<str>>,
    /// Whether anything was loaded: from Redis or from a snapshot.
    pub loaded: bool,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            revision: 0,
            digest: "".into(),
            services: Services::default(),
            routes: Arc::default(),
            alerts: Arc::default(),
            issuers: Arc::default(),
            tokens: Tokens::default(),
            defaults: Arc::new(Effective::merge(
                &super::settings::Settings::default(),
                &super::settings::Settings::default(),
            )),
            defaults_misconfigured: None,
            loaded: false,
        }
    }
}

impl Table {
    /// The services that ask nobody who they are.
    pub fn open(&self) -> impl Iterator<Item = &Arc<Service>> {
        let open = |service: &&Arc<Service>| service.settings.auth.is_empty();
        self.services.iter().filter(open)
    }
}

/// Alerts by id.
pub type Alerts = BTreeMap<Name, Arc<Alert>>;

/// Issuers by id.
pub type Issuers = BTreeMap<Name, Arc<Issuer>>;

/// One service, ready to be asked.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Its settings over the defaults.
    pub settings: Arc<Effective>,
    /// Its versions, `base` first, then by name.
    pub versions: Vec<Arc<Version>>,
    /// Divides requests between `versions` by position; `None`: no version takes requests.
    pub split: Option<Arc<Split>>,
    /// What is copied of its requests and answers, where anything is.
    pub shadow: Option<Arc<Shadow>>,
    /// How a person wants a candidate to be led to all of the traffic, where there is one.
    pub rollout: Option<Arc<Rollout>>,
    /// By what its requests are counted while a candidate is on trial.
    pub trial: Option<Arc<OnTrial>>,
    /// Why it cannot be served (503 `misconfigured`), where it cannot.
    pub misconfigured: Option<Box<str>>,
    /// Live facts, carried over by name.
    pub live: Arc<ServiceLive>,
}

/// One version of a service.
#[derive(Debug)]
pub struct Version {
    /// The service it belongs to.
    pub service: ServiceName,
    /// Its name.
    pub name: VersionName,
    /// Its name as a header value.
    pub name_header: HeaderValue,
    /// Its weight in force, after the share of vanished versions was given away.
    pub weight: u32,
    /// Its endpoints, in the order of their URLs; none is `off`.
    pub endpoints: Vec<Arc<Endpoint>>,
    /// Turns of the round robin, carried over from table to table.
    pub rotor: Arc<CachePadded<AtomicUsize>>,
    /// Who waits for a place on one of its endpoints, carried over likewise.
    pub crowd: Arc<Crowd>,
    /// What its requests came to, carried over from table to table.
    pub counts: Arc<Cells<Tally>>,
}

/// One endpoint.
#[derive(Debug)]
pub struct Endpoint {
    /// The service it serves.
    pub service: ServiceName,
    /// What the operator said.
    pub spec: EndpointSpec,
    /// Its own `Host` header.
    pub host: HeaderValue,
    /// Connections with the same number are interchangeable; a new target or transport gets a new
    /// one.
    pub pool: u64,
    /// A hash of its URL, for choosing by key.
    pub seed: u64,
    /// Live facts, carried over by identity (service and URL).
    pub live: Arc<Live>,
    /// Live facts of its service.
    pub group: Arc<ServiceLive>,
    /// Who waits for a place on an endpoint of its version.
    pub crowd: Arc<Crowd>,
}

/// Services by name, in shards that tables share.
#[derive(Clone, Debug)]
pub struct Services {
    shards: Vec<Arc<HashMap<ServiceName, Arc<Service>, TextHasher>>>,
}

impl Default for Services {
    fn default() -> Self {
        let empty = Arc::default();
        Self {
            shards: vec![empty; SHARDS],
        }
    }
}

impl Services {
    /// The service of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Service>> {
        self.shards.get(shard_of(name))?.get(name)
    }

    /// Puts a service in, or takes it out; copies one shard.
    pub fn set(&mut self, name: &Name, service: Option<Arc<Service>>) {
        let Some(shard) = self.shards.get_mut(shard_of(name.as_str())) else {
            return;
        };
        let shard = Arc::make_mut(shard);
        match service {
            Some(service) => shard.insert(name.clone(), service),
            None => shard.remove(name),
        };
    }

    /// All services, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.shards.iter().flat_map(|shard| shard.values())
    }

    /// The services that are not the very same as before, by what they were and what they are;
    /// what tables share is not looked at.
    pub fn differing<'a>(
        &'a self,
        before: &'a Self,
    ) -> impl Iterator<Item = (Option<&'a Arc<Service>>, Option<&'a Arc<Service>>)> {
        let shards = self.shards.iter().zip(&before.shards);
        let changed = shards.filter(|(now, before)| !Arc::ptr_eq(now, before));
        changed.flat_map(|(now, before)| {
            let here = now.iter().map(|(name, it)| (before.get(name), Some(it)));
            let gone = before.iter().filter(|(name, _)| !now.contains_key(*name));
            let pairs = here.chain(gone.map(|(_, it)| (Some(it), None)));
            pairs.filter(|pair| !matches!(pair, (Some(a), Some(b)) if Arc::ptr_eq(a, b)))
        })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.len()).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.is_empty())
    }
}

/// FNV-1a over the name: cheap, and even enough for 256 shards.
fn shard_of(name: &str) -> usize {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    usize::from((hash ^ (hash >> 32)).to_le_bytes()[0]) % SHARDS
}

/// Routes, arranged for finding: see `policy::route`.
#[derive(Debug, Default)]
pub struct RouteIndex {
    /// All enabled routes whose service exists, the most specific first: a smaller position wins.
    pub routes: Vec<Arc<Route>>,
    /// Positions of routes with an exact path.
    pub exact: HashMap<Box<str>, Vec<usize>, TextHasher>,
    /// Positions of routes with a path prefix, which ends in `/`.
    pub prefix: HashMap<Box<str>, Vec<usize>, TextHasher>,
    /// Positions of routes with `path_regex` or without a path: tried one by one.
    pub other: Vec<usize>,
    /// The length of the longest key of `prefix`: no longer one is looked up, however long and full
    /// of slashes a stranger's path is.
    pub prefix_longest: usize,
}

impl RouteIndex {
    /// Arranges routes that are already in order of precedence, the most specific first. Paths are
    /// keys in the form of `path::as_written`, so that the case of an escape's digits is all one.
    #[must_use]
    pub fn new(routes: Vec<Arc<Route>>) -> Self {
        let mut index = Self::default();
        for (position, route) in routes.iter().enumerate() {
            match &route.path {
                PathMatch::Exact(path) => {
                    let path = path::as_written(path);
                    index.exact.entry(path.into()).or_default().push(position);
                }
                PathMatch::Prefix(path) => {
                    let path = path::as_written(path);
                    index.prefix_longest = index.prefix_longest.max(path.len());
                    index.prefix.entry(path.into()).or_default().push(position);
                }
                PathMatch::Regex(_) | PathMatch::Any => index.other.push(position),
            }
        }
        index.routes = routes;
        index
    }
}
