//! The endpoint for the next attempt, and a place on it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Journey;
use super::reach::Run;
use crate::model::table::{Service, Version};
use crate::policy::balance::{self, Ask, Picked};
use crate::policy::version;
use crate::proxy::upstream::InFlight;

/// How often a place that somebody else was faster to take is looked for anew before the request
/// counts as late.
const RACES_MAX: u32 = 16;

/// A place on an endpoint.
pub(super) struct Seat {
    pub(super) version: Arc<Version>,
    pub(super) place: InFlight,
    /// When it was taken, in microseconds.
    pub(super) since_us: u64,
}

/// Why there is none.
pub(super) enum Shortage {
    /// All endpoints of this version that are up have as many requests as they may.
    Full(Arc<Version>),
    /// No endpoint is up.
    Nobody,
}

/// Where a request stands among those that want a place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It just came: whoever waits already goes first.
    New,
    /// It waits and was told to look.
    Waiting,
}

impl Journey<'_> {
    /// The version for this request, drawn once.
    pub(super) fn choose<'s>(&self, service: &'s Service) -> Option<&'s Arc<Version>> {
        version::choose(service, self.pinned, self.asked, self.keys.point)
    }

    /// A place in the version, or where none of its endpoints is up, in the next that has one. What
    /// was sent already stays in its version.
    pub(super) fn seat(
        &self,
        service: &Service,
        chosen: &Arc<Version>,
        run: &Run,
        standing: Standing,
    ) -> Result<Seat, Shortage> {
        let here = self.seat_in(service, chosen, run, standing);
        if !matches!(here, Err(Shortage::Nobody)) || !self.spills(service, run) {
            return here;
        }
        let mut shortage = Shortage::Nobody;
        for version in version::spill(service, chosen) {
            match self.seat_in(service, version, run, standing) {
                Ok(seat) => {
                    self.exchange.state.record.goes_elsewhere();
                    return Ok(seat);
                }
                Err(Shortage::Full(full)) if matches!(shortage, Shortage::Nobody) => {
                    shortage = Shortage::Full(full);
                }
                Err(_) => {}
            }
        }
        Err(shortage)
    }

    fn spills(&self, service: &Service, run: &Run) -> bool {
        service.settings.spill && self.pinned.is_none() && !run.sent
    }

    /// Whether no endpoint that the request may go to is up, tried or not.
    pub(super) fn is_down(&self, service: &Service, chosen: &Arc<Version>, run: &Run) -> bool {
        let now_us = self.exchange.worker.now_us();
        let down = |version| matches!(self.pick(service, version, &[], now_us), Picked::Nobody);
        let spills = self.spills(service, run);
        down(chosen) && (!spills || version::spill(service, chosen).all(|other| down(other)))
    }

    fn seat_in(
        &self,
        service: &Service,
        version: &Arc<Version>,
        run: &Run,
        standing: Standing,
    ) -> Result<Seat, Shortage> {
        for _ in 0..RACES_MAX {
            let since_us = self.exchange.worker.now_us();
            let endpoint = match self.pick(service, version, &run.tried, since_us) {
                Picked::Endpoint(endpoint) => endpoint,
                Picked::Full => break,
                Picked::Nobody => return Err(Shortage::Nobody),
            };
            let limited = endpoint.spec.max_conns.is_some();
            let queued = || version.crowd.queued.load(Ordering::Relaxed);
            if limited && standing == Standing::New && queued() > 0 {
                break;
            }
            if let Some(place) = InFlight::take(endpoint, &self.exchange.worker, since_us) {
                return Ok(Seat {
                    version: Arc::clone(version),
                    place,
                    since_us,
                });
            }
        }
        Err(Shortage::Full(Arc::clone(version)))
    }

    /// The balancer's choice among the endpoints that were not tried.
    pub(super) fn pick<'v>(
        &self,
        service: &Service,
        version: &'v Version,
        tried: &[u64],
        now_us: u64,
    ) -> Picked<'v> {
        let ask = Ask {
            settings: &service.settings,
            now_us,
            tried,
            random: self.exchange.worker.random(),
            key: self.keys.balance,
        };
        balance::pick(version, &ask)
    }
}
