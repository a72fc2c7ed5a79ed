//! What verbs that write the configuration have in common: they judge first, as a gateway would, and
//! write where nothing has changed meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Error, random};
use crate::model::change::{self, Change};
use crate::model::config::{Config, Extent, Reading, Sight};
use crate::model::decode::{ConfigError, Fields, Raw};
use crate::model::keys::{Keys, Object};
use crate::model::name::Name;
use crate::settings;
use crate::store::{self, Changed, Store, Wish};

/// How often a write is tried anew that somebody else was faster than.
pub(super) const RACES_MAX: usize = 5;

/// Objects and what they say.
pub(super) type Objects = BTreeMap<Object, Fields>;

/// Connects, does the work, and names where Redis is if that fails.
pub(super) fn with_store<T>(
    options: &store::Options,
    work: impl AsyncFnOnce(&Store) -> Result<T, store::Error>,
) -> Result<T, Error> {
    let done = super::runtime()?.block_on(async {
        let (store, mut events) = Store::connect(options)?;
        store.wait(&mut events).await?;
        work(&store).await
    });
    done.map_err(|cause| failed(options, cause))
}

pub(super) fn failed(options: &store::Options, cause: store::Error) -> Error {
    Error::Redis {
        place: options.shown(),
        cause,
    }
}

/// What stands under these keys; an error where something there is no hash of texts.
pub(super) async fn read(
    store: &Store,
    objects: &[Object],
) -> Result<Result<Objects, String>, store::Error> {
    let keys: Vec<String> = objects.iter().map(|it| store.keys().object(it)).collect();
    let loaded = store.load(&keys, None).await?;
    let mut found = Objects::new();
    for (object, raw) in objects.iter().zip(loaded.raws) {
        match raw {
            // Nobody keeps a token decoded who reads this way.
            Raw::Absent | Raw::Token(_) => {}
            Raw::Hash(fields) => drop(found.insert(object.clone(), fields)),
            Raw::Unreadable(why) => {
                return Ok(Err(format!("{}: {why}", store.keys().shown(object))));
            }
        }
    }
    Ok(Ok(found))
}

/// What a gateway that starts now would find wrong with these objects, where all that stands is
/// `all`.
pub(super) fn mistakes(keys: &Keys, all: &Objects, of: &BTreeSet<Object>) -> Vec<ConfigError> {
    let mut config = Config::new(keys.clone());
    let readings = all.iter().map(|(object, fields)| Reading {
        object: object.clone(),
        raw: Raw::Hash(fields.clone()),
        sight: Sight::Named,
    });
    drop(config.apply(readings.collect(), Extent::All, random()));
    let shown: BTreeSet<String> = of.iter().map(|object| keys.shown(object)).collect();
    let errors = config.errors().filter(|error| shown.contains(&error.key));
    errors.cloned().collect()
}

/// What must be wished for so that what stands in `old` becomes `new`.
pub(super) fn wishes(old: &Objects, new: &Objects) -> Vec<Wish> {
    let none = Fields::new();
    let objects: BTreeSet<&Object> = old.keys().chain(new.keys()).collect();
    let wishes = objects.into_iter().map(|object| {
        let before = old.get(object).unwrap_or(&none);
        let after = new.get(object).unwrap_or(&none);
        Wish {
            object: object.clone(),
            fields: Some(before.len()),
            changes: change::difference(object, before, after),
        }
    });
    wishes.filter(|wish| !wish.changes.is_empty()).collect()
}

/// Writes all wishes or none, under the name of who runs this.
pub(super) async fn write(store: &Store, wishes: &[Wish]) -> Result<Changed, store::Error> {
    let who = settings::who();
    let name = format!("{who}-{:016x}", random());
    store.change(wishes, &name, &who).await
}

/// What stands there instead, in a sentence.
pub(super) fn other(keys: &Keys, key: &str, field: Option<&str>, stands: Option<&str>) -> String {
    let key = match keys.parse(key) {
        crate::model::keys::Parsed::Object(object) => keys.shown(&object),
        _ => key.to_owned(),
    };
    match (field, stands) {
        (Some(field), Some(text)) => format!("{key} {field}: {text:?} stands there"),
        (Some(field), None) => format!("{key} {field}: nothing stands there"),
        (None, stands) => {
            let count = stands.unwrap_or("no");
            format!("{key}: {count} fields stand there")
        }
    }
}

/// One change as people see it.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) key: String,
    pub(super) field: String,
    pub(super) old: Option<String>,
    pub(super) new: Option<String>,
}

impl Row {
    pub(super) fn of(keys: &Keys, change: &Change) -> Self {
        let shown = |text: &Option<String>| text.as_ref().map(|it| change.shown(it).to_owned());
        Self {
            key: keys.shown(&change.object),
            field: change.field.clone(),
            old: shown(&change.old),
            new: shown(&change.new),
        }
    }

    /// `+ key field "new"`, `- key field "old"`, or `~ key field "old" -> "new"`.
    pub(super) fn line(&self) -> String {
        let Self {
            key,
            field,
            old,
            new,
        } = self;
        match (old, new) {
            (Some(old), Some(new)) => format!("~ {key} {field}: {old:?} -> {new:?}\n"),
            (Some(old), None) => format!("- {key} {field}: {old:?}\n"),
            (None, Some(new)) => format!("+ {key} {field}: {new:?}\n"),
            (None, None) => String::new(),
        }
    }
}

/// Prints mistakes, one a line, to standard error.
pub(super) fn complain(mistakes: &[ConfigError]) {
    for mistake in mistakes {
        eprintln!("smartlink: {mistake}");
    }
}

/// The other objects beside which a gateway judges these, which say what `all` says.
pub(super) fn beside(of: &BTreeSet<Object>, all: &Objects) -> Vec<Object> {
    let mut beside = BTreeSet::from([Object::Defaults]);
    for object in of {
        let led_to = all.get(object).and_then(|fields| fields.get("service"));
        let led_to = led_to.and_then(|name| Name::parse(name.trim()));
        let led_to = led_to.filter(|_| matches!(object, Object::Route(_)));
        for name in service_of(object).into_iter().chain(led_to) {
            beside.extend(around(&name));
        }
    }
    beside.difference(of).cloned().collect()
}

/// The hashes of one service.
pub(super) fn around(name: &Name) -> [Object; 4] {
    [
        Object::Endpoints(name.clone()),
        Object::Weights(name.clone()),
        Object::Service(name.clone()),
        Object::Shadow(name.clone()),
    ]
}

/// The service that an object is about.
pub(super) fn service_of(object: &Object) -> Option<Name> {
    match object {
        Object::Endpoints(name)
        | Object::Weights(name)
        | Object::Service(name)
        | Object::Shadow(name)
        | Object::Rollout(name) => Some(name.clone()),
        _ => None,
    }
}
