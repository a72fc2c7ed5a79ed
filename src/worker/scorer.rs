//! A judge outside: asked over HTTP which of two answers is better, and by how much.
//!
//! One that names a winner is asked twice, with the sides changed: if it changes its mind with them,
//! it has none. Invariant: what it does not say counts for nobody.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use http::HeaderValue;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::call::{self, Caller, Post};
use crate::model::name::ServiceName;
use crate::model::scorer::{self, Asks};
use crate::review::{self, Heard, Told, Winner};
use crate::shadow::Record;

/// The most of an answer that is read.
const ANSWER_MAX: usize = 256 << 10;
/// The most of each side that it is shown.
const SHOWN_MAX: usize = 1 << 20;
/// The most scores remembered.
const REMEMBERED: usize = 10_000;
/// Between two complaints.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// Asks, and remembers what it was told.
#[derive(Debug, Default)]
pub(super) struct Scorer {
    /// What opens the doors of models, for the header `authorization`.
    key: Option<HeaderValue>,
    /// How many may be asked about at once, by service.
    places: RefCell<HashMap<ServiceName, (usize, Rc<Semaphore>)>>,
    known: RefCell<HashMap<[u8; 32], f64>>,
    complained: Cell<Option<Instant>>,
}

/// Two answers to the request of a record.
#[derive(Clone, Copy)]
pub(super) struct Question<'q> {
    pub(super) record: &'q Record,
    pub(super) base: &'q Heard,
    pub(super) candidate: &'q Heard,
}

/// What it answers: a score of each side, 0 to 1, or who wins.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Answer {
    Scores { left: f64, right: f64 },
    Winner { winner: Winner },
}

/// The secret that holds the key for models.
const KEY: &str = "SMARTLINK_SCORER_KEY";

/// That secret cannot be sent.
#[derive(Debug, thiserror::Error)]
#[error("{KEY}: want text of one line")]
pub struct BadKey;

/// The key for models as they want to see it, where there is one among these secrets.
///
/// # Errors
/// Where it cannot stand in a header.
pub fn key(secrets: fn(&str) -> Option<String>) -> Result<Option<HeaderValue>, BadKey> {
    let Some(text) = secrets(KEY).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let value = HeaderValue::from_str(&format!("Bearer {text}"));
    let mut value = value.map_err(|_its_text_is_secret| BadKey)?;
    value.set_sensitive(true);
    Ok(Some(value))
}

impl Scorer {
    pub(super) fn new(key: Option<HeaderValue>) -> Self {
        Self {
            key,
            ..Self::default()
        }
    }

    /// By how much the candidate's answer is better, -1 to 1. Equal answers are equally good.
    pub(super) async fn score(
        &self,
        caller: &Caller,
        service: &ServiceName,
        scorer: &scorer::Scorer,
        question: Question<'_>,
    ) -> Result<f64, String> {
        let (base, candidate) = (question.base, question.candidate);
        if (base.status, &base.body) == (candidate.status, &candidate.body) {
            return Ok(0.0);
        }
        let key = question.key(scorer);
        if let Some(known) = self.known.borrow().get(&key) {
            return Ok(*known);
        }
        let places = self.places(service, scorer.concurrent);
        let _place = places.acquire().await.map_err(|it| it.to_string())?;
        // One that asked the same may have been answered while we waited.
        if let Some(known) = self.known.borrow().get(&key) {
            return Ok(*known);
        }
        let score = self.ask_both_ways(caller, scorer, question).await?;
        let mut known = self.known.borrow_mut();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(key, score);
        Ok(score)
    }

    /// Whether it is time to say again that a judge fails.
    pub(super) fn may_complain(&self) -> bool {
        let now = Instant::now();
        let may = (self.complained.get()).is_none_or(|at| now >= at + COMPLAIN_EVERY);
        if may {
            self.complained.set(Some(now));
        }
        may
    }

    /// The places of a service, as many as its policy says now.
    fn places(&self, service: &ServiceName, wanted: usize) -> Rc<Semaphore> {
        let mut places = self.places.borrow_mut();
        let (count, here) = places
            .entry(service.clone())
            .or_insert_with(|| (wanted, Rc::new(Semaphore::new(wanted))));
        if *count != wanted {
            (*count, *here) = (wanted, Rc::new(Semaphore::new(wanted)));
        }
        Rc::clone(here)
    }

    async fn ask_both_ways(
        &self,
        caller: &Caller,
        scorer: &scorer::Scorer,
        question: Question<'_>,
    ) -> Result<f64, String> {
        let winner = match self.ask(caller, scorer, question).await? {
            Answer::Scores { left, right } => {
                let fine = [left, right].iter().all(|it| (0.0..=1.0).contains(it));
                return fine
                    .then_some(right - left)
                    .ok_or_else(|| format!("want scores from 0 to 1, got {left} and {right}"));
            }
            Answer::Winner { winner } => winner,
        };
        let turned = self.ask(caller, scorer, question.turned()).await?;
        let Answer::Winner { winner: turned } = turned else {
            return Err("it named a winner, and the second time scores".to_owned());
        };
        Ok(match (winner, turned) {
            (Winner::Right, Winner::Left) => 1.0,
            (Winner::Left, Winner::Right) => -1.0,
            _ => 0.0,
        })
    }

    /// Asks with `base` on the left.
    async fn ask(
        &self,
        caller: &Caller,
        scorer: &scorer::Scorer,
        question: Question<'_>,
    ) -> Result<Answer, String> {
        let Question {
            record,
            base,
            candidate,
        } = question;
        let [left, right] = [base, candidate].map(|side| Told::of(side, SHOWN_MAX));
        let (body, key): (Json, _) = match &scorer.asks {
            Asks::Ours => {
                let meta = json!({"service": record.service, "started_ms": record.started_ms});
                let (id, request) = (&record.id, &record.request);
                let body = json!({
                    "id": id, "request": request, "left": left, "right": right, "meta": meta,
                });
                (body, None)
            }
            Asks::Chat(model) => {
                let body = review::question(model, &record.request, &left, &right);
                (body, self.key.clone())
            }
        };
        let post = Post {
            target: &scorer.at,
            body: body.to_string(),
            authorization: key,
            limit: scorer.timeout,
            most: ANSWER_MAX,
        };
        let answer = call::post(caller, post).await;
        let answer = answer.map_err(|error| error.to_string())?;
        match &scorer.asks {
            Asks::Ours => serde_json::from_slice(&answer).map_err(|error| error.to_string()),
            Asks::Chat(_) => review::winner(&answer).map(|winner| Answer::Winner { winner }),
        }
    }
}

impl Question<'_> {
    /// The same with the sides changed.
    fn turned(self) -> Self {
        Self {
            base: self.candidate,
            candidate: self.base,
            ..self
        }
    }

    /// What is the same for the same judge, request and answers.
    fn key(&self, scorer: &scorer::Scorer) -> [u8; 32] {
        let mut hash = Sha256::new();
        let statuses = [self.base, self.candidate].map(|it| it.status.to_string());
        let [base, candidate] = statuses.each_ref().map(String::as_bytes);
        let model = match &scorer.asks {
            Asks::Ours => "",
            Asks::Chat(model) => model,
        };
        let judge = format!(
            "{} {} {}",
            scorer.at.authority, scorer.at.path, scorer.at.tls
        );
        for part in [
            model.as_bytes(),
            judge.as_bytes(),
            self.record.request.target.as_bytes(),
            self.record.request.body.body.as_bytes(),
            base,
            &self.base.body,
            candidate,
            &self.candidate.body,
        ] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    }
}
