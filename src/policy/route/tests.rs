//! Which routes win, which targets are refused, and that a search by hand agrees with the index.

use std::collections::BTreeMap;

use http::HeaderName;
use proptest::prelude::*;

use super::*;
use crate::model::name::Name;
use crate::model::route;

/// A route from the text of its fields, as an operator writes it; its service is its id.
fn route(id: &str, fields: &str) -> Arc<Route> {
    let mut fields: BTreeMap<String, String> = fields
        .split_whitespace()
        .map(|field| field.split_once('=').expect("field=value"))
        .map(|(field, value)| (field.to_owned(), value.to_owned()))
        .collect();
    fields.insert("service".to_owned(), id.to_owned());
    let id = Name::parse(id).expect("a name");
    let (decoded, errors) = route::decode("route", &id, &fields);
    assert_eq!(errors, [], "{fields:?}");
    Arc::new(decoded.expect("a route without errors"))
}

/// Routes named `0`, `1`, ... in this order of precedence.
fn index(routes: &[&str]) -> RouteIndex {
    let routes = routes.iter().enumerate();
    RouteIndex::new(
        routes
            .map(|(id, fields)| route(&id.to_string(), fields))
            .collect(),
    )
}

/// Method, host, target and headers of a request in one line: `GET a.com /x?q=1 name:value`.
fn ask(index: &RouteIndex, request: &str) -> Result<Option<(usize, String)>, BadTarget> {
    let mut words = request.split(' ');
    let mut word = || words.next().expect("method, host and target");
    let (method, host, target) = (word(), word(), word());
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let mut headers = HeaderMap::new();
    for header in words {
        let (name, value) = header.split_once(':').expect("name:value");
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    let facts = RequestFacts {
        method: &method.parse().unwrap(),
        host,
        path,
        query,
        headers: &headers,
    };
    let found = find(index, &facts)?;
    Ok(found.map(|found| {
        let id = found.route.id.as_str().parse().unwrap();
        (id, found.upstream_path.into_owned())
    }))
}

/// Position and upstream path.
type Found<'p> = Result<Option<(usize, &'p str)>, BadTarget>;

