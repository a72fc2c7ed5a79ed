//! Routed requests: which service takes them, what path it sees, what is refused.

use super::support::gateway::{Field, Gateway};
use super::support::upstream::Upstream;

/// An upstream that answers with the target it was asked for.
fn echo() -> Upstream {
    Upstream::start(|connection| {
        while let Some(seen) = connection.read_request() {
            let target = seen.head.start.split(' ').nth(1).expect("a target");
            connection.send(format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{target}",
                target.len()
            ));
        }
    })
}

fn get(gateway: &Gateway, target: &str) -> String {
    let answer = gateway.ask(format!(
        "GET {target} HTTP/1.1\r\nhost: a.example.com\r\n\r\n"
    ));
    match answer.header("x-smartlink-error") {
        Some(code) => format!("{} {code}", answer.head.status),
        None => answer.text().to_owned(),
    }
}

#[test]
fn path_and_query_are_appended_to_the_endpoints_path() {
    let upstream = echo();
    let (root, deep) = (upstream.url("/"), upstream.url("/v1/api/"));
    let gateway = Gateway::start(&[
        ("endpoints:root", &root, "base"),
        ("endpoints:deep", &deep, "base"),
        ("route:whole", "service", "root"),
        ("route:whole", "path", "/whole/"),
        ("route:deep", "service", "deep"),
        ("route:deep", "path", "/deep/"),
        ("route:strip", "service", "deep"),
        ("route:strip", "path", "/strip/"),
        ("route:strip", "strip_prefix", "on"),
        ("route:exact", "service", "deep"),
        ("route:exact", "path", "/exact"),
        ("route:exact", "strip_prefix", "on"),
        ("route:rewrite", "service", "deep"),
        ("route:rewrite", "path_regex", "/user/([0-9]+)/?(.*)"),
        ("route:rewrite", "rewrite", "/u/$1/$2"),
    ]);
    for (target, want) in [
        ("/whole/x", "/whole/x"),
        ("/whole/?a=b&c=%20", "/whole/?a=b&c=%20"),
        ("/whole/%41%2c?", "/whole/%41%2c?"),
        ("/whole//x/./y;z=1", "/whole//x/./y;z=1"),
        ("/deep/x?q", "/v1/api/deep/x?q"),
        ("/strip/x", "/v1/api/x"),
        ("/strip/", "/v1/api/"),
        ("/exact", "/v1/api/"),
        ("/exact?a=?", "/v1/api/?a=?"),
        ("/user/7", "/v1/api/u/7/"),
        ("/user/7/posts?x=1", "/v1/api/u/7/posts?x=1"),
        ("/user/x", "404 no_route"),
        ("/whole", "404 no_route"),
        ("/exact/", "404 no_route"),
        ("/", "404 no_route"),
        ("http://a.example.com/whole/x?y", "/whole/x?y"),
    ] {
        assert_eq!(get(&gateway, target), want, "{target}");
    }
}

#[test]
fn a_path_that_means_two_things_is_a_bad_target() {
    let upstream = echo();
    let url = upstream.url("/base/");
    let gateway = Gateway::start(&[
        ("endpoints:s", &url, "base"),
        ("route:admin", "service", "s"),
        ("route:admin", "path", "/admin/"),
        ("route:admin", "header.x-admin", "yes"),
        ("route:public", "service", "s"),
        ("route:public", "path", "/public/"),
        ("route:public", "strip_prefix", "on"),
    ]);
    for target in [
        "/public/../public/x",
        "/public/%2e%2e/x",
        "/public/..%2fx",
        "/public/..\\x",
        "/public/%2e%2e%5cx",
        "/public/x/../../y",
        "/../public/",
        "/%70ublic/x",
        "/public/..;/x",
        "/..",
    ] {
        assert_eq!(get(&gateway, target), "400 bad_target", "{target}");
    }
    assert_eq!(upstream.connections(), 0);
    for (target, want) in [
        ("/public/x/../y", "/base/x/../y"),
        ("/public/a%2Fb", "/base/a%2Fb"),
        ("/public/%E5%9C%B0", "/base/%E5%9C%B0"),
    ] {
        assert_eq!(get(&gateway, target), want, "{target}");
    }
}

