//! Counts as plain values: what a cell held, what came in between, what Redis is told.

use super::histogram;
use crate::model::count::{Counts, SCALARS, STATUS_MIN, Scalar, Tally};

/// The sum of some outcomes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    scalars: [u64; SCALARS],
    /// By status, in order.
    pub statuses: Vec<(u16, u64)>,
    /// By fine bucket of latency, in order.
    pub latency: Vec<(u16, u64)>,
}

/// Fields that every hash of totals or of a window has, whether counted or not, beside
/// `latency_us_le_<bound>` and `updated_ms`; other statuses than 429 come as `status_NNN` when seen.
pub const FIXED: [&str; 16] = [
    "requests",
    "status_1xx",
    "status_2xx",
    "status_3xx",
    "status_4xx",
    "status_5xx",
    "status_429",
    "error_connect",
    "error_timeout",
    "error_reset",
    "error_other",
    "retries",
    "bytes_in",
    "bytes_out",
    "latency_us_sum",
    "first_byte_us_sum",
];

/// The same for requests that ended before a version was chosen, on top.
pub const FIXED_EARLY: [&str; 3] = ["rejected_auth", "rejected_rate", "rejected_busy"];

/// Plain counts and their fields; `Failed` is told by second only.
const NAMED: [(Scalar, &str); SCALARS - 1] = [
    (Scalar::Requests, "requests"),
    (Scalar::Retries, "retries"),
    (Scalar::BytesIn, "bytes_in"),
    (Scalar::BytesOut, "bytes_out"),
    (Scalar::Latency, "latency_us_sum"),
    (Scalar::FirstByte, "first_byte_us_sum"),
    (Scalar::ErrorConnect, "error_connect"),
    (Scalar::ErrorTimeout, "error_timeout"),
    (Scalar::ErrorReset, "error_reset"),
    (Scalar::ErrorOther, "error_other"),
    (Scalar::RejectedAuth, "rejected_auth"),
    (Scalar::RejectedRate, "rejected_rate"),
    (Scalar::RejectedBusy, "rejected_busy"),
];

impl Sum {
    /// What a cell holds.
    #[must_use]
    pub fn of(tally: &Tally) -> Self {
        let narrow = |(index, count): (usize, u64)| Some((u16::try_from(index).ok()?, count));
        tally.read(|counts: &Counts| Self {
            scalars: counts.scalars(),
            statuses: counts
                .statuses
                .iter()
                .filter_map(|(index, count)| narrow((index + STATUS_MIN, count)))
                .collect(),
            latency: counts.latency.iter().filter_map(narrow).collect(),
        })
    }

    /// One of the plain counts.
    #[must_use]
    pub fn scalar(&self, which: Scalar) -> u64 {
        self.scalars.get(which as usize).copied().unwrap_or(0)
    }

    /// What is told by second: latency, and how many failed.
    #[must_use]
    pub fn fine(&self) -> Self {
        let mut fine = Self {
            latency: self.latency.clone(),
            ..Self::default()
        };
        if let Some(failed) = fine.scalars.get_mut(Scalar::Failed as usize) {
            *failed = self.scalar(Scalar::Failed);
        }
        fine
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.statuses.is_empty() && self.latency.is_empty() && self.scalars.iter().all(|n| *n == 0)
    }

    /// Adds another sum.
    pub fn add(&mut self, more: &Self) {
        for (sum, more) in self.scalars.iter_mut().zip(more.scalars) {
            *sum += more;
        }
        self.statuses = merge(&self.statuses, &more.statuses, |a, b| a + b);
        self.latency = merge(&self.latency, &more.latency, |a, b| a + b);
    }

    /// What came on top of an earlier sum of the same cell.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut scalars = self.scalars;
        for (now, before) in scalars.iter_mut().zip(before.scalars) {
            *now = now.saturating_sub(before);
        }
        Self {
            scalars,
            statuses: merge(&self.statuses, &before.statuses, u64::saturating_sub),
            latency: merge(&self.latency, &before.latency, u64::saturating_sub),
        }
    }

    /// Fields and increments of a hash of totals or of a window; those that are 0 are left out.
    #[must_use]
    pub fn fields(&self) -> Vec<(String, u64)> {
        let mut fields = Vec::with_capacity(48);
        for (which, name) in NAMED {
            fields.push((name.to_owned(), self.scalar(which)));
        }
        for (status, count) in &self.statuses {
            fields.push((format!("status_{status}"), *count));
        }
        for class in 1..=5 {
            let of_class = self
                .statuses
                .iter()
                .filter(|(status, _)| status / 100 == class);
            let count = of_class.map(|(_, count)| count).sum();
            fields.push((format!("status_{class}xx"), count));
        }
        let coarse = histogram::cumulative(&self.latency);
        for (bound, count) in histogram::coarse_bounds().zip(coarse) {
            fields.push((format!("latency_us_le_{bound}"), count));
        }
        fields.retain(|(_, count)| *count > 0);
        fields
    }

    /// Fields and increments of a hash of fine buckets: the bound of each bucket in microseconds,
    /// `inf` for what is above all bounds, and `errors`.
    #[must_use]
    pub fn fine_fields(&self) -> Vec<(String, u64)> {
        let name = |bucket: u16| match histogram::bound(bucket.into()) {
            Some(bound) => bound.to_string(),
            None => "inf".to_owned(),
        };
        let buckets = self.latency.iter();
        let mut fields: Vec<_> = buckets
            .map(|(bucket, count)| (name(*bucket), *count))
            .collect();
        let failed = self.scalar(Scalar::Failed);
        if failed > 0 {
            fields.push(("errors".to_owned(), failed));
        }
        fields
    }
}

