//! What a caller may rely on, for any weights.

use proptest::prelude::*;

use super::*;

/// Weights by version, `base` first.
type Weights = Vec<(String, u32)>;

fn weights(of: &[u32]) -> Weights {
    let names = ["base", "candidate", "v2", "v3", "v4", "v5"];
    let names = names.map(str::to_owned).into_iter();
    names.zip(of.iter().copied()).collect()
}

fn chosen(weights: &Weights, service: &str, caller: u32) -> Option<usize> {
    let point = point(service, caller.to_string().as_bytes());
    let racers = weights.iter().enumerate();
    first(
        racers.map(|(at, (name, weight))| (at, &**name, *weight)),
        point,
    )
}

fn counts(weights: &Weights, service: &str, callers: u32) -> Vec<u32> {
    let mut counts = vec![0; weights.len()];
    for caller in 0..callers {
        counts[chosen(weights, service, caller).expect("somebody has a weight")] += 1;
    }
    counts
}

/// Whether a count is within four and a half standard deviations of its share.
fn is_fair(count: u32, share: f64, of: u32) -> bool {
    let (count, of) = (f64::from(count), f64::from(of));
    let deviation = (of * share * (1.0 - share)).sqrt();
    (count - of * share).abs() <= 4.5 * deviation + 1.0
}

/// The figures were worked out by another program, with sixty digits.
#[test]
fn callers_have_the_same_place_in_every_release() {
    for (service, key, want) in [
        ("ner", "alice", 0x9f08_d817_2315_f762),
        ("ner", "bob", 0x52fb_346f_3619_819d),
        ("geo", "alice", 0x645c_e2f3_71f0_4e21),
        ("ner", "\u{5730}", 0xc859_4e07_9ff6_fb98),
    ] {
        assert_eq!(point(service, key.as_bytes()), want, "{service} {key}");
    }
    let weights = weights(&[50, 30, 20]);
    let twelve: Vec<_> = (0..12).filter_map(|n| chosen(&weights, "ner", n)).collect();
    assert_eq!(twelve, [2, 2, 1, 0, 0, 0, 0, 0, 0, 2, 2, 2]);
    // 2.480542532… in units of 2^-40.
    assert_eq!(ring(point("ner", b"alice"), "base"), 2_727_385_358_025);
}

#[test]
#[expect(
    clippy::cast_precision_loss,
    reason = "a double has 53 bits, and 40 are compared"
)]
fn logarithms_are_right_to_the_last_digit_but_one() {
    assert_eq!(minus_log2(1), 64 << FRACTION);
    assert_eq!(minus_log2(1 << 63), 1 << FRACTION);
    assert_eq!(minus_log2(u64::MAX), 1);
    let mut number = 3_u64;
    for _ in 0..1_000 {
        number = mix(number) | 1;
        let shifted = number >> (number % 50);
        let want = 64.0 - (shifted as f64).log2();
        let got = minus_log2(shifted) as f64 / (1_u64 << FRACTION) as f64;
        let off = (got - want).abs();
        assert!(off < 1e-11, "{shifted}: {off}");
    }
}

#[test]
fn nobody_is_chosen_without_a_weight() {
    assert_eq!(chosen(&weights(&[0, 0]), "ner", 1), None);
    assert_eq!(chosen(&Weights::new(), "ner", 1), None);
    for caller in 0..1_000 {
        assert_eq!(chosen(&weights(&[0, 1, 0]), "ner", caller), Some(1));
    }
}

#[test]
fn a_share_of_one_in_ten_thousand_is_held() {
    let callers = 400_000;
    let counts = counts(&weights(&[9_999, 1]), "ner", callers);
    assert!(is_fair(counts[1], 1e-4, callers), "{counts:?}");
}

/// Chance would put a tenth of one service's canaries among another's.
#[test]
fn the_canaries_of_one_service_are_not_those_of_another() {
    let weights = weights(&[90, 10]);
    let both = (0..40_000)
        .filter(|caller| chosen(&weights, "ner", *caller) == Some(1))
        .filter(|caller| chosen(&weights, "geo", *caller) == Some(1));
    let both = u32::try_from(both.count()).expect("few");
    assert!(is_fair(both, 0.01, 40_000), "{both}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn raising_one_weight_moves_callers_only_towards_it_and_lowering_it_moves_them_back(
        before in prop::collection::vec(0_u32..1_000_000, 1..6),
        at in any::<prop::sample::Index>(),
        more in 1_u32..1_000_000,
    ) {
        let at = at.index(before.len());
        let mut after = before.clone();
        after[at] += more;
        let (before, after) = (weights(&before), weights(&after));
        for caller in 0..500 {
            let (was, is) = (chosen(&before, "ner", caller), chosen(&after, "ner", caller));
            prop_assert!(was == is || is == Some(at), "caller {caller} went from {was:?} to {is:?}");
            prop_assert_eq!(was, chosen(&before, "ner", caller));
        }
    }

    #[test]
    fn a_caller_changes_only_to_a_version_whose_weight_rose_in_relation(
        changes in prop::collection::vec((0_u32..1_000, 0_u32..1_000), 1..6),
    ) {
        let (before, after): (Vec<u32>, Vec<u32>) = changes.iter().copied().unzip();
        let (before, after) = (weights(&before), weights(&after));
        for caller in 0..500 {
            let moved = (chosen(&before, "ner", caller), chosen(&after, "ner", caller));
            let (Some(from), Some(to)) = moved else { continue };
            let cross = |a: u32, b: u32| u64::from(a) * u64::from(b);
            prop_assert!(
                from == to
                    || cross(after[to].1, before[from].1) > cross(before[to].1, after[from].1)
            );
        }
    }

    #[test]
    fn only_relations_count(of in prop::collection::vec(0_u32..1_000, 1..6), times in 1_u32..1_000) {
        let scaled: Vec<u32> = of.iter().map(|weight| weight * times).collect();
        let (once, scaled) = (weights(&of), weights(&scaled));
        for caller in 0..200 {
            prop_assert_eq!(chosen(&once, "ner", caller), chosen(&scaled, "ner", caller));
        }
    }
}

#[test]
fn shares_are_those_of_the_weights() {
    let callers = 20_000;
    for of in [
        &[1, 1][..],
        &[90, 10],
        &[99, 1],
        &[1, 1, 1],
        &[70, 20, 10],
        &[5, 4, 3, 2, 1, 0],
        &[1_000_000, 1, 500_000],
    ] {
        let weights = weights(of);
        let sum: u32 = of.iter().sum();
        for service in ["ner", "geo", "a"] {
            let counts = counts(&weights, service, callers);
            for (count, weight) in counts.iter().zip(of) {
                let share = f64::from(*weight) / f64::from(sum);
                assert!(
                    is_fair(*count, share, callers),
                    "{of:?} {service} {counts:?}"
                );
            }
        }
    }
}
