//! Which endpoints are watched, and when something is due about each.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::model::live::{Health, State};
use crate::model::table::{Endpoint, Service, Version};
use crate::policy::health::Row;

/// One endpoint, through all tables that carry it over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id(usize);

impl Id {
    /// The address of its live facts: unique for as long as somebody holds them.
    pub(super) fn of(endpoint: &Endpoint) -> Self {
        Self(Arc::as_ptr(&endpoint.live).addr())
    }
}

/// An endpoint in its place in the table.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) service: Arc<Service>,
    pub(super) version: Arc<Version>,
    pub(super) endpoint: Arc<Endpoint>,
}

impl Seat {
    pub(super) fn new(
        service: &Arc<Service>,
        version: &Arc<Version>,
        endpoint: &Arc<Endpoint>,
    ) -> Self {
        Self {
            service: Arc::clone(service),
            version: Arc::clone(version),
            endpoint: Arc::clone(endpoint),
        }
    }

    /// All endpoints of a service.
    pub(super) fn all(service: &Arc<Service>) -> impl Iterator<Item = (Id, Self)> {
        let versions = service.versions.iter();
        versions.flat_map(move |version| {
            let endpoints = version.endpoints.iter();
            endpoints.map(move |it| (Id::of(it), Self::new(service, version, it)))
        })
    }

    /// The endpoint as the service has it now, if it still does.
    pub(super) fn find(service: &Arc<Service>, id: Id) -> Option<Self> {
        service.versions.iter().find_map(|version| {
            let found = version.endpoints.iter().find(|it| Id::of(it) == id)?;
            Some(Self::new(service, version, found))
        })
    }

    /// Its state.
    pub(super) fn state(&self) -> State {
        self.endpoint.live.condition.health().state
    }
}

/// An endpoint that is watched.
#[derive(Debug)]
pub(super) struct Watched {
    /// As the newest table has it.
    pub(super) seat: Seat,
    /// What its last probes came to.
    pub(super) row: Row,
    /// The last turn that was told.
    told: Option<Health>,
    due: Option<u64>,
}

impl Watched {
    pub(super) fn is_due_at(&self, due: u64) -> bool {
        self.due == Some(due)
    }
}

/// All that are watched.
#[derive(Debug, Default)]
pub(super) struct Roster {
    watched: HashMap<Id, Watched>,
    queue: BTreeSet<(u64, Id)>,
}

impl Roster {
    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Watched> {
        self.watched.get_mut(&id)
    }

    /// Watches an endpoint; what is known of one that was watched before stays.
    pub(super) fn watch(&mut self, id: Id, seat: Seat) {
        let watched = self.watched.entry(id).or_insert_with(|| Watched {
            seat: seat.clone(),
            row: Row::default(),
            told: None,
            due: None,
        });
        watched.seat = seat;
    }

    pub(super) fn remove(&mut self, id: Id) {
        if let Some(watched) = self.watched.remove(&id)
            && let Some(due) = watched.due
        {
            self.queue.remove(&(due, id));
        }
    }

    /// Something is due then, in milliseconds, instead of when it was.
    pub(super) fn schedule(&mut self, id: Id, due: u64) {
        if let Some(watched) = self.watched.get_mut(&id) {
            if let Some(before) = watched.due.replace(due) {
                self.queue.remove(&(before, id));
            }
            self.queue.insert((due, id));
        }
    }

    /// Something is due then, if nothing is before.
    pub(super) fn hasten(&mut self, id: Id, due: u64) {
        let before = self.watched.get(&id).and_then(|watched| watched.due);
        if before.is_none_or(|before| due < before) {
            self.schedule(id, due);
        }
    }

    /// When the next thing is due.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// An endpoint about which something is due; nothing is until it is scheduled again.
    pub(super) fn pop_due(&mut self, now: u64) -> Option<(Id, Seat)> {
        let (due, id) = *self.queue.first()?;
        if due > now {
            return None;
        }
        self.queue.remove(&(due, id));
        let watched = self.watched.get_mut(&id)?;
        watched.due = None;
        Some((id, watched.seat.clone()))
    }

