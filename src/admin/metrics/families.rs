//! What is told of each metric, in the order of the page: all samples of a metric stand together.

use std::sync::LazyLock;

use metrics::Label;

use super::facts::{Counted, EndpointRow, Facts, SeriesRow, ServiceRow};
use super::process::Process;
use crate::control::status::Watch;
use crate::model::count::Scalar;
use crate::stats::histogram::{self, COARSE};
use crate::telemetry::metrics as metric;
use crate::telemetry::metrics::{Labels, Metric, label};

/// A metric, and what is told of it.
#[derive(Clone, Copy)]
pub(super) struct Family {
    pub(super) metric: &'static Metric,
    pub(super) tell: Tell,
}

/// Of what there is a sample.
#[derive(Clone, Copy)]
pub(super) enum Tell {
    /// Of this process.
    Process(fn(&Metric, &Facts)),
    /// Of each service.
    Service(fn(&Metric, &ServiceRow)),
    /// Of each version.
    Version(fn(&Metric, &SeriesRow)),
    /// Of each version that was asked, and of what ended before one was chosen.
    Counted(fn(&Metric, &Labels, &Counted)),
    /// Of each endpoint.
    Endpoint(fn(&Metric, &EndpointRow)),
}

const fn family(metric: &'static Metric, tell: Tell) -> Family {
    Family { metric, tell }
}

/// All of them.
pub(super) const ALL: &[Family] = &[
    family(&metric::REQUESTS, Tell::Counted(requests)),
    family(&metric::DURATION, Tell::Counted(duration)),
    family(
        &metric::FIRST_BYTE,
        Tell::Counted(|metric, labels, counted| {
            metric.set(labels.clone(), counted.seconds(Scalar::FirstByte));
        }),
    ),
    family(
        &metric::IN_FLIGHT,
        Tell::Version(|metric, row| {
            if let Some((in_flight, _)) = row.now {
                metric.set(row.labels.clone(), in_flight);
            }
        }),
    ),
    family(
        &metric::WAITING,
        Tell::Service(|metric, row| metric.set(row.labels.clone(), row.waiting)),
    ),
    family(
        &metric::WEIGHT,
        Tell::Version(|metric, row| {
            if let Some((_, weight)) = row.now {
                metric.set(row.labels.clone(), weight);
            }
        }),
    ),
    family(
        &metric::RETRIES,
        Tell::Counted(|metric, labels, counted| {
            metric.count(labels.clone(), counted.scalar(Scalar::Retries));
        }),
    ),
    family(&metric::ERRORS, Tell::Counted(errors)),
    family(&metric::REJECTED, Tell::Counted(rejected)),
    family(
        &metric::REQUEST_BYTES,
        Tell::Counted(|metric, labels, counted| {
            metric.count(labels.clone(), counted.scalar(Scalar::BytesIn));
        }),
    ),
    family(
        &metric::RESPONSE_BYTES,
        Tell::Counted(|metric, labels, counted| {
            metric.count(labels.clone(), counted.scalar(Scalar::BytesOut));
        }),
    ),
    family(
        &metric::SHADOW,
        Tell::Service(|metric, row| {
            for (fate, count) in &row.copies {
                metric.count(with(&row.labels, "fate", fate.as_str()), *count);
            }
        }),
    ),
    family(&metric::ENDPOINT_STATE, Tell::Endpoint(endpoint_state)),
    family(
        &metric::ENDPOINT_IN_FLIGHT,
        Tell::Endpoint(|metric, row| metric.set(row.labels.clone(), row.in_flight)),
    ),
    family(
        &metric::ENDPOINT_ATTEMPTS,
        Tell::Endpoint(|metric, row| {
            metric.count(with(&row.labels, "result", "fine"), row.fine);
            metric.count(with(&row.labels, "result", "failed"), row.failed);
        }),
    ),
    family(
        &metric::ENDPOINT_EJECTIONS,
        Tell::Endpoint(|metric, row| metric.count(row.labels.clone(), row.ejected)),
    ),
    family(
        &metric::CONFIG_REVISION,
        Tell::Process(|metric, facts| metric.set(vec![], number(facts.table.revision))),
    ),
    family(
        &metric::CONFIG_APPLIED,
        Tell::Process(|metric, facts| moment(metric, facts.status.applied_ms())),
    ),
    family(
        &metric::CONFIG_SERVICES,
        Tell::Process(|metric, facts| metric.set(vec![], size(facts.table.services.len()))),
    ),
    family(
        &metric::CONFIG_ERRORS,
        Tell::Process(|metric, facts| metric.set(vec![], size(facts.status.errors().len()))),
    ),
    family(
        &metric::CONFIG_VANISHED,
        Tell::Process(|metric, facts| metric.set(vec![], switch(facts.status.is_vanished()))),
    ),
    family(&metric::WATCH_MODE, Tell::Process(watch_mode)),
    family(
        &metric::WATCH_PROOF,
        Tell::Process(|metric, facts| moment(metric, facts.status.proof_ms())),
    ),
    family(&metric::REDIS_CONNECTED, Tell::Process(redis_connected)),
    family(
        &metric::STATS_LAG,
        Tell::Process(|metric, facts| metric.set(vec![], facts.flush.lag.as_secs_f64())),
    ),
    family(&metric::STATS_BATCHES, Tell::Process(batches)),
    family(
        &metric::STATS_LOST,
        Tell::Process(|metric, facts| metric.count(vec![], facts.flush.lost)),
    ),
    family(&metric::ALERTS_LEADER, Tell::Process(alerts_leader)),
    family(&metric::ALERTS_OPEN, Tell::Process(alerts_open)),
    family(&metric::ALERTS_MESSAGES, Tell::Process(alerts_messages)),
    family(
        &metric::ACCESS_LOG_DROPPED,
        Tell::Process(|metric, facts| metric.count(vec![], facts.meters.lines_dropped.get())),
    ),
    family(&metric::SPANS, Tell::Process(spans)),
    family(
        &metric::CONNECTIONS_ACCEPTED,
        Tell::Process(|metric, facts| metric.count(vec![], facts.meters.accepted.get())),
    ),
    family(&metric::CONNECTIONS_OPEN, Tell::Process(connections_open)),
    family(&metric::BUILD_INFO, Tell::Process(|_, _| build_info())),
    family(
        &metric::START_TIME,
        Tell::Process(|metric, facts| metric.set(vec![], facts.started)),
    ),
    family(
        &metric::CPU,
        Tell::Process(|metric, facts| known(metric, facts.process.cpu)),
    ),
    family(
        &metric::RESIDENT,
        Tell::Process(|metric, facts| known(metric, facts.process.resident)),
    ),
    family(
        &metric::OPEN_FDS,
        Tell::Process(|metric, facts| known(metric, facts.process.open_fds)),
    ),
    family(
        &metric::MAX_FDS,
        Tell::Process(|metric, facts| known(metric, facts.process.max_fds)),
    ),
];

