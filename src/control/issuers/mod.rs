//! Keeps the keys of issuers, and asks those that are to be asked about tokens.
//!
//! Keys are fetched when an issuer appears, again each `cache`, and when a token names one that is
//! not known: one fetch at a time, and for unknown ones one in ten seconds. Those that were there
//! last stay while the issuer is away. A token is asked about once at a time, and what was said of
//! it is remembered, good or bad.

mod ask;
mod state;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::alerter::Secrets;
use super::complaint::Complaint;
use super::outbox::Outbox;
use super::watcher::Shared;
use crate::inquiry::{About, Answer, Inquiry, Office, Presented, Ring};
use crate::model::decode::ConfigError;
use crate::model::issuer::Issuer;
use crate::model::keys::{Keys, Object};
use crate::model::name::Name;
use crate::model::table::Table;
use crate::policy::jwt::keys::KeySet;
use crate::policy::jwt::{Claims, claims};
use crate::telemetry;
use crate::transport::TlsConfigs;
use ask::Means;
use state::State;

/// The longest time to look at nothing.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// The keeper of issuers.
pub struct Issuers {
    table: Arc<ArcSwap<Table>>,
    revision: watch::Receiver<u64>,
    office: Office,
    secrets: Secrets,
    tls: Rc<TlsConfigs>,
    states: BTreeMap<Name, State>,
    outbox: Outbox,
    keys: Keys,
    /// Why tokens of an issuer cannot be judged.
    complaints: BTreeMap<Name, Complaint>,
    done: mpsc::UnboundedSender<Done>,
    finished: mpsc::UnboundedReceiver<Done>,
}

/// What a flight brought home.
enum Done {
    Keys(Name, Arc<Issuer>, Result<Option<KeySet>, String>),
    Token(Name, Arc<Issuer>, Presented, Result<Option<Claims>, String>),
}

impl Issuers {
    /// A keeper that has not begun.
    #[must_use]
    pub fn new(shared: &Shared, keys: Keys, office: Office, secrets: Secrets) -> Self {
        let (done, finished) = mpsc::unbounded_channel();
        Self {
            table: Arc::clone(&shared.table),
            revision: shared.revision.subscribe(),
            office,
            secrets,
            tls: Rc::default(),
            states: BTreeMap::new(),
            outbox: shared.outbox.clone(),
            keys,
            complaints: BTreeMap::new(),
            done,
            finished,
        }
    }

    /// Keeps them for as long as the process runs; to be spawned where tasks need not be `Send`.
    pub async fn run(mut self) {
        self.settle();
        loop {
            let next = self.look();
            tokio::select! {
                changed = self.revision.changed() => match changed {
                    Ok(()) => self.settle(),
                    Err(_closed) => return,
                },
                Some(inquiry) = self.office.inquiries.recv() => self.asked(inquiry),
                Some(done) = self.finished.recv() => self.take(done),
                () = sleep_until(next) => {}
            }
        }
    }

    /// Takes over the issuers of the table.
    fn settle(&mut self) {
        let table = self.table.load_full();
        let known = self.states.len();
        self.states.retain(|id, _| table.issuers.contains_key(id));
        let outbox = &self.outbox;
        self.complaints.retain(|id, complaint| {
            let kept = table.issuers.contains_key(id);
            if !kept {
                complaint.mend(outbox);
            }
            kept
        });
        let mut changed = self.states.len() != known;
        for (id, issuer) in table.issuers.iter() {
            let before = self.states.get(id);
            if !before.is_some_and(|state| Arc::ptr_eq(&state.issuer, issuer)) {
                let state = State::new(Arc::clone(issuer), before, Instant::now());
                self.states.insert(id.clone(), state);
                changed = true;
            }
        }
        if changed {
            self.publish();
        }
    }

    fn publish(&self) {
        let rings = self.states.iter();
        let rings = rings.filter_map(|(id, state)| Some((id.clone(), state.ring.clone()?)));
        self.office.rings.store(Arc::new(rings.collect()));
    }

    /// Begins the fetches that are due; when the next one is.
    fn look(&mut self) -> Instant {
        let now = Instant::now();
        let mut next = now + LOOK_EVERY;
        let mut due = Vec::new();
        for (id, state) in &mut self.states {
            if state.begin_if_due(now) {
                due.push((id.clone(), Arc::clone(&state.issuer)));
            }
            next = next.min(state.next());
        }
        for (id, issuer) in due {
            self.fetch(id, issuer);
        }
        next
    }

