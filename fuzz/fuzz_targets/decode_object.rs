//! No hash makes a decoder panic, and a hash is either good or its mistakes are named.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use smartlink::model::keys::{Keys, Parsed};
use smartlink::model::object::decode_object;

/// The first line is the key behind the prefix, each further line is `field=value`.
fuzz_target!(|text: &str| {
    let keys = Keys::new("smartlink:");
    let mut lines = text.split('\n');
    let key = format!("smartlink:{}", lines.next().unwrap_or_default());
    let Parsed::Object(object) = keys.parse(&key) else {
        return;
    };
    let fields: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once('='))
        .map(|(field, value)| (field.to_owned(), value.to_owned()))
        .collect();
    let (value, errors) = decode_object(&keys, &object, &fields);
    assert_eq!(value.is_some(), errors.is_empty(), "{errors:?}");
    for error in errors {
        assert!(error.message.len() < 10_000, "an error that nobody reads");
    }
});
