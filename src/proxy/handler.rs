//! One request from its head to its answer: the journey in one look.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONNECTION;
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::body::AnswerBody;
use super::error::Error;
use super::headers::{self, REQUEST_ID};
use super::state::State;
use super::worker::{View, Worker};
use super::{cors, entry, notes, routed, upstream};
use crate::model::table::Service;

/// What every step of one request knows.
pub(super) struct Exchange {
    pub(super) worker: Rc<Worker>,
    pub(super) state: Rc<State>,
    /// The table in force when the request came; it stays to the end.
    pub(super) table: Rc<View>,
    pub(super) started: Instant,
    pub(super) request_id: HeaderValue,
    /// The host the client asked for.
    pub(super) host: Option<HeaderValue>,
}

impl Exchange {
    /// The address of the client, seen through trusted proxies.
    pub(super) fn client(&self, headers: &HeaderMap) -> IpAddr {
        let trusted = &self.worker.options.trusted_proxies;
        self.state.peer().client(headers, trusted)
    }
}

/// An error, and what was known of the service.
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) name: Box<str>,
    /// The service, where it was found.
    pub(super) service: Option<Arc<Service>>,
}

impl Failure {
    pub(super) fn of(service: &Arc<Service>, error: Error) -> Self {
        Self {
            error,
            name: service.name.as_str().into(),
            service: Some(Arc::clone(service)),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            error,
            name: "".into(),
            service: None,
        }
    }
}

/// What a request came to.
pub(super) type Outcome = Result<Response<AnswerBody>, Failure>;

/// Answers one request. Never fails: what goes wrong becomes an answer.
pub(super) async fn handle(
    worker: Rc<Worker>,
    state: Rc<State>,
    req: Request<Incoming>,
) -> Result<Response<AnswerBody>, std::convert::Infallible> {
    let (parts, body) = req.into_parts();
    let said = headers::Said::by(&parts.headers);
    let request_id = headers::request_id(said.request_id, &worker);
    let (host, origin) = (said.host.cloned(), said.origin);
    let table = worker.table();
    let handling = Handling::begin(&state);
    let mut exchange = Exchange {
        worker,
        started: state.record.started(),
        state,
        table,
        request_id,
        host,
    };
    notes::begin(&exchange, &parts);
    let named = entry::is_named(&exchange.worker.options.entry, &parts);
    let outcome = match check_head(&mut exchange, &parts) {
        Ok(()) if named && parts.method == Method::POST => {
            entry::serve(&exchange, &parts, body, origin).await
        }
        Ok(()) if named && cors::is_preflight(&parts) => Ok(cors::entry_preflight(
            &exchange.table.defaults,
            &parts.headers,
        )),
        Ok(()) => routed::serve(&exchange, &parts, body, origin).await,
        Err(error) => Err(error.into()),
    };
    let mut close = exchange.worker.is_draining();
    let mut response = outcome.unwrap_or_else(|failure| {
        close |= failure.error.closes();
        let record = &exchange.state.record;
        record.failed(&failure.error);
        if let Some(service) = failure.service.as_ref().filter(|_| !record.has_version()) {
            record.of_service(service);
        }
        let id = exchange.request_id.to_str().unwrap_or_default();
        failure.error.tell(&failure.name, id);
        let mut answer = failure
            .error
            .answer(&failure.name, exchange.started.elapsed());
        let marked = answer.headers_mut();
        let known = failure.service.as_ref();
        // Who may not come in learns from no header what is inside.
        let known = known.filter(|_| !(named && failure.error.keeps_silent()));
        let settings = known.map(|service| &service.settings);
        match (settings, named) {
            (Some(settings), true) => cors::mark_entry(settings, origin, marked),
            (None, true) => cors::mark_entry(&exchange.table.defaults, origin, marked),
            (Some(settings), false) => cors::mark_routed(settings, origin, marked),
            (None, false) => {}
        }
        record.gives_head(answer.status(), answer.headers());
        answer
    });
    upstream::recycle(parts.headers);
    if let Some(told) = exchange.state.told_limit.take() {
        told.write(response.headers_mut());
    }
    finish_head(exchange.request_id, &mut response, close);
    let state = handling.answered(response.status());
    response.body_mut().ends(state);
    Ok(response)
}

/// A request that is not answered yet. Where this is dropped, the client left.
struct Handling(Option<Rc<State>>);

impl Handling {
    fn begin(state: &Rc<State>) -> Self {
        state.record.begin(&state.worker);
        Self(Some(Rc::clone(state)))
    }

    /// From here on the answer's body tells the end.
    fn answered(mut self, status: StatusCode) -> Rc<State> {
        let state = self.0.take().expect("it is answered once");
        state.record.answered(status.as_u16());
        state
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        if let Some(state) = self.0.take() {
            state.end();
        }
    }
}

/// What can be said about a head without knowing where it leads.
fn check_head(exchange: &mut Exchange, parts: &Parts) -> Result<(), Error> {
    if let Some(host) = check_target(parts)? {
        exchange.host = Some(host);
    }
    if exchange.worker.past_grace() {
        return Err(Error::Draining);
    }
    Ok(())
}

/// Whether the target is one; the host that it names, which wins over the header.
pub(super) fn check_target(parts: &Parts) -> Result<Option<HeaderValue>, Error> {
    if parts.method == Method::CONNECT {
        return Err(Error::BadRequest("CONNECT is not served"));
    }
    // RFC 9112 section 3.2.2: the target wins over the header.
    let host = parts.uri.authority().map(authority_header).transpose()?;
    if !matches!(parts.uri.scheme_str(), None | Some("http" | "https")) {
        return Err(Error::BadRequest("the target's scheme is not http"));
    }
    let path = parts.uri.path();
    // RFC 9112 section 3.2.4: only OPTIONS may ask for everything.
    let everything = path == "*" && parts.method == Method::OPTIONS;
    if !path.starts_with('/') && !everything {
        return Err(Error::BadRequest("the target is not a path"));
    }
    Ok(host)
}

fn authority_header(authority: &Authority) -> Result<HeaderValue, Error> {
    if authority.as_str().contains('@') {
        return Err(Error::BadRequest("user info in the target"));
    }
    HeaderValue::from_str(authority.as_str())
        .map_err(|_malformed| Error::BadRequest("the target's host is malformed"))
}

/// The headers that every answer carries.
fn finish_head(request_id: HeaderValue, response: &mut Response<AnswerBody>, close: bool) {
    *response.version_mut() = Version::HTTP_11;
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(REQUEST_ID, request_id);
    if close && !switches {
        answer.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}

/// An answer to something that never became a request, as bytes, closing the connection.
pub(super) fn raw_answer(error: &Error, worker: &Worker) -> Vec<u8> {
    let mut response = error.answer("", Duration::ZERO);
    // Of a head that cannot be read nobody says which path was meant: so it may have been ours.
    cors::mark_entry(&worker.table().defaults, None, response.headers_mut());
    if let Ok(id) = HeaderValue::from_bytes(&worker.unique()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let status = response.status();
    let mut bytes = format!(
        "HTTP/1.1 {} {}\r\n",
        status.as_str(),
        status.canonical_reason().unwrap_or("")
    )
    .into_bytes();
    for (name, value) in response.headers() {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    let body = response.into_body().into_full();
    bytes.extend_from_slice(
        format!(
            "content-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        )
        .as_bytes(),
    );
    bytes.extend_from_slice(&body);
    bytes
}
