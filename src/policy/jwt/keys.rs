//! The keys of an issuer: from a JWK Set (RFC 7517), a PEM file or a shared secret.
//!
//! Invariant: a key checks signatures of its own kind only, so that no public key is ever taken
//! for a secret, nor one curve for another.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, crypto};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::model::issuer::{ALGORITHMS, Algorithm};

/// The most keys of a set that are kept.
const KEYS_MAX: usize = 100;
/// The most keys that one token is tried with.
const TRIED_MAX: usize = 8;
/// The shortest modulus of RSA, in bytes (RFC 7518 section 3.3).
const MODULUS_MIN: usize = 2048 / 8;

/// Keys that signatures are checked with.
#[derive(Clone, Default)]
pub struct KeySet {
    /// The SHA-256 of what it was read from.
    source: [u8; 32],
    keys: Vec<Key>,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.keys.len())
    }
}

impl PartialEq for KeySet {
    /// Whether both take the same signatures; those that were read from the same text do.
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

/// One key.
#[derive(Clone, Debug)]
pub struct Key {
    kid: Option<Box<str>>,
    kind: Kind,
    /// The only algorithm it may be used with, where it says so.
    only: Option<Algorithm>,
    material: DecodingKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Secret,
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Kind {
    fn of(algorithm: Algorithm) -> Self {
        use Algorithm as A;
        match algorithm {
            A::HS256 | A::HS384 | A::HS512 => Self::Secret,
            A::RS256 | A::RS384 | A::RS512 | A::PS256 | A::PS384 | A::PS512 => Self::Rsa,
            A::ES256 => Self::P256,
            A::ES384 => Self::P384,
            A::EdDSA => Self::Ed25519,
        }
    }
}

impl KeySet {
    /// The keys of a JWK Set that can check signatures; others in it are for somebody else. An
    /// error where it is none, or has no such key.
    pub fn from_jwks(text: &[u8]) -> Result<Self, String> {
        let set: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let keys = set.get("keys").and_then(Value::as_array);
        let keys = keys.ok_or("it is no JWK Set: keys is missing")?;
        let keys: Vec<Key> = keys.iter().filter_map(jwk).take(KEYS_MAX).collect();
        if keys.is_empty() {
            return Err("it has no key that we can check signatures with".to_owned());
        }
        Ok(Self::new(text, keys))
    }

    /// The public keys in a PEM file.
    pub fn from_pem(text: &str) -> Result<Self, String> {
        const BEGIN: &str = "-----BEGIN ";
        let blocks = text.split(BEGIN).skip(1);
        let keys: Vec<Key> = blocks
            .filter(|block| !block.starts_with("PRIVATE") && !block.contains("PRIVATE KEY-----"))
            .filter_map(|block| pem(format!("{BEGIN}{block}").as_bytes()))
            .take(KEYS_MAX)
            .collect();
        if keys.is_empty() {
            return Err("it has no public key that we can check signatures with".to_owned());
        }
        Ok(Self::new(text.as_bytes(), keys))
    }

    /// A secret shared with the issuer.
    #[must_use]
    pub fn from_secret(secret: &[u8]) -> Self {
        let key = Key {
            kid: None,
            kind: Kind::Secret,
            only: None,
            material: DecodingKey::from_secret(secret),
        };
        Self::new(secret, vec![key])
    }

    fn new(source: &[u8], keys: Vec<Key>) -> Self {
        Self {
            source: Sha256::digest(source).into(),
            keys,
        }
    }

