//! Credentials that issuers vouch for: JSON Web Tokens, and tokens that they are asked about.
//!
//! What was found out about one is remembered by each thread for itself, as long as it holds, the
//! setting's `cache` at most, and only for the same setting and the same keys: a signature is paid
//! once, not with every request.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, timeout};

use crate::inquiry::{About, Answer, Desk, Presented, Ring, Told};
use crate::model::issuer::{Issuer, Proof};
use crate::model::name::Name;
use crate::model::tokens::TokenHash;
use crate::policy::credential::Verdict;
use crate::policy::jwt::{self, Grant, Refusal};
use crate::proxy::error::Error;
use crate::proxy::micros;
use crate::proxy::worker::Worker;

/// How many credentials a thread remembers: twice this at most.
const REMEMBERED: usize = 4_096;
/// How long a request waits for what is being found out about its credential.
const PATIENCE: Duration = Duration::from_secs(6);

/// What a thread knows of credentials that issuers vouch for.
pub(in crate::proxy) struct Issued {
    desk: Desk,
    young: RefCell<Shelf>,
    /// What was young before, and is forgotten when the next is full.
    old: RefCell<Shelf>,
}

type Shelf = HashMap<TokenHash, Known>;

/// What is known of one credential.
#[derive(Clone)]
struct Known {
    issuer: Arc<Issuer>,
    /// The keys it was checked with; none where the issuer was asked.
    ring: Option<Arc<Ring>>,
    grant: Option<Arc<Grant>>,
    /// On the worker's clock.
    until_us: u64,
}

/// A credential and the issuer that may vouch for it.
pub(super) struct Claim<'c> {
    pub(super) id: &'c Name,
    pub(super) issuer: &'c Arc<Issuer>,
    pub(super) text: &'c [u8],
    /// The SHA-256 of the text.
    pub(super) hash: TokenHash,
    /// The service that is asked for.
    pub(super) service: &'c str,
}

/// What is to be found out before there is a verdict.
pub(super) struct Question {
    id: Name,
    issuer: Arc<Issuer>,
    about: Option<Presented>,
    key: TokenHash,
}

impl Question {
    /// Whether it asks the same again.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.key == other.key && self.id == other.id
    }
}

impl Issued {
    pub(in crate::proxy) fn new(desk: Desk) -> Self {
        Self {
            desk,
            young: RefCell::default(),
            old: RefCell::default(),
        }
    }

    /// What this credential is to this issuer, or what to ask first.
    pub(super) fn judge(&self, claim: &Claim<'_>, worker: &Worker) -> Result<Verdict, Question> {
        let key = key(claim);
        let ring = match claim.issuer.proof {
            Proof::Introspection { .. } => None,
            _ => self.desk.ring(claim.id, claim.issuer),
        };
        if let Some(known) = self.recall(&key, worker) {
            let same_keys = match (&known.ring, &ring) {
                (Some(then), Some(now)) => Arc::ptr_eq(then, now),
                (then, now) => then.is_none() && now.is_none(),
            };
            if same_keys && Arc::ptr_eq(&known.issuer, claim.issuer) {
                return Ok(verdict(known.grant, claim.service));
            }
        }
        let question = |about| Question {
            id: claim.id.clone(),
            issuer: Arc::clone(claim.issuer),
            about,
            key,
        };
        if matches!(claim.issuer.proof, Proof::Introspection { .. }) {
            let text = std::str::from_utf8(claim.text).ok();
            let Some(text) = text.filter(|text| text.bytes().all(|b| b.is_ascii_graphic())) else {
                return Ok(Verdict::Unknown);
            };
            return Err(question(Some(Presented(text.into()))));
        }
        self.judge_jwt(claim, ring, worker, question)
    }

