//! Routes come and go with what they lead to, in order of precedence.

use super::*;

#[test]
fn a_route_matches_while_its_service_exists() {
    let mut book = Book::loaded(&[("route:r", "service=a, path=/x")]);
    assert!(book.routes().is_empty());
    assert_eq!(book.wrong(), ["route:r service"]);
    let applied = book.write("endpoints:a", ONE);
    assert_eq!(applied.errors_gone, ["smartlink:route:r service"]);
    assert_eq!(book.routes(), ["r"]);
    book.delete("endpoints:a");
    assert!(book.routes().is_empty());
    assert_eq!(book.wrong(), ["route:r service"]);
    book.delete("route:r");
    assert!(book.wrong().is_empty());
}

#[test]
fn a_route_to_a_misconfigured_service_matches() {
    let book = Book::loaded(&[
        ("route:r", "service=a, version=v"),
        ("endpoints:a", "x=base"),
    ]);
    assert_eq!(book.routes(), ["r"]);
    assert_eq!(book.wrong(), ["endpoints:a x"]);
}

#[test]
fn a_route_that_pins_a_version_matches_while_that_has_an_endpoint() {
    let mut book = Book::loaded(&[
        ("endpoints:a", ONE),
        ("route:r", "service=a, version=candidate"),
    ]);
    assert!(book.routes().is_empty());
    assert_eq!(book.wrong(), ["route:r version"]);
    book.write("endpoints:a", TWO);
    assert_eq!(book.routes(), ["r"], "also with a weight of 0");
    book.write("endpoints:a", "http://h:1/=base, http://h:2/=candidate off");
    assert!(book.routes().is_empty());
}

#[test]
fn a_route_that_is_not_enabled_is_not_there_and_not_wrong() {
    let mut book = Book::loaded(&[("route:r", "service=nobody, enabled=off")]);
    assert!(book.routes().is_empty() && book.wrong().is_empty());
    book.write("endpoints:a", ONE);
    book.write("route:r", "service=a");
    assert_eq!(book.routes(), ["r"]);
    book.write("route:r", "service=a, enabled=off");
    assert!(book.routes().is_empty());
}

#[test]
fn a_bad_route_leaves_the_last_good_one_and_a_new_one_does_not_exist() {
    let mut book = Book::loaded(&[("endpoints:a", ONE), ("route:r", "service=a, path=/x")]);
    book.write_together(&[("route:r", "service=a, path=x"), ("route:new", "path=/y")]);
    assert_eq!(book.routes(), ["r"]);
    assert_eq!(book.wrong(), ["route:new service", "route:r path"]);
    book.delete("endpoints:a");
    assert!(
        book.routes().is_empty(),
        "also the last good one needs its service"
    );
}

#[test]
fn a_new_route_to_a_service_keyed_by_the_body_waits_until_that_is_mended() {
    for (key, setting) in [
        ("service:a", "sticky=json:/user"),
        ("service:a", "balance=hash:json:/user"),
        ("defaults", "sticky=json:/user"),
    ] {
        let mut book = Book::loaded(&[("endpoints:a", ONE), (key, setting)]);
        book.write("route:r", "service=a");
        assert!(book.routes().is_empty(), "{setting}");
        assert_eq!(book.wrong(), ["route:r service"], "{setting}");
        let snapshot = book.config.snapshot();
        assert!(!snapshot.objects.contains_key("smartlink:route:r"));
        let mended = setting.replace("json:/", "header:");
        let applied = book.write(key, &mended);
        assert_eq!(applied.errors_gone, ["smartlink:route:r service"]);
        assert_eq!(book.routes(), ["r"], "{mended}");
    }
}

#[test]
fn a_route_stays_when_its_service_begins_to_want_a_key_from_the_body() {
    let mut book = Book::loaded(&[("endpoints:a", ONE), ("route:r", "service=a, path=/x")]);
    book.write("service:a", "sticky=json:/user");
    assert_eq!(book.routes(), ["r"]);
    assert_eq!(book.wrong(), ["route:r service"]);
    // So it does beside a rewritten one that waits.
    book.write("route:r", "service=a, path=/y");
    let exact = |book: &Book, path: &str| book.config.table().routes.exact.contains_key(path);
    assert!(exact(&book, "/x") && !exact(&book, "/y"));
    assert_eq!(book.wrong(), ["route:r service"]);
    let mut restarted = Book::unloaded();
    let snapshot = book.config.snapshot();
    restarted.seed += 1;
    drop(restarted.config.restore(snapshot, 1));
    assert!(exact(&restarted, "/x"));
    assert_eq!(restarted.wrong(), ["route:r service"]);
    book.write("service:a", "sticky=cookie:user");
    assert!(exact(&book, "/y") && !exact(&book, "/x"));
    assert!(book.wrong().is_empty());
}

