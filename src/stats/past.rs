//! What was counted of versions over the last seconds or minutes, all gateways together: seconds
//! as they were read, older ones in tens.

use std::collections::{BTreeMap, HashMap};

use super::live::Fine;
use crate::model::name::{ServiceName, VersionName};

/// For how many seconds each second is kept by itself.
const SINGLE_S: u64 = 40;
/// How many seconds are kept together after that.
const TOGETHER_S: u64 = 10;
/// The most that is looked back.
pub const LONGEST_S: u64 = 3600;

/// The past of all versions that were at work.
#[derive(Debug, Default)]
pub struct Past {
    versions: HashMap<(ServiceName, VersionName), Times>,
}

#[derive(Debug, Default)]
struct Times {
    /// By when they began.
    seconds: BTreeMap<u64, Fine>,
    tens: BTreeMap<u64, Fine>,
}

impl Past {
    /// Adds one second of a version.
    pub fn add(&mut self, service: &ServiceName, version: &VersionName, second: u64, fine: Fine) {
        if fine.requests() > 0 {
            let key = (service.clone(), version.clone());
            let times = self.versions.entry(key).or_default();
            times.seconds.insert(second, fine);
        }
    }

    /// Forgets what is older than so many seconds, and keeps together what need not be apart.
    pub fn settle(&mut self, now_s: u64, longest_s: u64) {
        let (first, single) = (
            now_s.saturating_sub(longest_s.min(LONGEST_S) + TOGETHER_S),
            now_s.saturating_sub(SINGLE_S),
        );
        self.versions.retain(|_, times| {
            while let Some(second) = times.seconds.first_entry()
                && *second.key() < single
            {
                let (second, fine) = second.remove_entry();
                let begin = second - second % TOGETHER_S;
                times.tens.entry(begin).or_default().add(&fine);
            }
            times.tens = times.tens.split_off(&first);
            !times.seconds.is_empty() || !times.tens.is_empty()
        });
    }

    /// The versions of which anything is known.
    pub fn versions(&self) -> impl Iterator<Item = &(ServiceName, VersionName)> {
        self.versions.keys()
    }

    /// What was counted in the seconds from `from_s` to before `end_s`, and in the last of them
    /// alone; old ones may begin up to ten seconds earlier.
    #[must_use]
    pub fn since(
        &self,
        service: &ServiceName,
        version: &VersionName,
        from_s: u64,
        end_s: u64,
    ) -> (Fine, Fine) {
        let mut sum = Fine::default();
        let Some(times) = self.versions.get(&(service.clone(), version.clone())) else {
            return (sum, Fine::default());
        };
        let from_ten = from_s - from_s % TOGETHER_S;
        let tens = times.tens.range(from_ten..);
        let seconds = times.seconds.range(from_s..end_s.max(from_s));
        for (_, fine) in tens.chain(seconds) {
            sum.add(fine);
        }
        let newest = times.seconds.get(&end_s.saturating_sub(1));
        (sum, newest.cloned().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::Name;

    #[test]
    fn a_window_is_the_sum_of_its_seconds_also_when_they_are_old() {
        let name = |text| Name::parse(text).expect("valid");
        let (service, version) = (name("ner"), name("base"));
        let mut past = Past::default();
        for second in 1000..1300 {
            let fine = Fine::parse([("200", "2"), ("800000", "1"), ("errors", "1")]);
            past.add(&service, &version, second, fine);
            past.settle(second + 1, 200);
        }
        for (from_s, seconds) in [(1299, 1), (1270, 30), (1200, 100), (1300, 0)] {
            let (sum, newest) = past.since(&service, &version, from_s, 1300);
            assert_eq!(
                (sum.requests(), sum.errors()),
                (3 * seconds, seconds),
                "{from_s}"
            );
            assert_eq!(sum.slower_than(100_000), seconds);
            assert_eq!(newest.requests(), 3);
        }
        let (all, _) = past.since(&service, &version, 0, 1300);
        assert!(
            (200 * 3..=220 * 3).contains(&all.requests()),
            "{}",
            all.requests()
        );
        past.settle(5000, 200);
        assert_eq!(past.versions().count(), 0);
    }
}
