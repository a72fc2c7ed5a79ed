//! The proof that what stood in Redis at some moment is in force, for those who wait for it.
//!
//! Each life sign tells Redis's clock. Who waits leaves a moment there; a gateway that sees it after
//! that moment reads everything, whatever it heard, and says in its hash from when on what stood is
//! in force.

use super::Watcher;

/// A wish for a moment that lies farther ahead than this is none.
const AHEAD_MS: u64 = 1_000;

/// Moments of Redis's clock, Unix milliseconds.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Of the last life sign.
    now: u64,
    /// What somebody waits for; 0 for nobody.
    wish: u64,
    /// Before everything was read last, where that is not in force yet.
    reading: Option<u64>,
    /// What stood then is in force.
    read: u64,
}

impl State {
    /// The moment from when on what stood is in force; 0 for none.
    pub(super) fn read_ms(&self) -> u64 {
        self.read
    }

    /// Everything is about to be read, after the last life sign.
    pub(super) fn begin(&self) -> u64 {
        self.now
    }

    /// Everything was read that stood at that moment.
    pub(super) fn read(&mut self, began_ms: u64) {
        self.reading = Some(began_ms);
    }
}

impl Watcher {
    /// Takes a life sign's time, and the moment that somebody waits for.
    pub(super) fn hear_wish(&mut self, now_ms: u64, wish_ms: Option<u64>) {
        self.proof.now = now_ms;
        let wish = wish_ms.filter(|wish| *wish <= now_ms + AHEAD_MS);
        self.proof.wish = wish.unwrap_or_default();
        self.full |= self.proof.wish > self.proof.read;
    }

    /// Says so where all that was read is in force, at once if somebody waits.
    pub(super) async fn prove_read(&mut self) {
        if self.full || !self.dirty.is_empty() {
            return;
        }
        let Some(read_ms) = self.proof.reading.take() else {
            return;
        };
        let was_awaited = self.proof.wish > self.proof.read;
        self.proof.read = read_ms;
        if was_awaited {
            self.beat().await;
        }
    }
}
