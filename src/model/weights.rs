//! Weights: how the traffic of a service is divided between its versions.

use std::collections::BTreeMap;

use super::decode::{Decoded, Decoder, Fields};
use super::name::VersionName;
use super::value;

/// The largest weight.
pub const WEIGHT_MAX: u32 = 1_000_000;

/// The decoded `weights:<svc>`: version to weight; shares are relative to the sum.
pub type Weights = BTreeMap<VersionName, u32>;

/// Decodes `weights:<svc>`. Whether the sum is above 0 and every version has an endpoint is judged
/// together with the endpoints.
#[must_use]
pub fn decode(key: &str, fields: &Fields) -> Decoded<Weights> {
    let mut decoder = Decoder::new(key, fields);
    let weights = decoder.take_all(value::name, value::whole(0..=WEIGHT_MAX));
    decoder.finish(Some(weights))
}
