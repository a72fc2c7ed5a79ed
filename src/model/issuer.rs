//! Issuers: whose JSON Web Tokens, or opaque tokens by introspection, let a caller in.

use std::time::Duration;

use super::decode::{Decoded, Decoder, Fields, Wanted};
use super::endpoint::Target;
use super::value::{self, duration, list, nonzero_duration, safe_url, word};

/// The decoded `issuer:<id>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Issuer {
    /// What `iss` must be; `None` only with introspection: anything.
    pub issuer: Option<Box<str>>,
    /// One of these must be in `aud`; empty only with introspection: anything.
    pub audience: Vec<Box<str>>,
    /// The algorithms a signature may use; empty only with introspection.
    pub algorithms: Vec<Algorithm>,
    /// What a credential is checked against.
    pub proof: Proof,
    /// How far its clock may be from ours.
    pub leeway: Duration,
    /// The claim that lists the services the credential opens; `None`: all that name this issuer.
    pub services_claim: Option<Box<str>>,
    /// Claims and the value each must have or contain.
    pub require: Vec<(Box<str>, Box<str>)>,
    /// How long keys and answers of introspection are kept.
    pub cache: Duration,
}

/// What a credential is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The keys published at this URL.
    Jwks(Target),
    /// The keys published where the document at this URL says (`OpenID` Connect Discovery).
    Discovery(Target),
    /// The public key in this PEM file.
    PublicKeyFile(Box<str>),
    /// The shared secret in this environment variable.
    SecretEnv(Box<str>),
    /// What the issuer answers when asked (RFC 7662).
    Introspection {
        /// Where to ask.
        url: Target,
        /// As whom to ask.
        client_id: Option<Box<str>>,
        /// The environment variable that holds the password to ask with.
        client_secret_env: Option<Box<str>>,
    },
}

impl Proof {
    /// The field that says where its keys are, or what it is asked with.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::Jwks(_) => "jwks_url",
            Self::Discovery(_) => "issuer",
            Self::PublicKeyFile(_) => "public_key_file",
            Self::SecretEnv(_) => "secret_env",
            Self::Introspection { .. } => "client_secret_env",
        }
    }

    /// Whether somebody else is asked for its keys, who may be away for a while.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Jwks(_) | Self::Discovery(_))
    }
}

/// A signature algorithm of RFC 7518 or RFC 8037.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the RFCs")]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    /// Whether signing and checking take the same secret.
    #[must_use]
    pub fn is_symmetric(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }
}

/// The algorithms by the names that settings and tokens give them.
pub const ALGORITHMS: &[(&str, Algorithm)] = &[
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// The fields of which exactly one says what a credential is checked against.
const PROOFS: [&str; 4] = [
    "jwks_url",
    "public_key_file",
    "secret_env",
    "introspection_url",
];

/// Decodes `issuer:<id>`.
#[must_use]
pub fn decode(key: &str, fields: &Fields) -> Decoded<Issuer> {
    let mut decoder = Decoder::new(key, fields);
    let issuer = decoder.take("issuer", value::text);
    let proof = take_proof(&mut decoder, issuer.as_deref());
    let audience = decoder.take("audience", list(value::text));
    let algorithms = take_algorithms(&mut decoder);
    if !decoder.has("introspection_url") {
        for field in ["issuer", "audience", "algorithms"] {
            decoder.demand(field);
        }
    }
    let leeway = decoder.take("leeway", duration);
    let services_claim = decoder.take("services_claim", value::short_text);
    let require = decoder.take("require", list(claim));
    let cache = decoder.take("cache", nonzero_duration);
    let issuer = proof.map(|proof| Issuer {
        issuer,
        audience: audience.unwrap_or_default(),
        algorithms,
        proof,
        leeway: leeway.unwrap_or(Duration::from_secs(30)),
        services_claim,
        require: require.unwrap_or_default(),
        cache: cache.unwrap_or(Duration::from_mins(5)),
    });
    decoder.finish(issuer)
}

fn take_proof(decoder: &mut Decoder<'_>, issuer: Option<&str>) -> Option<Proof> {
    let jwks = decoder.take_secret("jwks_url", safe_url);
    let file = decoder.take("public_key_file", value::file);
    let secret = decoder.take_secret("secret_env", value::env_name);
    let introspection = decoder.take_secret("introspection_url", safe_url);
    let client_id = decoder.take("client_id", value::text);
    let client_secret_env = decoder.take_secret("client_secret_env", value::env_name);
    let proofs = PROOFS.iter().filter(|field| decoder.has(field)).count();
    let discovery = issuer.filter(|_| proofs == 0).and_then(discovery);
    match proofs {
        0 if discovery.is_none() => decoder.mistake(
            None,
            format!(
                "want one of {}, or an https URL as issuer that tells the first",
                PROOFS.join(", ")
            ),
        ),
        0 | 1 => {}
        _ => decoder.mistake(None, format!("want only one of {}", PROOFS.join(", "))),
    }
    for field in ["client_id", "client_secret_env"] {
        if decoder.has(field) && !decoder.has("introspection_url") {
            decoder.mistake(Some(field), "needs introspection_url");
        }
    }
    let introspection = introspection.map(|url| Proof::Introspection {
        url,
        client_id,
        client_secret_env,
    });
    (jwks.map(Proof::Jwks))
        .or(file.map(Proof::PublicKeyFile))
        .or(secret.map(Proof::SecretEnv))
        .or(introspection)
        .or(discovery.map(Proof::Discovery))
}

/// Where an issuer that is a URL tells where its keys are (`OpenID` Connect Discovery 1.0, section 4).
fn discovery(issuer: &str) -> Option<Target> {
    let bare = issuer.strip_suffix('/').unwrap_or(issuer);
    let document = format!("{bare}/.well-known/openid-configuration");
    safe_url(&document).ok().filter(|_| !bare.contains('?'))
}

/// A shared secret and a public key never fit the same algorithm; taking one for the other is how
/// tokens are forged.
fn take_algorithms(decoder: &mut Decoder<'_>) -> Vec<Algorithm> {
    let algorithms = decoder.take("algorithms", list(word(ALGORITHMS)));
    let algorithms = algorithms.unwrap_or_default();
    let (symmetric, public): (Vec<Algorithm>, Vec<Algorithm>) = algorithms
        .iter()
        .partition(|algorithm| algorithm.is_symmetric());
    if decoder.has("secret_env") && !public.is_empty() {
        decoder.mistake(
            Some("algorithms"),
            "want HS256, HS384 or HS512 with secret_env",
        );
    }
    if ["secret_env", "introspection_url"]
        .iter()
        .all(|field| !decoder.has(field))
        && !symmetric.is_empty()
    {
        decoder.mistake(Some("algorithms"), "want no HS algorithm with public keys");
    }
    algorithms
}

fn claim(text: &str) -> Result<(Box<str>, Box<str>), Wanted> {
    text.split_once('=')
        .and_then(|(claim, value)| {
            Some((
                value::text(claim.trim()).ok()?,
                value::text(value.trim()).ok()?,
            ))
        })
        .ok_or_else(|| "claim=value".to_owned())
}
