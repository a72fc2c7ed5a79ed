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

/// A hash of some texts that is the same on every gateway and in every release: FNV-1a over the
/// texts with a zero byte between them, finished by splitmix64 (Vigna, 2015).
#[must_use]
pub fn spread(texts: &[&[u8]]) -> u64 {
    let mut hasher = Fnv::default();
    for (at, text) in texts.iter().enumerate() {
        if at > 0 {
            hasher.write(&[0]);
        }
        hasher.write(text);
    }
    mix(hasher.finish())
}

/// The finaliser of splitmix64: every bit of the input reaches every bit of the output.
#[must_use]
pub fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
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
