//! The head of an upstream's answer as the client gets it.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_LENGTH, UPGRADE};
use http::{HeaderValue, Response};
use tokio::time::Instant;

use super::reach::Reached;
use crate::model::settings::Effective;
use crate::proxy::body::{AnswerBody, Fate, Terms};
use crate::proxy::error::Error;
use crate::proxy::handler::Exchange;
use crate::proxy::headers::{self, SERVER_TIMING, VERSION};
use crate::proxy::tunnel::Tunnel;

/// The answer as the client gets it.
pub(super) fn answer(
    exchange: &Exchange,
    reached: Reached,
    settings: &Effective,
    fate: Option<Rc<Fate>>,
    deadline: Option<Instant>,
) -> Response<AnswerBody> {
    let Reached {
        lease,
        place,
        answer,
        version,
        own_us,
        ..
    } = reached;
    let mut response = answer.response;
    let status = response.status();
    let head = response.headers_mut();
    headers::edit_answer(head, settings);
    exchange.state.record.gives_head(status, head);
    if settings.expose_headers {
        head.insert(VERSION, version.name_header.clone());
        head.append(SERVER_TIMING, timing(own_us));
    }
    exchange.state.record.of_version(version);
    let body = AnswerBody::upstream(
        lease,
        Terms {
            place,
            fate,
            stall: settings.stall,
            deadline,
            good: !response.status().is_server_error(),
        },
    );
    response.map(|()| body)
}

/// `gateway;dur=` in milliseconds: the time the gateway itself took (W3C Server Timing).
fn timing(own_us: u64) -> HeaderValue {
    const WORDS: usize = "gateway;dur=".len();
    let mut text = *b"gateway;dur=      0.000";
    let mut micros = own_us.min(9_999_999_999);
    let mut first = text.len() - 5;
    for (at, digit) in text
        .iter_mut()
        .enumerate()
        .rev()
        .filter(|(_, digit)| **digit != b'.')
    {
        if micros == 0 || at < WORDS {
            break;
        }
        *digit = b'0' + u8::try_from(micros % 10).unwrap_or(0);
        micros /= 10;
        first = first.min(at);
    }
    // The digits move up to the words.
    let digits = text.len() - first;
    text.copy_within(first.., WORDS);
    HeaderValue::from_bytes(text.get(..WORDS + digits).unwrap_or_default())
        .unwrap_or(HeaderValue::from_static("gateway"))
}

/// The upstream switched protocols: the connection hands the client's socket to a tunnel as soon
/// as this answer is written.
pub(super) fn switch(
    exchange: &Exchange,
    reached: Reached,
    settings: &Effective,
    asked: bool,
) -> Result<Response<AnswerBody>, Error> {
    let Reached {
        lease,
        place,
        answer,
        version,
        ..
    } = reached;
    let (Some(protocol), true) = (answer.upgrade, asked) else {
        return Err(Error::BadResponse);
    };
    let (io, read_buf) = lease.into_switched().ok_or(Error::BadResponse)?;
    let mut response = answer.response;
    let head = response.headers_mut();
    headers::edit_answer(head, settings);
    head.remove(CONTENT_LENGTH);
    head.insert(UPGRADE, protocol);
    head.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if settings.expose_headers {
        head.insert(VERSION, version.name_header.clone());
    }
    exchange.state.record.of_version(Arc::clone(&version));
    // What is said over it from here on has no requests and no answers.
    exchange.state.record.is_no_copy();
    exchange.state.tunnel.replace(Some(Box::new(Tunnel {
        io,
        read_buf,
        stall: settings.stall,
        version,
        guard: place,
        holding: exchange.state.holding.take(),
    })));
    Ok(response.map(|()| AnswerBody::empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateways_own_time_is_in_milliseconds() {
        for (micros, expected) in [
            (0, "0.000"),
            (7, "0.007"),
            (171, "0.171"),
            (1_000, "1.000"),
            (23_456, "23.456"),
            (1_234_567_890, "1234567.890"),
            (u64::MAX, "9999999.999"),
        ] {
            let value = timing(micros);
            assert_eq!(value, format!("gateway;dur={expected}"));
        }
    }
}
