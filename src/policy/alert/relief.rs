//! The line that relieves what is wrong: one command, ready to be pasted into a shell.

use crate::model::endpoint::{Duty, EndpointSpec};
use crate::model::keys::{Keys, Object};
use crate::model::name::Name;
use crate::model::shell::word;
use crate::model::table::Service;

/// Takes an endpoint out: it is drained, or, where nobody else serves its version, the traffic goes
/// to another version; where there is none either, requests wait for it to come back.
#[must_use]
pub fn endpoint(keys: &Keys, service: &Service, url: &str) -> String {
    let versions = service.versions.iter();
    let mut all =
        versions.flat_map(|version| version.endpoints.iter().map(move |it| (version, it)));
    let Some((version, bad)) = all.find(|(_, it)| &*it.spec.url == url) else {
        return String::new();
    };
    let serves = |spec: &EndpointSpec| matches!(spec.duty, Duty::Active | Duty::Backup);
    let mut others = version.endpoints.iter();
    if others.any(|it| &*it.spec.url != url && serves(&it.spec)) {
        let key = keys.object(&Object::Endpoints(service.name.clone()));
        return format!(
            "redis-cli HSET {} {} {}",
            word(&key),
            word(url),
            word(&drained(&bad.spec))
        );
    }
    version_away(keys, service, &version.name).unwrap_or_else(|| {
        let key = keys.object(&Object::Service(service.name.clone()));
        format!("redis-cli HSET {} hold 30s", word(&key))
    })
}

/// Gives the weight of a version to another: to `base`, or from `base` to the one that has most.
#[must_use]
pub fn version_away(keys: &Keys, service: &Service, version: &Name) -> Option<String> {
    let others = service.versions.iter();
    let others = others.filter(|it| it.name != *version && !it.endpoints.is_empty());
    let heir = others.max_by_key(|it| (it.name.is_base(), it.weight))?;
    let bad = service.versions.iter().find(|it| it.name == *version)?;
    let key = keys.object(&Object::Weights(service.name.clone()));
    let weight = (heir.weight + bad.weight).max(1);
    Some(format!(
        "redis-cli HSET {} {} {weight} {version} 0",
        word(&key),
        heir.name
    ))
}

/// What helps a version that fails or is slow: its traffic goes elsewhere, or the endpoint that
/// fails most is drained, or, where it has but one, less is asked of it.
#[must_use]
pub fn version(keys: &Keys, service: &Service, name: &Name, worst: Option<&str>) -> String {
    let settings = |line: &str| {
        let key = keys.object(&Object::Service(service.name.clone()));
        format!("redis-cli HSET {} {line}", word(&key))
    };
    let away = || version_away(keys, service, name);
    let candidate = (!name.is_base()).then(away).flatten();
    let drain = || worst.map(|url| endpoint(keys, service, url));
    candidate
        .or_else(drain)
        .or_else(away)
        .filter(|line| !line.is_empty())
        .unwrap_or_else(|| settings("retry_on connect,reset,502,503,504"))
}

/// Takes a mistake away: the field where one is wrong, else a look at the whole hash.
#[must_use]
pub fn mistake(place: &str) -> String {
    match place.split_once(' ') {
        Some((key, field)) => format!("redis-cli HDEL {} {}", word(key), word(field)),
        None => format!("redis-cli HGETALL {}", word(place)),
    }
}

/// What an endpoint's field says, with `drain`.
fn drained(spec: &EndpointSpec) -> String {
    let mut words = vec![spec.version.to_string()];
    if spec.weight != 1 {
        words.push(format!("weight={}", spec.weight));
    }
    words.push("drain".to_owned());
    if let Some(most) = spec.max_conns {
        words.push(format!("max_conns={most}"));
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::{Config, Extent, Reading, Sight};
    use crate::model::decode::Raw;
    use crate::model::keys::Parsed;

    fn relieved(
        hashes: &[(&str, &[(&str, &str)])],
        ask: impl Fn(&Keys, &Service) -> String,
    ) -> String {
        let keys = Keys::new("smartlink:");
        let mut config = Config::new(keys.clone());
        let readings = hashes.iter().map(|(key, fields)| {
            let Parsed::Object(object) = keys.parse(&format!("smartlink:{key}")) else {
                panic!("{key}")
            };
            let fields = fields.iter();
            let fields = fields.map(|(f, v)| ((*f).to_owned(), (*v).to_owned()));
            Reading {
                object,
                raw: Raw::Hash(fields.collect()),
                sight: Sight::Named,
            }
        });
        let applied = config.apply(readings.collect(), Extent::All, 7);
        let table = applied.table.expect("a table");
        ask(&keys, table.services.get("ner").expect("a service"))
    }

    #[test]
    fn an_endpoint_is_drained_where_others_serve() {
        let two = [
            ("http://a/", "base weight=3 max_conns=9"),
            ("http://b/", "base"),
        ];
        let line = relieved(&[("endpoints:ner", &two)], |keys, it| {
            endpoint(keys, it, "http://a/")
        });
        let wanted =
            "redis-cli HSET smartlink:endpoints:ner http://a/ 'base weight=3 drain max_conns=9'";
        assert_eq!(line, wanted);
    }

    #[test]
    fn the_last_of_a_version_gives_its_weight_away() {
        let hashes: [(&str, &[(&str, &str)]); 2] = [
            (
                "endpoints:ner",
                &[("http://a/", "base"), ("http://b/", "candidate")],
            ),
            ("weights:ner", &[("base", "90"), ("candidate", "10")]),
        ];
        let line = relieved(&hashes, |keys, it| endpoint(keys, it, "http://b/"));
        assert_eq!(
            line,
            "redis-cli HSET smartlink:weights:ner base 100 candidate 0"
        );
        let line = relieved(&hashes, |keys, it| endpoint(keys, it, "http://a/"));
        assert_eq!(
            line,
            "redis-cli HSET smartlink:weights:ner candidate 100 base 0"
        );
    }

    #[test]
    fn requests_wait_for_the_only_endpoint() {
        let line = relieved(
            &[("endpoints:ner", &[("http://a/", "base")])],
            |keys, it| endpoint(keys, it, "http://a/"),
        );
        assert_eq!(line, "redis-cli HSET smartlink:service:ner hold 30s");
    }

    #[test]
    fn a_mistake_is_taken_away() {
        for (place, wanted) in [
            (
                "smartlink:weights:a candidate",
                "redis-cli HDEL smartlink:weights:a candidate",
            ),
            (
                "smartlink:endpoints:a http://x y",
                "redis-cli HDEL smartlink:endpoints:a 'http://x y'",
            ),
            ("smartlink:route:a", "redis-cli HGETALL smartlink:route:a"),
            (
                "smartlink:route:it's",
                r"redis-cli HGETALL 'smartlink:route:it'\''s'",
            ),
        ] {
            assert_eq!(mistake(place), wanted);
        }
    }
}
