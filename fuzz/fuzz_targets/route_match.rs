//! No target gets behind a route: what is let through reads the same to every server.
#![no_main]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use http::{HeaderMap, Method};
use libfuzzer_sys::fuzz_target;
use smartlink::model::name::Name;
use smartlink::model::table::RouteIndex;
use smartlink::model::{path, route};
use smartlink::policy::route::{RequestFacts, find, join};

/// Routes of every kind, the most specific first.
const ROUTES: [&[(&str, &str)]; 8] = [
    &[("path", "/geo/"), ("strip_prefix", "on")],
    &[("path", "/geo/exact"), ("query.a", "1")],
    &[("path", "/admin/"), ("host", "*.example.com")],
    &[("path", "/caf%C3%A9/"), ("strip_prefix", "on")],
    &[
        ("path_regex", "/u/([^/]+)/p(/.*)?"),
        ("rewrite", "/v2/$1$2"),
    ],
    &[("path_regex", "/w/(.*)"), ("rewrite", "/public/$1")],
    &[("path", "/w"), ("rewrite", "/x%20y")],
    &[("path", "/a/")],
];

static INDEX: LazyLock<RouteIndex> = LazyLock::new(|| {
    let routes = ROUTES.iter().enumerate().map(|(n, fields)| {
        let id = Name::parse(&n.to_string()).expect("a name");
        let mut fields: BTreeMap<_, _> = fields
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        fields.insert("service".to_owned(), "s".to_owned());
        let (route, errors) = route::decode("route", &id, &fields);
        Arc::new(route.unwrap_or_else(|| panic!("{errors:?}")))
    });
    RouteIndex::new(routes.collect())
});

fuzz_target!(|input: (&str, &str, Option<&str>)| {
    let (host, target, query) = input;
    // As hyper hands it over: what no target may hold does not come this far.
    let target = format!("/{target}");
    let Ok(uri) = target.parse::<http::Uri>() else {
        return;
    };
    let facts = RequestFacts {
        method: &Method::GET,
        host,
        path: uri.path(),
        query: query.or(uri.query()),
        headers: &HeaderMap::new(),
    };
    let Ok(Some(found)) = find(&INDEX, &facts) else {
        return;
    };
    let upstream = &found.upstream_path;
    assert!(
        upstream.is_empty() || upstream.starts_with('/'),
        "{upstream}"
    );
    assert!(
        upstream.is_empty() || path::as_read(upstream).is_some(),
        "{upstream} climbs"
    );
    let joined = join("/base/", upstream, facts.query);
    let read = path::as_read(joined.split('?').next().expect("the path")).expect("no climbing");
    assert!(
        read == "/base" || read.starts_with("/base/"),
        "{joined} leaves its endpoint"
    );
    if found.route.id.as_str() == "5" {
        assert!(
            read.starts_with("/base/public/"),
            "{joined} leaves its rewritten path"
        );
    }
});
