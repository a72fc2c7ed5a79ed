//! What all copies of a gateway may hold together: so many records on their way to the sink, and so
//! much memory, also of those whose requests still run.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

/// The most records on their way to the sink.
pub const RECORDS_MAX: u64 = 4_096;
/// The most memory that all copies hold, in bytes.
pub const BYTES_MAX: u64 = 64 << 20;

/// The room, and what is taken of it.
#[derive(Debug, Default)]
pub struct Room {
    records: CachePadded<AtomicU64>,
    bytes: CachePadded<AtomicU64>,
}

impl Room {
    /// Records on their way.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// What one copy takes of the room, given back when dropped.
#[derive(Debug)]
pub struct Held {
    room: Arc<Room>,
    bytes: u64,
    queued: bool,
}

impl Held {
    /// Nothing yet.
    #[must_use]
    pub fn new(room: &Arc<Room>) -> Self {
        Self {
            room: Arc::clone(room),
            bytes: 0,
            queued: false,
        }
    }

    /// Takes so many bytes more; false, and none taken, where they are not there.
    pub fn take(&mut self, bytes: usize) -> bool {
        let more = bytes as u64;
        let before = self.room.bytes.fetch_add(more, Ordering::Relaxed);
        if before + more > BYTES_MAX {
            self.room.bytes.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        self.bytes += more;
        true
    }

    /// Takes a place among the records on their way; false where there is none.
    pub fn queue(&mut self) -> bool {
        let before = self.room.records.fetch_add(1, Ordering::Relaxed);
        if before >= RECORDS_MAX {
            self.room.records.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.queued = true;
        true
    }

    /// Gives all bytes back.
    pub fn release(&mut self) {
        self.room.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
    }

    /// Nothing yet, of the same room.
    #[must_use]
    pub fn sibling(&self) -> Self {
        Self::new(&self.room)
    }

    /// How many bytes it holds.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release();
        if self.queued {
            self.room.records.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_never_overdrawn_and_comes_back() {
        let room = Arc::new(Room::default());
        let mut large = Held::new(&room);
        assert!(large.take(60 << 20));
        let mut small = Held::new(&room);
        assert!(!small.take(5 << 20), "not there");
        assert!(small.take(4 << 20));
        assert!(!small.take(1));
        drop(large);
        assert!(small.take(1));
        assert_eq!(room.bytes(), (4 << 20) + 1);
        let mut queued: Vec<Held> = (0..RECORDS_MAX)
            .map(|_| {
                let mut held = Held::new(&room);
                assert!(held.queue());
                held
            })
            .collect();
        assert!(!small.queue());
        queued.pop();
        assert!(small.queue());
        assert_eq!(room.records(), RECORDS_MAX);
        drop((queued, small));
        assert_eq!((room.records(), room.bytes()), (0, 0));
    }
}
