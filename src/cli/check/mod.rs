//! `check`: reads everything in Redis and prints a line per mistake, and per thing that is allowed
//! but seldom meant.

mod warnings;

use std::net::SocketAddr;
use std::process::ExitCode;

use serde::Serialize;

use crate::cli::{Error, random, redis_options};
use crate::control::alerter;
use crate::model::config::{Config, Extent, Reading, Sight};
use crate::model::decode::ConfigError;
use crate::model::keys::{Keys, Object, Parsed};
use crate::model::name::Name;
use crate::settings;
use crate::store;

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    services: usize,
    routes: usize,
    mistakes: Vec<Mistake>,
    /// What is no mistake and seldom meant.
    warnings: Vec<Mistake>,
}

/// What was read.
struct Seen {
    objects: Vec<store::Found>,
    /// Where live gateways accept more than their own machine.
    public: Vec<SocketAddr>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Mistake {
    key: String,
    field: Option<String>,
    message: String,
}

/// Prints the mistakes and a summary; the exit code says whether there was any.
pub(super) fn run(check: &settings::Check) -> Result<ExitCode, Error> {
    let options = redis_options(&check.redis, &format!("check-{}", std::process::id()));
    let seen = crate::cli::runtime()?
        .block_on(read(&options))
        .map_err(|cause| Error::Redis {
            place: options.shown(),
            cause,
        })?;
    if let Some(id) = &check.alert {
        return try_alert(&options, seen.objects, id);
    }
    let report = judge(&options.keys, seen, random());
    crate::cli::print(&if check.json {
        let json = serde_json::to_string_pretty(&report).expect("texts and numbers are JSON");
        format!("{json}\n")
    } else {
        lines(&report)
    })?;
    let vanished = crate::cli::vanished::warn(&options)?;
    Ok(if report.mistakes.is_empty() && !vanished {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn read(options: &store::Options) -> Result<Seen, store::Error> {
    let objects = store::read_all(options).await?;
    let view = store::View::connect(options)?;
    view.wait().await?;
    let (mut scan, mut keys) = (store::Scan::default(), Vec::new());
    loop {
        keys.extend(view.keys_like(&mut scan, "gateway:*").await?);
        if scan.is_at_start() {
            break;
        }
    }
    let gateways = view.hashes(&keys).await?;
    let addresses = gateways.iter().filter_map(|fields| fields.get("address"));
    let addresses = addresses.filter_map(|address| address.parse::<SocketAddr>().ok());
    Ok(Seen {
        objects,
        public: addresses
            .filter(|address| !address.ip().is_loopback())
            .collect(),
    })
}

/// Sends a test message and prints what came of it.
fn try_alert(
    options: &store::Options,
    found: Vec<store::Found>,
    id: &str,
) -> Result<ExitCode, Error> {
    let Some(id) = Name::parse(id) else {
        crate::cli::print("--alert wants the part of the key after alert:\n")?;
        return Ok(ExitCode::FAILURE);
    };
    let key = options.keys.object(&Object::Alert(id.clone()));
    let mut config = Config::new(options.keys.clone());
    let readings = found.into_iter().filter(|(at, _)| *at == key);
    let readings = readings.map(|(_, raw)| Reading {
        object: Object::Alert(id.clone()),
        raw,
        sight: Sight::Named,
    });
    drop(config.apply(readings.collect(), Extent::All, random()));
    let table = config.table();
    let Some(alert) = table.alerts.get(&id) else {
        let mistakes: String = config.errors().map(|it| Mistake::from(it).line()).collect();
        crate::cli::print(&if mistakes.is_empty() {
            format!("{key}: there is no such alert\n")
        } else {
            mistakes
        })?;
        return Ok(ExitCode::FAILURE);
    };
    let sent = alerter::try_out(&id, alert, &options.instance, settings::secret);
    let (line, code) = match crate::cli::runtime()?.block_on(sent) {
        Ok(answer) => (format!("took it: {answer}"), ExitCode::SUCCESS),
        Err(why) => (format!("did not take it: {why}"), ExitCode::FAILURE),
    };
    crate::cli::print(&format!("{key}: the receiver {}\n", line.trim_end()))?;
    Ok(code)
}

/// Takes everything as a gateway would that starts now.
fn judge(keys: &Keys, found: Seen, seed: u64) -> Report {
    let mut config = Config::new(keys.clone());
    let mut readings = Vec::with_capacity(found.objects.len());
    for (key, raw) in found.objects {
        match keys.parse(&key) {
            Parsed::Object(object) => readings.push(Reading {
                object,
                raw,
                sight: Sight::Named,
            }),
            // The book names it among its errors; there is no table to swap here.
            Parsed::BadName => drop(config.note_bad_name(&key)),
            Parsed::Other => {}
        }
    }
    // The errors are asked for as a whole below.
    drop(config.apply(readings, Extent::All, seed));
    let table = config.table();
    let ambiguous = table.routes.ambiguous();
    let mut mistakes: Vec<Mistake> = config
        .errors()
        .map(Mistake::from)
        .chain(ambiguous.iter().map(|pair| Mistake::ambiguous(keys, pair)))
        .collect();
    mistakes.sort();
    Report {
        services: table.services.len(),
        routes: table.routes.routes.len(),
        mistakes,
        warnings: warnings::find(keys, &table, found.public.first()),
    }
}

impl From<&ConfigError> for Mistake {
    fn from(error: &ConfigError) -> Self {
        Self {
            key: error.key.clone(),
            field: error.field.clone(),
            message: error.message.clone(),
        }
    }
}

impl Mistake {
    fn line(&self) -> String {
        let Self {
            key,
            field,
            message,
        } = self;
        let gap = if field.is_some() { " " } else { "" };
        let field = field.as_deref().unwrap_or_default();
        format!("{key}{gap}{field}: {message}\n")
    }

    fn ambiguous(keys: &Keys, (winner, loser): &(Name, Name)) -> Self {
        Self {
            key: keys.object(&Object::Route(loser.clone())),
            field: None,
            message: format!("takes the same requests as route {winner}, which always wins"),
        }
    }
}

fn lines(report: &Report) -> String {
    let summary = format!(
        "{}, {}, {}\n",
        counted(report.services, "service"),
        counted(report.routes, "route"),
        counted(report.mistakes.len(), "mistake")
    );
    let mistakes = report.mistakes.iter().map(Mistake::line);
    let warnings = report.warnings.iter().map(Mistake::line);
    let warnings = warnings.map(|line| format!("warning: {line}"));
    mistakes.chain(warnings).chain([summary]).collect()
}

fn counted(count: usize, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::decode::{Fields, Raw};

    fn found(hashes: &[(&str, &[(&str, &str)])]) -> Vec<store::Found> {
        let text = |text: &str| text.to_owned();
        let fields = |pairs: &[(&str, &str)]| -> Fields {
            pairs.iter().map(|(f, v)| (text(f), text(v))).collect()
        };
        hashes
            .iter()
            .map(|(key, pairs)| (format!("smartlink:{key}"), Raw::Hash(fields(pairs))))
            .collect()
    }

    fn check(hashes: &[(&str, &[(&str, &str)])]) -> String {
        check_behind(&[], hashes)
    }

    /// With gateways that listen there.
    fn check_behind(public: &[&str], hashes: &[(&str, &[(&str, &str)])]) -> String {
        let public = public.iter().map(|at| at.parse().expect("an address"));
        let seen = Seen {
            objects: found(hashes),
            public: public.collect(),
        };
        lines(&judge(&Keys::new("smartlink:"), seen, 7))
    }

    #[test]
    fn open_services_are_a_warning_where_others_than_this_machine_can_ask() {
        let endpoints: &[(&str, &str)] = &[("http://127.0.0.1:1/", "base")];
        let open = [("endpoints:a", endpoints), ("endpoints:b", endpoints)];
        assert_eq!(check(&open), "2 services, 0 routes, 0 mistakes\n");
        let text = check_behind(&["0.0.0.0:9001"], &open);
        assert!(
            text.starts_with("warning: smartlink:defaults auth: "),
            "{text}"
        );
        assert!(
            text.contains("0.0.0.0:9001 may ask a, b; want token"),
            "{text}"
        );
        assert!(text.ends_with("0 mistakes\n"), "{text}");
        let closed: &[(&str, &str)] = &[("auth", "token")];
        let half = [open[0], open[1], ("service:a", closed)];
        let text = check_behind(&["0.0.0.0:9001"], &half);
        assert!(text.contains("may ask b; want token"), "{text}");
        let all = [open[0], open[1], ("defaults", closed)];
        assert_eq!(
            check_behind(&["0.0.0.0:9001"], &all),
            "2 services, 0 routes, 0 mistakes\n"
        );
    }

    /// The lines of warnings, without the prefix.
    fn warnings(hashes: &[(&str, &[(&str, &str)])]) -> Vec<String> {
        let text = check(hashes);
        assert!(text.ends_with(" 0 mistakes\n"), "{text}");
        let lines = text.lines();
        lines
            .filter_map(|line| line.strip_prefix("warning: smartlink:"))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn a_token_that_names_no_service_is_a_warning() {
        let endpoints: &[(&str, &str)] = &[("http://127.0.0.1:1/", "base")];
        let key = |digit: &str| format!("token:{}", digit.repeat(64));
        let (a, b, c) = (key("a"), key("b"), key("c"));
        let all: &[(&str, &[(&str, &str)])] = &[
            ("endpoints:ner-en", endpoints),
            (&a, &[("name", "joe"), ("services", "ner-*, ner-en, *")]),
            (&b, &[("name", "ann"), ("services", "ner, ner-en")]),
            (&c, &[("name", "eve"), ("services", "ocr-*, ner-en, tts")]),
        ];
        assert_eq!(
            warnings(all),
            [
                "token:bbbbbbbb… services: no service is called ner; the token is of ann",
                "token:cccccccc… services: no service is called ocr-* and 1 more like it; \
                 the token is of eve",
            ]
        );
        assert!(warnings(&all[1..]).is_empty(), "nothing is served yet");
    }

    #[test]
    fn an_issuer_that_nobody_asks_is_a_warning() {
        let issuer: &[(&str, &str)] = &[
            ("issuer", "https://id.example.com/"),
            ("audience", "smartlink"),
            ("algorithms", "ES256"),
            ("jwks_url", "https://id.example.com/keys"),
        ];
        let endpoints: &[(&str, &str)] = &[("http://127.0.0.1:1/", "base")];
        let found = warnings(&[
            ("endpoints:a", endpoints),
            ("service:a", &[("auth", "token, jwt:used")]),
            ("defaults", &[("auth", "jwt:common")]),
            ("issuer:used", issuer),
            ("issuer:common", issuer),
            ("issuer:idle", issuer),
        ]);
        assert_eq!(
            found,
            ["issuer:idle: no auth names it; want jwt:idle in the auth of a service"]
        );
    }

    #[test]
    fn a_route_that_never_matches_is_a_warning() {
        for (first, second, never) in [
            ("priority=1", "path=/a", true),
            ("priority=0", "path=/a", false),
            ("priority=1 path=/a/", "path=/a/b/", true),
            ("priority=1 path=/a/", "path=/a/b", true),
            ("priority=1 path=/a/", "path=/a", false),
            ("priority=1 path=/a/b", "path=/a/", false),
            (
                "priority=1 path=/a/ methods=GET,PUT",
                "path=/a/ methods=GET",
                true,
            ),
            ("priority=1 path=/a/ methods=GET", "path=/a/", false),
            (
                "priority=1 header.x=*",
                "path=/a/ header.x=1 query.q=1",
                true,
            ),
            ("priority=1 header.x=1", "path=/a/ header.x=*", false),
            ("priority=1 query.q=1", "path=/a/ query.q=1", true),
            ("priority=1 host=*.example.com", "host=a.example.com", true),
            ("priority=1 host=*.example.com", "host=example.com", false),
            (
                "priority=1 host=*.example.com",
                "host=*.a.example.com",
                true,
            ),
        ] {
            let fields = |text: &'static str| -> Vec<(&'static str, &'static str)> {
                let pairs = text.split(' ').filter_map(|pair| pair.split_once('='));
                [("service", "a")].into_iter().chain(pairs).collect()
            };
            let found = warnings(&[
                ("endpoints:a", &[("http://127.0.0.1:1/", "base")]),
                ("route:first", &fields(first)),
                ("route:second", &fields(second)),
            ]);
            let wanted =
                "route:second: never matches: route first comes before it and takes all it would";
            let wanted: &[&str] = if never { &[wanted] } else { &[] };
            assert_eq!(found, wanted, "{first} | {second}");
        }
    }

    #[test]
    fn a_good_configuration_is_a_summary() {
        let text = check(&[
            ("endpoints:a", &[("http://127.0.0.1:1/", "base")]),
            ("route:r", &[("service", "a"), ("path", "/r/")]),
        ]);
        assert_eq!(text, "1 service, 1 route, 0 mistakes\n");
    }

    #[test]
    fn every_mistake_is_a_line_that_begins_with_its_place() {
        let text = check(&[
            ("endpoints:a", &[("http://127.0.0.1:1/", "base")]),
            ("weights:a", &[("base", "lots")]),
            ("service:a", &[("timeout", "soon"), ("retires", "3")]),
            ("route:r", &[("service", "a"), ("path", "/r/")]),
            ("route:s", &[("service", "a"), ("path", "/r/")]),
            ("route:no name", &[("service", "a")]),
        ]);
        for begin in [
            "smartlink:weights:a base: ",
            "smartlink:service:a timeout: ",
            "smartlink:service:a retires: ",
            "smartlink:route:s: takes the same requests as route r",
            "smartlink:route:no name",
        ] {
            assert!(
                text.lines().any(|line| line.starts_with(begin)),
                "{begin}\n{text}"
            );
        }
        assert!(text.ends_with(" 5 mistakes\n"), "{text}");
    }
}
