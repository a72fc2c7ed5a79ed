//! Weights as shares of `base` and a candidate, and back.
//!
//! Other versions keep their part of the whole: where they have weights, these are brought to the
//! scale on which `base` and the candidate together have 1000.

use crate::model::name::{Name, VersionName};
use crate::model::weights::{WEIGHT_MAX, Weights};

/// What `base` and the candidate together have, once a rollout wrote the weights.
pub const WHOLE: u32 = 1000;

fn weight(weights: &Weights, version: &str) -> u32 {
    weights.get(version).copied().unwrap_or_default()
}

/// The candidate's share of what it and `base` have together, in thousandths; `None` where both
/// have nothing and others have.
#[must_use]
pub fn share(weights: &Weights, candidate: &VersionName) -> Option<u16> {
    let (base, candidate) = (
        u64::from(weight(weights, "base")),
        u64::from(weight(weights, candidate.as_str())),
    );
    let pair = base + candidate;
    if pair == 0 {
        return is_empty(weights).then_some(0);
    }
    let whole = u64::from(WHOLE);
    u16::try_from((candidate * whole + pair / 2) / pair).ok()
}

/// These weights with another share for the candidate.
#[must_use]
pub fn with_share(weights: &Weights, candidate: &VersionName, share: u16) -> Weights {
    let pair = u64::from(weight(weights, "base")) + u64::from(weight(weights, candidate.as_str()));
    let scaled = |weight: u32| -> u32 {
        if weight == 0 || pair == 0 {
            return weight;
        }
        let scaled = (u64::from(weight) * u64::from(WHOLE) + pair / 2) / pair;
        u32::try_from(scaled.clamp(1, WEIGHT_MAX.into())).unwrap_or(WEIGHT_MAX)
    };
    let share = u32::from(share).min(WHOLE);
    let mut with: Weights = (weights.iter())
        .map(|(version, weight)| (version.clone(), scaled(*weight)))
        .collect();
    with.insert(Name::base(), WHOLE - share);
    with.insert(candidate.clone(), share);
    with
}

/// Whether both divide traffic by the same numbers; a weight of 0 is none.
#[must_use]
pub fn same(one: &Weights, other: &Weights) -> bool {
    text(one) == text(other)
}

/// Whether nobody has a weight.
#[must_use]
pub fn is_empty(weights: &Weights) -> bool {
    weights.values().all(|weight| *weight == 0)
}

/// `base=950,candidate=50`: weights above 0, by name.
#[must_use]
pub fn text(weights: &Weights) -> String {
    let parts = weights.iter().filter(|(_, weight)| **weight > 0);
    let parts = parts.map(|(version, weight)| format!("{version}={weight}"));
    parts.collect::<Vec<_>>().join(",")
}

/// The same for people: nobody's weights are everything for `base`.
#[must_use]
pub fn shown(weights: &Weights) -> String {
    let text = text(weights);
    if text.is_empty() {
        "none".to_owned()
    } else {
        text
    }
}

/// The weights that `text` wrote.
#[must_use]
pub fn parse(text: &str) -> Option<Weights> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    let parse = |part: &str| {
        let (version, weight) = part.split_once('=')?;
        Some((Name::parse(version)?, weight.parse().ok()?))
    };
    parts.map(parse).collect()
}

/// Thousandths as a percentage: `2.5%`.
#[must_use]
pub fn percent(share: u16) -> String {
    match (share / 10, share % 10) {
        (whole, 0) => format!("{whole}%"),
        (whole, tenth) => format!("{whole}.{tenth}%"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn weights(text: &str) -> Weights {
        parse(text).unwrap()
    }

    fn candidate() -> VersionName {
        Name::parse("candidate").unwrap()
    }

    #[test]
    fn shares_are_of_base_and_candidate_together() {
        for (text, wanted) in [
            ("", Some(0)),
            ("base=0", Some(0)),
            ("base=100", Some(0)),
            ("base=90,candidate=10", Some(100)),
            ("base=90,candidate=10,next=900", Some(100)),
            ("candidate=1", Some(1000)),
            ("base=2,candidate=1", Some(333)),
            ("next=5", None),
        ] {
            assert_eq!(share(&weights(text), &candidate()), wanted, "{text}");
        }
    }

    #[test]
    fn other_versions_keep_their_part_of_the_whole() {
        for (before, share, after) in [
            ("", 10, "base=990,candidate=10"),
            ("base=100", 50, "base=950,candidate=50"),
            ("base=90,candidate=10", 1000, "candidate=1000"),
            ("base=90,next=10", 250, "base=750,candidate=250,next=111"),
            ("base=750,candidate=250,next=111", 0, "base=1000,next=111"),
        ] {
            let with = with_share(&weights(before), &candidate(), share);
            assert_eq!(text(&with), after, "{before}");
        }
    }

    #[test]
    fn shares_are_shown_as_percentages() {
        for (share, text) in [(0, "0%"), (5, "0.5%"), (25, "2.5%"), (1000, "100%")] {
            assert_eq!(percent(share), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            base in 0..=WEIGHT_MAX, other in 0..=WEIGHT_MAX, next in 0..=WEIGHT_MAX, to in 0..=1000_u16,
        ) {
            let before = weights(&format!("base={base},candidate={other},next={next}"));
            let with = with_share(&before, &candidate(), to);
            prop_assert_eq!(share(&with, &candidate()), Some(to));
            prop_assert!(same(&weights(&text(&with)), &with));
            // Written once more, nothing changes.
            prop_assert!(same(&with_share(&with, &candidate(), to), &with));
            // Who had something keeps something.
            prop_assert_eq!(weight(&with, "next") > 0, next > 0);
        }
    }
}
