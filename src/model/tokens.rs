//! All tokens by their hashes, in shards that tables share.

use std::fmt::Write;
use std::sync::Arc;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::decode::Fields;
use super::token::{self, Token};

/// A SHA-256.
pub type TokenHash = [u8; 32];

/// Shards, and shards of shards: one change copies one of each, about 500 pointers, and of a
/// million tokens 16.
const WIDTH: usize = 256;

type Shard = Vec<(TokenHash, Arc<Token>)>;

/// All tokens.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    /// By the first byte of the hash, then by the second; empty where there is no token at all.
    shards: Vec<Arc<Vec<Arc<Shard>>>>,
    count: usize,
}

/// Where a token stands, or would stand: its shard, and its position in there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// One of `Tokens::SHARDS`.
    pub shard: usize,
    /// Those of greater hashes come behind it.
    pub at: usize,
}

impl Tokens {
    /// How many shards there are.
    pub const SHARDS: usize = WIDTH * WIDTH;

    /// The token with that hash.
    #[must_use]
    pub fn get(&self, hash: &TokenHash) -> Option<&Arc<Token>> {
        let shard = self.shard(shard_of(hash))?;
        let at = shard.binary_search_by(|(other, _)| other.cmp(hash)).ok()?;
        shard.get(at).map(|(_, token)| token)
    }

    /// Where the token with that hash stands; `Err`: where it would.
    pub fn place(&self, hash: &TokenHash) -> Result<Place, Place> {
        let shard = shard_of(hash);
        let place = |at| Place { shard, at };
        let Some(tokens) = self.shard(shard) else {
            return Err(place(0));
        };
        let found = tokens.binary_search_by(|(other, _)| other.cmp(hash));
        found.map(place).map_err(place)
    }

    /// Puts a token in, or takes it out; the one before, if there was one. Copies one shard.
    pub fn set(&mut self, hash: &TokenHash, token: Option<Arc<Token>>) -> Option<Arc<Token>> {
        let [first, second, ..] = *hash;
        if self.shards.is_empty() {
            let empty = Arc::new(vec![Arc::default(); WIDTH]);
            self.shards = vec![empty; WIDTH];
        }
        // There are as many as a byte has values.
        let shards = self.shards.get_mut(usize::from(first)).map(Arc::make_mut);
        let shard = shards.and_then(|shards| shards.get_mut(usize::from(second)));
        let shard = Arc::make_mut(shard?);
        match (shard.binary_search_by(|(other, _)| other.cmp(hash)), token) {
            (Ok(at), Some(token)) => {
                let place = shard.get_mut(at)?;
                Some(std::mem::replace(&mut place.1, token))
            }
            (Ok(at), None) => {
                self.count -= 1;
                Some(shard.remove(at).1)
            }
            (Err(at), Some(token)) => {
                self.count += 1;
                // No room for more: of a million tokens that would be a fifth of the memory.
                shard.reserve_exact(1);
                shard.insert(at, (*hash, token));
                None
            }
            (Err(_), None) => None,
        }
    }

    /// All tokens in the order of their hashes.
    pub fn iter(&self) -> impl Iterator<Item = (&TokenHash, &Arc<Token>)> {
        self.beginning_at(0)
    }

    /// Those behind this hash, in the order of their hashes.
    pub fn after(&self, hash: TokenHash) -> impl Iterator<Item = (&TokenHash, &Arc<Token>)> {
        let tokens = self.beginning_at(shard_of(&hash));
        tokens.skip_while(move |(other, _)| **other <= hash)
    }

    /// How many there are in each shard; nothing where there is none at all.
    pub fn counts(&self) -> impl Iterator<Item = usize> {
        let shards = (0..Self::SHARDS).map_while(|at| self.shard(at));
        shards.map(Vec::len)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn shard(&self, at: usize) -> Option<&Shard> {
        let shards = self.shards.get(at / WIDTH)?;
        shards.get(at % WIDTH).map(Arc::as_ref)
    }

    fn beginning_at(&self, first: usize) -> impl Iterator<Item = (&TokenHash, &Arc<Token>)> {
        let shards = (first..Self::SHARDS).map_while(|at| self.shard(at));
        shards.flatten().map(|(hash, token)| (hash, token))
    }
}

fn shard_of(hash: &TokenHash) -> usize {
    let [first, second, ..] = *hash;
    usize::from(first) * WIDTH + usize::from(second)
}

impl PartialEq for Tokens {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.iter().eq(other.iter())
    }
}