/// Bounds of latency in seconds.
static BOUNDS: LazyLock<Vec<Label>> = LazyLock::new(|| {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let seconds = histogram::coarse_bounds().map(|us| us as f64 / 1e6);
    let bounds = seconds.map(|bound| bound.to_string());
    let bounds = bounds.chain(["+Inf".to_owned()]);
    bounds
        .map(|bound| label("le", std::sync::Arc::<str>::from(bound)))
        .collect()
});

fn requests(metric: &Metric, labels: &Labels, counted: &Counted) {
    for (status, count) in &counted.sum.statuses {
        let mut labels = labels.clone();
        labels.push(label("status", status.to_string()));
        metric.count(labels, *count);
    }
}

/// Counts at most at each bound of latency, each with its label.
pub(super) fn latencies(
    coarse: [u64; COARSE],
    all: u64,
) -> impl Iterator<Item = (Label, u64)> + 'static {
    let counts = coarse.into_iter().chain([all]);
    BOUNDS.iter().cloned().zip(counts)
}

fn duration(_: &Metric, labels: &Labels, counted: &Counted) {
    metric::histogram(
        metric::DURATION_SERIES,
        labels,
        latencies(counted.coarse, counted.all),
        counted.seconds(Scalar::Latency),
        counted.all,
    );
}

fn errors(metric: &Metric, labels: &Labels, counted: &Counted) {
    for (kind, which) in [
        ("connect", Scalar::ErrorConnect),
        ("timeout", Scalar::ErrorTimeout),
        ("reset", Scalar::ErrorReset),
        ("other", Scalar::ErrorOther),
    ] {
        metric.count(with(labels, "kind", kind), counted.scalar(which));
    }
}

