//! Every way a request can end badly, and the one place that says what the client is told.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use super::body::AnswerBody;
use super::framing::Bound;
use crate::telemetry;

/// Names the error code on the answer.
pub(super) const ERROR_HEADER: HeaderName = HeaderName::from_static("x-smartlink-error");
/// How much of an unknown service's name is repeated in `msg`, in characters.
const NAME_SHOWN: usize = 128;

/// Why a request got no answer of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Error {
    /// The body of the named entry is not a JSON object.
    InvalidJson(String),
    /// It is one, without a usable `server_name`.
    InvalidInput(&'static str),
    /// No credential, or none that is good.
    Unauthenticated(Lack),
    /// Whether the credential is good is not to be found out now.
    IssuerAway,
    /// This caller may not ask for this name.
    Forbidden(&'static str),
    /// No such service, or it is not enabled.
    NoSuchService(String),
    /// The framing or the head is malformed.
    BadRequest(&'static str),
    /// The head is too large: 431.
    HeadTooLarge(Bound),
    /// The path means different things to different readers, or climbs out.
    BadTarget,
    /// No route takes this request.
    NoRoute,
    /// The client paused in the middle of its body for longer than `stall`: 408.
    BodyStalled(Duration),
    /// The body is larger than this setting allows.
    BodyTooLarge(&'static str, u64),
    /// No connection could be made, with the reason of the last attempt.
    ConnectFailed(String),
    /// The upstream closed or reset the connection before its answer was complete.
    UpstreamReset,
    /// The upstream broke the protocol.
    BadResponse,
    /// No endpoint takes requests.
    NoEndpoint,
    /// This limit is used up for so many seconds.
    RateLimited(&'static str, u64),
    /// The caller has as many requests in flight as it may.
    CallerBusy,
    /// A bound of the gateway itself is reached.
    Overloaded(&'static str),
    /// A mistake in the configuration closes the service.
    Misconfigured(String),
    /// No configuration was loaded yet.
    Starting,
    /// The gateway is going down.
    Draining,
    /// One of the service's clocks ran out: its name and length.
    UpstreamTimeout(&'static str, Duration),
    /// The client left; nobody reads the answer.
    ClientGone,
}

/// What is missing where a credential is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lack {
    /// None was presented.
    Nothing,
    /// What was presented is not good.
    Good,
}

/// What an error is to the outside: status, stable code, beginning of the message.
struct Outside {
    status: StatusCode,
    code: &'static str,
    msg: String,
}

impl Error {
    #[expect(clippy::too_many_lines, reason = "one row for each way to end badly")]
    fn outside(&self) -> Outside {
        let (status, code, msg) = match self {
            Self::InvalidJson(why) => (400, "invalid_json", format!("Invalid JSON format: {why}")),
            Self::InvalidInput(why) => (400, "invalid_input", format!("Invalid input data: {why}")),
            Self::NoSuchService(name) => {
                let shown: String = name.chars().take(NAME_SHOWN).collect();
                (
                    400,
                    "no_such_service",
                    format!("Invalid input data: No Such Service {shown}"),
                )
            }
            Self::Unauthenticated(lack) => (
                401,
                "unauthenticated",
                match lack {
                    Lack::Nothing => "Unauthenticated: no credential was presented",
                    Lack::Good => "Unauthenticated: the credential is not good",
                }
                .to_owned(),
            ),
            Self::IssuerAway => (
                503,
                "overloaded",
                "Overloaded: the issuer of the credential does not answer".to_owned(),
            ),
            Self::Forbidden(why) => (403, "forbidden", format!("Forbidden: {why}")),
            Self::BadRequest(why) => (400, "bad_request", format!("Bad Request: {why}")),
            Self::HeadTooLarge(bound) => (
                431,
                "bad_request",
                format!("Bad Request: the request head is too large: {bound}"),
            ),
            Self::BodyStalled(length) => (
                408,
                "bad_request",
                format!("Bad Request: stall of {length:?} ran out while the body was awaited"),
            ),
            Self::BadTarget => (
                400,
                "bad_target",
                "Bad Target: the path is ambiguous or leaves its route".to_owned(),
            ),
            Self::NoRoute => (404, "no_route", "No Such Route".to_owned()),
            Self::BodyTooLarge(setting, bound) => (
                413,
                "body_too_large",
                format!("Body Too Large: {setting} is {bound} bytes"),
            ),
            Self::ConnectFailed(why) => (502, "connect_failed", format!("Connect Failed: {why}")),
            Self::UpstreamReset => (
                502,
                "upstream_reset",
                "Upstream Reset: the connection broke before the answer".to_owned(),
            ),
            Self::BadResponse => (
                502,
                "bad_response",
                "Bad Response: the upstream broke the protocol".to_owned(),
            ),
            Self::NoEndpoint => (
                503,
                "no_endpoint",
                "No Endpoint: none takes requests now".to_owned(),
            ),
            Self::RateLimited(limit, seconds) => (
                429,
                "rate_limited",
                format!("Rate Limited: {limit} is used up for {seconds} s"),
            ),
            Self::CallerBusy => (
                429,
                "rate_limited",
                "Rate Limited: concurrency of the token is used up".to_owned(),
            ),
            Self::Overloaded(bound) => {
                (503, "overloaded", format!("Overloaded: {bound} is used up"))
            }
            Self::Misconfigured(why) => (503, "misconfigured", format!("Misconfigured: {why}")),
            Self::Starting => (
                503,
                "starting",
                "Starting: no configuration was loaded yet".to_owned(),
            ),
            Self::Draining => (
                503,
                "draining",
                "Draining: this gateway is going down".to_owned(),
            ),
            Self::UpstreamTimeout(clock, length) => (
                504,
                "upstream_timeout",
                format!("Upstream Timeout: {clock} of {length:?} ran out"),
            ),
            Self::ClientGone => (499, "client_gone", "Client Gone".to_owned()),
        };
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Outside { status, code, msg }
    }

    /// Its stable code.
    pub(super) fn code(&self) -> &'static str {
        self.outside().code
    }

    /// The clock that ran out, by the name of its setting.
    pub(super) fn clock(&self) -> Option<&'static str> {
        match self {
            Self::UpstreamTimeout(clock, _) => Some(clock),
            Self::BodyStalled(_) => Some("stall"),
            _ => None,
        }
    }

    /// What the client is told: status, code, message.
    pub(super) fn told(&self) -> (u16, &'static str, String) {
        let Outside { status, code, msg } = self.outside();
        (status.as_u16(), code, msg)
    }

    /// Tells the log, for those who look closely.
    pub(super) fn tell(&self, service: &str, request_id: &str) {
        let Outside { code, msg, .. } = self.outside();
        telemetry::request_failed(code, service, request_id, &msg);
    }

    /// The answer in the standard output form. `server_name` is what is known of it, `duration`
    /// the time since the request came.
    pub(super) fn answer(&self, server_name: &str, duration: Duration) -> Response<AnswerBody> {
        let Outside { status, code, msg } = self.outside();
        let mut json = String::with_capacity(msg.len() + server_name.len() + 80);
        json.push_str("{\"server_name\": ");
        push_json_text(&mut json, server_name);
        json.push_str(", \"status\": false, \"msg\": ");
        push_json_text(&mut json, &msg);
        json.push_str(", \"data\": [], \"duration\": ");
        json.push_str(&duration.as_millis().to_string());
        json.push('}');
        let mut response = Response::new(AnswerBody::full(Bytes::from(json)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ERROR_HEADER, HeaderValue::from_static(code));
        if let Some(challenge) = self.challenge() {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        match self {
            Self::RateLimited(_, seconds) => {
                headers.insert(RETRY_AFTER, (*seconds).into());
            }
            _ if matches!(status.as_u16(), 429 | 503) => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }

    /// What a credential must be, in the words of RFC 6750 section 3: the same for every name.
    fn challenge(&self) -> Option<&'static str> {
        match self {
            Self::Unauthenticated(Lack::Nothing) => Some("Bearer realm=\"smartlink\""),
            Self::Unauthenticated(Lack::Good) => {
                Some("Bearer realm=\"smartlink\", error=\"invalid_token\"")
            }
            _ => None,
        }
    }

    /// Whether the client learns no more than that it may not come in.
    pub(super) fn keeps_silent(&self) -> bool {
        matches!(self, Self::Unauthenticated(_) | Self::Forbidden(_))
    }

    /// Whether the connection must not be used after this.
    pub(super) fn closes(&self) -> bool {
        matches!(
            self,
            Self::BadRequest(_) | Self::HeadTooLarge(_) | Self::BodyStalled(_) | Self::Draining
        )
    }
}

fn push_json_text(json: &mut String, text: &str) {
    match serde_json::to_string(text) {
        Ok(quoted) => json.push_str(&quoted),
        Err(_) => json.push_str("\"\""),
    }
}
