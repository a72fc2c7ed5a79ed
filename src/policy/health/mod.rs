//! What an exchange says about the health of its endpoint, and what follows from it.
//!
//! Connect errors take an endpoint down at once, on the thread that saw them. Ejection is judged in
//! one place, by the control half, which sees the whole pool: here it is only asked for.

mod eject;
mod probe;

pub use eject::{Pool, length, may_eject, probation, repeats, serves};
pub use probe::{Others, Probed, Row, check_after, first_check_after, proven_for, retry_after};

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::model::live::{Health, State};
use crate::model::name::{ServiceName, VersionName};
use crate::model::settings::Effective;
use crate::model::table::Endpoint;

/// What an exchange saw of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// No connection could be made.
    ConnectFailed,
    /// The head of an answer that is not a failure; the rest is to come.
    Begun,
    /// A whole answer that is not a failure.
    Answered,
    /// A failure after the connection was there: a 5xx, a reset, a timeout, a broken answer.
    Failed,
}

/// What should happen to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It was taken down: whoever probes must bring it back.
    Down,
    /// It failed so often in a row that it should be ejected, if its pool allows.
    Suspect,
}

/// A finding on its way to the control half.
#[derive(Clone, Debug)]
pub struct Report {
    /// Whose endpoint it is.
    pub service: ServiceName,
    /// The version it serves.
    pub version: VersionName,
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// What was found.
    pub finding: Finding,
    /// In a few words, for people.
    pub why: String,
}

/// Takes note of what was seen at `now_ms`; `Some` where something must follow.
pub fn observe(
    endpoint: &Endpoint,
    settings: &Effective,
    seen: Seen,
    now_ms: u64,
) -> Option<Finding> {
    let condition = &endpoint.live.condition;
    match seen {
        Seen::Begun | Seen::Answered => {
            end(&condition.connect_errors);
            if seen == Seen::Answered {
                completed(endpoint);
            }
            if now_ms.saturating_sub(condition.proven_ms.load(Ordering::Relaxed)) >= PROOF_MS {
                condition.proven_ms.store(now_ms, Ordering::Relaxed);
            }
            None
        }
        Seen::ConnectFailed => {
            let row = condition.connect_errors.fetch_add(1, Ordering::Relaxed) + 1;
            let health = condition.health();
            if row < settings.fall || health.state == State::Down {
                return None;
            }
            let down = Health {
                state: State::Down,
                since_ms: now_ms,
            };
            condition.turn(health, down).then_some(Finding::Down)
        }
        Seen::Failed => {
            let row = condition.failures.fetch_add(1, Ordering::Relaxed) + 1;
            // Where the pool does not allow it now, the next rows ask again.
            let asks = row.is_multiple_of(settings.eject_5xx?);
            (asks && condition.health().state == State::Up).then_some(Finding::Suspect)
        }
    }
}

/// Takes note that an answer came whole whose head was seen to be good. Its head alone does not end
/// a row of failures: an endpoint may break off every answer it begins.
pub fn completed(endpoint: &Endpoint) {
    end(&endpoint.live.condition.failures);
}

/// Ends a row. Mostly read: the line stays shared between the threads.
fn end(row: &AtomicU32) {
    if row.load(Ordering::Relaxed) != 0 {
        row.store(0, Ordering::Relaxed);
    }
}

