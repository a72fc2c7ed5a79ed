//! One simulated rollout: a pilot with the default policy, traffic at a steady rate.

use smartlink::judge::betting::{Bet, PAIR, Wealth, live};
use smartlink::judge::trial::{ln_needed, part};

use crate::chance::Chance;

/// The chance of a false rollback, over the whole rollout.
const ALPHA: f64 = 0.01;
/// The chance that something worse by the margin is promoted.
const UNPROVEN: f64 = 0.05;
const TOLERANCE: f64 = 0.001;
const MARGIN: f64 = 0.01;
const RATIO: f64 = 1.19;
/// The parts of `base` that are over the three bounds, and their places in a normal distribution.
const OVER: [(f64, f64); 3] = [(0.5, 0.0), (0.1, 1.281_552), (0.01, 2.326_348)];
/// Latency is lognormal with this spread.
const SIGMA: f64 = 0.5;
const STEPS: [f64; 4] = [0.01, 0.05, 0.25, 0.5];
const STEP_SECONDS: f64 = 60.0;
const STEP_REQUESTS: u64 = 100;
/// How long the candidate keeps its share after the verdict.
const REACTION_SECONDS: f64 = 2.0;
/// After so long in one step a rollout pauses.
const HOLD_SECONDS: f64 = 86_400.0;
/// The most records a second that are compared in shadow.
const SHADOW_RATE: f64 = 20.0;

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
        let mut chance = Chance::new(seed);
        let mut rollout = Self {
            end: End::Promoted,
            seconds: 0.0,
            candidate: 0,
            failed: 0,
        };
        rollout.end = rollout.shadow(case, &mut chance);
        if rollout.end == End::Promoted {
            rollout.end = rollout.steps(case, &mut chance);
        }
        rollout
    }

    /// Copies, compared pair by pair until safety or harm is proven.
    fn shadow(&mut self, case: &Case, chance: &mut Chance) -> End {
        let (harm, safety) = (Bet::harm(&PAIR, TOLERANCE), Bet::safety(&PAIR, MARGIN));
        let mut wealth = (harm.start(), safety.start());
        let mut pairs = 0.0;
        loop {
            let bad = (
                chance.of(1, case.base_fails),
                chance.of(1, case.shadow_fails),
            );
            let counts = match bad {
                (0, 1) => [1, 0, 0],
                (1, 0) => [0, 1, 0],
                _ => [0, 0, 1],
            };
            pairs += 1.0;
            self.seconds = pairs / case.rate.min(SHADOW_RATE);
            wealth = (
                harm.after(wealth.0, &counts),
                safety.after(wealth.1, &counts),
            );
            if wealth.0.ln_e() >= ln_needed(ALPHA * part::SHADOW_ERRORS) {
                return End::StoppedInShadow;
            }
            if wealth.1.ln_e() >= ln_needed(UNPROVEN) {
                return End::Promoted;
            }
            if pairs > 400_000.0 {
                return End::Paused;
            }
        }
    }

    fn steps(&mut self, case: &Case, chance: &mut Chance) -> End {
        let mut evidence = None;
        for share in STEPS {
            // Where a step would take more than an hour it is passed over.
            let slow = STEP_REQUESTS as f64 / (case.rate * share) > 3600.0;
            if slow && share < 0.25 {
                continue;
            }
            let end = Step::new(case, share).play(self, &mut evidence, chance);
            if end != End::Promoted {
                return end;
            }
        }
        End::Promoted
    }
}

/// What is known of live traffic: evidence of errors, of slowness, of safety.
type Evidence = (Wealth, [Wealth; 3], Wealth);

/// Traffic under one share.
struct Step<'c> {
    case: &'c Case,
    share: f64,
    harm: Bet,
    slow: [Bet; 3],
    safety: Bet,
    /// The part of the candidate's requests over each bound, of those over the bound before.
    over: [f64; 3],
}

impl<'c> Step<'c> {
    fn new(case: &'c Case, share: f64) -> Self {
        let above = |place: f64| 1.0 - normal((RATIO / case.slower).ln() / SIGMA + place);
        let over = OVER.map(|(_, place)| above(place));
        Self {
            case,
            share,
            harm: Bet::harm(&live(share, 0.0), TOLERANCE),
            slow: OVER.map(|(centre, _)| Bet::harm(&live(share, centre), 0.0)),
            safety: Bet::safety(&live(share, 0.0), MARGIN),
            over: [over[0], over[1] / over[0], over[2] / over[1]],
        }
    }

    fn play(
        &self,
        rollout: &mut Rollout,
        evidence: &mut Option<Evidence>,
        chance: &mut Chance,
    ) -> End {
        let mut known = evidence.take().unwrap_or_else(|| {
            let slow = self.slow.each_ref().map(Bet::start);
            (self.harm.start(), slow, self.safety.start())
        });
        let tick = (1.0 / self.case.rate).max(1.0);
        let (mut seconds, mut served, mut all) = (0.0, 0, 0);
        let last = self.share >= 0.5;
        loop {
            seconds += tick;
            rollout.seconds += tick;
            // Shares are exact, so counts are those of the time passed.
            let due = (seconds * self.case.rate).round();
            let candidate = (due * self.share).round() as u64 - served;
            let base = due as u64 - all - candidate;
            (served, all) = (served + candidate, due as u64);
            known = self.see(candidate, base, rollout, known, chance);
            if is_harm(&known) {
                let more = (REACTION_SECONDS * self.case.rate * self.share).round() as u64;
                rollout.candidate += more;
                rollout.failed += chance.of(more, self.case.live_fails);
                return End::RolledBack;
            }
            let enough = seconds >= STEP_SECONDS && served >= STEP_REQUESTS;
            if enough && (!last || known.2.ln_e() >= ln_needed(UNPROVEN)) {
                *evidence = Some(known);
                return End::Promoted;
            }
            if seconds >= HOLD_SECONDS {
                return End::Paused;
            }
        }
    }

    /// What is known after some more requests.
    fn see(
        &self,
        candidate: u64,
        base: u64,
        rollout: &mut Rollout,
        (harm, mut slow, safety): Evidence,
        chance: &mut Chance,
    ) -> Evidence {
        let (bad, base_bad) = (
            chance.of(candidate, self.case.live_fails),
            chance.of(base, self.case.base_fails),
        );
        rollout.candidate += candidate;
        rollout.failed += bad;
        let counts = [bad, candidate - bad, base_bad, base - base_bad];
        let (mut over, mut base_over) = (candidate, base);
        let parts = self.over.into_iter().zip([0.5, 0.2, 0.1]);
        for ((bet, wealth), (part, base_part)) in self.slow.iter().zip(&mut slow).zip(parts) {
            over = chance.of(over, part);
            base_over = chance.of(base_over, base_part);
            let counts = [over, candidate - over, base_over, base - base_over];
            *wealth = bet.after(std::mem::replace(wealth, bet.start()), &counts);
        }
        (
            self.harm.after(harm, &counts),
            slow,
            self.safety.after(safety, &counts),
        )
    }
}

fn is_harm((harm, slow, _): &Evidence) -> bool {
    let late = ln_needed(ALPHA * part::LIVE_LATENCY);
    harm.ln_e() >= ln_needed(ALPHA * part::LIVE_ERRORS)
        || slow.iter().any(|slow| slow.ln_e() >= late)
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
