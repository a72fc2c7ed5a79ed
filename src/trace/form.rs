//! Requests as OTLP/JSON (OpenTelemetry protocol 1.x, JSON Protobuf encoding), with the attributes
//! of the semantic conventions for HTTP spans 1.23 and later, and our own under `smartlink.`.

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::{Attempt, Request};
use crate::access::{Line, Rule, cut};

/// Kinds of spans (`opentelemetry.proto.trace.v1.Span.SpanKind`).
const SERVER: u8 = 2;
const CLIENT: u8 = 3;
/// What failed (`opentelemetry.proto.trace.v1.Status.StatusCode`).
const ERROR: u8 = 2;
/// Bits 8 and 9 of a span's flags: whether its parent is in another process is known, and so it is.
const PARENT_KNOWN: u32 = 1 << 8;
const PARENT_REMOTE: u32 = 1 << 9;
const SAMPLED: u32 = 1;

/// Methods that are named as they are; others are `_OTHER`, so that nobody makes up names.
const METHODS: &[&str] = &[
    "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
];
/// Parameters of a query that may sign a request, by the conventions.
const SECRETS: &[&str] = &["AWSAccessKeyId", "Signature", "sig", "X-Goog-Signature"];

/// The body of one export.
pub(super) fn export(instance: &str, requests: &[Box<Request>]) -> Vec<u8> {
    let mut resource = Attributes::default();
    resource.text("service.name", "smartlink");
    resource.text("service.version", env!("CARGO_PKG_VERSION"));
    resource.text("service.instance.id", instance);
    let spans: Vec<Value> = requests.iter().flat_map(|it| spans(it)).collect();
    let scope = json!({ "name": "smartlink", "version": env!("CARGO_PKG_VERSION") });
    let export = json!({ "resourceSpans": [{
        "resource": { "attributes": resource.0 },
        "scopeSpans": [{ "scope": scope, "spans": spans }],
    }] });
    export.to_string().into_bytes()
}

fn spans(request: &Request) -> Vec<Value> {
    let Request { line, trace } = request;
    let own = server_span(request);
    let resent = trace.attempts.iter().enumerate();
    let attempts = resent.map(|(n, attempt)| client_span(request, attempt, n, line));
    [own].into_iter().chain(attempts).collect()
}

fn server_span(request: &Request) -> Value {
    let Request { line, trace } = request;
    let mut attributes = Attributes::default();
    attributes.method(&line.method);
    let (path, query) = line.target.split_once('?').unwrap_or((&line.target, ""));
    attributes.text("url.path", path);
    if !query.is_empty() {
        attributes.text("url.query", &redacted(query));
    }
    attributes.text("url.scheme", "http");
    attributes.server(line.host.as_deref().unwrap_or_default());
    attributes.text("client.address", &line.client.to_string());
    let peer = trace.peer;
    attributes.text(
        "network.peer.address",
        &peer.ip().to_canonical().to_string(),
    );
    attributes.number("network.peer.port", peer.port().into());
    let version = if line.minor == 0 { "1.0" } else { "1.1" };
    attributes.text("network.protocol.version", version);
    if let Some(agent) = &line.user_agent {
        attributes.text("user_agent.original", agent);
    }
    // The path of the named entry is the same for all.
    let route = (line.rule == Some(Rule::Named)).then_some(path);
    if let Some(route) = route {
        attributes.text("http.route", route);
    }
    attributes.number("http.response.status_code", line.status.into());
    attributes.number("http.request.body.size", line.bytes_in);
    attributes.number("http.response.body.size", line.bytes_out);
    attributes.ours(line);
    // A client's mistake is none of the server's.
    let failed = line.status >= 500 || line.error.is_some_and(|code| code.starts_with("upstream"));
    let status = attributes.fail(failed, line.error, line.status);
    let mut name = known_method(&line.method).unwrap_or("HTTP").to_owned();
    if let Some(route) = route {
        name = format!("{name} {route}");
    }
    let mut span = Map::new();
    if let Some(parent) = &trace.parent {
        span.insert("parentSpanId".to_owned(), hex(parent));
    }
    let remote = trace.parent.map_or(0, |_| PARENT_KNOWN | PARENT_REMOTE);
    span.insert("flags".to_owned(), json!(SAMPLED | remote));
    span.extend([
        ("spanId".to_owned(), hex(&trace.own.span)),
        ("name".to_owned(), json!(name)),
        ("kind".to_owned(), json!(SERVER)),
        ("attributes".to_owned(), Value::Array(attributes.0)),
        ("status".to_owned(), status),
    ]);
    complete(span, request, (0, line.total_us))
}

