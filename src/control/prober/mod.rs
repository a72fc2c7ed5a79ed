//! Watches over the health of all endpoints: brings back those that are down, ejects those that
//! fail, checks those that are to be checked.
//!
//! The data plane takes endpoints down by itself and reports it. Only endpoints that are not up or
//! are checked actively are watched, so that a service which is well costs nothing. Each gateway
//! decides for itself.
//!
//! Invariant: one event for each turn of an endpoint's state.

mod board;
mod probe;
mod publisher;
mod roster;
mod turn;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

pub use board::{Board, Shown};
pub use publisher::Publisher;

use super::outbox::Outbox;
use super::watcher::{Shared, now_ms as unix_ms, seed};
use crate::model::hash::mix;
use crate::model::live::State;
use crate::model::settings::{Effective, HealthCheck};
use crate::model::table::{Service, Table};
use crate::policy::health::{self, Finding, Others, Pool, Probed, Report, serves};
use crate::transport::TlsConfigs;
use probe::Found;
use roster::{Id, Roster, Seat};

/// The most probes in flight: a socket each.
const PROBES_MAX: usize = 256;
/// How often all endpoints are looked at for what nobody reported.
const LOOK: Duration = Duration::from_secs(1);
/// A probe that has not reported this long after its time-out never will.
const LOST: Duration = Duration::from_secs(1);

/// What the prober needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the clock of `model::live` starts.
    pub epoch: Instant,
    /// Our own name.
    pub instance: String,
}

/// Watches over the health of all endpoints.
#[derive(Debug)]
pub struct Prober {
    options: Options,
    table: Arc<ArcSwap<Table>>,
    revision: watch::Receiver<u64>,
    outbox: Outbox,
    board: Board,
    reports: mpsc::Receiver<Report>,
    random: u64,
}

impl Prober {
    /// A prober that has not begun; `reports` come from the data plane.
    #[must_use]
    pub fn new(options: Options, shared: &Shared, reports: mpsc::Receiver<Report>) -> Self {
        Self {
            options,
            table: Arc::clone(&shared.table),
            revision: shared.revision.subscribe(),
            outbox: shared.outbox.clone(),
            board: shared.health.clone(),
            reports,
            random: seed(),
        }
    }

    /// Probes for as long as the process runs. Needs a runtime that takes local tasks.
    pub async fn run(self) {
        let mut work = Work {
            prober: self,
            seen: Arc::default(),
            roster: Roster::default(),
            probes: JoinSet::new(),
            tls: Rc::default(),
        };
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = work.roster.next_due();
            let wake = work.prober.options.epoch + Duration::from_millis(due.unwrap_or(0));
            let may_probe = due.is_some() && work.probes.len() < PROBES_MAX;
            tokio::select! {
                report = work.prober.reports.recv() => match report {
                    Some(report) => work.take(report),
                    // The data plane is gone, and with it whoever asks about health.
                    None => return,
                },
                changed = work.prober.revision.changed() => match changed {
                    Ok(()) => work.sync(),
                    Err(_no_watcher) => return,
                },
                Some(done) = work.probes.join_next() => match done {
                    Ok(done) => work.probed(&done),
                    Err(error) => tracing::error!(%error, "a probe ended in a panic"),
                },
                _ = look.tick() => work.look_around(),
                () = sleep_until(wake), if may_probe => work.begin_due(),
            }
        }
    }
}

/// A prober at work.
struct Work {
    prober: Prober,
    /// The table that the roster agrees with.
    seen: Arc<Table>,
    roster: Roster,
    probes: JoinSet<Done>,
    tls: Rc<TlsConfigs>,
}

/// A probe that ended.
struct Done {
    id: Id,
    /// When it would have been given up: tells it from an earlier probe of the same endpoint.
    lost_at: u64,
    found: Found,
}

impl Work {
    /// Now, in milliseconds of the clock of `model::live`.
    fn now_ms(&self) -> u64 {
        millis(self.prober.options.epoch.elapsed())
    }

    fn random(&mut self) -> u64 {
        self.prober.random = self.prober.random.wrapping_add(1);
        mix(self.prober.random)
    }

