//! Who asks, once it is proven: what logs, limits and choices know of a caller.
//!
//! Invariant: the credential itself is not in here, nor anything it could be made from.

use sha2::{Digest, Sha256};

use super::quota::Quota;

/// A caller with a good credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// What logs call the caller.
    pub name: Box<str>,
    /// What limits and `sticky` tell callers apart by: the same after a restart and on every
    /// gateway. Two tokens of one name are one caller, so that a token can be exchanged while both
    /// are good.
    pub id: Identity,
    /// How many requests the caller may make.
    pub quota: Option<Quota>,
    /// How many requests the caller may have in flight.
    pub concurrency: Option<u32>,
    /// Whether the caller may choose a version by header.
    pub may_choose: bool,
}

/// Tells callers apart: half of a SHA-256.
pub type Identity = [u8; 16];

/// The identity of a caller of that kind (`token`, or an issuer) and that name.
#[must_use]
pub fn identity(kind: &str, name: &str) -> Identity {
    let mut hash = Sha256::new();
    hash.update((kind.len() as u64).to_le_bytes());
    hash.update(kind);
    hash.update(name);
    let mut first = Identity::default();
    for (byte, hashed) in first.iter_mut().zip(hash.finalize()) {
        *byte = hashed;
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_belongs_to_a_kind_and_a_name_and_stays() {
        assert_eq!(identity("token", "a"), identity("token", "a"));
        assert_ne!(identity("token", "a"), identity("token", "b"));
        assert_ne!(identity("token", "a"), identity("jwt:token", "a"));
        assert_ne!(identity("a", "b"), identity("b", "a"));
    }
}
