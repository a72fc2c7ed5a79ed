//! JSON Web Tokens (RFC 7519, signed as RFC 7515 says): whose one is, and what it opens.
//!
//! What a token says about how to check it is not believed: the algorithm must be one of the
//! issuer's setting and fit the key, keys come from the issuer's setting only (`jku`, `x5u`, `jwk`
//! and `x5c` are not read), and a token with `crit`, which asks for what we do not know, is none.
//!
//! Invariant: a grant exists only where the signature is good and every claim holds.

pub mod claims;
pub mod keys;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::model::credential::Credential;
use crate::model::issuer::{ALGORITHMS, Algorithm, Issuer};
use crate::model::name::Name;
use crate::policy::scope;
use keys::KeySet;

/// The longest token that is looked at, in bytes.
const TOKEN_MAX: usize = 16 << 10;

/// The claims of a token, or what an issuer says of one.
pub type Claims = Map<String, Value>;

/// What a good credential of an issuer opens.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// Who presents it.
    pub credential: Arc<Credential>,
    /// The services it opens, as in `Token::services`; `None`: all that name the issuer.
    pub services: Option<Vec<Box<str>>>,
    /// From when on it is no longer good, in Unix seconds, leeway included.
    pub until_s: f64,
}

impl Grant {
    /// Whether it opens this service.
    #[must_use]
    pub fn covers(&self, service: &str) -> bool {
        let services = self.services.as_deref();
        services.is_none_or(|services| scope::covers(services.iter().map(|p| &**p), service))
    }
}

/// Why a token admits nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is no token of this issuer.
    Foreign,
    /// It is one that is not good.
    Bad(&'static str),
    /// It names a key that the issuer was not known to have.
    UnknownKey,
}

/// A token taken apart, of which nothing is believed yet.
#[derive(Debug)]
pub struct Parsed<'t> {
    algorithm: Algorithm,
    kid: Option<Box<str>>,
    /// What is signed.
    message: &'t str,
    signature: &'t str,
    claims: Claims,
}

/// What of a header is read.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<Box<str>>,
    crit: Option<IgnoredAny>,
}

/// Takes a token apart; `None` where it is none, or is signed in a way that we do not know.
#[must_use]
pub fn parse(text: &[u8]) -> Option<Parsed<'_>> {
    let text = std::str::from_utf8(text).ok()?;
    if text.len() > TOKEN_MAX {
        return None;
    }
    let (message, signature) = text.rsplit_once('.')?;
    let (header, claims) = message.split_once('.')?;
    if claims.contains('.') || signature.is_empty() {
        return None;
    }
    let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
    if header.crit.is_some() {
        return None;
    }
    let mut known = ALGORITHMS.iter();
    let (_, algorithm) = known.find(|(name, _)| *name == header.alg)?;
    Some(Parsed {
        algorithm: *algorithm,
        kid: header.kid,
        message,
        signature,
        claims: serde_json::from_slice(&decode(claims)?).ok()?,
    })
}

fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

impl Parsed<'_> {
    /// What it would open if its signature were good; cheap, so that forgers cost little.
    pub fn judge(&self, id: &Name, issuer: &Issuer, now_s: f64) -> Result<Grant, Refusal> {
        let iss = self.claims.get("iss").and_then(Value::as_str);
        if issuer.issuer.is_none() || iss != issuer.issuer.as_deref() {
            return Err(Refusal::Foreign);
        }
        if !issuer.algorithms.contains(&self.algorithm) {
            return Err(Refusal::Bad("its algorithm is not one of the issuer's"));
        }
        if !self.claims.contains_key("exp") {
            return Err(Refusal::Bad("exp is missing"));
        }
        claims::grant(&self.claims, id, issuer, now_s)
    }

    /// Checks its signature with the keys of its issuer.
    pub fn verify(&self, keys: &KeySet) -> Result<(), Refusal> {
        let mut fitting = keys.fitting(self.algorithm, self.kid.as_deref()).peekable();
        if fitting.peek().is_none() {
            return Err(Refusal::UnknownKey);
        }
        let message = self.message.as_bytes();
        let good = |key: &keys::Key| key.verify(self.signature, message, self.algorithm);
        if fitting.any(good) {
            return Ok(());
        }
        Err(Refusal::Bad("its signature is not good"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }

    #[test]
    fn what_is_no_token_is_not_taken_for_one() {
        let (head, claims) = (encode(r#"{"alg":"HS256"}"#), encode("{}"));
        assert!(parse(format!("{head}.{claims}.c2ln").as_bytes()).is_some());
        for bad in [
            String::new(),
            "..".to_owned(),
            "a.b.c".to_owned(),
            format!("{head}.{claims}"),
            format!("{head}.{claims}."),
            format!("{head}.{claims}.c2ln.c2ln"),
            format!(".{claims}.c2ln"),
            format!("{head}..c2ln"),
            format!("{head}=.{claims}.c2ln"),
            format!("{head} .{claims}.c2ln"),
            format!("{}.{claims}.c2ln", encode(r#"{"alg":"none"}"#)),
            format!("{}.{claims}.c2ln", encode(r#"{"alg":"hs256"}"#)),
            format!("{}.{claims}.c2ln", encode(r#"{"alg":["HS256"]}"#)),
            format!("{}.{claims}.c2ln", encode(r#"{"typ":"JWT"}"#)),
            format!(
                "{}.{claims}.c2ln",
                encode(r#"{"alg":"HS256","alg":"HS256"}"#)
            ),
            format!(
                "{}.{claims}.c2ln",
                encode(r#"{"alg":"HS256","crit":["x"]}"#)
            ),
            format!("{}.{claims}.c2ln", encode(r#"{"alg":"HS256","kid":7}"#)),
            format!("{head}.{}.c2ln", encode("[]")),
            format!("{head}.{}.c2ln", encode("{} x")),
            format!("{head}.{claims}.{}", "a".repeat(TOKEN_MAX)),
        ] {
            assert!(parse(bad.as_bytes()).is_none(), "{bad:.80}");
        }
        assert!(parse(b"\xff.\xff.\xff").is_none());
    }
}
