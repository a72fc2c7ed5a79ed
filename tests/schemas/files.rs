//! The schema files and the kinds of hashes they are about.

use std::path::PathBuf;

use jsonschema::Validator;
use serde_json::Value as Json;
use smartlink::model::decode::{ConfigError, Fields};
use smartlink::model::keys::{Keys, Parsed};
use smartlink::model::object::{Value, decode_object};

/// One kind of configuration hash.
pub(crate) struct Kind {
    /// Its schema, without folder and ending.
    pub(crate) file: &'static str,
    /// A key of that kind, without prefix.
    pub(crate) key: &'static str,
    /// Fields without which no hash of that kind is good.
    pub(crate) required: &'static [(&'static str, &'static str)],
}

/// All kinds, in the order of the manual.
pub(crate) const KINDS: &[Kind] = &[
    Kind {
        file: "endpoints",
        key: "endpoints:ner",
        required: &[("http://10.0.0.5:8000/", "base")],
    },
    Kind {
        file: "weights",
        key: "weights:ner",
        required: &[("base", "1")],
    },
    Kind {
        file: "service",
        key: "service:ner",
        required: &[],
    },
    Kind {
        file: "route",
        key: "route:a",
        required: &[("service", "ner")],
    },
    Kind {
        file: "token",
        key: TOKEN,
        required: &[("services", "*")],
    },
    Kind {
        file: "issuer",
        key: "issuer:corp",
        required: &[("introspection_url", "https://id.example.com/")],
    },
    Kind {
        file: "shadow",
        key: "shadow:ner",
        required: &[],
    },
    Kind {
        file: "rollout",
        key: "rollout:ner",
        required: &[],
    },
    Kind {
        file: "pilot",
        key: "pilot:ner",
        required: &[],
    },
    Kind {
        file: "alert",
        key: "alert:ops",
        required: &[("url", "https://hooks.example.com/T0")],
    },
];

/// The key of a token whose hash is known.
pub(crate) const TOKEN: &str =
    "token:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

impl Kind {
    /// The kind with that schema.
    pub(crate) fn of(file: &str) -> &'static Self {
        KINDS.iter().find(|kind| kind.file == file).expect("a kind")
    }

    /// What is wrong with a hash of this kind.
    pub(crate) fn mistakes(&self, fields: &Fields) -> Vec<ConfigError> {
        let (value, errors) = self.try_decode(fields);
        assert_eq!(value.is_none(), !errors.is_empty(), "{fields:?} {errors:?}");
        errors
    }

    /// What a good hash of this kind says.
    pub(crate) fn decode(&self, fields: &Fields) -> Value {
        let (value, errors) = self.try_decode(fields);
        value.unwrap_or_else(|| panic!("{fields:?} is good: {errors:?}"))
    }

    fn try_decode(&self, fields: &Fields) -> (Option<Value>, Vec<ConfigError>) {
        let keys = Keys::new("smartlink:");
        let Parsed::Object(object) = keys.parse(&format!("smartlink:{}", self.key)) else {
            panic!("{} is a configuration key", self.key);
        };
        decode_object(&keys, &object, fields)
    }
}

/// A file of the repository.
pub(crate) fn path(file: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), file].iter().collect()
}

/// The text of a schema.
pub(crate) fn schema_text(file: &str) -> String {
    let path = path(&format!("schemas/{file}.json"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A schema.
pub(crate) fn schema(file: &str) -> Json {
    serde_json::from_str(&schema_text(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// What checks a hash against its schema.
pub(crate) fn validator(file: &str) -> Validator {
    jsonschema::validator_for(&schema(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}
