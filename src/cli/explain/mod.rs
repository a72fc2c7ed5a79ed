//! `explain`: what a gateway would do with a request, and why, from what stands in Redis and by the
//! functions that gateways serve requests with.

mod head;
mod report;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use super::write;
use super::{Error, random, redis_options};
use crate::model::config::{Config, Extent, Reading, Sight};
use crate::model::decode::{ConfigError, Fields};
use crate::model::keys::Parsed;
use crate::model::live::{Health, State};
use crate::model::name::ServiceName;
use crate::model::table::Table;
use crate::proxy::explain::{self, Asked};
use crate::settings;
use crate::store;
use report::Report;

/// Prints what would become of the request; exit 2 where it is none.
pub(super) fn run(verb: &settings::Explain) -> Result<ExitCode, Error> {
    let request = match head::parse(&verb.request, &verb.headers) {
        Ok(request) => request,
        Err(why) => {
            eprintln!("smartlink: {why}");
            return Ok(ExitCode::from(super::BAD_FLAGS));
        }
    };
    let options = redis_options(&verb.redis, &format!("explain-{}", std::process::id()));
    let read = super::runtime()?.block_on(store::read_all(&options));
    let found = read.map_err(|cause| write::failed(&options, cause))?;
    super::vanished::warn(&options)?;
    let (table, mistakes) = table(&options, found);
    let asked = Asked {
        entry: &verb.entry,
        parts: &request.parts,
        body: &request.body,
        client: verb.client_ip,
        now_ms: jiff::Timestamp::now().as_millisecond(),
    };
    let first = explain::explain(&table, &asked);
    let hashes = match first.service {
        Some(service) => measured(&options, &service.name)?,
        None => Measured::default(),
    };
    // With what is known of the endpoints another version may have to stand in.
    if let Some(service) = first.service {
        let endpoints = service
            .versions
            .iter()
            .flat_map(|version| &version.endpoints);
        for endpoint in endpoints {
            let state = hashes.state(&endpoint.spec.url);
            let health = Health { state, since_ms: 0 };
            // The table is this process's own: nobody else turns it.
            let _turned = endpoint.live.condition.turn(Health::default(), health);
        }
    }
    let explained = explain::explain(&table, &asked);
    let mut report = Report::of(&explained, &asked, &hashes);
    report.warn(&options.keys, &mistakes);
    super::print(&if verb.json {
        let json = serde_json::to_string_pretty(&report).expect("texts and numbers are JSON");
        format!("{json}\n")
    } else {
        report.lines()
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The table of a gateway that starts now, and what it would find wrong.
fn table(options: &store::Options, found: Vec<store::Found>) -> (Arc<Table>, Vec<ConfigError>) {
    let mut config = Config::new(options.keys.clone());
    let readings = found.into_iter().filter_map(|(key, raw)| {
        let Parsed::Object(object) = options.keys.parse(&key) else {
            return None;
        };
        Some(Reading {
            object,
            raw,
            sight: Sight::Named,
        })
    });
    drop(config.apply(readings.collect(), Extent::All, random()));
    (config.table(), config.errors().cloned().collect())
}

/// What gateways wrote of the endpoints of a service: URL to JSON.
#[derive(Debug, Default)]
struct Measured {
    health: Fields,
    live: Fields,
}

impl Measured {
    fn json(of: &Fields, url: &str) -> BTreeMap<String, serde_json::Value> {
        let text = of.get(url);
        text.and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    }

    /// The worst state that any gateway holds; up where nobody says.
    fn state(&self, url: &str) -> State {
        match Self::json(&self.health, url)
            .get("state")
            .and_then(|it| it.as_str())
        {
            Some("down") => State::Down,
            Some("ejected") => State::Ejected,
            _ => State::Up,
        }
    }
}

fn measured(options: &store::Options, name: &ServiceName) -> Result<Measured, Error> {
    let keys = [options.keys.health(name), options.keys.live_endpoints(name)];
    let read = super::runtime()?.block_on(async {
        let view = store::View::connect(options)?;
        view.wait().await?;
        view.hashes(&keys).await
    });
    let hashes = read.map_err(|cause| write::failed(options, cause))?;
    let mut hashes = hashes.into_iter();
    Ok(Measured {
        health: hashes.next().unwrap_or_default(),
        live: hashes.next().unwrap_or_default(),
    })
}
