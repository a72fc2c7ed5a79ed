//! The rows of the view of services: a service, its versions, their endpoints.

use super::board::Board;
use super::facts::{Endpoint, Service, State, Version};
use super::text;
use super::trouble::{Level, Summary, is_off, of_errors};
use crate::model::name::ServiceName;

/// Which row it is, whatever its place on the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) service: ServiceName,
    version: Option<String>,
    url: Option<String>,
}

impl Place {
    /// The row of a service.
    pub(super) fn of(service: ServiceName) -> Self {
        Self {
            service,
            version: None,
            url: None,
        }
    }
}

/// What a row says, column by column.
#[derive(Clone, Debug, Default)]
pub(super) struct Cells {
    pub(super) level: Level,
    pub(super) name: String,
    pub(super) rate: String,
    pub(super) errors: String,
    pub(super) p50: String,
    pub(super) p99: String,
    pub(super) inflight: String,
    pub(super) share: String,
    pub(super) wished: String,
    pub(super) state: String,
}

impl Board {
    /// All rows in order. A service that is open and not read yet is one row.
    pub(super) fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        for (name, _) in self.ordered() {
            let service = Place::of(name.clone());
            places.push(service.clone());
            let detail = self.details.get(name).filter(|_| self.is_open(name));
            let Some(detail) = detail else {
                continue;
            };
            let row = |version: Option<&Version>, url: Option<&Endpoint>| Place {
                version: version.map(|it| it.name.clone()),
                url: url.map(|it| it.url.clone()),
                ..service.clone()
            };
            for version in &detail.versions {
                places.push(row(Some(version), None));
                places
                    .extend(worst_first(&version.endpoints).map(|it| row(Some(version), Some(it))));
            }
            places.extend(worst_first(&detail.unplaced).map(|it| row(None, Some(it))));
        }
        places
    }

    /// What a row says; `None` where it was read away meanwhile.
    pub(super) fn cells(&self, place: &Place, summary: &Summary) -> Option<Cells> {
        if place.version.is_none() && place.url.is_none() {
            return Some(service_cells(place, summary, self.is_open(&place.service)));
        }
        let (version, endpoint) = self.detail(place)?;
        Some(match (version, endpoint) {
            (_, Some(endpoint)) => endpoint_cells(endpoint),
            (Some(version), None) => version_cells(version),
            (None, None) => return None,
        })
    }

    fn detail(&self, place: &Place) -> Option<(Option<&Version>, Option<&Endpoint>)> {
        let service: &Service = self.details.get(&place.service)?;
        let version = place.version.as_ref();
        let version = version.and_then(|name| service.versions.iter().find(|it| it.name == *name));
        let mut endpoints = version.map_or(&service.unplaced, |it| &it.endpoints).iter();
        let endpoint = place
            .url
            .as_ref()
            .and_then(|url| endpoints.find(|it| it.url == *url));
        Some((version, endpoint))
    }

    /// The selected row in full, in two lines.
    pub(super) fn about(&self) -> [String; 2] {
        let Some(place) = self.selected() else {
            return Default::default();
        };
        let mut lines = [format!("service {}", place.service), String::new()];
        let [first, second] = &mut lines;
        match self.detail(&place) {
            Some((_, Some(endpoint))) => {
                *first = format!("{} {}", endpoint.url, endpoint.state.word());
                *second = self.about_endpoint(endpoint);
            }
            Some((Some(version), None)) => {
                *first = format!("{} {}", place.service, version.name);
                *second = about_version(version);
            }
            _ => {
                let ordered = self.ordered();
                let entry = ordered.iter().find(|(name, _)| **name == place.service);
                if let Some((_, summary)) = entry {
                    *second = about_service(summary);
                }
                let mistakes = self.mistakes.get(&place.service);
                if let Some(at) = mistakes.and_then(|places| places.first()) {
                    let message = self.errors.get(at).map_or("", String::as_str);
                    *second = format!("{at}: {message}");
                }
            }
        }
        lines
    }

    fn about_endpoint(&self, endpoint: &Endpoint) -> String {
        let mut parts = Vec::new();
        if endpoint.since_ms > 0 {
            let age = self.now_ms.saturating_sub(endpoint.since_ms);
            parts.push(format!("for {}", text::age(age)));
        }
        if endpoint.held_by.1 > 0 {
            let (holding, all) = endpoint.held_by;
            parts.push(format!("on {holding} of {}", text::counted(all, "gateway")));
        }
        parts.push(format!(
            "{} of {} failed in 10s",
            endpoint.errors,
            text::counted(
                usize::try_from(endpoint.requests).unwrap_or(usize::MAX),
                "attempt"
            )
        ));
        if !endpoint.why.is_empty() {
            parts.push(endpoint.why.clone());
        }
        parts.join(", ")
    }
}

