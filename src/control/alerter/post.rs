//! Delivering one message: an HTTP request, or mail.
//!
//! Invariant: no error names a URL or a secret, which may be one and the same.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use tokio::time::timeout;

use super::mail;
use crate::control::complaint::no_secret;
use crate::model::alert::{Alert, Channel, Format};
use crate::model::endpoint::Target;
use crate::policy::alert::{Message, form};
use crate::transport::{self, TlsConfigs};

/// How long a receiver may take over one message.
const LIMIT: Duration = Duration::from_secs(15);
/// The most of an answer that is read.
const ANSWER_MAX: usize = 64 << 10;

/// Where secrets are: the value of an environment variable, or of the file that another one names.
pub type Secrets = fn(&str) -> Option<String>;

/// Sends one message; what the receiver answered, or why it did not take it.
pub(super) async fn deliver(
    alert: &Alert,
    secrets: Secrets,
    message: &Message,
    tls: &TlsConfigs,
    now_ms: u64,
) -> Result<String, String> {
    let secret = match alert.secret_env.as_deref() {
        Some(name) => Some(secrets(name).ok_or_else(|| no_secret(name))?),
        None => None,
    };
    let sent = async {
        match &alert.channel {
            Channel::Hook(format, target) => {
                let form = form::form(*format, message, secret.as_deref(), now_ms);
                post(*format, &target.0, form, tls, now_ms).await
            }
            Channel::Mail(server, to) => mail::send(&server.0, to, secret, message).await,
        }
    };
    let in_time = timeout(LIMIT, sent).await;
    in_time.unwrap_or_else(|_elapsed| Err(format!("it does not answer within {LIMIT:?}")))
}

async fn post(
    format: Format,
    target: &Target,
    form: form::Form,
    tls: &TlsConfigs,
    now_ms: u64,
) -> Result<String, String> {
    let answer = exchange(target, form, tls, now_ms).await;
    let (status, body) = answer.map_err(|error| error.to_string())?;
    let redacted = |text: String| redacted(&text, &target.path);
    form::accepted(format, status, &body).map_err(redacted)?;
    Ok(redacted(format!("{status} {body}")))
}

/// A text without what it repeats of the parts of a path, which may be secrets.
fn redacted(text: &str, path: &str) -> String {
    const SHORTEST: usize = 6;
    let parts = path.split(['/', '?', '&', '=']);
    let mut parts: Vec<&str> = parts.filter(|part| part.len() >= SHORTEST).collect();
    parts.sort_unstable_by_key(|part| std::cmp::Reverse(part.len()));
    let redact = |text: String, part: &str| text.replace(part, "…");
    parts.into_iter().fold(text.to_owned(), redact)
}

async fn exchange(
    target: &Target,
    form: form::Form,
    tls: &TlsConfigs,
    now_ms: u64,
) -> io::Result<(u16, String)> {
    let request = request(target, form)?;
    let answer = transport::exchange(target, request, LIMIT / 2, ANSWER_MAX, (tls, now_ms));
    let (status, body) = answer.await?;
    Ok((status.as_u16(), String::from_utf8_lossy(&body).into_owned()))
}

fn request(target: &Target, form: form::Form) -> io::Result<Request<Full<Bytes>>> {
    let path = match form.query.as_str() {
        "" => target.path.to_string(),
        query if target.path.contains('?') => format!("{}&{query}", target.path),
        query => format!("{}?{query}", target.path),
    };
    let mut request = Request::post(path)
        .header(header::HOST, &*target.authority)
        .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
        .header(header::USER_AGENT, "smartlink");
    if let Some(signature) = form.signature {
        request = request.header("x-smartlink-signature", signature);
    }
    let body = Full::new(Bytes::from(form.body));
    // Without the cause, which might repeat the path.
    let broken = |_path| io::Error::other("the URL makes no request");
    request.body(body).map_err(broken)
}
