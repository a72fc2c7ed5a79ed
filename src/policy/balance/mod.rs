//! Which endpoint of a version takes this request: one balancer a file.
//!
//! Who may take it is decided here and is the same for all balancers. Invariant: never waits, and
//! allocates nothing for pools of up to `FEW` endpoints.

pub mod hash;
pub mod least_conn;
pub mod least_time;
pub mod random;
pub mod round_robin;
pub mod weighted;

mod turn;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::model::endpoint::Duty;
use crate::model::hash::mix;
use crate::model::live::{Health, State};
use crate::model::settings::{Balance, Effective};
use crate::model::table::{Endpoint, Version};

/// Pools larger than this are not compared endpoint by endpoint by `least_time` and `least_conn`:
/// the better of two drawn by chance is nearly as good (Mitzenmacher 2001, "The power of two
/// choices in randomized load balancing"), and the price does not grow.
const FEW: usize = 16;
/// How often two candidates are drawn from a large pool before it is searched.
const DRAWS: u64 = 8;

/// What a choice depends on, beside the endpoints.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The settings of the service.
    pub settings: &'a Effective,
    /// The time, in microseconds of the clock of `model::live`.
    pub now_us: u64,
    /// The endpoints that were tried for this request, by their `pool`.
    pub tried: &'a [u64],
    /// A random number, new for every choice.
    pub random: u64,
    /// The hash of the request's key, where `balance` is `hash:` and the request has one.
    pub key: Option<u64>,
}

/// What came of a choice.
#[derive(Clone, Copy, Debug)]
pub enum Picked<'v> {
    /// This one.
    Endpoint(&'v Arc<Endpoint>),
    /// Somebody is up, but everybody who is has as many requests as `max_conns` allows.
    Full,
    /// Nobody is up who was not tried.
    Nobody,
}

/// An endpoint that may take the request, and its weight now, above 0.
#[derive(Clone, Copy, Debug)]
struct Candidate<'v> {
    endpoint: &'v Arc<Endpoint>,
    weight: f32,
}

impl Candidate<'_> {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn inflight(&self) -> f32 {
        self.endpoint.live.inflight.load(Ordering::Relaxed) as f32
    }

    /// Requests in flight over the weight.
    fn load(&self) -> f32 {
        self.inflight() / self.weight
    }
}

/// The endpoint for the next attempt, none that was tried before. Backups stand in only when no
/// active endpoint is up; ejected endpoints only when nobody at all is, so that the last one serves
/// even where two threads ejected the last two.
#[must_use]
pub fn pick<'v>(version: &'v Version, ask: &Ask<'_>) -> Picked<'v> {
    let endpoints = version.endpoints.as_slice();
    let Some(first) = endpoints.first() else {
        return Picked::Nobody;
    };
    if endpoints.len() == 1 {
        return pick_only(first, ask);
    }
    if endpoints.len() > FEW {
        return pick_of_many(version, ask);
    }
    let candidate = Candidate {
        endpoint: first,
        weight: 0.0,
    };
    let mut room = [candidate; FEW];
    let mut count = 0;
    let standing = gather(endpoints, ask, |candidate| {
        if let Some(place) = room.get_mut(count) {
            *place = candidate;
            count += 1;
        }
    });
    choose(
        room.get(..count).unwrap_or_default(),
        standing,
        version,
        ask,
    )
}

/// The endpoints among which `pick` would choose now.
#[must_use]
pub fn candidates<'v>(version: &'v Version, ask: &Ask<'_>) -> Vec<&'v Arc<Endpoint>> {
    let mut endpoints = Vec::new();
    gather(&version.endpoints, ask, |candidate| {
        endpoints.push(candidate.endpoint);
    });
    endpoints
}

/// The same where there is nobody to compare with, which goes for most versions.
fn pick_only<'v>(only: &'v Arc<Endpoint>, ask: &Ask<'_>) -> Picked<'v> {
    if rank(only, only.live.condition.health()).is_none() || ask.tried.contains(&only.pool) {
        Picked::Nobody
    } else if has_room(only) {
        Picked::Endpoint(only)
    } else {
        Picked::Full
    }
}

/// The same for a pool too large for the stack.
fn pick_of_many<'v>(version: &'v Version, ask: &Ask<'_>) -> Picked<'v> {
    let by_two = matches!(
        ask.settings.balance,
        Balance::LeastTime | Balance::LeastConn
    );
    if by_two && let Some(two) = draw_two(&version.endpoints, ask) {
        return choose(&two, Standing::Free, version, ask);
    }
    let mut candidates = Vec::with_capacity(version.endpoints.len());
    let standing = gather(&version.endpoints, ask, |candidate| {
        candidates.push(candidate);
    });
    if by_two && candidates.len() > FEW {
        // Few are up, or many are not: two of those that are.
        let two = [0, 1].map(|nth| {
            let random = mix(ask.random.wrapping_add(nth));
            candidates.get(position(random, candidates.len())).copied()
        });
        if let [Some(one), Some(other)] = two {
            return choose(&[one, other], standing, version, ask);
        }
    }
    choose(&candidates, standing, version, ask)
}

