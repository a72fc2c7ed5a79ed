//! Which services a credential opens.

/// Whether one of the patterns names the service; `*` stands for any run of characters, also none.
#[must_use]
pub fn covers<'p>(patterns: impl IntoIterator<Item = &'p str>, service: &str) -> bool {
    let mut patterns = patterns.into_iter();
    patterns.any(|pattern| matches(pattern, service))
}

/// Whether all of the text is what the pattern says. Takes as many steps as both are long together,
/// times the longest run between two stars at worst.
fn matches(pattern: &str, text: &str) -> bool {
    // Most tokens name services, or open all: those are quick.
    if pattern == "*" {
        return true;
    }
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(head) else {
        return false;
    };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    // What stands between two stars may as well be the first that fits.
    for part in middle.split('*').filter(|part| !part.is_empty()) {
        let Some((_, after)) = text.split_once(part) else {
            return false;
        };
        text = after;
    }
    text.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_run_of_characters() {
        for (pattern, text, wanted) in [
            ("ner", "ner", true),
            ("ner", "ner2", false),
            ("ner", "NER", false),
            ("*", "ner", true),
            ("ner-*", "ner-", true),
            ("ner-*", "ner-en", true),
            ("ner-*", "ner", false),
            ("ner-*", "x-ner-en", false),
            ("*-en", "ner-en", true),
            ("*-en", "ner-en-2", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxcyyb", false),
            ("a*b*b", "ab", false),
            ("ab*ba", "aba", false),
            ("**", "", true),
            ("*a*", "bab", true),
            ("*a*", "bb", false),
            ("a**c", "abc", true),
        ] {
            assert_eq!(matches(pattern, text), wanted, "{pattern} {text}");
        }
    }

    #[test]
    fn one_pattern_is_enough() {
        let patterns = ["ner", "ocr-*"];
        assert!(covers(patterns, "ocr-1"));
        assert!(!covers(patterns, "tts"));
        assert!(!covers([], "ner"));
    }
}