    /// Takes note of a new table.
    fn sync(&mut self) {
        let table = self.prober.table.load_full();
        let before = std::mem::replace(&mut self.seen, Arc::clone(&table));
        if Arc::ptr_eq(&before, &table) {
            return;
        }
        for (was, is) in table.services.differing(&before.services) {
            self.service_changed(was, is);
        }
    }

    fn service_changed(&mut self, was: Option<&Arc<Service>>, is: Option<&Arc<Service>>) {
        let mut gone: HashMap<Id, Seat> = was.into_iter().flat_map(Seat::all).collect();
        let served = !gone.is_empty();
        let mut shown = false;
        for (id, seat) in is.into_iter().flat_map(Seat::all) {
            let before = gone.remove(&id);
            let same_duty = before
                .as_ref()
                .is_some_and(|it| it.endpoint.spec.duty == seat.endpoint.spec.duty);
            if served && !same_duty {
                self.begins_anew(&seat);
            }
            shown |= !same_duty;
            let same_rules =
                before.is_some_and(|it| Arc::ptr_eq(&it.service.settings, &seat.service.settings));
            self.consider(id, seat, same_rules);
        }
        for id in gone.keys() {
            self.roster.remove(*id);
            self.prober.board.forget(*id);
        }
        if let Some(service) = is.or(was)
            && (shown || !gone.is_empty())
        {
            self.prober.board.mark(&service.name);
        }
        if let Some(service) = is {
            self.relieve(service);
            service.live.changed.notify_waiters();
        }
    }

    /// Watches an endpoint, or no longer, as its state and its settings want it.
    fn consider(&mut self, id: Id, seat: Seat, same_rules: bool) {
        let watched = self.roster.get_mut(id);
        let is_watched = watched.is_some();
        if let Some(watched) = watched {
            watched.seat = seat.clone();
            if same_rules {
                return;
            }
        }
        let settings = &seat.service.settings;
        match seat.state() {
            State::Up if !is_checked(settings) => self.roster.remove(id),
            State::Up => {
                let random = self.random();
                let wait = health::first_check_after(settings.health_interval, random);
                let due = self.now_ms() + millis(wait);
                self.roster.watch(id, seat);
                self.roster.hasten(id, due);
            }
            State::Down if is_watched => self.watch_for(id, seat, Duration::ZERO),
            // Whoever took it down reports why.
            State::Down => {}
            State::Ejected if settings.eject_5xx.is_none() => {
                self.watch_for(id, seat.clone(), Duration::ZERO);
                self.turn(&seat, State::Up, "ejections are switched off");
            }
            State::Ejected => {
                let wait = self.ejection_left(&seat);
                self.watch_for(id, seat, wait);
            }
        }
    }

    /// What a request found out.
    fn take(&mut self, report: Report) {
        self.sync();
        let Report {
            service,
            endpoint,
            finding,
            why,
            ..
        } = report;
        let id = Id::of(&endpoint);
        let service = self.seen.services.get(service.as_str());
        // A request may have been on its way to an endpoint that left the table.
        let seat = service.and_then(|service| Seat::find(service, id));
        match (seat, finding) {
            (Some(seat), Finding::Down) => self.notice(&seat, &why),
            (Some(seat), Finding::Suspect) => self.suspect(&seat, &why),
            (None, _) => {}
        }
    }

    /// Finds what nobody reported: reports are dropped where there are too many.
    fn look_around(&mut self) {
        while let Ok(report) = self.prober.reports.try_recv() {
            self.take(report);
        }
        self.sync();
        let seen = Arc::clone(&self.seen);
        for service in seen.services.iter() {
            let limit = service.settings.eject_5xx.unwrap_or(u32::MAX);
            for version in &service.versions {
                for endpoint in &version.endpoints {
                    let condition = &endpoint.live.condition;
                    let seat = || Seat::new(service, version, endpoint);
                    match condition.health().state {
                        State::Up if condition.failures.load(Ordering::Relaxed) < limit => {}
                        State::Up => self.suspect(&seat(), "found failing"),
                        State::Down => self.notice(&seat(), "found down"),
                        // Nobody ejects but us.
                        State::Ejected => {}
                    }
                }
            }
        }
    }

