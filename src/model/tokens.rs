//! All tokens by their hashes, in shards that tables share.

use std::sync::Arc;

use super::token::Token;

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
}

impl Tokens {
    /// The token with that hash.
    #[must_use]
    pub fn get(&self, hash: &TokenHash) -> Option<&Arc<Token>> {
        let [first, second, ..] = *hash;
        let shard = self.shards.get(usize::from(first))?;
        let shard = shard.get(usize::from(second))?;
        let at = shard.binary_search_by(|(other, _)| other.cmp(hash)).ok()?;
        shard.get(at).map(|(_, token)| token)
    }

    /// Puts a token in, or takes it out; copies one shard.
    pub fn set(&mut self, hash: &TokenHash, token: Option<Arc<Token>>) {
        let [first, second, ..] = *hash;
        if self.shards.is_empty() {
            let empty = Arc::new(vec![Arc::default(); WIDTH]);
            self.shards = vec![empty; WIDTH];
        }
        // There are as many as a byte has values.
        let shards = self.shards.get_mut(usize::from(first)).map(Arc::make_mut);
        let shard = shards.and_then(|shards| shards.get_mut(usize::from(second)));
        let Some(shard) = shard.map(Arc::make_mut) else {
            return;
        };
        match (shard.binary_search_by(|(other, _)| other.cmp(hash)), token) {
            (Ok(at), Some(token)) => {
                if let Some(place) = shard.get_mut(at) {
                    place.1 = token;
                }
            }
            (Ok(at), None) => {
                shard.remove(at);
            }
            (Err(at), Some(token)) => shard.insert(at, (*hash, token)),
            (Err(_), None) => {}
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let shards = self.shards.iter().flat_map(|shards| shards.iter());
        shards.map(|shard| shard.len()).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
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
        tokens.set(&a, Some(token("a")));
        tokens.set(&b, Some(token("b")));
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
        assert_eq!((hash[0], hash[1]), (0, 255));
        let short = "0".repeat(63);
        for bad in [&short, "", &digits.to_uppercase(), &"g".repeat(64)] {
            assert_eq!(parse_hash(bad), None, "{bad}");
        }
    }
}
