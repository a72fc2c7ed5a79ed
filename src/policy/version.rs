//! Which version takes this request: pinned by a route, or drawn from the split.

use std::sync::Arc;

use crate::model::table::{Service, Version};

/// The version for a request; `None` where a pinned one does not exist or none takes requests.
#[must_use]
pub fn choose<'s>(service: &'s Service, pinned: Option<&str>) -> Option<&'s Arc<Version>> {
    match pinned {
        Some(name) => service
            .versions
            .iter()
            .find(|version| version.name.as_str() == name),
        None => service.versions.get(service.split.as_ref()?.draw()),
    }
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
