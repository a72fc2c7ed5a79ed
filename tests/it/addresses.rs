//! From where services may be asked.

use super::support::client::Answer;
use super::support::gateway::{Field, Gateway};
use super::support::upstream::Upstream;

/// A gateway that believes every proxy on this machine.
fn gateway(fields: &[Field<'_>]) -> Gateway {
    Gateway::start_with(fields, |options| {
        options.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    })
}

/// What a client at this address is answered for that name.
fn ask(gateway: &Gateway, client: &str, name: &str) -> Answer {
    let body = format!(r#"{{"server_name": "{name}"}}"#);
    gateway.ask(format!(
        "POST /ai_server/ HTTP/1.1\r\nhost: h\r\nx-forwarded-for: {client}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

#[test]
fn a_service_is_open_to_the_addresses_it_lists() {
    let upstream = Upstream::saying("ok");
    let url = upstream.url("/");
    let gateway = gateway(&[
        ("endpoints:s", &url, "base"),
        ("service:s", "allow_ip", "192.0.2.0/24, 2001:db8::/32"),
        ("service:s", "deny_ip", "192.0.2.66"),
    ]);
    for client in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1"] {
        assert_eq!(ask(&gateway, client, "s").text(), "ok", "{client}");
    }
    let served = upstream.seen().len();
    for client in [
        "192.0.2.66",
        "192.0.3.1",
        "::1",
        "unknown",
        "1.2.3.4, 192.0.2.66",
    ] {
        let msg = ask(&gateway, client, "s").error(403, "forbidden");
        assert_eq!(msg, "Forbidden: not from this address");
    }
    assert_eq!(upstream.seen().len(), served);
}

#[test]
fn lists_hold_for_routes_and_their_preflights_too() {
    let upstream = Upstream::saying("ok");
    let url = upstream.url("/");
    let gateway = gateway(&[
        ("endpoints:s", &url, "base"),
        ("service:s", "deny_ip", "192.0.2.0/24"),
        ("service:s", "cors", "*"),
        ("route:r", "service", "s"),
        ("route:r", "path", "/r"),
    ]);
    let ask = |method: &str, client: &str, lines: &str| {
        gateway.ask(format!(
            "{method} /r HTTP/1.1\r\nhost: h\r\nx-forwarded-for: {client}\r\n{lines}\r\n"
        ))
    };
    let preflight = "origin: https://a.example\r\naccess-control-request-method: GET\r\n";
    assert_eq!(ask("GET", "192.0.3.1", "").head.status, 200);
    assert_eq!(ask("OPTIONS", "192.0.3.1", preflight).head.status, 204);
    ask("GET", "192.0.2.1", "").error(403, "forbidden");
    ask("OPTIONS", "192.0.2.1", preflight).error(403, "forbidden");
}

#[test]
fn a_name_that_nobody_serves_is_a_service_with_the_defaults() {
    let upstream = Upstream::saying("ok");
    let url = upstream.url("/");
    let gateway = gateway(&[
        ("endpoints:s", &url, "base"),
        ("endpoints:open", &url, "base"),
        ("endpoints:hidden", &url, "base"),
        ("service:open", "allow_ip", "0.0.0.0/0, ::/0"),
        ("service:hidden", "enabled", "off"),
        ("defaults", "allow_ip", "192.0.2.0/24"),
    ]);
    let stranger = |name: &str| {
        let answer = ask(&gateway, "198.51.100.1", name);
        let msg = answer.error(403, "forbidden");
        let mut names: Vec<String> = answer.head.headers.iter().map(|(n, _)| n.clone()).collect();
        names.sort();
        (msg, names)
    };
    assert_eq!(stranger("s"), stranger("nobody"));
    assert_eq!(stranger("s"), stranger("hidden"));
    assert_eq!(ask(&gateway, "198.51.100.1", "open").text(), "ok");
    assert_eq!(ask(&gateway, "192.0.2.1", "s").text(), "ok");
    ask(&gateway, "192.0.2.1", "nobody").error(400, "no_such_service");
    ask(&gateway, "192.0.2.1", "hidden").error(400, "no_such_service");
}

#[test]
fn a_list_of_thousands_is_obeyed_and_a_change_of_it_at_once() {
    let upstream = Upstream::saying("ok");
    let url = upstream.url("/");
    let list: Vec<String> = (0..10_000_u32)
        .map(|n| format!("10.{}.{}.0/25", n / 256, n % 256))
        .collect();
    let mut gateway = gateway(&[
        ("endpoints:s", &url, "base"),
        ("service:s", "deny_ip", &list.join(",")),
    ]);
    for (client, status) in [
        ("10.0.0.1", 403),
        ("10.39.15.127", 403),
        ("10.39.15.128", 200),
        ("10.39.16.1", 200),
        ("9.255.255.255", 200),
    ] {
        assert_eq!(ask(&gateway, client, "s").head.status, status, "{client}");
    }
    gateway.write(&[("service:s", "deny_ip", "9.0.0.0/8")]);
    for (client, status) in [("10.0.0.1", 200), ("9.255.255.255", 403)] {
        assert_eq!(ask(&gateway, client, "s").head.status, status, "{client}");
    }
}
