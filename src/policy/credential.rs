//! What the credentials that a request presents are worth to the service it asks for.
//!
//! A token is looked up by its SHA-256, so that how long that takes says nothing about any token.
//! `X-Api-Key` and `Authorization: Bearer` may both be there: then both are looked at, the first
//! that opens the service lets the caller in, and each that is one of ours stays here.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use sha2::{Digest, Sha256};

use super::scope;
use crate::model::credential::Credential;
use crate::model::name::Name;
use crate::model::networks::Networks;
use crate::model::settings::Auth;
use crate::model::token::Token;
use crate::model::tokens::{TokenHash, Tokens};

/// Headers that the upstream does not see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hidden(u8);

impl Hidden {
    /// `Authorization`.
    pub const AUTHORIZATION: Self = Self(1);
    /// `X-Api-Key`.
    pub const API_KEY: Self = Self(2);

    /// Whether that header is among them.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// What a presented text is.
#[derive(Debug)]
pub enum Verdict {
    /// It opens this service.
    Opens(Arc<Credential>),
    /// It is good, and opens others: why not this one.
    Elsewhere(&'static str),
    /// It is ours, and not good now.
    Spent,
    /// It is none of ours.
    Unknown,
}

/// Why nobody is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No credential was presented.
    Nothing,
    /// What was presented is not good.
    NotGood,
    /// It is good, and not for this.
    Elsewhere(&'static str),
}

/// What a look at the credentials came to.
#[derive(Debug)]
pub enum Seen<Q> {
    /// The caller may come in: who that is, where a credential says so.
    Open(Option<Arc<Credential>>),
    /// The caller may not.
    Refused(Refusal),
    /// This is to be found out first.
    Asks(Q),
}

/// What is asked, by whom, and what tokens there are.
#[derive(Clone, Copy)]
pub struct Scene<'s> {
    /// The ways in.
    pub auth: &'s [Auth],
    /// The tokens in force.
    pub tokens: &'s Tokens,
    /// The name of the service.
    pub service: &'s str,
    /// Where the caller is.
    pub address: IpAddr,
    /// The time, Unix milliseconds; asked only where a token has times.
    pub now_ms: &'s dyn Fn() -> i64,
}

/// Looks at everything that is presented: what it comes to, and the headers that stay here where
/// credentials are not forwarded. `issued` judges a text by an issuer, `None` where there is no
/// such issuer.
pub fn look<Q>(
    headers: &HeaderMap,
    scene: &Scene<'_>,
    mut issued: impl FnMut(&Name, &[u8], &TokenHash) -> Result<Option<Verdict>, Q>,
) -> (Seen<Q>, Hidden) {
    let mut refusal = Refusal::Nothing;
    let (mut found, mut open) = (None, None);
    let (texts, mut hidden) = presented(headers);
    for (place, text) in texts {
        let verdict = match judge(scene, text, &mut issued) {
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
                found.get_or_insert(credential);
            }
            Verdict::Elsewhere(why) => refusal = Refusal::Elsewhere(why),
            Verdict::Spent | Verdict::Unknown => {
                if refusal == Refusal::Nothing {
                    refusal = Refusal::NotGood;
                }
            }
        }
    }
    let seen = match (found, open) {
        (None, Some(question)) => Seen::Asks(question),
        (Some(credential), _) => Seen::Open(Some(credential)),
        (None, None) if scene.auth.contains(&Auth::Open) => Seen::Open(None),
        (None, None) => Seen::Refused(refusal),
    };
    (seen, hidden)
}

/// The texts that may be credentials, with where they stand, and the headers that are there more
/// than once: of several lines of one name nobody can say which one counts.
fn presented(headers: &HeaderMap) -> (impl Iterator<Item = (Hidden, &[u8])>, Hidden) {
    let (mut key, mut bearer, mut doubled) = (None, None, Hidden::default());
    // Requests have few headers: a look at each is quicker than two hashes.
    for (name, line) in headers {
        let (seen, place) = match name.as_str() {
            "x-api-key" => (&mut key, Hidden::API_KEY),
            "authorization" => (&mut bearer, Hidden::AUTHORIZATION),
            _ => continue,
        };
        if seen.replace(line.as_bytes()).is_some() {
            doubled.add(place);
        }
    }
    let key = key.map(|line| (Hidden::API_KEY, line.trim_ascii()));
    let bearer = bearer.and_then(self::bearer);
    let bearer = bearer.map(|text| (Hidden::AUTHORIZATION, text));
    let counts =
        move |(place, text): &(Hidden, &[u8])| !text.is_empty() && !doubled.contains(*place);
    (key.into_iter().chain(bearer).filter(counts), doubled)
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
fn judge<Q>(
    scene: &Scene<'_>,
    text: &[u8],
    issued: &mut impl FnMut(&Name, &[u8], &TokenHash) -> Result<Option<Verdict>, Q>,
) -> Result<Verdict, Q> {
    let hash: TokenHash = Sha256::digest(text).into();
    let mut best = Verdict::Unknown;
    let mut open = None;
    for way in scene.auth {
        let verdict = match way {
            Auth::Open => continue,
            Auth::Token => match scene.tokens.get(&hash) {
                Some(token) => judge_token(token, scene),
                None => Verdict::Unknown,
            },
            Auth::Jwt(id) => match issued(id, text, &hash) {
                Ok(Some(verdict)) => verdict,
                Ok(None) => continue,
                Err(question) => {
                    open.get_or_insert(question);
                    continue;
                }
            },
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

fn judge_token(token: &Token, scene: &Scene<'_>) -> Verdict {
    if !token.enabled || !is_in_time(token, scene.now_ms) {
        return Verdict::Spent;
    }
    let elsewhere = |from: &Networks| !from.contains(scene.address);
    if token.allow_ip.as_deref().is_some_and(elsewhere) {
        return Verdict::Elsewhere("the credential may not be used from this address");
    }
    if !scope::covers(token.patterns(), scene.service) {
        return Verdict::Elsewhere("the credential does not cover this service");
    }
    Verdict::Opens(Arc::clone(&token.credential))
}

/// Whether the gateway's own clock lies within the token's times.
fn is_in_time(token: &Token, now_ms: &dyn Fn() -> i64) -> bool {
    if token.expires_ms.is_none() && token.not_before_ms.is_none() {
        return true;
    }
    let now_ms = now_ms();
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
            let found: Vec<&[u8]> = presented(&headers).0.map(|(_, text)| text).collect();
            let wanted: Vec<&[u8]> = wanted.iter().map(|text| text.as_bytes()).collect();
            assert_eq!(found, wanted, "{lines:?}");
        }
    }
}
