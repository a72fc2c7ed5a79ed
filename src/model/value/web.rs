//! What HTTP knows: URLs, paths, hosts, headers, origins, networks, JSON pointers.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::model::decode::Wanted;
use crate::model::endpoint::Target;
use crate::model::settings::HeaderList;

/// The longest URL, path or pointer, in bytes.
const URL_MAX: usize = 2048;

/// The most headers that one setting sets.
const HEADERS_MAX: usize = 100;

/// Headers that frame a message or belong to one connection: set wrongly they let requests be
/// smuggled, so they stay the gateway's.
const OWN_HEADERS: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The URL of an endpoint.
pub fn url(text: &str) -> Result<Target, Wanted> {
    let wanted = || {
        "a URL such as http://10.0.0.5:8000/path/ without user, query or fragment, \
         and with a path as clients send it"
            .to_owned()
    };
    let (target, rest) = split_url(text).ok_or_else(wanted)?;
    let path = if rest.is_empty() { "/" } else { rest };
    let path = self::path(path).map_err(|_refused| wanted())?;
    Ok(Target { path, ..target })
}

/// The URL of a helper, http or https, which may carry a query but no user.
pub fn http_url(text: &str) -> Result<Target, Wanted> {
    let parse = || {
        let (target, rest) = split_url(text)?;
        let rest = match rest {
            "" => "/".to_owned(),
            _ if rest.starts_with('?') => format!("/{rest}"),
            _ => rest.to_owned(),
        };
        let path = path_and_query(&rest).ok()?;
        Some(Target { path, ..target })
    };
    parse().ok_or_else(|| {
        "an http or https URL such as https://example.com/path, without user or fragment".to_owned()
    })
}

/// As `http_url`, but without TLS only to this machine.
pub fn safe_url(text: &str) -> Result<Target, Wanted> {
    let local =
        |host: &str| host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    http_url(text)
        .ok()
        .filter(|target| target.tls || local(&target.host))
        .ok_or_else(|| {
            "an https URL without user or fragment (http only to this machine)".to_owned()
        })
}

/// The URL of a mail server: `smtp://user@host:587`, or `smtps://` for TLS from the first byte.
pub fn smtp_url(text: &str) -> Result<MailServer, Wanted> {
    let parse = || {
        let (scheme, rest) = text.split_once("://").filter(|_| text.len() <= URL_MAX)?;
        let (tls, usual_port) = match scheme {
            "smtp" => (false, 587),
            "smtps" => (true, 465),
            _ => return None,
        };
        let (user, authority) = match rest.rsplit_once('@') {
            Some((user, authority)) => (Some(user), authority),
            None => (None, rest),
        };
        let plain = |user: &str| !user.is_empty() && user.bytes().all(|b| b.is_ascii_graphic());
        if user.is_some_and(|user| user.contains([':', '/']) || !plain(user)) {
            return None;
        }
        let (host, port) = split_authority(authority.strip_suffix('/').unwrap_or(authority))?;
        Some(MailServer {
            tls,
            user: user.map(Into::into),
            host: host.into(),
            port: port.unwrap_or(usual_port),
        })
    };
    parse().ok_or_else(|| {
        "a URL such as smtp://user@mail.example.com:587, the password in secret_env".to_owned()
    })
}

/// Where mail is handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailServer {
    /// TLS from the first byte; otherwise by STARTTLS.
    pub tls: bool,
    /// Who logs in.
    pub user: Option<Box<str>>,
    /// Host name or address, IPv6 without brackets.
    pub host: Box<str>,
    /// Port, 587 or 465 where the URL names none.
    pub port: u16,
}

/// Scheme, host and port of a URL, and what comes after them.
fn split_url(text: &str) -> Option<(Target, &str)> {
    let (scheme, rest) = text.split_once("://").filter(|_| text.len() <= URL_MAX)?;
    let tls = match scheme {
        _ if scheme.eq_ignore_ascii_case("http") => false,
        _ if scheme.eq_ignore_ascii_case("https") => true,
        _ => return None,
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let (host, port) = split_authority(authority)?;
    let target = Target {
        tls,
        host: host.into(),
        port: port.unwrap_or(if tls { 443 } else { 80 }),
        authority: authority.into(),
        path: "/".into(),
    };
    Some((target, rest))
}

/// Host, without the brackets of IPv6, and port.
fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<Ipv6Addr>().ok()?;
        let port = match rest {
            "" => None,
            _ => Some(port(rest.strip_prefix(':')?)?),
        };
        return Some((host, port));
    }
    let (host, port) = match authority.split_once(':') {
        Some((host, text)) => (host, Some(port(text)?)),
        None => (authority, None),
    };
    dns_name(host).ok()?;
    Some((host, port))
}

fn port(text: &str) -> Option<u16> {
    let plain = text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| plain && *port > 0)
}

/// A host name, with underscores as container networks have them, or an IPv4 address: as written.
pub fn dns_name(text: &str) -> Result<Box<str>, Wanted> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let bare = text.strip_suffix('.').unwrap_or(text);
    let last = bare.rsplit('.').next().unwrap_or_default();
    // What ends in a number is an address for every resolver, so it must be a whole one.
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit());
    let valid = bare.len() <= 253 && bare.split('.').all(label);
    let valid = valid && (!numeric || text.parse::<Ipv4Addr>().is_ok());
    valid
        .then(|| text.into())
        .ok_or_else(|| "a host name or IPv4 address in ASCII".to_owned())
}

