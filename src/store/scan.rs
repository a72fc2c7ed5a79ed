//! Looking for configuration keys, a step at a time.

use fred::interfaces::KeysInterface;
use fred::types::Value;

use super::{Error, Store};
use crate::model::keys::Parsed;

/// How far a walk through all keys has come.
#[derive(Clone, Debug)]
pub struct Scan {
    pub(super) cursor: String,
    pub(super) count: u32,
}

impl Default for Scan {
    fn default() -> Self {
        Self::new(1000)
    }
}

impl Scan {
    /// A walk of about `count` keys a step: a thousand take Redis a fraction of a millisecond.
    #[must_use]
    pub fn new(count: u32) -> Self {
        Self {
            cursor: "0".to_owned(),
            count,
        }
    }

    /// Whether the walk has not begun, or has just been completed.
    #[must_use]
    pub fn is_at_start(&self) -> bool {
        self.cursor == "0"
    }
}

impl Store {
    /// Takes one step: the configuration keys it met, also those whose name breaks the form. Keys
    /// may be met twice.
    pub async fn scan(&self, scan: &mut Scan) -> Result<Vec<String>, Error> {
        const STEP: &str = "look for configuration keys";
        let client = self.here()?;
        // With a hash tag in the pattern, which a Cluster's prefix has, this asks the one node
        // that holds our keys.
        let answer: Value = client
            .scan_page(
                scan.cursor.clone(),
                self.keys.pattern_of_all(),
                Some(scan.count),
                None,
            )
            .await
            .map_err(Error::step(STEP))?;
        let (cursor, keys) = decode(answer).ok_or(Error::Answer(STEP))?;
        scan.cursor = cursor;
        Ok(keys
            .into_iter()
            .filter(|key| !matches!(self.keys.parse(key), Parsed::Other))
            .collect())
    }
}

/// The answer of `SCAN`.
pub(super) fn decode(answer: Value) -> Option<(String, Vec<String>)> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let [cursor, Value::Array(keys)] = <[Value; 2]>::try_from(parts).ok()? else {
        return None;
    };
    // A name that is not text is none of ours.
    let keys = keys.into_iter().filter_map(|key| match key {
        Value::String(key) => Some(key.to_string()),
        _ => None,
    });
    Some((cursor.as_string()?, keys.collect()))
}
