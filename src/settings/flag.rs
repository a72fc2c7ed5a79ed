//! The forms that the texts of flags and variables have: one parser for each.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::worker::{Begin, RateOrOff};
use super::{OrOff, Secret, Standing};
use crate::model::endpoint::Target;
use crate::model::name::{Name, VersionName};
use crate::model::{shadow, value};
use crate::telemetry;
use crate::top::trouble::Sort;

pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_ignored| "want ADDRESS:PORT, such as 0.0.0.0:9001 or [::]:9001".to_owned())
}

pub(super) fn address_or_off(text: &str) -> Result<OrOff<SocketAddr>, String> {
    match text {
        "off" => Ok(OrOff::Off),
        text => address(text).map(OrOff::On),
    }
}

pub(super) fn file_or_off(text: &str) -> Result<OrOff<PathBuf>, String> {
    match text {
        "" => Err("want a file, or off".to_owned()),
        "off" => Ok(OrOff::Off),
        text => Ok(OrOff::On(text.into())),
    }
}

pub(super) fn collector_or_off(text: &str) -> Result<OrOff<Target>, String> {
    match text {
        "off" => Ok(OrOff::Off),
        text => value::url(text)
            .map(OrOff::On)
            .map_err(|wanted| want(&wanted)),
    }
}

pub(super) fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok();
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "want a number from 0 to 1, such as 0.01".to_owned())
}

pub(super) fn redis_url(text: &str) -> Result<Secret, String> {
    const SCHEMES: [&str; 11] = [
        "redis",
        "rediss",
        "valkey",
        "valkeys",
        "redis-sentinel",
        "rediss-sentinel",
        "redis-cluster",
        "rediss-cluster",
        "redis+unix",
        "valkey+unix",
        "unix",
    ];
    match text.split_once("://") {
        Some((scheme, rest)) if SCHEMES.contains(&scheme) && !rest.is_empty() => {
            Ok(Secret(text.to_owned()))
        }
        _ => Err("want a URL such as redis://127.0.0.1:6379/0".to_owned()),
    }
}

/// Brokers of Kafka, as their client wants them.
pub(super) fn brokers(text: &str) -> Result<String, String> {
    if !cfg!(feature = "kafka") {
        return Err("want nothing: this program was built without Kafka".to_owned());
    }
    let fine = |broker: &str| {
        let parts = broker.rsplit_once(':');
        parts.is_some_and(|(host, port)| {
            let host_fine = host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b".-_[]:".contains(&b));
            !host.is_empty() && host_fine && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
    };
    let brokers: Vec<&str> = text.split(',').map(str::trim).collect();
    brokers
        .iter()
        .all(|broker| fine(broker))
        .then(|| brokers.join(","))
        .ok_or_else(|| {
            "want HOST:PORT, commas between, such as kafka-1:9092,kafka-2:9092".to_owned()
        })
}

pub(super) fn prefix(text: &str) -> Result<String, String> {
    let fine = text.len() > 1 && text.ends_with(':') && text.bytes().all(|b| b.is_ascii_graphic());
    fine.then(|| text.to_owned())
        .ok_or_else(|| "want a word that ends in a colon, such as smartlink:".to_owned())
}

pub(super) fn instance(text: &str) -> Result<String, String> {
    value::name(text)
        .map(|name| name.to_string())
        .map_err(|wanted| want(&wanted))
}

/// The path of the named entry, with its closing slash.
pub(super) fn entry(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&b);
    let dots = |segment: &str| matches!(segment, "." | "..");
    let fine = text.starts_with('/')
        && text.bytes().all(plain)
        && !text.contains("//")
        && !text.split('/').any(dots);
    if !fine {
        return Err("want a path such as /ai_server/, without query or escapes".to_owned());
    }
    let closing = if text.ends_with('/') { "" } else { "/" };
    Ok(format!("{text}{closing}"))
}

pub(super) fn network(text: &str) -> Result<IpNet, String> {
    value::network(text.trim()).map_err(|wanted| want(&wanted))
}

