//! How bad things are with a service, in one word and in an order: worst first.

use std::cmp::Ordering;

use serde::Serialize;

use super::facts::{Service, State, Version};

/// From this share of failed requests on a service is in trouble.
const ERRORS_BAD: f64 = 0.05;
/// From this share on it is worth a look.
const ERRORS_SEEN: f64 = 0.01;
/// From this share on it is as good as down.
const ERRORS_DEAD: f64 = 0.5;
/// A share that is this far from its weight is worth a look. The gateway holds shares within two
/// requests; what is this far off was pinned by callers, or spilled.
const SHARE_OFF: f64 = 0.1;
/// Below this rate shares of ten seconds say little.
const RATE_SAYS: f64 = 5.0;

/// How bad it is, the worse the later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing is wrong.
    #[default]
    Fine,
    /// Worth a look.
    Look,
    /// Requests fail, or an endpoint is out.
    Bad,
    /// Nobody is there to serve, or most requests fail.
    Dead,
}

impl Level {
    /// A sign that says it without a colour.
    #[must_use]
    pub fn sign(self) -> &'static str {
        match self {
            Self::Fine => " ",
            Self::Look => "?",
            Self::Bad => "!",
            Self::Dead => "X",
        }
    }

    /// Whether somebody should do something.
    #[must_use]
    pub fn is_trouble(self) -> bool {
        self >= Self::Bad
    }
}

/// How bad it is that this share of requests fails.
#[must_use]
pub fn of_errors(rate: f64) -> Level {
    match rate {
        rate if rate >= ERRORS_DEAD => Level::Dead,
        rate if rate >= ERRORS_BAD => Level::Bad,
        rate if rate >= ERRORS_SEEN => Level::Look,
        _ => Level::Fine,
    }
}

/// What is kept of every service: a line, and its place in the order.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// How bad it is.
    pub level: Level,
    /// Why, in a word or two.
    pub word: String,
    /// Requests per second.
    pub rps: f64,
    /// The share of them that failed.
    pub error_rate: f64,
    /// Requests per second that were turned away.
    pub rejected_rps: f64,
    /// The largest median of its versions.
    pub p50_ms: Option<f64>,
    /// The largest 99 % of its versions.
    pub p99_ms: Option<f64>,
    /// Requests in flight.
    pub inflight: u64,
    /// Its endpoints, and how many of them are down or ejected.
    pub endpoints: usize,
    /// Endpoints that are down or ejected.
    pub broken: usize,
}

impl Summary {
    /// Sums up a service; `mistakes` are its config errors.
    #[must_use]
    pub fn of(service: &Service, mistakes: usize) -> Self {
        let rps: f64 = service.versions.iter().map(|version| version.rps).sum();
        let failing: f64 = service.versions.iter().map(|v| v.rps * v.error_rate).sum();
        let worst = |of: fn(&Version) -> Option<f64>| {
            let times = service.versions.iter().filter_map(of);
            times.max_by(f64::total_cmp)
        };
        let mut summary = Self {
            rps,
            error_rate: if rps > 0.0 { failing / rps } else { 0.0 },
            rejected_rps: service.rejected_rps,
            p50_ms: worst(|version| version.p50_ms),
            p99_ms: worst(|version| version.p99_ms),
            inflight: service
                .versions
                .iter()
                .map(|version| version.inflight)
                .sum(),
            endpoints: service.endpoints().count(),
            broken: service
                .endpoints()
                .filter(|it| it.state.is_broken())
                .count(),
            ..Self::default()
        };
        let (level, word) = summary.judge(service, mistakes);
        (summary.level, summary.word) = (level, word);
        summary
    }

    fn judge(&self, service: &Service, mistakes: usize) -> (Level, String) {
        let all = service.endpoints();
        let serving = all.filter(|it| matches!(it.state, State::Up | State::Unknown));
        let serving = serving.count();
        let of_all = |broken: usize| format!("{broken}/{}", self.endpoints);
        if self.broken > 0 && serving == 0 {
            return (Level::Dead, "DOWN".to_owned());
        }
        let errors = of_errors(self.error_rate);
        if errors == Level::Dead {
            return (Level::Dead, "ERRORS".to_owned());
        }
        if self.broken > 0 {
            let down = service.endpoints().any(|it| it.state == State::Down);
            let word = if down { "DOWN" } else { "EJECT" };
            return (Level::Bad, format!("{word} {}", of_all(self.broken)));
        }
        if errors == Level::Bad {
            return (Level::Bad, "ERRORS".to_owned());
        }
        if mistakes > 0 {
            return (Level::Look, "CONFIG".to_owned());
        }
        if errors == Level::Look {
            return (Level::Look, "errors".to_owned());
        }
        if self.rps >= RATE_SAYS && service.versions.iter().any(is_off) {
            return (Level::Look, "share".to_owned());
        }
        let word = match (self.rps > 0.0, self.endpoints, serving) {
            (true, ..) => "ok",
            (false, 1.., 0) => "off",
            (false, ..) => "idle",
        };
        (Level::Fine, word.to_owned())
    }

    /// Failed requests per second.
    #[must_use]
    pub fn failing(&self) -> f64 {
        self.rps * self.error_rate
    }
}

/// Whether a version gets another share than its weight asks for.
#[must_use]
pub fn is_off(version: &Version) -> bool {
    let off = version.share.zip(version.wished);
    off.is_some_and(|(share, wished)| (share - wished).abs() >= SHARE_OFF)
}

