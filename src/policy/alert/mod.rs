//! When somebody is told that something is wrong, and in which words.
//!
//! A `Sighting` says that a condition holds; the `Book` makes incidents of sightings; an `Incident`
//! decides when a message is owed; `Message` is that message, `form` the body each receiver wants.
//!
//! Invariant: one incident is one message, repeated slowly while it goes on, and one when it is over.

mod book;
pub mod condition;
pub mod form;
mod incident;
mod message;
pub mod relief;

pub use book::{Book, Changes, Look, Parcel};
pub use incident::{Facts, Incident, Rules, Seen, Tell};
pub use message::Message;

use std::fmt;

use crate::model::alert::Kind;
use crate::model::name::Name;

/// What an incident is about, for whom: there is one incident of each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The alert by which it is told.
    pub alert: Name,
    /// What is wrong.
    pub kind: Kind,
    /// The service; empty where it is about none.
    pub service: String,
    /// The version or the endpoint; empty where it is about the whole.
    pub part: String,
}

impl Key {
    /// The key that `Display` wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.splitn(4, ' ');
        let mut next = || words.next();
        Some(Self {
            alert: Name::parse(next()?)?,
            kind: Kind::parse(next()?)?,
            service: next()?.to_owned(),
            part: next()?.to_owned(),
        })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            alert,
            kind,
            service,
            part,
        } = self;
        write!(f, "{alert} {} {service} {part}", kind.as_str())
    }
}

/// Something that was seen at one look.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    /// What it is about.
    pub key: Key,
    /// How it is.
    pub seen: Seen,
}
