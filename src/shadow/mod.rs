//! A shadow copy of a request and its answer: what stands in one, and how it is read.

mod record;

pub use record::{Answer, Body, ChosenBy, Encoding, Headers, Outcome, Record, Request, Schema};
