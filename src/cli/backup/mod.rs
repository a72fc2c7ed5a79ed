//! `export`, `import` and `diff`: the whole configuration as one file.

mod file;
mod tree;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;

use super::write::{self, Objects, Row};
use super::{Error, redis_options};
use crate::model::decode::{ConfigError, Raw};
use crate::model::keys::{Keys, Object, Parsed};
use crate::settings::{self, FileForm};
use crate::store::{self, Changed, Wish};

/// The exit code where nothing could be compared.
const TROUBLE: u8 = 2;

/// Prints everything that stands; exit 1 where something could not be read as configuration, and
/// where gateways serve more than that.
pub(super) fn export(verb: &settings::Backup) -> Result<ExitCode, Error> {
    let options = redis_options(&verb.redis, &format!("export-{}", std::process::id()));
    let (objects, odd) = read(&options)?;
    for it in &odd {
        let Odd { key, why, .. } = it;
        eprintln!("smartlink: left out: {key} {why}");
    }
    super::print(&file::write(&options.keys, &objects, verb.format))?;
    let vanished = super::vanished::warn(&options)?;
    Ok(if odd.is_empty() && !vanished {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints what differs; exit 1 where anything does, 2 where that could not be found out, as diff(1)
/// has it.
pub(super) fn diff(verb: &settings::Diff) -> Result<ExitCode, Error> {
    compare(verb).or_else(|error| {
        eprintln!("smartlink: {}", super::chain(&error));
        Ok(ExitCode::from(TROUBLE))
    })
}

fn compare(verb: &settings::Diff) -> Result<ExitCode, Error> {
    let options = redis_options(&verb.redis, &format!("diff-{}", std::process::id()));
    let Some(wanted) = open(&verb.file, &options.keys)? else {
        return Ok(ExitCode::from(TROUBLE));
    };
    let (standing, _) = read(&options)?;
    let lines = lines(&options.keys, &write::wishes(&standing, &wanted));
    super::print(&lines)?;
    Ok(if lines.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Writes what the file says, all of it or nothing; exit 1 where nothing was written.
pub(super) fn import(verb: &settings::Import) -> Result<ExitCode, Error> {
    let options = redis_options(&verb.redis, &format!("import-{}", std::process::id()));
    let Some(wanted) = open(&verb.file, &options.keys)? else {
        return Ok(ExitCode::from(super::BAD_FLAGS));
    };
    let (standing, odd) = read(&options)?;
    let mut odd = odd.iter().filter_map(|it| it.object.as_ref());
    if let Some(object) = odd.find(|object| wanted.contains_key(*object)) {
        let key = options.keys.shown(object);
        eprintln!("smartlink: {key}: what stands there is no hash of texts: delete it first");
        return Ok(ExitCode::FAILURE);
    }
    let mut new = if verb.prune {
        Objects::new()
    } else {
        standing.clone()
    };
    new.extend(wanted);
    let wishes = write::wishes(&standing, &new);
    let mistakes = mistakes(&options.keys, &standing, &new, &wishes);
    if !mistakes.is_empty() {
        write::complain(&mistakes);
        eprintln!("smartlink: nothing is written");
        return Ok(ExitCode::FAILURE);
    }
    super::print(&lines(&options.keys, &wishes))?;
    if verb.dry_run || wishes.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let done = write::with_store(&options, async |store| write::write(store, &wishes).await)?;
    Ok(match done {
        Changed::All => ExitCode::SUCCESS,
        Changed::Nothing { key, field, stands } => {
            let other = write::other(&options.keys, &key, field.as_deref(), stands.as_deref());
            eprintln!("smartlink: {other}: somebody was faster, nothing is written");
            ExitCode::FAILURE
        }
    })
}

/// What is wrong with what changes, and what becomes wrong elsewhere by it.
fn mistakes(keys: &Keys, standing: &Objects, new: &Objects, wishes: &[Wish]) -> Vec<ConfigError> {
    let changed: BTreeSet<String> = wishes.iter().map(|it| keys.shown(&it.object)).collect();
    let of = |objects: &Objects| -> BTreeSet<Object> { objects.keys().cloned().collect() };
    let before = write::mistakes(keys, standing, &of(standing));
    let after = write::mistakes(keys, new, &of(new));
    let is_ours = |error: &ConfigError| changed.contains(&error.key) || !before.contains(error);
    after.into_iter().filter(is_ours).collect()
}

fn lines(keys: &Keys, wishes: &[Wish]) -> String {
    let changes = wishes.iter().flat_map(|wish| &wish.changes);
    changes.map(|change| Row::of(keys, change).line()).collect()
}

/// What stands and is no configuration.
struct Odd {
    key: String,
    /// What should stand there; `None` where no gateway looks.
    object: Option<Object>,
    why: String,
}

/// Everything that stands, and what of it is no configuration.
fn read(options: &store::Options) -> Result<(Objects, Vec<Odd>), Error> {
    let read = super::runtime()?.block_on(store::read_all(options));
    let found = read.map_err(|cause| write::failed(options, cause))?;
    let (mut objects, mut odd) = (Objects::new(), Vec::new());
    for (key, raw) in found {
        match (options.keys.parse(&key), raw) {
            (Parsed::Object(object), _) if !object.is_by_people() => {}
            (Parsed::Object(object), Raw::Hash(fields)) => drop(objects.insert(object, fields)),
            (Parsed::Object(object), Raw::Unreadable(why)) => {
                odd.push(Odd {
                    key: options.keys.shown(&object),
                    object: Some(object),
                    why,
                });
            }
            (Parsed::BadName, _) => odd.push(Odd {
                key,
                object: None,
                why: "is no key of ours".to_owned(),
            }),
            _ => {}
        }
    }
    Ok((objects, odd))
}

/// What a file says; `None` where it is none, which was said.
fn open(path: &Path, keys: &Keys) -> Result<Option<Objects>, Error> {
    let read = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let text = read.map_err(|cause| Error::Read {
        path: path.display().to_string(),
        cause,
    })?;
    let form = if text.trim_start().starts_with('{') {
        FileForm::Json
    } else {
        FileForm::Toml
    };
    match file::read(keys, &text, form) {
        Ok(objects) => Ok(Some(objects)),
        Err(why) => {
            for line in why {
                eprintln!("smartlink: {}: {line}", path.display());
            }
            Ok(None)
        }
    }
}
