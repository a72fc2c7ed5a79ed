//! Routed requests: everything that is not the named entry, streamed both ways.

use std::collections::VecDeque;

use http::request::Parts;
use http::{Method, header};
use http_body::Body as _;
use hyper::body::Incoming;

use super::body::{Fate, SendBody, Stream};
use super::cors;
use super::error::Error;
use super::forward::{self, Call};
use super::handler::{Exchange, Failure, Outcome, admit};
use super::keys::Keys;
use crate::model::settings::Cors;
use crate::policy::route::{self, RequestFacts};

/// Serves a request by its route.
pub(super) async fn serve(exchange: &Exchange, parts: Parts, body: Incoming) -> Outcome {
    if !exchange.table.loaded {
        return Err(Error::Starting.into());
    }
    let preflight = cors::is_preflight(&parts);
    let found = if preflight {
        find_for_preflight(exchange, &parts)?
    } else {
        find(exchange, &parts, &parts.method)?
    };
    let (name, pinned, path) = found.ok_or(Error::NoRoute)?;
    let service = admit(exchange, exchange.table.services.get(&name), &name)?;
    if preflight && service.settings.cors_routed != Cors::Off {
        exchange.state.record.of_service(service);
        return Ok(cors::routed_preflight(&service.settings, &parts.headers));
    }
    let origin = parts.headers.get(header::ORIGIN).cloned();
    let body = send_body(exchange, body, service.settings.max_stream)
        .map_err(|error| Failure::of(service, error))?;
    let call = Call {
        service,
        pinned: pinned.as_deref(),
        keys: Keys::of(exchange, service, &parts, &[]),
        path: Some(path),
        parts,
        body,
    };
    let mut response = forward::forward(exchange, call)
        .await
        .map_err(|error| Failure::of(service, error))?;
    cors::mark_routed(&service.settings, origin.as_ref(), response.headers_mut());
    Ok(response)
}

/// Service, pinned version and the path to append to the endpoint's.
type Found = Option<(Box<str>, Option<Box<str>>, Box<str>)>;

fn find(exchange: &Exchange, parts: &Parts, method: &Method) -> Result<Found, Error> {
    let facts = RequestFacts {
        method,
        host: exchange
            .host
            .as_ref()
            .and_then(|host| host.to_str().ok())
            .unwrap_or(""),
        path: parts.uri.path(),
        query: parts.uri.query(),
        headers: &parts.headers,
    };
    let found =
        route::find(&exchange.table.routes, &facts).map_err(|_malformed| Error::BadTarget)?;
    Ok(found.map(|found| {
        let route = found.route;
        (
            route.service.as_str().into(),
            route
                .version
                .as_ref()
                .map(|version| version.as_str().into()),
            found.upstream_path.into(),
        )
    }))
}

/// A preflight belongs to the route of the request that it announces.
fn find_for_preflight(exchange: &Exchange, parts: &Parts) -> Result<Found, Error> {
    let announced = parts.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD);
    let method = announced.and_then(|method| Method::from_bytes(method.as_bytes()).ok());
    if let Some(method) = method {
        let found = find(exchange, parts, &method)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    find(exchange, parts, &parts.method)
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
