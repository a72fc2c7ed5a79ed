//! Tokens of the book that are in force, and when each was seen.
//!
//! There may be a million, so that one costs a few words here and what is decoded of it. A token
//! that is as it stands in Redis has no slot; one whose hash is refused has one besides.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::keys::Object;
use crate::model::token::Token;
use crate::model::tokens::{Place, TokenHash, Tokens, parse_hash};

/// Tokens in force.
#[derive(Debug, Default)]
pub(super) struct Roster {
    tokens: Tokens,
    /// In shards as the tokens, at the same positions.
    sightings: Vec<Vec<Sighting>>,
    /// Those that were missing when they were last looked for.
    doubted: BTreeSet<TokenHash>,
}

/// When a token was seen, counted in batches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sighting {
    /// When it was last seen to stand.
    pub(super) seen: u64,
    /// When it was last seen to be written.
    pub(super) written: u64,
}

impl Roster {
    /// Tokens that were all seen in that batch.
    pub(super) fn new(tokens: Tokens, batch: u64) -> Self {
        let now = Sighting {
            seen: batch,
            written: batch,
        };
        let sightings = tokens.counts().map(|count| vec![now; count]);
        Self {
            sightings: sightings.collect(),
            tokens,
            doubted: BTreeSet::new(),
        }
    }

    /// All of them.
    pub(super) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The one with that hash.
    pub(super) fn get(&self, hash: &TokenHash) -> Option<&Arc<Token>> {
        self.tokens.get(hash)
    }

    /// Puts a token in force that was written in that batch; the one before.
    pub(super) fn put(
        &mut self,
        hash: &TokenHash,
        token: Arc<Token>,
        batch: u64,
    ) -> Option<Arc<Token>> {
        self.doubted.remove(hash);
        let now = Sighting {
            seen: batch,
            written: batch,
        };
        match self.tokens.place(hash) {
            Ok(place) => {
                if let Some(sighting) = self.sighting_mut(place) {
                    *sighting = now;
                }
            }
            Err(Place { shard, at }) => {
                if self.sightings.is_empty() {
                    self.sightings.resize_with(Tokens::SHARDS, Vec::new);
                }
                if let Some(shard) = self.sightings.get_mut(shard) {
                    shard.reserve_exact(1);
                    shard.insert(at, now);
                }
            }
        }
        self.tokens.set(hash, Some(token))
    }

    /// Takes a token out.
    pub(super) fn take_out(&mut self, hash: &TokenHash) -> Option<Arc<Token>> {
        let Place { shard, at } = self.tokens.place(hash).ok()?;
        self.doubted.remove(hash);
        if let Some(shard) = self.sightings.get_mut(shard) {
            shard.remove(at);
        }
        self.tokens.set(hash, None)
    }

    /// Notes that a token was seen to stand, or to be written.
    pub(super) fn sight(&mut self, hash: &TokenHash, batch: u64, written: bool) {
        self.doubted.remove(hash);
        let place = self.tokens.place(hash);
        if let Some(sighting) = place.ok().and_then(|place| self.sighting_mut(place)) {
            sighting.seen = batch;
            if written {
                sighting.written = batch;
            }
        }
    }

    /// When a token was last seen to stand.
    pub(super) fn seen(&self, hash: &TokenHash) -> Option<u64> {
        let Place { shard, at } = self.tokens.place(hash).ok()?;
        let sighting = self.sightings.get(shard)?.get(at)?;
        Some(sighting.seen)
    }

    /// Notes that a token was missing.
    pub(super) fn doubt(&mut self, hash: &TokenHash) {
        if self.get(hash).is_some() {
            self.doubted.insert(*hash);
        }
    }

    /// Whether a token was missing when it was last looked for.
    pub(super) fn is_doubted(&self, hash: &TokenHash) -> bool {
        self.doubted.contains(hash)
    }

    /// When each was seen, in the order of their hashes.
    pub(super) fn sightings(&self) -> impl Iterator<Item = &Sighting> {
        self.sightings.iter().flatten()
    }

    fn sighting_mut(&mut self, place: Place) -> Option<&mut Sighting> {
        self.sightings.get_mut(place.shard)?.get_mut(place.at)
    }
}

/// The hash of a token's key; `None` for other kinds.
pub(super) fn token_hash(object: &Object) -> Option<TokenHash> {
    match object {
        Object::Token(digits) => parse_hash(digits),
        _ => None,
    }
}
