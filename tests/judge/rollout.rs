//! One simulated rollout: traffic at a steady rate, of which a pilot decides by the rules of the
//! product, with the default policy.

use std::collections::BTreeSet;

use smartlink::judge::trial::{Trial, Unit};
use smartlink::model::decode::Fields;
use smartlink::model::rollout::{self, Rollout as Policy};
use smartlink::model::weights::Weights;
use smartlink::policy::rollout::{Copies, Counters, Evidence, Memory, Scene, Slow, State};
use smartlink::policy::rollout::{decide, shares};

use crate::chance::Chance;

const RATIO: f64 = 1.19;
/// The parts of `base` that are over the three bounds, and their places in a normal distribution.
const OVER: [(f64, f64); 3] = [(0.5, 0.0), (0.1, 1.281_552), (0.01, 2.326_348)];
/// Latency is lognormal with this spread.
const SIGMA: f64 = 0.5;
/// How long the candidate keeps its share after the verdict.
const REACTION_SECONDS: f64 = 2.0;
/// The most records a second that are compared in shadow.
const SHADOW_RATE: f64 = 20.0;
/// The pilot looks at least each second. To save time it looks here whenever the candidate failed,
/// and else after so many requests: good ones prove no failures, and slowness a little later.
const LOOK_REQUESTS: u64 = 20;
/// The most decisions at one look.
const AT_ONCE: usize = 8;

/// Two versions under traffic.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// Requests per second.
    pub(crate) rate: f64,
    /// The part of requests that `base` fails.
    pub(crate) base_fails: f64,
    /// The part of copies that the candidate fails.
    pub(crate) shadow_fails: f64,
    /// The part of users' requests that the candidate fails.
    pub(crate) live_fails: f64,
    /// How many times slower the candidate is.
    pub(crate) slower: f64,
}

/// How a rollout ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Promoted,
    StoppedInShadow,
    RolledBack,
    Paused,
}

/// What a rollout came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rollout {
    pub(crate) end: End,
    pub(crate) seconds: f64,
    /// Users' requests that the candidate served, and those it failed.
    pub(crate) candidate: u64,
    pub(crate) failed: u64,
}

impl Rollout {
    /// Plays one rollout.
    pub(crate) fn play(case: &Case, seed: u64) -> Self {
        let mut world = World::new(case, seed);
        let end = loop {
            world.wait();
            world.look();
            if let Some(end) = world.end() {
                break end;
            }
        };
        Self {
            end,
            seconds: world.seconds,
            candidate: world.candidate,
            failed: world.failed,
        }
    }
}

/// Everything a pilot sees, and a clock.
struct World<'c> {
    case: &'c Case,
    chance: Chance,
    policy: Policy,
    build: BTreeSet<String>,
    slow: Slow,
    /// The part of the candidate's requests over each bound, of those over the bound before.
    over: [f64; 3],
    memory: Option<Memory>,
    weights: Weights,
    counters: Counters,
    seconds: f64,
    /// Since when the weights are what they are, and the requests of all and of the candidate that
    /// came then.
    since: f64,
    all: u64,
    served: u64,
    /// How many copies were compared.
    pairs: u64,
    candidate: u64,
    failed: u64,
}

impl<'c> World<'c> {
    fn new(case: &'c Case, seed: u64) -> Self {
        let above = |place: f64| 1.0 - normal((RATIO / case.slower).ln() / SIGMA + place);
        let [over_50, over_90, over_99] = OVER.map(|(_, place)| above(place));
        Self {
            case,
            chance: Chance::new(seed),
            policy: rollout::decode("", &Fields::new()).0.expect("defaults"),
            build: ["http://candidate/".to_owned()].into(),
            slow: Slow {
                at_us: [1; 3],
                candidate_at_us: [1; 3],
                share: OVER.map(|(share, _)| share),
            },
            over: [over_50, over_90 / over_50, over_99 / over_90],
            memory: None,
            weights: Weights::new(),
            counters: Counters::default(),
            seconds: 0.0,
            since: 0.0,
            all: 0,
            served: 0,
            pairs: 0,
            candidate: 0,
            failed: 0,
        }
    }

    fn share(&self) -> u16 {
        shares::share(&self.weights, &self.policy.candidate).expect("base or the candidate")
    }

    /// Lets time pass until the pilot looks.
    fn wait(&mut self) {
        let tick = (1.0 / self.case.rate).max(1.0);
        let mut requests = 0;
        loop {
            self.seconds += tick;
            let (more, failed) = self.traffic();
            requests += more;
            if failed || requests >= LOOK_REQUESTS {
                return;
            }
        }
    }

