//! Log set-up, and every event: one function each, so that its words stand in one place.
//!
//! A change of the table is logged at info, a config error at warn, a single request at debug.

pub mod metrics;

use std::io::IsTerminal;
use std::net::SocketAddr;

use tracing::level_filters::LevelFilter;
use tracing::{debug, error, info, warn};
use tracing_subscriber::EnvFilter;

use crate::model::decode::ConfigError;

/// Form of the log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is none.
    #[error(
        "want error, warn, info, debug, trace, or a filter such as info,smartlink::store=debug"
    )]
    Filter(#[source] Option<tracing_subscriber::filter::ParseError>),
    /// Another log is in place in this process.
    #[error("the log is set up already")]
    Twice(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Takes a text as a log filter: a level, or `target=level` pairs.
pub fn parse_filter(text: &str) -> Result<EnvFilter, Error> {
    let level_or_pair = |part: &str| {
        part.contains('=') || (!part.is_empty() && part.parse::<LevelFilter>().is_ok())
    };
    // A slip such as `inof` would be taken as the name of a module.
    if !text.split(',').all(|part| level_or_pair(part.trim())) {
        return Err(Error::Filter(None));
    }
    EnvFilter::builder()
        .parse(text)
        .map_err(|cause| Error::Filter(Some(cause)))
}

/// Sets up the log of this process: lines on standard error, coloured only on a terminal.
pub fn init(format: Format, filter: EnvFilter) -> Result<(), Error> {
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        Format::Text => builder.with_ansi(colours).with_target(false).try_init(),
        Format::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
    }
    .map_err(Error::Twice)
}

/// The gateway accepts connections.
pub fn listening(instance: &str, public: &[SocketAddr], admin: Option<SocketAddr>) {
    let version = env!("CARGO_PKG_VERSION");
    let admin = admin.map(|admin| admin.to_string());
    info!(instance, version, ?public, admin, "listening");
}

/// These services ask nobody who they are, and more than this machine can reach them.
pub fn open_services(count: usize, first: &str) {
    warn!(
        count,
        first, "open services on a public address: anybody may ask them; auth token closes them"
    );
}

/// A rollout goes on, holds or ends.
pub fn rollout(service: &str, state: &str, share: &str, why: &str) {
    info!(service, state, share, why, "rollout");
}

/// The pilot cannot read or write; nothing is moved.
pub fn pilot_blind(why: &str) {
    warn!(
        why,
        "the pilot cannot read or write: weights stay as they are"
    );
}

/// The pilot cannot read counts or results of copies; it goes on without new ones.
pub fn pilot_purblind(why: &str) {
    warn!(
        why,
        "the pilot cannot read all counts: nothing is decided on new ones"
    );
}

/// A new table is in force.
pub fn config_applied(revision: u64, changed: &[String]) {
    /// A first load names thousands; a change by hand a few.
    const NAMED: usize = 10;
    let count = changed.len();
    let mut names = changed
        .get(..NAMED.min(count))
        .unwrap_or(changed)
        .join(", ");
    if count > NAMED {
        names.push_str(", ...");
    }
    info!(revision, count, changed = names, "config applied");
}

/// Something is wrong in a hash; the last good state of that object stays in force.
pub fn config_error(error: &ConfigError) {
    let field = error.field.as_deref();
    warn!(key = error.key, field, why = error.message, "config error");
}

/// What was wrong at `place` is mended.
pub fn config_mended(place: &str) {
    info!(place, "config mended");
}

/// Everything known vanished from Redis without an order; it is served on.
pub fn config_vanished(objects: usize) {
    error!(
        objects,
        "config vanished: serving on; write the keys again, or run smartlink forget-vanished to drop them"
    );
}

/// What had vanished is back, deleted by name, or forgotten by order.
pub fn config_vanished_over() {
    info!("config vanished: over");
}

/// An endpoint takes no requests until a probe succeeds.
pub fn endpoint_down(service: &str, version: &str, endpoint: &str, why: &str) {
    warn!(service, version, endpoint, why, "endpoint down");
}

/// An endpoint takes requests again.
pub fn endpoint_up(service: &str, version: &str, endpoint: &str, why: &str) {
    info!(service, version, endpoint, why, "endpoint up");
}

/// An endpoint takes no requests for a while.
pub fn endpoint_ejected(service: &str, version: &str, endpoint: &str, why: &str) {
    warn!(service, version, endpoint, why, "endpoint ejected");
}

/// Redis does not answer; traffic flows on as last configured.
pub fn redis_lost(why: &str) {
    warn!(why, "redis lost");
}

/// Redis answers again and everything was read anew.
pub fn redis_back() {
    info!("redis back");
}

/// Another live gateway writes under our name, so that what both say of themselves is mixed up; said
/// once a minute.
pub fn name_held(instance: &str) {
    tracing::error!(
        instance,
        "another live gateway has this name: want another --instance"
    );
}

/// Redis is there and does not let us do something; said once, until it lets us.
pub fn redis_refuses(what: &str, why: &str) {
    warn!(what, why, "redis refuses");
}

/// Scripts are refused: counts are written by single increments from now on; said once.
pub fn stats_plain(why: &str) {
    warn!(why, "counts are written without scripts");
}

/// Redis lost batches it had acknowledged. What is still in memory is told again; so many batches
/// are not.
pub fn stats_gap(known: u64, expected: u64, lost: u64) {
    warn!(known, expected, lost, "redis lost counts");
}

/// A trial has counted as many callers as it may.
pub fn trial_callers_full(callers: &str, most: u64) {
    warn!(callers, most, "a trial counts no new callers");
}

/// More new callers came at a time than wait for Redis; some count only when they come again.
pub fn trial_callers_dropped(callers: usize) {
    warn!(callers, "a trial has no room for new callers");
}

/// The gateway stops, and Redis did not take the last counts.
pub fn stats_unsaid() {
    error!("the last counts could not be told");
}

/// An issuer of tokens does not answer, or not with what it was asked for.
pub fn issuer_away(issuer: &str, why: &str) {
    warn!(issuer, why, "an issuer does not say what it is asked");
}

/// An issuer that was away answers again.
pub fn issuer_back(issuer: &str) {
    info!(issuer, "an issuer answers again");
}

/// A receiver took the message about an incident.
pub fn alert_sent(alert: &str, kind: &str, service: &str, state: &str) {
    info!(alert, kind, service, state, "alert sent");
}

/// A receiver did not take a message; it is tried again.
pub fn alert_failed(alert: &str, attempts: u32, why: &str) {
    warn!(alert, attempts, why, "alert not sent");
}

/// A receiver did not take a message however often it was tried; nobody hears of it.
pub fn alert_lost(alert: &str, attempts: u32, why: &str) {
    error!(alert, attempts, why, "alert lost");
}

/// This gateway sends the alerts of all from now on.
pub fn alerts_led() {
    info!("this gateway sends alerts");
}

/// Records of a service began to be dropped; said once, until none was for a while.
pub fn shadow_dropped(service: &str, why: &str) {
    warn!(service, why, "shadow records dropped");
}

/// A rollout runs and no pilot watches it.
pub fn rollout_unwatched(service: &str, why: &str) {
    warn!(service, why, "a rollout is unwatched");
}

/// The gateway stops, and the sink did not take the last records.
pub fn shadow_unshipped() {
    error!("the last shadow records could not be shipped");
}

/// No broker of Kafka can be reached, or one says that something is wrong; records wait.
pub fn kafka_lost(why: &str) {
    warn!(why, "kafka lost");
}

/// Records of a service cannot go to Kafka: they are dropped; said once.
pub fn kafka_refuses(service: &str, why: &str) {
    warn!(service, why, "shadow records cannot go to kafka");
}

/// The gateway compares records itself, and cannot begin to; said once.
pub fn mirror_failed(why: &str) {
    error!(why, "the mirror cannot work");
}

/// The snapshot file cannot be read or written; what is in force stays in force.
pub fn snapshot_failed(why: &str) {
    warn!(why, "snapshot failed");
}

/// How changes are noticed from now on: by notifications or by polling, and why.
pub fn watch_mode(mode: &str, why: &str) {
    info!(mode, why, "watch mode");
}

/// A request was answered by the gateway itself, because of this.
pub fn request_failed(code: &str, service: &str, request_id: &str, why: &str) {
    debug!(code, service, request_id, why, "request failed");
}

/// An answer that had begun was cut, because of this.
pub fn answer_cut(clock: &str) {
    debug!(clock, "answer cut");
}

/// Lines of the access log were lost.
pub fn access_log_lost(cause: &std::io::Error) {
    warn!(%cause, "the access log cannot be written: its lines are lost");
}

/// Spans of requests were lost.
pub fn spans_lost(why: &str) {
    warn!(why, "the collector takes no spans: they are lost");
}

/// A shadow worker could not do something; it tries again.
pub fn worker_failed(service: &str, candidate: &str, why: &str) {
    warn!(service, candidate, why, "shadow worker: trouble");
}

/// A judge outside said nothing of a pair, which counts for nobody.
pub fn scorer_failed(service: &str, candidate: &str, why: &str) {
    warn!(service, candidate, why, "shadow worker: scorer");
}

/// A shadow worker compares, or waits for its candidate.
pub fn worker_state(service: &str, candidate: &str, state: &str) {
    info!(service, candidate, state, "shadow worker");
}

/// Records were trimmed before a shadow worker read them: so many by now.
pub fn worker_missed(service: &str, candidate: &str, lost: u64) {
    warn!(
        service,
        candidate, lost, "shadow worker: records trimmed unread"
    );
}

/// How far a shadow worker is.
pub fn worker_progress(line: &str) {
    info!("{line}");
}

/// The gateway stops accepting and finishes what is in flight.
pub fn draining() {
    info!("draining");
}

/// The gateway is done.
pub fn stopped() {
    info!("stopped");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_level_or_pairs() {
        for good in [
            "info",
            "WARN",
            "off",
            "info,smartlink::store=debug",
            "smartlink=trace",
        ] {
            assert!(parse_filter(good).is_ok(), "{good}");
        }
        for bad in ["inof", "", "smartlink=loud", "info,store"] {
            assert!(parse_filter(bad).is_err(), "{bad}");
        }
    }
}
