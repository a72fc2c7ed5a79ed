//! What claims say, and whether that is what the issuer's setting asks for.

use std::sync::Arc;

use serde_json::Value;

use super::{Claims, Grant, Refusal};
use crate::model::credential::{Credential, identity};
use crate::model::issuer::Issuer;
use crate::model::name::Name;

/// The longest name of a caller in logs, in characters.
const NAME_MAX: usize = 128;

/// What these claims open, at this Unix time in seconds. `exp` counts where it is there.
pub fn grant(claims: &Claims, id: &Name, issuer: &Issuer, now_s: f64) -> Result<Grant, Refusal> {
    let leeway_s = issuer.leeway.as_secs_f64();
    if let Some(wanted) = issuer.issuer.as_deref()
        && claims.get("iss").and_then(Value::as_str) != Some(wanted)
    {
        return Err(Refusal::Bad("iss is another one"));
    }
    let mut audience = issuer.audience.iter();
    let holds = |wanted: &str| claims.get("aud").is_some_and(|aud| is_or_has(aud, wanted));
    if !issuer.audience.is_empty() && !audience.any(|wanted| holds(wanted)) {
        return Err(Refusal::Bad("aud is another one"));
    }
    let time = |claim| match claims.get(claim) {
        None => Ok(None),
        // A date in text, or none at all, is no NumericDate (RFC 7519 section 2).
        Some(value) => match value.as_f64().filter(|seconds| *seconds >= 0.0) {
            Some(seconds) => Ok(Some(seconds)),
            None => Err(Refusal::Bad("a time is no number")),
        },
    };
    let until_s = time("exp")?.map_or(f64::INFINITY, |exp| exp + leeway_s);
    if now_s >= until_s {
        return Err(Refusal::Bad("exp is over"));
    }
    if time("nbf")?.is_some_and(|nbf| now_s < nbf - leeway_s) {
        return Err(Refusal::Bad("nbf is not yet come"));
    }
    for (claim, wanted) in &issuer.require {
        if !find(claims, claim).is_some_and(|value| has(claim, value, wanted)) {
            return Err(Refusal::Bad("a required claim is not there"));
        }
    }
    let services = issuer.services_claim.as_deref();
    Ok(Grant {
        credential: Arc::new(credential(claims, id)),
        services: services.map(|claim| find(claims, claim).map(texts).unwrap_or_default()),
        until_s,
    })
}

/// Who presents it: the first that is said of subject, client and user, under the issuer's id.
fn credential(claims: &Claims, id: &Name) -> Credential {
    let said = ["sub", "client_id", "azp", "username"];
    let said = said.iter().filter_map(|claim| claims.get(*claim)?.as_str());
    let who = said.into_iter().find(|who| !who.is_empty());
    let shown = who.unwrap_or_default().chars().filter(|c| !c.is_control());
    let shown: String = shown.take(NAME_MAX).collect();
    Credential {
        name: if shown.is_empty() {
            id.as_str().into()
        } else {
            format!("{id}/{shown}").into()
        },
        id: identity(&format!("jwt:{id}"), who.unwrap_or_default()),
        quota: None,
        concurrency: None,
        may_choose: false,
    }
}

/// The claim of that name, or, where there is none, the one that its parts between dots lead to:
/// `realm_access.roles`.
fn find<'c>(claims: &'c Claims, name: &str) -> Option<&'c Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let mut parts = name.split('.');
    let mut value = claims.get(parts.next()?)?;
    for part in parts {
        value = value.get(part)?;
    }
    Some(value)
}

/// Whether a claim has a required value: is it, lists it, or, where it is a scope of OAuth (RFC
/// 8693 section 4.2), has it among its words.
fn has(claim: &str, value: &Value, wanted: &str) -> bool {
    let words = || {
        let text = value.as_str().unwrap_or_default();
        text.split(' ').any(|word| word == wanted)
    };
    is_or_has(value, wanted) || (matches!(claim, "scope" | "scp") && words())
}

fn is_or_has(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Number(number) => number.to_string() == wanted,
        Value::Bool(yes) => (if *yes { "true" } else { "false" }) == wanted,
        Value::Array(items) => items.iter().any(|item| match item {
            Value::Array(_) => false,
            item => is_or_has(item, wanted),
        }),
        Value::Null | Value::Object(_) => false,
    }
}

