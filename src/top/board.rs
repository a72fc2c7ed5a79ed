//! What `top` knows, and what a person wants to see of it.
//!
//! Of every service a line is kept; of those on the screen everything. So ten thousand services
//! cost as much as a screenful, and a slow turn through the others that finds the worst.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::facts::{Gateway, Hashes, Service};
use super::rows::Place;
use super::trouble::{Sort, Summary};
use crate::model::decode::Fields;
use crate::model::keys::{Keys, Object, Parsed};
use crate::model::name::{Name, ServiceName};

/// The most services that are known at once; more are counted and not shown.
pub const SERVICES_MAX: usize = 50_000;
/// How many services the slow turn looks at in one reading, three small hashes each.
pub const SURVEY: usize = 300;
/// The most gateways that are known at once.
const GATEWAYS_MAX: usize = 200;
/// A gateway without a sign of life is remembered for so long: that it is gone is news.
const GONE_KEPT_MS: u64 = 300_000;
/// So many services are opened without being asked.
const OPEN_UNASKED: usize = 5;
/// Services of which an event spoke so lately are looked at first.
const HOT_MS: u64 = 10_000;
/// The longest filter.
pub(super) const FILTER_MAX: usize = 64;

/// What to read next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Services of which all hashes are shown.
    pub details: Vec<ServiceName>,
    /// Services of which a line is kept: live, health and weights.
    pub survey: Vec<ServiceName>,
    /// Gateways.
    pub gateways: Vec<String>,
}

/// What a look for keys met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// Services.
    pub services: Vec<ServiceName>,
    /// Gateways.
    pub gateways: Vec<String>,
    /// Whether all keys were gone through since this was last so: who was not met is gone.
    pub complete: bool,
}

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Redis's clock, Unix milliseconds.
    pub now_ms: u64,
    /// What was met.
    pub sighting: Sighting,
    /// What was wanted of services, by name.
    pub survey: Vec<(ServiceName, Hashes)>,
    /// All hashes of services, by name.
    pub details: Vec<(ServiceName, Hashes)>,
    /// The hashes of gateways, empty where one is gone.
    pub gateways: Vec<(String, Fields)>,
    /// `smartlink:errors`.
    pub errors: Fields,
    /// The newest of `smartlink:events`, the newest first.
    pub events: Vec<Fields>,
    /// What Redis does not let us read, in its words.
    pub refused: Option<String>,
}

/// Which screen is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// Services, versions, endpoints.
    #[default]
    Services,
    /// Gateways.
    Gateways,
    /// Config errors and events.
    News,
    /// What the keys do.
    Help,
}

/// A service, and in which turn through all keys it was last met.
#[derive(Clone, Debug, Default)]
struct Entry {
    summary: Summary,
    round: u64,
}

/// What `top` knows and shows.
#[expect(
    clippy::struct_excessive_bools,
    reason = "what a person turns on and off independently"
)]
#[derive(Debug)]
pub struct Board {
    keys: Keys,
    services: BTreeMap<ServiceName, Entry>,
    /// Services that found no room.
    pub(super) unseen: usize,
    pub(super) details: HashMap<ServiceName, Service>,
    pub(super) gateways: BTreeMap<String, Gateway>,
    pub(super) errors: Fields,
    /// Places in `errors` by service.
    pub(super) mistakes: HashMap<ServiceName, Vec<String>>,
    pub(super) events: Vec<Fields>,
    pub(super) refused: Option<String>,
    /// When everything was read; 0 before the first reading.
    pub(super) now_ms: u64,
    /// Why Redis is away, and for how long.
    pub(super) lost: Option<(String, u64)>,
    round: u64,
    /// The slow turn goes on after this service.
    surveyed: Option<ServiceName>,
    /// Whether what was wanted last completes the slow turn.
    turn_ends: bool,
    /// Whether every service was looked at once.
    whole: bool,

    pub(super) view: View,
    pub(super) sort: Sort,
    pub(super) filter: String,
    pub(super) typing: bool,
    pub(super) trouble_only: bool,
    pub(super) paused: bool,
    /// Services are open unless told otherwise; `None` before it is known how many there are.
    pub(super) open: Option<bool>,
    /// Services that are not as `open` says.
    pub(super) turned: BTreeSet<ServiceName>,
    /// The row a person went to; `None`: the first one, whichever it is.
    pub(super) selected: Option<Place>,
    /// The first row on the screen.
    anchor: Option<Place>,
    /// Rows on the screen.
    pub(super) height: usize,
    pub(super) scroll: usize,
}

