//! Weights: how the traffic of a service is divided between its versions.

use std::collections::BTreeMap;

use super::name::VersionName;

/// The largest weight.
pub const WEIGHT_MAX: u32 = 1_000_000;

/// The decoded `weights:<svc>`: version to weight; shares are relative to the sum.
pub type Weights = BTreeMap<VersionName, u32>;
