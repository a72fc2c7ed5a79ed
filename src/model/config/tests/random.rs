//! Properties of any history.

use proptest::prelude::*;

use super::*;
use crate::model::trial::Side;

const KEYS: [&str; 10] = [
    "endpoints:a",
    "weights:a",
    "service:a",
    "endpoints:b",
    "weights:b",
    "route:r",
    "route:s",
    "defaults",
    "rollout:a",
    "pilot:a",
];

/// A hash for a key of some kind, good or bad.
fn any_hash(key: &'static str) -> BoxedStrategy<&'static str> {
    let hashes: &'static [&'static str] = match key.split(':').next() {
        Some("endpoints") => &[
            ONE,
            TWO,
            "http://h:1/=a, http://h:2/=b",
            "http://h:2/=candidate",
            "http://h:1/=base off",
            "x=base",
            "",
        ],
        Some("weights") => &[
            "base=1",
            "base=90, candidate=10",
            "a=1, b=1",
            "candidate=5",
            "base=0",
            "base=x",
        ],
        Some("route") => &[
            "service=a",
            "service=b, path=/x/",
            "service=a, version=candidate",
            "path=/x",
            "service=a, enabled=off",
        ],
        Some("rollout") => &["candidate=candidate", "steps=x"],
        Some("pilot") => &[
            "trial=1, candidate=candidate",
            "trial=1, candidate=candidate, state=running",
            "trial=2, candidate=b, slow_at_us=1,2,3",
            "candidate=candidate",
        ],
        _ => &["timeout=1s", "timeout=soon", "retries=1", "http2=on"],
    };
    prop::sample::select(hashes).boxed()
}

#[derive(Clone, Debug)]
enum Act {
    Write(&'static str, &'static str),
    Delete(&'static str),
    Unreadable(&'static str),
    Glance(&'static str),
    Flush,
    Forget,
}

fn any_act() -> impl Strategy<Value = Act> {
    let key = || prop::sample::select(&KEYS[..]);
    prop_oneof![
        12 => key().prop_flat_map(|key| any_hash(key).prop_map(move |hash| Act::Write(key, hash))),
        4 => key().prop_map(Act::Delete),
        1 => key().prop_map(Act::Unreadable),
        1 => key().prop_map(Act::Glance),
        1 => Just(Act::Flush),
        1 => Just(Act::Forget),
    ]
}

fn perform(book: &mut Book, act: &Act) -> Applied {
    match act {
        Act::Write(key, hash) => book.write(key, hash),
        Act::Delete(key) => book.delete(key),
        Act::Unreadable(key) => book.glance(key, Raw::Unreadable("a list".to_owned())),
        Act::Glance(key) => book.glance(key, Raw::Absent),
        Act::Flush => book.read_all(&[]),
        Act::Forget => book.config.forget_vanished(9),
    }
}

/// What holds after any batch.
fn sound(book: &Book) {
    let table = book.config.table();
    for service in table.services.iter() {
        let weighted: Vec<usize> = (0..service.versions.len())
            .filter(|at| service.versions[*at].weight > 0)
            .collect();
        match &service.split {
            Some(split) => assert_eq!(split.positions(), weighted),
            None => assert!(service.versions.is_empty() || service.misconfigured.is_some()),
        }
        if let Some(trial) = &service.trial {
            let weight = |name: &str| {
                let mut versions = service.versions.iter();
                let version = versions.find(|version| version.name.as_str() == name);
                version.map_or(0, |version| version.weight)
            };
            let tag = &trial.arm(Side::Candidate).tag;
            let (candidate, base) = (weight(tag.version.as_str()), weight("base"));
            let exact = f64::from(candidate) * 1000.0 / f64::from((candidate + base).max(1));
            assert!((f64::from(tag.share) - exact).abs() <= 0.5);
        }
        for version in &service.versions {
            assert!(!version.endpoints.is_empty());
        }
    }
    for route in &table.routes.routes {
        assert!(table.services.get(route.service.as_str()).is_some());
    }
    assert_eq!(
        book.config.digest,
        book.config
            .slots
            .values()
            .fold(0, |sum, slot| slot.mark.wrapping_add(sum))
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_leaves_a_sound_table_and_exact_differences(acts in prop::collection::vec(any_act(), 0..40)) {
        let mut book = Book::loaded(&[]);
        let mut told: BTreeMap<String, String> = BTreeMap::new();
        for act in &acts {
            let revision = book.config.table().revision;
            let was_vanished = book.config.is_vanished();
            let applied = perform(&mut book, act);
            sound(&book);
            let now = book.config.table().revision;
            prop_assert_eq!(now - revision, u64::from(applied.table.is_some()));
            prop_assert_eq!(applied.vanished.is_some(), was_vanished != book.config.is_vanished());
            for place in applied.errors_gone {
                prop_assert!(told.remove(&place).is_some(), "{} was not told", place);
            }
            for error in applied.errors_new {
                told.insert(error.place(), error.message);
            }
            let all = book.config.errors().map(|error| (error.place(), error.message.clone()));
            prop_assert_eq!(&told, &all.collect());
        }
    }

    #[test]
    fn the_same_again_changes_nothing(acts in prop::collection::vec(any_act(), 1..20)) {
        let mut book = Book::loaded(&[]);
        for act in &acts {
            perform(&mut book, act);
            if let Act::Write(..) | Act::Delete(_) = act {
                let again = perform(&mut book, act);
                prop_assert!(again.table.is_none() && again.errors_new.is_empty() && again.errors_gone.is_empty());
            }
        }
    }

    #[test]
    fn a_restart_from_a_snapshot_serves_the_same(acts in prop::collection::vec(any_act(), 0..30)) {
        let mut book = Book::loaded(&[]);
        for act in &acts {
            perform(&mut book, act);
        }
        let mut after = Book::unloaded();
        let restored = after.config.restore(book.config.snapshot(), 3);
        prop_assert!(restored.table.is_some());
        for name in ["a", "b"] {
            prop_assert_eq!(after.shares(name), book.shares(name));
        }
        prop_assert_eq!(after.routes(), book.routes());
        prop_assert_eq!(&after.config.table().digest, &book.config.table().digest);
    }

    #[test]
    fn where_the_end_is_valid_the_history_does_not_matter(
        acts in prop::collection::vec(any_act(), 0..30),
        weights in prop::sample::select(vec!["base=90, candidate=10", "candidate=5", "base=1"]),
    ) {
        let end = [
            ("endpoints:a", TWO), ("weights:a", weights), ("service:a", "retries=1"), ("endpoints:b", ONE),
            ("weights:b", "base=1"), ("route:r", "service=a"), ("route:s", "service=b, path=/x/"),
            ("defaults", "timeout=1s"), ("rollout:a", "candidate=candidate"),
            ("pilot:a", "trial=3, candidate=candidate"),
        ];
        let mut book = Book::loaded(&[]);
        for act in &acts {
            perform(&mut book, act);
        }
        for (key, hash) in end {
            book.write(key, hash);
        }
        let direct = Book::loaded(&end);
        prop_assert!(book.wrong().is_empty(), "{:?}", book.wrong());
        prop_assert_eq!(book.config.snapshot(), direct.config.snapshot());
        prop_assert_eq!(&book.config.table().digest, &direct.config.table().digest);
        prop_assert_eq!(book.shares("a"), direct.shares("a"));
        prop_assert_eq!(book.routes(), direct.routes());
    }
}
