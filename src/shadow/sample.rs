//! Whether a request is copied, as it comes and as it ends.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{ChosenBy, Outcome};
use crate::model::hash::{mix, spread};
use crate::model::settings::Rate;
use crate::model::shadow::{Keep, Shadow};

/// How many records of `max_rate` may come at once: those of a second.
const BURST_NS: u64 = 1_000_000_000;

/// Whether the request belongs to the sample. `point` is where its caller stands (see
/// `policy::sticky`): the same callers are in the sample as long as the share stays, and more
/// where it grows. Without one, `random` decides.
#[must_use]
pub fn is_sampled(policy: &Shadow, point: Option<u64>, random: u64) -> bool {
    if policy.sample >= 1.0 {
        return true;
    }
    // Another question than which version the caller stays in.
    let number = point.map_or(random, |point| mix(point ^ spread(&[b"shadow sample"])));
    #[expect(clippy::cast_precision_loss, reason = "a share of all numbers")]
    let at = number as f64 / u64::MAX as f64;
    at < policy.sample
}

/// Takes one record out of `max_rate`, where there is room for it: the generic cell rate algorithm
/// (ITU-T I.371, annex A) over one number, which is the time by which the next is due.
#[must_use]
pub fn takes(pace: &AtomicU64, rate: Option<Rate>, now_us: u64) -> bool {
    let Some(rate) = rate else {
        return true;
    };
    let now = now_us.saturating_mul(1_000);
    let per = u64::try_from(rate.per.as_nanos()).unwrap_or(u64::MAX);
    let each = (per / rate.count.max(1)).max(1);
    let relaxed = Ordering::Relaxed;
    let next = |due: u64| {
        let due = due.max(now);
        (due - now <= BURST_NS.saturating_sub(each)).then(|| due.saturating_add(each))
    };
    pace.fetch_update(relaxed, relaxed, next).is_ok()
}

/// Why a request is recorded that is not in the sample, now that it ended.
#[must_use]
pub fn kept(keep: Keep, outcome: Outcome, total_us: u64) -> Option<ChosenBy> {
    let failed = !matches!(outcome, Outcome::Ok | Outcome::ClientLeft | Outcome::Begun);
    if keep.failures && failed {
        return Some(ChosenBy::Failure);
    }
    let slow = keep.slow?;
    (u128::from(total_us) > slow.as_micros()).then_some(ChosenBy::Slow)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::decode::Fields;
    use crate::model::name::Name;
    use crate::model::shadow::decode;

    fn policy(fields: &[(&str, &str)]) -> Shadow {
        let fields: Fields = fields
            .iter()
            .map(|(field, value)| ((*field).to_owned(), (*value).to_owned()))
            .collect();
        let name = Name::parse("ner").expect("a name");
        decode("shadow:ner", &name, &fields)
            .0
            .expect("a good policy")
    }

    #[test]
    fn a_sample_is_its_share_of_all_requests_and_of_all_callers() {
        for (sample, wanted) in [("100%", 10_000), ("10%", 1_000), ("0%", 0)] {
            let policy = policy(&[("sample", sample)]);
            let randoms = (0..10_000).map(mix);
            let by_chance = randoms.filter(|&random| is_sampled(&policy, None, random));
            let points = (0..10_000_u64).map(|n| spread(&[b"ner", &n.to_le_bytes()]));
            let by_caller = points.filter(|&point| is_sampled(&policy, Some(point), 0));
            for count in [by_chance.count(), by_caller.count()] {
                assert!(count.abs_diff(wanted) <= 100, "{count} of {sample}");
            }
        }
    }

    #[test]
    fn a_growing_sample_keeps_its_callers() {
        let (few, more) = (policy(&[("sample", "10%")]), policy(&[("sample", "30%")]));
        for point in (0..1_000).map(mix) {
            let was = is_sampled(&few, Some(point), 0);
            assert!(!was || is_sampled(&more, Some(point), 0));
        }
    }

    #[test]
    fn a_rate_is_kept_over_seconds_and_lets_a_second_come_at_once() {
        let rate = |count, seconds| Rate {
            count,
            per: Duration::from_secs(seconds),
        };
        for (rate, each_us, seconds, wanted) in [
            (None, 1_000, 10, 10_000..=10_000),
            (Some(rate(5, 1)), 1_000, 10, 54..=56),
            (Some(rate(600, 60)), 1_000, 10, 109..=111),
            (Some(rate(1, 3600)), 1_000, 10, 1..=1),
            (Some(rate(100, 1)), 100_000, 10, 100..=100),
        ] {
            let pace = AtomicU64::new(0);
            let count = (1..=seconds * 1_000_000 / each_us)
                .filter(|tick| takes(&pace, rate, 5_000_000 + tick * each_us))
                .count();
            assert!(wanted.contains(&count), "{rate:?}: {count}");
        }
    }

    #[test]
    fn failures_and_slow_ones_are_kept_where_asked() {
        let keep = |text: &str| policy(&[("keep", text)]).keep;
        let nothing = Keep::default();
        for (keep, outcome, total_us, wanted) in [
            (nothing, Outcome::Reset, 9_000_000, None),
            (keep("failures"), Outcome::Ok, 9_000_000, None),
            (keep("failures"), Outcome::ClientLeft, 1, None),
            (
                keep("failures"),
                Outcome::Status,
                1,
                Some(ChosenBy::Failure),
            ),
            (keep("failures"), Outcome::Cut, 1, Some(ChosenBy::Failure)),
            (keep("slow 5s"), Outcome::Ok, 5_000_000, None),
            (
                keep("slow 5s"),
                Outcome::Ok,
                5_000_001,
                Some(ChosenBy::Slow),
            ),
            (
                keep("slow 5s, failures"),
                Outcome::Timeout,
                9_000_000,
                Some(ChosenBy::Failure),
            ),
        ] {
            assert_eq!(super::kept(keep, outcome, total_us), wanted, "{keep:?}");
        }
    }
}
