//! Every metric: its name, its labels, what it counts. The only place that names the macros of the
//! `metrics` crate.
//!
//! Nothing is recorded as it happens: a request counts in cells (`stats`), and metrics are told to
//! the recorder of one scrape, which is the thread's while it lasts.

use metrics::{
    Label, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    with_local_recorder,
};

pub use metrics::Recorder;

/// Labels of one sample, in the order of `Metric::labels`.
pub type Labels = Vec<Label>;

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows while the process lives.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Counts by upper bound, their sum and their number.
    Histogram,
}

/// A metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name by the conventions of Prometheus: unit last, `_total` behind what only grows.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, in one sentence.
    pub help: &'static str,
}

const VERSION: &[&str] = &["service", "version"];
const ENDPOINT: &[&str] = &["service", "version", "endpoint"];

/// Declares metrics, and a list of them in the order of a page.
macro_rules! metrics {
    ($(#[$doc:meta])* $all:ident $($id:ident: $kind:ident $name:literal $labels:expr, $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $id: Metric = Metric {
                name: $name,
                kind: Kind::$kind,
                labels: $labels,
                help: $help,
            };
        )*
        $(#[$doc])*
        pub const $all: &[&Metric] = &[$(&$id),*];
    };
}

metrics! {
    /// All metrics of a gateway.
    ALL
    REQUESTS: Counter "smartlink_requests_total" &["service", "version", "status"],
        "Requests that ended, by the status of their answer; 499 where the client left.";
    DURATION: Histogram "smartlink_request_duration_seconds" VERSION,
        "Time from the head of a request to the end of its answer.";
    FIRST_BYTE: Counter "smartlink_first_byte_seconds_total" VERSION,
        "Time from the head of a request to the head of the upstream's answer, summed.";
    IN_FLIGHT: Gauge "smartlink_requests_in_flight" VERSION,
        "Requests that have an endpoint and did not end yet.";
    WAITING: Gauge "smartlink_requests_waiting" &["service"],
        "Requests that wait for a slot of the service or a place on an endpoint.";
    WEIGHT: Gauge "smartlink_version_weight" VERSION,
        "Weight in force; shares are relative to the sum of a service.";
    RETRIES: Counter "smartlink_retries_total" VERSION,
        "Attempts after the first.";
    ERRORS: Counter "smartlink_request_errors_total" &["service", "version", "kind"],
        "Requests that ended without a whole answer of an upstream, by what failed.";
    REJECTED: Counter "smartlink_requests_rejected_total" &["service", "reason"],
        "Requests that the gateway turned away before a version was chosen.";
    REQUEST_BYTES: Counter "smartlink_request_bytes_total" VERSION,
        "Bytes of request bodies that were taken.";
    RESPONSE_BYTES: Counter "smartlink_response_bytes_total" VERSION,
        "Bytes of answer bodies that were given.";
    SHADOW: Counter "smartlink_shadow_records_total" &["service", "fate"],
        "Shadow records, by what became of them: delivered, dropped for a reason, not sampled; truncated and not replayable beside these.";
    ENDPOINT_STATE: Gauge "smartlink_endpoint_state" &["service", "version", "endpoint", "state"],
        "1 for the state in which this gateway holds the endpoint, 0 for the others.";
    ENDPOINT_IN_FLIGHT: Gauge "smartlink_endpoint_requests_in_flight" ENDPOINT,
        "Requests that have this endpoint and did not end yet.";
    ENDPOINT_ATTEMPTS: Counter "smartlink_endpoint_attempts_total" &["service", "version", "endpoint", "result"],
        "Attempts that ended; failed are those without an answer, with a 5xx or with one cut short.";
    ENDPOINT_EJECTIONS: Counter "smartlink_endpoint_ejections_total" ENDPOINT,
        "How often this gateway ejected the endpoint.";
    CONFIG_REVISION: Gauge "smartlink_config_revision" &[],
        "Number of the routing table in force; 0 before the first.";
    CONFIG_APPLIED: Gauge "smartlink_config_applied_timestamp_seconds" &[],
        "When the routing table in force was applied.";
    CONFIG_SERVICES: Gauge "smartlink_config_services" &[],
        "Services in the routing table in force.";
    CONFIG_ERRORS: Gauge "smartlink_config_errors" &[],
        "Mistakes that stand in the configuration.";
    CONFIG_VANISHED: Gauge "smartlink_config_vanished" &[],
        "1 while what is in force has vanished from Redis without an order.";
    WATCH_MODE: Gauge "smartlink_watch_mode" &["mode"],
        "1 for the way in which changes in Redis are noticed, 0 for the other.";
    WATCH_PROOF: Gauge "smartlink_watch_proof_timestamp_seconds" &[],
        "When it was last proven that changes in Redis are noticed.";
    REDIS_CONNECTED: Gauge "smartlink_redis_connected" &["use"],
        "1 while Redis answers, for the configuration and for counts.";
    STATS_LAG: Gauge "smartlink_stats_flush_lag_seconds" &[],
        "Age of the oldest count that Redis was not told yet; 0 where it knows all.";
    STATS_BATCHES: Counter "smartlink_stats_batches_total" &["result"],
        "Batches of counts sent to Redis: applied, known before, answered by a gap, failed.";
    STATS_LOST: Counter "smartlink_stats_batches_lost_total" &[],
        "Batches that Redis acknowledged and lost, and that are too old to be told again.";
    ALERTS_LEADER: Gauge "smartlink_alerts_leader" &[],
        "1 while this gateway judges alerts for all.";
    ALERTS_OPEN: Gauge "smartlink_alerts_open" &["alert", "kind"],
        "Incidents that go on, at the gateway that judges them.";
    ALERTS_MESSAGES: Counter "smartlink_alerts_messages_total" &["alert", "result"],
        "Tries to send a message: sent, failed and to be tried again, lost after the last.";
    ACCESS_LOG_DROPPED: Counter "smartlink_access_log_dropped_total" &[],
        "Lines of the access log that were not written.";
    SPANS: Counter "smartlink_spans_total" &["result"],
        "Spans of requests: sent to a collector, not taken by it, dropped for want of room.";
    CONNECTIONS_ACCEPTED: Counter "smartlink_connections_accepted_total" &[],
        "Client connections that were accepted.";
    CONNECTIONS_OPEN: Gauge "smartlink_connections_open" &[],
        "Client connections that are open.";
    BUILD_INFO: Gauge "smartlink_build_info" &["version"],
        "Always 1; the version is a label.";
    START_TIME: Gauge "process_start_time_seconds" &[],
        "When the process started.";
    CPU: Counter "process_cpu_seconds_total" &[],
        "User and system time of the process.";
    RESIDENT: Gauge "process_resident_memory_bytes" &[],
        "Resident memory.";
    OPEN_FDS: Gauge "process_open_fds" &[],
        "Open file descriptors.";
    MAX_FDS: Gauge "process_max_fds" &[],
        "The most file descriptors it may open.";
}

