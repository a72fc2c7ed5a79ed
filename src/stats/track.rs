//! What this gateway can say of loads: which services are at work, and how their endpoints do.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;

use super::Sum;
use super::live::{EndpointGauge, Gauge, SECONDS};
use crate::model::count::Scalar;
use crate::model::endpoint::Duty;
use crate::model::name::ServiceName;
use crate::model::table::{Endpoint, Service, Table};

/// How much of the moving average a new second takes over.
const EWMA_SHARE: f64 = 0.2;

/// What was seen of services before.
#[derive(Debug, Default)]
pub struct Tracks {
    services: HashMap<ServiceName, Track>,
}

#[derive(Debug, Default)]
struct Track {
    /// Requests that ended so far, and then some.
    turns: u64,
    /// When it was last at work.
    active_s: Option<u64>,
    rejected: Readings<u64>,
    endpoints: HashMap<Box<str>, Past>,
}

/// What is known of one endpoint.
#[derive(Debug, Default)]
struct Past {
    readings: Readings<Reading>,
    ewma_us: Option<f64>,
}

/// Readings of the last seconds, each with its second, oldest first.
#[derive(Debug, Default)]
struct Readings<T>(VecDeque<(u64, T)>);

impl<T: Copy + Default> Readings<T> {
    /// The newest one.
    fn last(&self) -> T {
        self.0.back().map_or_else(T::default, |(_, last)| *last)
    }

    /// Takes in a new one; what the last ten seconds are counted from.
    fn turn(&mut self, now: T, now_s: u64) -> T {
        self.0.push_back((now_s, now));
        // The newest reading that is old enough.
        while self.0.get(1).is_some_and(|(at, _)| at + SECONDS <= now_s) {
            self.0.pop_front();
        }
        match self.0.front() {
            Some((at, base)) if at + SECONDS <= now_s => *base,
            // Known for less than that.
            _ => T::default(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    requests: u64,
    errors: u64,
    took_us: u64,
}

impl Tracks {
    /// Looks at all services; to be called once a second. Returns those that are at work or were
    /// in the last ten seconds, with what is to be said of them.
    pub fn look(&mut self, table: &Table, now_s: u64) -> Vec<(ServiceName, Gauge)> {
        self.services
            .retain(|name, _| table.services.get(name.as_str()).is_some());
        let services = table.services.iter();
        services
            .filter_map(|service| {
                let gauge = self.look_at(service, now_s)?;
                Some((service.name.clone(), gauge))
            })
            .collect()
    }

    fn look_at(&mut self, service: &Service, now_s: u64) -> Option<Gauge> {
        let (turns, inflight) = turns_and_inflight(service);
        if turns == 0 && inflight == 0 {
            return None;
        }
        let track = self.services.entry(service.name.clone()).or_default();
        if turns != track.turns || inflight > 0 {
            track.active_s = Some(now_s);
            track.turns = turns;
        }
        // One more than is looked back: until the last second that counts is told.
        if track.active_s.is_none_or(|at| at + SECONDS + 2 < now_s) {
            return None;
        }
        Some(track.gauge(service, now_s))
    }
}

/// A number that grows with every request, and how many are in flight.
fn turns_and_inflight(service: &Service) -> (u64, u64) {
    let (mut turns, mut inflight) = (0_u64, 0);
    for tally in service.live.counts.iter() {
        turns = turns.wrapping_add(tally.turn());
    }
    for version in &service.versions {
        for tally in version.counts.iter() {
            turns = turns.wrapping_add(tally.turn());
        }
        for endpoint in &version.endpoints {
            inflight += in_flight(endpoint);
        }
    }
    (turns, inflight)
}

/// How many requests were turned away so far.
fn rejected(service: &Service) -> u64 {
    let which = [
        Scalar::RejectedAuth,
        Scalar::RejectedRate,
        Scalar::RejectedBusy,
    ];
    let tallies = service.live.counts.iter().map(|tally| Sum::of(tally));
    tallies
        .map(|sum| which.map(|which| sum.scalar(which)).iter().sum::<u64>())
        .sum()
}

fn in_flight(endpoint: &Endpoint) -> u64 {
    endpoint.live.inflight.load(Ordering::Relaxed).into()
}

impl Track {
    fn gauge(&mut self, service: &Service, now_s: u64) -> Gauge {
        let rejected = rejected(service);
        let before = self.rejected.turn(rejected, now_s);
        let mut gauge = Gauge {
            at_s: now_s,
            rejected: rejected.saturating_sub(before),
            ..Gauge::default()
        };
        for version in &service.versions {
            let inflight = version.endpoints.iter().map(|endpoint| in_flight(endpoint));
            gauge
                .versions
                .insert(version.name.to_string(), inflight.sum());
            for endpoint in &version.endpoints {
                let url = &endpoint.spec.url;
                let past = self.endpoints.entry(url.clone()).or_default();
                let mut said = past.look(endpoint, now_s);
                said.version = version.name.to_string();
                gauge.endpoints.insert(url.to_string(), said);
            }
        }
        self.endpoints
            .retain(|url, _| gauge.endpoints.contains_key(&**url));
        gauge
    }
}

impl Past {
    fn look(&mut self, endpoint: &Endpoint, now_s: u64) -> EndpointGauge {
        let now = Reading::of(endpoint);
        let new = now.since(self.readings.last());
        if new.requests > 0 {
            #[expect(clippy::cast_precision_loss, reason = "an average of a second")]
            let mean_us = new.took_us as f64 / new.requests as f64;
            self.ewma_us = Some(
                self.ewma_us
                    .map_or(mean_us, |ewma| ewma + (mean_us - ewma) * EWMA_SHARE),
            );
        }
        let window = now.since(self.readings.turn(now, now_s));
        EndpointGauge {
            version: String::new(),
            state: state(endpoint).to_owned(),
            inflight: in_flight(endpoint),
            requests: window.requests,
            errors: window.errors,
            ewma_ms: self.ewma_us.map(|us| (us / 10.0).round() / 100.0),
        }
    }
}

impl Reading {
    fn of(endpoint: &Endpoint) -> Self {
        let mut reading = Self::default();
        for cell in endpoint.live.counts.iter() {
            reading.requests += cell.requests.get();
            reading.errors += cell.errors.get();
            reading.took_us += cell.took_us.get();
        }
        reading
    }

    fn since(self, before: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(before.requests),
            errors: self.errors.saturating_sub(before.errors),
            took_us: self.took_us.saturating_sub(before.took_us),
        }
    }
}

fn state(endpoint: &Endpoint) -> &'static str {
    match endpoint.spec.duty {
        Duty::Drain => "drain",
        _ => endpoint.live.condition.health().state.as_str(),
    }
}