/// Of what ended before a version was chosen, which is where requests are turned away.
fn rejected(metric: &Metric, labels: &Labels, counted: &Counted) {
    let [service, version] = labels.as_slice() else {
        return;
    };
    if !version.value().is_empty() {
        return;
    }
    for (reason, which) in [
        ("auth", Scalar::RejectedAuth),
        ("rate", Scalar::RejectedRate),
        ("busy", Scalar::RejectedBusy),
    ] {
        let labels = vec![service.clone(), label("reason", reason)];
        metric.count(labels, counted.scalar(which));
    }
}

fn endpoint_state(metric: &Metric, row: &EndpointRow) {
    for state in ["up", "down", "ejected", "drain"] {
        metric.set(
            with(&row.labels, "state", state),
            switch(row.state == state),
        );
    }
}

fn watch_mode(metric: &Metric, facts: &Facts) {
    let watch = facts.status.watch();
    for mode in [Watch::Notifications, Watch::Polling] {
        let labels = vec![label("mode", mode.to_string())];
        metric.set(labels, switch(mode == watch));
    }
}

fn redis_connected(metric: &Metric, facts: &Facts) {
    for (what, connected) in [
        ("config", facts.status.is_connected()),
        ("stats", facts.flush.connected),
    ] {
        metric.set(vec![label("use", what)], switch(connected));
    }
}

fn batches(metric: &Metric, facts: &Facts) {
    let flush = &facts.flush;
    for (result, count) in [
        ("applied", flush.applied),
        ("known", flush.known),
        ("gap", flush.gaps),
        ("failed", flush.failed),
    ] {
        metric.count(vec![label("result", result)], count);
    }
}

fn with(labels: &Labels, name: &'static str, value: &'static str) -> Labels {
    let mut labels = labels.clone();
    labels.push(label(name, value));
    labels
}

fn alerts_leader(metric: &Metric, facts: &Facts) {
    metric.set(vec![], switch(facts.status.alerts().leads));
}

fn alerts_open(metric: &Metric, facts: &Facts) {
    for ((alert, kind), open) in &facts.status.alerts().open {
        let labels = vec![
            label("alert", alert.to_string()),
            label("kind", kind.as_str()),
        ];
        metric.set(labels, size(*open));
    }
}

fn alerts_messages(metric: &Metric, facts: &Facts) {
    for (alert, told) in &facts.status.alerts().told {
        let results = [
            ("sent", told.sent),
            ("failed", told.failed),
            ("lost", told.lost),
        ];
        for (result, count) in results {
            let labels = vec![label("alert", alert.to_string()), label("result", result)];
            metric.count(labels, count);
        }
    }
}

fn spans(metric: &Metric, facts: &Facts) {
    let meters = &facts.meters;
    for (result, count) in [
        ("sent", &meters.spans_sent),
        ("failed", &meters.spans_failed),
        ("dropped", &meters.spans_dropped),
    ] {
        metric.count(vec![label("result", result)], count.get());
    }
}

fn connections_open(metric: &Metric, facts: &Facts) {
    // Read in this order, so that it is never below 0.
    let closed = facts.meters.closed.get();
    let accepted = facts.meters.accepted.get();
    metric.set(vec![], number(accepted.saturating_sub(closed)));
}

fn build_info() {
    metric::BUILD_INFO.set(vec![label("version", env!("CARGO_PKG_VERSION"))], 1.0);
}

/// Tells of a process that is no gateway, which started then, in Unix seconds.
pub(super) fn process(started: f64, process: &Process) {
    metric::BUILD_INFO.describe();
    build_info();
    for (metric, value) in [
        (&metric::START_TIME, Some(started)),
        (&metric::CPU, process.cpu),
        (&metric::RESIDENT, process.resident),
        (&metric::OPEN_FDS, process.open_fds),
        (&metric::MAX_FDS, process.max_fds),
    ] {
        metric.describe();
        known(metric, value);
    }
}

/// What the system tells; nothing where it does not.
fn known(metric: &Metric, value: Option<f64>) {
    if let Some(value) = value {
        metric.set(vec![], value);
    }
}

/// A moment in Unix milliseconds; nothing where it never was.
fn moment(metric: &Metric, at_ms: u64) {
    if at_ms > 0 {
        metric.set(vec![], number(at_ms) / 1e3);
    }
}

fn switch(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub(super) fn number(value: u64) -> f64 {
    value as f64
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn size(value: usize) -> f64 {
    value as f64
}
