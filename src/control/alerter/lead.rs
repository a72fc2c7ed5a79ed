//! What the gateway knows that judges for all: events, health, mistakes, rates.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::rates::Rates;
use crate::control::chain;
use crate::model::alert::Kind;
use crate::model::keys::Keys;
use crate::model::name::Name;
use crate::model::table::Table;
use crate::policy::alert::condition::{self, Down, Happened, Scene};
use crate::policy::alert::{Book, Look};
use crate::store::{EVENTS_AT_ONCE, Ledger, StreamEntry};

/// The most hashes read by one call.
const HASHES_AT_ONCE: usize = 100;
/// How many services are looked at with each turn although nothing was heard of them.
const ROUND_AT_ONCE: usize = 5;
/// How often mistakes are read although nothing was heard of them.
const ERRORS_EVERY: Duration = Duration::from_secs(5);

/// What the leader knows.
#[derive(Debug)]
pub(super) struct Lead {
    /// The last event seen.
    pub(super) cursor: String,
    saved_cursor: Option<String>,
    /// Until when the lease certainly holds.
    pub(super) until: Instant,
    happened: Vec<Happened>,
    /// Services whose health is to be read.
    wanted: BTreeSet<String>,
    /// Services whose health was read.
    looked: BTreeSet<String>,
    /// Endpoints that are down, by service.
    down: BTreeMap<String, Vec<Down>>,
    /// Everything was wanted once.
    begun: bool,
    /// Where the slow round is.
    round: Option<String>,
    errors: Option<Vec<(String, String)>>,
    errors_wanted: bool,
    errors_at: Option<Instant>,
    /// The last call read as many events as one may.
    more: bool,
    rates: Rates,
}

impl Lead {
    pub(super) fn new(cursor: String, now: Instant) -> Self {
        let cursor = if cursor.is_empty() {
            "0-0".to_owned()
        } else {
            cursor
        };
        Self {
            cursor,
            saved_cursor: None,
            // Nothing is sent before the first turn as a leader.
            until: now,
            happened: Vec::new(),
            wanted: BTreeSet::new(),
            looked: BTreeSet::new(),
            down: BTreeMap::new(),
            begun: false,
            round: None,
            errors: None,
            errors_wanted: true,
            errors_at: None,
            more: true,
            rates: Rates::default(),
        }
    }

    /// Whether the lease certainly holds now.
    pub(super) fn holds(&self) -> bool {
        Instant::now() < self.until
    }

    /// The cursor where another one stands in Redis.
    pub(super) fn unsaved_cursor(&self) -> Option<String> {
        let saved = self.saved_cursor.as_ref();
        (saved != Some(&self.cursor)).then(|| self.cursor.clone())
    }

    pub(super) fn cursor_saved(&mut self) {
        self.saved_cursor = Some(self.cursor.clone());
    }

    /// Whether something is to be read before it can be judged.
    pub(super) fn wants_more(&self) -> bool {
        self.more || self.errors_wanted || !self.wanted.is_empty()
    }

    /// The keys of the hashes to read next.
    pub(super) fn wanted(&mut self, keys: &Keys, table: &Table, book: &Book) -> Vec<String> {
        let first_of_turn = !self.wants_more() || !self.begun;
        if !self.begun && table.loaded {
            let services = table.services.iter();
            self.wanted
                .extend(services.map(|service| service.name.to_string()));
            self.begun = true;
        }
        if first_of_turn {
            self.want_again(table, book);
        }
        let mut hashes = Vec::new();
        if self.errors_wanted {
            hashes.push(keys.errors());
        }
        let services = self.wanted.iter().filter_map(|name| Name::parse(name));
        hashes.extend(
            services
                .take(HASHES_AT_ONCE)
                .map(|service| keys.health(&service)),
        );
        hashes
    }

    /// What is to be read with each turn: what is wrong already, and a few of the others.
    fn want_again(&mut self, table: &Table, book: &Book) {
        let open = book.open_services(Kind::EndpointDown).map(str::to_owned);
        self.wanted.extend(open);
        self.wanted.extend(self.down.keys().cloned());
        let due = |at: Instant| at.elapsed() >= ERRORS_EVERY;
        let mistakes = [Kind::ConfigError, Kind::ConfigVanished].into_iter();
        let open = mistakes
            .into_iter()
            .any(|kind| book.open_services(kind).next().is_some());
        self.errors_wanted |= open || self.errors_at.is_none_or(due);
        let names = || table.services.iter().map(|service| service.name.as_str());
        let after = self.round.clone();
        let mut next: Vec<&str> = names()
            .filter(|name| after.as_deref().is_none_or(|after| *name > after))
            .collect();
        next.sort_unstable();
        next.truncate(ROUND_AT_ONCE);
        self.round = next.last().map(|name| (*name).to_owned());
        self.wanted.extend(next.into_iter().map(str::to_owned));
    }