    pub(super) fn was_told(&self, id: Id, turn: Health) -> bool {
        self.watched
            .get(&id)
            .is_some_and(|it| it.told == Some(turn))
    }

    pub(super) fn told(&mut self, id: Id, turn: Health) {
        if let Some(watched) = self.watched.get_mut(&id) {
            watched.told = Some(turn);
            watched.row = Row::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::{Config, Extent, Reading, Sight};
    use crate::model::decode::Raw;
    use crate::model::keys::{Keys, Object};
    use crate::model::name::Name;

    /// The seats of a service with these endpoints.
    fn seats(urls: &[&str]) -> Vec<(Id, Seat)> {
        let name = Name::parse("s").expect("valid");
        let fields = urls
            .iter()
            .map(|url| ((*url).to_owned(), "base".to_owned()));
        let reading = Reading {
            object: Object::Endpoints(name),
            raw: Raw::Hash(fields.collect()),
            sight: Sight::Named,
        };
        let mut config = Config::new(Keys::new("smartlink:"));
        let table = config.apply(vec![reading], Extent::All, 1).table;
        let table = table.expect("a table");
        Seat::all(table.services.get("s").expect("served")).collect()
    }

    #[test]
    fn what_is_due_comes_in_order_and_once() {
        let seats = seats(&["http://a/", "http://b/", "http://c/"]);
        let mut roster = Roster::default();
        for ((id, seat), due) in seats.iter().zip([30, 10, 20]) {
            roster.watch(*id, seat.clone());
            roster.schedule(*id, due);
        }
        let pop = |roster: &mut Roster, now| {
            let (_, seat) = roster.pop_due(now)?;
            Some(seat.endpoint.spec.target.host.to_string())
        };
        assert_eq!(roster.next_due(), Some(10));
        assert_eq!(pop(&mut roster, 9), None);
        assert_eq!(pop(&mut roster, 25).as_deref(), Some("b"));
        // Put off, and taken away: neither is due when it was.
        roster.hasten(seats[2].0, 90);
        roster.hasten(seats[2].0, 15);
        roster.schedule(seats[2].0, 40);
        roster.remove(seats[0].0);
        assert_eq!(pop(&mut roster, 39), None);
        assert_eq!(pop(&mut roster, 40).as_deref(), Some("c"));
        assert_eq!(roster.next_due(), None);
        roster.schedule(seats[0].0, 50);
        assert_eq!(roster.next_due(), None, "it is not watched");
    }

    #[test]
    fn an_endpoint_is_found_in_the_table_that_has_it() {
        let (here, elsewhere) = (seats(&["http://a/", "http://b/"]), seats(&["http://a/"]));
        let (id, seat) = &here[1];
        let found = Seat::find(&seat.service, *id).expect("it is there");
        assert_eq!(&*found.endpoint.spec.url, "http://b/");
        assert!(Seat::find(&elsewhere[0].1.service, *id).is_none());
    }

    #[test]
    fn a_turn_that_was_told_starts_a_new_row() {
        let seats = seats(&["http://a/"]);
        let (id, seat) = &seats[0];
        let mut roster = Roster::default();
        let down = Health {
            state: State::Down,
            since_ms: 5,
        };
        roster.told(*id, down);
        assert!(!roster.was_told(*id, down), "nobody watches it");
        roster.watch(*id, seat.clone());
        roster.get_mut(*id).expect("watched").row.bad = 3;
        roster.told(*id, down);
        roster.watch(*id, seat.clone());
        assert!(roster.was_told(*id, down));
        assert!(!roster.was_told(
            *id,
            Health {
                since_ms: 6,
                ..down
            }
        ));
        assert_eq!(roster.get_mut(*id).expect("watched").row, Row::default());
    }
}
