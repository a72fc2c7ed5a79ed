//! `route`: typed help with the hashes under `smartlink:route:`.

use std::collections::BTreeSet;
use std::process::ExitCode;

use super::write::{self, Objects, Row};
use super::{Error, random, redis_options};
use crate::model::config::{Config, Extent, Reading, Sight};
use crate::model::decode::{Fields, Raw};
use crate::model::keys::{Object, Parsed};
use crate::model::name::Name;
use crate::settings::{self, RouteAction};
use crate::store::{self, Changed, Store};

/// A route as it is listed.
#[derive(Debug, serde::Serialize)]
struct Listed {
    id: String,
    fields: Fields,
    /// Whether it takes requests: it is right, on, and its service exists.
    in_force: bool,
}

/// Does what is asked about routes.
pub(super) fn run(verb: &settings::RouteVerb) -> Result<ExitCode, Error> {
    match &verb.action {
        RouteAction::List(verb) => list(verb),
        RouteAction::Set(verb) => change(&verb.redis, &verb.id, Some(&verb.fields)),
        RouteAction::Delete(verb) => change(&verb.redis, &verb.id, None),
    }
}

fn list(verb: &settings::ListRoutes) -> Result<ExitCode, Error> {
    let options = redis_options(&verb.redis, &instance());
    let read = super::runtime()?.block_on(store::read_all(&options));
    let found = read.map_err(|cause| write::failed(&options, cause))?;
    let mut config = Config::new(options.keys.clone());
    let mut rest = Vec::new();
    let readings = found.into_iter().filter_map(|(key, raw)| {
        let Parsed::Object(object) = options.keys.parse(&key) else {
            return None;
        };
        if let (Object::Route(id), Raw::Hash(fields)) = (&object, &raw) {
            rest.push((id.clone(), fields.clone()));
        }
        Some(Reading {
            object,
            raw,
            sight: Sight::Named,
        })
    });
    let readings = readings.collect();
    drop(config.apply(readings, Extent::All, random()));
    let table = config.table();
    let place = |id: &Name| table.routes.routes.iter().position(|route| route.id == *id);
    rest.sort_by_key(|(id, _)| (place(id).unwrap_or(usize::MAX), id.clone()));
    let listed = rest.into_iter().map(|(id, fields)| Listed {
        in_force: place(&id).is_some(),
        id: id.to_string(),
        fields,
    });
    let listed: Vec<Listed> = listed.collect();
    super::print(&if verb.json {
        let json = serde_json::to_string_pretty(&listed).expect("texts are JSON");
        format!("{json}\n")
    } else if listed.is_empty() {
        "no routes\n".to_owned()
    } else {
        listed.iter().map(Listed::line).collect()
    })?;
    Ok(ExitCode::SUCCESS)
}

impl Listed {
    fn line(&self) -> String {
        let pairs = self.fields.iter();
        let pairs: Vec<String> = pairs
            .map(|(field, text)| format!("{field}={text}"))
            .collect();
        let off = if self.in_force {
            ""
        } else {
            "  (takes nothing)"
        };
        format!("{}  {}{off}\n", self.id, pairs.join(" "))
    }
}

/// What came of it.
enum Outcome {
    Written(Vec<Row>),
    Refused(Vec<String>),
}

/// Writes fields, or takes the whole hash away.
fn change(
    redis: &settings::Redis,
    id: &Name,
    fields: Option<&Vec<(String, String)>>,
) -> Result<ExitCode, Error> {
    let options = redis_options(redis, &instance());
    let outcome = write::with_store(&options, async |store| attempt(store, id, fields).await)?;
    match outcome {
        Outcome::Written(rows) => {
            super::print(&rows.iter().map(Row::line).collect::<String>())?;
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Refused(mistakes) => {
            for mistake in mistakes {
                eprintln!("smartlink: {mistake}");
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

async fn attempt(
    store: &Store,
    id: &Name,
    fields: Option<&Vec<(String, String)>>,
) -> Result<Outcome, store::Error> {
    let object = Object::Route(id.clone());
    let key = store.keys().object(&object);
    let refused = |why: String| Ok(Outcome::Refused(vec![why]));
    for _ in 0..write::RACES_MAX {
        let old = match write::read(store, std::slice::from_ref(&object)).await? {
            Ok(found) => found,
            Err(why) => return refused(why),
        };
        let mut new = old.clone();
        match fields {
            Some(fields) => set(new.entry(object.clone()).or_default(), fields),
            None if old.is_empty() => return refused(format!("{key}: there is no such route")),
            None => new.clear(),
        }
        let mistakes = match mistakes(store, &object, &new).await? {
            Ok(mistakes) => mistakes,
            Err(why) => return refused(why),
        };
        if !mistakes.is_empty() {
            return Ok(Outcome::Refused(mistakes));
        }
        let wishes = write::wishes(&old, &new);
        let changes = wishes.iter().flat_map(|wish| &wish.changes);
        let rows = changes
            .map(|change| Row::of(store.keys(), change))
            .collect();
        if let Changed::All = write::write(store, &wishes).await? {
            return Ok(Outcome::Written(rows));
        }
    }
    refused(format!("{key}: somebody writes it all the time"))
}

fn set(hash: &mut Fields, fields: &[(String, String)]) {
    for (field, text) in fields {
        if text.is_empty() {
            hash.remove(field);
        } else {
            hash.insert(field.clone(), text.clone());
        }
    }
}

/// What a gateway would find wrong with the route, beside its service.
async fn mistakes(
    store: &Store,
    object: &Object,
    new: &Objects,
) -> Result<Result<Vec<String>, String>, store::Error> {
    let of = BTreeSet::from([object.clone()]);
    let beside = write::beside(&of, new);
    let mut all = match write::read(store, &beside).await? {
        Ok(all) => all,
        Err(why) => return Ok(Err(why)),
    };
    all.extend(new.clone());
    let found = write::mistakes(store.keys(), &all, &of);
    Ok(Ok(found.iter().map(ToString::to_string).collect()))
}

fn instance() -> String {
    format!("route-{}", std::process::id())
}
