//! The pilot: walks rollouts step by step. It reads, lets `policy::rollout` decide, and writes the
//! decision by one script, which refuses it where anything came in between.
//!
//! Several pilots may run: each rollout is led by whoever holds its lease. What is remembered stands
//! in Redis, so that another one goes on where this one stopped.
//!
//! Invariant: a pilot that is gone, or cannot reach Redis, changes nothing: weights are data.

mod bounds;
mod desk;
mod said;

use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::chain;
use crate::model::name::{Name, ServiceName};
use crate::policy::rollout::{Decision, Evidence, Memory, audit, decide, shares};
use crate::store::{Error, Move, Moved, Options as StoreOptions, Rollouts, Scan, Weigh};
use crate::telemetry;

use desk::{Desk, Facts};

/// How often a rollout is looked at whose counts change.
pub const TICK: Duration = Duration::from_millis(250);
/// How often a rollout is looked at whose counts stand still.
const CALM: Duration = Duration::from_secs(1);
/// How often the lease is renewed.
const RENEW: Duration = Duration::from_secs(1);
/// How often services with a rollout are looked for.
const LOOK: Duration = Duration::from_secs(2);
/// How often the line of evidence is written at most.
const TELL: Duration = Duration::from_secs(1);
/// The most decisions at one look: a chain is short, a loop is a mistake of ours.
const AT_ONCE: usize = 8;
/// The most rollouts of one pilot.
const ROLLOUTS_MAX: usize = 1_000;

/// What a pilot needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Redis with the configuration.
    pub config: StoreOptions,
    /// Redis with the counts.
    pub stats: StoreOptions,
    /// Redis with the results of comparisons.
    pub shadow: StoreOptions,
    /// Which services; empty: all that have a rollout.
    pub services: Vec<ServiceName>,
    /// How often a rollout is looked at whose counts change.
    pub tick: Duration,
}

/// Walks rollouts.
#[derive(Debug)]
pub struct Pilot {
    rollouts: Rollouts,
    desk: Desk,
    options: Options,
    /// Who we are: new at each start.
    token: String,
    seats: BTreeMap<ServiceName, Seat>,
    looked: Option<Instant>,
    lost: bool,
    /// The same where only counts or results cannot be read.
    purblind: bool,
}

/// What this pilot knows of one rollout beside what stands in Redis.
#[derive(Debug, Default)]
struct Seat {
    desk: desk::Standing,
    /// When the lease was last renewed.
    leads: Option<Instant>,
    asked: Option<Instant>,
    looked: Option<Instant>,
    /// Whether the counts changed between the last two looks.
    lively: bool,
    told: Option<(Instant, String)>,
}

impl Pilot {
    /// A pilot that begins to connect. Needs a runtime.
    pub fn new(options: Options) -> Result<Self, Error> {
        let random = RandomState::new().build_hasher().finish();
        let (rollouts, desk) = (Rollouts::connect(&options.config)?, Desk::new(&options)?);
        let named = options.services.iter().cloned();
        let seats = named.map(|service| (service, Seat::default())).collect();
        Ok(Self {
            rollouts,
            desk,
            token: format!("{} {random:016x}", options.config.instance),
            options,
            seats,
            looked: None,
            lost: false,
            purblind: false,
        })
    }

    /// Waits a few seconds at most until commands can be sent.
    pub async fn wait(&self) -> Result<(), Error> {
        self.desk.wait().await?;
        self.rollouts.wait().await
    }

