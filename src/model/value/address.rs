//! Addresses: URLs, hosts, paths, origins, networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::HeaderValue;
use ipnet::IpNet;

use crate::model::decode::Wanted;
use crate::model::endpoint::Target;
use crate::model::networks::Networks;

use super::word::long_list;

/// The longest URL or path, in bytes.
const URL_MAX: usize = 2048;

/// The most networks of one list: as many as a cloud publishes.
const NETWORKS_MAX: usize = 20_000;

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
        is_address: host.parse::<IpAddr>().is_ok(),
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

/// A list of networks.
pub fn networks(text: &str) -> Result<Networks, Wanted> {
    long_list(NETWORKS_MAX, network)(text).map(Networks::from_iter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_url_falls_into_its_parts() {
        let long = format!("http://h/{}", "a".repeat(URL_MAX));
        for (text, wanted) in [
            ("http://h", Some((false, "h", 80, "h", "/"))),
            (
                "HTTPS://H.example./",
                Some((true, "H.example.", 443, "H.example.", "/")),
            ),
            (
                "http://my_svc:8000/a//b/",
                Some((false, "my_svc", 8000, "my_svc:8000", "/a//b/")),
            ),
            (
                "http://[::1]:1/%41",
                Some((false, "::1", 1, "[::1]:1", "/%41")),
            ),
            (
                "https://[fd00::1]",
                Some((true, "fd00::1", 443, "[fd00::1]", "/")),
            ),
            (
                "http://10.0.0.1/a;b=c,d",
                Some((false, "10.0.0.1", 80, "10.0.0.1", "/a;b=c,d")),
            ),
            (long.as_str(), None),
            ("//h/", None),
            ("http:/h/", None),
            ("http://h:80:80/", None),
            ("http://h:+8/", None),
            ("http://::1/", None),
            ("http://[::1]x/", None),
            ("http://[fe80::1%25eth0]/", None),
            ("http://[10.0.0.1]/", None),
            ("http://10.0.0/", None),
            ("http://a..b/", None),
            ("http://@h/", None),
            ("http://h/#", None),
            ("http://h?", None),
            ("http://h\\x/", None),
            ("http://h/%4", None),
            ("http://h/\u{e9}", None),
            ("http://h/a/..", None),
        ] {
            let target = url(text).ok();
            let parts = target
                .as_ref()
                .map(|t| (t.tls, &*t.host, t.port, &*t.authority, &*t.path));
            assert_eq!(parts, wanted, "{text}");
        }
    }

    #[test]
    fn urls_of_helpers_may_have_a_query() {
        for (text, wanted) in [
            ("https://h?a=1", Some("/?a=1")),
            ("https://h/p?a=/../?", Some("/p?a=/../?")),
            ("http://u@h/", None),
            ("http://h/#a", None),
        ] {
            let path = http_url(text).ok().map(|target| target.path);
            assert_eq!(path.as_deref(), wanted, "{text}");
        }
        for good in [
            "http://localhost:1/",
            "http://127.9.9.9/",
            "http://[::1]/",
            "https://h/",
        ] {
            assert!(safe_url(good).is_ok(), "{good}");
        }
        for bad in ["http://h/", "http://localhost.example/", "http://10.0.0.1/"] {
            assert!(safe_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mail_servers_never_carry_a_password() {
        let server = smtp_url("smtp://ops@example.com@mail.example.com").expect("good");
        assert_eq!(server.user.as_deref(), Some("ops@example.com"));
        assert_eq!((&*server.host, server.port), ("mail.example.com", 587));
        assert_eq!(smtp_url("smtps://m/").map(|server| server.port), Ok(465));
        for bad in [
            "smtp://u:p@m",
            "smtp://@m",
            "smtp://m/x",
            "http://m",
            "smtp://",
        ] {
            assert!(smtp_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn origins_are_as_browsers_send_them() {
        for (text, wanted) in [
            ("https://App.Example.com", Some("https://app.example.com")),
            ("http://localhost:3000", Some("http://localhost:3000")),
            (
                "chrome-extension://abcdef",
                Some("chrome-extension://abcdef"),
            ),
            ("https://a/", None),
            ("https://u@a", None),
            ("a.example", None),
            ("null", None),
            ("*", None),
        ] {
            let origin = origin(text).ok();
            assert_eq!(
                origin.as_ref().and_then(|o| o.to_str().ok()),
                wanted,
                "{text}"
            );
        }
    }

    #[test]
    fn a_bare_address_is_a_network_of_one() {
        for (text, wanted) in [
            ("192.0.2.7", Some("192.0.2.7/32")),
            ("::1", Some("::1/128")),
            ("10.1.2.3/8", Some("10.0.0.0/8")),
            ("10.0.0.0/33", None),
            ("10.0.0", None),
            ("h", None),
        ] {
            let network = network(text).ok().map(|network| network.to_string());
            assert_eq!(network.as_deref(), wanted, "{text}");
        }
    }
}
