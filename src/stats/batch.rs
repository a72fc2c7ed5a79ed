//! Sums on their way to Redis: by window, and by second for what is live.

use std::collections::BTreeMap;

use super::trial::TrialSum;
use super::{Series, Sum};
use crate::model::trial::Tag;

/// For how many seconds fine buckets are kept.
pub const FINE_SECONDS: u64 = 30;

/// The most windows held, over all series, while Redis is away: past that the oldest keep their
/// counts in the totals and lose their place in time.
pub const WINDOWS_MAX: usize = 20_000;

/// How windows are cut, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The length of a window, at least 1.
    pub window: u64,
    /// For how long a window is kept in Redis after its end.
    pub keep: u64,
}

/// What one script call applies. Every count stands once in the totals to come: in `windows`,
/// which count in the totals too, or in `totals`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Counts without a window of their own.
    pub totals: BTreeMap<Series, Sum>,
    /// Counts by the Unix second at which their window starts.
    pub windows: BTreeMap<(u64, Series), Sum>,
    /// Latency and errors of versions, by Unix second.
    pub seconds: BTreeMap<(u64, Series), Sum>,
    /// Counts of trials.
    pub trials: BTreeMap<Tag, TrialSum>,
}

impl Batch {
    /// Adds what was counted in this second.
    pub fn add(&mut self, second: u64, cut: Cut, series: &Series, sum: &Sum) {
        let start = second - second % cut.window.max(1);
        let window = self.windows.entry((start, series.clone())).or_default();
        window.add(sum);
        if series.version.is_some() {
            let fine = self.seconds.entry((second, series.clone())).or_default();
            fine.add(&sum.fine());
        }
    }

    /// Adds what was counted of a trial; how many callers there were too many.
    pub fn add_trial(&mut self, tag: &Tag, sum: &TrialSum) -> usize {
        match self.trials.get_mut(tag) {
            Some(standing) => standing.add(sum),
            None => self.trials.entry(tag.clone()).or_default().add(sum),
        }
    }

    /// Lets go of what Redis would not keep any more, and of what is too much to hold; no count is
    /// lost to the totals.
    pub fn bound(&mut self, now_s: u64, cut: Cut) {
        while let Some(((second, _), _)) = self.seconds.first_key_value()
            && (second + FINE_SECONDS <= now_s || self.seconds.len() > WINDOWS_MAX)
        {
            self.seconds.pop_first();
        }
        while let Some(((start, _), _)) = self.windows.first_key_value()
            && (start + cut.window + cut.keep <= now_s || self.windows.len() > WINDOWS_MAX)
        {
            if let Some(((_, series), sum)) = self.windows.pop_first() {
                self.totals.entry(series).or_default().add(&sum);
            }
        }
    }

    /// How many hashes it writes, roughly.
    #[must_use]
    pub fn len(&self) -> usize {
        let trials = self.trials.values().map(TrialSum::weight);
        self.totals.len() + self.windows.len() + self.seconds.len() + trials.sum::<usize>()
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes out as much as one script call may apply.
    #[must_use]
    pub fn split_off(&mut self, most: usize) -> Self {
        let mut part = Self::default();
        let mut room = most;
        while room > 0
            && let Some(mut entry) = self.trials.first_entry()
        {
            let taken = entry.get_mut().split_off(room);
            room = room.saturating_sub(taken.weight());
            part.trials.insert(entry.key().clone(), taken);
            if entry.get().is_empty() {
                entry.remove();
            }
        }
        while part.len() < most
            && let Some((series, sum)) = self.totals.pop_first()
        {
            part.totals.insert(series, sum);
        }
        while part.len() < most
            && let Some((at, sum)) = self.windows.pop_first()
        {
            part.windows.insert(at, sum);
        }
        while part.len() < most
            && let Some((at, sum)) = self.seconds.pop_first()
        {
            part.seconds.insert(at, sum);
        }
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::count::{Scalar, Tally};
    use crate::model::name::Name;
    use crate::stats::Outcome;

    const CUT: Cut = Cut {
        window: 10,
        keep: 3600,
    };

    fn series(version: &str) -> Series {
        Series {
            service: Name::parse("a").expect("valid"),
            version: Name::parse(version),
        }
    }

    fn one() -> Sum {
        let tally = Tally::default();
        let outcome = Outcome {
            status: 200,
            total_us: 5_000,
            ..Outcome::default()
        };
        tally.write(|counts| outcome.add_to(counts));
        Sum::of(&tally)
    }

    fn requests(batch: &Batch) -> u64 {
        let sums = batch.totals.values().chain(batch.windows.values());
        sums.map(|sum| sum.scalar(Scalar::Requests)).sum()
    }

    #[test]
    fn counts_fall_into_the_window_of_their_second() {
        let mut batch = Batch::default();
        for second in [1009, 1010, 1010, 1019, 1020] {
            batch.add(second, CUT, &series("base"), &one());
        }
        let windows: Vec<_> = batch
            .windows
            .iter()
            .map(|((start, _), sum)| (*start, sum.scalar(Scalar::Requests)))
            .collect();
        assert_eq!(windows, [(1000, 1), (1010, 3), (1020, 1)]);
        assert_eq!(batch.seconds.len(), 4);
    }

    #[test]
    fn what_ended_before_a_version_has_no_fine_buckets() {
        let mut batch = Batch::default();
        batch.add(1000, CUT, &series(""), &one());
        assert_eq!((batch.windows.len(), batch.seconds.len()), (1, 0));
    }

    #[test]
    fn a_long_outage_keeps_every_count_and_bounded_windows() {
        let mut batch = Batch::default();
        for second in 0..20_000 {
            batch.add(second * 10, CUT, &series("base"), &one());
            if second % 1000 == 0 {
                batch.bound(second * 10, CUT);
            }
        }
        batch.bound(199_990, CUT);
        assert_eq!(requests(&batch), 20_000);
        assert_eq!(batch.windows.len(), 361, "an hour and the one that runs");
        assert!(batch.seconds.len() <= 4);
        for version in 0..30_000 {
            batch.add(199_990, CUT, &series(&format!("v{version}")), &one());
        }
        batch.bound(199_990, CUT);
        assert_eq!(
            (batch.windows.len(), batch.seconds.len()),
            (WINDOWS_MAX, WINDOWS_MAX)
        );
        assert_eq!(requests(&batch), 50_000);
    }

    #[test]
    fn a_large_batch_is_split_without_loss() {
        let mut batch = Batch::default();
        for version in 0..50 {
            batch.add(1000, CUT, &series(&format!("v{version}")), &one());
        }
        let (mut parts, mut sum) = (0, 0);
        while !batch.is_empty() {
            let part = batch.split_off(30);
            assert!(part.len() <= 30);
            sum += requests(&part);
            parts += 1;
        }
        assert_eq!((parts, sum), (4, 50));
    }
}