    /// Requests since the last tick, as gateways and workers count them: how many, and whether the
    /// candidate failed any, or a copy.
    fn traffic(&mut self) -> (u64, bool) {
        let share = self.share();
        // Shares are exact, so counts are those of the time passed.
        let due = ((self.seconds - self.since) * self.case.rate).round();
        let candidate = (due * f64::from(share) / 1000.0).round() as u64 - self.served;
        let all = due as u64 - self.all;
        (self.served, self.all) = (self.served + candidate, self.all + all);
        let failed = self.live(share, candidate, all - candidate);
        let pairs = (self.seconds * self.case.rate.min(SHADOW_RATE)).round() as u64 - self.pairs;
        self.pairs += pairs;
        (all, self.copies(pairs) || failed)
    }

    fn live(&mut self, share: u16, candidate: u64, base: u64) -> bool {
        let (case, chance) = (self.case, &mut self.chance);
        let bad = chance.of(candidate, case.live_fails);
        let arms = self.counters.trial.shares.entry(share).or_default();
        arms.candidate.requests += candidate;
        arms.candidate.bad += bad;
        arms.base.requests += base;
        arms.base.bad += chance.of(base, case.base_fails);
        let (mut over, mut base_over) = (candidate, base);
        for (at, base_part) in [0.5, 0.2, 0.1].into_iter().enumerate() {
            over = chance.of(over, self.over[at]);
            base_over = chance.of(base_over, base_part);
            arms.candidate.over[at] += over;
            arms.base.over[at] += base_over;
        }
        self.candidate += candidate;
        self.failed += bad;
        bad > 0
    }

    fn copies(&mut self, pairs: u64) -> bool {
        let (case, chance) = (self.case, &mut self.chance);
        let base_bad = chance.of(pairs, case.base_fails);
        let both_bad = chance.of(base_bad, case.shadow_fails);
        let candidate_bad_only = chance.of(pairs - base_bad, case.shadow_fails);
        let shadow = &mut self.counters.shadow;
        shadow.candidate_bad_only += candidate_bad_only;
        shadow.base_bad_only += base_bad - both_bad;
        shadow.other += pairs - candidate_bad_only - (base_bad - both_bad);
        candidate_bad_only > 0
    }

    /// As many decisions as come.
    fn look(&mut self) {
        for _ in 0..AT_ONCE {
            let scene = Scene {
                now_ms: (self.seconds * 1000.0) as u64,
                policy: &self.policy,
                order: "",
                weights: &self.weights,
                unread: None,
                build: &self.build,
                is_up: true,
                has_base: true,
                counters: &self.counters,
                unit: Unit::Request,
                copies: &Copies::Compared,
                in_force: true,
                slow: Some(self.slow),
            };
            let none = Memory::default();
            let known = self.memory.as_ref().unwrap_or(&none);
            let evidence = Evidence::weigh(&self.policy, known, Unit::Request, &self.counters);
            let Some(decision) = decide(&scene, self.memory.as_ref(), &evidence) else {
                return;
            };
            let trial = decision.memory.trial;
            if trial != self.counters.number {
                self.counters.number = trial;
                self.counters.trial = Trial::default();
            }
            if decision.memory.state == State::RolledBack {
                self.go_on();
            }
            if let Some(weights) = decision.weights {
                self.weights = weights;
                (self.since, self.all, self.served) = (self.seconds, 0, 0);
            }
            self.memory = Some(decision.memory);
        }
        panic!("decisions without end: {:?}", self.memory);
    }

    /// What the candidate serves until its weight is gone.
    fn go_on(&mut self) {
        let share = f64::from(self.share()) / 1000.0;
        let more = (REACTION_SECONDS * self.case.rate * share).round() as u64;
        self.candidate += more;
        self.failed += self.chance.of(more, self.case.live_fails);
    }

    fn end(&self) -> Option<End> {
        let memory = self.memory.as_ref()?;
        match memory.state {
            State::RolledBack if self.candidate == 0 => Some(End::StoppedInShadow),
            State::RolledBack => Some(End::RolledBack),
            State::Paused => Some(End::Paused),
            // It has everything; what follows is the bake.
            _ if memory.share == 1000 => Some(End::Promoted),
            _ => None,
        }
    }
}

/// The normal distribution function (Abramowitz and Stegun 7.1.26, exact to 1e-7).
fn normal(x: f64) -> f64 {
    let z = x.abs() / 2_f64.sqrt();
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let terms = [
        0.254_829_592,
        -0.284_496_736,
        1.421_413_741,
        -1.453_152_027,
        1.061_405_429,
    ];
    let series = terms.iter().rev().fold(0.0, |sum, term| (sum + term) * t);
    let rest = series * (-z * z).exp() / 2.0;
    if x < 0.0 { rest } else { 1.0 - rest }
}
