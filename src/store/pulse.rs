//! Our own life sign in Redis, and what makes Redis speak to us.

use std::collections::BTreeSet;
use std::time::Duration;

use fred::interfaces::{ClusterInterface, ConfigInterface, HashesInterface, KeysInterface};
use fred::types::Value;
use tokio::time::{Instant, sleep};

use super::{Error, Store};

/// What one life sign told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// Whether our hash still stood there; gone means that somebody flushed.
    pub was_there: bool,
    /// Redis's clock.
    pub now_ms: u64,
    /// How many gateways there are.
    pub fleet: u32,
    /// The last order to forget what vanished, if there ever was one.
    pub forget: Option<String>,
    /// `started_ms` of whoever wrote our hash last, before this life sign; none where it was gone.
    pub writer_started_ms: Option<String>,
    /// The moment of Redis's clock for which somebody waits, where anybody does.
    pub wish_ms: Option<u64>,
}

/// What became of the wish to be notified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flags {
    /// All flags we need were set already.
    Stood,
    /// Some were missing and were added.
    Added,
    /// Redis does not let us look or set, and why.
    Refused(String),
}

/// Our hash goes this long after the last life sign.
const LIFE_MS: u64 = 10_000;

/// The notifications we need: by key, of generic commands, hashes, expiry and eviction.
const NEEDED: [char; 5] = ['K', 'g', 'h', 'x', 'e'];

impl Store {
    /// Writes our hash with these fields beside `heartbeat_ms`; `Event::Beat` follows.
    pub async fn beat(&self, fields: &[(&str, String)]) -> Result<Pulse, Error> {
        const STEP: &str = "give a life sign";
        let client = self.here()?;
        let fleet = self.keys.fleet();
        let forget = self.keys.internal("forget-vanished");
        let keys = vec![self.gateway.to_string(), fleet, forget, self.keys.awaited()];
        let mut args = vec![LIFE_MS.to_string()];
        for (field, value) in fields {
            args.push((*field).to_owned());
            args.push(value.clone());
        }
        let answer: Value = self
            .scripts
            .beat
            .evalsha_with_reload(client, keys, args)
            .await
            .map_err(Error::step(STEP))?;
        decode(answer).ok_or(Error::Answer(STEP))
    }

    /// Whether another gateway is alive under our name: its life signs go on while we watch.
    pub async fn is_name_held(&self) -> Result<bool, Error> {
        /// More than two life signs apart.
        const WATCHED: Duration = Duration::from_millis(1300);
        let Some(first) = self.heartbeat().await? else {
            return Ok(false);
        };
        let end = Instant::now() + WATCHED;
        while Instant::now() < end {
            sleep(WATCHED / 13).await;
            match self.heartbeat().await? {
                None => return Ok(false),
                Some(now) if now != first => return Ok(true),
                Some(_) => {}
            }
        }
        Ok(false)
    }

    async fn heartbeat(&self) -> Result<Option<String>, Error> {
        let client = self.here()?;
        client
            .hget(&*self.gateway, "heartbeat_ms")
            .await
            .map_err(Error::step("look for another gateway of our name"))
    }

    /// Sees to it that Redis notifies; adds flags, never takes one away from another tenant.
    pub async fn ask_notifications(&self) -> Result<Flags, Error> {
        const STEP: &str = "set notify-keyspace-events";
        let client = self.here()?;
        let mut done = Flags::Stood;
        let nodes = match client.cached_cluster_state() {
            Some(cluster) => cluster
                .unique_primary_nodes()
                .into_iter()
                .map(Some)
                .collect(),
            None => vec![None],
        };
        for node in nodes {
            let answer = match node {
                Some(node) => add_flags(&client.with_cluster_node(node)).await,
                None => add_flags(client).await,
            };
            match answer.map_err(Error::step(STEP)) {
                Ok(true) => done = Flags::Added,
                Ok(false) => {}
                Err(Error::Step {
                    refused: true,
                    source,
                    ..
                }) => return Ok(Flags::Refused(source.to_string())),
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Orders all gateways to drop what vanished.
    pub async fn order_forget(&self, token: &str) -> Result<(), Error> {
        self.here()?
            .set(
                self.keys.internal("forget-vanished"),
                token,
                None,
                None,
                false,
            )
            .await
            .map_err(Error::step("write the order to forget"))
    }
}

async fn add_flags<C: ConfigInterface>(at: &C) -> Result<bool, fred::error::Error> {
    const NAME: &str = "notify-keyspace-events";
    let answer: Value = at.config_get(NAME).await?;
    let set = match answer {
        Value::Array(pair) => pair.get(1).and_then(Value::as_string),
        _ => None,
    };
    let Some(wanted) = with_needed(&set.unwrap_or_default()) else {
        return Ok(false);
    };
    at.config_set(NAME, wanted).await?;
    Ok(true)
}

/// The flags with those we need added, or `None` where none is missing.
fn with_needed(set: &str) -> Option<String> {
    let has: BTreeSet<char> = set.chars().collect();
    // `A` stands for all classes that we need.
    let missing = NEEDED
        .iter()
        .filter(|flag| !has.contains(flag) && (**flag == 'K' || !has.contains(&'A')));
    let added: String = missing.collect();
    (!added.is_empty()).then(|| format!("{set}{added}"))
}

fn decode(answer: Value) -> Option<Pulse> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let [was_there, now_ms, fleet, forget, writer, wish_ms] = <[Value; 6]>::try_from(parts).ok()?;
    Some(Pulse {
        was_there: was_there.as_u64()? == 1,
        now_ms: now_ms.as_string()?.parse().ok()?,
        fleet: u32::try_from(fleet.as_u64()?).ok()?,
        forget: forget.as_string(),
        writer_started_ms: writer.as_string(),
        wish_ms: wish_ms.as_string().and_then(|text| text.parse().ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_others_stay() {
        for (set, wanted) in [
            ("", Some("Kghxe")),
            ("Ex", Some("ExKghe")),
            ("AKE", None),
            ("AE", Some("AEK")),
            ("ghxeK", None),
            ("K$", Some("K$ghxe")),
        ] {
            assert_eq!(with_needed(set).as_deref(), wanted, "{set}");
        }
    }
}
