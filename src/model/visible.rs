//! Texts of strangers before people see them: what a terminal or a reader of lines would obey
//! instead of showing it.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a character says something to a terminal, ends a line for some reader of lines, or turns
/// the direction in which others are shown.
#[must_use]
pub const fn is_obeyed(char: char) -> bool {
    matches!(
        char,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

/// The text with such characters as `\u` and four hex digits, which in JSON means the same; those
/// in `kept` stay.
#[must_use]
pub fn escaped<'t>(text: &'t str, kept: &[char]) -> Cow<'t, str> {
    let hidden = |char: char| is_obeyed(char) && !kept.contains(&char);
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        if hidden(char) {
            write!(shown, "\\u{:04x}", u32::from(char)).expect("a text takes what is written");
        } else {
            shown.push(char);
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_obeyed_is_shown_and_all_else_stays() {
        for (text, wanted) in [
            ("", ""),
            (
                "r\u{e9}sum\u{e9} \u{5bf}\u{1f600}\\",
                "r\u{e9}sum\u{e9} \u{5bf}\u{1f600}\\",
            ),
            ("a\nb\tc", "a\n"),
            ("\u{1b}[2Jx", "\\u001b[2Jx"),
            ("\u{9b}2J\u{85}\u{7f}", "\\u009b2J\\u0085\\u007f"),
            ("\u{2028}\u{202e}\u{2066}", "\\u2028\\u202e\\u2066"),
        ] {
            let wanted = wanted.replace("a\n", "a\nb\\u0009c");
            assert_eq!(escaped(text, &['\n']), wanted);
        }
        let json = serde_json::to_string("\u{9b}\u{202e}\"").expect("a text is JSON");
        let read: String = serde_json::from_str(&escaped(&json, &[])).expect("still JSON");
        assert_eq!(read, "\u{9b}\u{202e}\"");
    }
}
