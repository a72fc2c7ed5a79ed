//! The body that each receiver documents, its signature, and whether its answer means that it took
//! the message.
//!
//! Slack: incoming webhooks. `DingTalk`: custom robots, text message, signature in the query.
//! Feishu (Lark): custom bots, text message, signature in the body. `WeCom`: group robots, text
//! message of at most 2048 bytes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::Message;
use crate::model::alert::Format;

/// The longest text of a `WeCom` message, in bytes.
const WECOM_MAX: usize = 2048;

/// A request to a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// What is added to the query of its URL: pairs of safe texts, without `?` or a leading `&`.
    pub query: String,
    /// The header with a signature of the body, where it is signed so.
    pub signature: Option<String>,
    /// The body, JSON.
    pub body: String,
}

/// The request that carries a message, signed where there is a secret.
#[must_use]
pub fn form(format: Format, message: &Message, secret: Option<&str>, now_ms: u64) -> Form {
    let mut query = String::new();
    let mut signature = None;
    let text = message.text();
    let body = match format {
        Format::Json => serde_json::to_value(message).unwrap_or_default(),
        Format::Slack => json!({ "text": slack_text(message) }),
        Format::Dingtalk => {
            if let Some(secret) = secret {
                let sign = sign(secret, &format!("{now_ms}\n{secret}"));
                query = format!("timestamp={now_ms}&sign={}", percent_encoded(&sign));
            }
            json!({ "msgtype": "text", "text": { "content": text } })
        }
        Format::Feishu => {
            let mut body = json!({ "msg_type": "text", "content": { "text": text } });
            if let (Some(secret), Some(body)) = (secret, body.as_object_mut()) {
                let second = now_ms / 1000;
                let sign = sign(&format!("{second}\n{secret}"), "");
                body.insert("timestamp".to_owned(), second.to_string().into());
                body.insert("sign".to_owned(), sign.into());
            }
            body
        }
        Format::Wecom => {
            let end = text.floor_char_boundary(WECOM_MAX);
            let text = text.get(..end).unwrap_or_default();
            json!({ "msgtype": "text", "text": { "content": text } })
        }
    };
    let body = body.to_string();
    if let (Format::Json, Some(secret)) = (format, secret) {
        let digest = hmac(secret, &body);
        let digits = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let digits = digits.filter_map(|digit| char::from_digit(digit.into(), 16));
        let hex: String = digits.collect();
        signature = Some(format!("sha256={hex}"));
    }
    Form {
        query,
        signature,
        body,
    }
}

/// Whether an answer of the receiver means that it took the message; else what it said, in a few
/// words.
pub fn accepted(format: Format, status: u16, body: &str) -> Result<(), String> {
    if !(200..300).contains(&status) {
        return Err(format!("it answers {status} {}", few(body)));
    }
    let field = match format {
        Format::Json | Format::Slack => return Ok(()),
        Format::Dingtalk | Format::Wecom => "errcode",
        Format::Feishu => "code",
    };
    let said: Value = serde_json::from_str(body).unwrap_or_default();
    // Older Feishu bots say `StatusCode`.
    let code = said.get(field).or_else(|| said.get("StatusCode"));
    if code.and_then(Value::as_i64) == Some(0) {
        Ok(())
    } else {
        Err(format!("it answers {status} {}", few(body)))
    }
}

/// Slack's marks: title bold, relief as code; `&`, `<` and `>` are all that must be escaped.
fn slack_text(message: &Message) -> String {
    let escaped = |text: &str| {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        text.replace('>', "&gt;")
    };
    let lines = message.lines().into_iter();
    let lines = lines.map(|line| match line.strip_prefix("relief: ") {
        Some(relief) => format!("relief: `{}`", escaped(relief)),
        None => escaped(&line),
    });
    let lines: Vec<String> = lines.collect();
    format!("*{}*\n{}", escaped(&message.title()), lines.join("\n"))
}

/// Base64 of an HMAC-SHA256.
fn sign(key: &str, text: &str) -> String {
    STANDARD.encode(hmac(key, text))
}

fn hmac(key: &str, text: &str) -> Vec<u8> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Base64 as part of a query.
fn percent_encoded(base64: &str) -> String {
    let escaped = base64.replace('+', "%2B").replace('/', "%2F");
    escaped.replace('=', "%3D")
}

