//! The tee: what passes by of a request and its answer is copied for the shadow, within bounds, and
//! handed over when the request is over.
//!
//! A copy holds bytes of its own. A piece of a read buffer would keep all of that buffer alive, and
//! then nobody could say how much memory the copies take.
//!
//! Invariant: nothing here waits, and nothing that passes by is changed.

mod told;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use tokio::sync::mpsc;

use super::body::SendBody;
use super::forward::Call;
use super::handler::Exchange;
use super::micros;
use super::record::CLIENT_LEFT;
use super::worker::Worker;
use crate::model::copies::Fate;
use crate::model::name::VersionName;
use crate::model::shadow::{Keep, Records, Shadow};
use crate::model::table::Service;
use crate::shadow::{
    Answered, Asked, ChosenBy, Course, Draft, Events, Held, Kept, Lines, OVERHEAD, Outcome, Room,
    Secret, sample,
};
use crate::stats;

/// Takes copies; each thread has a clone.
#[derive(Clone, Debug)]
pub struct Copier {
    /// What all copies may hold together.
    pub room: Arc<Room>,
    /// Takes finished copies; it has a place for each that the room has.
    pub queue: mpsc::Sender<Box<Draft>>,
    /// The key with which parts that are left out are hashed.
    pub secret: Secret,
}

/// The copy of a request in flight.
#[derive(Debug)]
pub(super) struct Tee {
    service: Arc<Service>,
    policy: Arc<Shadow>,
    revision: u64,
    id: Box<str>,
    choice: Choice,
    course: Course,
    version: Option<VersionName>,
    asked: Asked,
    answered: Option<Answered>,
    events: Option<Events>,
    redacted: Vec<String>,
    /// How it ended, where that was not well.
    outcome: Option<Outcome>,
    /// The answer is not whole.
    broke: bool,
    held: Held,
    /// There was no room for all of it.
    lost: bool,
}

/// Whether a request is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// It is in the sample.
    Sampled,
    /// Its first record was written too (`records both`).
    Begun,
    /// Its end decides.
    Open,
}

