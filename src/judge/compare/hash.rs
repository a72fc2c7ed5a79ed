//! One number for all values that count as the same, so that items of arrays find each other.
//!
//! Values with the same number are the same but for a chance of 2^-64; values that are the same
//! only within a tolerance have different ones.

use serde_json::{Number, Value as Json};

use crate::model::hash::{mix, spread};

use super::alike;
use super::rules::{Rules, Scope};

/// The number of a value under the rules in force for it; `visited` grows by the values looked at.
pub(super) fn of(rules: &Rules, scope: &Scope<'_>, value: &Json, visited: &mut usize) -> u64 {
    *visited += 1;
    match value {
        Json::Object(members) => {
            let members = members.iter().filter_map(|(name, value)| {
                let scope = scope.member(name);
                let absent = scope.is_blind() || (rules.null_is_missing() && value.is_null());
                let name = spread(&[name.as_bytes()]);
                (!absent).then(|| mix(name ^ of(rules, &scope, value, visited)))
            });
            // Members have no order, so neither has their sum.
            mix(members.fold(1, u64::wrapping_add))
        }
        Json::Array(items) => {
            let hashes = all(rules, scope, items, visited);
            if scope.matching().is_some() {
                mix(hashes.into_iter().map(mix).fold(2, u64::wrapping_add))
            } else {
                hashes.into_iter().fold(3, |hash, item| mix(hash ^ item))
            }
        }
        _ if scope.ignored => 4,
        Json::Null => 5,
        Json::Bool(value) => mix(6 + u64::from(*value)),
        Json::Number(number) => of_number(number),
        Json::String(text) => {
            *visited += text.len() / 16;
            spread(&[b"s", alike::plain(text, scope.text).as_bytes()])
        }
    }
}

/// The numbers of an array's items.
pub(super) fn all(
    rules: &Rules,
    scope: &Scope<'_>,
    items: &[Json],
    visited: &mut usize,
) -> Vec<u64> {
    let free = scope.matching().is_some();
    let item = |(at, value)| {
        let scope = if free {
            scope.item()
        } else {
            scope.item_at(at)
        };
        of(rules, &scope, value, visited)
    };
    items.iter().enumerate().map(item).collect()
}

fn of_number(number: &Number) -> u64 {
    match alike::whole(number) {
        Some(whole) => spread(&[b"i", &whole.to_le_bytes()]),
        None => spread(&[b"f", &number.as_f64().unwrap_or(f64::NAN).to_le_bytes()]),
    }
}