/// The beginning of a text in one line.
fn few(text: &str) -> String {
    let end = text.floor_char_boundary(200);
    let words = text.get(..end).unwrap_or_default().split_whitespace();
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::alert::Kind;
    use crate::policy::alert::Tell;

    fn message() -> Message {
        Message {
            kind: Kind::ErrorRate,
            state: Tell::Firing,
            why: "12 % of requests fail & more than <5 %>".to_owned(),
            relief: "redis-cli HSET smartlink:weights:ner base 100".to_owned(),
            ..Message::test("ops", "gw-1", 1_700_000_000_000)
        }
    }

    fn body(format: Format, secret: Option<&str>) -> (Form, Value) {
        let form = form(format, &message(), secret, 1_700_000_000_123);
        let body = serde_json::from_str(&form.body).expect("JSON");
        (form, body)
    }

    #[test]
    fn each_format_has_the_fields_its_receiver_documents() {
        let (_, json) = body(Format::Json, None);
        for field in [
            "kind", "service", "state", "since_ms", "count", "why", "evidence", "relief", "gateway",
        ] {
            assert!(json.get(field).is_some(), "{field}");
        }
        assert_eq!(
            (&json["kind"], &json["state"]),
            (&"error_rate".into(), &"firing".into())
        );
        let (_, slack) = body(Format::Slack, None);
        let text = slack["text"].as_str().expect("a text");
        assert!(
            text.starts_with("*smartlink FIRING error_rate: test*\n"),
            "{text}"
        );
        assert!(text.contains("&amp; more than &lt;5 %&gt;"), "{text}");
        assert!(text.contains("relief: `redis-cli HSET"), "{text}");
        for format in [Format::Dingtalk, Format::Wecom] {
            let (form, body) = body(format, None);
            assert_eq!((&body["msgtype"], &*form.query), (&"text".into(), ""));
            assert_eq!(body["text"]["content"], message().text());
        }
        let (_, feishu) = body(Format::Feishu, None);
        assert_eq!(feishu["msg_type"], "text");
        assert_eq!(feishu["content"]["text"], message().text());
        assert!(feishu.get("sign").is_none());
    }

    #[test]
    fn signatures_are_those_that_receivers_compute() {
        // Computed with Python's hmac, hashlib and base64.
        let (ding, _) = body(Format::Dingtalk, Some("SECabc"));
        assert_eq!(
            ding.query,
            "timestamp=1700000000123&sign=IqXBU%2FaLfwMA3S%2FtDcfRmHx5vWHw9Y1aOgFLBr1Ti9w%3D"
        );
        let (_, feishu) = body(Format::Feishu, Some("abc"));
        assert_eq!(feishu["timestamp"], "1700000000");
        assert_eq!(
            feishu["sign"],
            "VIS10b0EBvzzSdFnuk4tznEmK5wHaruvf/WnViv2yR4="
        );
        let (json, _) = body(Format::Json, Some("key"));
        let signature = json.signature.expect("signed");
        assert_eq!(signature.len(), "sha256=".len() + 64);
    }

    #[test]
    fn a_refusal_in_a_good_answer_is_a_refusal() {
        for (format, status, answer, taken) in [
            (Format::Json, 204, "", true),
            (Format::Slack, 200, "ok", true),
            (Format::Slack, 404, "no_service", false),
            (
                Format::Dingtalk,
                200,
                r#"{"errcode":0,"errmsg":"ok"}"#,
                true,
            ),
            (
                Format::Dingtalk,
                200,
                r#"{"errcode":310000,"errmsg":"sign not match"}"#,
                false,
            ),
            (Format::Wecom, 200, r#"{"errcode":93000}"#, false),
            (Format::Feishu, 200, r#"{"code":0,"msg":"success"}"#, true),
            (Format::Feishu, 200, r#"{"StatusCode":0}"#, true),
            (Format::Feishu, 200, r#"{"code":19021}"#, false),
            (Format::Feishu, 200, "<html>", false),
        ] {
            assert_eq!(accepted(format, status, answer).is_ok(), taken, "{answer}");
        }
    }
}