pub(super) fn log_filter(text: &str) -> Result<String, String> {
    telemetry::parse_filter(text)
        .map(|_filter| text.to_owned())
        .map_err(|error| error.to_string())
}

/// Parsers of the model say what they want as the end of a sentence.
fn want(wanted: &str) -> String {
    format!("want {wanted}")
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    value::nonzero_duration(text).map_err(|wanted| want(&wanted))
}

pub(super) fn whole_seconds(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.subsec_nanos() == 0 {
        Ok(duration)
    } else {
        Err("want whole seconds, such as 10s".to_owned())
    }
}

pub(super) fn size(text: &str) -> Result<u64, String> {
    value::nonzero_size(text).map_err(|wanted| want(&wanted))
}

/// A size that a request head may have.
pub(super) fn head_size(text: &str) -> Result<usize, String> {
    let size = usize::try_from(size(text)?).ok();
    size.filter(|size| (1 << 10..=1 << 20).contains(size))
        .ok_or_else(|| "want a size from 1KiB to 1MiB".to_owned())
}

pub(super) fn sort(text: &str) -> Result<Sort, String> {
    Sort::parse(text).ok_or_else(|| {
        let words = Sort::ALL.map(Sort::word).join(", ");
        format!("want one of {words}")
    })
}

pub(super) fn name(text: &str) -> Result<Name, String> {
    value::name(text).map_err(|wanted| want(&wanted))
}

/// A field and its text, as an argument gives them.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let (field, value) = text
        .split_once('=')
        .filter(|(field, _)| !field.is_empty())
        .ok_or("want a name, = and what it is to be, such as base=90")?;
    Ok((field.to_owned(), value.to_owned()))
}

/// Such pairs with commas between, or the word none.
pub(super) fn standing(text: &str) -> Result<Standing, String> {
    if text == "none" {
        return Ok(Standing(Vec::new()));
    }
    let pairs = text.split(',').map(|part| pair(part.trim()));
    let pairs: Vec<_> = pairs.collect::<Result<_, _>>()?;
    each_once(&pairs)?;
    Ok(Standing(pairs))
}

/// Refuses a name that stands twice: of two texts for it one would be dropped in silence.
pub(super) fn each_once(pairs: &[(String, String)]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    match pairs.iter().find(|(name, _)| !seen.insert(name)) {
        Some((name, _)) => Err(format!("{name}: named twice, want each name once")),
        None => Ok(()),
    }
}

pub(super) fn candidate(text: &str) -> Result<VersionName, String> {
    shadow::candidate(text.trim()).map_err(|wanted| want(&wanted))
}

/// A field of a hash and its value.
pub(super) fn field(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(field, _)| !field.is_empty());
    let (field, value) = parts.ok_or("want FIELD=VALUE")?;
    Ok((field.trim().to_owned(), value.trim().to_owned()))
}

pub(super) fn start(text: &str) -> Result<Begin, String> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    match text {
        "new" => Ok(Begin::New),
        "oldest" => Ok(Begin::Oldest),
        id if id.split('-').all(digits) && id.split('-').count() <= 2 => {
            Ok(Begin::Entry(id.to_owned()))
        }
        _ => Err("want new, oldest, or the id of an entry such as 1700000000000-0".to_owned()),
    }
}

pub(super) fn rate_or_off(text: &str) -> Result<RateOrOff, String> {
    let rate = value::limit(value::rate)(text).map_err(|wanted| want(&wanted))?;
    Ok(RateOrOff(rate.at()))
}

#[cfg(all(test, feature = "kafka"))]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_hosts_with_ports() {
        for (text, wanted) in [
            ("kafka:9092", Some("kafka:9092")),
            ("a.b:1, [::1]:65535", Some("a.b:1,[::1]:65535")),
            ("kafka", None),
            (":9092", None),
            ("kafka:0", None),
            ("kafka:9092,", None),
            ("kafka://kafka:9092", None),
            ("", None),
        ] {
            assert_eq!(brokers(text).ok().as_deref(), wanted, "{text}");
        }
    }
}
