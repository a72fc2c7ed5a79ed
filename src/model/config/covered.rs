//! Which routes never match because one before them takes all that they would.
//!
//! Only what is certain is said: a `path_regex` covers nothing but what it is told to match.

use crate::model::name::Name;
use crate::model::path;
use crate::model::route::{HostMatch, PathMatch, Route, ValueMatch};
use crate::model::table::RouteIndex;

/// The most routes without a path to look up that are compared with each other one.
const COMPARED_MAX: usize = 100;

impl RouteIndex {
    /// Routes that never match: pairs of one that takes all their requests before them, and of
    /// theirs. What `ambiguous` names is not among them.
    #[must_use]
    pub fn covered(&self) -> Vec<(Name, Name)> {
        let ambiguous = self.ambiguous();
        let known = |id: &Name| ambiguous.iter().any(|(_, never)| never == id);
        let routes = self.routes.iter().enumerate();
        let routes = routes.filter(|(_, route)| ambiguous.is_empty() || !known(&route.id));
        let pairs = routes.filter_map(|(at, route)| {
            let mut before = self.candidates(route).filter(|before| *before < at);
            let covers = |at: usize| {
                let other = self.routes.get(at)?;
                covers(other, route).then_some(&other.id)
            };
            Some((before.find_map(covers)?.clone(), route.id.clone()))
        });
        pairs.collect()
    }

    /// Positions of routes whose path may cover that of this one.
    fn candidates(&self, route: &Route) -> impl Iterator<Item = usize> {
        let text = match &route.path {
            PathMatch::Exact(path) | PathMatch::Prefix(path) => path::as_written(path),
            PathMatch::Regex(_) | PathMatch::Any => "".into(),
        };
        let exact = self.exact.get(&*text).into_iter().flatten();
        let ends = text.match_indices('/').map(|(at, _)| at + 1);
        let prefixes = ends.filter_map(|end| self.prefix.get(text.get(..end)?));
        let found: Vec<usize> = (exact.chain(prefixes.flatten()))
            .chain(self.other.iter().take(COMPARED_MAX))
            .copied()
            .collect();
        found.into_iter()
    }
}

/// Whether a route takes every request that the other one would.
fn covers(a: &Route, b: &Route) -> bool {
    let implied =
        |wanted: &ValueMatch, given: &ValueMatch| *wanted == ValueMatch::Present || wanted == given;
    let headers = a.headers.iter().all(|(name, wanted)| {
        let mut given = b.headers.iter();
        given.any(|(other, given)| other == name && implied(wanted, given))
    });
    let query = a.query.iter().all(|(name, wanted)| {
        let mut given = b.query.iter();
        given.any(|(other, given)| other == name && implied(wanted, given))
    });
    let methods = a.methods.is_empty()
        || !b.methods.is_empty() && b.methods.iter().all(|method| a.methods.contains(method));
    covers_path(&a.path, &b.path) && covers_host(&a.host, &b.host) && methods && headers && query
}

fn covers_path(a: &PathMatch, b: &PathMatch) -> bool {
    use PathMatch::{Any, Exact, Prefix, Regex};
    match (a, b) {
        (Any, _) => true,
        (Exact(a), Exact(b)) => path::as_written(a) == path::as_written(b),
        (Prefix(a), Exact(b) | Prefix(b)) => path::as_written(b).starts_with(&*path::as_written(a)),
        (Regex(a), Regex(b)) => a.as_str() == b.as_str(),
        _ => false,
    }
}

fn covers_host(a: &HostMatch, b: &HostMatch) -> bool {
    use HostMatch::{Any, Below, Exact};
    match (a, b) {
        (Any, _) => true,
        (Exact(a), Exact(b)) => a == b,
        (Below(a), Below(b)) => b.ends_with(&**a),
        (Below(a), Exact(b)) => b.len() > a.len() && b.ends_with(&**a),
        _ => false,
    }
}