/// By what services are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// The worst first; those without trouble by rate, roughly, so that rows stay in place.
    #[default]
    Worst,
    /// Requests per second.
    Rate,
    /// The share of failed requests.
    Errors,
    /// The largest 99 % latency.
    P99,
    /// Requests in flight.
    Inflight,
    /// The name.
    Name,
}

impl Sort {
    /// All of them, in the order in which a key goes through them.
    pub const ALL: [Self; 6] = [
        Self::Worst,
        Self::Rate,
        Self::Errors,
        Self::P99,
        Self::Inflight,
        Self::Name,
    ];

    /// The word for it, as flags and the screen say it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Worst => "worst",
            Self::Rate => "rate",
            Self::Errors => "errors",
            Self::P99 => "p99",
            Self::Inflight => "inflight",
            Self::Name => "name",
        }
    }

    /// The one of this word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|sort| sort.word() == word)
    }

    /// The one after it.
    #[must_use]
    pub fn next(self) -> Self {
        let at = Self::ALL.iter().position(|sort| *sort == self);
        let next = at.map_or(0, |at| at + 1) % Self::ALL.len();
        Self::ALL.get(next).copied().unwrap_or_default()
    }

    /// Which of two services comes first; their names decide where this does not.
    #[must_use]
    pub fn order(self, one: &Summary, other: &Summary) -> Ordering {
        let largest = |of: fn(&Summary) -> f64| of(other).total_cmp(&of(one));
        match self {
            Self::Worst => (other.level.cmp(&one.level))
                .then_with(|| largest(|it| (it.failing() * 10.0).round()))
                .then_with(|| largest(|it| (it.error_rate * 100.0).round()))
                .then_with(|| other.broken.cmp(&one.broken))
                .then_with(|| largest(|it| it.rps.max(1.0).log2().round())),
            Self::Rate => largest(|it| it.rps),
            Self::Errors => largest(|it| it.error_rate),
            Self::P99 => largest(|it| it.p99_ms.unwrap_or_default()),
            Self::Inflight => other.inflight.cmp(&one.inflight),
            Self::Name => Ordering::Equal,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::top::facts::Endpoint;

    fn service(rps: f64, error_rate: f64, states: &[State]) -> Service {
        let endpoints = states.iter().map(|state| Endpoint {
            state: *state,
            ..Endpoint::default()
        });
        Service {
            name: "a".to_owned(),
            rejected_rps: 0.0,
            versions: vec![Version {
                name: "base".to_owned(),
                rps,
                error_rate,
                endpoints: endpoints.collect(),
                ..Version::default()
            }],
            unplaced: Vec::new(),
            gateways: BTreeSet::new(),
        }
    }

    #[test]
    fn a_word_says_what_is_worst() {
        use State::{Down, Drain, Ejected, Off, Up};
        for (rps, errors, states, mistakes, level, word) in [
            (1.0, 0.0, &[Up][..], 0, Level::Fine, "ok"),
            (0.0, 0.0, &[Up], 0, Level::Fine, "idle"),
            (0.0, 0.0, &[Off], 0, Level::Fine, "off"),
            (1.0, 0.02, &[Up], 0, Level::Look, "errors"),
            (1.0, 0.02, &[Up], 1, Level::Look, "CONFIG"),
            (1.0, 0.06, &[Up], 1, Level::Bad, "ERRORS"),
            (1.0, 0.0, &[Up, Ejected, Off], 0, Level::Bad, "EJECT 1/3"),
            (1.0, 0.0, &[Up, Ejected, Down], 0, Level::Bad, "DOWN 2/3"),
            (1.0, 0.5, &[Up], 0, Level::Dead, "ERRORS"),
            (1.0, 0.0, &[Down, Drain], 0, Level::Dead, "DOWN"),
        ] {
            let summary = Summary::of(&service(rps, errors, states), mistakes);
            assert_eq!((summary.level, summary.word.as_str()), (level, word));
        }
    }

    #[test]
    fn a_share_that_is_far_off_its_weight_is_worth_a_look() {
        let mut service = service(10.0, 0.0, &[State::Up]);
        service.versions[0].share = Some(0.5);
        service.versions[0].wished = Some(0.55);
        assert_eq!(Summary::of(&service, 0).level, Level::Fine);
        service.versions[0].wished = Some(0.9);
        assert_eq!(Summary::of(&service, 0).word, "share");
    }

    #[test]
    fn the_worst_comes_first() {
        use State::{Down, Up};
        let all = [
            service(1.0, 0.0, &[Down]),
            service(10.0, 0.6, &[Up]),
            service(900.0, 0.06, &[Up]),
            service(10.0, 0.06, &[Up]),
            service(10.0, 0.0, &[Up, Down]),
            service(900.0, 0.0, &[Up]),
            service(10.0, 0.0, &[Up]),
        ];
        let mut ordered: Vec<(usize, Summary)> = (all.iter().enumerate())
            .map(|(at, service)| (at, Summary::of(service, 0)))
            .collect();
        ordered.reverse();
        ordered.sort_by(|one, other| Sort::Worst.order(&one.1, &other.1));
        let order: Vec<usize> = ordered.iter().map(|(at, _)| *at).collect();
        assert_eq!(order, [1, 0, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn every_sort_has_a_word_and_a_next() {
        let mut sort = Sort::Worst;
        for _ in 0..Sort::ALL.len() {
            assert_eq!(Sort::parse(sort.word()), Some(sort));
            sort = sort.next();
        }
        assert_eq!(sort, Sort::Worst);
    }
}
