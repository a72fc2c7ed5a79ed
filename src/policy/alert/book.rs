//! All incidents: what is looked at, what is to be kept in Redis, what is to be told.

use std::collections::{BTreeMap, BTreeSet};

use super::{Incident, Key, Message, Rules, Sighting, Tell};
use crate::model::alert::{Alert, Kind};
use crate::model::table::Alerts;
use crate::policy::alert::incident::Fate;

/// The most incidents at a time; what is beyond is not told.
const INCIDENTS_MAX: usize = 10_000;
/// How old what stands in Redis may be where nothing depends on it: counts, times.
const STALE_MS: u64 = 5_000;
/// From so many messages of one kind at a time on they are one.
const TOGETHER: usize = 4;
/// For how long a level must hold before it is told.
const PENDING_MS: u64 = 2_000;

/// All incidents of one gateway.
#[derive(Debug, Default)]
pub struct Book {
    incidents: BTreeMap<Key, Entry>,
    /// Keys that stand in Redis and are forgotten here.
    dropped: BTreeSet<Key>,
}

#[derive(Debug)]
struct Entry {
    incident: Incident,
    /// As it was saved last, and when.
    saved: Option<(Incident, u64)>,
}

/// One look at everything.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// What was seen.
    pub sightings: Vec<Sighting>,
    /// What could be looked at: kind and service; without a service, all of the kind. An incident
    /// that could not be looked at stays as it is.
    pub known: BTreeSet<(Kind, Option<String>)>,
}

/// What is to be kept in Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Incidents that are new or different.
    pub set: Vec<(Key, Incident)>,
    /// Incidents that are gone.
    pub gone: Vec<Key>,
}

/// One message to deliver, and the incidents it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Parcel {
    /// What it is about.
    pub keys: Vec<Key>,
    /// What it says of them.
    pub tell: Tell,
    /// The message.
    pub message: Message,
}

impl Book {
    /// Takes in one look; incidents that no alert covers any more are forgotten.
    pub fn look(&mut self, now_ms: u64, alerts: &Alerts, look: Look) {
        let mut seen = BTreeMap::new();
        for sighting in look.sightings {
            let known = self.incidents.contains_key(&sighting.key);
            if known || self.incidents.len() < INCIDENTS_MAX {
                let entry = || Entry {
                    incident: Incident::new(now_ms),
                    saved: None,
                };
                self.incidents
                    .entry(sighting.key.clone())
                    .or_insert_with(entry);
                seen.insert(sighting.key, sighting.seen);
            }
        }
        let known = look.known;
        let dropped = &mut self.dropped;
        self.incidents.retain(|key, entry| {
            let alert = alerts.get(key.alert.as_str());
            let covered = alert.filter(|alert| alert.covers(key.kind, &key.service));
            let kept = covered.is_some_and(|alert| {
                let found = seen.remove(key);
                let looked = found.is_some()
                    || known.contains(&(key.kind, None))
                    || known.contains(&(key.kind, Some(key.service.clone())));
                let rules = rules(key.kind, alert);
                !looked
                    || entry
                        .incident
                        .look(now_ms, &found.unwrap_or_default(), rules)
                        == Fate::Kept
            });
            if !kept && entry.saved.is_some() {
                dropped.insert(key.clone());
            }
            kept
        });
        let incidents = &self.incidents;
        self.dropped.retain(|key| !incidents.contains_key(key));
    }

    /// Replaces everything by what another gateway left in Redis.
    pub fn replace(&mut self, incidents: impl IntoIterator<Item = (Key, Incident)>, now_ms: u64) {
        self.dropped.clear();
        let entry = |(key, incident): (Key, Incident)| {
            let saved = Some((incident.clone(), now_ms));
            (key, Entry { incident, saved })
        };
        self.incidents = incidents.into_iter().map(entry).collect();
    }

    /// Remembers that nothing of it stands in Redis.
    pub fn unsave(&mut self) {
        self.dropped.clear();
        for entry in self.incidents.values_mut() {
            entry.saved = None;
        }
    }

