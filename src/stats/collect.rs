//! The side that reads the cells: what was counted since it read last.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use super::counter::Birth;
use super::trial::{Gatherer, TrialSum};
use super::{Series, Sum};
use crate::model::count::Tally;
use crate::model::trial::Tag;

/// Reads the cells of all threads. Never makes a writer wait.
#[derive(Debug)]
pub struct Collector {
    births: Receiver<Birth>,
    sources: Vec<Source>,
    trials: Gatherer,
}

#[derive(Debug)]
struct Source {
    series: Series,
    tally: Arc<Tally>,
    /// The turn at which it was read last.
    turn: u64,
    /// What was read then; shared with whoever shows it.
    read: Arc<Sum>,
    /// What cells of the same series held that are gone.
    inherited: Arc<Sum>,
}

impl Source {
    fn difference(&mut self) -> Option<Sum> {
        let turn = self.tally.turn();
        if turn == self.turn {
            return None;
        }
        let now = Sum::of(&self.tally);
        let difference = now.since(&self.read);
        self.turn = turn;
        self.read = Arc::new(now);
        (!difference.is_empty()).then_some(difference)
    }

    fn held(&self) -> Sum {
        let mut held = Sum::clone(&self.read);
        held.add(&self.inherited);
        held
    }
}

impl Collector {
    pub(super) fn new(births: Receiver<Birth>, trials: Gatherer) -> Self {
        Self {
            births,
            sources: Vec::new(),
            trials,
        }
    }

    /// Hands over what was counted of trials since the last time, in parts; a tag may be named more
    /// than once. Comes back with how many callers found no room meanwhile.
    pub fn collect_trials(&mut self, take: impl FnMut(&Tag, &TrialSum)) -> usize {
        self.trials.gather(take)
    }

    /// Hands over what was counted since the last time, cell by cell. A cell whose service or
    /// version is in no table any more, and in no request, is read once more and forgotten.
    pub fn collect(&mut self, mut take: impl FnMut(&Series, &Sum)) {
        let born = self
            .births
            .try_iter()
            .map(|Birth { series, tally }| Source {
                series,
                tally,
                turn: 0,
                read: Arc::default(),
                inherited: Arc::default(),
            });
        self.sources.extend(born);
        let mut gone = Vec::new();
        self.sources.retain_mut(|source| {
            // Asked before reading: who is alone now has nobody who could still write.
            let alone = Arc::get_mut(&mut source.tally).is_some();
            if let Some(difference) = source.difference() {
                take(&source.series, &difference);
            }
            if alone {
                gone.push((source.series.clone(), source.held()));
            }
            !alone
        });
        if !gone.is_empty() {
            self.bequeath(gone);
        }
    }

    /// What cells held that are gone goes to another cell of their series, where there is one: the
    /// other threads', or that of a version which came back before its last request had ended.
    fn bequeath(&mut self, gone: Vec<(Series, Sum)>) {
        let sources = self.sources.iter_mut();
        let mut heirs: HashMap<Series, &mut Source> = sources
            .map(|source| (source.series.clone(), source))
            .collect();
        for (series, held) in gone {
            if let Some(heir) = heirs.get_mut(&series) {
                Arc::make_mut(&mut heir.inherited).add(&held);
            }
        }
    }

    /// All that was handed over of series that have a cell, in parts that add up; a series may be
    /// named more than once. Never less than before for as long as a series has a cell.
    #[must_use]
    pub fn held(&self) -> Vec<(Series, Arc<Sum>)> {
        let parts = self.sources.iter().flat_map(|source| {
            let parts = [&source.read, &source.inherited];
            parts.map(|part| (source.series.clone(), Arc::clone(part)))
        });
        parts.filter(|(_, part)| !part.is_empty()).collect()
    }

    /// How many cells are read.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.sources.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use super::super::counter::{Attempt, Counter, counters};
    use super::super::{Outcome, Rejection};
    use super::*;
    use crate::model::config::{Config, Extent, Reading, Sight};
    use crate::model::count::Scalar;
    use crate::model::decode::Raw;
    use crate::model::keys::{Keys, Parsed};
    use crate::model::table::Service;

    /// The hashes in force and the table made of them.
    struct Site(Config);

    impl Site {
        fn new() -> Self {
            Self(Config::new(Keys::new("smartlink:")))
        }

        fn set(&mut self, key: &str, fields: &[(&str, &str)]) {
            let parsed = Keys::new("smartlink:").parse(&format!("smartlink:{key}"));
            let Parsed::Object(object) = parsed else {
                panic!("{key} is {parsed:?}");
            };
            let fields = fields.iter();
            let fields = fields.map(|(field, value)| ((*field).to_owned(), (*value).to_owned()));
            let reading = Reading {
                object,
                raw: Raw::Hash(fields.collect()),
                sight: Sight::Named,
            };
            // What this is a mistake for is not the question here.
            drop(self.0.apply(vec![reading], Extent::Part, 1));
        }

        fn service(&self, name: &str) -> Arc<Service> {
            let table = self.0.table();
            Arc::clone(table.services.get(name).expect("it is served"))
        }
    }