/// The path of a request as it goes over the wire, without `.` and `..` segments.
pub fn path(text: &str) -> Result<Box<str>, Wanted> {
    let dots = |segment: &str| {
        let plain = segment.replace("%2e", ".").replace("%2E", ".");
        plain == "." || plain == ".."
    };
    let valid = text.starts_with('/')
        && text.len() <= URL_MAX
        && is_encoded(text, is_path_byte)
        && !text.split('/').any(dots);
    valid.then(|| text.into()).ok_or_else(|| {
        "a path such as /geo/, percent-encoded, without query and without . or .. segments"
            .to_owned()
    })
}

/// A path, with a query where there is one.
pub fn path_and_query(text: &str) -> Result<Box<str>, Wanted> {
    let (before, query) = text.split_once('?').unwrap_or((text, ""));
    let valid = path(before).is_ok()
        && text.len() <= URL_MAX
        && is_encoded(query, |byte| is_path_byte(byte) || byte == b'?');
    valid.then(|| text.into()).ok_or_else(|| {
        "a path such as /health or /health?full=1, percent-encoded, without . or .. segments"
            .to_owned()
    })
}

/// RFC 3986 `pchar` and the slash; `%` is judged with what follows it.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte)
}

fn is_encoded(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let hex = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_hexdigit());
        let fine = match byte {
            b'%' => hex(bytes.next()) && hex(bytes.next()),
            _ => allowed(byte),
        };
        if !fine {
            return false;
        }
    }
    true
}

/// The name of a header, lower case.
pub fn header_name(text: &str) -> Result<HeaderName, Wanted> {
    HeaderName::from_bytes(text.as_bytes())
        .ok()
        .filter(|name| name.as_str().len() <= 128)
        .ok_or_else(|| "a header name such as x-tenant".to_owned())
}

/// The name of a header that an operator may set or remove.
pub fn free_header_name(text: &str) -> Result<HeaderName, Wanted> {
    let name = header_name(text)?;
    let own = OWN_HEADERS.contains(&name.as_str()) || name.as_str().starts_with("x-smartlink-");
    if own {
        return Err(format!(
            "a header that is not the gateway's own, as {name} is"
        ));
    }
    Ok(name)
}

/// A JSON object of header names to texts; it may hold credentials, so no value is repeated.
pub fn header_list(text: &str) -> Result<HeaderList, Wanted> {
    let wanted = || r#"a JSON object of texts such as {"x-tenant": "a"}"#.to_owned();
    let Pairs(pairs) = serde_json::from_str(text).map_err(|_refused| wanted())?;
    if pairs.len() > HEADERS_MAX {
        return Err(format!("at most {HEADERS_MAX} headers"));
    }
    let mut headers = HeaderList::with_capacity(pairs.len());
    for (name, value) in pairs {
        let name = free_header_name(&name)?;
        let mut value = HeaderValue::from_bytes(value.trim().as_bytes())
            .map_err(|_refused| format!("a value of one line for {name}"))?;
        value.set_sensitive(true);
        if headers.iter().any(|(known, _)| *known == name) {
            return Err(format!("each header once, {name} stands there twice"));
        }
        headers.push((name, value));
    }
    Ok(headers)
}

/// The members of a JSON object of texts, in the order written.
struct Pairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Pairs(pairs))
    }
}

/// A web origin, lower case as browsers send it.
pub fn origin(text: &str) -> Result<HeaderValue, Wanted> {
    let lower = text.to_ascii_lowercase();
    let parse = || {
        let (scheme, authority) = lower.split_once("://")?;
        let known = scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && (scheme.bytes())
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"+-.".contains(&b));
        split_authority(authority).filter(|_| known)?;
        HeaderValue::from_str(&lower).ok()
    };
    parse().ok_or_else(|| {
        "an origin such as https://app.example.com or http://localhost:3000, without path"
            .to_owned()
    })
}

/// A network; a bare address is a network of one.
pub fn network(text: &str) -> Result<IpNet, Wanted> {
    let bare = || text.parse::<IpAddr>().ok().map(IpNet::from);
    (text.parse::<IpNet>().ok().map(|net| net.trunc()))
        .or_else(bare)
        .ok_or_else(|| "an address or network such as 10.0.0.0/8, 192.0.2.7 or fd00::/8".to_owned())
}

/// A JSON pointer (RFC 6901) to a part of a document.
pub fn json_pointer(text: &str) -> Result<Box<str>, Wanted> {
    let escaped = text
        .split('~')
        .skip(1)
        .all(|rest| rest.starts_with(['0', '1']));
    let valid = text.starts_with('/') && text.len() <= URL_MAX && escaped;
    valid
        .then(|| text.into())
        .ok_or_else(|| "a JSON pointer such as /params/user".to_owned())
}

/// A request method.
pub fn method(text: &str) -> Result<Method, Wanted> {
    let upper = text.bytes().all(|byte| !byte.is_ascii_lowercase());
    Method::from_bytes(text.as_bytes())
        .ok()
        .filter(|_| upper && text.len() <= 32)
        .ok_or_else(|| "a method in upper case such as GET or POST".to_owned())
}
