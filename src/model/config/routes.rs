//! Routes of the book: which of them lead somewhere and stand in the table.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::settle::{Settled, is_same};
use super::slot::Content;
use super::{Batch, Config, precedence};
use crate::model::decode::ConfigError;
use crate::model::keys::Object;
use crate::model::name::Name;
use crate::model::route::Route;
use crate::model::table::{RouteIndex, Services};

/// A route that stands.
#[derive(Debug, Default)]
pub(super) struct RouteState {
    /// The one in force.
    route: Option<Arc<Route>>,
    /// Whether it is in the table: enabled, and what it leads to is there.
    live: bool,
    /// One that was written since, and that its service cannot serve.
    waiting: Option<Arc<Route>>,
}

impl RouteState {
    fn leads_to(&self, services: &BTreeSet<Name>) -> bool {
        let routes = [&self.route, &self.waiting];
        (routes.into_iter().flatten()).any(|route| services.contains(&route.service))
    }
}

impl Config {
    /// The next routes, where they are different.
    pub(super) fn settle_routes(
        &mut self,
        settled: &Settled,
        batch: &mut Batch,
    ) -> Option<RouteIndex> {
        let mut different = false;
        let mut concerned: BTreeSet<Name> = batch.touched.iter().filter_map(route_id).collect();
        if !settled.altered.is_empty() {
            let routes = self.routes.iter();
            let others = routes.filter(|(_, state)| state.leads_to(&settled.altered));
            concerned.extend(others.map(|(id, _)| id.clone()));
        }
        for id in concerned {
            different |= self.take_route(&id, &settled.services);
            different |= self.judge_route(&id, &settled.services, batch.restored);
            batch.touched.insert(Object::Route(id));
        }
        different.then(|| {
            let live = self.routes.values().filter(|state| state.live);
            precedence::arrange(live.filter_map(|state| state.route.clone()).collect())
        })
    }

    /// Puts another route in force, or none; whether that one was in the table. One that its
    /// service cannot serve waits, and the one before stays.
    fn take_route(&mut self, id: &Name, services: &Services) -> bool {
        let Some(slot) = self.slots.get_mut(&Object::Route(id.clone())) else {
            return self.routes.remove(id).is_some_and(|state| state.live);
        };
        let pending = slot.pending().and_then(route_of);
        let unserved = pending.filter(|route| keyless(route, services).is_some());
        let waiting = unserved.cloned();
        if waiting.is_none() {
            slot.adopt();
        }
        let now = slot.in_force().and_then(route_of);
        if now.is_none() && waiting.is_none() {
            return self.routes.remove(id).is_some_and(|state| state.live);
        }
        let state = self.routes.entry(id.clone()).or_default();
        state.waiting = waiting;
        if is_same(state.route.as_ref(), now) {
            return false;
        }
        state.route = now.cloned();
        std::mem::take(&mut state.live)
    }

    /// Finds out whether a route leads somewhere; whether that is different now. One that is in the
    /// table, or was before a restart, stays there when its service wants what no route can give.
    fn judge_route(&mut self, id: &Name, services: &Services, restored: bool) -> bool {
        let object = Object::Route(id.clone());
        let (Some(state), Some(slot)) = (self.routes.get_mut(id), self.slots.get_mut(&object))
        else {
            return false;
        };
        let route = state.route.as_ref();
        let fault = route.and_then(|route| route_fault(route, services));
        let unserved = route.and_then(|route| keyless(route, services));
        let leads = route.is_some_and(|route| route.enabled) && fault.is_none();
        let live = leads && (state.live || restored || unserved.is_none());
        let different = live != state.live;
        state.live = live;
        let waiting = state.waiting.as_ref();
        let waits = waiting.and_then(|route| keyless(route, services));
        let error = |(field, message): (&str, String)| ConfigError {
            key: self.keys.shown(&object),
            field: Some(field.to_owned()),
            message,
        };
        let faults = waits.or(fault).or(unserved);
        slot.discord = faults.map(error).into_iter().collect();
        different
    }
}

fn route_id(object: &Object) -> Option<Name> {
    match object {
        Object::Route(id) => Some(id.clone()),
        _ => None,
    }
}

fn route_of(content: &Content) -> Option<&Arc<Route>> {
    match content {
        Content::Route(route) => Some(route),
        _ => None,
    }
}

/// Why a route leads nowhere, with the field to mend. A misconfigured service answers by itself.
fn route_fault(route: &Route, services: &Services) -> Option<(&'static str, String)> {
    if !route.enabled {
        return None;
    }
    let name = &route.service;
    let Some(service) = services.get(name.as_str()) else {
        let message =
            format!("no service {name}: it has no endpoints hash; the route waits for it");
        return Some(("service", message));
    };
    let version = route.version.as_ref()?;
    let is_there = service.versions.iter().any(|there| there.name == *version);
    let unknown = !is_there && service.misconfigured.is_none();
    unknown.then(|| {
        let message =
            format!("no endpoint of {name} has the version {version}; the route waits for one");
        ("version", message)
    })
}

/// Why a service cannot serve a route, with the field to mend: it wants a key from the body, and the
/// body of a routed request is not read. A route that pins its version asks for no sticky key.
fn keyless(route: &Route, services: &Services) -> Option<(&'static str, String)> {
    let name = &route.service;
    let service = services.get(name.as_str()).filter(|_| route.enabled)?;
    let pinned = route.version.is_some();
    let mut settings = service.settings.keyed_by_body();
    let setting = settings.find(|setting| !(pinned && *setting == "sticky"))?;
    let message = format!(
        "{setting} of {name} takes its key from the body (json:), which is not read for routes: \
         want header:, cookie:, query:, ip or token there, or a service that is only asked by name"
    );
    Some(("service", message))
}
