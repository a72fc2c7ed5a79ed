//! Endpoints and weights of a service, judged together: what of them is in force, and which share
//! each version comes to.
//!
//! Invariant: what is in force always divides requests somehow, or is no endpoint at all.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::decode::nearest;
use crate::model::endpoint::{Duty, Endpoints};
use crate::model::name::VersionName;
use crate::model::weights::Weights;

/// What there is of one of the two hashes.
#[derive(Debug)]
pub(super) struct Hand<'a, T> {
    /// The last good one.
    pub(super) good: Option<&'a T>,
    /// One that was written since and decodes.
    pub(super) new: Option<&'a T>,
    /// Whether a hash stands at all, right or wrong.
    pub(super) stands: bool,
}

/// Which one is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// The new one.
    New,
    /// The last good one.
    Good,
    /// None.
    None,
}

/// The judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Endpoints in force; `None`: the service is misconfigured.
    pub(super) endpoints: Use,
    /// Weights in force.
    pub(super) weights: Use,
    /// Weights by version as they work out; a version that is not in here gets nothing.
    pub(super) shares: Shares,
    /// What is wrong with the endpoints that stand.
    pub(super) endpoints_fault: Option<String>,
    /// What is wrong with the weights that stand, by version, or as a whole.
    pub(super) weights_faults: Vec<(Option<VersionName>, String)>,
}

/// Weights by version, all above 0.
pub(super) type Shares = BTreeMap<VersionName, u32>;

impl<'a, T> Hand<'a, T> {
    /// What stands, or the last good one instead of what cannot be read.
    fn candidate(&self) -> Option<(Use, &'a T)> {
        match (self.new, self.good) {
            (Some(new), _) => Some((Use::New, new)),
            (None, Some(good)) if self.stands => Some((Use::Good, good)),
            _ => None,
        }
    }

    fn last_good(&self) -> Option<(Use, &'a T)> {
        self.good.map(|good| (Use::Good, good))
    }
}

/// Judges a service whose endpoints hash stands.
pub(super) fn judge(endpoints: &Hand<'_, Endpoints>, weights: &Hand<'_, Weights>) -> Verdict {
    let standing = endpoints.candidate();
    let tried = [standing, endpoints.last_good()];
    let found = tried
        .into_iter()
        .flatten()
        .find_map(|(which, endpoints)| divide(endpoints, weights).map(|by| (which, by)));
    let (endpoints_used, (weights_used, shares)) =
        found.unwrap_or((Use::None, (Use::None, Shares::new())));
    let candidate = standing.map(|(_, candidate)| candidate);
    let held = weights_used == Use::Good && !weights.stands;
    let refused = standing.is_some_and(|(which, _)| which != endpoints_used);
    Verdict {
        endpoints: endpoints_used,
        weights: weights_used,
        shares,
        endpoints_fault: candidate.filter(|_| held || refused).map(undivided),
        weights_faults: weights_faults(candidate, weights),
    }
}

/// The verdict on weights whose service has no endpoints hash.
pub(super) fn without_service() -> Verdict {
    let message = "this service has no endpoints hash; the weights wait for it".to_owned();
    Verdict {
        endpoints: Use::None,
        weights: Use::None,
        shares: Shares::new(),
        endpoints_fault: None,
        weights_faults: vec![(None, message)],
    }
}

/// The best way to divide requests between the versions of these endpoints, if there is one: by
/// what stands, else by the last good weights, else without any.
fn divide(endpoints: &Endpoints, weights: &Hand<'_, Weights>) -> Option<(Use, Shares)> {
    let versions = versions(endpoints);
    let by_default = || Some((Use::None, unweighted(&versions)?));
    let by_good = || Some((Use::Good, redistributed(weights.good?, &versions)?));
    match (weights.new, weights.stands) {
        (Some(new), _) if fits(new, &versions) => Some((Use::New, positive(new))),
        (Some(_), _) | (None, true) => by_good().or_else(by_default),
        (None, false) => by_default().or_else(by_good),
    }
}

/// The versions that have an endpoint.
fn versions(endpoints: &Endpoints) -> BTreeSet<&VersionName> {
    let there = endpoints.values().filter(|spec| spec.duty != Duty::Off);
    there.map(|spec| &spec.version).collect()
}

fn positive(weights: &Weights) -> Shares {
    let positive = weights.iter().filter(|(_, weight)| **weight > 0);
    positive
        .map(|(version, weight)| (version.clone(), *weight))
        .collect()
}

/// Whether all weights above 0 have an endpoint, and there is one.
fn fits(weights: &Weights, versions: &BTreeSet<&VersionName>) -> bool {
    let shares = positive(weights);
    !shares.is_empty() && shares.keys().all(|version| versions.contains(version))
}

/// Everything to `base`, or to the only version there is.
fn unweighted(versions: &BTreeSet<&VersionName>) -> Option<Shares> {
    let base = versions.iter().find(|version| version.is_base());
    match (base, versions.len()) {
        (Some(version), _) => Some(Shares::from([((*version).clone(), 1)])),
        (None, 0 | 1) => Some(versions.iter().map(|v| ((*v).clone(), 1)).collect()),
        (None, _) => None,
    }
}

/// Weights in force whose versions may have lost their last endpoint: their share goes to `base`,
/// else to the others as they are.
fn redistributed(weights: &Weights, versions: &BTreeSet<&VersionName>) -> Option<Shares> {
    let mut shares = positive(weights);
    let mut lost = 0_u32;
    shares.retain(|version, weight| {
        let there = versions.contains(version);
        if !there {
            lost = lost.saturating_add(*weight);
        }
        there
    });
    if lost > 0
        && let Some(base) = versions.iter().find(|version| version.is_base())
    {
        let share = shares.entry((*base).clone()).or_default();
        *share = share.saturating_add(lost);
    }
    if shares.is_empty() {
        return unweighted(versions);
    }
    Some(shares)
}

fn undivided(endpoints: &Endpoints) -> String {
    const NAMED: usize = 5;
    let versions = versions(endpoints);
    let mut names: Vec<&str> = versions.iter().take(NAMED).map(|v| v.as_str()).collect();
    if versions.len() > NAMED {
        names.push("…");
    }
    format!(
        "several versions ({}) but neither base nor weights that fit: want one version named base, \
         or weights",
        names.join(", ")
    )
}

fn weights_faults(
    endpoints: Option<&Endpoints>,
    weights: &Hand<'_, Weights>,
) -> Vec<(Option<VersionName>, String)> {
    let Some(((which, weights), endpoints)) = weights.candidate().zip(endpoints) else {
        return Vec::new();
    };
    let versions = versions(endpoints);
    let shares = positive(weights);
    if shares.is_empty() {
        return vec![(None, "want weights with a sum above 0".to_owned())];
    }
    let missing = shares
        .into_keys()
        .filter(|version| !versions.contains(version));
    missing
        .map(|version| {
            let message = fault_of(&version, which, &versions);
            (Some(version), message)
        })
        .collect()
}

fn fault_of(version: &VersionName, which: Use, versions: &BTreeSet<&VersionName>) -> String {
    if which == Use::Good {
        return "this version has no endpoint any more; its share goes to the others".to_owned();
    }
    let known = versions.iter().map(|version| version.as_str());
    let near = nearest(version.as_str(), known).map(|near| format!(" (did you mean {near}?)"));
    format!(
        "no endpoint has this version{}; these weights take effect when one has",
        near.unwrap_or_default()
    )
}