const LANE: &[&str] = &["service", "candidate"];

metrics! {
    /// All metrics of a shadow worker, but for those of the process, which are as of a gateway.
    WORKER
    WORKER_RECORDS: Counter "smartlink_shadow_worker_records_total" &["service", "candidate", "fate"],
        "Records that this worker is done with: counted, skipped for a reason, dead.";
    WORKER_PAIRS: Counter "smartlink_shadow_worker_pairs_total" &["service", "candidate", "pair"],
        "Pairs of answers that it counted, by which side was bad.";
    WORKER_SCORES: Counter "smartlink_shadow_worker_scores_total" &["service", "candidate", "result"],
        "Pairs about which it asked the scorer: scored, unscored.";
    WORKER_CALLS: Counter "smartlink_shadow_worker_calls_total" &["service", "candidate", "asked", "result"],
        "Calls that ended, by the version that was asked and how they ended.";
    WORKER_CALL_DURATION: Histogram "smartlink_shadow_worker_call_duration_seconds" &["service", "candidate", "asked"],
        "Time of a call, without making the connection.";
    WORKER_IN_FLIGHT: Gauge "smartlink_shadow_worker_records_in_flight" LANE,
        "Records that this worker is working on.";
    WORKER_PENDING: Gauge "smartlink_shadow_records_pending" LANE,
        "Records that some worker has, and that are not counted yet.";
    WORKER_LAG: Gauge "smartlink_shadow_records_waiting" LANE,
        "Records in the stream that no worker has had yet, where Redis can tell.";
    WORKER_STATE: Gauge "smartlink_shadow_worker_state" &["service", "candidate", "state"],
        "1 while it is so: the candidate is away (paused), users come first (yielding), records were trimmed unread (missing), the scorer says too little (unscored).";
}

impl Metric {
    /// Says what is to come.
    pub fn describe(&self) {
        match self.kind {
            Kind::Counter => describe_counter!(self.name, self.help),
            Kind::Gauge => describe_gauge!(self.name, self.help),
            Kind::Histogram => describe_histogram!(self.name, self.help),
        }
    }

    /// Tells a whole number that only grows.
    pub fn count(&self, labels: Labels, count: u64) {
        counter!(self.name, labels).absolute(count);
    }

    /// Tells a number.
    pub fn set(&self, labels: Labels, value: f64) {
        gauge!(self.name, labels).set(value);
    }
}

/// What the lines of a histogram begin with: its buckets, its sum, its number.
pub type Series = [&'static str; 3];

/// Those of `DURATION`.
pub const DURATION_SERIES: Series = [
    "smartlink_request_duration_seconds_bucket",
    "smartlink_request_duration_seconds_sum",
    "smartlink_request_duration_seconds_count",
];

/// Those of `WORKER_CALL_DURATION`.
pub const CALL_SERIES: Series = [
    "smartlink_shadow_worker_call_duration_seconds_bucket",
    "smartlink_shadow_worker_call_duration_seconds_sum",
    "smartlink_shadow_worker_call_duration_seconds_count",
];

/// Tells a histogram, of which the recorder takes bounds, sum and number as they are: nothing is
/// left of single requests that it could put into buckets.
pub fn histogram(
    [bucket, sum_of, count_of]: Series,
    labels: &[Label],
    buckets: impl Iterator<Item = (Label, u64)>,
    sum: f64,
    all: u64,
) {
    for (bound, count) in buckets {
        let mut labels = labels.to_vec();
        labels.push(bound);
        counter!(bucket, labels).absolute(count);
    }
    gauge!(sum_of, labels.to_vec()).set(sum);
    counter!(count_of, labels.to_vec()).absolute(all);
}

/// Tells what `tell` has to say to this recorder.
pub fn told_to(recorder: &dyn Recorder, tell: impl FnOnce()) {
    with_local_recorder(recorder, tell);
}

/// A label.
pub fn label(name: &'static str, value: impl Into<metrics::SharedString>) -> Label {
    Label::new(name, value)
}
