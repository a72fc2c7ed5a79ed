//! The endpoint that answers soonest: the default.
//!
//! The cost of an endpoint is its response time (to the head of the answer) times its requests in
//! flight, as in Finagle's and linkerd's `PeakEwma`; see `pick` for what differs and why.

mod average;
mod failing;
mod quote;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use average::Average;
use failing::Failing;
use quote::{Pool, Quote};

use super::{Ask, Candidate, FEW, turn};
use crate::model::live::Live;
use crate::model::table::{Endpoint, Version};

/// Costs this close are the same: what measurements are worth.
const SAME: f32 = 1.6;
/// One of so many choices may go to an endpoint only to learn how it is now.
const TRIALS: u64 = 8;

/// A request goes to the endpoint, which may have to be connected to first. Exactly one of
/// `answered`, `failed` and `abandoned` must follow.
pub fn begin(live: &Live, now_us: u64) {
    let pace = &live.pace;
    if pace.waiting.load(Relaxed) == 0 {
        pace.moved_us.store(now_us, Relaxed);
    }
    pace.waiting.fetch_add(1, Relaxed);
}

/// The head of a good answer came, so long after the request was sent; 0 where that cannot be told,
/// as for an answer that came before the client's body had been sent.
pub fn answered(live: &Live, now_us: u64, elapsed_us: u64) {
    let pace = &live.pace;
    pace.moved_us.store(now_us, Relaxed);
    pace.waiting.fetch_sub(1, Relaxed);
    change(&pace.average, |word| {
        Average::unpack(word).fed(elapsed_us, millis(now_us)).pack()
    });
    if pace.penalty.load(Relaxed) != 0 {
        change(&pace.penalty, |word| {
            Failing::unpack(word).forgiven(millis(now_us)).pack()
        });
    }
}

/// No answer, or a bad one: a connection refused or reset, a timeout, a 5xx. How soon it came says
/// nothing good; how late may say something bad.
pub fn failed(version: &Version, live: &Live, now_us: u64, elapsed_us: u64) {
    let pace = &live.pace;
    pace.waiting.fetch_sub(1, Relaxed);
    at_least(live, now_us, elapsed_us);
    charge(version, live, now_us);
}

/// An answer broke off behind its head, which `answered` was told of.
pub fn broke(version: &Version, live: &Live, now_us: u64) {
    charge(version, live, now_us);
}

fn charge(version: &Version, live: &Live, now_us: u64) {
    // By the others: what a timeout took is no response time.
    let others = version.endpoints.iter().take(FEW);
    let others = others.filter(|endpoint| !std::ptr::eq(Arc::as_ptr(&endpoint.live), live));
    let known = others.filter_map(|endpoint| {
        Average::unpack(endpoint.live.pace.average.load(Relaxed)).known_us()
    });
    let (sum, count) = known.fold((0.0, 0.0), |(sum, count), us| (sum + us, count + 1.0));
    let typical_us = if count > 0.0 { sum / count } else { 0.0 };
    change(&live.pace.penalty, |word| {
        Failing::unpack(word)
            .charged(typical_us, millis(now_us))
            .pack()
    });
}

/// The client left while it waited: the answer would have taken at least so long.
pub fn abandoned(live: &Live, now_us: u64, elapsed_us: u64) {
    live.pace.waiting.fetch_sub(1, Relaxed);
    at_least(live, now_us, elapsed_us);
}

/// The average response time, where there was an answer.
#[must_use]
pub fn average(live: &Live) -> Option<Duration> {
    let known_us = Average::unpack(live.pace.average.load(Relaxed)).known_us();
    known_us.map(|us| Duration::from_secs_f32(us / 1e6))
}

fn at_least(live: &Live, now_us: u64, elapsed_us: u64) {
    change(&live.pace.average, |word| {
        Average::unpack(word)
            .raised(elapsed_us, millis(now_us))
            .pack()
    });
}

/// One try: of two answers in the same instant one is enough to know.
fn change(word: &AtomicU64, next: impl Fn(u64) -> u64) {
    let seen = word.load(Relaxed);
    let next = next(seen);
    if next != seen {
        // Lost to another thread, which knew as much.
        let _lost = word.compare_exchange(seen, next, Relaxed, Relaxed);
    }
}

/// Milliseconds, as stamps hold them: they wrap after 49 days.
#[expect(clippy::cast_possible_truncation, reason = "the wrap is meant")]
fn millis(us: u64) -> u32 {
    (us / 1000) as u32
}

/// The candidate with the smallest cost.
///
/// - The response time of an endpoint is its average (`Average`), or the age of its silence where
///   that is more: requests wait, and nothing has come since. The longest wait is a lower bound of
///   the time those requests will have taken.
/// - An endpoint whose answers fail more often than the pool's (`Failing`) costs more, up to never:
///   so an endpoint that fails fast is no black hole.
/// - An endpoint that is not known yet is as good as the best until one request tries it, then
///   typical until the answer.
/// - Among costs that are the same for all one can know, fewer requests in flight, then the turn
///   by weight; at low load this is what keeps equal endpoints equal.
/// - Now and then an idle endpoint gets a request because nobody knows how it is now, one at a
///   time.
pub(super) fn pick<'v>(
    candidates: &[Candidate<'v>],
    version: &Version,
    ask: &Ask<'_>,
) -> Option<&'v Arc<Endpoint>> {
    if let [only] = candidates {
        return Some(only.endpoint);
    }
    let now_ms = millis(ask.now_us);
    let mut quotes = [Quote::default(); FEW];
    for (quote, candidate) in quotes.iter_mut().zip(candidates) {
        *quote = Quote::of(candidate, ask.now_us, now_ms);
    }
    let quotes = quotes.get_mut(..candidates.len())?;
    let pool = Pool::of(quotes);
    let mut least = f32::INFINITY;
    for quote in &mut *quotes {
        quote.cost = pool.cost(quote);
        least = least.min(quote.cost);
    }
    let limit = least * SAME;
    if ask.random.is_multiple_of(TRIALS)
        && let Some(position) = pool.trial(quotes, limit)
    {
        return Some(candidates.get(position)?.endpoint);
    }
    let load = quotes.iter().filter(|quote| quote.cost <= limit);
    let load = load.map(|quote| quote.load).fold(f32::INFINITY, f32::min);
    let is_best = |position: usize, _: &_| {
        let quote = quotes.get(position);
        quote.is_some_and(|quote| quote.cost <= limit && quote.load <= load)
    };
    let best = turn::among(candidates, is_best, version, ask);
    Some(best?.endpoint)
}
