//! Which version takes this request: pinned by a route, the caller's own, or drawn from the split.

use std::sync::Arc;

use super::sticky;
use crate::model::table::{Service, Version};

/// The version for a request; `None` where a pinned one does not exist or none takes requests.
/// `asked` is the caller's wish, where that caller may choose; `point` is where a sticky caller stands (see `sticky::point`): such a request draws no ticket.
#[must_use]
pub fn choose<'s>(
    service: &'s Service,
    pinned: Option<&str>,
    asked: Option<&str>,
    point: Option<u64>,
) -> Option<&'s Arc<Version>> {
    if let Some(name) = pinned {
        return named(service, name);
    }
    if let Some(name) = asked {
        let there = named(service, name);
        // One that is not there is one without an endpoint that is up.
        if there.is_some() || !service.settings.spill {
            return there;
        }
    }
    match point {
        Some(point) => sticky::choose(service, point),
        None => service.versions.get(service.split.as_ref()?.draw()),
    }
}

/// The version of that name.
#[must_use]
pub fn named<'s>(service: &'s Service, name: &str) -> Option<&'s Arc<Version>> {
    let mut versions = service.versions.iter();
    versions.find(|version| version.name.as_str() == name)
}

/// The versions to turn to, in order, when no endpoint of `chosen` can be reached: those with a
/// weight, `base` first.
pub fn spill<'s>(
    service: &'s Service,
    chosen: &'s Arc<Version>,
) -> impl Iterator<Item = &'s Arc<Version>> {
    service
        .versions
        .iter()
        .filter(move |version| version.weight > 0 && !Arc::ptr_eq(version, chosen))
}
