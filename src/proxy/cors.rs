//! Cross-origin requests (WHATWG Fetch, section 3.2): who may read answers, and preflights.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use super::body::AnswerBody;
use crate::model::settings::{Cors, Effective};

const ENTRY_METHODS: HeaderValue = HeaderValue::from_static("POST, OPTIONS");
const ENTRY_HEADERS: HeaderValue = HeaderValue::from_static(
    "content-type, authorization, x-api-key, x-request-id, x-smartlink-version",
);
const EXPOSED: HeaderValue =
    HeaderValue::from_static("x-request-id, x-smartlink-version, x-smartlink-error, server-timing");
/// How long a browser may remember a preflight, in seconds: short, so that changes are seen.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// Whether a browser asks if it may ask.
pub(super) fn is_preflight(parts: &Parts) -> bool {
    parts.method == Method::OPTIONS
        && parts.headers.contains_key(ORIGIN)
        && parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight of the named entry.
pub(super) fn entry_preflight(
    defaults: &Effective,
    origin: Option<&HeaderValue>,
) -> Response<AnswerBody> {
    let mut response = no_content();
    let headers = response.headers_mut();
    mark_entry(defaults, origin, headers);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, ENTRY_METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ENTRY_HEADERS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    response
}

/// The answer to a preflight of a route whose service has `cors` on.
pub(super) fn routed_preflight(settings: &Effective, asked: &HeaderMap) -> Response<AnswerBody> {
    let mut response = no_content();
    let headers = response.headers_mut();
    if mark(&settings.cors_routed, asked.get(ORIGIN), headers) {
        if let Some(method) = asked.get(ACCESS_CONTROL_REQUEST_METHOD) {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, method.clone());
        }
        if let Some(names) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    }
    response
}

/// Marks an answer of the named entry: each says who may read it, asked or not.
pub(super) fn mark_entry(
    settings: &Effective,
    origin: Option<&HeaderValue>,
    headers: &mut HeaderMap,
) {
    if mark(&settings.cors_entry, origin, headers) {
        return;
    }
    if let Cors::Origins(origins) = &settings.cors_entry
        && let Some(first) = origins.first()
    {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, first.clone());
    }
}

/// Marks a routed answer of a service with `cors` on.
pub(super) fn mark_routed(
    settings: &Effective,
    origin: Option<&HeaderValue>,
    headers: &mut HeaderMap,
) {
    mark(&settings.cors_routed, origin, headers);
}

/// Replaces the upstream's own words; tells whether the origin may read.
fn mark(cors: &Cors, origin: Option<&HeaderValue>, headers: &mut HeaderMap) -> bool {
    let allowed = match cors {
        Cors::Off => return false,
        Cors::Any => Some(HeaderValue::from_static("*")),
        Cors::Origins(origins) => {
            headers.append(VARY, HeaderValue::from_static("Origin"));
            origin.filter(|origin| origins.contains(origin)).cloned()
        }
    };
    remove_theirs(headers);
    let readable = allowed.is_some();
    if let Some(value) = allowed {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, value);
    }
    if origin.is_some() {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
    readable
}

/// Where we speak of origins, nothing the upstream said of them stands beside it.
fn remove_theirs(headers: &mut HeaderMap) {
    let is_theirs = |name: &HeaderName| name.as_str().starts_with("access-control-");
    if headers.keys().any(is_theirs) {
        let theirs: Vec<HeaderName> = headers
            .keys()
            .filter(|name| is_theirs(name))
            .cloned()
            .collect();
        for name in theirs {
            headers.remove(name);
        }
    }
}

fn no_content() -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