#[test]
fn a_rewritten_route_waits_for_the_service_it_names() {
    let mut book = Book::loaded(&[
        ("endpoints:a", ONE),
        ("endpoints:b", ONE),
        ("service:b", "sticky=json:/user"),
        ("route:r", "service=a"),
    ]);
    let leads_to = |book: &Book| book.config.table().routes.routes[0].service.to_string();
    book.write("route:r", "service=b");
    assert_eq!(leads_to(&book), "a");
    book.delete("service:b");
    assert_eq!(leads_to(&book), "b");
    book.write("service:b", "sticky=json:/user");
    book.write("route:r", "service=a");
    assert!(book.wrong().is_empty());
    assert_eq!(leads_to(&book), "a");
    book.write("route:r", "service=b");
    book.delete("route:r");
    assert!(book.wrong().is_empty() && book.routes().is_empty());
}

#[test]
fn a_route_that_pins_its_version_needs_no_sticky_key() {
    let mut book = Book::loaded(&[
        ("endpoints:a", ONE),
        ("service:a", "sticky=json:/user"),
        ("route:r", "service=a, version=base"),
    ]);
    assert_eq!(book.routes(), ["r"]);
    assert!(book.wrong().is_empty());
    book.write("service:a", "sticky=json:/user, balance=hash:json:/user");
    assert_eq!(book.wrong(), ["route:r service"]);
}

#[test]
fn a_change_of_services_leaves_the_routes_alone() {
    let mut book = Book::loaded(&[("endpoints:a", ONE), ("route:r", "service=a")]);
    let routes = Arc::clone(&book.config.table().routes);
    book.write("endpoints:b", ONE);
    book.write("weights:a", "base=7");
    assert!(Arc::ptr_eq(&routes, &book.config.table().routes));
}

/// Writes routes named `1`, `2`, ... in scrambled order; they come out in that order.
fn in_order(routes: &[&str]) {
    let mut book = Book::loaded(&[("endpoints:a", ONE)]);
    let numbered: Vec<(usize, &&str)> = (1..).zip(routes).collect();
    for (number, hash) in numbered.iter().rev() {
        book.write(
            &format!("route:r{number:02}"),
            &format!("service=a, {hash}"),
        );
    }
    assert_eq!(book.wrong(), Vec::<String>::new());
    let expected: Vec<String> = numbered.iter().map(|(n, _)| format!("r{n:02}")).collect();
    assert_eq!(book.routes(), expected);
}

#[test]
fn the_most_specific_route_comes_first() {
    in_order(&[
        "path_regex=/.*, priority=9",
        "path=/long/exact, host=h.example",
        "path=/long/exact, host=*.a.example",
        "path=/long/exact, host=*.example",
        "path=/long/exact, methods=GET, header.x=1, query.y=*",
        "path=/long/exact, methods=GET, header.x=1",
        "path=/long/exact, query.y=1",
        "path=/long/exact",
        "path=/x",
        "path_regex=/long/[a-z]+",
        "path_regex=/x.*",
        "path=/long/prefix/",
        "path=/x/",
        "host=h.example",
        "header.x=1",
        "path=/low, priority=-1",
    ]);
}

#[test]
fn the_id_decides_last() {
    in_order(&[
        "path=/a, host=longer.example",
        "path=/b, host=h.example",
        "path=/c, host=g.example",
    ]);
}

#[test]
fn positions_stand_by_kind_of_path() {
    let book = Book::loaded(&[
        ("endpoints:a", ONE),
        ("route:1", "service=a, path=/x"),
        ("route:2", "service=a, path=/x/"),
        ("route:3", "service=a"),
    ]);
    let table = book.config.table();
    assert_eq!(table.routes.exact["/x"], [0]);
    assert_eq!(table.routes.prefix["/x/"], [1]);
    assert_eq!(table.routes.other, [2]);
}

#[test]
fn routes_that_only_their_ids_order_are_ambiguous() {
    let book = Book::loaded(&[
        ("endpoints:a", ONE),
        ("endpoints:b", ONE),
        (
            "route:1",
            "service=a, path=/x, methods=GET,PUT, header.a=1, header.b=2",
        ),
        (
            "route:2",
            "service=b, path=/x, methods=PUT,GET, header.b=2, header.a=1",
        ),
        (
            "route:3",
            "service=a, path=/x, methods=GET, header.a=1, header.b=2",
        ),
        ("route:4", "service=a, path=/x/"),
        ("route:5", "service=a, path_regex=/x/"),
        ("route:6", "service=a, path=/x/, priority=1"),
        ("route:7", "service=a, path=/x/, enabled=off"),
        ("route:8", "service=a, path=/x/, version=base"),
    ]);
    let pairs = book.config.table().routes.ambiguous();
    let mut pairs: Vec<String> = pairs.iter().map(|(a, b)| format!("{a} {b}")).collect();
    pairs.sort();
    assert_eq!(pairs, ["1 2", "4 8"]);
}