#[test]
fn the_most_specific_route_wins() {
    let upstreams = ["priority", "exact", "longer", "host", "header", "shorter"]
        .map(|name| (name, Upstream::saying(name)));
    let urls = upstreams
        .each_ref()
        .map(|(name, upstream)| (format!("endpoints:{name}"), upstream.url("/")));
    let mut fields: Vec<Field<'_>> = Vec::new();
    for (key, url) in &urls {
        fields.push((key, url, "base"));
    }
    fields.extend([
        ("route:1", "service", "shorter"),
        ("route:1", "path", "/a/"),
        ("route:2", "service", "longer"),
        ("route:2", "path", "/a/b/"),
        ("route:3", "service", "exact"),
        ("route:3", "path", "/a/b/c"),
        ("route:4", "service", "host"),
        ("route:4", "path", "/a/"),
        ("route:4", "host", "*.example.com"),
        ("route:5", "service", "header"),
        ("route:5", "path", "/a/"),
        ("route:5", "header.x-beta", "*"),
        ("route:6", "service", "priority"),
        ("route:6", "query.first", "1"),
        ("route:6", "priority", "1"),
    ]);
    let gateway = Gateway::start(&fields);
    for (request, want) in [
        ("/a/x HTTP/1.1\r\nhost: h", "shorter"),
        ("/a/b/x HTTP/1.1\r\nhost: h", "longer"),
        ("/a/b/c HTTP/1.1\r\nhost: h", "exact"),
        ("/a/x HTTP/1.1\r\nhost: WWW.Example.com:80", "host"),
        ("/a/x HTTP/1.1\r\nhost: h\r\nx-beta: no", "header"),
        (
            "/a/x HTTP/1.1\r\nhost: www.example.com\r\nx-beta: no",
            "host",
        ),
        ("/a/b/c?first=1 HTTP/1.1\r\nhost: h", "priority"),
        ("/a/b/c?first=2 HTTP/1.1\r\nhost: h", "exact"),
    ] {
        assert_eq!(
            gateway.ask(format!("GET {request}\r\n\r\n")).text(),
            want,
            "{request}"
        );
    }
}

#[test]
fn a_route_takes_only_its_methods_and_any_method_passes() {
    let upstream = Upstream::saying("ok");
    let gateway = Gateway::start(&[
        ("endpoints:s", &upstream.url("/"), "base"),
        ("route:some", "service", "s"),
        ("route:some", "path", "/some"),
        ("route:some", "methods", "GET,PURGE"),
        ("route:any", "service", "s"),
        ("route:any", "path", "/any"),
    ]);
    for method in [
        "GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PURGE", "M-SEARCH", "x",
    ] {
        let ask = |path| gateway.ask(format!("{method} {path} HTTP/1.1\r\nhost: h\r\n\r\n"));
        assert_eq!(ask("/any").text(), "ok", "{method}");
        assert_eq!(
            upstream.seen().pop().expect("a request").head.start,
            format!("{method} /any HTTP/1.1")
        );
        let status = ask("/some").head.status;
        assert_eq!(
            status == 200,
            matches!(method, "GET" | "PURGE"),
            "{method}: {status}"
        );
    }
}

#[test]
fn a_route_can_pin_a_version() {
    let (base, next) = (Upstream::saying("base"), Upstream::saying("next"));
    let gateway = Gateway::start(&[
        ("endpoints:s", &base.url("/"), "base"),
        ("endpoints:s", &next.url("/"), "next"),
        ("route:next", "service", "s"),
        ("route:next", "path", "/next"),
        ("route:next", "version", "next"),
        ("route:all", "service", "s"),
        ("route:all", "path", "/"),
    ]);
    for _ in 0..5 {
        assert_eq!(get(&gateway, "/next"), "next");
        assert_eq!(get(&gateway, "/x"), "base");
    }
}

#[test]
fn routes_come_and_go_while_a_connection_stays() {
    let upstream = Upstream::saying("ok");
    let mut gateway = Gateway::start(&[("endpoints:s", &upstream.url("/"), "base")]);
    let mut client = gateway.connect();
    let mut ask = || {
        client.send("GET /x HTTP/1.1\r\nhost: h\r\n\r\n");
        client.read_answer().head.status
    };
    assert_eq!(ask(), 404);
    gateway.write(&[("route:r", "service", "s"), ("route:r", "path", "/x")]);
    assert_eq!(ask(), 200);
    gateway.write(&[
        ("route:r", "service", "s"),
        ("route:r", "path", "/x"),
        ("route:r", "enabled", "off"),
    ]);
    assert_eq!(ask(), 404);
}

#[test]
fn no_route_is_answered_in_the_standard_form() {
    let gateway = Gateway::start(&[]);
    let msg = gateway
        .ask("GET / HTTP/1.1\r\nhost: h\r\n\r\n")
        .error(404, "no_route");
    assert!(msg.starts_with("No Such Route"), "{msg}");
    let msg = gateway
        .ask("OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n")
        .error(404, "no_route");
    assert!(msg.starts_with("No Such Route"), "{msg}");
}