fn client_span(request: &Request, attempt: &Attempt, resent: usize, line: &Line) -> Value {
    let Request { trace, .. } = request;
    let mut attributes = Attributes::default();
    attributes.method(&line.method);
    attributes.text("url.full", &redacted(&attempt.url));
    let (host, port) = &attempt.server;
    attributes.text("server.address", host);
    attributes.number("server.port", (*port).into());
    if let Some(status) = attempt.status {
        attributes.number("http.response.status_code", status.into());
    }
    if resent > 0 {
        attributes.number("http.request.resend_count", resent as u64);
    }
    if let Some(service) = &line.service {
        attributes.text("smartlink.service", service);
    }
    attributes.text("smartlink.version", &attempt.version);
    attributes.text("smartlink.endpoint", &attempt.endpoint);
    let ended_us = attempt.ended_us.unwrap_or(line.total_us);
    // What broke off an answer is written in the line of its request.
    let broke = line.error.filter(|_| attempt.ended_us.is_none());
    let error = attempt.error.or(broke);
    let code = attempt.status.unwrap_or(0);
    let status = attributes.fail(error.is_some() || code >= 400, error, code);
    let mut span = Map::new();
    span.extend([
        ("parentSpanId".to_owned(), hex(&trace.own.span)),
        ("flags".to_owned(), json!(SAMPLED | PARENT_KNOWN)),
        ("spanId".to_owned(), hex(&attempt.span)),
        (
            "name".to_owned(),
            json!(known_method(&line.method).unwrap_or("HTTP")),
        ),
        ("kind".to_owned(), json!(CLIENT)),
        ("attributes".to_owned(), Value::Array(attributes.0)),
        ("status".to_owned(), status),
    ]);
    complete(span, request, (attempt.begun_us, ended_us))
}

/// What all spans of a request have; 64-bit numbers are texts in this encoding.
fn complete(
    mut span: Map<String, Value>,
    request: &Request,
    (from_us, to_us): (u64, u64),
) -> Value {
    let Request { line, trace } = request;
    let began = line.time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanos = |us| (began + Duration::from_micros(us)).as_nanos().to_string();
    span.extend([
        ("traceId".to_owned(), hex(&trace.own.trace)),
        ("startTimeUnixNano".to_owned(), json!(nanos(from_us))),
        (
            "endTimeUnixNano".to_owned(),
            json!(nanos(to_us.max(from_us))),
        ),
    ]);
    if let Some(state) = &trace.state {
        span.insert("traceState".to_owned(), json!(state));
    }
    Value::Object(span)
}

fn hex(digits: &[u8]) -> Value {
    String::from_utf8_lossy(digits).into()
}

fn known_method(method: &str) -> Option<&str> {
    METHODS.contains(&method).then_some(method)
}

/// A URL or a query without the values of parameters that may sign it.
fn redacted(text: &str) -> String {
    if !text.contains('=') {
        return text.to_owned();
    }
    let parts = text.split_inclusive(['?', '&']);
    let kept = parts.map(|part| {
        let body = part.trim_end_matches('&');
        match body.split_once('=') {
            Some((name, _)) if SECRETS.contains(&name) => {
                let end = if body.len() < part.len() { "&" } else { "" };
                format!("{name}=REDACTED{end}")
            }
            _ => part.to_owned(),
        }
    });
    kept.collect()
}

/// A list of attributes.
#[derive(Default)]
struct Attributes(Vec<Value>);

impl Attributes {
    fn text(&mut self, name: &str, value: &str) {
        let value = json!({ "stringValue": cut(value) });
        self.0.push(json!({ "key": name, "value": value }));
    }

    fn number(&mut self, name: &str, value: u64) {
        let value = json!({ "intValue": value.to_string() });
        self.0.push(json!({ "key": name, "value": value }));
    }

    /// The host that was asked for, in parts.
    fn server(&mut self, host: &str) {
        let (name, port) = host.rsplit_once(':').unwrap_or((host, ""));
        let port = port.parse().ok();
        let name = if port.is_some() { name } else { host };
        if !name.is_empty() {
            self.text("server.address", name.trim_matches(['[', ']']));
        }
        if let Some(port) = port {
            self.number("server.port", port);
        }
    }

    /// What the conventions know nothing of.
    fn ours(&mut self, line: &Line) {
        let rule = line.rule.as_ref().map(|rule| match rule {
            Rule::Named => "named",
            Rule::Route(id) => id,
        });
        let known = [
            ("smartlink.request_id", Some(&*line.id)),
            ("smartlink.service", line.service.as_deref()),
            ("smartlink.version", line.version.as_deref()),
            ("smartlink.endpoint", line.endpoint.as_deref()),
            ("smartlink.token", line.token.as_deref()),
            ("smartlink.rule", rule),
            ("smartlink.error", line.error),
        ];
        for (name, value) in known {
            if let Some(value) = value {
                self.text(name, value);
            }
        }
    }

    fn method(&mut self, method: &str) {
        let known = known_method(method);
        self.text("http.request.method", known.unwrap_or("_OTHER"));
        if known.is_none() {
            self.text("http.request.method_original", method);
        }
    }

    /// The status of a span, and `error.type` where it failed.
    fn fail(&mut self, failed: bool, error: Option<&str>, status: u16) -> Value {
        if !failed {
            return json!({});
        }
        let status = status.to_string();
        self.text("error.type", error.unwrap_or(&status));
        json!({ "code": ERROR })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_sign_a_request_is_not_told() {
        for (text, wanted) in [
            ("a=1&sig=abc&b=2", "a=1&sig=REDACTED&b=2"),
            ("Signature=x", "Signature=REDACTED"),
            ("design=x&sigma=y", "design=x&sigma=y"),
            (
                "http://h/p?X-Goog-Signature=1&x",
                "http://h/p?X-Goog-Signature=REDACTED&x",
            ),
            ("http://h/p", "http://h/p"),
            ("a==&", "a==&"),
        ] {
            assert_eq!(redacted(text), wanted);
        }
    }
}
