//! What the access log is told of a request on its way.

use std::time::SystemTime;

use http::header::{HeaderName, REFERER, USER_AGENT};
use http::request::Parts;
use http::{HeaderValue, Version as Protocol};

use super::handler::Exchange;
use crate::access::Line;

/// Begins the request's line, where there is to be one.
pub(super) fn begin(exchange: &Exchange, parts: &Parts) {
    let worker = &exchange.worker;
    let wanted = worker.access.as_ref();
    if !wanted.is_some_and(|log| log.wants(worker.random())) {
        return;
    }
    let header = |name: HeaderName| parts.headers.get(name).map(text);
    let target = parts.uri.path_and_query();
    exchange.state.record.log(Line {
        time: SystemTime::now(),
        id: text(&exchange.request_id),
        client: exchange.client(&parts.headers),
        method: parts.method.as_str().into(),
        target: target.map_or("", |target| target.as_str()).into(),
        minor: u8::from(parts.version != Protocol::HTTP_10),
        host: exchange.host.as_ref().map(text),
        user_agent: header(USER_AGENT),
        referer: header(REFERER),
        token: None,
        rule: None,
        service: None,
        version: None,
        why: None,
        endpoint: None,
        attempts: 0,
        wait_us: 0,
        connect_us: 0,
        first_byte_us: None,
        total_us: 0,
        bytes_in: 0,
        bytes_out: 0,
        status: 0,
        error: None,
    });
}

fn text(value: &HeaderValue) -> Box<str> {
    String::from_utf8_lossy(value.as_bytes()).into()
}
