//! Which of two routes that both match comes first, and which two nothing but their id orders.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::model::name::Name;
use crate::model::route::{HostMatch, PathMatch, Route, ValueMatch};
use crate::model::table::RouteIndex;

/// Arranges routes, the most specific first: higher priority; exact path before regex before
/// prefix before any; longer text before shorter; exact host before `*.` before any; more
/// conditions before fewer; then by id.
pub(super) fn arrange(mut routes: Vec<Arc<Route>>) -> RouteIndex {
    routes.sort_by(|a, b| rank(a).cmp(&rank(b)));
    RouteIndex::new(routes)
}

fn rank(route: &Route) -> impl Ord + '_ {
    let (path_kind, path) = path_text(route);
    let (host_kind, host) = host_text(route);
    (
        Reverse(route.priority),
        (path_kind, Reverse(path.len())),
        (host_kind, Reverse(host.len())),
        Reverse(conditions(route)),
        &route.id,
    )
}

fn path_text(route: &Route) -> (u8, &str) {
    match &route.path {
        PathMatch::Exact(path) => (0, path),
        PathMatch::Regex(regex) => (1, regex.as_str()),
        PathMatch::Prefix(path) => (2, path),
        PathMatch::Any => (3, ""),
    }
}

fn host_text(route: &Route) -> (u8, &str) {
    match &route.host {
        // All exact hosts are as specific as each other, however long.
        HostMatch::Exact(_) => (0, ""),
        HostMatch::Below(domain) => (1, domain),
        HostMatch::Any => (2, ""),
    }
}

fn conditions(route: &Route) -> usize {
    usize::from(!route.methods.is_empty()) + route.headers.len() + route.query.len()
}

impl RouteIndex {
    /// Routes that take exactly the same requests with the same priority, so that only their ids
    /// decide: pairs of the one that wins and the one that never matches.
    #[must_use]
    pub fn ambiguous(&self) -> Vec<(Name, Name)> {
        let mut keyed: Vec<(String, &Route)> = self
            .routes
            .iter()
            .map(|route| (matched(route), &**route))
            .collect();
        keyed.sort_by(|(a, x), (b, y)| (a, &x.id).cmp(&(b, &y.id)));
        let same = keyed.chunk_by(|(a, _), (b, _)| a == b);
        same.filter_map(<[_]>::split_first)
            .flat_map(|((_, wins), others)| {
                let pair = |(_, never): &(String, &Route)| (wins.id.clone(), never.id.clone());
                others.iter().map(pair)
            })
            .collect()
    }
}

/// A text that two routes share exactly when they take the same requests with the same priority.
fn matched(route: &Route) -> String {
    let mut methods: Vec<&str> = route.methods.iter().map(http::Method::as_str).collect();
    methods.sort_unstable();
    methods.dedup();
    let mut headers: Vec<(&str, &ValueMatch)> = route
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value))
        .collect();
    headers.sort_by_key(|(name, _)| *name);
    let mut query: Vec<(&str, &ValueMatch)> = route
        .query
        .iter()
        .map(|(name, value)| (&**name, value))
        .collect();
    query.sort_by_key(|(name, _)| *name);
    let path = path_text(route);
    let host = &route.host;
    format!(
        "{} {path:?} {host:?} {methods:?} {headers:?} {query:?}",
        route.priority
    )
}
