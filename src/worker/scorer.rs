//! A judge outside: asked over HTTP which of two answers is better, and by how much.
//!
//! One that names a winner is asked twice, with the sides changed: if it changes its mind with them,
//! it has none.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::call::{self, Caller};
use crate::model::endpoint::Target;
use crate::review::{Heard, Told};
use crate::shadow::Record;

/// How long it may take over one pair.
const LIMIT: Duration = Duration::from_mins(1);
/// The most pairs it is asked about at once.
const AT_ONCE: usize = 2;
/// The most of an answer that is read.
const ANSWER_MAX: usize = 64 << 10;
/// The most of each side that it is shown.
const SHOWN_MAX: usize = 1 << 20;
/// The most scores remembered.
const REMEMBERED: usize = 10_000;

/// Asks, and remembers what it was told.
#[derive(Debug)]
pub(super) struct Scorer {
    places: Semaphore,
    known: RefCell<HashMap<[u8; 32], f64>>,
}

impl Default for Scorer {
    fn default() -> Self {
        Self {
            places: Semaphore::new(AT_ONCE),
            known: RefCell::default(),
        }
    }
}

/// What it answers: a score of each side, 0 to 1, or who wins.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Answer {
    Scores { left: f64, right: f64 },
    Winner { winner: Winner },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Winner {
    Left,
    Right,
    Tie,
}

impl Scorer {
    /// By how much the candidate's answer is better, -1 to 1.
    pub(super) async fn score(
        &self,
        caller: &Caller,
        target: &Target,
        record: &Record,
        base: &Heard,
        candidate: &Heard,
    ) -> Result<f64, String> {
        let key = key(record, base, candidate);
        if let Some(known) = self.known.borrow().get(&key) {
            return Ok(*known);
        }
        let _place = self.places.acquire().await.map_err(|it| it.to_string())?;
        let score = match self.ask(caller, target, record, base, candidate).await? {
            Answer::Scores { left, right } => right - left,
            Answer::Winner { winner } => {
                let turned = self.ask(caller, target, record, candidate, base).await?;
                let Answer::Winner { winner: turned } = turned else {
                    return Err("it answers now this way, now that way".to_owned());
                };
                match (winner, turned) {
                    (Winner::Right, Winner::Left) => 1.0,
                    (Winner::Left, Winner::Right) => -1.0,
                    _ => 0.0,
                }
            }
        };
        if !score.is_finite() {
            return Err("its score is no number".to_owned());
        }
        let mut known = self.known.borrow_mut();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(key, score);
        Ok(score)
    }

    async fn ask(
        &self,
        caller: &Caller,
        target: &Target,
        record: &Record,
        left: &Heard,
        right: &Heard,
    ) -> Result<Answer, String> {
        let question = json!({
            "id": record.id,
            "request": record.request,
            "left": Told::of(left, SHOWN_MAX),
            "right": Told::of(right, SHOWN_MAX),
            "meta": {"service": record.service, "started_ms": record.started_ms},
        });
        let asked = call::post(caller, target, question.to_string(), LIMIT, ANSWER_MAX);
        let answer = asked.await.map_err(|error| error.to_string())?;
        serde_json::from_slice(&answer).map_err(|error| error.to_string())
    }
}

fn key(record: &Record, base: &Heard, candidate: &Heard) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [
        record.request.body.body.as_bytes(),
        &base.body,
        &candidate.body,
    ] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}