    /// What is to be written to Redis.
    #[must_use]
    pub fn changes(&self, now_ms: u64) -> Changes {
        let stale = |entry: &Entry| match &entry.saved {
            None => true,
            Some((saved, at)) => {
                !entry.incident.says_as(saved)
                    || (*saved != entry.incident && now_ms.saturating_sub(*at) >= STALE_MS)
            }
        };
        let set = self.incidents.iter().filter(|(_, entry)| stale(entry));
        Changes {
            set: set
                .map(|(key, entry)| (key.clone(), entry.incident.clone()))
                .collect(),
            gone: self.dropped.iter().cloned().collect(),
        }
    }

    /// These changes stand in Redis.
    pub fn saved(&mut self, changes: Changes, now_ms: u64) {
        for (key, incident) in changes.set {
            if let Some(entry) = self.incidents.get_mut(&key) {
                entry.saved = Some((incident, now_ms));
            }
        }
        for key in changes.gone {
            self.dropped.remove(&key);
        }
    }

    /// The next message of an alert whose decision is saved: one incident, or many of one kind.
    #[must_use]
    pub fn next_parcel(&self, alert: &str, gateway: &str, now_ms: u64) -> Option<Parcel> {
        let owed = |entry: &Entry| {
            let saved = entry.saved.as_ref()?;
            let tell = entry.incident.owed()?;
            (saved.0.owed() == Some(tell)).then_some(tell)
        };
        let of_alert = self.incidents.iter();
        let of_alert = of_alert.filter(|(key, _)| key.alert.as_str() == alert);
        let waiting: Vec<(&Key, &Incident, Tell)> = of_alert
            .filter_map(|(key, entry)| Some((key, &entry.incident, owed(entry)?)))
            .collect();
        let first = waiting
            .iter()
            .min_by_key(|(_, incident, _)| incident.since_ms)?;
        let alike = |it: &&(&Key, &Incident, Tell)| (it.0.kind, it.2) == (first.0.kind, first.2);
        let group: Vec<_> = waiting.iter().filter(alike).collect();
        let group = if group.len() < TOGETHER {
            vec![first]
        } else {
            group
        };
        let about: Vec<(&Key, &Incident)> = group.iter().map(|it| (it.0, it.1)).collect();
        Some(Parcel {
            keys: about.iter().map(|(key, _)| (*key).clone()).collect(),
            tell: first.2,
            message: Message::about(&about, first.2, gateway, now_ms)?,
        })
    }

    /// The receiver took a message, or is not asked again to take it.
    pub fn told(&mut self, keys: &[Key], tell: Tell) {
        for key in keys {
            if let Some(entry) = self.incidents.get_mut(key) {
                entry.incident.told(tell);
            }
        }
    }

    /// Whether an incident goes on.
    #[must_use]
    pub fn is_firing(&self, key: &Key) -> bool {
        let entry = self.incidents.get(key);
        entry.is_some_and(|entry| entry.incident.is_firing())
    }

    /// The incidents that go on.
    pub fn open(&self) -> impl Iterator<Item = &Key> {
        let open = self.incidents.iter();
        open.filter(|(_, it)| it.incident.is_firing())
            .map(|(key, _)| key)
    }

    /// Services with an incident of a kind that is not over.
    pub fn open_services(&self, kind: Kind) -> impl Iterator<Item = &str> {
        let open = self.incidents.iter();
        let open = open.filter(move |(key, it)| key.kind == kind && it.incident.is_open());
        open.map(|(key, _)| key.service.as_str())
    }

    /// Whether there is nothing at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.incidents.is_empty() && self.dropped.is_empty()
    }

    /// Forgets everything: another gateway sees to it.
    pub fn clear(&mut self) {
        self.incidents.clear();
        self.dropped.clear();
    }
}

/// How long things take, for one kind by one alert.
fn rules(kind: Kind, alert: &Alert) -> Rules {
    let millis = |duration: std::time::Duration| {
        // What does not fit is as good as forever.
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 8)
    };
    let news = matches!(kind, Kind::Rollout | Kind::ShadowDropped);
    Rules {
        pending_ms: if news { 0 } else { PENDING_MS },
        quiet_ms: (millis(alert.window) / 3).max(1),
        repeat_ms: millis(alert.repeat),
        flaps: kind == Kind::EndpointDown,
        ends: kind != Kind::Rollout,
    }
}
