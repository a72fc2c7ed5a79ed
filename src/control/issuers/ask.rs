//! How issuers are asked: for their keys, and about a token.
//!
//! Invariant: no error repeats a token, a secret or a URL.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::Full;
use serde::Deserialize;
use tokio::time::timeout;

use crate::control::alerter::Secrets;
use crate::control::complaint::no_secret;
use crate::inquiry::Presented;
use crate::model::endpoint::Target;
use crate::model::issuer::{Issuer, Proof};
use crate::model::value::safe_url;
use crate::policy::jwt::Claims;
use crate::policy::jwt::keys::KeySet;
use crate::transport::{self, TlsConfigs};

/// How long an issuer may take to answer.
const LIMIT: Duration = Duration::from_secs(5);
/// The most of an answer that is read.
const ANSWER_MAX: usize = 256 << 10;
/// The largest file of keys.
const FILE_MAX: u64 = 256 << 10;

/// What asking takes.
pub(super) struct Means<'m> {
    pub(super) secrets: Secrets,
    pub(super) tls: &'m TlsConfigs,
    pub(super) now_ms: u64,
}

impl Means<'_> {
    fn secret(&self, name: &str) -> Result<String, String> {
        let secret = (self.secrets)(name).filter(|secret| !secret.is_empty());
        secret.ok_or_else(|| no_secret(name))
    }

    async fn ask(&self, target: &Target, request: Request<Full<Bytes>>) -> Result<Bytes, String> {
        let with = (self.tls, self.now_ms);
        let answer = transport::exchange(target, request, LIMIT / 2, ANSWER_MAX, with);
        let answer = timeout(LIMIT, answer).await;
        let answer = answer.map_err(|_elapsed| format!("no answer within {LIMIT:?}"))?;
        match answer.map_err(|error| error.to_string())? {
            (StatusCode::OK, body) => Ok(body),
            (status, _) => Err(format!("it answers {status}")),
        }
    }

    async fn get(&self, target: &Target) -> Result<Bytes, String> {
        let request = head(Request::get(&*target.path), target);
        self.ask(target, body(request, "")?).await
    }
}

fn head(request: http::request::Builder, target: &Target) -> http::request::Builder {
    request
        .header(header::HOST, &*target.authority)
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, "smartlink")
}

fn body(request: http::request::Builder, body: &str) -> Result<Request<Full<Bytes>>, String> {
    let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    request.map_err(|_path| "the URL makes no request".to_owned())
}

/// The keys of an issuer; `None` where it has none, but is asked about each token.
pub(super) async fn keys(issuer: &Issuer, means: &Means<'_>) -> Result<Option<KeySet>, String> {
    let keys = match &issuer.proof {
        Proof::Jwks(target) => KeySet::from_jwks(&means.get(target).await?)?,
        Proof::Discovery(target) => {
            let jwks = discover(issuer, target, means).await?;
            KeySet::from_jwks(&means.get(&jwks).await?)?
        }
        Proof::PublicKeyFile(path) => KeySet::from_pem(&file(path).await?)?,
        Proof::SecretEnv(name) => KeySet::from_secret(means.secret(name)?.as_bytes()),
        Proof::Introspection {
            client_secret_env, ..
        } => {
            // Better missed now than by the first token.
            client_secret_env
                .as_deref()
                .map(|name| means.secret(name))
                .transpose()?;
            return Ok(None);
        }
    };
    Ok(Some(keys))
}

async fn file(path: &str) -> Result<String, String> {
    let known = tokio::fs::metadata(path).await;
    let known = known.map_err(|error| error.to_string())?;
    if known.len() > FILE_MAX {
        return Err(format!("the file has more than {FILE_MAX} bytes"));
    }
    let text = tokio::fs::read_to_string(path).await;
    text.map_err(|error| error.to_string())
}

/// Where an issuer says that its keys are (`OpenID` Connect Discovery 1.0, section 4).
async fn discover(issuer: &Issuer, target: &Target, means: &Means<'_>) -> Result<Target, String> {
    #[derive(Deserialize)]
    struct Document {
        issuer: String,
        jwks_uri: String,
    }
    let text = means.get(target).await?;
    let document: Document = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    if Some(&*document.issuer) != issuer.issuer.as_deref() {
        return Err("what it publishes is another issuer's".to_owned());
    }
    let jwks = safe_url(&document.jwks_uri);
    let jwks = jwks.map_err(|wanted| format!("jwks_uri wants {wanted}"))?;
    if target.tls && !jwks.tls {
        return Err("jwks_uri is not https".to_owned());
    }
    Ok(jwks)
}

/// What the issuer says of a token (RFC 7662); `None`: it is not good.
pub(super) async fn introspect(
    issuer: &Issuer,
    token: &Presented,
    means: &Means<'_>,
) -> Result<Option<Claims>, String> {
    let Proof::Introspection {
        url,
        client_id,
        client_secret_env,
    } = &issuer.proof
    else {
        return Err("it is not asked about tokens".to_owned());
    };
    let secret = match client_secret_env {
        Some(name) => Some(means.secret(name)?),
        None => None,
    };
    let mut form = format!("token={}&token_type_hint=access_token", encoded(&token.0));
    let mut request = head(Request::post(&*url.path), url)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    match (client_id, secret) {
        (Some(id), Some(secret)) => {
            let pair = format!("{}:{}", encoded(id), encoded(&secret));
            let basic = format!("Basic {}", STANDARD.encode(pair));
            let basic = HeaderValue::try_from(basic).map_err(|error| error.to_string())?;
            request = request.header(header::AUTHORIZATION, basic);
        }
        (Some(id), None) => {
            form.push_str("&client_id=");
            form.push_str(&encoded(id));
        }
        (None, Some(secret)) => {
            let bearer = HeaderValue::try_from(format!("Bearer {secret}"));
            let bearer = bearer.map_err(|error| error.to_string())?;
            request = request.header(header::AUTHORIZATION, bearer);
        }
        (None, None) => {}
    }
    let answer = means.ask(url, body(request, &form)?).await?;
    let claims: Claims = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
    let active = claims.get("active").and_then(serde_json::Value::as_bool);
    match active {
        Some(true) => Ok(Some(claims)),
        Some(false) => Ok(None),
        None => Err("its answer does not say whether the token is active".to_owned()),
    }
}

/// As forms are encoded (WHATWG URL, section 5.2), blanks as `%20`.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(byte.into());
        } else {
            // Writing into a text cannot fail.
            let _written = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_cannot_add_fields_to_the_form() {
        assert_eq!(encoded("a-B_9.~"), "a-B_9.~");
        assert_eq!(encoded("a&active=true b%"), "a%26active%3Dtrue%20b%25");
    }
}
