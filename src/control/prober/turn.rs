//! The turns of an endpoint's state: what follows from each, and who is told.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::roster::{Id, Seat};
use super::{Work, millis, serves, unix_ms};
use crate::model::live::{Health, State};
use crate::model::table::Service;
use crate::policy::health::{self, Pool};
use crate::telemetry;

impl Work {
    /// An endpoint was taken down by a request, or before we knew it: it is probed from now on.
    pub(super) fn notice(&mut self, seat: &Seat, why: &str) {
        let id = Id::of(&seat.endpoint);
        let now = seat.endpoint.live.condition.health();
        if now.state != State::Down || self.roster.was_told(id, now) {
            return;
        }
        self.roster.watch(id, seat.clone());
        self.turned(id, seat, now, why);
    }

    /// An endpoint failed too often in a row: it is ejected, if its pool allows.
    pub(super) fn suspect(&mut self, seat: &Seat, why: &str) {
        let settings = &seat.service.settings;
        let condition = &seat.endpoint.live.condition;
        let (seen, now) = (condition.health(), self.now_ms());
        let failures = condition.failures.load(Ordering::Relaxed);
        let guilty = settings.eject_5xx.is_some_and(|limit| failures >= limit);
        if seen.state != State::Up
            || !guilty
            || !serves(&seat.endpoint.spec)
            || !health::may_eject(Pool::of(&seat.version), settings.max_ejected)
        {
            return;
        }
        let before = condition.ejections.load(Ordering::Relaxed);
        let up_for = Duration::from_millis(now.saturating_sub(seen.since_ms));
        let repeats = health::repeats(before, up_for, settings.eject_time);
        condition.ejections.store(repeats, Ordering::Relaxed);
        let length = health::length(settings.eject_time, repeats);
        let why = format!("{failures} failures in a row, the last: {why}; for {length:?}");
        self.roster.watch(Id::of(&seat.endpoint), seat.clone());
        self.turn(seat, State::Ejected, &why);
    }

    /// How long an ejected endpoint has to wait.
    pub(super) fn ejection_left(&self, seat: &Seat) -> Duration {
        let condition = &seat.endpoint.live.condition;
        let repeats = condition.ejections.load(Ordering::Relaxed);
        let length = health::length(seat.service.settings.eject_time, repeats);
        let end = condition.health().since_ms + millis(length);
        Duration::from_millis(end.saturating_sub(self.now_ms()))
    }

    /// Where nobody of a version is up, those that are ejected come back at once: a bad answer is
    /// better than none.
    pub(super) fn relieve(&mut self, service: &Arc<Service>) {
        for version in &service.versions {
            let pool = Pool::of(version);
            if pool.up > 0 || pool.ejected == 0 {
                continue;
            }
            for endpoint in &version.endpoints {
                let seat = Seat::new(service, version, endpoint);
                if seat.state() == State::Ejected {
                    self.turn(&seat, State::Up, "nobody else of its version is up");
                }
            }
        }
    }

    /// Requests find this endpoint new: what it was before is no measure for what it can take now.
    pub(super) fn begins_anew(&self, seat: &Seat) {
        let condition = &seat.endpoint.live.condition;
        let seen = condition.health();
        if seen.state == State::Up {
            let since_ms = self.now_ms();
            // Whoever is faster takes it down.
            condition.turn(seen, Health { since_ms, ..seen });
        }
    }

    /// Turns the state of an endpoint that is watched.
    pub(super) fn turn(&mut self, seat: &Seat, to: State, why: &str) {
        let id = Id::of(&seat.endpoint);
        let condition = &seat.endpoint.live.condition;
        let seen = condition.health();
        let next = Health {
            state: to,
            since_ms: self.now_ms(),
        };
        if to == State::Up {
            // Before it is up, so that no request counts on what was.
            let ejections = match seen.state {
                State::Ejected => condition.ejections.load(Ordering::Relaxed),
                State::Up | State::Down => 0,
            };
            let row = health::probation(seat.service.settings.eject_5xx, ejections);
            condition.connect_errors.store(0, Ordering::Relaxed);
            condition.failures.store(row, Ordering::Relaxed);
        }
        if condition.turn(seen, next) {
            self.turned(id, seat, next, why);
        } else {
            // A request was faster, and reports it.
            self.schedule(id, seat);
        }
    }

    /// Tells everybody of a turn, and sees to what is next.
    fn turned(&mut self, id: Id, seat: &Seat, now: Health, why: &str) {
        self.roster.told(id, now);
        self.schedule(id, seat);
        if now.state == State::Ejected {
            let ejected = &seat.endpoint.live.condition.ejected;
            ejected.fetch_add(1, Ordering::Relaxed);
        }
        self.tell(seat, now.state, why);
        self.prober.board.turned(id, &seat.service.name, why);
        self.relieve(&seat.service);
        seat.endpoint.group.changed.notify_waiters();
    }

    fn tell(&self, seat: &Seat, state: State, why: &str) {
        let (service, version) = (seat.service.name.as_str(), seat.version.name.as_str());
        let url = &*seat.endpoint.spec.url;
        let kind = match state {
            State::Up => {
                telemetry::endpoint_up(service, version, url, why);
                "endpoint_up"
            }
            State::Down => {
                telemetry::endpoint_down(service, version, url, why);
                "endpoint_down"
            }
            State::Ejected => {
                telemetry::endpoint_ejected(service, version, url, why);
                "endpoint_ejected"
            }
        };
        self.prober.outbox.note(vec![
            ("at_ms", unix_ms().to_string()),
            ("kind", kind.to_owned()),
            ("service", service.to_owned()),
            ("version", version.to_owned()),
            ("endpoint", url.to_owned()),
            ("gateway", self.prober.options.instance.clone()),
            ("why", why.to_owned()),
            ("revision", self.seen.revision.to_string()),
        ]);
    }
}