/// What becomes of each path.
fn check(routes: &[&str], cases: &[(&str, Found<'_>)]) {
    let index = index(routes);
    for (path, want) in cases {
        let want = want.map(|found| found.map(|(id, path)| (id, path.to_owned())));
        assert_eq!(
            ask(&index, &format!("GET h {path}")),
            want,
            "{path} among {routes:?}"
        );
    }
}

#[test]
fn a_prefix_is_made_of_whole_segments() {
    check(
        &["path=/geo/", "path=/exact"],
        &[
            ("/geo/", Ok(Some((0, "/geo/")))),
            ("/geo/x/y", Ok(Some((0, "/geo/x/y")))),
            ("/geo", Ok(None)),
            ("/geox/", Ok(None)),
            ("/Geo/", Ok(None)),
            ("/a/geo/", Ok(None)),
            ("/exact", Ok(Some((1, "/exact")))),
            ("/exact/", Ok(None)),
            ("/exact/x", Ok(None)),
            ("*", Ok(None)),
            ("", Ok(None)),
        ],
    );
}

#[test]
fn the_smallest_position_wins_whatever_kind_of_path_it_has() {
    check(
        &[
            "path_regex=/a/[0-9]+",
            "path=/a/b/",
            "path=/a/",
            "path=/a/b/c",
            "priority=0",
        ],
        &[
            ("/a/1", Ok(Some((0, "/a/1")))),
            ("/a/b/c", Ok(Some((1, "/a/b/c")))),
            ("/a/x", Ok(Some((2, "/a/x")))),
            ("/x", Ok(Some((4, "/x")))),
        ],
    );
    check(
        &["path_regex=/a|/ab", "path_regex=/.*"],
        &[
            ("/ab", Ok(Some((0, "/ab")))),
            ("/abc", Ok(Some((1, "/abc")))),
        ],
    );
}

#[test]
fn every_condition_must_be_met() {
    let index = index(&[
        "path=/m methods=GET,PUT",
        "path=/h host=a.example.com",
        "path=/h host=*.example.com",
        "path=/n header.x-a=1 header.x-b=*",
        "path=/q query.a=1 query.b=*",
        "path=/t query.caf\u{e9}=\u{e0}+b",
    ]);
    for (request, want) in [
        ("GET h /m", Some(0)),
        ("PUT h /m", Some(0)),
        ("HEAD h /m", None),
        ("GET a.example.com /h", Some(1)),
        ("GET A.Example.COM:8080 /h", Some(1)),
        ("GET a.example.com. /h", Some(1)),
        ("GET b.example.com /h", Some(2)),
        ("GET x.b.example.com:1 /h", Some(2)),
        ("GET example.com /h", None),
        ("GET .example.com /h", None),
        ("GET badexample.com /h", None),
        ("GET h /n x-a:1 x-b:", Some(3)),
        ("GET h /n x-a:2 x-a:1 x-b:z", Some(3)),
        ("GET h /n x-a:1", None),
        ("GET h /n x-a:11 x-b:z", None),
        ("GET h /q?a=1&b", Some(4)),
        ("GET h /q?b=&x&a=2&a=1", Some(4)),
        ("GET h /q?%61=%31&b=2", Some(4)),
        ("GET h /q?a=1", None),
        ("GET h /q?a=1;b=2", None),
        ("GET h /q", None),
        ("GET h /t?caf%C3%A9=%c3%a0%2Bb", Some(5)),
        ("GET h /t?caf%C3%A9=%c3%a0+b", None),
    ] {
        let found = ask(&index, request).unwrap().map(|(id, _)| id);
        assert_eq!(found, want, "{request}");
    }
}

#[test]
fn a_path_that_means_two_things_is_refused() {
    let ambiguous = Err(BadTarget::Ambiguous);
    check(
        &[
            "path=/admin/",
            "path=/geo/",
            "path_regex=/r/[^/]+",
            "path=/caf%C3%A9/",
            "path=/a%20b",
        ],
        &[
            ("/geo/%61", Ok(Some((1, "/geo/%61")))),
            ("/geo/a%2Fb", Ok(Some((1, "/geo/a%2Fb")))),
            ("/geo/./x", Ok(Some((1, "/geo/./x")))),
            ("/geo/x/../y", Ok(Some((1, "/geo/x/../y")))),
            ("/geo/.well-known", Ok(Some((1, "/geo/.well-known")))),
            ("/geo/100%", Ok(Some((1, "/geo/100%")))),
            ("/geo/../admin/", ambiguous),
            ("/geo/%2e%2e/admin/", ambiguous),
            ("/geo/..%2fadmin/", ambiguous),
            ("/geo/..\\admin\\x", ambiguous),
            ("/geo/..;/admin/", ambiguous),
            ("/%61dmin/", ambiguous),
            ("/admin%2F", ambiguous),
            ("/x/../admin/", ambiguous),
            ("/geo/..", ambiguous),
            ("/r/a%2Fb", ambiguous),
            ("/r/a%2C%e5%9c%b0", Ok(Some((2, "/r/a%2C%e5%9c%b0")))),
            ("/caf%c3%a9/x", Ok(Some((3, "/caf%c3%a9/x")))),
            ("/caf\u{e9}/x", Ok(Some((3, "/caf\u{e9}/x")))),
            ("/a%20b", Ok(Some((4, "/a%20b")))),
            ("/nowhere/%2e", Ok(None)),
        ],
    );
}

#[test]
fn climbing_out_is_refused() {
    let climbs = Err(BadTarget::Climbs);
    check(
        &["path=/geo/ strip_prefix=on", "path=/"],
        &[
            ("/..", climbs),
            ("/x/../../x", climbs),
            ("/%2e%2e/x", climbs),
            ("/x//..", climbs),
            ("/geo/../geo/x", climbs),
            ("/geo/%2e%2e/geo/x", climbs),
            ("/geo/a/../../geo/x", climbs),
            ("/geo/a/../b", Ok(Some((0, "/a/../b")))),
            ("/a/../b", Ok(Some((1, "/a/../b")))),
        ],
    );
}

#[test]
fn strip_takes_the_prefix_off() {
    check(
        &[
            "path=/geo/ strip_prefix=on",
            "path=/caf%C3%A9/x/ strip_prefix=on",
            "path=/exact strip_prefix=on",
        ],
        &[
            ("/geo/", Ok(Some((0, "/")))),
            ("/geo/x", Ok(Some((0, "/x")))),
            ("/geo//x", Ok(Some((0, "//x")))),
            ("/geo/%2F%2f", Ok(Some((0, "/%2F%2f")))),
            ("/caf%c3%a9/x/y%20z", Ok(Some((1, "/y%20z")))),
            ("/exact", Ok(Some((2, "")))),
        ],
    );
}

#[test]
fn rewrite_fills_the_template_from_the_path_as_sent() {
    let climbs = Err(BadTarget::Climbs);
    check(
        &[
            "path_regex=/u/([^/]+)/p(/.*)? rewrite=/v2/$1/posts$2",
            "path_regex=/w/(.*) rewrite=/public/$1",
            "path_regex=/d(.*) rewrite=/x/$1a",
            "path=/old/ rewrite=/n%20ew",
            "path_regex=/sign/(.*) rewrite=/%24a/$1",
            "path_regex=/e(.)(.*) rewrite=/$2$1",
        ],
        &[
            ("/u/7/p", Ok(Some((0, "/v2/7/posts")))),
            ("/u/7/p/9", Ok(Some((0, "/v2/7/posts/9")))),
            ("/u/%E5%9c%B0%2C/p", Ok(Some((0, "/v2/%E5%9C%B0%2C/posts")))),
            ("/w/a%2541%20b", Ok(Some((1, "/public/a%2541%20b")))),
            ("/w/a/../b", Ok(Some((1, "/public/a/../b")))),
            ("/w/.well-known/x", Ok(Some((1, "/public/.well-known/x")))),
            ("/w/../w/x", climbs),
            ("/w/%2e%2e/w/x", climbs),
            ("/w/a%2F..%2Fb", Ok(Some((1, "/public/a%2F..%2Fb")))),
            ("/d..", Ok(Some((2, "/x/..a")))),
            ("/old/x", Ok(Some((3, "/n%20ew")))),
            ("/sign/%24", Ok(Some((4, "/%24a/%24")))),
            ("/e..", climbs),
        ],
    );
}

#[test]
fn a_path_full_of_slashes_costs_no_more_than_the_longest_prefix() {
    let index = index(&["path=/geo/", "path=/geo/a/"]);
    assert_eq!(index.prefix_longest, "/geo/a/".len());
    let path = format!("/geo{}", "/".repeat(60_000));
    let found = ask(&index, &format!("GET h {path}")).unwrap();
    assert_eq!(found, Some((0, path)));
}

/// Whether a route takes a path, by the definition.
fn takes_path(route: &Route, path: &str) -> bool {
    match &route.path {
        PathMatch::Any => true,
        PathMatch::Exact(exact) => path == &**exact,
        PathMatch::Prefix(prefix) => path.starts_with(&**prefix),
        PathMatch::Regex(regex) => regex.is_match(path),
    }
}

fn segment() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec![
        "a", "b", "ab", "", ".", "..", "%2e", "%2E%2e", "%2f", "%5c..", "..;x", "%61", "\\", "%",
        "c",
    ])
}

