//! The real thing: private servers, real sockets, one file a behaviour.

mod store;
mod support;
