//! The header `Forwarded` (RFC 7239): what proxies say of whom they were asked by.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::FORWARDED;

/// What one proxy said of who asked it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hop {
    /// Who asked; `None` where that is left open, hidden or not an address.
    pub client: Option<IpAddr>,
    /// By which protocol, `http` or `https`.
    pub proto: Option<String>,
    /// For which host.
    pub host: Option<String>,
}

/// All hops, the farthest first. `None` where any part is malformed: then nothing of it is to be
/// believed.
#[must_use]
pub fn hops(headers: &HeaderMap) -> Option<Vec<Hop>> {
    let mut hops = Vec::new();
    for line in headers.get_all(FORWARDED) {
        let mut rest = std::str::from_utf8(line.as_bytes()).ok()?;
        while !rest.is_empty() {
            rest = hop(rest, &mut hops)?;
        }
    }
    Some(hops)
}

/// Reads one element up to its comma; what is left behind it. Empty elements are no hops.
fn hop<'t>(text: &'t str, hops: &mut Vec<Hop>) -> Option<&'t str> {
    let mut hop = Hop::default();
    let mut seen: Vec<String> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        match rest.chars().next() {
            None => break,
            Some(',') => {
                rest = rest.get(1..)?;
                break;
            }
            Some(';') => {
                rest = rest.get(1..)?;
                continue;
            }
            Some(_) => {}
        }
        let (name, value, behind) = pair(rest)?;
        let name = name.to_ascii_lowercase();
        // Section 4: no parameter more than once in an element.
        if seen.contains(&name) {
            return None;
        }
        match name.as_str() {
            "for" => hop.client = node(&value),
            "proto" if matches!(value.as_str(), "http" | "https") => hop.proto = Some(value),
            "host" if is_host(&value) => hop.host = Some(value),
            _ => {}
        }
        seen.push(name);
        rest = behind.trim_start_matches([' ', '\t']);
        if !(rest.is_empty() || rest.starts_with([';', ','])) {
            return None;
        }
    }
    if !seen.is_empty() {
        hops.push(hop);
    }
    Some(rest)
}

/// `token "=" ( token / quoted-string )`: name, value without quotes, what is behind. Some proxies
/// write ports and IPv6 without quotes, which leaves no doubt either.
fn pair(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = text.split_once('=')?;
    let is_of = |text: &str, signs: &[u8]| {
        let sign = |b: u8| b.is_ascii_alphanumeric() || signs.contains(&b);
        !text.is_empty() && text.bytes().all(sign)
    };
    if !is_of(name, b"!#$%&'*+-.^_`|~") {
        return None;
    }
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find([';', ',', ' ', '\t']).unwrap_or(rest.len());
        let (value, behind) = rest.split_at(end);
        return is_of(value, b"!#$%&'*+-.^_`|~:[]/").then(|| (name, value.to_owned(), behind));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((name, value, quoted.get(at + 1..)?)),
            '\\' => value.push(chars.next()?.1),
            char => value.push(char),
        }
    }
    None
}

/// The address of a node, with or without a port, which may be a hidden one (section 6).
#[must_use]
pub fn node(text: &str) -> Option<IpAddr> {
    let is_port = |port: &str| {
        let sign = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        !port.is_empty() && port.bytes().all(sign)
    };
    let address: IpAddr = if let Some(rest) = text.strip_prefix('[') {
        let (address, behind) = rest.split_once(']')?;
        if !(behind.is_empty() || behind.strip_prefix(':').is_some_and(is_port)) {
            return None;
        }
        IpAddr::V6(address.parse().ok()?)
    } else if let Ok(address) = text.parse() {
        address
    } else {
        let (address, port) = text.split_once(':')?;
        IpAddr::V4(address.parse().ok().filter(|_| is_port(port))?)
    };
    Some(address.to_canonical())
}

/// How an address stands in an element: IPv6 in brackets, and those in quotes.
#[must_use]
pub fn written(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("for={address}"),
        IpAddr::V6(address) => format!("for=\"[{address}]\""),
    }
}

