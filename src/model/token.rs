//! Tokens: who may ask which services, and how much.
//!
//! Of a million tokens each costs what stands here, so that parts which few have are boxed, and the
//! text it was made from is not kept: `Token::fields` says it again.

use std::sync::Arc;

use super::credential::{Credential, identity};
use super::decode::{Decoded, Decoder, Fields};
use super::keys::first_digits;
use super::networks::Networks;
use super::quota::Quota;
use super::settings::Limit;
use super::value::{self, limit, list, moment, name_glob, networks, switch, whole};

/// The largest burst and concurrency.
const COUNT_MAX: u32 = 1_000_000;

/// The decoded `token:<hex SHA-256>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Who presents it: named by the operator, or by the first digits of its hash.
    pub credential: Arc<Credential>,
    /// The services it opens, as `patterns` tells them apart.
    services: Box<str>,
    /// From when on it is no longer good, in Unix milliseconds.
    pub expires_ms: Option<i64>,
    /// From when on it is good, in Unix milliseconds.
    pub not_before_ms: Option<i64>,
    /// Where it may be used from; `None`: everywhere.
    pub allow_ip: Option<Box<Networks>>,
    /// Whether it is good at all.
    pub enabled: bool,
}

impl Token {
    /// The services it opens: names, in which `*` stands for any run of characters.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.services.split(',')
    }

    /// The fields of a hash that says the same: `decode` makes this very token of them. `hash` is
    /// the one in its key.
    #[must_use]
    pub fn fields(&self, hash: &str) -> Fields {
        let Credential {
            id,
            name,
            quota,
            concurrency,
            may_choose,
        } = &*self.credential;
        let named = *id != identity("token", hash);
        let quota = quota.as_ref();
        let burst = quota.filter(|quota| **quota != Quota::new(quota.rate, None));
        let no = |is: bool, word: &str| is.then(|| word.to_owned());
        let texts = [
            ("name", named.then(|| name.to_string())),
            ("services", Some(self.services.to_string())),
            ("expires", self.expires_ms.and_then(value::moment_text)),
            (
                "not_before",
                self.not_before_ms.and_then(value::moment_text),
            ),
            ("rate", quota.map(|quota| value::rate_text(quota.rate))),
            ("burst", burst.map(|quota| quota.burst.to_string())),
            ("concurrency", concurrency.map(|most| most.to_string())),
            ("allow_ip", self.allow_ip.as_ref().map(ToString::to_string)),
            ("may_choose", no(*may_choose, "on")),
            ("enabled", no(!self.enabled, "off")),
        ];
        let said = texts.into_iter();
        said.filter_map(|(field, text)| Some((field.to_owned(), text?)))
            .collect()
    }
}

/// Decodes `token:<hash>`.
#[must_use]
pub fn decode(key: &str, hash: &str, fields: &Fields) -> Decoded<Token> {
    let mut decoder = Decoder::new(key, fields);
    let name = decoder.take("name", value::short_text);
    let services = decoder.require("services", list(name_glob));
    let expires_ms = decoder.take("expires", moment);
    let not_before_ms = decoder.take("not_before", moment);
    let rate = decoder.take("rate", limit(value::rate)).and_then(Limit::at);
    let burst = decoder.take("burst", whole(1..=COUNT_MAX));
    let concurrency = decoder.take("concurrency", limit(whole(1..=COUNT_MAX)));
    let allow_ip = decoder.take("allow_ip", networks).map(Box::new);
    let may_choose = decoder.take("may_choose", switch).unwrap_or(false);
    let enabled = decoder.take("enabled", switch).unwrap_or(true);
    if not_before_ms
        .zip(expires_ms)
        .is_some_and(|(from, to)| from >= to)
    {
        decoder.mistake(Some("expires"), "must come after not_before");
    }
    if burst.is_some() && !decoder.has("rate") {
        decoder.mistake(Some("burst"), "needs rate");
    }
    let token = services.map(|services| Token {
        credential: Arc::new(Credential {
            id: identity("token", name.as_deref().unwrap_or(hash)),
            name: name.unwrap_or_else(|| first_digits(hash).into()),
            quota: rate.map(|rate| Quota::new(rate, burst)),
            concurrency: concurrency.and_then(Limit::at),
            may_choose,
        }),
        services: services.join(",").into(),
        expires_ms,
        not_before_ms,
        allow_ip,
        enabled,
    });
    decoder.finish(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(pairs: &[(&str, &str)], hash: &str) -> Token {
        let pairs = pairs.iter();
        let fields: Fields = pairs
            .map(|(field, text)| ((*field).to_owned(), (*text).to_owned()))
            .collect();
        let (token, errors) = decode("token:x", hash, &fields);
        assert_eq!(errors, [], "{fields:?}");
        token.expect("nothing is wrong")
    }

    #[test]
    fn a_token_says_itself_again() {
        let hash = "0123456789abcdef".repeat(4);
        for pairs in [
            &[][..],
            &[("name", "maps team")],
            &[("name", "01234567")],
            &[("name", " a, \u{fc} ")],
            &[("expires", "2027-01-31")],
            &[("expires", "2027-01-31T18:00:00.25+08:00")],
            &[("not_before", "1969-12-31"), ("expires", "9999-01-01")],
            &[("rate", "100/s")],
            &[("rate", "1/h")],
            &[("rate", "3000000/s")],
            &[("rate", "100/m"), ("burst", "1")],
            &[("rate", "100/m"), ("burst", "7")],
            &[("rate", "off"), ("burst", "7")],
            &[("concurrency", "3")],
            &[("concurrency", "off")],
            &[("allow_ip", "10.0.0.0/8")],
            &[("allow_ip", "10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4, ::1")],
            &[("allow_ip", "0.0.0.0/0, ::/0, ::ffff:1.2.3.4")],
            &[("allow_ip", "255.255.255.255, 0.0.0.0, 2001:db8::/33")],
            &[("may_choose", "on"), ("enabled", "off")],
            &[("may_choose", "no"), ("enabled", "yes")],
        ] {
            let services = ("services", " ner-*,ocr , *");
            let pairs = [pairs, &[services]].concat();
            let token = decoded(&pairs, &hash);
            let (again, errors) = decode("token:x", &hash, &token.fields(&hash));
            assert_eq!(errors, [], "{pairs:?}");
            assert_eq!(again.as_ref(), Some(&token), "{pairs:?}");
            assert!(token.patterns().eq(["ner-*", "ocr", "*"]));
        }
    }
}
