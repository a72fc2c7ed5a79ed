//! Decisions, one question a file: on the request path, and when somebody is told (`alert`).
//!
//! Invariant: values in, an answer out; no clock, no socket, no random source of its own.

pub mod alert;
pub mod balance;
pub mod cells;
pub mod client;
pub mod credential;
pub mod forwarded;
pub mod gcra;
pub mod health;
pub mod jwt;
pub mod key;
pub mod quotas;
pub mod retry;
pub mod rollout;
pub mod route;
pub mod scan;
pub mod scope;
pub mod share;
pub mod sticky;
pub mod version;
