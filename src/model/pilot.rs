//! What gateways read of what the pilot writes: by which trial requests are counted, and from
//! where on one is slow.

use super::decode::{Decoded, Decoder, Fields, Wanted};
use super::name::VersionName;
use super::shadow::candidate;
use super::value::whole;

/// The fields of `pilot:<svc>` that gateways read. The pilot writes others beside them, for people
/// and up to once a second.
pub const FIELDS: [&str; 5] = [
    "trial",
    "candidate",
    "slow_at_us",
    "slow_candidate_at_us",
    "state",
];

/// States in which nothing is counted any more: the trial is over. Gateways know no others.
const OVER: [&str; 3] = ["done", "rolled_back", "aborted"];

/// The largest number that Redis's scripts hold exactly.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;

/// A candidate on trial: requests that the split gives to it or to `base` are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Another one for each trial, and higher than those before.
    pub number: u64,
    /// The version that is compared with `base`.
    pub candidate: VersionName,
    /// From where on a request is slow; none: nothing counts as slow.
    pub slow: Option<Slow>,
}

/// Bounds in microseconds near the p50, p90 and p99 of `base` when the trial began: a request that
/// takes longer is over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slow {
    /// For requests of `base`.
    pub base: Bounds,
    /// For requests of the candidate.
    pub candidate: Bounds,
}

/// Three bounds, none below the one before.
pub type Bounds = [u64; 3];

/// Of a whole hash, what gateways read. A state in which they count says no more than its absence.
#[must_use]
pub fn of_gateways(mut fields: Fields) -> Fields {
    fields.retain(|field, text| match field.as_str() {
        "state" => is_over(text),
        field => FIELDS.contains(&field),
    });
    fields
}

fn is_over(state: &str) -> bool {
    OVER.contains(&state)
}

/// Decodes `pilot:<svc>`: none where no trial is on, or it is over. Other fields are the pilot's own.
#[must_use]
pub fn decode(key: &str, fields: &Fields) -> Decoded<Option<Trial>> {
    let mut decoder = Decoder::new(key, fields);
    let d = &mut decoder;
    let number = d.take("trial", whole(0..=NUMBER_MAX));
    let candidate = d.take("candidate", candidate);
    let base_bounds = d.take("slow_at_us", bounds);
    let candidate_bounds = d.take("slow_candidate_at_us", bounds);
    if d.has("trial") {
        d.demand("candidate");
    }
    for (field, other) in [
        ("slow_at_us", "slow_candidate_at_us"),
        ("slow_candidate_at_us", "slow_at_us"),
    ] {
        if d.has(other) && !d.has(field) {
            d.mistake(
                Some(field),
                format!("is missing and belongs beside {other}"),
            );
        }
    }
    let slow = base_bounds
        .zip(candidate_bounds)
        .map(|(base, candidate)| Slow { base, candidate });
    let is_on = !fields.get("state").is_some_and(|state| is_over(state));
    let trial = number.zip(candidate).filter(|_| is_on);
    let trial = trial.map(|(number, candidate)| Trial {
        number,
        candidate,
        slow,
    });
    decoder.leave_rest();
    decoder.finish(Some(trial))
}

/// Three numbers of microseconds in order.
fn bounds(text: &str) -> Result<Bounds, Wanted> {
    let number = whole(1..=NUMBER_MAX);
    let numbers: Option<Vec<u64>> = (text.split(','))
        .map(|part| number(part.trim()).ok())
        .collect();
    numbers
        .and_then(|numbers| Bounds::try_from(numbers).ok())
        .filter(|bounds| bounds.is_sorted())
        .ok_or_else(|| {
            "three whole numbers of microseconds such as 118000,337000,1100000, none below the one before"
                .to_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "smartlink:pilot:ner";

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        let owned = |(field, text): &(&str, &str)| ((*field).to_owned(), (*text).to_owned());
        pairs.iter().map(owned).collect()
    }

    fn good(pairs: &[(&str, &str)]) -> Option<Trial> {
        let (value, errors) = decode(KEY, &fields(pairs));
        assert_eq!(errors, []);
        value.expect("nothing is wrong")
    }

    #[test]
    fn a_trial_is_a_number_a_candidate_and_bounds() {
        assert_eq!(good(&[]), None);
        assert_eq!(
            good(&[
                ("candidate", "v2"),
                ("slow_at_us", "1,2,3"),
                ("slow_candidate_at_us", "1,2,3")
            ]),
            None
        );
        let trial = good(&[("trial", "7"), ("candidate", "v2")]).expect("it is on");
        assert_eq!(
            (trial.number, trial.candidate.as_str(), trial.slow),
            (7, "v2", None)
        );
        let trial = good(&[
            ("trial", "8"),
            ("candidate", "v2"),
            ("slow_at_us", "118000, 337000, 1100000"),
            ("slow_candidate_at_us", "140000,400000,400000"),
        ]);
        let slow = trial.expect("it is on").slow.expect("there are bounds");
        assert_eq!(slow.base, [118_000, 337_000, 1_100_000]);
        assert_eq!(slow.candidate, [140_000, 400_000, 400_000]);
    }

    #[test]
    fn a_trial_that_is_over_is_none() {
        let with = |state| [("trial", "7"), ("candidate", "v2"), ("state", state)];
        for state in ["done", "rolled_back", "aborted"] {
            assert_eq!(good(&with(state)), None, "{state}");
            let kept = fields(&with(state));
            assert_eq!(of_gateways(kept.clone()), kept);
        }
        let on = [
            "waiting", "shadow", "running", "proof", "finish", "bake", "paused", "another",
        ];
        for state in on {
            assert!(good(&with(state)).is_some(), "{state}");
            assert!(!of_gateways(fields(&with(state))).contains_key("state"));
        }
    }

    #[test]
    fn what_the_pilot_writes_for_people_is_none_of_our_business() {
        let written = fields(&[
            ("trial", "7"),
            ("candidate", "v2"),
            ("evidence", "harm errors 3.1 of 286 needed"),
            ("state", "running"),
        ]);
        assert!(decode(KEY, &written).1.is_empty());
        assert_eq!(
            of_gateways(written),
            fields(&[("trial", "7"), ("candidate", "v2")])
        );
    }
}
