//! Who gets in: the one place that every request passes between its name and its service.
//!
//! The order is: name, address lists, credential; then, with the body in sight, size, rate,
//! concurrency. A name that nobody serves is treated as a service that has only `defaults`, so that
//! a stranger cannot tell the two apart.
//!
//! Invariant: never waits for Redis, and where a setting is off costs a branch.

pub(super) mod address;
mod credential;
mod issued;
mod queue;
mod rate;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;

use super::error::Error;
use super::handler::{Exchange, Failure};
use super::worker::View;
use crate::model::credential::Credential;
use crate::model::settings::Effective;
use crate::model::table::{Service, Table};

pub(super) use crate::policy::credential::Hidden;
pub(super) use issued::Issued;
pub(super) use queue::Holding;
pub(super) use rate::Told;

/// Who was let in.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// Where the request comes from, seen through trusted proxies.
    pub(super) address: IpAddr,
    /// Who asks, where a good credential was presented and wanted.
    pub(super) credential: Option<Arc<Credential>>,
    /// The headers that the upstream does not see.
    pub(super) hidden: Hidden,
}

/// The service and the caller, if this caller may ask this service.
pub(super) async fn admit<'t>(
    exchange: &'t Exchange,
    parts: &Parts,
    service: Option<&'t Arc<Service>>,
    name: &str,
) -> Result<(&'t Arc<Service>, Caller), Failure> {
    let table = &exchange.table;
    let failure = |error| Failure {
        error,
        name: name.into(),
        service: service.map(Arc::clone),
    };
    let (found, settings) = judged(table, service, name);
    let caller = if table.loaded {
        let checked = check(exchange, parts, settings, name).await;
        checked.map_err(failure)?
    } else {
        Caller::anybody(exchange, parts)
    };
    let service = found.map_err(failure)?;
    Ok((service, caller))
}

impl Caller {
    /// Somebody of whom nothing is known but the address.
    fn anybody(exchange: &Exchange, parts: &Parts) -> Self {
        Self {
            address: exchange.client(&parts.headers),
            credential: None,
            hidden: Hidden::default(),
        }
    }
}

/// Looks at address and credential.
async fn check(
    exchange: &Exchange,
    parts: &Parts,
    settings: &Effective,
    name: &str,
) -> Result<Caller, Error> {
    let mut caller = Caller::anybody(exchange, parts);
    address::check(caller.address, settings)?;
    if !settings.auth.is_empty() {
        credential::check(exchange, &parts.headers, settings, name, &mut caller).await?;
    }
    Ok(caller)
}

/// Counts the request, and waits for a slot where there are only so many: the table, where it waited.
/// `body` is as much of a JSON body as is here, at least its first 64 KiB; empty for routed requests.
pub(super) async fn enter(
    exchange: &Exchange,
    service: &Arc<Service>,
    caller: &Caller,
    parts: &Parts,
    body: &[Bytes],
) -> Result<Option<Rc<View>>, Failure> {
    let failure = |error| Failure::of(service, error);
    rate::check(exchange, service, caller, parts, body).map_err(failure)?;
    queue::enter(exchange, service, caller)
        .await
        .map_err(failure)
}

/// The service as it is in a table, for a request that waited.
pub(super) fn current<'s>(
    newer: Option<&'s Rc<View>>,
    service: &'s Arc<Service>,
) -> &'s Arc<Service> {
    let now = newer.and_then(|view| view.services.get(service.name.as_str()));
    let serves = |now: &&Arc<Service>| now.settings.enabled && now.misconfigured.is_none();
    now.filter(serves).unwrap_or(service)
}

/// The service, if it answers preflights to this address; nobody shows a credential with one.
pub(super) fn greet<'t>(
    exchange: &'t Exchange,
    parts: &Parts,
    service: &'t Arc<Service>,
) -> Result<&'t Arc<Service>, Failure> {
    let failure = |error| Failure::of(service, error);
    let service = find(&exchange.table, Some(service), service.name.as_str()).map_err(failure)?;
    address::check(exchange.client(&parts.headers), &service.settings)
        .map_err(|error| Failure::of(service, error))?;
    Ok(service)
}

/// The service, if it can be asked at all, and the settings by which callers are let in: of what
/// cannot be served a stranger learns no more than of what is not there.
pub(super) fn judged<'t>(
    table: &'t Table,
    service: Option<&'t Arc<Service>>,
    name: &str,
) -> (Result<&'t Arc<Service>, Error>, &'t Effective) {
    let found = find(table, service, name);
    let settings = match &found {
        Ok(service) => &service.settings,
        Err(_) => &table.defaults,
    };
    (found, settings)
}

/// The service, if it can be asked at all, by whomever.
pub(super) fn find<'t>(
    table: &Table,
    service: Option<&'t Arc<Service>>,
    name: &str,
) -> Result<&'t Arc<Service>, Error> {
    if !table.loaded {
        return Err(Error::Starting);
    }
    let enabled = service.filter(|service| service.settings.enabled);
    let why = match enabled {
        Some(service) => service.misconfigured.as_deref(),
        None => table.defaults_misconfigured.as_deref(),
    };
    if let Some(why) = why {
        return Err(Error::Misconfigured(why.to_owned()));
    }
    enabled.ok_or_else(|| Error::NoSuchService(name.to_owned()))
}
