//! What stands in the head of a message: header names and values, methods.

use std::fmt;

use http::{HeaderName, HeaderValue, Method};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::model::decode::Wanted;
use crate::model::settings::HeaderList;

/// The most headers that one setting sets.
const HEADERS_MAX: usize = 100;

/// Headers that frame a message or belong to one connection: set wrongly they let requests be
/// smuggled, so they stay the gateway's.
const OWN_HEADERS: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The name of a header, lower case.
pub fn header_name(text: &str) -> Result<HeaderName, Wanted> {
    HeaderName::from_bytes(text.as_bytes())
        .ok()
        .filter(|name| name.as_str().len() <= 128)
        .ok_or_else(|| "a header name such as x-tenant".to_owned())
}

/// The name of a header that an operator may set or remove.
pub fn free_header_name(text: &str) -> Result<HeaderName, Wanted> {
    let name = header_name(text)?;
    let own = OWN_HEADERS.contains(&name.as_str()) || name.as_str().starts_with("x-smartlink-");
    if own {
        return Err(format!(
            "a header that is not the gateway's own, as {name} is"
        ));
    }
    Ok(name)
}

/// A JSON object of header names to texts; it may hold credentials, so no value is repeated.
pub fn header_list(text: &str) -> Result<HeaderList, Wanted> {
    let wanted = || r#"a JSON object of texts such as {"x-tenant": "a"}"#.to_owned();
    let Pairs(pairs) = serde_json::from_str(text).map_err(|_refused| wanted())?;
    if pairs.len() > HEADERS_MAX {
        return Err(format!("at most {HEADERS_MAX} headers"));
    }
    let mut headers = HeaderList::with_capacity(pairs.len());
    for (name, value) in pairs {
        let name = free_header_name(&name)?;
        let mut value = HeaderValue::from_bytes(value.trim().as_bytes())
            .map_err(|_refused| format!("a value of one line for {name}"))?;
        value.set_sensitive(true);
        if headers.iter().any(|(known, _)| *known == name) {
            return Err(format!("each header once, {name} stands there twice"));
        }
        headers.push((name, value));
    }
    Ok(headers)
}

/// The members of a JSON object of texts, in the order written.
struct Pairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Pairs(pairs))
    }
}

/// A request method.
pub fn method(text: &str) -> Result<Method, Wanted> {
    let upper = text.bytes().all(|byte| !byte.is_ascii_lowercase());
    Method::from_bytes(text.as_bytes())
        .ok()
        .filter(|_| upper && text.len() <= 32)
        .ok_or_else(|| "a method in upper case such as GET or POST".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_set_in_the_order_written() {
        let headers = header_list(r#"{"X-B": "1", "a": "é"}"#).expect("good");
        let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["x-b", "a"]);
        assert!(!format!("{headers:?}").contains('1'), "{headers:?}");
        for bad in [
            "",
            "[]",
            "{",
            r#"{"a":null}"#,
            r#"{"":"a"}"#,
            r#"{"a":"\r"x}"#,
        ] {
            assert!(header_list(bad).is_err(), "{bad}");
        }
        for own in ["Host", "connection", "X-Smartlink-Version", "TE"] {
            assert!(free_header_name(own).is_err(), "{own}");
        }
    }
}
