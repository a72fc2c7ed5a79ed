//! What the candidates of one choice cost: facts of each, and what they mean beside the others.

use std::sync::atomic::Ordering::Relaxed;

use super::SAME;
use super::average::Average;
use super::failing::Failing;
use crate::policy::balance::Candidate;

/// An endpoint that fails in so much larger a part than the others is not chosen.
const SHUNNED: f32 = 0.1;

/// The facts of one candidate at the moment of the choice.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quote {
    /// The average response time in microseconds, where known.
    known_us: Option<f32>,
    is_warm: bool,
    /// How long ago the last answer came, in time constants.
    age: f32,
    /// How long nothing came, in microseconds, where requests wait.
    silence_us: Option<f32>,
    /// Which part of its answers failed lately.
    failing: f32,
    weight: f32,
    /// Requests in flight over its weight.
    pub(super) load: f32,
    /// What one request more costs; filled in by `Pool::cost`.
    pub(super) cost: f32,
}

impl Quote {
    pub(super) fn of(candidate: &Candidate<'_>, now_us: u64, moment_ms: u32) -> Self {
        let live = &candidate.endpoint.live;
        let average = Average::unpack(live.pace.average.load(Relaxed));
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let silence_us = (live.pace.waiting.load(Relaxed) > 0)
            .then(|| now_us.saturating_sub(live.pace.moved_us.load(Relaxed)) as f32);
        let failing = match live.pace.penalty.load(Relaxed) {
            0 => 0.0,
            word => {
                let since_ms = live.condition.health().since_ms;
                Failing::unpack(word).part(since_ms, moment_ms)
            }
        };
        Self {
            known_us: average.known_us(),
            is_warm: average.is_warm(),
            age: average.age(moment_ms),
            silence_us,
            failing,
            weight: candidate.weight,
            load: candidate.load(),
            cost: 0.0,
        }
    }

    /// What it costs more because it fails more than others do; infinite where it is shunned.
    fn distrust(&self, tolerated: f32) -> f32 {
        let excess = (self.failing - tolerated).max(0.0) / SHUNNED;
        if excess < 1.0 {
            1.0 / (1.0 - excess)
        } else {
            f32::INFINITY
        }
    }
}

/// What is true of the candidates together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pool {
    /// The fastest response time; 1 where none is known.
    best_us: f32,
    /// The mean response time; `None` where none is known.
    typical_us: Option<f32>,
    /// The slowest response time; 0 where none is known.
    worst_us: f32,
    /// The part of failures that is nobody's own fault.
    tolerated: f32,
    weight_max: f32,
}

impl Pool {
    pub(super) fn of(quotes: &[Quote]) -> Self {
        let (mut sum, mut count, mut worst_us) = (0.0, 0.0, 0.0_f32);
        let (mut best_us, mut failing, mut weight_max) = (f32::INFINITY, f32::INFINITY, 0.0_f32);
        for quote in quotes {
            if let Some(us) = quote.known_us {
                sum += us;
                count += 1.0;
                worst_us = worst_us.max(us);
                best_us = best_us.min(us.max(quote.silence_us.unwrap_or(0.0)));
            }
            failing = failing.min(quote.failing);
            weight_max = weight_max.max(quote.weight);
        }
        Self {
            best_us: if count > 0.0 { best_us } else { 1.0 },
            typical_us: (count > 0.0).then(|| sum / count),
            worst_us,
            tolerated: 2.0 * failing,
            weight_max,
        }
    }

    /// Response time times requests in flight with this one, over weight.
    ///
    /// An idle endpoint counts as idle whatever its weight; the turn among the idle knows weights.
    pub(super) fn cost(&self, quote: &Quote) -> f32 {
        let requests = quote.load * self.weight_max + 1.0;
        let distrust = quote.distrust(self.tolerated);
        let time_us = if distrust > 1.0 {
            // Its good answers may be as fast as its failures.
            self.time_us(quote).max(self.worst_us)
        } else {
            self.time_us(quote)
        };
        time_us * requests * distrust
    }

    fn time_us(&self, quote: &Quote) -> f32 {
        let Some(typical_us) = self.typical_us else {
            // Nobody answered yet: requests in flight decide.
            return self.best_us;
        };
        match (quote.known_us, quote.silence_us) {
            (Some(us), None) if quote.is_warm => us,
            (Some(us), None) => us.min(self.best_us),
            (None, None) => self.best_us,
            (known, Some(silence)) => known.unwrap_or(typical_us).max(silence),
        }
    }

    /// The endpoint whose last answer is the oldest, among those that cost more than `limit` but
    /// would not if they answered fast now: no request waits there, and the last answer is old.
    pub(super) fn trial(&self, quotes: &[Quote], limit: f32) -> Option<usize> {
        let trials = quotes.iter().enumerate().filter(|(_, quote)| {
            quote.silence_us.is_none()
                && quote.age > 1.0
                && quote.cost > limit
                && quote.distrust(self.tolerated) <= SAME
        });
        trials
            .max_by(|(_, one), (_, other)| one.age.total_cmp(&other.age))
            .map(|(position, _)| position)
    }
}
