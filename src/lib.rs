//! smartlink: an HTTP gateway whose whole control plane is a handful of Redis hashes.
//!
//! The rooms, in reading order:

pub mod access;
pub mod admin;
pub mod app;
pub mod broker;
pub mod cli;
pub mod control;
pub mod inquiry;
pub mod judge;
pub mod model;
pub mod policy;
pub mod proxy;
pub mod review;
pub mod settings;
pub mod shadow;
pub mod stats;
pub mod store;
pub mod telemetry;
pub mod top;
pub mod trace;
pub mod transport;
pub mod worker;
