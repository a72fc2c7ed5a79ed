//! Whether a request is tried once more.
//!
//! What was provably not sent may be sent elsewhere: `retries` bounds that. What was sent is repeated
//! only where that does no harm, and within a budget that all requests of the service share, so that
//! an outage is not multiplied (Finagle's and Linkerd's retry budgets, in windows of one second).
//!
//! Invariant: in no window are there more repeats than the budget, however many threads ask.

use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderName, Method, StatusCode};

use crate::model::live::ServiceLive;
use crate::model::settings::{Effective, RetryOn};

/// Marks a request that its sender allows to be sent twice
/// (draft-ietf-httpapi-idempotency-key-header).
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// How often a request that a kept connection did not take is given to another connection.
const STALE_MAX: u32 = 3;
/// Repeats a second that are allowed however few requests there are.
const FLOOR: u64 = 10;

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection could be made, or a new one took nothing: nothing was sent.
    Connect,
    /// A kept connection took nothing: nothing was sent, and the endpoint may be well.
    Unsent,
    /// A kept connection was closed before a byte of an answer, most likely while the request was on
    /// its way.
    Stale,
    /// The connection broke before an answer.
    Reset,
    /// No answer within `timeout`.
    Timeout,
    /// The answer has this status.
    Status(StatusCode),
}

/// What became of a request so far.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The settings of the service.
    pub settings: &'a Effective,
    /// How the last attempt failed.
    pub failure: Failure,
    /// Attempts that failed, this one included, without those that a kept connection cost.
    pub failed: u32,
    /// Attempts that a kept connection cost, this one included.
    pub stale: u32,
    /// Sending it twice does no harm.
    pub repeatable: bool,
    /// Its body can be sent once more.
    pub whole: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Try again.
    Again,
    /// That was it.
    Stop,
}

/// Whether sending this request twice does no harm: by its method (RFC 9110 section 9.2.2), because
/// its sender says so, or because the operator does.
#[must_use]
pub fn is_repeatable(settings: &Effective, method: &Method, headers: &HeaderMap) -> bool {
    // Compared with each of a few names: hashing this one would take longer.
    let marked = || headers.keys().any(|name| *name == IDEMPOTENCY_KEY);
    method.is_idempotent() || settings.retry_unsafe || marked()
}

/// Whether a failed request is tried once more; `spend` takes one repeat from the budget, and is
/// asked last.
#[must_use]
pub fn judge(asked: &Asked<'_>, spend: impl FnOnce() -> bool) -> Verdict {
    let settings = asked.settings;
    let listed = |what: RetryOn| settings.retry_on.contains(&what);
    let left = asked.failed <= settings.retries;
    let status = |code: StatusCode| match code {
        StatusCode::BAD_GATEWAY => listed(RetryOn::Status502),
        StatusCode::SERVICE_UNAVAILABLE => listed(RetryOn::Status503),
        StatusCode::GATEWAY_TIMEOUT => listed(RetryOn::Status504),
        _ => false,
    };
    let repeat = || asked.repeatable && asked.whole;
    let again = match asked.failure {
        Failure::Connect => left && listed(RetryOn::Connect) && asked.whole,
        Failure::Unsent => asked.stale <= STALE_MAX && asked.whole,
        Failure::Stale => asked.stale <= STALE_MAX && repeat() && spend(),
        Failure::Reset => left && listed(RetryOn::Reset) && repeat() && spend(),
        Failure::Timeout => left && listed(RetryOn::Timeout) && repeat() && spend(),
        Failure::Status(code) => left && status(code) && repeat() && spend(),
    };
    if again { Verdict::Again } else { Verdict::Stop }
}

/// Counts a request of the service; `now_ms` may be a coarse clock.
pub fn count(live: &ServiceLive, now_ms: u64) {
    let before = live.requests.fetch_add(1, Ordering::AcqRel);
    let window = &live.budget.window;
    let seen = window.load(Ordering::Relaxed);
    if number(seen) < second(now_ms) {
        turn(window, seen, second(now_ms), before);
    }
}

/// Takes one repeat from the budget: `share` of the requests in the running second, never under ten.
/// False where nothing is left.
#[must_use]
pub fn spend(live: &ServiceLive, share: f64, now_ms: u64) -> bool {
    let budget = &live.budget;
    loop {
        let window = budget.window.load(Ordering::Acquire);
        let requests = live.requests.load(Ordering::Acquire);
        if number(window) < second(now_ms) {
            turn(&budget.window, window, second(now_ms), requests);
            continue;
        }
        if budget.window.load(Ordering::Acquire) != window {
            continue;
        }
        let repeats = budget.repeats.load(Ordering::Acquire);
        let used = match number(repeats) {
            same if same == number(window) => amount(repeats),
            later if later > number(window) => continue,
            _ => 0,
        };
        if u64::from(used) >= allowed(share, amount(requests).wrapping_sub(amount(window))) {
            return false;
        }
        let next = pack(number(window), used + 1);
        let swap = (Ordering::AcqRel, Ordering::Relaxed);
        if (budget.repeats)
            .compare_exchange(repeats, next, swap.0, swap.1)
            .is_ok()
        {
            return true;
        }
    }
}

