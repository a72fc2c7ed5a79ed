//! Rollouts in simulated time: what a pilot decides second by second, of whatever happens to the
//! candidate, the weights, and the person in charge.

mod people;
mod walks;

use std::collections::BTreeSet;

use super::*;
use crate::model::decode::Fields;
use crate::model::hash::mix;
use crate::model::name::Name;
use crate::model::rollout;

/// Everything a pilot sees, and a second hand.
struct World {
    now_ms: u64,
    fields: Fields,
    weights: Weights,
    build: BTreeSet<String>,
    is_up: bool,
    copies: Copies,
    counters: Counters,
    /// The pilot's hash, as it would stand in Redis.
    pilot: Option<Fields>,
    chance: u64,
    /// Requests of users in a second, copies compared in a second.
    rate: u64,
    pairs: u64,
    /// The parts of requests that fail, of users and of copies, and that the split loses.
    fails: f64,
    shadow_fails: f64,
    lost: f64,
    /// Told decisions, and what was written about weights.
    told: Vec<(State, String)>,
    audit: Vec<(Fields, Evidence)>,
    written: Vec<String>,
    failed: u64,
    unit: Unit,
    /// What is wrong with the weights hash, and whether something was written over it.
    unread: Option<Unread>,
    forced: bool,
}

impl World {
    fn new(fields: &str) -> Self {
        let fields = fields.split_whitespace().map(|field| {
            let (name, value) = field.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        });
        Self {
            now_ms: 1_700_000_000_000,
            fields: fields.collect(),
            weights: Weights::new(),
            build: ["http://c/".to_owned()].into(),
            is_up: true,
            copies: Copies::Compared,
            counters: Counters::default(),
            pilot: None,
            chance: 7,
            rate: 100,
            pairs: 20,
            fails: 0.0,
            shadow_fails: 0.0,
            lost: 0.0,
            told: Vec::new(),
            audit: Vec::new(),
            written: Vec::new(),
            failed: 0,
            unit: Unit::Request,
            unread: None,
            forced: false,
        }
    }

    fn order(&mut self, state: &str) {
        self.fields.insert("state".to_owned(), state.to_owned());
    }

    fn weigh(&mut self, text: &str) {
        self.weights = shares::parse(text).unwrap();
    }

    fn memory(&self) -> Memory {
        Memory::from_fields(self.pilot.as_ref().unwrap()).unwrap()
    }

    fn state(&self) -> State {
        self.memory().state
    }

    fn share(&self) -> u16 {
        shares::share(&self.weights, &Name::parse("candidate").unwrap()).unwrap_or_default()
    }

    fn happens(&mut self, part: f64) -> bool {
        self.chance = self.chance.wrapping_add(0x9E37_79B9_7F4A_7C15);
        // A number in [0, 1).
        let number = f64::from((mix(self.chance) >> 32) as u32) / 4_294_967_296.0;
        number < part
    }

    /// Traffic of one second, as the gateways would count it.
    fn traffic(&mut self) {
        if let Some(pilot) = &self.pilot {
            let trial = Memory::from_fields(pilot).unwrap().trial;
            if trial != self.counters.number {
                self.counters.number = trial;
                self.counters.trial = crate::judge::trial::Trial::default();
            }
        }
        for _ in 0..self.pairs {
            if self.happens(self.shadow_fails) {
                self.counters.shadow.candidate_bad_only += 1;
            } else {
                self.counters.shadow.other += 1;
            }
        }
        let share = self.share();
        // Shares are exact, as the split's are.
        let second = self.now_ms / 1000;
        let due = |at: u64| at * self.rate * u64::from(share) / 1000;
        let served = due(second) - due(second - 1);
        let (mut bad, mut counted) = (0, 0);
        for _ in 0..served {
            let failed = self.happens(self.fails);
            self.failed += u64::from(failed);
            if !self.happens(self.lost) {
                counted += 1;
                bad += u64::from(failed);
            }
        }
        let base = self.rate - served;
        let arms = self.counters.trial.shares.entry(share).or_default();
        arms.candidate.requests += counted;
        arms.candidate.bad += bad;
        arms.base.requests += base;
    }

    /// One second: traffic, then as many decisions as come.
    fn tick(&mut self) {
        self.now_ms += 1000;
        self.traffic();
        for _ in 0..8 {
            let policy = rollout::decode("", &self.fields).0.unwrap();
            let memory = self.pilot.as_ref().and_then(Memory::from_fields);
            let order = self.fields.get("state").cloned().unwrap_or_default();
            let scene = Scene {
                now_ms: self.now_ms,
                policy: &policy,
                order: &order,
                weights: &self.weights,
                unread: self.unread.as_ref(),
                build: &self.build,
                is_up: self.is_up,
                has_base: true,
                counters: &self.counters,
                unit: self.unit,
                copies: &self.copies,
                in_force: true,
                slow: None,
            };
            let none = Memory::default();
            let known = memory.as_ref().unwrap_or(&none);
            let evidence = Evidence::weigh(&policy, known, self.unit, &self.counters);
            let Some(decision) = decide(&scene, memory.as_ref(), &evidence) else {
                return;
            };
            if decision.told {
                let entry = audit::entry(&scene, memory.as_ref(), &decision, &evidence, "me");
                let entry = entry.into_iter().map(|(f, v)| (f.to_owned(), v)).collect();
                let judged = memory.as_ref().unwrap_or(&decision.memory);
                let again = Evidence::weigh(&policy, judged, self.unit, &self.counters);
                self.audit.push((entry, again));
                let reason = decision.memory.reason.clone();
                self.told.push((decision.memory.state, reason));
            }
            let fields = decision.memory.to_fields().into_iter();
            let fields = fields.filter(|(_, text)| !text.is_empty());
            self.pilot = Some(fields.map(|(f, v)| (f.to_owned(), v)).collect());
            if let Some(weights) = decision.weights {
                self.written.push(shares::text(&weights));
                self.forced |= decision.force;
                self.weights = weights;
                if decision.force {
                    self.unread = None;
                }
            }
            assert!(!decision.promote || self.state() == State::Done);
        }
        panic!("decisions without end: {:?}", self.told);
    }

    fn run(&mut self, seconds: u64) -> &mut Self {
        for _ in 0..seconds {
            self.tick();
        }
        self
    }

    /// Runs until the rollout is over or held, at most so long.
    fn end(&mut self, seconds: u64) -> State {
        for _ in 0..seconds {
            self.tick();
            let state = self.state();
            if state.is_over() || state == State::Paused {
                return state;
            }
        }
        self.state()
    }

    /// Runs until it is over, at most so long.
    fn end_of_pause(&mut self, seconds: u64) -> State {
        for _ in 0..seconds {
            self.tick();
            if self.state().is_over() {
                break;
            }
        }
        self.state()
    }

    fn why(&self) -> String {
        self.memory().reason
    }
}

impl World {
    fn state_or_waiting(&self) -> State {
        self.pilot.as_ref().map_or(State::Waiting, |_| self.state())
    }
}
