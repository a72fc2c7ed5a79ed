//! Routes of the book: which of them lead somewhere and stand in the table.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::settle::{Settled, is_same};
use super::slot::{Content, Slot};
use super::{Batch, Config, precedence};
use crate::model::decode::ConfigError;
use crate::model::keys::Object;
use crate::model::name::Name;
use crate::model::route::Route;
use crate::model::table::{RouteIndex, Services};

/// A route in force.
#[derive(Debug)]
pub(super) struct RouteState {
    route: Arc<Route>,
    /// Whether it is in the table: enabled, and what it leads to is there.
    live: bool,
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
        for id in &concerned {
            different |= self.take_route(id);
        }
        if !settled.altered.is_empty() {
            let leads_there = |state: &RouteState| settled.altered.contains(&state.route.service);
            let others = self.routes.iter().filter(|(_, state)| leads_there(state));
            concerned.extend(others.map(|(id, _)| id.clone()));
        }
        for id in concerned {
            different |= self.judge_route(&id, &settled.services);
            batch.touched.insert(Object::Route(id));
        }
        different.then(|| {
            let live = self.routes.values().filter(|state| state.live);
            precedence::arrange(live.map(|state| Arc::clone(&state.route)).collect())
        })
    }

    /// Puts another route in force, or none; whether that one was in the table.
    fn take_route(&mut self, id: &Name) -> bool {
        let slot = self.slots.get(&Object::Route(id.clone()));
        let now = slot.and_then(route_of).cloned();
        let before = self.routes.get(id);
        if is_same(before.map(|state| &state.route), now.as_ref()) {
            return false;
        }
        let was_live = before.is_some_and(|state| state.live);
        match now {
            Some(route) => {
                let live = false;
                self.routes.insert(id.clone(), RouteState { route, live });
            }
            None => {
                self.routes.remove(id);
            }
        }
        was_live
    }

    /// Finds out whether a route leads somewhere; whether that is different now.
    fn judge_route(&mut self, id: &Name, services: &Services) -> bool {
        let object = Object::Route(id.clone());
        let (Some(state), Some(slot)) = (self.routes.get_mut(id), self.slots.get_mut(&object))
        else {
            return false;
        };
        let fault = route_fault(&state.route, services);
        let live = state.route.enabled && fault.is_none();
        let different = live != state.live;
        state.live = live;
        let error = |(field, message): (&str, String)| ConfigError {
            key: self.keys.shown(&object),
            field: Some(field.to_owned()),
            message,
        };
        slot.discord = fault.map(error).into_iter().collect();
        different
    }
}

fn route_id(object: &Object) -> Option<Name> {
    match object {
        Object::Route(id) => Some(id.clone()),
        _ => None,
    }
}

fn route_of(slot: &Slot) -> Option<&Arc<Route>> {
    match slot.in_force() {
        Some(Content::Route(route)) => Some(route),
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