impl Board {
    /// A board that knows nothing, about the keys of this prefix.
    #[must_use]
    pub fn new(keys: Keys, sort: Sort, filter: &str) -> Self {
        Self {
            keys,
            services: BTreeMap::new(),
            unseen: 0,
            details: HashMap::new(),
            gateways: BTreeMap::new(),
            errors: Fields::new(),
            mistakes: HashMap::new(),
            events: Vec::new(),
            refused: None,
            now_ms: 0,
            lost: None,
            round: 1,
            surveyed: None,
            turn_ends: false,
            whole: false,
            view: View::default(),
            sort,
            filter: filter.chars().take(FILTER_MAX).collect(),
            typing: false,
            trouble_only: false,
            paused: false,
            open: None,
            turned: BTreeSet::new(),
            selected: None,
            anchor: None,
            height: 1,
            scroll: 0,
        }
    }

    /// Opens every service, or closes them, whatever a person did before.
    pub fn open_all(&mut self, open: bool) {
        self.open = Some(open);
        self.turned.clear();
    }

    /// So many rows of services fit on the screen.
    pub fn resize(&mut self, height: usize) {
        self.height = height.max(1);
        self.settle();
    }

    /// Redis is away, why and for how long.
    pub fn lose(&mut self, why: String, for_ms: u64) {
        self.lost = Some((why, for_ms));
    }

    /// Whether every service was looked at once; before that the slow turn should hurry.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// What to read next. The slow turn goes on with every call.
    #[must_use]
    pub fn wanted(&mut self) -> Wanted {
        let shown = self.shown();
        let (details, closed): (Vec<_>, Vec<_>) =
            shown.into_iter().partition(|name| self.is_open(name));
        let mut survey: BTreeSet<ServiceName> = closed.into_iter().collect();
        survey.extend(self.hot());
        survey.extend(self.next_of_turn());
        for name in &details {
            survey.remove(name);
        }
        Wanted {
            details,
            survey: survey.into_iter().collect(),
            gateways: self.gateways.keys().cloned().collect(),
        }
    }

    /// Services of which something was said just now.
    fn hot(&self) -> Vec<ServiceName> {
        let late = |event: &&Fields| {
            let at_ms = event.get("at_ms").and_then(|at| at.parse::<u64>().ok());
            at_ms.is_some_and(|at| at + HOT_MS > self.now_ms)
        };
        let names = self.events.iter().filter(late);
        let names = names.filter_map(|event| Name::parse(event.get("service")?));
        names
            .filter(|name| self.services.contains_key(name.as_str()))
            .collect()
    }