/// Characters of a host and its port, as far as they may stand in a header of ours.
fn is_host(text: &str) -> bool {
    let sign = |b: u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+=:[]".contains(&b);
    !text.is_empty() && text.bytes().all(sign)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            let line = HeaderValue::from_bytes(line.as_bytes()).expect("a value");
            headers.append(FORWARDED, line);
        }
        let shown = |hop: Hop| {
            let client = hop.client.map_or("?".to_owned(), |it| it.to_string());
            let [proto, host] = [hop.proto, hop.host].map(Option::unwrap_or_default);
            format!("{client} {proto} {host}").trim_end().to_owned()
        };
        let hops = hops(&headers)?;
        Some(hops.into_iter().map(shown).collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn each_element_is_a_hop() {
        for (lines, wanted) in [
            (&["for=192.0.2.43"][..], Some("192.0.2.43")),
            (
                &["For=\"[2001:db8:cafe::17]:4711\""],
                Some("2001:db8:cafe::17"),
            ),
            (
                &["for=192.0.2.60;proto=http;by=203.0.113.43"],
                Some("192.0.2.60 http"),
            ),
            (
                &["for=192.0.2.43, for=198.51.100.17"],
                Some("192.0.2.43, 198.51.100.17"),
            ),
            (
                &["for=192.0.2.43", "for=198.51.100.17;host=a.example:81"],
                Some("192.0.2.43, 198.51.100.17  a.example:81"),
            ),
            (
                &["for=_hidden, for=unknown, for=_SEVKISEK"],
                Some("?, ?, ?"),
            ),
            (&["for=\"192.0.2.43:_port\""], Some("192.0.2.43")),
            (&["for=\"::ffff:192.0.2.43\""], Some("192.0.2.43")),
            (&["for=1.2.3.4:80, for=[::1]:80"], Some("1.2.3.4, ::1")),
            (&["proto=https"], Some("? https")),
            (&["proto=gopher;host=\"a b\""], Some("?")),
            (&["for=\"1.2.3.4\\\"\""], Some("?")),
            (&["for=\"1.2.3.4, for=5.6.7.8\""], Some("?")),
            (&[", ,for=1.2.3.4 ; proto=https ,"], Some("1.2.3.4 https")),
            (&["for=1.2.3.4;;proto=http"], Some("1.2.3.4 http")),
            (&[""], Some("")),
            (&[], Some("")),
            (&["for=1.2.3.4;for=5.6.7.8"], None),
            (&["for=1.2.3.4;FOR=5.6.7.8"], None),
            (&["for"], None),
            (&["for="], None),
            (&["=1.2.3.4"], None),
            (&["for =1.2.3.4"], None),
            (&["for= 1.2.3.4"], None),
            (&["for=\"1.2.3.4"], None),
            (&["for=\"1.2.3.4\\"], None),
            (&["for=1.2.3.4 proto=http"], None),
            (&["for=\"1.2.3.4\"x"], None),
            (&["for=1.2.3.4", "nonsense"], None),
        ] {
            assert_eq!(read(lines).as_deref(), wanted, "{lines:?}");
        }
    }

    #[test]
    fn a_node_is_an_address_with_or_without_a_port() {
        for (text, wanted) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.1:80", Some("192.0.2.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:db8::1]:80", Some("2001:db8::1")),
            ("::ffff:192.0.2.1", Some("192.0.2.1")),
            ("[::ffff:192.0.2.1]:1", Some("192.0.2.1")),
            ("[192.0.2.1]", None),
            ("[::1]x", None),
            ("[::1]:", None),
            ("[::1", None),
            ("192.0.2.1:", None),
            ("192.0.2.1:8 0", None),
            ("192.0.2", None),
            ("unknown", None),
            ("", None),
        ] {
            let got = node(text).map(|address| address.to_string());
            assert_eq!(got.as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_as_what_it_was() {
        for text in ["192.0.2.1", "2001:db8::1"] {
            let address = text.parse().expect("an address");
            assert_eq!(read(&[&written(address)]).as_deref(), Some(text));
        }
    }
}
