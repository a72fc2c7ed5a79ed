//! Routed requests: everything that is not the named entry, streamed both ways.

use std::collections::VecDeque;

use http::request::Parts;
use http::{HeaderValue, Method, header};
use http_body::Body as _;
use hyper::body::Incoming;

use super::body::{Fate, SendBody, Stream};
use super::cors;
use super::error::Error;
use super::forward::{self, Call};
use super::guard;
use super::handler::{Exchange, Failure, Outcome};
use super::keys::Keys;
use crate::access::Rule;
use crate::model::name::VersionName;
use crate::model::settings::Cors;
use crate::model::table::Table;
use crate::policy::route::{self, Match, RequestFacts};

/// Serves a request by its route.
pub(super) async fn serve(
    exchange: &Exchange,
    parts: &Parts,
    body: Incoming,
    origin: Option<&HeaderValue>,
) -> Outcome {
    if !exchange.table.loaded {
        return Err(Error::Starting.into());
    }
    let preflight = cors::is_preflight(parts);
    let announced = preflight.then(|| announced(parts)).flatten();
    let Match {
        route,
        upstream_path,
    } = find(
        &exchange.table,
        exchange.host.as_ref(),
        parts,
        announced.as_ref(),
    )?;
    let rule = || Some(Rule::Route(route.id.as_str().into()));
    (exchange.state.record).note(|line| line.rule = rule());
    let name = route.service.as_str();
    let known = exchange.table.services.get(name);
    if let Some(service) = known.filter(|_| preflight)
        && service.settings.cors_routed != Cors::Off
    {
        let service = guard::greet(exchange, parts, service)?;
        exchange.state.record.of_service(service);
        return Ok(cors::routed_preflight(&service.settings, &parts.headers));
    }
    let (service, caller) = guard::admit(exchange, parts, known, name).await?;
    let body = send_body(exchange, body, service.settings.max_stream)
        .map_err(|error| Failure::of(service, error))?;
    let newer = guard::enter(exchange, service, &caller, parts, &[]).await?;
    let service = guard::current(newer.as_ref(), service);
    let call = Call {
        service,
        keys: Keys::of(service, (parts, &caller), &[]),
        caller,
        pinned: route.version.as_ref().map(VersionName::as_str),
        path: Some(upstream_path),
        parts,
        body,
    };
    let mut response = forward::forward(exchange, call)
        .await
        .map_err(|error| Failure::of(service, error))?;
    cors::mark_routed(&service.settings, origin, response.headers_mut());
    Ok(response)
}

/// The route that takes a request. A preflight belongs to the route of the request that it
/// announces, where one takes that.
pub(super) fn find<'e>(
    table: &'e Table,
    host: Option<&'e HeaderValue>,
    parts: &'e Parts,
    announced: Option<&'e Method>,
) -> Result<Match<'e>, Error> {
    if let Some(method) = announced
        && let Some(found) = find_for(table, host, parts, method)?
    {
        return Ok(found);
    }
    find_for(table, host, parts, &parts.method)?.ok_or(Error::NoRoute)
}

fn find_for<'e>(
    table: &'e Table,
    host: Option<&'e HeaderValue>,
    parts: &'e Parts,
    method: &'e Method,
) -> Result<Option<Match<'e>>, Error> {
    let host = host.and_then(|host| host.to_str().ok());
    let facts = RequestFacts {
        method,
        host: host.unwrap_or(""),
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &parts.headers,
    };
    route::find(&table.routes, &facts).map_err(|_malformed| Error::BadTarget)
}

/// The method of the request that a preflight announces.
pub(super) fn announced(parts: &Parts) -> Option<Method> {
    let method = parts.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(method.as_bytes()).ok()
}

fn send_body(
    exchange: &Exchange,
    incoming: Incoming,
    max_stream: Option<u64>,
) -> Result<SendBody, Error> {
    if incoming.is_end_stream() {
        return Ok(SendBody::Empty);
    }
    if let Some(bound) = max_stream
        && incoming.size_hint().lower() > bound
    {
        return Err(Error::BodyTooLarge("max_stream", bound));
    }
    Ok(SendBody::Stream(Box::new(Stream {
        ahead: VecDeque::new(),
        held: Vec::new(),
        incoming,
        scanner: None,
        bound: max_stream.map(|bound| ("max_stream", bound)),
        seen: 0,
        untouched: true,
        fate: Fate::new(false),
        state: exchange.state.clone(),
    })))
}
