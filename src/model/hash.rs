//! Cheap hashes for maps whose keys only operators choose; strangers merely look things up.

use std::hash::{BuildHasherDefault, Hasher};

/// For maps by name or path.
pub type TextHasher = BuildHasherDefault<Fnv>;
/// For maps by small numbers that we count ourselves.
pub type NumberHasher = BuildHasherDefault<Spread>;

/// FNV-1a, 64 bits (Fowler, Noll, Vo; draft-eastlake-fnv).
#[derive(Debug)]
pub struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Multiplies by the golden ratio: consecutive numbers land far apart.
#[derive(Debug, Default)]
pub struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