/// How often a proof of health is written down: a probe that is skipped a little late costs
/// nothing, a cache line written by every request does.
const PROOF_MS: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::Name;
    use crate::model::settings::Settings;

    fn endpoint() -> Endpoint {
        let fields = [("http://h/".to_owned(), "base".to_owned())].into();
        let (specs, _) = crate::model::endpoint::decode("endpoints:s", &fields);
        let specs = specs.expect("valid").into_values();
        Endpoint {
            service: Name::parse("s").expect("a name"),
            spec: specs.last().expect("one"),
            host: http::HeaderValue::from_static("h"),
            pool: 1,
            seed: 1,
            live: Arc::default(),
            group: Arc::default(),
            crowd: Arc::default(),
        }
    }

    fn settings(fall: u32, eject_5xx: Option<u32>) -> Effective {
        let mut settings = Effective::merge(&Settings::default(), &Settings::default());
        settings.fall = fall;
        settings.eject_5xx = eject_5xx;
        settings
    }

    /// What comes of a row of sights, 10 ms apart.
    #[track_caller]
    fn check(fall: u32, limit: Option<u32>, seen: &[Seen], expected: &[Option<Finding>]) -> State {
        let (endpoint, settings) = (endpoint(), settings(fall, limit));
        let found: Vec<_> = (1..)
            .zip(seen)
            .map(|(at, seen)| observe(&endpoint, &settings, *seen, at * 10))
            .collect();
        assert_eq!(found, expected, "{seen:?}");
        endpoint.live.condition.health().state
    }

    #[test]
    fn connect_errors_in_a_row_take_an_endpoint_down_once() {
        use Seen::{Answered, ConnectFailed, Failed};
        let down = Some(Finding::Down);
        let state = check(1, None, &[ConnectFailed; 3], &[down, None, None]);
        assert_eq!(state, State::Down);
        let seen = [ConnectFailed, ConnectFailed, Answered, ConnectFailed];
        assert_eq!(check(3, None, &seen, &[None; 4]), State::Up);
        let state = check(
            2,
            None,
            &[ConnectFailed, Failed, ConnectFailed],
            &[None, None, down],
        );
        assert_eq!(state, State::Down, "a failure is no answer");
    }

    #[test]
    fn failures_in_a_row_ask_for_an_ejection_and_ask_again() {
        use Seen::{Answered, Failed};
        let asks = Some(Finding::Suspect);
        let state = check(1, Some(2), &[Failed; 4], &[None, asks, None, asks]);
        assert_eq!(state, State::Up, "others decide");
        check(1, Some(2), &[Failed, Answered, Failed], &[None; 3]);
        check(1, Some(1), &[Failed, Failed], &[asks, asks]);
        check(1, None, &[Failed; 3], &[None; 3]);
    }

    #[test]
    fn answers_that_break_off_behind_good_heads_are_failures_in_a_row() {
        use Seen::{Answered, Begun, ConnectFailed, Failed};
        let asks = Some(Finding::Suspect);
        let broken = [Begun, Failed, Begun, Failed];
        check(1, Some(2), &broken, &[None, None, None, asks]);
        let whole = [Begun, Failed, Answered, Begun, Failed];
        check(1, Some(2), &whole, &[None; 5]);
        let seen = [ConnectFailed, Begun, ConnectFailed];
        assert_eq!(check(2, None, &seen, &[None; 3]), State::Up);
    }

    #[test]
    fn an_endpoint_that_takes_no_requests_is_no_suspect() {
        let (endpoint, settings) = (endpoint(), settings(1, Some(1)));
        assert_eq!(
            observe(&endpoint, &settings, Seen::ConnectFailed, 10),
            Some(Finding::Down)
        );
        assert_eq!(observe(&endpoint, &settings, Seen::Failed, 20), None);
        let since = endpoint.live.condition.health().since_ms;
        assert_eq!(since, 10);
    }

    #[test]
    fn an_answer_on_probation_clears_and_a_failure_ejects() {
        for (seen, expected) in [
            (Seen::Failed, Some(Finding::Suspect)),
            (Seen::Answered, None),
        ] {
            let (endpoint, settings) = (endpoint(), settings(1, Some(5)));
            let failures = &endpoint.live.condition.failures;
            failures.store(probation(Some(5), 1), Ordering::Relaxed);
            assert_eq!(observe(&endpoint, &settings, seen, 10), expected);
            assert_eq!(observe(&endpoint, &settings, Seen::Failed, 20), None);
        }
    }

    #[test]
    fn answers_prove_health_now_and_then() {
        let (endpoint, settings) = (endpoint(), settings(1, None));
        let proven = &endpoint.live.condition.proven_ms;
        for (at, proof) in [(50, 0), (120, 120), (200, 120), (220, 220)] {
            observe(&endpoint, &settings, Seen::Answered, at);
            assert_eq!(proven.load(Ordering::Relaxed), proof, "{at}");
        }
    }
}
