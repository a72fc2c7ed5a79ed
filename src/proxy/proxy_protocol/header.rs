//! The header of the PROXY protocol as bytes: `proxy-protocol.txt` of `HAProxy`, sections 2.1 and 2.2.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a header of version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What one of version 1 begins with.
const WORD: &[u8] = b"PROXY ";
/// The fixed part of version 2.
const FIXED: usize = 16;
/// The longest line of version 1, its end included.
const LINE_MAX: usize = 107;
/// The shortest of them: `PROXY UNKNOWN`.
const LINE_MIN: usize = 15;
/// The most bytes of addresses and of what may stand behind them in version 2: twice what nginx takes.
const REST_MAX: usize = 8 * 1024;

/// Which versions are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// Version 1, a line of text.
    V1,
    /// Version 2, binary.
    V2,
    /// Both.
    Any,
}

/// What the first bytes of a connection come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// So far a header; it has at least so many bytes.
    Part(usize),
    /// A header of so many bytes.
    Whole(usize, Source),
}

/// Whom a proxy speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// For itself (`LOCAL`), or for somebody without an address that is known here.
    Itself,
    /// For this client.
    Client(IpAddr),
}

/// Reads a header from the beginning of these bytes; the error says why it is none.
pub(super) fn read(bytes: &[u8], versions: Versions) -> Result<Seen, &'static str> {
    let begins = |whole: &[u8]| bytes.iter().zip(whole).all(|(a, b)| a == b);
    let (one, two) = match versions {
        Versions::V1 => (true, false),
        Versions::V2 => (false, true),
        Versions::Any => (true, true),
    };
    if two && begins(SIGNATURE) {
        binary(bytes)
    } else if one && begins(WORD) {
        line(bytes)
    } else {
        Err("no PROXY header")
    }
}

fn line(bytes: &[u8]) -> Result<Seen, &'static str> {
    const BAD: &str = "a malformed PROXY line";
    let line = bytes.get(..LINE_MAX).unwrap_or(bytes);
    let Some(end) = memchr::memchr(b'\n', line) else {
        // What is asked for must not reach into what comes behind.
        let missing = if line.ends_with(b"\r") { 1 } else { 2 };
        return match bytes.len() {
            LINE_MAX.. => Err("a PROXY line without an end"),
            length => Ok(Seen::Part(LINE_MIN.max(length + missing))),
        };
    };
    let text = line
        .get(WORD.len()..end)
        .and_then(|it| it.strip_suffix(b"\r"));
    let text = text
        .and_then(|text| std::str::from_utf8(text).ok())
        .ok_or(BAD)?;
    if text == "UNKNOWN" || text.starts_with("UNKNOWN ") {
        return Ok(Seen::Whole(end + 1, Source::Itself));
    }
    let mut words = text.split(' ');
    let mut next = || words.next().ok_or(BAD);
    let (family, source, target) = (next()?, next()?, next()?);
    let ports = [next()?, next()?];
    let is_port = |port: &str| {
        let plain =
            port.bytes().all(|b| b.is_ascii_digit()) && (port == "0" || !port.starts_with('0'));
        plain && port.parse::<u16>().is_ok()
    };
    if words.next().is_some() || !ports.into_iter().all(is_port) {
        return Err(BAD);
    }
    let v4 = |text: &str| text.parse::<Ipv4Addr>().map(IpAddr::V4);
    let v6 = |text: &str| text.parse::<Ipv6Addr>().map(IpAddr::V6);
    let both = match family {
        "TCP4" => v4(source).and_then(|source| v4(target).map(|_| source)),
        "TCP6" => v6(source).and_then(|source| v6(target).map(|_| source)),
        _ => return Err(BAD),
    };
    let client = both.map_err(|_malformed| BAD)?;
    Ok(Seen::Whole(end + 1, Source::Client(client)))
}

