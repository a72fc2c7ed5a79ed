//! When two numbers or two texts are no difference.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::Number;

use crate::model::comparison::Allowance;

use super::rules::Tolerance;

/// What rounding may change in a number: one part in 10^9.
const ROUNDING: f64 = 1e-9;

/// Whether two numbers are the same: within the tolerance where there is one, else the same whole
/// number, or the same fraction but for rounding. `1` is `1.0`.
pub(super) fn numbers(a: &Number, b: &Number, tolerance: Option<Tolerance>) -> bool {
    if a == b || whole(a).is_some_and(|a| whole(b) == Some(a)) {
        return true;
    }
    let exact = a.is_f64() || b.is_f64();
    let tolerance = match tolerance {
        Some(tolerance) => tolerance,
        // Two whole numbers may be names, such as identities of 19 digits.
        None if !exact => return false,
        None => Tolerance::default(),
    };
    let (Some(a), Some(b)) = (a.as_f64(), b.as_f64()) else {
        return false;
    };
    let relative = tolerance.relative.max(ROUNDING);
    (a - b).abs() <= tolerance.absolute + relative * a.abs().max(b.abs())
}

/// A number without a fraction, in whichever way it is written.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the range is checked before the cast"
)]
pub(super) fn whole(number: &Number) -> Option<i128> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let small = |float: &f64| float.fract() == 0.0 && float.abs() <= EXACT;
    (number.as_i128()).or_else(|| number.as_f64().filter(small).map(|float| float as i128))
}

/// Whether two texts are the same but for what is allowed.
pub(super) fn texts(a: &str, b: &str, allows: Allowance) -> bool {
    if a == b || plain(a, allows) == plain(b, allows) {
        return true;
    }
    let Some(least) = allows.similar else {
        return false;
    };
    similarity(&plain(a, allows), &plain(b, allows)) >= least
}

/// A text without what is no difference.
pub(super) fn plain(text: &str, allows: Allowance) -> Cow<'_, str> {
    let text = if allows.trim { text.trim() } else { text };
    if allows.casefold {
        // Sharp s and the final sigma have two lower cases; going over upper case joins them.
        Cow::Owned(text.to_uppercase().to_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// The share of all words that is in both texts (Jaccard); 1 where neither has any.
#[expect(clippy::cast_precision_loss, reason = "numbers of words are small")]
fn similarity(a: &str, b: &str) -> f64 {
    let (a, b) = (words(a), words(b));
    let both = a.intersection(&b).count();
    let all = a.len() + b.len() - both;
    if all == 0 {
        return 1.0;
    }
    both as f64 / all as f64
}

/// The different words of a text. In scripts that put no spaces between words, each character is
/// one.
fn words(text: &str) -> BTreeSet<&str> {
    let mut words = BTreeSet::new();
    let mut start = None;
    for (at, character) in text.char_indices() {
        let alone = stands_alone(character);
        if character.is_alphanumeric() && !alone {
            start.get_or_insert(at);
            continue;
        }
        if let Some(start) = start.take() {
            words.extend(text.get(start..at));
        }
        if alone {
            words.extend(text.get(at..at + character.len_utf8()));
        }
    }
    words.extend(start.and_then(|start| text.get(start..)));
    words
}

/// Kana, CJK ideographs, and Thai, Lao, Khmer and Burmese letters.
fn stands_alone(character: char) -> bool {
    matches!(u32::from(character), 0x0E00..=0x0EFF | 0x1000..=0x109F | 0x1780..=0x17FF
        | 0x3040..=0x30FF | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x3FFFF)
        && character.is_alphanumeric()
}