/// A map from hashes to the fields that say the tokens.
impl Serialize for Tokens {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(hash, token)| {
            let digits = digits(hash);
            let fields = token.fields(&digits);
            (digits, fields)
        }))
    }
}

/// What is no good token is left out.
impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Tokens;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map of tokens")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tokens, A::Error> {
                let mut tokens = Tokens::default();
                while let Some((digits, fields)) = map.next_entry::<String, Fields>()? {
                    let (token, _) = token::decode(&digits, &digits, &fields);
                    if let (Some(hash), Some(token)) = (parse_hash(&digits), token) {
                        tokens.set(&hash, Some(Arc::new(token)));
                    }
                }
                Ok(tokens)
            }
        }
        deserializer.deserialize_map(Map)
    }
}

/// A hash as 64 lower-case hex digits.
#[must_use]
pub fn digits(hash: &TokenHash) -> String {
    let mut digits = String::with_capacity(2 * hash.len());
    for byte in hash {
        write!(digits, "{byte:02x}").expect("a text takes what is written");
    }
    digits
}

/// The hash in 64 lower-case hex digits; `None` where these are none.
#[must_use]
pub fn parse_hash(digits: &str) -> Option<TokenHash> {
    let mut hash = [0; 32];
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if pairs.len() != hash.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(hash)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::token;

    fn token(name: &str) -> Arc<Token> {
        let fields = [("name", name), ("services", "*")];
        let fields = fields.map(|(field, text)| (field.to_owned(), text.to_owned()));
        let (token, errors) = token::decode("token:x", "abcdef0123", &fields.into());
        assert_eq!(errors, []);
        Arc::new(token.expect("it decodes"))
    }

    #[test]
    fn tokens_are_found_by_their_whole_hash() {
        let mut tokens = Tokens::default();
        let mut a = [7; 32];
        let b = a;
        a[31] = 8;
        assert!(tokens.get(&a).is_none() && tokens.is_empty());
        assert_eq!(
            tokens.place(&a),
            Err(Place {
                shard: 0x0707,
                at: 0
            })
        );
        tokens.set(&a, Some(token("a")));
        tokens.set(&b, Some(token("b")));
        assert_eq!(
            tokens.place(&a),
            Ok(Place {
                shard: 0x0707,
                at: 1
            })
        );
        assert!(tokens.after(b).map(|(hash, _)| hash).eq([&a]));
        assert!(tokens.after([6; 32]).count() == 2 && tokens.after(a).count() == 0);
        let name = |tokens: &Tokens, hash| tokens.get(hash).map(|t| t.credential.name.to_string());
        assert_eq!(name(&tokens, &a).as_deref(), Some("a"));
        assert_eq!(name(&tokens, &b).as_deref(), Some("b"));
        assert_eq!(name(&tokens, &[0; 32]), None);
        let before = tokens.clone();
        tokens.set(&a, Some(token("c")));
        tokens.set(&b, None);
        tokens.set(&[1; 32], None);
        assert_eq!(name(&tokens, &a).as_deref(), Some("c"));
        assert_eq!((name(&tokens, &b), tokens.len()), (None, 1));
        assert_eq!(name(&before, &a).as_deref(), Some("a"));
    }

    #[test]
    fn a_hash_has_one_spelling() {
        let digits = "00ff".repeat(16);
        let hash = parse_hash(&digits).expect("a hash");
        assert_eq!(super::digits(&hash), digits);
        assert_eq!((hash[0], hash[1]), (0, 255));
        let short = "0".repeat(63);
        for bad in [&short, "", &digits.to_uppercase(), &"g".repeat(64)] {
            assert_eq!(parse_hash(bad), None, "{bad}");
        }
    }
}