    /// Takes in what one call read.
    pub(super) fn take(
        &mut self,
        keys: &Keys,
        events: Vec<StreamEntry>,
        last: &str,
        hashes: impl Iterator<Item = (String, BTreeMap<String, String>)>,
    ) {
        let health = keys.health_prefix();
        for (key, hash) in hashes {
            if key == keys.errors() {
                self.errors = Some(hash.into_iter().collect());
                self.errors_wanted = false;
                self.errors_at = Some(Instant::now());
            } else if let Some(service) = key.strip_prefix(&health) {
                self.take_health(service, &hash);
            }
        }
        self.more = events.len() >= EVENTS_AT_ONCE;
        if events.is_empty() && position(last) < position(&self.cursor) {
            // The stream began anew.
            "0-0".clone_into(&mut self.cursor);
            self.more = !last.is_empty();
        }
        for (id, fields) in events {
            self.cursor = id;
            self.hear(fields);
        }
    }

    fn hear(&mut self, mut fields: BTreeMap<String, String>) {
        let mut field = |name: &str| fields.remove(name).unwrap_or_default();
        let event = Happened {
            kind: field("kind"),
            service: field("service"),
            version: field("version"),
            endpoint: field("endpoint"),
            gateway: field("gateway"),
            why: field("why"),
        };
        match event.kind.as_str() {
            "endpoint_down" | "endpoint_up" | "endpoint_ejected" => {
                self.wanted.insert(event.service.clone());
            }
            "config_error" | "config_vanished" => self.errors_wanted = true,
            _ => {}
        }
        self.happened.push(event);
    }

    fn take_health(&mut self, service: &str, hash: &BTreeMap<String, String>) {
        self.wanted.remove(service);
        self.looked.insert(service.to_owned());
        let down: Vec<Down> = hash
            .iter()
            .filter_map(|(url, json)| {
                let entry: serde_json::Value = serde_json::from_str(json).ok()?;
                let text = |field: &str| entry.get(field).and_then(serde_json::Value::as_str);
                (text("state") == Some("down")).then(|| Down {
                    service: service.to_owned(),
                    endpoint: url.clone(),
                    since_ms: entry
                        .get("since_ms")
                        .and_then(serde_json::Value::as_u64)
                        .unwrap_or(0),
                    why: text("why").unwrap_or_default().to_owned(),
                })
            })
            .collect();
        if down.is_empty() {
            self.down.remove(service);
        } else {
            self.down.insert(service.to_owned(), down);
        }
    }

    /// What all that was read comes to.
    pub(super) async fn look(&mut self, scene: Scene<'_>, ledger: &Ledger, book: &Book) -> Look {
        let happened = std::mem::take(&mut self.happened);
        let down: Vec<Down> = self.down.values().flatten().cloned().collect();
        let mut sightings = condition::endpoint_down(scene, &down, &happened);
        let mut known: BTreeSet<(Kind, Option<String>)> = [
            (Kind::Rollout, None),
            (Kind::ShadowDropped, None),
            (Kind::RedisLost, None),
        ]
        .into();
        let looked = self.looked.iter().cloned();
        known.extend(looked.map(|service| (Kind::EndpointDown, Some(service))));
        sightings.extend(condition::news(scene, Kind::Rollout, &happened));
        sightings.extend(condition::news(scene, Kind::ShadowDropped, &happened));
        if let Some(errors) = &self.errors {
            sightings.extend(condition::config_error(scene, errors, &happened));
            sightings.extend(condition::config_vanished(scene, errors));
            known.extend([(Kind::ConfigError, None), (Kind::ConfigVanished, None)]);
        }
        match self.rates.look(scene, ledger, book).await {
            Ok(judged) => {
                sightings.extend(judged.sightings);
                if judged.covered {
                    known.extend([(Kind::ErrorRate, None), (Kind::Latency, None)]);
                }
            }
            Err(error) => tracing::debug!(error = chain(&error), "rates are not read"),
        }
        Look { sightings, known }
    }
}

/// A place in a stream, in order.
fn position(id: &str) -> (u64, u64) {
    let (ms, number) = id.split_once('-').unwrap_or((id, "0"));
    (ms.parse().unwrap_or(0), number.parse().unwrap_or(0))
}
