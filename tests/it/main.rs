//! The real thing: private servers, real sockets, one file a behaviour.
#![expect(unreachable_pub, reason = "a test binary has no outside")]

mod bad_answers;
mod choosing;
mod client_leaves;
mod cors;
mod docs;
mod drain;
mod entry;
mod faults;
mod hardening;
mod headers;
mod health;
mod holding;
mod live_changes;
mod queueing;
mod redis_faults;
mod retries;
mod rolling;
mod routes;
mod shares;
mod stats_gateway;
mod stats_live;
mod stats_recorder;
mod stats_scripts;
mod sticky;
mod store;
mod store_health;
mod strangers;
mod streaming;
mod support;
mod tls;
mod verbs;
mod watcher_changes;
mod watcher_cluster;
mod watcher_faults;
mod watcher_start;
