//! Tokens signed with real keys, and a server that publishes the public ones.
//!
//! The keys in `tests/it/keys` were made for these tests and open nothing else.

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

use super::upstream::Upstream;

/// The public key of `rsa`, as a file has it.
pub const RSA_PUBLIC: &str = include_str!("../keys/rsa.pub.pem");
/// Where that file is.
pub const RSA_PUBLIC_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/keys/rsa.pub.pem");

/// A key to sign with.
pub fn key(name: &str) -> EncodingKey {
    let key = match name {
        "rsa" => EncodingKey::from_rsa_pem(include_bytes!("../keys/rsa.pem")),
        "stranger" => EncodingKey::from_rsa_pem(include_bytes!("../keys/stranger.pem")),
        "p256" => EncodingKey::from_ec_pem(include_bytes!("../keys/p256.pem")),
        "p384" => EncodingKey::from_ec_pem(include_bytes!("../keys/p384.pem")),
        "ed25519" => EncodingKey::from_ed_pem(include_bytes!("../keys/ed25519.pem")),
        _ => Ok(EncodingKey::from_secret(name.as_bytes())),
    };
    key.expect("a key")
}

/// The same, for those who check.
pub fn jwk(name: &str, kid: &str) -> Value {
    let algorithm = match name {
        "p256" => Algorithm::ES256,
        "p384" => Algorithm::ES384,
        "ed25519" => Algorithm::EdDSA,
        _ => Algorithm::RS256,
    };
    let jwk = Jwk::from_encoding_key(&key(name), algorithm).expect("a public key");
    let mut jwk = serde_json::to_value(jwk).expect("JSON");
    let fields = jwk.as_object_mut().expect("an object");
    fields.remove("alg");
    fields.insert("kid".to_owned(), json!(kid));
    jwk
}

/// A part of a token.
pub fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A token with that header and those claims, whatever they say, signed by a key so.
pub fn sign(header: &Value, claims: &Value, by: (&str, Algorithm)) -> String {
    sign_parts(&part(header), &part(claims), by)
}

/// The same of parts that are encoded already.
pub fn sign_parts(header: &str, claims: &str, (name, algorithm): (&str, Algorithm)) -> String {
    let message = format!("{header}.{claims}");
    let signature = crypto::sign(message.as_bytes(), &key(name), algorithm);
    format!("{message}.{}", signature.expect("it signs"))
}

/// Unix seconds.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.expect("after 1970").as_secs()).expect("not so late")
}

/// A value with some fields set, and those that are null removed.
pub fn with(mut value: Value, changes: &Value) -> Value {
    let fields = value.as_object_mut().expect("an object");
    for (name, change) in changes.as_object().expect("an object") {
        if change.is_null() {
            fields.remove(name);
        } else {
            fields.insert(name.clone(), change.clone());
        }
    }
    value
}

/// A server that answers everything with what it was given last, with a status before the body.
pub struct Publisher {
    upstream: Upstream,
    answer: Arc<Mutex<(u16, String)>>,
}

impl Publisher {
    /// One that publishes this.
    pub fn start(body: &Value) -> Self {
        let answer = Arc::new(Mutex::new((200, body.to_string())));
        let said = Arc::clone(&answer);
        let upstream = Upstream::start(move |connection| {
            while connection.read_request().is_some() {
                let (status, body) = said.lock().expect("no panic").clone();
                let length = body.len();
                connection.send(format!(
                    "HTTP/1.1 {status} x\r\nlocation: /elsewhere\r\ncontent-length: {length}\r\n\r\n{body}"
                ));
            }
        });
        Self { upstream, answer }
    }

    /// From now on it says this.
    pub fn say(&self, status: u16, body: &Value) {
        *self.answer.lock().expect("no panic") = (status, body.to_string());
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.upstream.seen().len()
    }

    /// Where it is.
    pub fn url(&self, path: &str) -> String {
        self.upstream.url(path)
    }
}