fn choose<'v>(
    candidates: &[Candidate<'v>],
    standing: Standing,
    version: &Version,
    ask: &Ask<'_>,
) -> Picked<'v> {
    let picked = match (candidates, &ask.settings.balance) {
        ([only], _) => Some(only.endpoint),
        (_, Balance::LeastTime) => least_time::pick(candidates, version, ask),
        (_, Balance::RoundRobin) => round_robin::pick(candidates, version),
        (_, Balance::Weighted) => weighted::pick(candidates),
        (_, Balance::LeastConn) => least_conn::pick(candidates, version, ask),
        (_, Balance::Random) => random::pick(candidates, ask),
        (_, Balance::Hash(_)) => hash::pick(candidates, ask),
    };
    match (picked, standing) {
        (Some(endpoint), _) => Picked::Endpoint(endpoint),
        (None, Standing::Full) => Picked::Full,
        (None, Standing::Free | Standing::Nobody) => Picked::Nobody,
    }
}

/// How the endpoints of a pool stand that may take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// There are none.
    Nobody,
    /// All are full.
    Full,
    /// Some have room.
    Free,
}

/// Who may take a request: the first of these ranks in which anybody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Active,
    Backup,
    EjectedActive,
    EjectedBackup,
}

fn rank(endpoint: &Endpoint, health: Health) -> Option<Rank> {
    match (endpoint.spec.duty, health.state) {
        _ if endpoint.spec.weight == 0 => None,
        (Duty::Active, State::Up) => Some(Rank::Active),
        (Duty::Backup, State::Up) => Some(Rank::Backup),
        (Duty::Active, State::Ejected) => Some(Rank::EjectedActive),
        (Duty::Backup, State::Ejected) => Some(Rank::EjectedBackup),
        (Duty::Active | Duty::Backup, State::Down) | (Duty::Drain | Duty::Off, _) => None,
    }
}

/// Offers all candidates, in the order of the endpoints.
fn gather<'v>(
    endpoints: &'v [Arc<Endpoint>],
    ask: &Ask<'_>,
    mut offer: impl FnMut(Candidate<'v>),
) -> Standing {
    let (mut best, mut somebody_up) = (None, false);
    for endpoint in endpoints {
        let Some(rank) = rank(endpoint, endpoint.live.condition.health()) else {
            continue;
        };
        somebody_up |= rank <= Rank::Backup;
        if !ask.tried.contains(&endpoint.pool) && best.is_none_or(|best| rank < best) {
            best = Some(rank);
        }
    }
    let Some(best) = best.filter(|best| *best <= Rank::Backup || !somebody_up) else {
        return Standing::Nobody;
    };
    let mut standing = Standing::Full;
    for endpoint in endpoints {
        let health = endpoint.live.condition.health();
        if rank(endpoint, health) == Some(best)
            && !ask.tried.contains(&endpoint.pool)
            && has_room(endpoint)
        {
            standing = Standing::Free;
            offer(Candidate {
                endpoint,
                weight: weight(endpoint, health, ask),
            });
        }
    }
    standing
}

/// Two different endpoints, drawn by chance, if both may take the request.
fn draw_two<'v>(endpoints: &'v [Arc<Endpoint>], ask: &Ask<'_>) -> Option<[Candidate<'v>; 2]> {
    let mut one: Option<Candidate<'v>> = None;
    for nth in 0..DRAWS {
        let random = mix(ask.random.wrapping_add(nth));
        let endpoint = endpoints.get(position(random, endpoints.len()))?;
        let health = endpoint.live.condition.health();
        if rank(endpoint, health) != Some(Rank::Active)
            || ask.tried.contains(&endpoint.pool)
            || !has_room(endpoint)
        {
            continue;
        }
        let candidate = Candidate {
            endpoint,
            weight: weight(endpoint, health, ask),
        };
        match one {
            None => one = Some(candidate),
            Some(one) if !Arc::ptr_eq(one.endpoint, endpoint) => return Some([one, candidate]),
            Some(_) => {}
        }
    }
    None
}

fn has_room(endpoint: &Endpoint) -> bool {
    let inflight = endpoint.live.inflight.load(Ordering::Relaxed);
    endpoint.spec.max_conns.is_none_or(|most| inflight < most)
}

/// The weight now: an endpoint that just came up grows from a tenth of it to all of it.
#[expect(clippy::cast_precision_loss, reason = "weights are a million at most")]
fn weight(endpoint: &Endpoint, health: Health, ask: &Ask<'_>) -> f32 {
    let full = endpoint.spec.weight as f32;
    let (Some(slow_start), true) = (ask.settings.slow_start, health.since_ms > 0) else {
        return full;
    };
    let up =
        Duration::from_micros(ask.now_us).saturating_sub(Duration::from_millis(health.since_ms));
    if up >= slow_start {
        return full;
    }
    full * (0.1 + 0.9 * up.as_secs_f32() / slow_start.as_secs_f32())
}

/// A random number as a part of 1, below 1.
#[expect(clippy::cast_precision_loss, reason = "24 bits fit exactly")]
fn unit(random: u64) -> f32 {
    (random >> 40) as f32 / (1_u32 << 24) as f32
}

/// A random number as a position among so many.
#[expect(clippy::cast_possible_truncation, reason = "less than len")]
fn position(random: u64, len: usize) -> usize {
    ((u128::from(random) * len as u128) >> 64) as usize
}
