//! `smartlink route`: typed help with the hashes of routes.

use serde_json::Value;

use crate::support::redis::Redis;
use crate::support::verb::{bad, good};

#[test]
fn a_route_is_written_whole_or_not_at_all() {
    let redis = Redis::start();
    redis.run("HSET smartlink:endpoints:a http://127.0.0.1:1/ base");
    assert_eq!(good(&redis, &["route", "list"]), "no routes\n");
    assert_eq!(
        good(&redis, &["route", "set", "r", "service=a", "path=/r/"]),
        "+ smartlink:route:r path: \"/r/\"\n+ smartlink:route:r service: \"a\"\n"
    );
    for (fields, part) in [
        (&["pth=/x/"][..], "did you mean path?"),
        (&["path_regex=/x"], "excludes path"),
        (&["service=nobody"], "smartlink:route:r service"),
        (&["version=v9"], "smartlink:route:r version"),
        (&["service="], "is missing and required"),
    ] {
        let told = bad(&redis, &[&["route", "set", "r"], fields].concat());
        assert!(told.contains(part), "{part}: {told}");
        assert_eq!(redis.hash("smartlink:route:r").len(), 2, "{fields:?}");
    }
    // Fields that are not named stay; an empty text takes one out.
    good(
        &redis,
        &[
            "route",
            "set",
            "r",
            "path=",
            "path_regex=/x(.*)",
            "rewrite=/y$1",
        ],
    );
    let route = redis.hash("smartlink:route:r");
    assert_eq!(
        route.keys().collect::<Vec<_>>(),
        ["path_regex", "rewrite", "service"]
    );
    good(
        &redis,
        &["route", "set", "q", "service=a", "path=/q", "priority=5"],
    );
    redis.run("HSET smartlink:route:lost service nobody");
    assert_eq!(
        good(&redis, &["route", "list"]),
        "q  path=/q priority=5 service=a\n\
         r  path_regex=/x(.*) rewrite=/y$1 service=a\n\
         lost  service=nobody  (takes nothing)\n"
    );
    let json: Value =
        serde_json::from_str(&good(&redis, &["route", "list", "--json"])).expect("JSON");
    assert_eq!(json[0]["id"], "q");
    assert_eq!(json[2]["in_force"], false);
    good(&redis, &["route", "delete", "r"]);
    assert!(redis.hash("smartlink:route:r").is_empty());
    assert!(bad(&redis, &["route", "delete", "r"]).contains("no such route"));
    // Each was a change that can be taken back.
    good(&redis, &["undo"]);
    assert_eq!(redis.hash("smartlink:route:r").len(), 3);
}