/// How many repeats a window with this many requests allows.
fn allowed(share: f64, requests: u32) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share is at most 1 or so, and the cast saturates"
    )]
    let part = (share * f64::from(requests)) as u64;
    part.max(FLOOR)
}

/// Begins a window, where nobody else did meanwhile.
fn turn(window: &AtomicU64, seen: u64, number: u32, requests: u64) {
    let next = pack(number, amount(requests));
    // Who was faster began it.
    let _faster = window.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Relaxed);
}

/// The number of the window at a time. It begins at 1: 0 is before everything.
fn second(now_ms: u64) -> u32 {
    u32::try_from(now_ms / 1_000).map_or(u32::MAX, |second| second.saturating_add(1))
}

fn pack(number: u32, amount: u32) -> u64 {
    (u64::from(number) << 32) | u64::from(amount)
}

fn number(packed: u64) -> u32 {
    u32::try_from(packed >> 32).unwrap_or(u32::MAX)
}

/// The lower half: amounts are compared within a second, so that their difference is what counts.
fn amount(packed: u64) -> u32 {
    u32::try_from(packed & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicU32;

    use proptest::prelude::*;

    use super::*;
    use crate::model::settings::Settings;

    fn effective(retry_on: &[RetryOn], retries: u32, retry_unsafe: bool) -> Effective {
        let settings = Settings {
            retry_on: Some(retry_on.to_vec()),
            retries: Some(retries),
            retry_unsafe: Some(retry_unsafe),
            ..Settings::default()
        };
        Effective::merge(&settings, &Settings::default())
    }

    const ALL: &[RetryOn] = &[
        RetryOn::Connect,
        RetryOn::Reset,
        RetryOn::Timeout,
        RetryOn::Status502,
        RetryOn::Status503,
        RetryOn::Status504,
    ];
    const SENT: &[Failure] = &[
        Failure::Stale,
        Failure::Reset,
        Failure::Timeout,
        Failure::Status(StatusCode::BAD_GATEWAY),
        Failure::Status(StatusCode::SERVICE_UNAVAILABLE),
        Failure::Status(StatusCode::GATEWAY_TIMEOUT),
    ];

    fn asked(settings: &Effective, failure: Failure) -> Asked<'_> {
        Asked {
            settings,
            failure,
            failed: 1,
            stale: 1,
            repeatable: true,
            whole: true,
        }
    }

    #[test]
    fn what_was_not_sent_is_bounded_by_retries_and_costs_no_budget() {
        let settings = effective(&[RetryOn::Connect], 2, false);
        let nothing_left = || panic!("the budget is not asked");
        for (failure, failed, whole, expected) in [
            (Failure::Connect, 1, true, Verdict::Again),
            (Failure::Connect, 2, true, Verdict::Again),
            (Failure::Connect, 3, true, Verdict::Stop),
            (Failure::Connect, 1, false, Verdict::Stop),
            (Failure::Unsent, 9, true, Verdict::Again),
            (Failure::Unsent, 1, false, Verdict::Stop),
        ] {
            let asked = Asked {
                failed,
                whole,
                repeatable: false,
                ..asked(&settings, failure)
            };
            assert_eq!(judge(&asked, nothing_left), expected, "{asked:?}");
        }
        let none = effective(&[RetryOn::Reset], 2, false);
        assert_eq!(
            judge(&asked(&none, Failure::Connect), nothing_left),
            Verdict::Stop
        );
    }

    #[test]
    fn what_was_sent_is_repeated_only_where_listed_harmless_whole_and_paid_for() {
        let listed = effective(ALL, 2, false);
        let usual = effective(&[RetryOn::Connect], 2, false);
        for &failure in SENT {
            let good = asked(&listed, failure);
            assert_eq!(judge(&good, || true), Verdict::Again, "{failure:?}");
            assert_eq!(judge(&good, || false), Verdict::Stop, "{failure:?}: paid");
            let unsafe_ = Asked {
                repeatable: false,
                ..good
            };
            assert_eq!(judge(&unsafe_, || true), Verdict::Stop, "{failure:?}: harm");
            let taken = Asked {
                whole: false,
                ..good
            };
            assert_eq!(judge(&taken, || true), Verdict::Stop, "{failure:?}: body");
            let often = Asked {
                failed: 3,
                stale: 4,
                ..good
            };
            assert_eq!(judge(&often, || true), Verdict::Stop, "{failure:?}: often");
            let expected = match failure {
                // Nobody asked for a kept connection: its loss is ours.
                Failure::Stale => Verdict::Again,
                _ => Verdict::Stop,
            };
            let unlisted = asked(&usual, failure);
            assert_eq!(judge(&unlisted, || true), expected, "{failure:?}: unlisted");
        }
        let other = asked(&listed, Failure::Status(StatusCode::INTERNAL_SERVER_ERROR));
        assert_eq!(judge(&other, || true), Verdict::Stop);
    }

    #[test]
    fn a_post_may_be_repeated_where_its_sender_or_the_operator_says_so() {
        let mut keyed = HeaderMap::new();
        keyed.insert("Idempotency-Key", http::HeaderValue::from_static("7"));
        let (strict, free) = (effective(ALL, 2, false), effective(ALL, 2, true));
        for (settings, method, headers, expected) in [
            (&strict, Method::GET, &HeaderMap::new(), true),
            (&strict, Method::PUT, &HeaderMap::new(), true),
            (&strict, Method::DELETE, &HeaderMap::new(), true),
            (&strict, Method::POST, &HeaderMap::new(), false),
            (&strict, Method::PATCH, &HeaderMap::new(), false),
            (&strict, Method::POST, &keyed, true),
            (&free, Method::POST, &HeaderMap::new(), true),
        ] {
            let may = is_repeatable(settings, &method, headers);
            assert_eq!(may, expected, "{method} {headers:?}");
        }
    }

    #[test]
    fn a_quiet_service_has_ten_repeats_a_second_and_a_busy_one_a_fifth_of_its_requests() {
        for (requests, expected) in [
            (0, 10),
            (1, 10),
            (50, 10),
            (55, 11),
            (300, 60),
            (1_000, 200),
        ] {
            let live = ServiceLive::default();
            for now_ms in [0, 1_000, 5_500] {
                for _ in 0..requests {
                    count(&live, now_ms);
                }
                let spent = (0..1_000).filter(|_| spend(&live, 0.2, now_ms)).count();
                assert_eq!(spent, expected, "{requests} requests at {now_ms} ms");
            }
        }
    }

    #[test]
    fn a_clock_that_lags_behind_opens_no_second_window() {
        let live = ServiceLive::default();
        for _ in 0..100 {
            count(&live, 1_000);
        }
        assert_eq!((0..99).filter(|_| spend(&live, 0.2, 1_000)).count(), 20);
        count(&live, 999);
        assert!(!spend(&live, 0.2, 999));
        assert!(!spend(&live, 0.2, 1_999));
        assert!(spend(&live, 0.2, 2_000));
    }

    proptest! {
        #[test]
        fn no_window_has_more_repeats_than_its_budget(
            steps in proptest::collection::vec((0_u64..400, 0_u32..40, 0_u32..40), 1..200),
            share in 0.0_f64..1.0,
        ) {
            let live = ServiceLive::default();
            let (mut now_ms, mut window) = (0, (0, 0_u32, 0_u32));
            for (pause, requests, repeats) in steps {
                now_ms += pause;
                if now_ms / 1_000 != window.0 {
                    window = (now_ms / 1_000, 0, 0);
                }
                for _ in 0..requests {
                    count(&live, now_ms);
                    window.1 += 1;
                }
                for _ in 0..repeats {
                    window.2 += u32::from(spend(&live, share, now_ms));
                }
                prop_assert!(u64::from(window.2) <= allowed(share, window.1), "{window:?}");
            }
        }
    }

    #[test]
    fn the_budget_holds_over_many_threads() {
        const THREADS: u32 = 8;
        let live = ServiceLive::default();
        let barrier = Barrier::new(THREADS as usize);
        let spent: Vec<AtomicU32> = (0..20).map(|_| AtomicU32::new(0)).collect();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (live, barrier, spent) = (&live, &barrier, &spent);
                scope.spawn(move || {
                    for (second, spent) in (0_u64..).zip(spent) {
                        // All are in the same second; 100 requests each, all of which fail twice.
                        barrier.wait();
                        for step in 0..100 {
                            let now_ms = second * 1_000 + u64::from(thread) + step * 9;
                            count(live, now_ms);
                            for _ in 0..2 {
                                let again = spend(live, 0.2, now_ms);
                                spent.fetch_add(u32::from(again), Ordering::Relaxed);
                            }
                        }
                        barrier.wait();
                    }
                });
            }
        });
        for spent in spent {
            let spent = spent.into_inner();
            // The last to count their requests find all of them counted.
            assert!((100..=160).contains(&spent), "{spent} of 800");
        }
    }
}
