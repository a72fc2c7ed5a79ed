//! Whether a candidate is as good as `base`: two answers compared, and a verdict over many.
//!
//! Invariant: values in, values out; no clock, no socket, no task, no random source. A verdict is
//! a pure function of counters, so that anybody, after any crash, computes the same one.

pub mod assignment;
pub mod bake;
pub mod betting;
pub mod compare;
pub mod ebh;
pub mod tally;
pub mod trial;
