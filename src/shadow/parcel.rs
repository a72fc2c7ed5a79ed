//! A record that this process compares itself.

use std::sync::Arc;

use super::Held;
use crate::model::name::ServiceName;

/// A record on its way to who compares it in this process.
#[derive(Debug)]
pub struct Parcel {
    /// Its service.
    pub service: ServiceName,
    /// Its text, as every sink gets it.
    pub record: Vec<u8>,
    /// What it takes of the room.
    pub held: Held,
    /// Its place among those of its service that wait: a clone for each.
    pub place: Arc<()>,
}