fn about_service(summary: &Summary) -> String {
    let broken = match summary.broken {
        0 => String::new(),
        broken => format!(", {broken} of them out"),
    };
    format!(
        "{}{broken}, {} requests/s fail, {} are turned away",
        text::counted(summary.endpoints, "endpoint"),
        text::number(summary.failing()),
        text::number(summary.rejected_rps),
    )
}

fn about_version(version: &Version) -> String {
    let share = |value: Option<f64>| value.map_or("?".to_owned(), text::share);
    format!(
        "{} requests/s, {} failed, p50 {} p90 {} p99 {}, share {} of {} wished",
        text::number(version.rps),
        text::share(version.error_rate),
        time(version.p50_ms),
        time(version.p90_ms),
        time(version.p99_ms),
        share(version.share),
        share(version.wished),
    )
}

fn worst_first(endpoints: &[Endpoint]) -> impl Iterator<Item = &Endpoint> {
    let mut ordered: Vec<&Endpoint> = endpoints.iter().collect();
    ordered.sort_by(|one, other| other.state.cmp(&one.state).then(one.url.cmp(&other.url)));
    ordered.into_iter()
}

fn time(ms: Option<f64>) -> String {
    ms.map_or("-".to_owned(), text::millis)
}

fn service_cells(place: &Place, summary: &Summary, open: bool) -> Cells {
    let fold = if open { '▾' } else { '▸' };
    Cells {
        level: summary.level,
        name: format!("{fold} {}", place.service),
        rate: text::number(summary.rps),
        errors: text::share(summary.error_rate),
        p50: time(summary.p50_ms),
        p99: time(summary.p99_ms),
        inflight: text::count(summary.inflight),
        state: summary.word.clone(),
        ..Cells::default()
    }
}

fn version_cells(version: &Version) -> Cells {
    let share = |value: Option<f64>| value.map_or("-".to_owned(), text::share);
    let off = if is_off(version) {
        Level::Look
    } else {
        Level::Fine
    };
    Cells {
        level: of_errors(version.error_rate).max(off),
        name: format!("  {}", version.name),
        rate: text::number(version.rps),
        errors: text::share(version.error_rate),
        p50: time(version.p50_ms),
        p99: time(version.p99_ms),
        inflight: text::count(version.inflight),
        share: share(version.share),
        wished: share(version.wished),
        state: String::new(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "attempts of ten seconds")]
fn endpoint_cells(endpoint: &Endpoint) -> Cells {
    let requests = endpoint.requests as f64;
    let failed = if requests > 0.0 {
        endpoint.errors as f64 / requests
    } else {
        0.0
    };
    let (holding, all) = endpoint.held_by;
    let partly = holding < all && endpoint.state.is_broken();
    let place = endpoint
        .url
        .strip_prefix("http://")
        .unwrap_or(&endpoint.url);
    Cells {
        level: match endpoint.state {
            State::Down | State::Ejected => Level::Bad,
            State::Up | State::Off | State::Drain | State::Unknown => of_errors(failed),
        },
        name: format!("    {place}"),
        rate: text::number(requests / 10.0),
        errors: text::share(failed),
        p50: time(endpoint.ewma_ms),
        p99: String::new(),
        inflight: text::count(endpoint.inflight),
        state: match endpoint.state {
            State::Down if partly => format!("DOWN {holding}/{all}"),
            State::Ejected if partly => format!("EJECT {holding}/{all}"),
            State::Down => "DOWN".to_owned(),
            State::Ejected => "EJECTED".to_owned(),
            State::Unknown => "-".to_owned(),
            other => other.word().to_owned(),
        },
        ..Cells::default()
    }
}