    /// Walks until `stop` ends, then gives its leases back.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut turns = interval(self.options.tick);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = turns.tick() => {}
            }
            // Every wait in it is bounded, and the first that is in vain ends it.
            self.turn().await;
        }
        for (service, seat) in &self.seats {
            if seat.leads.is_some() {
                // Otherwise it goes by itself a few seconds later.
                drop(self.rollouts.leave(service, &self.token).await);
            }
        }
        drop(self.rollouts.close().await);
    }

    /// One look at each rollout that is due.
    async fn turn(&mut self) {
        let (mut failed, mut away) = (self.look().await.err(), None);
        let mut seats = std::mem::take(&mut self.seats);
        for (service, seat) in &mut seats {
            // What one rollout is refused may be right for the next.
            if failed.as_ref().is_none_or(|error| !is_away(error)) {
                match self.visit(service, seat).await {
                    Ok(missed) => away = missed.or(away),
                    Err(error) => failed = Some(error),
                }
            }
        }
        self.seats = seats;
        let was_lost = std::mem::replace(&mut self.lost, failed.is_some());
        if let Some(error) = failed.filter(|_| !was_lost) {
            telemetry::pilot_blind(&chain(&error));
        }
        let was_purblind = std::mem::replace(&mut self.purblind, away.is_some());
        if let Some(error) = away.filter(|_| !was_purblind) {
            telemetry::pilot_purblind(&chain(&error));
        }
    }

    /// Looks for services with a rollout.
    async fn look(&mut self) -> Result<(), Error> {
        if !self.options.services.is_empty() || self.looked.is_some_and(|at| at.elapsed() < LOOK) {
            return Ok(());
        }
        let (mut scan, mut found) = (Scan::default(), Vec::new());
        loop {
            found.extend(self.desk.view().keys_like(&mut scan, "rollout:*").await?);
            if scan.is_at_start() {
                break;
            }
        }
        self.looked = Some(Instant::now());
        for key in found {
            let name = key.rsplit_once(':').and_then(|(_, name)| Name::parse(name));
            if let Some(service) = name.filter(|_| self.seats.len() < ROLLOUTS_MAX) {
                self.seats.entry(service).or_default();
            }
        }
        Ok(())
    }

    /// Looks at one rollout, where it is due and ours; why not all could be read.
    async fn visit(&self, service: &ServiceName, seat: &mut Seat) -> Result<Option<Error>, Error> {
        let every = if seat.lively { Duration::ZERO } else { CALM };
        if seat.looked.is_some_and(|at| at.elapsed() < every) {
            return Ok(None);
        }
        if seat.asked.is_none_or(|at| at.elapsed() >= RENEW) {
            seat.leads = None;
            seat.asked = Some(Instant::now());
            if self.rollouts.lead(service, &self.token).await? {
                seat.leads = Some(Instant::now());
            }
        }
        seat.looked = Some(Instant::now());
        if seat.leads.is_none() {
            seat.lively = false;
            return Ok(None);
        }
        let (mut lively, mut away) = (false, None);
        for _ in 0..AT_ONCE {
            let Some(mut facts) = self.desk.read(service, &mut seat.desk).await? else {
                seat.lively = false;
                return Ok(None);
            };
            lively |= facts.changed();
            away = facts.take_away();
            let scene = facts.scene();
            let evidence = facts.evidence();
            let decision = decide(&scene, facts.memory.as_ref(), &evidence);
            let Some(decision) = decision.filter(|it| facts.allow(it)) else {
                self.tell(service, seat, &facts, &evidence).await?;
                break;
            };
            lively = true;
            let moved = self.write(service, &facts, &decision, &evidence).await?;
            if moved == Moved::Lease {
                seat.leads = None;
                break;
            }
            if moved == Moved::Done {
                seat.told = Some((Instant::now(), evidence.line()));
            }
        }
        seat.lively = lively;
        Ok(away)
    }

    /// Writes a decision.
    async fn write(
        &self,
        service: &ServiceName,
        facts: &Facts,
        decision: &Decision,
        evidence: &Evidence,
    ) -> Result<Moved, Error> {
        let scene = facts.scene();
        let before = facts.memory.as_ref();
        let turn = facts.turn;
        let memory = Memory {
            turn: turn.unwrap_or_default() + 1,
            ..decision.memory.clone()
        };
        let mut fields = memory.to_fields();
        fields.push(("evidence", evidence.line()));
        fields.push(("leader", self.options.config.instance.clone()));
        let leader = &self.options.config.instance;
        let (mut entry, mut event) = (Vec::new(), Vec::new());
        if decision.told {
            entry = audit::entry(&scene, before, decision, evidence, leader);
            event = vec![
                ("at_ms", scene.now_ms.to_string()),
                ("kind", "rollout".to_owned()),
                ("service", service.to_string()),
                ("version", scene.policy.candidate.to_string()),
                ("gateway", leader.clone()),
                ("why", format!("{}: {}", memory.state.name(), memory.reason)),
            ];
        }
        let weigh = match &decision.weights {
            None => Weigh::Keep,
            Some(weights) if decision.force => Weigh::Force(weights.clone()),
            Some(weights) => Weigh::Own(weights.clone(), shares::text(scene.weights)),
        };
        let decided = Move {
            token: self.token.clone(),
            turn,
            order: facts.order_text.clone(),
            weigh,
            promoted: decision.promote.then(|| scene.policy.candidate.clone()),
            fields,
            audit: entry,
            event,
        };
        let moved = self.rollouts.write(service, &decided).await?;
        if moved == Moved::Done && decision.told {
            let (state, why) = (memory.state.name(), memory.reason.as_str());
            telemetry::rollout(service.as_str(), state, &shares::percent(memory.share), why);
        }
        Ok(moved)
    }

    /// Writes the line of evidence, now and then.
    async fn tell(
        &self,
        service: &ServiceName,
        seat: &mut Seat,
        facts: &Facts,
        evidence: &Evidence,
    ) -> Result<(), Error> {
        let line = evidence.line();
        let is_new =
            (seat.told.as_ref()).is_none_or(|(at, told)| at.elapsed() >= TELL && *told != line);
        if !is_new || facts.memory.is_none() {
            return Ok(());
        }
        let decided = Move {
            token: self.token.clone(),
            turn: facts.turn,
            order: facts.order_text.clone(),
            weigh: Weigh::Keep,
            promoted: None,
            fields: vec![
                ("evidence", line.clone()),
                ("leader", self.options.config.instance.clone()),
            ],
            audit: Vec::new(),
            event: Vec::new(),
        };
        self.rollouts.write(service, &decided).await?;
        seat.told = Some((Instant::now(), line));
        Ok(())
    }
}

/// Whether Redis cannot be reached at all.
fn is_away(error: &Error) -> bool {
    matches!(
        error,
        Error::Away | Error::Unreachable(_) | Error::Step { refused: false, .. }
    )
}
