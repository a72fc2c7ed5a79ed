//! What is told of a shadow worker, in a process of its own or as the mirror of a gateway: of each
//! candidate of each service, and of the process.

use super::families::{latencies, number, process};
use super::page::Page;
use super::process::Process;
use crate::stats::histogram::cumulative;
use crate::telemetry::metrics as metric;
use crate::telemetry::metrics::{Labels, Metric, label, told_to};
use crate::worker::{Doing, Status};

/// The page of a worker that started then, in Unix seconds.
pub(in crate::admin) fn page(lanes: &[Status], started: f64) -> String {
    let page = Page::default();
    let both = || {
        tell(lanes);
        process(started, &Process::look());
    };
    told_to(&page, both);
    page.take()
}

/// Tells how all lanes are.
pub(super) fn tell(lanes: &[Status]) {
    for (metric, tell) in LANES {
        metric.describe();
        for lane in lanes {
            tell(metric, &labels(lane), lane);
        }
    }
}

type Tell = fn(&Metric, &Labels, &Status);

/// What is told of each lane, in the order of the page.
const LANES: [(&Metric, Tell); 9] = [
    (&metric::WORKER_RECORDS, |metric, labels, lane| {
        counts(metric, labels, "fate", &lane.meter.records);
    }),
    (&metric::WORKER_PAIRS, |metric, labels, lane| {
        counts(metric, labels, "pair", &lane.meter.pairs);
    }),
    (&metric::WORKER_SCORES, |metric, labels, lane| {
        counts(metric, labels, "result", &lane.meter.scores);
    }),
    (&metric::WORKER_CALLS, |metric, labels, lane| {
        for (asked, calls) in &lane.meter.calls {
            let mut labels = labels.clone();
            labels.push(label("asked", asked.name()));
            counts(metric, &labels, "result", &calls.ends);
        }
    }),
    (&metric::WORKER_CALL_DURATION, durations),
    (&metric::WORKER_IN_FLIGHT, |metric, labels, lane| {
        metric.set(labels.clone(), number(lane.in_flight as u64));
    }),
    (&metric::WORKER_PENDING, |metric, labels, lane| {
        metric.set(labels.clone(), number(lane.pending));
    }),
    (&metric::WORKER_LAG, |metric, labels, lane| {
        if let Some(waiting) = lane.waiting {
            metric.set(labels.clone(), number(waiting));
        }
    }),
    (&metric::WORKER_STATE, |metric, labels, lane| {
        for (state, is_so) in [
            ("paused", lane.doing == Doing::Waiting),
            ("yielding", lane.yielding),
            ("missing", lane.lost > 0),
            ("unscored", lane.unscored),
        ] {
            let mut labels = labels.clone();
            labels.push(label("state", state));
            metric.set(labels, f64::from(u8::from(is_so)));
        }
    }),
];

fn labels(lane: &Status) -> Labels {
    vec![
        label("service", lane.service.to_string()),
        label("candidate", lane.candidate.to_string()),
    ]
}

fn counts<'c, N: AsRef<str> + 'c>(
    metric: &Metric,
    labels: &Labels,
    name: &'static str,
    counts: impl IntoIterator<Item = (&'c N, &'c u64)>,
) {
    for (value, count) in counts {
        let mut labels = labels.clone();
        labels.push(label(name, value.as_ref().to_owned()));
        metric.count(labels, *count);
    }
}

fn durations(_: &Metric, labels: &Labels, lane: &Status) {
    for (asked, calls) in &lane.meter.calls {
        let mut labels = labels.clone();
        labels.push(label("asked", asked.name()));
        let fine: Vec<(u16, u64)> = calls.times.iter().map(|(b, n)| (*b, *n)).collect();
        let all = fine.iter().map(|(_, count)| count).sum();
        let buckets = latencies(cumulative(&fine), all);
        metric::histogram(
            metric::CALL_SERIES,
            &labels,
            buckets,
            number(calls.us) / 1e6,
            all,
        );
    }
}
