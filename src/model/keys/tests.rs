//! Keys are built and parsed as the contract names them.

use super::*;

#[test]
fn every_object_key_parses_back() {
    let keys = Keys::new("smartlink:");
    let name = || Name::parse("ner-v2").expect("valid");
    let objects = [
        Object::Defaults,
        Object::Endpoints(name()),
        Object::Weights(name()),
        Object::Service(name()),
        Object::Route(name()),
        Object::Token("ab".repeat(32).into()),
        Object::Issuer(name()),
        Object::Shadow(name()),
        Object::Rollout(name()),
        Object::Pilot(name()),
        Object::Alert(name()),
    ];
    for object in objects {
        assert_eq!(keys.parse(&keys.object(&object)), Parsed::Object(object));
    }
}

#[test]
fn keys_that_gateways_write_are_named_as_the_contract_says() {
    let keys = Keys::new("smartlink:");
    let name = |text: &str| Name::parse(text).expect("valid");
    let (service, base) = (name("ner"), name("base"));
    for (key, expected) in [
        (keys.stats(&service, Some(&base)), "stats:ner:base"),
        (keys.stats(&service, None), "stats:ner"),
        (
            keys.stats_window(&service, Some(&base), 10),
            "stats:ner:base:10",
        ),
        (keys.stats_window(&service, None, 10), "stats:ner::10"),
        (keys.hist(&service, &base, 7), "hist:ner:base:7"),
        (keys.live(&service), "live:ner"),
        (keys.live_endpoints(&service), "live:ner:endpoints"),
        (keys.trial(&service, &name("v2")), "trial:ner:v2"),
        (keys.pilot(&service), "pilot:ner"),
        (keys.pilot_lease(&service), "internal:pilot:ner"),
        (keys.audit(&service), "audit:ner"),
        (keys.errors(), "errors"),
        (keys.events(), "events"),
        (keys.history(), "history"),
        (keys.gateway("g"), "gateway:g"),
        (keys.health(&service), "health:ner"),
        (keys.shadow_stream(&service), "shadow-stream:ner"),
        (keys.shadow_counts(&service), "shadow-counts:ner"),
        (
            keys.shadow_results(&service, &base),
            "shadow-results:ner:base",
        ),
        (
            keys.shadow_offsets(&service, &base),
            "shadow-offsets:ner:base",
        ),
        (keys.shadow_diffs(&service, &base), "shadow-diffs:ner:base"),
        (keys.shadow_dead(&service), "shadow-dead:ner"),
        (keys.labels(&service), "labels:ner"),
        (keys.label(&service, "1"), "label:ner:1"),
    ] {
        assert_eq!(key, format!("smartlink:{expected}"));
        // Nor is any of them taken for a slip of the pen; what the pilot writes is read, too.
        if !key.starts_with("smartlink:pilot:") {
            assert_eq!(keys.parse(&key), Parsed::Other, "{key}");
        }
    }
}

#[test]
fn who_looks_on_learns_names_from_keys() {
    let keys = Keys::new("{a}:");
    let service = |key: &str| keys.parse_service(key).map(|name| name.to_string());
    for key in ["{a}:endpoints:s.1", "{a}:health:s.1", "{a}:live:s.1"] {
        assert_eq!(service(key).as_deref(), Some("s.1"), "{key}");
    }
    for key in ["{a}:live:s:endpoints", "{a}:stats:s", "live:s", "{a}:live:"] {
        assert_eq!(service(key), None, "{key}");
    }
    assert_eq!(keys.parse_gateway("{a}:gateway:g:1"), Some("g:1"));
    assert_eq!(keys.parse_gateway("gateway:g"), None);
}

#[test]
fn other_keys_are_not_configuration() {
    let keys = Keys::new("{a}:");
    for other in [
        "smartlink:defaults",
        "{a}:stats:x",
        "{a}:events",
        "{a}:shadow-stream:x",
        "{a}:labels:x",
        "{a}:label:x:1",
        "{a}:internal:pilot:x",
        "{a}:mine:x",
        "{a}:models",
        "{a}:",
        "",
    ] {
        assert_eq!(keys.parse(other), Parsed::Other, "{other}");
    }
    for bad in [
        "{a}:route:",
        "{a}:route:a b",
        "{a}:token:xyz",
        "{a}:endpoints:-x",
        "{a}:endpoint:x",
        "{a}:Weights:x",
        "{a}:wieghts:x",
        "{a}:services:x",
        "{a}:default",
        "{a}:weights",
        "{a}:default:x",
    ] {
        assert_eq!(keys.parse(bad), Parsed::BadName, "{bad}");
    }
    assert!(keys.has_hash_tag());
    assert!(!Keys::new("smartlink:").has_hash_tag());
    assert!(!Keys::new("{}a:").has_hash_tag());
}
