//! Which version takes this request: pinned by a route, the caller's own, or drawn from the split.

use std::sync::Arc;

use super::sticky;
use crate::model::split::Split;
use crate::model::table::{Service, Version};

/// How the version for a request is found.
#[derive(Clone, Copy, Debug)]
pub enum Choice<'s> {
    /// A route pins it; `None` where it does not exist.
    Pinned(Option<&'s Arc<Version>>),
    /// The caller chose it; `None` where it does not exist and nobody may stand in.
    Asked(Option<&'s Arc<Version>>),
    /// The caller stays there; `None` where no version has a weight.
    Sticky(Option<&'s Arc<Version>>),
    /// The next ticket of the split says it; `None` where no version takes requests.
    Drawn(Option<&'s Split>),
}

/// How the version for a request is found. `asked` is the caller's wish, where that caller may
/// choose; `point` is where a sticky caller stands (see `sticky::point`).
#[must_use]
pub fn decide<'s>(
    service: &'s Service,
    pinned: Option<&str>,
    asked: Option<&str>,
    point: Option<u64>,
) -> Choice<'s> {
    if let Some(name) = pinned {
        return Choice::Pinned(named(service, name));
    }
    if let Some(name) = asked {
        let there = named(service, name);
        // One that is not there is one without an endpoint that is up.
        if there.is_some() || !service.settings.spill {
            return Choice::Asked(there);
        }
    }
    match point {
        Some(point) => Choice::Sticky(sticky::choose(service, point)),
        None => Choice::Drawn(service.split.as_deref()),
    }
}

/// The version for a request; `None` where a pinned one does not exist or none takes requests.
/// Draws a ticket only where the split decides.
#[must_use]
pub fn choose<'s>(
    service: &'s Service,
    pinned: Option<&str>,
    asked: Option<&str>,
    point: Option<u64>,
) -> Option<&'s Arc<Version>> {
    match decide(service, pinned, asked, point) {
        Choice::Pinned(version) | Choice::Asked(version) | Choice::Sticky(version) => version,
        Choice::Drawn(split) => service.versions.get(split?.draw()),
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