    /// Does what is due.
    fn begin_due(&mut self) {
        let now = self.now_ms();
        while self.probes.len() < PROBES_MAX
            && let Some((id, seat)) = self.roster.pop_due(now)
        {
            match seat.state() {
                // A good check never ends an ejection early, for what failed were requests.
                State::Ejected if !is_checked(&seat.service.settings) => {
                    self.turn(&seat, State::Up, "its time is over");
                }
                State::Ejected | State::Down => self.probe(id, &seat, now),
                State::Up => {
                    let proven = seat
                        .endpoint
                        .live
                        .condition
                        .proven_ms
                        .load(Ordering::Relaxed);
                    let interval = seat.service.settings.health_interval;
                    match health::proven_for(proven, now, interval) {
                        _ if !is_checked(&seat.service.settings) => self.roster.remove(id),
                        Some(left) => self.roster.schedule(id, now + millis(left).max(1)),
                        None => self.probe(id, &seat, now),
                    }
                }
            }
        }
    }

    fn probe(&mut self, id: Id, seat: &Seat, now: u64) {
        let settings = Arc::clone(&seat.service.settings);
        let lost_at = now + millis(settings.health_timeout + LOST);
        self.roster.schedule(id, lost_at);
        let (endpoint, tls) = (Arc::clone(&seat.endpoint), Rc::clone(&self.tls));
        self.probes.spawn_local(async move {
            let found = probe::probe(&endpoint, &settings, &tls, now).await;
            Done { id, lost_at, found }
        });
    }

    fn probed(&mut self, done: &Done) {
        self.sync();
        let Some(watched) = self.roster.get_mut(done.id) else {
            return;
        };
        if !watched.is_due_at(done.lost_at) {
            return;
        }
        let seat = watched.seat.clone();
        let settings = &seat.service.settings;
        let (probed, why) = match &done.found {
            Found::Good => (Probed::Good, "it answers probes"),
            Found::Bad(why) => (Probed::Bad, &**why),
            Found::Nothing => return self.schedule(done.id, &seat),
        };
        let state = seat.state();
        let turned = watched
            .row
            .count(probed, state, settings.fall, settings.rise);
        if state == State::Up && probed == Probed::Good {
            let errors = &seat.endpoint.live.condition.connect_errors;
            errors.store(0, Ordering::Relaxed);
        }
        match turned {
            Some(to) => self.turn(&seat, to, why),
            None => self.schedule(done.id, &seat),
        }
    }

    /// When something is to be done next about an endpoint that is watched.
    fn schedule(&mut self, id: Id, seat: &Seat) {
        let settings = &seat.service.settings;
        let random = self.random();
        let Some(row) = self.roster.get_mut(id).map(|watched| watched.row) else {
            return;
        };
        let wait = match seat.state() {
            State::Down => {
                let others = match Pool::of(&seat.version).up {
                    0 => Others::None,
                    _ => Others::Serve,
                };
                health::retry_after(row, others, settings.health_interval, random)
            }
            State::Ejected => match self.ejection_left(seat) {
                Duration::ZERO if is_checked(settings) => {
                    health::retry_after(row, Others::Serve, settings.health_interval, random)
                }
                left => left,
            },
            State::Up if is_checked(settings) => {
                health::check_after(settings.health_interval, random)
            }
            State::Up => return self.roster.remove(id),
        };
        self.roster.schedule(id, self.now_ms() + millis(wait));
    }

    fn watch_for(&mut self, id: Id, seat: Seat, wait: Duration) {
        let due = self.now_ms() + millis(wait);
        self.roster.watch(id, seat);
        self.roster.schedule(id, due);
    }
}

/// Whether endpoints are checked although they are up.
fn is_checked(settings: &Effective) -> bool {
    settings.enabled && settings.health != HealthCheck::Passive
}

/// Whole milliseconds; what does not fit is as good as forever.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 8)
}