    /// The keys that a token with this algorithm and key id may be signed with.
    pub(super) fn fitting(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
    ) -> impl Iterator<Item = &Key> {
        let fits = move |key: &&Key| {
            let named = match (kid, key.kid.as_deref()) {
                (Some(wanted), Some(kid)) => wanted == kid,
                _ => true,
            };
            named
                && key.kind == Kind::of(algorithm)
                && key.only.is_none_or(|only| only == algorithm)
        };
        self.keys.iter().filter(fits).take(TRIED_MAX)
    }
}

impl Key {
    pub(super) fn verify(&self, signature: &str, message: &[u8], algorithm: Algorithm) -> bool {
        let algorithm = in_their_words(algorithm);
        crypto::verify(signature, message, &self.material, algorithm).unwrap_or(false)
    }
}

/// A key of a set, where it is one for signatures and long enough.
fn jwk(said: &Value) -> Option<Key> {
    let text = |field: &str| said.get(field).and_then(Value::as_str);
    if text("use").is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    if let Some(operations) = said.get("key_ops").and_then(Value::as_array)
        && !operations.iter().any(|operation| operation == "verify")
    {
        return None;
    }
    let only = match text("alg") {
        None => None,
        Some(name) => Some(ALGORITHMS.iter().find(|(known, _)| *known == name)?.1),
    };
    let length = |field: &str| Some(URL_SAFE_NO_PAD.decode(text(field)?).ok()?.len());
    let (kind, key) = match (text("kty")?, text("crv")) {
        ("RSA", _) => {
            let modulus = URL_SAFE_NO_PAD.decode(text("n")?).ok()?;
            let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
            if modulus.len() - zeros < MODULUS_MIN {
                return None;
            }
            let key = DecodingKey::from_rsa_components(text("n")?, text("e")?);
            (Kind::Rsa, key.ok()?)
        }
        ("EC", Some(curve)) => {
            let (kind, size) = match curve {
                "P-256" => (Kind::P256, 32),
                "P-384" => (Kind::P384, 48),
                _ => return None,
            };
            if length("x")? != size || length("y")? != size {
                return None;
            }
            let key = DecodingKey::from_ec_components(text("x")?, text("y")?);
            (kind, key.ok()?)
        }
        ("OKP", Some("Ed25519")) if length("x")? == 32 => {
            let key = DecodingKey::from_ed_components(text("x")?);
            (Kind::Ed25519, key.ok()?)
        }
        // A secret that is published is none.
        _ => return None,
    };
    Some(Key {
        kid: text("kid").map(Into::into),
        kind,
        only,
        material: key,
    })
}

fn pem(text: &[u8]) -> Option<Key> {
    let length = |key: &DecodingKey| key.try_get_as_bytes().map_or(0, <[u8]>::len);
    let rsa = || {
        let key = DecodingKey::from_rsa_pem(text).ok()?;
        (length(&key) >= MODULUS_MIN).then_some((Kind::Rsa, key))
    };
    let ec = || {
        let key = DecodingKey::from_ec_pem(text).ok()?;
        // An uncompressed point (SEC 1 section 2.3.3).
        match length(&key) {
            65 => Some((Kind::P256, key)),
            97 => Some((Kind::P384, key)),
            _ => None,
        }
    };
    let ed = || Some((Kind::Ed25519, DecodingKey::from_ed_pem(text).ok()?));
    let (kind, key) = rsa().or_else(ec).or_else(ed)?;
    Some(Key {
        kid: None,
        kind,
        only: None,
        material: key,
    })
}

fn in_their_words(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    use jsonwebtoken::Algorithm as Theirs;
    match algorithm {
        Algorithm::HS256 => Theirs::HS256,
        Algorithm::HS384 => Theirs::HS384,
        Algorithm::HS512 => Theirs::HS512,
        Algorithm::RS256 => Theirs::RS256,
        Algorithm::RS384 => Theirs::RS384,
        Algorithm::RS512 => Theirs::RS512,
        Algorithm::PS256 => Theirs::PS256,
        Algorithm::PS384 => Theirs::PS384,
        Algorithm::PS512 => Theirs::PS512,
        Algorithm::ES256 => Theirs::ES256,
        Algorithm::ES384 => Theirs::ES384,
        Algorithm::EdDSA => Theirs::EdDSA,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_keys_for_signatures_are_taken_from_a_set() {
        let x = URL_SAFE_NO_PAD.encode([7; 32]);
        let long = URL_SAFE_NO_PAD.encode([7; 256]);
        let short = URL_SAFE_NO_PAD.encode([7; 128]);
        let padded = URL_SAFE_NO_PAD.encode([&[0; 128][..], &[7; 128]].concat());
        for (key, good) in [
            (json!({"kty": "RSA", "n": long, "e": "AQAB"}), true),
            (json!({"kty": "RSA", "n": short, "e": "AQAB"}), false),
            (json!({"kty": "RSA", "n": padded, "e": "AQAB"}), false),
            (json!({"kty": "RSA", "n": long}), false),
            (
                json!({"kty": "RSA", "n": long, "e": "AQAB", "use": "sig"}),
                true,
            ),
            (
                json!({"kty": "RSA", "n": long, "e": "AQAB", "use": "enc"}),
                false,
            ),
            (
                json!({"kty": "RSA", "n": long, "e": "AQAB", "key_ops": ["sign"]}),
                false,
            ),
            (
                json!({"kty": "RSA", "n": long, "e": "AQAB", "alg": "RSA-OAEP"}),
                false,
            ),
            (json!({"kty": "EC", "crv": "P-256", "x": x, "y": x}), true),
            (json!({"kty": "EC", "crv": "P-384", "x": x, "y": x}), false),
            (
                json!({"kty": "EC", "crv": "secp256k1", "x": x, "y": x}),
                false,
            ),
            (json!({"kty": "OKP", "crv": "Ed25519", "x": x}), true),
            (json!({"kty": "OKP", "crv": "X25519", "x": x}), false),
            (json!({"kty": "oct", "k": x}), false),
            (json!("x"), false),
        ] {
            let set = json!({"keys": [key]}).to_string();
            assert_eq!(
                KeySet::from_jwks(set.as_bytes()).is_ok(),
                good,
                "{set:.120}"
            );
        }
        for bad in ["", "[]", "{}", r#"{"keys": {}}"#, r#"{"keys": []}"#] {
            assert!(KeySet::from_jwks(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_is_found_by_its_id_and_only_for_its_kind() {
        let x = URL_SAFE_NO_PAD.encode([7; 32]);
        let set = json!({"keys": [
            {"kty": "EC", "crv": "P-256", "x": x, "y": x, "kid": "a"},
            {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "b", "alg": "EdDSA"},
            {"kty": "EC", "crv": "P-256", "x": x, "y": x},
        ]});
        let set = KeySet::from_jwks(set.to_string().as_bytes()).expect("keys");
        let count = |algorithm, kid| set.fitting(algorithm, kid).count();
        assert_eq!(count(Algorithm::ES256, Some("a")), 2);
        assert_eq!(count(Algorithm::ES256, Some("b")), 1);
        assert_eq!(count(Algorithm::ES256, None), 2);
        assert_eq!(count(Algorithm::EdDSA, Some("b")), 1);
        assert_eq!(count(Algorithm::EdDSA, Some("a")), 0);
        assert_eq!(count(Algorithm::HS256, Some("a")), 0);
        assert_eq!(count(Algorithm::ES384, None), 0);
    }

    #[test]
    fn a_file_without_a_public_key_is_refused() {
        let private =
            "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n";
        for bad in ["", "x", private] {
            assert!(KeySet::from_pem(bad).is_err());
        }
    }
}