fn binary(bytes: &[u8]) -> Result<Seen, &'static str> {
    let Some(fixed) = bytes.first_chunk::<FIXED>() else {
        // No more than the signature, while it may still be a line.
        let known = bytes.len() >= SIGNATURE.len();
        return Ok(Seen::Part(if known { FIXED } else { SIGNATURE.len() }));
    };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > REST_MAX {
        return Err("a PROXY header that is too long");
    }
    let own = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err("a PROXY header of another version or command"),
    };
    // The addresses of both ends and, but for Unix, their ports.
    let addresses = match family {
        0x00 => 0,
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        // Section 2.2: what says LOCAL is to be taken whatever family it names.
        _ if own => 0,
        _ => return Err("a PROXY header of an unknown family"),
    };
    if !own && length < addresses {
        return Err("a PROXY header without its addresses");
    }
    let whole = FIXED + length;
    let Some(rest) = bytes.get(FIXED..whole) else {
        return Ok(Seen::Part(whole));
    };
    let source = match family {
        _ if own => None,
        0x11 | 0x12 => rest.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
        0x21 | 0x22 => rest.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes)),
        _ => None,
    };
    // What stands behind the addresses (TLVs) is not asked for.
    Ok(Seen::Whole(
        whole,
        source.map_or(Source::Itself, Source::Client),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of version 2.
    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len())
            .expect("it is short")
            .to_be_bytes();
        [SIGNATURE, &[command, family][..], &length, rest].concat()
    }

    fn client(text: &str) -> Source {
        Source::Client(text.parse().expect("an address"))
    }

    /// All of it is a header; less of it is a part of one, that asks for no byte behind it.
    #[track_caller]
    fn whole(header: &[u8], source: Source) {
        let behind = [header, b"GET / HTTP/1.1\r\n\r\n"].concat();
        assert_eq!(
            read(&behind, Versions::Any),
            Ok(Seen::Whole(header.len(), source))
        );
        for end in 0..header.len() {
            let part = read(header.get(..end).expect("a part"), Versions::Any);
            let Ok(Seen::Part(least)) = part else {
                panic!("{end}: {part:?}")
            };
            assert!(end < least && least <= header.len(), "{end}: {least}");
        }
    }

    const V4: &[u8] = &[192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 0, 80];

    #[test]
    fn a_client_is_told_in_binary() {
        whole(&v2(0x21, 0x11, V4), client("192.0.2.7"));
        whole(&v2(0x21, 0x12, V4), client("192.0.2.7"));
        let mut v6 = [0; 36];
        v6[0] = 0x20;
        v6[15] = 1;
        whole(&v2(0x21, 0x21, &v6), client("2000::1"));
        // Behind the addresses anything may stand.
        let more = [V4, &[4, 0, 1, 0, 0xff, 0xff, 0xff]].concat();
        whole(&v2(0x21, 0x11, &more), client("192.0.2.7"));
    }

    #[test]
    fn a_proxy_may_speak_for_itself_or_for_somebody_without_an_address() {
        whole(&v2(0x20, 0x00, &[]), Source::Itself);
        whole(&v2(0x20, 0x11, V4), Source::Itself);
        whole(&v2(0x20, 0x11, &[]), Source::Itself);
        whole(&v2(0x20, 0x7f, &[1, 2, 3]), Source::Itself);
        whole(&v2(0x21, 0x00, &[]), Source::Itself);
        whole(&v2(0x21, 0x00, &[1, 2, 3]), Source::Itself);
        whole(&v2(0x21, 0x31, &[b'/'; 216]), Source::Itself);
    }

    #[test]
    fn what_is_no_binary_header_is_refused() {
        let long = v2(0x21, 0x11, &vec![0; REST_MAX + 1]);
        for bytes in [
            &v2(0x22, 0x11, V4)[..],
            &v2(0x11, 0x11, V4),
            &v2(0x31, 0x11, V4),
            &v2(0x21, 0x41, V4),
            &v2(0x21, 0x13, V4),
            &v2(0x21, 0x10, V4),
            &v2(0x21, 0x01, V4),
            &v2(0x21, 0x11, &[0; 11]),
            &v2(0x21, 0x21, V4),
            &v2(0x21, 0x31, V4),
            &long,
            b"\r\n\r\n\0\r\nQUIT\r",
            b"GET / HTTP/1.1\r\n",
            b"\n",
        ] {
            assert!(read(bytes, Versions::Any).is_err(), "{bytes:?}");
        }
        // Refused as soon as it is known, not when all of it came.
        assert!(read(long.get(..FIXED).expect("a part"), Versions::V2).is_err());
    }

    #[test]
    fn a_client_is_told_by_a_line() {
        let lines = [
            (
                "PROXY TCP4 192.0.2.7 10.0.0.1 4660 80\r\n",
                client("192.0.2.7"),
            ),
            ("PROXY TCP6 2000::1 ::1 0 65535\r\n", client("2000::1")),
            ("PROXY UNKNOWN\r\n", Source::Itself),
            ("PROXY UNKNOWN ::1 ::1 1 2\r\n", Source::Itself),
        ];
        for (line, source) in lines {
            whole(line.as_bytes(), source);
        }
    }

    #[test]
    fn what_is_no_line_is_refused() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_MAX));
        for line in [
            "PROXY\r\n",
            "PROXY \r\n",
            "proxy TCP4 192.0.2.7 10.0.0.1 1 2\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 1\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 1 2 3\r\n",
            "PROXY TCP4  192.0.2.7 10.0.0.1 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.7 10.0.0.1 1 2\r\n",
            "PROXY TCP4 192.0.2.7 unix 1 2\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 1 65536\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 01 2\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 +1 2\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 1 \r\n",
            "PROXY UNKNOWNX\r\n",
            "PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
            &long,
        ] {
            assert!(read(line.as_bytes(), Versions::Any).is_err(), "{line:?}");
        }
    }

    #[test]
    fn a_version_that_is_not_wanted_is_no_header() {
        let line = b"PROXY UNKNOWN\r\n";
        let binary = v2(0x20, 0, &[]);
        for (versions, takes_line, takes_binary) in [
            (Versions::V1, true, false),
            (Versions::V2, false, true),
            (Versions::Any, true, true),
        ] {
            assert_eq!(read(line, versions).is_ok(), takes_line, "{versions:?}");
            assert_eq!(
                read(&binary, versions).is_ok(),
                takes_binary,
                "{versions:?}"
            );
        }
    }
}
