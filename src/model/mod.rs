//! The nouns of smartlink and how they are read from Redis hashes.
//!
//! Invariant: values in, values out; no clock, no socket, no task, no random source.

pub mod alert;
pub mod change;
pub mod comparison;
pub mod config;
pub mod copies;
pub mod count;
pub mod credential;
pub mod decode;
pub mod endpoint;
pub mod gate;
pub mod hash;
pub mod issuer;
pub mod keys;
pub mod live;
pub mod name;
pub mod networks;
pub mod object;
pub mod path;
pub mod pilot;
pub mod quota;
pub mod rollout;
pub mod route;
pub mod scorer;
pub mod settings;
pub mod shadow;
pub mod shell;
pub mod split;
pub mod table;
pub mod token;
pub mod tokens;
pub mod trial;
pub mod value;
pub mod visible;
pub mod weights;