    fn next_of_turn(&mut self) -> Vec<ServiceName> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = match &self.surveyed {
            Some(name) => Excluded(name.clone()),
            None => Unbounded,
        };
        let next = self
            .services
            .range((after, Unbounded))
            .map(|(name, _)| name.clone());
        let next: Vec<ServiceName> = next.take(SURVEY).collect();
        self.turn_ends = next.len() < SURVEY;
        self.surveyed = next.last().filter(|_| !self.turn_ends).cloned();
        next
    }

    /// Takes what was read, unless a person wants the picture to stand still.
    pub fn take(&mut self, reading: Reading) {
        self.lost = None;
        if self.paused {
            return;
        }
        self.now_ms = reading.now_ms;
        self.refused = reading.refused;
        self.take_errors(reading.errors);
        self.events = reading.events;
        self.whole |= self.turn_ends;
        self.take_sighting(reading.sighting);
        self.take_gateways(reading.gateways);
        for (name, hashes) in &reading.survey {
            self.note(name, &Service::parse(name, hashes));
        }
        self.details.clear();
        for (name, hashes) in &reading.details {
            let service = Service::parse(name, hashes);
            self.note(name, &service);
            self.details.insert(name.clone(), service);
        }
        self.settle();
    }

    fn note(&mut self, name: &ServiceName, service: &Service) {
        for instance in &service.gateways {
            self.meet(instance);
        }
        let mistakes = self.mistakes.get(name).map_or(0, Vec::len);
        if let Some(entry) = self.services.get_mut(name) {
            entry.summary = Summary::of(service, mistakes);
        }
    }

    fn take_errors(&mut self, errors: Fields) {
        self.mistakes.clear();
        for place in errors.keys() {
            let key = place.split(' ').next().unwrap_or_default();
            let Parsed::Object(object) = self.keys.parse(key) else {
                continue;
            };
            if let Object::Endpoints(name)
            | Object::Weights(name)
            | Object::Service(name)
            | Object::Shadow(name)
            | Object::Rollout(name)
            | Object::Pilot(name) = object
            {
                self.mistakes.entry(name).or_default().push(place.clone());
            }
        }
        self.errors = errors;
    }

    fn take_sighting(&mut self, sighting: Sighting) {
        for name in sighting.services {
            if let Some(entry) = self.services.get_mut(&name) {
                entry.round = self.round;
            } else if self.services.len() < SERVICES_MAX {
                let entry = Entry {
                    round: self.round,
                    ..Entry::default()
                };
                self.services.insert(name, entry);
                self.whole = false;
            } else {
                self.unseen += 1;
            }
        }
        for instance in sighting.gateways {
            self.meet(&instance);
        }
        if sighting.complete {
            let round = self.round;
            self.services.retain(|_, entry| entry.round == round);
            self.turned.retain(|name| self.services.contains_key(name));
            self.round += 1;
            self.unseen = 0;
            self.open.get_or_insert(self.services.len() <= OPEN_UNASKED);
        }
    }

    fn meet(&mut self, instance: &str) {
        if self.gateways.len() < GATEWAYS_MAX && !self.gateways.contains_key(instance) {
            self.gateways
                .insert(instance.to_owned(), Gateway::default());
        }
    }

    fn take_gateways(&mut self, read: Vec<(String, Fields)>) {
        for (instance, fields) in read {
            if let Some(gateway) = Gateway::parse(&instance, &fields) {
                self.gateways.insert(instance, gateway);
            } else if self
                .gateways
                .get(&instance)
                .is_some_and(|it| it.instance.is_empty())
            {
                self.gateways.remove(&instance);
            }
        }
        let oldest = self.now_ms.saturating_sub(GONE_KEPT_MS);
        // One that was met and not read yet has no heartbeat, and no name.
        self.gateways
            .retain(|_, it| it.instance.is_empty() || it.heartbeat_ms >= oldest);
    }

    /// Whether the versions and endpoints of a service are shown.
    #[must_use]
    pub fn is_open(&self, name: &ServiceName) -> bool {
        self.open.unwrap_or_default() != self.turned.contains(name)
    }

    /// Services that pass the filter, in order.
    pub(super) fn ordered(&self) -> Vec<(&ServiceName, &Summary)> {
        let filter = self.filter.to_lowercase();
        let passes = |name: &ServiceName, summary: &Summary| {
            let named = name.as_str().to_lowercase().contains(&filter)
                || summary.word.to_lowercase().contains(&filter);
            named && (!self.trouble_only || summary.level.is_trouble())
        };
        let all = self
            .services
            .iter()
            .map(|(name, entry)| (name, &entry.summary));
        let mut ordered: Vec<_> = all
            .filter(|(name, summary)| passes(name, summary))
            .collect();
        // They come by name, and the sort is stable.
        ordered.sort_by(|one, other| self.sort.order(one.1, other.1));
        ordered
    }

    /// All services, for sums.
    pub(super) fn summaries(&self) -> impl Iterator<Item = &Summary> {
        self.services.values().map(|entry| &entry.summary)
    }

    /// Everything that is known, as a program wants it: services in order, those on the screen in
    /// full.
    #[must_use]
    pub fn picture(&self) -> serde_json::Value {
        let services = self.ordered().into_iter().map(|(name, summary)| {
            let detail = self.details.get(name);
            serde_json::json!({
                "name": name.as_str(),
                "summary": summary,
                "versions": detail.map(|it| &it.versions),
            })
        });
        let gateways = self.gateways.values().filter(|it| !it.instance.is_empty());
        serde_json::json!({
            "now_ms": self.now_ms,
            "services": services.collect::<Vec<_>>(),
            "gateways": gateways.collect::<Vec<_>>(),
            "errors": self.errors,
            "events": self.events,
        })
    }

    /// The rows on the screen, and which of them is selected.
    pub(super) fn window(&self) -> (Vec<Place>, usize) {
        let places = self.places();
        let anchor = find(&places, self.anchor.as_ref());
        let selected = find(&places, self.selected.as_ref());
        let window = places.into_iter().skip(anchor).take(self.height).collect();
        (window, selected.saturating_sub(anchor))
    }

    /// How many rows stand below the screen.
    pub(super) fn hidden(&self) -> usize {
        let places = self.places();
        let anchor = find(&places, self.anchor.as_ref());
        places.len().saturating_sub(anchor + self.height)
    }

    /// The services of which a row is on the screen.
    fn shown(&self) -> Vec<ServiceName> {
        let (window, _) = self.window();
        let mut names: Vec<ServiceName> = window.into_iter().map(|place| place.service).collect();
        names.dedup();
        names
    }

    /// The row a person stands on.
    pub(super) fn selected(&self) -> Option<Place> {
        let places = self.places();
        let at = find(&places, self.selected.as_ref());
        places.into_iter().nth(at)
    }

    /// Keeps the selected row on the screen.
    pub(super) fn settle(&mut self) {
        let places = self.places();
        let selected = find(&places, self.selected.as_ref());
        let mut anchor = find(&places, self.anchor.as_ref());
        if self.selected.is_none() {
            anchor = 0;
        }
        anchor = anchor.min(places.len().saturating_sub(self.height));
        anchor = anchor.clamp(selected.saturating_sub(self.height - 1), selected);
        self.anchor = places.get(anchor).cloned();
    }
}

/// Where a row is; the row of its service where it is gone, the first where that is gone, too.
pub(super) fn find(places: &[Place], wanted: Option<&Place>) -> usize {
    let Some(wanted) = wanted else {
        return 0;
    };
    let same = places.iter().position(|place| place == wanted);
    let service = || {
        places
            .iter()
            .position(|place| place.service == wanted.service)
    };
    same.or_else(service).unwrap_or(0)
}
