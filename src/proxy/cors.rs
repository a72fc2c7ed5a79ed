//! Cross-origin requests (WHATWG Fetch, section 3.2): who may read answers, and preflights.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
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
const TRUE: HeaderValue = HeaderValue::from_static("true");
const ORIGIN_VARIES: HeaderValue = HeaderValue::from_static("Origin");
/// What the answer to a preflight depends on beside the origin.
const PREFLIGHT_VARIES: HeaderValue =
    HeaderValue::from_static("Access-Control-Request-Method, Access-Control-Request-Headers");
/// WICG Private Network Access, section 3.1.
const REQUEST_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");

/// Whether a browser asks if it may ask.
pub(super) fn is_preflight(parts: &Parts) -> bool {
    parts.method == Method::OPTIONS
        && parts.headers.contains_key(ORIGIN)
        && parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight of the named entry.
pub(super) fn entry_preflight(defaults: &Effective, asked: &HeaderMap) -> Response<AnswerBody> {
    let mut response = no_content();
    let headers = response.headers_mut();
    mark_entry(defaults, asked.get(ORIGIN), headers);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, ENTRY_METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ENTRY_HEADERS);
    finish_preflight(defaults, &defaults.cors_entry, asked, headers);
    response
}

/// The answer to a preflight of a route whose service has `cors` on.
pub(super) fn routed_preflight(settings: &Effective, asked: &HeaderMap) -> Response<AnswerBody> {
    let mut response = no_content();
    let headers = response.headers_mut();
    if mark(settings, &settings.cors_routed, asked.get(ORIGIN), headers) {
        if let Some(method) = asked.get(ACCESS_CONTROL_REQUEST_METHOD) {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, method.clone());
        }
        if let Some(names) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
        finish_preflight(settings, &settings.cors_routed, asked, headers);
    }
    headers.append(VARY, PREFLIGHT_VARIES);
    response
}

/// What every preflight may be told beside its method and headers.
fn finish_preflight(settings: &Effective, cors: &Cors, asked: &HeaderMap, headers: &mut HeaderMap) {
    let seconds = settings.cors_max_age.as_secs();
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(seconds));
    // From the public network into ours only pages that somebody named.
    let named = matches!(cors, Cors::Origins(origins)
        if asked.get(ORIGIN).is_some_and(|origin| origins.contains(origin)));
    if named && asked.get(REQUEST_PRIVATE_NETWORK) == Some(&TRUE) {
        headers.insert(ALLOW_PRIVATE_NETWORK, TRUE);
    }
}

/// Marks an answer of the named entry: each says who may read it, asked or not.
pub(super) fn mark_entry(
    settings: &Effective,
    origin: Option<&HeaderValue>,
    headers: &mut HeaderMap,
) {
    if mark(settings, &settings.cors_entry, origin, headers) {
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
    mark(settings, &settings.cors_routed, origin, headers);
}

/// Replaces the upstream's own words; tells whether the origin may read.
fn mark(
    settings: &Effective,
    cors: &Cors,
    origin: Option<&HeaderValue>,
    headers: &mut HeaderMap,
) -> bool {
    let (allowed, credentials) = match cors {
        Cors::Off => return false,
        Cors::Any => (Some(HeaderValue::from_static("*")), false),
        Cors::Origins(origins) => {
            vary_by_origin(headers);
            let listed = origin.filter(|origin| origins.contains(origin));
            (listed.cloned(), settings.cors_credentials)
        }
    };
    remove_theirs(headers);
    let readable = allowed.is_some();
    if let Some(value) = allowed {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, value);
        if credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
    }
    if origin.is_some() {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
    readable
}

/// Tells caches that the answer is another one for another origin, where nobody said so before.
fn vary_by_origin(headers: &mut HeaderMap) {
    let names = |line: &HeaderValue| {
        let mut names = line.as_bytes().split(|byte| *byte == b',');
        names.any(|name| {
            let name = name.trim_ascii();
            name == b"*" || name.eq_ignore_ascii_case(b"origin")
        })
    };
    if !headers.get_all(VARY).iter().any(names) {
        headers.append(VARY, ORIGIN_VARIES);
    }
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