/// Begins the copy of a request, where it is to be copied.
pub(super) fn begin(exchange: &Exchange, call: &Call<'_>, policy: &Arc<Shadow>) {
    let worker = &exchange.worker;
    let Some(copier) = &worker.copier else {
        return;
    };
    let (service, parts) = (call.service, call.parts);
    let counts = &service.live.copies;
    let record = &exchange.state.record;
    let of_method = policy.methods.is_empty() || policy.methods.contains(&parts.method);
    let sampled = of_method
        && sample::is_sampled(policy, call.keys.point, worker.random())
        && sample::takes(&counts.pace, policy.max_rate, record.started_us());
    if !sampled && (!of_method || policy.keep == Keep::default()) {
        counts.count(Fate::NotSampled, 1);
        return;
    }
    let mut redacted = Vec::new();
    let lines = Lines::of(&parts.headers, &policy.redact_headers, &mut redacted);
    let target = parts.uri.path_and_query();
    let target = target.map_or(parts.uri.path(), |target| target.as_str());
    let follows = |path: &str| match parts.uri.query() {
        Some(query) => format!("{path}?{query}").into(),
        None => path.into(),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let mut tee = Box::new(Tee {
        service: Arc::clone(service),
        policy: Arc::clone(policy),
        revision: exchange.table.revision,
        id: exchange.request_id.to_str().unwrap_or_default().into(),
        choice: if sampled {
            Choice::Sampled
        } else {
            Choice::Open
        },
        course: Course {
            started_ms: now.map_or(0, |since| micros(since) / 1_000),
            ..Course::default()
        },
        version: None,
        asked: Asked {
            method: parts.method.clone(),
            target: target.into(),
            path: call.path.as_deref().map(follows),
            lines,
            body: Kept::default(),
        },
        answered: None,
        events: None,
        redacted,
        outcome: None,
        broke: false,
        held: Held::new(&copier.room),
        lost: false,
    });
    let bytes = OVERHEAD + tee.asked.lines.len() + target.len();
    tee.lost = !tee.held.take(bytes);
    match &call.body {
        SendBody::Empty => tee.asked.body.complete = true,
        SendBody::Full(bytes) => {
            tee.keep_asked(bytes);
            tee.asked.body.complete = true;
        }
        SendBody::Stream(_) => {}
    }
    record.copy.replace(Some(tee));
}

impl Tee {
    fn keep_asked(&mut self, data: &[u8]) {
        let most = self.policy.max_body;
        let fits = self.lost || keep(&mut self.asked.body, data, most, &mut self.held);
        if !fits {
            self.lose();
        }
    }

    fn keep_head(&mut self, status: StatusCode, headers: &HeaderMap) {
        let lines = Lines::of(headers, &self.policy.redact_headers, &mut self.redacted);
        if !self.lost && !self.held.take(lines.len()) {
            self.lose();
        }
        let kind = headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
        let events = b"text/event-stream";
        let begins = kind.and_then(|kind| kind.get(..events.len()));
        let is_events = begins.is_some_and(|begins| begins.eq_ignore_ascii_case(events));
        self.events = is_events.then(Events::default);
        self.answered = Some(Answered {
            status: status.as_u16(),
            lines,
            body: Kept::default(),
            events_ms: Vec::new(),
        });
    }

    fn keep_answered(&mut self, data: &[u8], now_ms: u64) {
        if let Some(events) = &mut self.events {
            events.feed(data, now_ms);
        }
        let most = self.policy.max_body;
        let Some(answered) = &mut self.answered else {
            return;
        };
        let fits = self.lost || keep(&mut answered.body, data, most, &mut self.held);
        if !fits {
            self.lose();
        }
    }

    /// There is no room for all of it: nothing of it is kept.
    fn lose(&mut self) {
        self.lost = true;
        self.asked.body.bytes = Vec::new();
        if let Some(answered) = &mut self.answered {
            answered.body.bytes = Vec::new();
        }
        self.held.release();
    }

    /// Writes the first of two records, as soon as all of the request is known.
    fn begins(&mut self, worker: &Worker) {
        let (Some(copier), Some(version)) = (&worker.copier, &self.version) else {
            return;
        };
        let due = self.policy.records == Records::Both && self.choice == Choice::Sampled;
        if !due || !self.asked.body.complete {
            return;
        }
        self.choice = Choice::Begun;
        let mut held = self.held.sibling();
        if self.lost || !held.take(OVERHEAD + self.asked.lines.len() + self.asked.body.bytes.len())
        {
            return self.service.live.copies.count(Fate::DroppedMemory, 1);
        }
        let (mut asked, mut redacted) = (self.asked.clone(), self.redacted.clone());
        let secret = &copier.secret;
        asked
            .body
            .redact(&self.policy, secret, false, &mut redacted);
        let draft = Draft {
            service: Arc::clone(&self.service),
            policy: Arc::clone(&self.policy),
            version: version.clone(),
            revision: self.revision,
            id: self.id.clone(),
            chosen_by: ChosenBy::Sample,
            course: Course {
                outcome: Outcome::Begun,
                ..self.course
            },
            asked,
            answered: None,
            redacted,
            held,
        };
        hand_over(Box::new(draft), copier);
    }

    /// The request is over: what it came to is written, where it is to be.
    pub(super) fn end(
        mut self: Box<Self>,
        worker: &Worker,
        version: Option<&VersionName>,
        ended: &stats::Outcome,
    ) {
        let service = Arc::clone(&self.service);
        let counts = &service.live.copies;
        let outcome = match self.outcome {
            _ if ended.status == CLIENT_LEFT => Outcome::ClientLeft,
            Some(outcome) => outcome,
            None if ended.status >= 500 => Outcome::Status,
            None => Outcome::Ok,
        };
        let (Some(copier), Some(version)) = (&worker.copier, version) else {
            return counts.count(Fate::NotSampled, 1);
        };
        let chosen_by = if self.choice == Choice::Open {
            let kept = sample::kept(self.policy.keep, outcome, ended.total_us);
            let kept =
                kept.filter(|_| sample::takes(&counts.pace, self.policy.max_rate, worker.now_us()));
            let Some(why) = kept else {
                return counts.count(Fate::NotSampled, 1);
            };
            why
        } else {
            ChosenBy::Sample
        };
        if self.lost {
            return counts.count(Fate::DroppedMemory, 1);
        }
        let policy = Arc::clone(&self.policy);
        let (secret, redacted) = (&copier.secret, &mut self.redacted);
        self.asked.body.redact(&policy, secret, false, redacted);
        if let Some(answered) = &mut self.answered {
            answered.body.complete = !self.broke && outcome != Outcome::ClientLeft;
            let events = self.events.is_some();
            answered.body.redact(&policy, secret, events, redacted);
            answered.events_ms = self
                .events
                .take()
                .map(Events::into_times)
                .unwrap_or_default();
        }
        let draft = Draft {
            service: self.service,
            policy,
            version: version.clone(),
            revision: self.revision,
            id: self.id,
            chosen_by,
            course: Course {
                first_byte_us: ended.first_byte_us,
                total_us: ended.total_us,
                attempts: ended.retries + 1,
                outcome,
                ..self.course
            },
            asked: self.asked,
            answered: self.answered,
            redacted: self.redacted,
            held: self.held,
        };
        hand_over(Box::new(draft), copier);
    }
}

/// Keeps what of it is still below `most`; false where there is no room for it.
fn keep(kept: &mut Kept, data: &[u8], most: u64, held: &mut Held) -> bool {
    kept.passed += data.len() as u64;
    let left = most.saturating_sub(kept.bytes.len() as u64);
    let part = usize::try_from(left).ok().and_then(|left| data.get(..left));
    let part = part.unwrap_or(data);
    if part.is_empty() {
        return true;
    }
    let fits = held.take(part.len());
    if fits {
        kept.bytes.extend_from_slice(part);
    }
    fits
}

/// Puts a copy in the queue, or drops it where that is full.
fn hand_over(mut draft: Box<Draft>, copier: &Copier) {
    let service = Arc::clone(&draft.service);
    let counts = &service.live.copies;
    let bodies = [
        Some(&mut draft.asked.body),
        draft.answered.as_mut().map(|it| &mut it.body),
    ];
    for body in bodies.into_iter().flatten() {
        body.bytes.shrink_to_fit();
    }
    let (truncated, replayable) = (draft.is_truncated(), draft.is_replayable());
    if !draft.held.queue() || copier.queue.try_send(draft).is_err() {
        return counts.count(Fate::DroppedQueue, 1);
    }
    if truncated {
        counts.count(Fate::Truncated, 1);
    }
    if !replayable {
        counts.count(Fate::NotReplayable, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_kept_up_to_its_bound() {
        let room = Arc::new(Room::default());
        for (pieces, wanted, passed) in [
            (&["ab", "cd"][..], "abcd", 4),
            (&["ab", "cde"], "abcd", 5),
            (&["abcdef", "g"], "abcd", 7),
            (&["", "a"], "a", 1),
        ] {
            let (mut kept, mut held) = (Kept::default(), Held::new(&room));
            for piece in pieces {
                assert!(keep(&mut kept, piece.as_bytes(), 4, &mut held));
            }
            assert_eq!(kept.bytes, wanted.as_bytes());
            assert_eq!((kept.passed, held.bytes()), (passed, wanted.len() as u64));
        }
    }
}
