//! Who asks: the client's address, seen through the proxies that are trusted.

use std::net::IpAddr;

use http::HeaderMap;

use super::forwarded;
use crate::model::networks::Networks;
use crate::model::settings::Effective;

/// What `x-forwarded-for` is called.
pub const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// The address of the client behind this peer. Where the peer is a trusted proxy it is what
/// `x-forwarded-for` says, or, where that header is absent, `Forwarded`: from its end on, the first
/// address that is no trusted proxy. What stands before that one anybody may have written, and so
/// may have a `Forwarded` beside `x-forwarded-for`: most proxies write the latter only and pass the
/// former on. Addresses are canonical: IPv4 is never written as IPv6.
#[must_use]
pub fn address(peer: IpAddr, headers: &HeaderMap, trusted: &Networks) -> IpAddr {
    let peer = peer.to_canonical();
    if !trusted.contains(peer) {
        return peer;
    }
    if headers.contains_key(X_FORWARDED_FOR) {
        let lines = headers.get_all(X_FORWARDED_FOR).into_iter().rev();
        let hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        return walk(peer, hops.map(hop), trusted);
    }
    if !headers.contains_key(http::header::FORWARDED) {
        return peer;
    }
    let hops = forwarded::hops(headers).unwrap_or_default();
    walk(peer, hops.iter().rev().map(|hop| hop.client), trusted)
}

/// Whether the address lists of a service let this client in.
#[must_use]
pub fn is_welcome(client: IpAddr, settings: &Effective) -> bool {
    let holds = |list: &Networks| list.contains(client);
    !settings.deny_ip.as_ref().is_some_and(holds) && settings.allow_ip.as_ref().is_none_or(holds)
}

/// From a trusted peer back to the first that is none.
fn walk(peer: IpAddr, hops: impl Iterator<Item = Option<IpAddr>>, trusted: &Networks) -> IpAddr {
    let mut client = peer;
    for hop in hops {
        // Behind a hop that cannot be read nobody is known.
        let Some(before) = hop else { break };
        client = before;
        if !trusted.contains(client) {
            break;
        }
    }
    client
}

/// One hop of `x-forwarded-for`, which some proxies write with a port.
fn hop(text: &[u8]) -> Option<IpAddr> {
    forwarded::node(std::str::from_utf8(text.trim_ascii()).ok()?)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::model::settings::Settings;
    use crate::model::value;

    fn check(peer: &str, lines: &[(&'static str, &str)], wanted: &str) {
        let mut headers = HeaderMap::new();
        for (name, line) in lines {
            let line = HeaderValue::from_bytes(line.as_bytes()).expect("a value");
            headers.append(HeaderName::from_static(name), line);
        }
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().expect("a network"));
        let peer = peer.parse().expect("an address");
        let got = address(peer, &headers, &trusted.into_iter().collect());
        assert_eq!(got.to_string(), wanted, "{peer} {lines:?}");
    }

    #[test]
    fn a_client_is_the_first_that_is_no_trusted_proxy() {
        for (peer, lines, want) in [
            ("192.0.2.1", &["198.51.100.7"][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("::ffff:10.0.0.1", &["::ffff:198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["6.6.6.6, 198.51.100.7"], "198.51.100.7"),
            (
                "10.0.0.1",
                &["6.6.6.6", "198.51.100.7,10.0.0.2 "],
                "198.51.100.7",
            ),
            ("10.0.0.1", &["198.51.100.7:4711"], "198.51.100.7"),
            ("10.0.0.1", &["[2001:db8::1]:80"], "2001:db8::1"),
            ("10.0.0.1", &["[2001:db8::1]"], "2001:db8::1"),
            ("fd00::1", &["198.51.100.7, fd00::2"], "198.51.100.7"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["198.51.100.7, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["198.51.100.7,"], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            ("10.0.0.1", &["\u{fffd}"], "10.0.0.1"),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| (X_FORWARDED_FOR, *line)).collect();
            check(peer, &lines, want);
        }
    }

    #[test]
    fn forwarded_counts_where_x_forwarded_for_is_absent() {
        for (peer, lines, want) in [
            ("10.0.0.1", &["for=198.51.100.7"][..], "198.51.100.7"),
            ("192.0.2.1", &["for=198.51.100.7"], "192.0.2.1"),
            (
                "10.0.0.1",
                &["for=6.6.6.6, for=198.51.100.7;proto=https, for=10.0.0.2"],
                "198.51.100.7",
            ),
            ("10.0.0.1", &["for=6.6.6.6", "for=\"[fd00::2]\""], "6.6.6.6"),
            ("10.0.0.1", &["for=6.6.6.6, for=_hidden"], "10.0.0.1"),
            ("10.0.0.1", &["for=6.6.6.6, for=\"x"], "10.0.0.1"),
            ("10.0.0.1", &["proto=https"], "10.0.0.1"),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
            check(peer, &lines, want);
        }
    }

    #[test]
    fn what_is_denied_is_denied_even_where_it_is_allowed() {
        for (allow, deny, client, wanted) in [
            (None, None, "192.0.2.1", true),
            (Some("192.0.2.0/24"), None, "192.0.2.1", true),
            (Some("192.0.2.0/24"), None, "192.0.3.1", false),
            (Some("192.0.2.0/24"), None, "::ffff:192.0.2.1", true),
            (Some("192.0.2.0/24"), None, "2001:db8::1", false),
            (None, Some("192.0.2.0/24"), "192.0.2.1", false),
            (None, Some("192.0.2.0/24"), "192.0.3.1", true),
            (Some("192.0.2.0/24"), Some("192.0.2.1"), "192.0.2.1", false),
            (Some("192.0.2.0/24"), Some("192.0.2.1"), "192.0.2.2", true),
            (Some("192.0.2.1"), Some("192.0.2.0/24"), "192.0.2.1", false),
        ] {
            let list = |text: &str| value::networks(text).expect("a list");
            let said = Settings {
                allow_ip: allow.map(list),
                deny_ip: deny.map(list),
                ..Settings::default()
            };
            let settings = Effective::merge(&said, &Settings::default());
            let client = client.parse().expect("an address");
            let got = is_welcome(client, &settings);
            assert_eq!(got, wanted, "{client} {allow:?} {deny:?}");
        }
    }

    #[test]
    fn x_forwarded_for_wins_over_forwarded_whatever_it_says() {
        for (line, want) in [("198.51.100.7", "198.51.100.7"), ("unknown", "10.0.0.1")] {
            let lines = [("forwarded", "for=6.6.6.6"), (X_FORWARDED_FOR, line)];
            check("10.0.0.1", &lines, want);
        }
    }
}