/// The texts of a list, or of a text with commas or blanks between them.
fn texts(value: &Value) -> Vec<Box<str>> {
    match value {
        Value::String(text) => {
            let parts = text.split([',', ' ']).filter(|part| !part.is_empty());
            parts.map(Into::into).collect()
        }
        Value::Array(items) => {
            let texts = items.iter().filter_map(Value::as_str);
            texts.map(Into::into).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::issuer;

    /// What the claims open for an issuer with these fields: the services, or the refusal.
    fn check(fields: &[(&str, &str)], claims: &Value) -> Result<Option<Vec<Box<str>>>, Refusal> {
        let base = [
            ("issuer", "i"),
            ("audience", "a, b"),
            ("algorithms", "HS256"),
        ];
        let fields = base.iter().chain(&[("secret_env", "S")]).chain(fields);
        let fields = fields.map(|(field, text)| ((*field).to_owned(), (*text).to_owned()));
        let (issuer, errors) = issuer::decode("issuer:x", &fields.collect());
        assert_eq!(errors, []);
        let issuer = issuer.expect("it decodes");
        let Value::Object(mut all) = json!({"iss": "i", "aud": "a", "exp": 1000}) else {
            panic!("an object");
        };
        for (claim, value) in claims.as_object().expect("an object") {
            if value.is_null() {
                all.remove(claim);
            } else {
                all.insert(claim.clone(), value.clone());
            }
        }
        let id = Name::parse("x").expect("a name");
        grant(&all, &id, &issuer, 500.0).map(|grant| grant.services)
    }

    #[test]
    fn every_claim_must_be_what_the_setting_asks_for() {
        for (fields, claims, good) in [
            (&[][..], json!({}), true),
            (&[], json!({"iss": "j"}), false),
            (&[], json!({"iss": ["i"]}), false),
            (&[], json!({"iss": null}), false),
            (&[], json!({"aud": ["x", "b"]}), true),
            (&[], json!({"aud": "a b"}), false),
            (&[], json!({"aud": ["x"]}), false),
            (&[], json!({"aud": [["a"]]}), false),
            (&[], json!({"aud": null}), false),
            (&[], json!({"exp": 470}), false),
            (&[], json!({"exp": 470.5}), true),
            (&[("leeway", "0")], json!({"exp": 500}), false),
            (&[("leeway", "0")], json!({"exp": 501}), true),
            (&[], json!({"exp": "1000"}), false),
            (&[], json!({"exp": -1}), false),
            (&[], json!({"exp": [1000]}), false),
            (&[], json!({"nbf": 530}), true),
            (&[], json!({"nbf": 531}), false),
            (&[], json!({"nbf": "1"}), false),
            (&[("require", "env=p")], json!({}), false),
            (&[("require", "env=p")], json!({"env": "p"}), true),
            (&[("require", "env=p")], json!({"env": "p q"}), false),
            (&[("require", "env=p")], json!({"env": ["q", "p"]}), true),
            (&[("require", "scope=r")], json!({"scope": "w r"}), true),
            (
                &[("require", "n=1,b=true")],
                json!({"n": 1, "b": true}),
                true,
            ),
            (
                &[("require", "r.roles=a")],
                json!({"r": {"roles": ["a"]}}),
                true,
            ),
            (&[("require", "r.roles=a")], json!({"r": ["a"]}), false),
        ] {
            let got = check(fields, &claims);
            assert_eq!(got.is_ok(), good, "{fields:?} {claims} {got:?}");
        }
    }

    #[test]
    fn services_stand_in_a_list_or_between_commas_or_blanks() {
        let services =
            |claims: Value| check(&[("services_claim", "s")], &claims).expect("it is good");
        let named = |names: &[&str]| Some(names.iter().map(|name| (*name).into()).collect());
        assert_eq!(
            services(json!({"s": ["a", 1, "b-*"]})),
            named(&["a", "b-*"])
        );
        assert_eq!(services(json!({"s": "a, b c"})), named(&["a", "b", "c"]));
        assert_eq!(services(json!({"s": {}})), named(&[]));
        assert_eq!(services(json!({})), named(&[]));
        assert_eq!(check(&[], &json!({})), Ok(None));
    }

    #[test]
    fn a_caller_is_called_by_issuer_and_subject() {
        let id = Name::parse("corp").expect("a name");
        let who = |claims: Value| {
            let claims = claims.as_object().expect("an object").clone();
            credential(&claims, &id)
        };
        assert_eq!(&*who(json!({"sub": "al\nice"})).name, "corp/alice");
        assert_eq!(&*who(json!({"client_id": "batch"})).name, "corp/batch");
        assert_eq!(&*who(json!({})).name, "corp");
        assert_ne!(who(json!({"sub": "a"})).id, who(json!({"sub": "b"})).id);
    }
}