    fn fetch(&self, id: Name, issuer: Arc<Issuer>) {
        let (done, tls, secrets) = (self.done.clone(), Rc::clone(&self.tls), self.secrets);
        tokio::task::spawn_local(async move {
            let means = Means {
                secrets,
                tls: &tls,
                now_ms: now_ms(),
            };
            let keys = ask::keys(&issuer, &means).await;
            // Nobody listens only where the process is ending.
            drop(done.send(Done::Keys(id, issuer, keys)));
        });
    }

    fn asked(&mut self, inquiry: Inquiry) {
        let Inquiry {
            id,
            issuer,
            about,
            answer,
        } = inquiry;
        let is_known = |state: &State| Arc::ptr_eq(&state.issuer, &issuer);
        if !self.states.get(&id).is_some_and(is_known) {
            // The table is newer than what we heard of it.
            self.settle();
        }
        let state = self.states.get_mut(&id);
        // A setting that is over answers nobody: its requests see that nothing comes.
        let Some(state) = state.filter(|state| is_known(state)) else {
            return;
        };
        let now = Instant::now();
        match about {
            About::Keys => {
                if state.wants_keys(answer, now) {
                    self.fetch(id, issuer);
                }
            }
            About::Token(token) => {
                if state.wants_word(&token, answer, now) {
                    self.introspect(id, issuer, token);
                }
            }
        }
    }

    fn introspect(&self, id: Name, issuer: Arc<Issuer>, token: Presented) {
        let (done, tls, secrets) = (self.done.clone(), Rc::clone(&self.tls), self.secrets);
        tokio::task::spawn_local(async move {
            let means = Means {
                secrets,
                tls: &tls,
                now_ms: now_ms(),
            };
            let word = ask::introspect(&issuer, &token, &means).await;
            drop(done.send(Done::Token(id, issuer, token, word)));
        });
    }

    fn take(&mut self, done: Done) {
        let (Done::Keys(id, issuer, _) | Done::Token(id, issuer, ..)) = &done;
        let state = self.states.get_mut(id);
        let Some(state) = state.filter(|state| Arc::ptr_eq(&state.issuer, issuer)) else {
            return;
        };
        let now = Instant::now();
        match done {
            Done::Keys(id, issuer, Ok(keys)) => {
                let ring = keys.map(|keys| Arc::new(Ring { issuer, keys }));
                if state.has_keys(ring, now) {
                    telemetry::issuer_back(id.as_str());
                }
                self.publish();
                if let Some(mut complaint) = self.complaints.remove(&id) {
                    complaint.mend(&self.outbox);
                }
                if let Some(state) = self.states.get_mut(&id) {
                    state.tell_waiting(&Answer::Looked);
                }
            }
            Done::Keys(id, issuer, Err(why)) => {
                telemetry::issuer_away(id.as_str(), &why);
                state.has_no_keys(now);
                state.tell_waiting(&Answer::Looked);
                // Keys from before go on working while their issuer is away.
                if state.ring.is_none() || !issuer.proof.is_remote() {
                    self.complain(id, &issuer, why, now);
                }
            }
            Done::Token(id, issuer, token, Ok(claims)) => {
                let grant = claims.and_then(|claims| {
                    claims::grant(&claims, &id, &issuer, seconds(SystemTime::now())).ok()
                });
                state.has_word(&token, grant, (now, seconds(SystemTime::now())));
            }
            Done::Token(id, _, token, Err(why)) => {
                telemetry::issuer_away(id.as_str(), &why);
                state.has_no_word(&token);
            }
        }
    }

    /// Says in `smartlink:errors` why nobody is let in by this issuer's word.
    fn complain(&mut self, id: Name, issuer: &Issuer, why: String, now: Instant) {
        let error = ConfigError {
            key: self.keys.object(&Object::Issuer(id.clone())),
            field: Some(issuer.proof.field().to_owned()),
            message: why,
        };
        let complaint = self.complaints.entry(id).or_default();
        complaint.name(&self.outbox, error, now);
    }
}

fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
