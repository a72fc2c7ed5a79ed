//! Telling the other gateways, and people, how our endpoints are: `smartlink:health:<svc>`.

use std::sync::Arc;

use fred::interfaces::HashesInterface;
use fred::types::Value;

use super::{Error, Store};
use crate::model::keys::Keys;
use crate::model::name::ServiceName;

/// What this gateway holds of the endpoints of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceHealth {
    /// The service.
    pub service: ServiceName,
    /// Its endpoints; none where the service is gone.
    pub endpoints: Vec<EndpointHealth>,
}

/// What this gateway holds of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointHealth {
    /// Its URL as the operator wrote it.
    pub url: Box<str>,
    /// `up`, `down`, `ejected` or `drain`.
    pub state: &'static str,
    /// Since when, in Unix milliseconds.
    pub since_ms: u64,
    /// In a few words, for people; may be empty.
    pub why: Arc<str>,
}

/// What a merge found out about other gateways.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Names that stand there and were not asked about.
    pub unknown: Vec<String>,
    /// Of those asked about, the names of gateways that are gone.
    pub gone: Vec<String>,
}

/// The hash of the services whose health stands in Redis, so that nobody has to scan for them.
pub(super) fn index(keys: &Keys) -> String {
    keys.internal("health")
}

impl Store {
    /// Lays what `instance` holds over what other gateways wrote. What gateways held that are among
    /// `peers` and gone is taken away; what unknown ones held stays until they are asked about.
    pub async fn merge_health(
        &self,
        instance: &str,
        services: Vec<ServiceHealth>,
        peers: &[String],
    ) -> Result<Merged, Error> {
        const STEP: &str = "write the health of endpoints";
        let client = self.here()?;
        let mut keys = vec![index(&self.keys)];
        keys.extend(services.iter().map(|it| self.keys.health(&it.service)));
        keys.extend(peers.iter().map(|peer| self.keys.gateway(peer)));
        let counts = [services.len().to_string(), peers.len().to_string()];
        let mut args = vec![instance.to_owned()];
        args.extend(counts);
        args.extend_from_slice(peers);
        for it in services {
            args.push(it.service.to_string());
            args.push(it.endpoints.len().to_string());
            for endpoint in it.endpoints {
                args.push(endpoint.url.into_string());
                args.push(endpoint.state.to_owned());
                args.push(endpoint.since_ms.to_string());
                args.push(endpoint.why.to_string());
            }
        }
        let answer: Value = self
            .scripts
            .merge_health
            .evalsha_with_reload(client, keys, args)
            .await
            .map_err(Error::step(STEP))?;
        decode(answer).ok_or(Error::Answer(STEP))
    }

    /// The services whose health stands in Redis.
    pub async fn services_with_health(&self) -> Result<Vec<String>, Error> {
        self.here()?
            .hkeys(index(&self.keys))
            .await
            .map_err(Error::step("read which services have a health"))
    }
}

fn decode(answer: Value) -> Option<Merged> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let [unknown, gone] = <[Value; 2]>::try_from(parts).ok()?;
    Some(Merged {
        unknown: texts(unknown)?,
        gone: texts(gone)?,
    })
}

fn texts(list: Value) -> Option<Vec<String>> {
    match list {
        Value::Array(list) => list.iter().map(Value::as_string).collect(),
        _ => None,
    }
}
