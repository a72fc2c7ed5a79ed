//! Words of a command line that people paste into a shell as POSIX has it.

/// A text as one word, always between quotes.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A text as one word, between quotes only where a shell would read more into it.
#[must_use]
pub fn word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_.:/,=@%+-".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        quoted(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_where_it_needs_it() {
        for (text, wanted) in [
            ("smartlink:weights:a-b_c.d", "smartlink:weights:a-b_c.d"),
            ("10%", "10%"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("1; touch /tmp/x #", "'1; touch /tmp/x #'"),
            ("$(a)", "'$(a)'"),
            ("`a`", "'`a`'"),
            ("~", "'~'"),
            ("*", "'*'"),
            ("a\nb", "'a\nb'"),
            ("redis://h:1/0?a=b&c", "'redis://h:1/0?a=b&c'"),
        ] {
            assert_eq!(word(text), wanted);
        }
        assert_eq!(quoted("a"), "'a'");
    }
}
