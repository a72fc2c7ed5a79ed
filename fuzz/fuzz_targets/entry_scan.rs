//! A body of the named entry says the same whole, in any pieces, and to serde_json.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use smartlink::policy::scan::{ScanError, Scanner, name_of};

/// All values of the top-level `server_name`.
struct Names;

impl<'de> Visitor<'de> for Names {
    type Value = Vec<serde_json::Value>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut names = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "server_name" {
                names.push(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(names)
    }
}

fn by_serde(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let mut json = serde_json::Deserializer::from_str(text);
    let names = json.deserialize_map(Names).ok()?;
    json.end().ok()?;
    match names.as_slice() {
        [serde_json::Value::String(name)] => Some(name.clone()),
        _ => None,
    }
}

fn in_pieces(body: &[u8], mut seed: usize) -> Result<String, ScanError> {
    let mut scanner = Scanner::new();
    let mut rest = body;
    while !rest.is_empty() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (piece, after) = rest.split_at((seed >> 40) % 8 % (rest.len() + 1));
        scanner.feed(piece)?;
        rest = after;
    }
    scanner.finish()?;
    Ok(scanner
        .server_name()
        .expect("a finished body has a name")
        .to_owned())
}

fuzz_target!(|input: (usize, &[u8])| {
    let (seed, body) = input;
    let whole = name_of(body).map(|name| name.into_owned());
    assert_eq!(in_pieces(body, seed), whole);
    // A key with half a surrogate pair is fine for the grammar and not for a text of Rust; long
    // names are cut here only, very deep nesting is refused here only.
    if !body.windows(2).any(|pair| pair == b"\\u") && body.len() < 1000 {
        assert_eq!(whole.ok(), by_serde(body));
    }
});
