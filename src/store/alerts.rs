//! Which gateway sends alerts, and what it knows of incidents: `lua/lead_alerts.lua`.

use std::collections::BTreeMap;
use std::time::Duration;

use fred::types::Value;

use super::{Error, Store};

/// A lease that is not renewed for this long goes to another gateway.
pub const LEASE: Duration = Duration::from_secs(5);
/// Incidents are kept for a day after the last gateway that sends alerts.
const KEPT: Duration = Duration::from_hours(24);
/// The most events read at once.
pub const EVENTS_AT_ONCE: usize = 1000;

/// What a call is to do beside keeping the lease.
#[derive(Clone, Debug, Default)]
pub struct LeadOrder {
    /// Who calls: a name that is new at each start.
    pub me: String,
    /// The event after which to read; empty reads none.
    pub cursor: String,
    /// Fields of the hash of incidents to set.
    pub set: Vec<(String, String)>,
    /// Fields to remove.
    pub gone: Vec<String>,
    /// Keys of hashes to read.
    pub hashes: Vec<String>,
}

/// One event: its id, its fields.
pub type StreamEntry = (String, BTreeMap<String, String>);

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Led {
    /// Another gateway sends alerts.
    Held,
    /// This one does from now on; nothing was written yet.
    Won {
        /// Who led before; empty where nobody's incidents are there.
        before: String,
        /// The hash of incidents.
        incidents: BTreeMap<String, String>,
        /// The last event; empty where there is none.
        last: String,
    },
    /// This one does; everything was written and read.
    Leads {
        /// Events after the cursor, in their order.
        events: Vec<StreamEntry>,
        /// The last event; empty where there is none.
        last: String,
        /// The hashes, in the order of their keys; empty where there is none.
        hashes: Vec<BTreeMap<String, String>>,
    },
}

impl Store {
    /// Takes or keeps the lease, and does what only its holder may do.
    pub async fn lead_alerts(&self, order: &LeadOrder) -> Result<Led, Error> {
        const STEP: &str = "lead the alerts";
        let client = self.here()?;
        let mut keys = vec![
            self.keys.internal("alert-lease"),
            self.keys.internal("alerts"),
            self.keys.events(),
        ];
        keys.extend(order.hashes.iter().cloned());
        let mut args = vec![
            order.me.clone(),
            LEASE.as_millis().to_string(),
            KEPT.as_millis().to_string(),
            order.cursor.clone(),
            EVENTS_AT_ONCE.to_string(),
            order.set.len().to_string(),
        ];
        for (field, value) in &order.set {
            args.extend([field.clone(), value.clone()]);
        }
        args.push(order.gone.len().to_string());
        args.extend(order.gone.iter().cloned());
        let answer: Value = self
            .scripts
            .lead_alerts
            .evalsha_with_reload(client, keys, args)
            .await
            .map_err(Error::step(STEP))?;
        decode(answer).ok_or(Error::Answer(STEP))
    }
}

fn decode(answer: Value) -> Option<Led> {
    let mut parts = list(answer)?.into_iter();
    let word = parts.next()?.as_string()?;
    Some(match word.as_str() {
        "held" => Led::Held,
        "won" => Led::Won {
            before: parts.next()?.as_string()?,
            incidents: hash(parts.next()?)?,
            last: parts.next()?.as_string()?,
        },
        "lead" => Led::Leads {
            events: list(parts.next()?)?
                .into_iter()
                .map(entry)
                .collect::<Option<_>>()?,
            last: parts.next()?.as_string()?,
            hashes: list(parts.next()?)?
                .into_iter()
                .map(hash)
                .collect::<Option<_>>()?,
        },
        _ => return None,
    })
}

fn list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(list) => Some(list),
        _ => None,
    }
}

fn entry(value: Value) -> Option<StreamEntry> {
    let [id, fields] = <[Value; 2]>::try_from(list(value)?).ok()?;
    Some((id.as_string()?, hash(fields)?))
}

/// Field and value in turn; what is no text is left out.
fn hash(value: Value) -> Option<BTreeMap<String, String>> {
    let mut texts = list(value)?.into_iter();
    let mut hash = BTreeMap::new();
    while let Some(field) = texts.next() {
        if let (Some(field), Some(value)) = (field.as_string(), texts.next()?.as_string()) {
            hash.insert(field, value);
        }
    }
    Some(hash)
}
