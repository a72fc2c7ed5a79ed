//! A shadow copy of a request and its answer: whether there is one, what stands in it, what must
//! not, and how it is written and read.
//!
//! Invariant: what is to be left out of a record never leaves the request.

mod draft;
mod events;
mod parcel;
mod record;
mod redact;
mod room;
pub mod sample;

pub use draft::{Answered, Asked, Course, Draft, Kept, Lines, OVERHEAD};
pub use events::{EVENTS_MAX, Events};
pub use parcel::Parcel;
pub use record::{Answer, Body, ChosenBy, Encoding, Headers, Outcome, Record, Request, Schema};
pub use redact::Secret;
pub use room::{BYTES_MAX, Held, RECORDS_MAX, Room};
