//! What one scrape has to tell, gathered at its beginning: the table in force, what was counted,
//! and what the background tasks know about themselves.
//!
//! Names come from the table alone: what is counted of a service or version that left it is told
//! no more.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::process::Process;
use crate::control::prober::Board;
use crate::control::recorder::{Books, Flush};
use crate::control::status::Status;
use crate::model::copies::Fate;
use crate::model::count::Scalar;
use crate::model::table::{Endpoint, Service, Table, Version};
use crate::stats::histogram::{COARSE, cumulative};
use crate::stats::{Meters, Series, Sum};
use crate::telemetry::metrics::{Labels, label};
use crate::worker::Status as Lane;

/// What one scrape has to tell.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) table: Arc<Table>,
    pub(super) status: Arc<Status>,
    pub(super) flush: Flush,
    pub(super) meters: Arc<Meters>,
    /// When the process started, in Unix seconds.
    pub(super) started: f64,
    pub(super) process: Process,
    pub(super) services: Vec<ServiceRow>,
    pub(super) series: Vec<SeriesRow>,
    pub(super) endpoints: Vec<EndpointRow>,
    pub(super) lanes: Vec<Lane>,
}

/// What is told of a service.
#[derive(Debug)]
pub(super) struct ServiceRow {
    pub(super) labels: Labels,
    pub(super) waiting: f64,
    /// What became of its shadow copies, where it has or had a shadow.
    pub(super) copies: Vec<(Fate, u64)>,
}

/// What is told of a version, or of what ended before one was chosen.
#[derive(Debug)]
pub(super) struct SeriesRow {
    pub(super) labels: Labels,
    /// Requests in flight and the weight, of a version.
    pub(super) now: Option<(f64, f64)>,
    /// None before its first request.
    pub(super) counted: Option<Counted>,
}

/// What requests came to.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) sum: Sum,
    /// By coarse bound of latency, cumulative.
    pub(super) coarse: [u64; COARSE],
    /// All that have a latency.
    pub(super) all: u64,
}

/// What is told of an endpoint.
#[derive(Debug)]
pub(super) struct EndpointRow {
    pub(super) labels: Labels,
    pub(super) state: &'static str,
    pub(super) in_flight: f64,
    pub(super) fine: u64,
    pub(super) failed: u64,
    pub(super) ejected: u64,
}

/// Where facts come from.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    pub(super) table: Arc<Table>,
    pub(super) status: Arc<Status>,
    pub(super) board: Board,
    pub(super) meters: Arc<Meters>,
    pub(super) started: f64,
    /// Of the mirror.
    pub(super) lanes: Vec<Lane>,
}

impl Facts {
    /// Gathers them; takes milliseconds where there are thousands of services.
    pub(super) fn gather(sources: Sources, books: Books) -> Self {
        let Sources {
            table,
            status,
            board,
            meters,
            started,
            lanes,
        } = sources;
        let mut facts = Self {
            status,
            flush: books.flush,
            meters,
            started,
            process: Process::look(),
            services: Vec::with_capacity(table.services.len()),
            series: Vec::new(),
            endpoints: Vec::new(),
            lanes,
            table: Arc::clone(&table),
        };
        let mut counted: HashMap<Series, Sum> = HashMap::with_capacity(books.counted.len());
        for (series, part) in books.counted {
            counted.entry(series).or_default().add(&part);
        }
        let mut services: Vec<_> = table.services.iter().collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        for service in services {
            facts.add(service, &mut counted, &board);
        }
        facts
    }

    fn add(&mut self, service: &Service, counted: &mut HashMap<Series, Sum>, board: &Board) {
        let name: Arc<str> = service.name.as_str().into();
        let of_service = vec![label("service", Arc::clone(&name))];
        let mut early = of_service.clone();
        early.push(label("version", ""));
        let mut series = Series {
            service: service.name.clone(),
            version: None,
        };
        let of_early = counted.remove(&series).map(Counted::new);
        self.services.push(ServiceRow {
            labels: of_service.clone(),
            waiting: (service.live.gate.waiting() + service.live.waiting.load(Ordering::Relaxed))
                .into(),
            copies: copies(service),
        });
        if of_early.is_some() {
            self.series.push(SeriesRow {
                labels: early,
                now: None,
                counted: of_early,
            });
        }
        for version in &service.versions {
            let mut labels = of_service.clone();
            labels.push(label("version", Arc::<str>::from(version.name.as_str())));
            let rows = version.endpoints.iter();
            let rows = rows.map(|endpoint| EndpointRow::new(&labels, endpoint, board));
            self.endpoints.extend(rows);
            series.version = Some(version.name.clone());
            self.series.push(SeriesRow {
                labels,
                now: Some((in_flight(version), version.weight.into())),
                counted: counted.remove(&series).map(Counted::new),
            });
        }
    }
}

fn in_flight(version: &Version) -> f64 {
    let loads = version.endpoints.iter();
    loads
        .map(|endpoint| f64::from(endpoint.live.inflight.load(Ordering::Relaxed)))
        .sum()
}

impl Counted {
    fn new(mut sum: Sum) -> Self {
        // Told by coarse bound; the fine ones would be most of the memory.
        let fine = std::mem::take(&mut sum.latency);
        Self {
            coarse: cumulative(&fine),
            all: fine.iter().map(|(_, count)| count).sum(),
            sum,
        }
    }

    pub(super) fn scalar(&self, which: Scalar) -> u64 {
        self.sum.scalar(which)
    }

    /// Microseconds as seconds.
    #[expect(
        clippy::cast_precision_loss,
        reason = "exact up to 2^53 microseconds, which are 285 years"
    )]
    pub(super) fn seconds(&self, which: Scalar) -> f64 {
        self.scalar(which) as f64 / 1e6
    }
}

impl EndpointRow {
    fn new(of_version: &Labels, endpoint: &Endpoint, board: &Board) -> Self {
        let mut labels = of_version.clone();
        labels.push(label("endpoint", Arc::<str>::from(&*endpoint.spec.url)));
        let cells = endpoint.live.counts.iter();
        let (requests, failed) = cells.fold((0, 0), |(requests, failed), cell| {
            (requests + cell.requests.get(), failed + cell.errors.get())
        });
        Self {
            labels,
            state: board.show(endpoint).state,
            in_flight: endpoint.live.inflight.load(Ordering::Relaxed).into(),
            fine: requests.saturating_sub(failed),
            failed,
            ejected: endpoint
                .live
                .condition
                .ejected
                .load(Ordering::Relaxed)
                .into(),
        }
    }
}

fn copies(service: &Service) -> Vec<(Fate, u64)> {
    let count = |fate| (fate, service.live.copies.get(fate));
    let counts: Vec<_> = Fate::ALL.into_iter().map(count).collect();
    let any = counts.iter().any(|(_, count)| *count > 0);
    if any || service.shadow.is_some() {
        counts
    } else {
        Vec::new()
    }
}
