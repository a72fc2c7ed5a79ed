//! The lines of heads and trailers, and the numbers in them.

use memchr::memchr;

use super::Violation;

/// The value of a header line of that name (given in lower case), without white space around.
pub(super) fn value_of<'l, const N: usize>(line: &'l [u8], name: &[u8; N]) -> Option<&'l [u8]> {
    let (start, rest) = line.split_first_chunk::<N>()?;
    let (b':', value) = rest.split_first()? else {
        return None;
    };
    // Letters in lower case and the hyphen stay what they are: compared as words, not byte by byte.
    // Only a CR would pass for a hyphen, and no line has one.
    (start.map(|byte| byte | 0x20) == *name).then(|| value.trim_ascii())
}

pub(super) fn parse_length(value: &[u8]) -> Result<u64, Violation> {
    const BAD: Violation = Violation::Malformed("a Content-Length that is not a number");
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return Err(BAD);
    }
    Ok(value
        .iter()
        .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

pub(super) fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A') + 10,
    }
}

/// Whether this is a header line: a token, a colon, and no control characters behind.
pub(super) fn is_field(line: &[u8]) -> bool {
    let Some(colon) = memchr(b':', line) else {
        return false;
    };
    let (name, value) = line.split_at(colon);
    let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !name.is_empty()
        && name.iter().all(token)
        && value.iter().all(|b| !b.is_ascii_control() || *b == b'\t')
}