    fn judge_jwt(
        &self,
        claim: &Claim<'_>,
        ring: Option<Arc<Ring>>,
        worker: &Worker,
        question: impl Fn(Option<Presented>) -> Question,
    ) -> Result<Verdict, Question> {
        let Some(token) = jwt::parse(claim.text) else {
            return Ok(Verdict::Unknown);
        };
        let now_s = now_s();
        let grant = match token.judge(claim.id, claim.issuer, now_s) {
            Ok(grant) => grant,
            Err(Refusal::Foreign) => return Ok(Verdict::Unknown),
            Err(Refusal::Bad(why)) => return Ok(refused(claim.id, why)),
            Err(Refusal::UnknownKey) => return Err(question(None)),
        };
        let Some(ring) = ring else {
            return Err(question(None));
        };
        let fetched = matches!(claim.issuer.proof, Proof::Jwks(_) | Proof::Discovery(_));
        match token.verify(&ring.keys) {
            Ok(()) => {}
            Err(Refusal::UnknownKey) if fetched => return Err(question(None)),
            Err(Refusal::Bad(why)) => return Ok(refused(claim.id, why)),
            Err(_) => return Ok(refused(claim.id, "its key is not one of the issuer's")),
        }
        let lasts_s = (grant.until_s - now_s).clamp(0.0, claim.issuer.cache.as_secs_f64());
        let grant = Some(Arc::new(grant));
        let known = Known {
            issuer: Arc::clone(claim.issuer),
            ring: Some(ring),
            grant: grant.clone(),
            until_us: worker.now_us() + micros(Duration::from_secs_f64(lasts_s)),
        };
        self.remember(key(claim), known);
        Ok(verdict(grant, claim.service))
    }

    /// Whether keys of that issuer are there at all.
    fn has_keys(&self, question: &Question) -> bool {
        self.desk.ring(&question.id, &question.issuer).is_some()
    }

    /// Asks, and waits for the answer. An error where nothing was found out.
    pub(super) async fn ask(&self, question: &Question, worker: &Worker) -> Result<(), Error> {
        let about = question.about.clone().map_or(About::Keys, About::Token);
        let answer = self.desk.ask(&question.id, &question.issuer, about);
        let answer = timeout(PATIENCE, answer.ok_or(Error::IssuerAway)?).await;
        match answer {
            Ok(Ok(Answer::Looked)) if self.has_keys(question) => Ok(()),
            Ok(Ok(Answer::Told(told))) => {
                self.told(question, &told, worker);
                Ok(())
            }
            _ => Err(Error::IssuerAway),
        }
    }

    fn told(&self, question: &Question, told: &Told, worker: &Worker) {
        let left = told.until.saturating_duration_since(Instant::now());
        let known = Known {
            issuer: Arc::clone(&question.issuer),
            ring: None,
            grant: told.grant.clone(),
            // Long enough for the request that asked.
            until_us: worker.now_us() + micros(left).max(1_000_000),
        };
        self.remember(question.key, known);
    }

    /// What is known of it and still holds.
    fn recall(&self, key: &TokenHash, worker: &Worker) -> Option<Known> {
        let is_over = |known: &Known| worker.now_us() >= known.until_us;
        let young = self.young.borrow().get(key).cloned();
        let known = if let Some(known) = young {
            known
        } else {
            let known = self.old.borrow_mut().remove(key)?;
            if !is_over(&known) {
                self.remember(*key, known.clone());
            }
            known
        };
        (!is_over(&known)).then_some(known)
    }

    fn remember(&self, key: TokenHash, known: Known) {
        let mut young = self.young.borrow_mut();
        if young.len() >= REMEMBERED {
            self.old.replace(std::mem::take(&mut young));
        }
        young.insert(key, known);
    }
}

/// What is remembered stands under the text and the setting: one address is one setting as long as
/// it is remembered.
fn key(claim: &Claim<'_>) -> TokenHash {
    let mut key = claim.hash;
    let setting = Arc::as_ptr(claim.issuer).addr().to_le_bytes();
    for (byte, setting) in key.iter_mut().zip(setting) {
        *byte ^= setting;
    }
    key
}

fn verdict(grant: Option<Arc<Grant>>, service: &str) -> Verdict {
    match grant {
        Some(grant) if grant.covers(service) => Verdict::Opens(Arc::clone(&grant.credential)),
        Some(_) => Verdict::Elsewhere("the credential does not cover this service"),
        None => Verdict::Spent,
    }
}

fn refused(id: &Name, why: &'static str) -> Verdict {
    tracing::debug!(issuer = id.as_str(), why, "a token is refused");
    Verdict::Spent
}

fn now_s() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}