/// Merges two lists in order of their first parts; what comes to 0 is left out.
fn merge(a: &[(u16, u64)], b: &[(u16, u64)], join: impl Fn(u64, u64) -> u64) -> Vec<(u16, u64)> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut merged = Vec::with_capacity(a.len().max(b.len()));
    loop {
        let key = match (a.peek(), b.peek()) {
            (Some((a, _)), Some((b, _))) => *a.min(b),
            (Some((key, _)), None) | (None, Some((key, _))) => *key,
            (None, None) => return merged,
        };
        let left = a
            .next_if(|(at, _)| *at == key)
            .map_or(0, |(_, count)| *count);
        let right = b
            .next_if(|(at, _)| *at == key)
            .map_or(0, |(_, count)| *count);
        let joined = join(left, right);
        if joined > 0 {
            merged.push((key, joined));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ErrorKind, Outcome, Rejection};
    use super::*;
    use std::collections::BTreeMap;

    fn sum(outcomes: &[Outcome]) -> Sum {
        let tally = Tally::default();
        for outcome in outcomes {
            tally.write(|counts| outcome.add_to(counts));
        }
        Sum::of(&tally)
    }

    fn ok(total_us: u64) -> Outcome {
        Outcome {
            status: 200,
            total_us,
            bytes_in: 10,
            bytes_out: 20,
            first_byte_us: Some(total_us / 2),
            ..Outcome::default()
        }
    }

    #[test]
    fn an_outcome_becomes_the_fields_of_the_contract() {
        let failed = Outcome {
            status: 502,
            error: Some(ErrorKind::Connect),
            retries: 2,
            total_us: 900_000_000,
            ..Outcome::default()
        };
        let refused = Outcome {
            status: 429,
            rejection: Some(Rejection::Rate),
            ..Outcome::default()
        };
        let fields: BTreeMap<_, _> = sum(&[ok(150), ok(400), failed, refused])
            .fields()
            .into_iter()
            .collect();
        for (field, expected) in [
            ("requests", 4),
            ("status_2xx", 2),
            ("status_200", 2),
            ("status_4xx", 1),
            ("status_429", 1),
            ("status_5xx", 1),
            ("status_502", 1),
            ("error_connect", 1),
            ("rejected_rate", 1),
            ("retries", 2),
            ("bytes_in", 20),
            ("bytes_out", 40),
            ("latency_us_sum", 900_000_550),
            ("first_byte_us_sum", 275),
            ("latency_us_le_100", 1),
            ("latency_us_le_200", 2),
            ("latency_us_le_400", 3),
            ("latency_us_le_838860800", 3),
        ] {
            assert_eq!(fields.get(field), Some(&expected), "{field}");
        }
        assert_eq!(fields.get("error_reset"), None);
    }

    #[test]
    fn fine_fields_are_bounds_and_errors() {
        let mut failed = ok(900_000_000);
        failed.status = 500;
        let fields = sum(&[ok(150), ok(151), failed]).fine_fields();
        let fields: Vec<_> = fields.iter().map(|(f, n)| (f.as_str(), *n)).collect();
        assert_eq!(fields, [("151", 2), ("inf", 1), ("errors", 1)]);
    }

    #[test]
    fn differences_add_up_again() {
        let outcomes: Vec<Outcome> = (0..200_u64).map(|i| ok(i * i * 37)).collect();
        let early = sum(&outcomes[..120]);
        let all = sum(&outcomes);
        let mut again = early.clone();
        again.add(&all.since(&early));
        assert_eq!(again, all);
        assert!(all.since(&all).is_empty());
        assert!(!all.is_empty());
    }

    #[test]
    fn a_client_that_left_is_no_error() {
        let mut left = ok(1);
        left.status = 499;
        assert!(!left.is_failure());
        assert_eq!(sum(&[left]).scalar(Scalar::Failed), 0);
        let cut = Outcome {
            error: Some(ErrorKind::Reset),
            ..ok(1)
        };
        assert!(
            cut.is_failure(),
            "an answer cut short is one, whatever its head said"
        );
    }
}
