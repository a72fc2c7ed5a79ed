//! What the scanner takes and refuses, and that cutting a body into pieces changes nothing.

use proptest::prelude::*;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::*;

/// Feeds a body in pieces of `size`.
fn in_pieces(body: &[u8], size: usize) -> Result<String, ScanError> {
    let mut scanner = Scanner::new();
    let mut early = None;
    for piece in body.chunks(size.max(1)) {
        scanner.feed(piece)?;
        early = early.or_else(|| scanner.server_name().map(str::to_owned));
    }
    scanner.finish()?;
    assert_eq!(early.as_deref(), scanner.server_name());
    Ok(early.expect("a finished body has a name"))
}

/// What a body says, the same in all pieces.
fn scan(body: &[u8]) -> Result<String, ScanError> {
    let whole = name_of(body).map(Cow::into_owned);
    for size in [1, 2, 3, 5, 7, 64] {
        assert_eq!(in_pieces(body, size), whole, "{body:?} by {size}");
    }
    whole
}

#[test]
fn the_top_level_server_name_is_the_name() {
    let long = format!(r#"{{"a":"{}","server_name":"x"}}"#, "y".repeat(5000));
    for (body, want) in [
        (r#"{"server_name":"ner"}"#, "ner"),
        (" \r\n\t{ \"server_name\" :\t\"ner\" } \n", "ner"),
        (
            r#"{"params":{},"data":[],"server_name":"a.b-c_1"}"#,
            "a.b-c_1",
        ),
        (r#"{"server\u005fname":"n\u0065r"}"#, "ner"),
        (r#"{"\u0073erver_name":"ner"}"#, "ner"),
        (
            r#"{"data":{"server_name":"in"},"server_name":"out","x":[{"server_name":1}]}"#,
            "out",
        ),
        (
            r#"{"Server_name":1,"server_name":"a","server_name2":2,"server_nam":3}"#,
            "a",
        ),
        (r#"{"server_name":""}"#, ""),
        (
            r#"{"server_name":"\ud83d\ude00 \u00e9\n\"\\\/\b\f\r\t"}"#,
            "\u{1f600} \u{e9}\n\"\\/\u{8}\u{c}\r\t",
        ),
        (
            "{\"server_name\":\"\u{5730}\u{1f600}\"}",
            "\u{5730}\u{1f600}",
        ),
        (
            r#"{"a":"\ud800","\udc00":"\ud800\ud800x","server_name\ud800":1,"server_name":"x"}"#,
            "x",
        ),
        (
            r#"{"n":[0,-0,-1.5e+10,1E5,0.1e-2,1e1],"l":[true,false,null],"server_name":"x"}"#,
            "x",
        ),
        (r#"{"e":{},"f":[],"g":[[],{}],"server_name":"x"}"#, "x"),
        (long.as_str(), "x"),
    ] {
        assert_eq!(scan(body.as_bytes()).as_deref(), Ok(want), "{body}");
    }
}

/// None of these is one JSON object.
const BROKEN: &[&str] = &[
    "",
    " ",
    "[]",
    "1",
    "null",
    "\"server_name\"",
    "{",
    "}",
    "{]",
    "{}}",
    "{} {}",
    "{},",
    "\u{feff}{\"server_name\":\"x\"}",
    "{\"server_name\":\"x\"}\0",
    "{\"server_name\":\"x\"",
    "{\"server_name\":\"x\",}",
    "{,\"server_name\":\"x\"}",
    "{server_name:\"x\"}",
    "{'server_name':'x'}",
    "{\"server_name\" \"x\"}",
    "{\"server_name\":}",
    "{\"server_name\":\"x\" \"a\":1}",
    "{\"server_name\":\"x\n\"}",
    "{\"a\":\"\u{1}\"}",
    r#"{"a":"\x"}"#,
    r#"{"a":"\u12g4"}"#,
    r#"{"a":"\u12"}"#,
    r#"{"a":01}"#,
    r#"{"a":1.}"#,
    r#"{"a":.5}"#,
    r#"{"a":+1}"#,
    r#"{"a":-}"#,
    r#"{"a":1e}"#,
    r#"{"a":1e+}"#,
    r#"{"a":0x1}"#,
    r#"{"a":NaN}"#,
    r#"{"a":Infinity}"#,
    r#"{"a":True}"#,
    r#"{"a":tru}"#,
    r#"{"a":nulll}"#,
    r#"{"a":[1,]}"#,
    r#"{"a":[,1]}"#,
    r#"{"a":[1 2]}"#,
    r#"{"a":[1}}"#,
    r#"{"a":{"b":1]}"#,
    r#"{"a":1/*c*/}"#,
    "{\"a\"\u{a0}:1}",
    r#"{"server_name":"\ud800"}"#,
    r#"{"server_name":"\udc00"}"#,
    r#"{"server_name":"\ud800\ud800"}"#,
    r#"{"server_name":"\ud800\u0061"}"#,
    r#"{"server_name":"\ud800x"}"#,
    r#"{"server_name":"\ud800\n"}"#,
];

#[test]
fn what_is_not_one_object_is_not_json_here() {
    for body in BROKEN {
        let got = scan(body.as_bytes());
        assert!(
            matches!(got, Err(ScanError::InvalidJson(..))),
            "{body:?}: {got:?}"
        );
    }
    for body in [
        &b"{\"a\":\"\xff\"}"[..],
        b"{\"a\":\"\xed\xa0\x80\"}",
        b"{\"a\":\xe4\xb8\xad}",
        b"\xef",
    ] {
        let got = scan(body);
        assert!(
            matches!(got, Err(ScanError::InvalidJson(..))),
            "{body:?}: {got:?}"
        );
    }
}

#[test]
fn the_offset_is_that_of_the_byte_at_fault() {
    for (body, what, at) in [
        ("{\"a\":01}", "neither a comma nor an end", 6),
        ("{\"a\":\"b\nc\"}", "a control character in a text", 7),
        ("{} x", "more after the object", 3),
        ("{\"a\":", "ends too early", 5),
    ] {
        assert_eq!(
            scan(body.as_bytes()),
            Err(ScanError::InvalidJson(what, at)),
            "{body}"
        );
    }
}

#[test]
fn json_that_names_no_service_is_told_apart_from_what_is_not_json() {
    for (body, want) in [
        ("{}", ScanError::MissingName),
        (r#"{"data":{"server_name":"x"}}"#, ScanError::MissingName),
        (r#"{"server_name ":"x"}"#, ScanError::MissingName),
        (r#"{"server_name":1}"#, ScanError::NameNotText),
        (r#"{"server_name":null}"#, ScanError::NameNotText),
        (r#"{"server_name":["x"]}"#, ScanError::NameNotText),
        (
            r#"{"server_name":{"server_name":"x"}}"#,
            ScanError::NameNotText,
        ),
        (
            r#"{"server_name":"x","server_name":"x"}"#,
            ScanError::DuplicateName,
        ),
        (
            r#"{"server_name":"x","a":1,"server\u005Fname":"y"}"#,
            ScanError::DuplicateName,
        ),
        (
            r#"{"server_name":"x","server_name":1}"#,
            ScanError::DuplicateName,
        ),
    ] {
        assert_eq!(scan(body.as_bytes()), Err(want), "{body}");
    }
}

#[test]
fn a_very_long_name_is_cut_between_characters() {
    let body = format!(r#"{{"server_name":"{}"}}"#, "\u{5730}".repeat(1000));
    let name = scan(body.as_bytes()).unwrap();
    assert_eq!(name, "\u{5730}".repeat(341));
    let keys = format!(
        r#"{{"{}":1,"server_name":"x"}}"#,
        "server_name".repeat(1000)
    );
    assert_eq!(scan(keys.as_bytes()).as_deref(), Ok("x"));
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        let inner = depth - 1;
        format!(
            r#"{{"server_name":"x","a":{}{}}}"#,
            "[".repeat(inner),
            "]".repeat(inner)
        )
    };
    assert_eq!(name_of(nested(65_536).as_bytes()).as_deref(), Ok("x"));
    assert_eq!(name_of(nested(65_537).as_bytes()), Err(ScanError::TooDeep));
}

#[test]
fn the_name_is_known_before_the_body_ends() {
    let mut scanner = Scanner::new();
    scanner.feed(br#"{"server_name":"ne"#).unwrap();
    assert_eq!(scanner.server_name(), None);
    scanner.feed(br#"r","data":"#).unwrap();
    assert_eq!(scanner.server_name(), Some("ner"));
    assert!(matches!(scanner.finish(), Err(ScanError::InvalidJson(..))));
    assert!(matches!(
        scanner.feed(b"1}"),
        Err(ScanError::InvalidJson(..))
    ));
}

/// The same question asked of `serde_json`, which reads whole bodies only.
fn by_serde(body: &[u8]) -> Option<String> {
    struct Named;
    impl<'de> Visitor<'de> for Named {
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
    let text = std::str::from_utf8(body).ok()?;
    let mut json = serde_json::Deserializer::from_str(text);
    let names = json.deserialize_map(Named).ok()?;
    json.end().ok()?;
    match names.as_slice() {
        [serde_json::Value::String(name)] => Some(name.clone()),
        _ => None,
    }
}

/// Pieces of JSON that meet in odd ways.
fn token() -> impl Strategy<Value = String> {
    let fixed = proptest::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\\",
        "\\u",
        "\"server_name\"",
        "\"server\\u005fname\"",
        "\"server_name\":\"x\"",
        "\"a\":",
        "\"",
        "0",
        "1",
        "-",
        ".",
        "e",
        "+",
        "true",
        "false",
        "null",
        " ",
        "\n",
        "\\n",
        "\\ud83d\\ude00",
        "\u{5730}",
        "\u{1}",
        "{}",
        "[]",
        "12.5e3",
    ])
    .prop_map(str::to_owned);
    prop_oneof![4 => fixed, 1 => "[ -~]{0,4}"]
}

/// A sound object, as text.
fn object() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
        ".{0,40}".prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    let value = leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4)
                .prop_map(|v| format!("[{}]", v.join(","))),
            proptest::collection::vec((key(), inner), 0..4).prop_map(|v| braces(&v)),
        ]
    });
    proptest::collection::vec((key(), value), 0..5).prop_map(|v| braces(&v))
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just("\"server_name\"".to_owned()),
        1 => Just("\"server\\u005fname\"".to_owned()),
        3 => "[a-z]{0,12}".prop_map(|text| format!("\"{text}\"")),
    ]
}

fn braces(fields: &[(String, String)]) -> String {
    let fields: Vec<_> = fields.iter().map(|(k, v)| format!("{k}: {v}")).collect();
    format!("{{{}}}", fields.join(" ,"))
}

/// One body in any pieces, and `serde_json` on the whole, say the same.
fn agrees(body: &[u8], cuts: &[prop::sample::Index]) -> Result<(), TestCaseError> {
    let whole = name_of(body).map(Cow::into_owned);
    let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
    at.extend([0, body.len()]);
    at.sort_unstable();
    let mut scanner = Scanner::new();
    let fed = at
        .windows(2)
        .try_for_each(|pair| scanner.feed(&body[pair[0]..pair[1]]))
        .and_then(|()| scanner.finish());
    prop_assert_eq!(
        fed.map(|()| scanner.server_name().map(str::to_owned)),
        whole.clone().map(Some)
    );
    // A key with half a surrogate pair is fine for the grammar and not for a text of Rust.
    if !body.windows(2).any(|pair| pair == b"\\u") {
        prop_assert_eq!(whole.ok(), by_serde(body));
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_pieces_and_serde_agree_on_sound_bodies(
        body in object(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        agrees(body.as_bytes(), &cuts)?;
    }

    #[test]
    fn any_pieces_and_serde_agree_on_broken_bodies(
        body in object(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..3),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut body = body.into_bytes();
        for (place, byte, how) in edits {
            let place = place.index(body.len() + 1);
            match how {
                0 => body.insert(place, byte),
                1 => body.truncate(place),
                _ => if let Some(slot) = body.get_mut(place) { *slot = byte; },
            }
        }
        agrees(&body, &cuts)?;
    }

    #[test]
    fn any_pieces_and_serde_agree_on_odd_neighbours(
        tokens in proptest::collection::vec(token(), 0..20),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let body = tokens.concat();
        agrees(body.as_bytes(), &cuts)?;
        agrees(format!("{{{body}}}").as_bytes(), &cuts)?;
    }
}
