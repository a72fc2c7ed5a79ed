//! The head of a request, written as the upstream gets it.

use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::Body as _;

use super::Asking;
use super::outbound::Coding;
use crate::proxy::body::SendBody;
use crate::proxy::headers;

/// Room for a usual head.
const USUAL: usize = 768;

/// Writes the head; tells how the body must be coded.
pub(super) fn write(asking: &Asking<'_>, body: &SendBody) -> (Vec<u8>, Coding) {
    let mut out = Vec::with_capacity(USUAL);
    out.extend_from_slice(asking.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(asking.path.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nhost: ");
    out.extend_from_slice(asking.host.as_bytes());
    out.extend_from_slice(b"\r\n");
    let coding = write_framing(&mut out, asking, body);
    let mut connection = Vec::new();
    headers::upward(asking, |name, value| {
        if name == "te" {
            connection.push("te");
        }
        write_line(&mut out, name, value);
    });
    if let Some(protocol) = asking.upgrade {
        connection.push("upgrade");
        write_line(&mut out, "upgrade", protocol.as_bytes());
    }
    if !connection.is_empty() {
        write_line(&mut out, "connection", connection.join(", ").as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    (out, coding)
}

fn write_framing(out: &mut Vec<u8>, asking: &Asking<'_>, body: &SendBody) -> Coding {
    let declared = || headers::first(asking.headers, &CONTENT_LENGTH).is_some();
    match body.size_hint().exact() {
        // Whether an empty body is worth a word depends on the method (RFC 9110 section 8.6).
        Some(0) if !declared() => Coding::Plain,
        Some(length) => {
            let mut digits = [0; 20];
            write_line(out, "content-length", decimal(length, &mut digits));
            Coding::Plain
        }
        None => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Coding::Chunked
        }
    }
}

fn write_line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// A number in decimal digits.
fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut first = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        first -= 1;
        if number == 0 {
            break;
        }
    }
    digits.get(first..).unwrap_or_default()
}

/// The same as a map, for HTTP/2, which knows no connection headers (RFC 9113 section 8.2.2).
pub(super) fn as_map(asking: &Asking<'_>) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(asking.headers.len() + 8);
    headers::upward(asking, |name, value| {
        let name = http::HeaderName::from_bytes(name.as_bytes());
        let value = http::HeaderValue::from_bytes(value);
        if let (Ok(name), Ok(value)) = (name, value) {
            map.append(name, value);
        }
    });
    if let Some(length) = asking.headers.get(CONTENT_LENGTH) {
        map.insert(CONTENT_LENGTH, length.clone());
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 7, 10, 65_536, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }
}