    fn gather(collector: &mut Collector) -> HashMap<String, Sum> {
        let mut sums: HashMap<String, Sum> = HashMap::new();
        collector.collect(|series, sum| sums.entry(format!("{series:?}")).or_default().add(sum));
        sums
    }

    fn requests(sums: &HashMap<String, Sum>) -> BTreeMap<&str, u64> {
        let sums = sums.iter();
        sums.map(|(series, sum)| (series.as_str(), sum.scalar(Scalar::Requests)))
            .collect()
    }

    fn ok() -> Outcome {
        Outcome {
            status: 200,
            ..Outcome::default()
        }
    }

    fn count(counter: &Counter, service: &Service, version: usize, times: usize) {
        for _ in 0..times {
            counter.count_version(&service.versions[version], &ok());
        }
    }

    #[test]
    fn threads_add_up_and_each_count_is_told_once() {
        let mut site = Site::new();
        site.set(
            "endpoints:a",
            &[("http://h:1/", "base"), ("http://h:2/", "candidate")],
        );
        let service = site.service("a");
        let (mut counters, mut collector) = counters(5);
        std::thread::scope(|scope| {
            for counter in counters.drain(1..) {
                let service = &service;
                scope.spawn(move || {
                    count(&counter, service, 0, 1000);
                    count(&counter, service, 1, 100);
                });
            }
        });
        assert_eq!(
            requests(&gather(&mut collector)),
            [("a:base", 4000), ("a:candidate", 400)].into()
        );
        assert!(gather(&mut collector).is_empty());
        count(&counters[0], &service, 1, 1);
        assert_eq!(
            requests(&gather(&mut collector)),
            [("a:candidate", 1)].into()
        );
    }

    #[test]
    fn counts_survive_new_tables_and_the_end_of_their_version() {
        let mut site = Site::new();
        site.set(
            "endpoints:a",
            &[("http://h:1/", "base"), ("http://h:2/", "candidate")],
        );
        let (counters, mut collector) = counters(1);
        let old = site.service("a");
        count(&counters[0], &old, 1, 5);
        site.set("weights:a", &[("base", "1"), ("candidate", "1")]);
        let new = site.service("a");
        assert!(!Arc::ptr_eq(&old, &new));
        count(&counters[0], &new, 1, 2);
        assert_eq!(
            requests(&gather(&mut collector)),
            [("a:candidate", 7)].into()
        );
        drop(new);
        site.set("endpoints:a", &[("http://h:1/", "base")]);
        site.set("weights:a", &[("base", "1")]);
        // A request that began before is still running.
        assert_eq!(collector.cells(), 1);
        count(&counters[0], &old, 1, 3);
        drop(old);
        assert_eq!(
            requests(&gather(&mut collector)),
            [("a:candidate", 3)].into()
        );
        assert_eq!(collector.cells(), 0, "flushed once more, then forgotten");
    }

    #[test]
    fn what_is_held_is_all_that_was_handed_over_and_never_shrinks() {
        let mut site = Site::new();
        site.set("endpoints:a", &[("http://h:1/", "base")]);
        let (counters, mut collector) = counters(2);
        let old = site.service("a");
        count(&counters[0], &old, 0, 5);
        count(&counters[1], &old, 0, 1);
        let held = |collector: &mut Collector| {
            drop(gather(collector));
            let parts = collector.held();
            let counts = parts.iter().map(|(_, sum)| sum.scalar(Scalar::Requests));
            counts.sum::<u64>()
        };
        assert_eq!(held(&mut collector), 6);
        // It goes and comes back while a request is still running.
        site.set("endpoints:a", &[]);
        site.set("endpoints:a", &[("http://h:1/", "base")]);
        let new = site.service("a");
        count(&counters[0], &new, 0, 2);
        assert_eq!(held(&mut collector), 8);
        count(&counters[0], &old, 0, 1);
        drop(old);
        assert_eq!(held(&mut collector), 9);
        assert_eq!(collector.cells(), 1);
        drop(new);
        drop(site);
        assert_eq!(held(&mut collector), 0);
    }

    #[test]
    fn what_ends_before_a_version_is_chosen_counts_under_the_service() {
        let mut site = Site::new();
        site.set("endpoints:a", &[("http://h:1/", "base")]);
        let service = site.service("a");
        let (counters, mut collector) = counters(1);
        let outcome = Outcome {
            status: 401,
            rejection: Some(Rejection::Auth),
            ..Outcome::default()
        };
        counters[0].count_service(&service, &outcome);
        let sums = gather(&mut collector);
        assert_eq!(sums["a:"].scalar(Scalar::RejectedAuth), 1);
        counters[0].attempted(&service.versions[0].endpoints[0], Attempt::Failed, 7);
        let live = &service.versions[0].endpoints[0].live.counts;
        let cell = live.iter().next().expect("one thread counted");
        assert_eq!(
            (cell.requests.get(), cell.errors.get(), cell.took_us.get()),
            (1, 1, 7)
        );
    }
}
