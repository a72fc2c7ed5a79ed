//! What may stand in a `Host` header.

use std::net::Ipv6Addr;

/// Whether this is `host[:port]` (RFC 3986 sections 3.2.2 and 3.2.3), or empty.
pub(super) fn is_host(value: &[u8]) -> bool {
    let plain = value.iter().take_while(|b| is_plain(**b)).count();
    match value.get(plain..) {
        None | Some([]) => true,
        Some([b':', port @ ..]) => is_port(port),
        Some(_) => is_unusual_host(value),
    }
}

/// The same for addresses in brackets and names with escapes.
fn is_unusual_host(value: &[u8]) -> bool {
    let text = std::str::from_utf8(value).unwrap_or("?");
    let (host_is_fine, port) = match text.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
        Some((v6, after)) => {
            let port = after.strip_prefix(':');
            let ends = after.is_empty() || port.is_some();
            (ends && v6.parse::<Ipv6Addr>().is_ok(), port)
        }
        None => match text.split_once(':') {
            Some((name, port)) => (is_name(name), Some(port)),
            None => (is_name(text), None),
        },
    };
    host_is_fine && port.is_none_or(|port| is_port(port.as_bytes()))
}

/// Whether these are the digits of a port, or none.
fn is_port(digits: &[u8]) -> bool {
    let port = digits.iter().try_fold(0_u32, |port, digit| {
        let port = port * 10 + u32::from(digit.wrapping_sub(b'0'));
        (digit.is_ascii_digit() && u16::try_from(port).is_ok()).then_some(port)
    });
    port.is_some()
}

/// Whether this byte stands for itself in a `reg-name`.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&'..=b'+' | b';' | b'='
        )
}

/// Whether this is a `reg-name`, leaving out the comma, at which lists are split.
fn is_name(name: &str) -> bool {
    let mut parts = name.split('%');
    parts
        .next()
        .is_some_and(|first| first.bytes().all(is_plain))
        && parts.all(|escaped| {
            let digits = escaped
                .bytes()
                .take(2)
                .filter(u8::is_ascii_hexdigit)
                .count();
            digits == 2 && escaped.bytes().skip(2).all(is_plain)
        })
}
