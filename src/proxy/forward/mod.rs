//! From a known service to the head of its answer: version, endpoint, connection, clocks.

mod answer;
mod attempt;
mod reach;
mod seat;
mod wait;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use tokio::time::Instant;

use super::body::{AnswerBody, Fate, SendBody};
use super::error::Error;
use super::guard::Caller;
use super::handler::Exchange;
use super::headers;
use super::keys::Keys;
use super::tee;
use crate::model::settings::Effective;
use crate::model::table::Service;
use crate::policy::retry;

/// A request whose service is known.
pub(super) struct Call<'a> {
    pub(super) service: &'a Arc<Service>,
    pub(super) caller: Caller,
    /// The version a route pins.
    pub(super) pinned: Option<&'a str>,
    pub(super) keys: Keys,
    /// What is appended to the endpoint's path; `None`: the named entry, which appends nothing.
    pub(super) path: Option<Cow<'a, str>>,
    /// The client's head.
    pub(super) parts: &'a Parts,
    pub(super) body: SendBody,
}

/// What stays the same over all attempts of one request.
struct Journey<'a> {
    exchange: &'a Exchange,
    service: &'a Arc<Service>,
    caller: Caller,
    pinned: Option<&'a str>,
    /// The version that the caller chose.
    asked: Option<&'a str>,
    keys: Keys,
    path: Option<&'a str>,
    parts: &'a Parts,
    upgrade: Option<&'a HeaderValue>,
    fate: Option<&'a Fate>,
    /// Sending it twice does no harm.
    repeatable: bool,
    /// When all attempts and all waiting must be over, and the length of `total`.
    deadline: Option<(Instant, Duration)>,
}

/// Sends the call to an endpoint of its service and brings back the answer's head; the body
/// follows by itself.
pub(super) async fn forward(
    exchange: &Exchange,
    call: Call<'_>,
) -> Result<Response<AnswerBody>, Error> {
    if let Some(policy) = &call.service.shadow {
        tee::begin(exchange, &call, policy);
    }
    let Call {
        service,
        caller,
        pinned,
        keys,
        path,
        parts,
        body,
    } = call;
    let settings: &Effective = &service.settings;
    let upgrade = match (&path, &body) {
        (Some(_), SendBody::Empty) => headers::wanted_upgrade(parts),
        _ => None,
    };
    let fate = body.fate();
    let end = |total: Duration| (exchange.started + total, total);
    let deadline = settings.total.map(end);
    let asked = headers::wish(&parts.headers, caller.credential.as_deref());
    let journey = Journey {
        exchange,
        service,
        caller,
        pinned,
        asked,
        keys,
        path: path.as_deref(),
        parts,
        upgrade: upgrade.as_ref(),
        fate: fate.as_deref(),
        repeatable: retry::is_repeatable(settings, &parts.method, &parts.headers),
        deadline,
    };
    let reached = journey.reach(body).await?;
    if reached.answer.response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return answer::switch(exchange, reached, settings, upgrade.is_some());
    }
    Ok(answer::answer(
        exchange,
        reached,
        settings,
        fate,
        deadline.map(|(end, _)| end),
    ))
}
