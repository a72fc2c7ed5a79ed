//! What is known of one issuer, and who waits to know more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::inquiry::{Answer, Presented, Ring, Told};
use crate::model::issuer::Issuer;
use crate::model::tokens::TokenHash;
use crate::policy::jwt::Grant;

/// Between two fetches because of unknown keys.
const UNKNOWN_EVERY: Duration = Duration::from_secs(10);
/// After the first failure; twice as long after each further one.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const RETRY_MAX: Duration = Duration::from_secs(10);
/// How long it is remembered at most that a token is not good: it may be issued any moment.
const BAD_FOR: Duration = Duration::from_secs(10);
/// How many tokens of an issuer are remembered.
const TOLD_MAX: usize = 10_000;
/// How many tokens are asked about at once.
const FLIGHTS_MAX: usize = 64;

/// One issuer.
pub(super) struct State {
    pub(super) issuer: Arc<Issuer>,
    /// The keys that were there last.
    pub(super) ring: Option<Arc<Ring>>,
    /// Whether keys are being fetched.
    flight: bool,
    failures: u32,
    next: Instant,
    /// When keys were fetched last because of an unknown one.
    unknown_at: Option<Instant>,
    waiting: Vec<oneshot::Sender<Answer>>,
    told: HashMap<TokenHash, Word>,
    flights: usize,
}

enum Word {
    Asked(Vec<oneshot::Sender<Answer>>),
    Told(Arc<Told>),
}

impl State {
    /// An issuer that is new, or whose setting is; where its keys come from the same place, those
    /// before count until they are fetched anew.
    pub(super) fn new(issuer: Arc<Issuer>, before: Option<&Self>, now: Instant) -> Self {
        let before = before.filter(|before| before.issuer.proof == issuer.proof);
        let ring = before.and_then(|before| before.ring.as_ref());
        let ring = ring.map(|ring| Ring {
            issuer: Arc::clone(&issuer),
            keys: ring.keys.clone(),
        });
        Self {
            issuer,
            ring: ring.map(Arc::new),
            flight: false,
            failures: 0,
            next: now,
            unknown_at: None,
            waiting: Vec::new(),
            told: HashMap::new(),
            flights: 0,
        }
    }

    /// When keys are to be fetched again.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    pub(super) fn begin_if_due(&mut self, now: Instant) -> bool {
        let due = !self.flight && now >= self.next;
        if due {
            self.begin(now);
        }
        due
    }

    fn begin(&mut self, now: Instant) {
        self.flight = true;
        // Until it ends; then it is said when the next one is.
        self.next = now + self.issuer.cache.max(RETRY_MAX);
    }

    /// Somebody looks for a key that is not there. Whether to fetch keys now.
    pub(super) fn wants_keys(&mut self, answer: oneshot::Sender<Answer>, now: Instant) -> bool {
        if self.flight {
            self.waiting.push(answer);
            return false;
        }
        let recently = |at: Instant| now.duration_since(at) < UNKNOWN_EVERY;
        if self.unknown_at.is_some_and(recently) {
            // Who is gone meanwhile does not care.
            drop(answer.send(Answer::Looked));
            return false;
        }
        self.unknown_at = Some(now);
        self.waiting.push(answer);
        self.begin(now);
        true
    }

    /// Keys came; whether the issuer was away before.
    pub(super) fn has_keys(&mut self, ring: Option<Arc<Ring>>, now: Instant) -> bool {
        self.flight = false;
        self.next = now + self.issuer.cache;
        let same = match (&self.ring, &ring) {
            (Some(before), Some(now)) => before.keys == now.keys,
            _ => false,
        };
        if !same {
            self.ring = ring;
        }
        std::mem::take(&mut self.failures) > 0
    }

    /// None came: those before stay.
    pub(super) fn has_no_keys(&mut self, now: Instant) {
        self.flight = false;
        let pause = RETRY_AFTER.saturating_mul(1 << self.failures.min(10));
        self.failures += 1;
        self.next = now + pause.min(RETRY_MAX);
    }

    pub(super) fn tell_waiting(&mut self, answer: &Answer) {
        for waiting in self.waiting.drain(..) {
            drop(waiting.send(answer.clone()));
        }
    }

    /// Somebody presents a token. Whether to ask the issuer about it.
    pub(super) fn wants_word(
        &mut self,
        token: &Presented,
        answer: oneshot::Sender<Answer>,
        now: Instant,
    ) -> bool {
        let hash = hash(token);
        match self.told.get_mut(&hash) {
            Some(Word::Asked(waiting)) => {
                waiting.push(answer);
                return false;
            }
            Some(Word::Told(told)) if now < told.until => {
                drop(answer.send(Answer::Told(Arc::clone(told))));
                return false;
            }
            Some(Word::Told(_)) | None => {}
        }
        if self.flights >= FLIGHTS_MAX {
            return false;
        }
        self.make_room(now);
        self.flights += 1;
        self.told.insert(hash, Word::Asked(vec![answer]));
        true
    }

    fn make_room(&mut self, now: Instant) {
        if self.told.len() < TOLD_MAX {
            return;
        }
        let counts = |word: &Word| !matches!(word, Word::Told(told) if now >= told.until);
        self.told.retain(|_, word| counts(word));
        if self.told.len() >= TOLD_MAX {
            self.told.retain(|_, word| matches!(word, Word::Asked(_)));
        }
    }

    /// The issuer said what it is.
    pub(super) fn has_word(
        &mut self,
        token: &Presented,
        grant: Option<Grant>,
        (now, now_s): (Instant, f64),
    ) {
        self.flights -= 1;
        let cache = self.issuer.cache;
        let good_for = match &grant {
            Some(grant) => {
                let left = (grant.until_s - now_s).clamp(0.0, cache.as_secs_f64());
                Duration::from_secs_f64(left)
            }
            None => cache.min(BAD_FOR),
        };
        let told = Arc::new(Told {
            grant: grant.map(Arc::new),
            until: now + good_for,
        });
        let before = self.told.insert(hash(token), Word::Told(Arc::clone(&told)));
        if let Some(Word::Asked(waiting)) = before {
            for waiting in waiting {
                drop(waiting.send(Answer::Told(Arc::clone(&told))));
            }
        }
    }

    /// The issuer said nothing: neither does anybody wait for it any more.
    pub(super) fn has_no_word(&mut self, token: &Presented) {
        self.flights -= 1;
        self.told.remove(&hash(token));
    }
}

fn hash(token: &Presented) -> TokenHash {
    Sha256::digest(token.0.as_bytes()).into()
}
