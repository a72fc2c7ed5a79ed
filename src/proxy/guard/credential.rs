//! The credential: found in the head, looked up in memory, never passed on.
//!
//! A token is looked up by its SHA-256, so that how long that takes says nothing about any token.
//! `X-Api-Key` and `Authorization: Bearer` may both be there: then both are looked at, the first
//! that opens the service lets the caller in, and each that is one of ours stays here.

use std::sync::Arc;
use std::time::SystemTime;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

use super::Caller;
use super::issued::{Claim, Question};
use crate::model::credential::Credential;
use crate::model::networks::Networks;
use crate::model::settings::{Auth, Effective};
use crate::model::token::Token;
use crate::model::tokens::TokenHash;
use crate::policy::scope;
use crate::proxy::error::{Error, Lack};
use crate::proxy::handler::Exchange;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Headers that the upstream does not see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::proxy) struct Hidden(u8);

impl Hidden {
    pub(in crate::proxy) const AUTHORIZATION: Self = Self(1);
    pub(in crate::proxy) const API_KEY: Self = Self(2);

    pub(in crate::proxy) fn contains(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// What a presented text is.
pub(super) enum Verdict {
    /// It opens this service.
    Opens(Arc<Credential>),
    /// It is good, and opens others.
    Elsewhere(&'static str),
    /// It is ours, and not good now.
    Spent,
    /// It is none of ours.
    Unknown,
}

/// How often one request may have something found out about its credentials.
const QUESTIONS_MAX: usize = 4;

/// What a look at the credentials came to.
enum Seen {
    Decided(Result<(), Error>),
    /// This is to be found out first.
    Open(Question),
}

/// Finds out who asks; writes it down in `caller`. An error where that is not enough.
pub(super) async fn check(
    exchange: &Exchange,
    headers: &HeaderMap,
    settings: &Effective,
    name: &str,
    caller: &mut Caller,
) -> Result<(), Error> {
    let mut asked: Vec<Question> = Vec::new();
    loop {
        match look(exchange, headers, settings, (name, &asked), caller) {
            Seen::Decided(decided) => return decided,
            Seen::Open(_) if asked.len() == QUESTIONS_MAX => return Err(Error::IssuerAway),
            Seen::Open(question) => {
                let worker = &exchange.worker;
                // Boxed: most requests never wait.
                Box::pin(worker.issued.ask(&question, worker)).await?;
                asked.push(question);
            }
        }
    }
}

fn look(
    exchange: &Exchange,
    headers: &HeaderMap,
    settings: &Effective,
    (name, asked): (&str, &[Question]),
    caller: &mut Caller,
) -> Seen {
    let mut refusal = Error::Unauthenticated(Lack::Nothing);
    let mut open = None;
    let mut hidden = doubled(headers);
    for (place, text) in presented(headers) {
        let verdict = match judge(exchange, settings, (name, asked), text, caller) {
            Ok(verdict) => verdict,
            Err(question) => {
                open.get_or_insert(question);
                continue;
            }
        };
        if !matches!(verdict, Verdict::Unknown) {
            hidden.add(place);
        }
        match verdict {
            Verdict::Opens(credential) => {
                caller.credential.get_or_insert(credential);
            }
            Verdict::Elsewhere(why) => refusal = Error::Forbidden(why),
            Verdict::Spent | Verdict::Unknown => {
                if matches!(refusal, Error::Unauthenticated(_)) {
                    refusal = Error::Unauthenticated(Lack::Good);
                }
            }
        }
    }
    if let (Some(question), None) = (open, &caller.credential) {
        return Seen::Open(question);
    }
    if !settings.forward_credentials {
        caller.hidden = hidden;
    }
    if let Some(credential) = &caller.credential {
        let named = || Some(credential.name.clone());
        (exchange.state.record).note(|line| line.token = named());
        return Seen::Decided(Ok(()));
    }
    if settings.auth.contains(&Auth::Open) {
        return Seen::Decided(Ok(()));
    }
    Seen::Decided(Err(refusal))
}

/// The texts that may be credentials, with where they stand: each header once at most, for of
/// several lines of one name nobody can say which one counts.
fn presented(headers: &HeaderMap) -> impl Iterator<Item = (Hidden, &[u8])> {
    let only = |name: HeaderName| {
        let mut lines = headers.get_all(name).into_iter();
        let line = lines.next();
        line.filter(|_| lines.next().is_none())
            .map(HeaderValue::as_bytes)
    };
    let key = only(API_KEY).map(|text| (Hidden::API_KEY, text.trim_ascii()));
    let bearer = only(AUTHORIZATION).and_then(bearer);
    let bearer = bearer.map(|text| (Hidden::AUTHORIZATION, text));
    let texts = key.into_iter().chain(bearer);
    texts.filter(|(_, text)| !text.is_empty())
}

/// The headers of several lines: as any of them may be one of ours, none is passed on.
fn doubled(headers: &HeaderMap) -> Hidden {
    let mut doubled = Hidden::default();
    let places = [
        (API_KEY, Hidden::API_KEY),
        (AUTHORIZATION, Hidden::AUTHORIZATION),
    ];
    for (name, place) in places {
        if headers.get_all(name).iter().nth(1).is_some() {
            doubled.add(place);
        }
    }
    doubled
}

/// RFC 6750 section 2.1; the scheme in any case, as RFC 9110 section 11.1 says.
fn bearer(line: &[u8]) -> Option<&[u8]> {
    let (scheme, text) = line.split_at_checked(b"bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| text.trim_ascii())
}

/// The best that any of the service's ways in makes of a text; a question where that depends on
/// what is to be found out.
fn judge(
    exchange: &Exchange,
    settings: &Effective,
    (name, asked): (&str, &[Question]),
    text: &[u8],
    caller: &Caller,
) -> Result<Verdict, Question> {
    let hash: TokenHash = Sha256::digest(text).into();
    let table = &exchange.table;
    let worker = &exchange.worker;
    let mut best = Verdict::Unknown;
    let mut open = None;
    for way in &settings.auth {
        let verdict = match way {
            Auth::Open => continue,
            Auth::Token => match table.tokens.get(&hash) {
                Some(token) => judge_token(token, name, caller),
                None => Verdict::Unknown,
            },
            Auth::Jwt(id) => {
                let Some(issuer) = table.issuers.get(id) else {
                    continue;
                };
                let claim = Claim {
                    id,
                    issuer,
                    text,
                    hash,
                    service: name,
                };
                match worker.issued.judge(&claim, worker) {
                    Ok(verdict) => verdict,
                    // What was found out did not help.
                    Err(question) if asked.iter().any(|other| other.is(&question)) => {
                        Verdict::Spent
                    }
                    Err(question) => {
                        open.get_or_insert(question);
                        continue;
                    }
                }
            }
        };
        match (&best, verdict) {
            (_, Verdict::Opens(credential)) => return Ok(Verdict::Opens(credential)),
            (Verdict::Unknown, verdict) | (Verdict::Spent, verdict @ Verdict::Elsewhere(_)) => {
                best = verdict;
            }
            _ => {}
        }
    }
    open.map_or(Ok(best), Err)
}

fn judge_token(token: &Token, name: &str, caller: &Caller) -> Verdict {
    if !token.enabled || !is_in_time(token) {
        return Verdict::Spent;
    }
    let elsewhere = |from: &Networks| !from.contains(caller.address);
    if token.allow_ip.as_deref().is_some_and(elsewhere) {
        return Verdict::Elsewhere("the credential may not be used from this address");
    }
    if !scope::covers(token.patterns(), name) {
        return Verdict::Elsewhere("the credential does not cover this service");
    }
    Verdict::Opens(Arc::clone(&token.credential))
}

/// Whether the gateway's own clock lies within the token's times.
fn is_in_time(token: &Token) -> bool {
    if token.expires_ms.is_none() && token.not_before_ms.is_none() {
        return true;
    }
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now_ms = since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    });
    token.not_before_ms.is_none_or(|from| from <= now_ms)
        && token.expires_ms.is_none_or(|until| now_ms < until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_stands_in_one_of_two_headers() {
        for (lines, wanted) in [
            (&[][..], &[][..]),
            (&[("authorization", "Bearer a")], &["a"]),
            (&[("authorization", "bEARER   a.b ")], &["a.b"]),
            (&[("authorization", "Basic a")], &[]),
            (&[("authorization", "Bearer")], &[]),
            (&[("authorization", "Bearer ")], &[]),
            (&[("authorization", "Bearera")], &[]),
            (&[("x-api-key", "a")], &["a"]),
            (&[("x-api-key", "")], &[]),
            (&[("x-api-key", "a"), ("x-api-key", "b")], &[]),
            (
                &[
                    ("authorization", "Bearer a"),
                    ("authorization", "Bearer a"),
                    ("x-api-key", "b"),
                ],
                &["b"],
            ),
            (
                &[("authorization", "Bearer a"), ("x-api-key", "b")],
                &["b", "a"],
            ),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(*name, value.parse().expect("a value"));
            }
            let found: Vec<&[u8]> = presented(&headers).map(|(_, text)| text).collect();
            let wanted: Vec<&[u8]> = wanted.iter().map(|text| text.as_bytes()).collect();
            assert_eq!(found, wanted, "{lines:?}");
        }
    }
}