fn target() -> impl Strategy<Value = String> {
    proptest::collection::vec(segment(), 0..6).prop_map(|s| format!("/{}", s.join("/")))
}

fn fields() -> impl Strategy<Value = String> {
    let path = proptest::collection::vec(proptest::sample::select(vec!["a", "b", "ab", "c"]), 0..3);
    (path, 0..4_u8).prop_map(|(segments, kind)| {
        let path = format!("/{}", segments.join("/"));
        match kind {
            0 => format!("path={path}"),
            1 => format!("path={}/", path.trim_end_matches('/')),
            2 => format!("path={}/ strip_prefix=on", path.trim_end_matches('/')),
            _ => format!("path_regex={path}(/[ab].*)? rewrite=/new$1"),
        }
    })
}

proptest! {
    #[test]
    fn the_index_agrees_with_a_search_by_hand(
        routes in proptest::collection::vec(fields(), 0..8), target in target(),
    ) {
        let routes: Vec<_> = routes.iter().map(String::as_str).collect();
        let index = index(&routes);
        let by_hand = |path: &str| index.routes.iter().position(|route| takes_path(route, path));
        let written = by_hand(&path::as_written(&target));
        let read = path::as_read(&target).map(|read| by_hand(&read));
        match ask(&index, &format!("GET h {target}")) {
            Ok(found) => {
                prop_assert_eq!(found.as_ref().map(|found| found.0), written);
                prop_assert_eq!(read, Some(written));
                if let Some((id, upstream)) = found {
                    prop_assert!(path::is_plain(&upstream) || path::as_read(&upstream).is_some());
                    prop_assert!(upstream.is_empty() || upstream.starts_with('/'));
                    let changed = index.routes[id].strip_prefix || index.routes[id].rewrite.is_some();
                    prop_assert!(changed || upstream == target);
                }
            }
            Err(BadTarget::Ambiguous) => prop_assert_ne!(read, Some(written)),
            Err(BadTarget::Climbs) => prop_assert!(!path::is_plain(&target)),
            Err(BadTarget::NoPath) => prop_assert!(false, "templates begin with a slash"),
        }
    }
}
