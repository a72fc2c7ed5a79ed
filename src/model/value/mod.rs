//! Texts of the configuration as values: one parser for each form a field can have.
//!
//! A parser takes the trimmed text and returns the value, or what it wanted instead, as the end
//! of the sentence "want ...".
//!
//! Invariant: every parser takes any text without a panic, and what it accepts has a bound.

mod moment;
mod number;
mod web;
mod word;

pub use moment::moment;
pub use number::{duration, nonzero_duration, nonzero_size, rate, share, size, times, whole};
pub use web::{
    dns_name, free_header_name, header_list, header_name, http_url, is_loopback, json_pointer,
    network, origin, path, path_and_query, url,
};
pub use word::{env_name, file, key_source, limit, list, name, name_glob, switch, text, word};
