//! Texts of the configuration as values: one parser for each form a field can have.
//!
//! A parser takes the trimmed text and returns the value, or what it wanted instead, as the end
//! of the sentence "want ...".
//!
//! Invariant: every parser takes any text without a panic, and what it accepts has a bound.

mod address;
mod header;
mod moment;
mod number;
mod word;

pub use address::{
    MailServer, dns_name, http_url, network, networks, origin, path, path_and_query, safe_url,
    smtp_url, url,
};
pub use header::{free_header_name, header_list, header_name, method};
pub use moment::{moment, moment_text};
pub use number::{
    duration, nonzero_duration, nonzero_size, number, percent, rate, rate_text, share,
    share_within, size, whole,
};
pub use word::{
    env_name, file, json_pointer, key_source, limit, list, name, name_glob, short_text, switch,
    text, word,
};
