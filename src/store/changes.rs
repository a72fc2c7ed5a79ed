//! Changing configuration hashes, and the history of what changed: `lua/change_objects.lua`,
//! `lua/record_changes.lua`; and waiting for gateways to serve it: `lua/await_all.lua`.

use std::collections::HashMap;

use fred::interfaces::{ClientLike, HashesInterface, StreamsInterface};
use fred::types::{ClusterHash, CustomCommand, Value};

use super::{Error, Store};
use crate::model::change::Change;
use crate::model::config::History;
use crate::model::decode::Fields;
use crate::model::keys::{Keys, Object};

/// The most entries of the history; one is one field of one change.
pub const HISTORY_MAX: u32 = 10_000;
/// For how long is known what was recorded last: a gateway that was cut off from Redis for longer
/// may record again what others did.
const RECORDED_LIFE_MS: u64 = 86_400_000;
/// The most texts that one script call takes along.
const TEXTS_MAX: usize = 500_000;

/// A wish to change fields of one hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The hash.
    pub object: Object,
    /// How many fields must stand, where that matters.
    pub fields: Option<usize>,
    /// The fields: each must stand as the change says, or nothing is written.
    pub changes: Vec<Change>,
}

/// What came of wishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// All is written.
    All,
    /// Nothing is: something else stands there.
    Nothing {
        /// The key.
        key: String,
        /// The field; `None` where there are more or fewer fields.
        field: Option<String>,
        /// What stands there.
        stands: Option<String>,
    },
}

/// What a gateway saw change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The name of this change, another one for each.
    pub name: String,
    /// The gateway.
    pub gateway: String,
    /// Its revision since then.
    pub revision: u64,
    /// The changes.
    pub history: History,
}

/// One entry of the history, as it stands: field and text.
pub type HistoryEntry = Fields;

impl Store {
    /// Writes all wishes or none. `name` is another one for each call; `who` stands in the history.
    pub async fn change(&self, wishes: &[Wish], name: &str, who: &str) -> Result<Changed, Error> {
        const STEP: &str = "write the configuration";
        let client = self.here()?;
        let mut keys = vec![self.keys.history()];
        let mut args = first_args(name);
        args.push(who.to_owned());
        for wish in wishes {
            keys.extend(self.keys_of(&wish.object));
            args.push(self.keys.shown(&wish.object));
            args.push(wish.fields.map(|n| n.to_string()).unwrap_or_default());
            push_fields(&mut args, &wish.changes);
        }
        if args.len() > TEXTS_MAX {
            return Err(Error::TooMuch(args.len() / 6, TEXTS_MAX / 6));
        }
        let answer: Value = self
            .scripts
            .change_objects
            .evalsha_with_reload(client, keys, args)
            .await
            .map_err(Error::step(STEP))?;
        changed(answer).ok_or(Error::Answer(STEP))
    }

    /// Records what this gateway saw change, where nobody did.
    pub async fn record(&self, report: &Report) -> Result<(), Error> {
        const STEP: &str = "record what changed";
        let client = self.here()?;
        let mut keys = vec![self.keys.history()];
        let mut args = first_args(&report.name);
        args.extend([report.gateway.clone(), report.revision.to_string()]);
        args.push(if report.history.more { "more" } else { "" }.to_owned());
        for changes in report.history.changes.chunk_by(|a, b| a.object == b.object) {
            let Some(first) = changes.first() else {
                continue;
            };
            keys.extend(self.keys_of(&first.object));
            args.push(self.keys.shown(&first.object));
            push_fields(&mut args, changes);
        }
        let answer: Value = self
            .scripts
            .record_changes
            .evalsha_with_reload(client, keys, args)
            .await
            .map_err(Error::step(STEP))?;
        answer.as_u64().map(drop).ok_or(Error::Answer(STEP))
    }

    /// The newest entries of the history, the newest first.
    pub async fn history(&self, most: u64) -> Result<Vec<HistoryEntry>, Error> {
        type Entries = Vec<(String, HashMap<String, String>)>;
        let client = self.here()?;
        let entries: Entries = client
            .xrevrange_values(self.keys.history(), "+", "-", Some(most))
            .await
            .map_err(Error::step("read the history"))?;
        let fields = entries.into_iter().map(|(_, it)| Fields::from_iter(it));
        Ok(fields.collect())
    }

    /// Asks every gateway to put in force what stands now: the moment of Redis's clock that `read_ms`
    /// of their hashes has reached then.
    pub async fn await_all(&self) -> Result<u64, Error> {
        const STEP: &str = "ask gateways what they serve";
        /// So long somebody may be in want of it; gateways that come later have read everything.
        const LIFE_S: u32 = 60;
        let client = self.here()?;
        let answer: Value = self
            .scripts
            .await_all
            .evalsha_with_reload(client, vec![self.keys.awaited()], vec![LIFE_S.to_string()])
            .await
            .map_err(Error::step(STEP))?;
        let moment = answer.as_string().and_then(|text| text.parse().ok());
        moment.ok_or(Error::Answer(STEP))
    }

    /// The hashes of the gateways that gave a life sign within the last ten seconds, by their names.
    pub async fn gateways(&self) -> Result<Vec<(String, Fields)>, Error> {
        const STEP: &str = "read which gateways live";
        let client = self.here()?;
        let all = CustomCommand::new_static("ZRANGE", ClusterHash::FirstKey, false);
        let args = vec![self.keys.fleet(), "0".to_owned(), "-1".to_owned()];
        let keys: Vec<String> = client.custom(all, args).await.map_err(Error::step(STEP))?;
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            let fields: HashMap<String, String> =
                client.hgetall(&key).await.map_err(Error::step(STEP))?;
            let name = self.keys.parse_gateway(&key).unwrap_or(&key).to_owned();
            // One whose hash is gone left, or is dead.
            if !fields.is_empty() {
                found.push((name, Fields::from_iter(fields)));
            }
        }
        Ok(found)
    }

    fn keys_of(&self, object: &Object) -> [String; 2] {
        let keys: &Keys = &self.keys;
        [keys.object(object), keys.recorded(object)]
    }
}

fn first_args(name: &str) -> Vec<String> {
    vec![
        HISTORY_MAX.to_string(),
        RECORDED_LIFE_MS.to_string(),
        name.to_owned(),
    ]
}

fn push_fields(args: &mut Vec<String>, changes: &[Change]) {
    args.push(changes.len().to_string());
    for change in changes {
        let secret = if change.is_secret() { "secret" } else { "" };
        args.extend([change.field.clone(), secret.to_owned()]);
        let texts = [change.old.as_deref(), change.new.as_deref()];
        args.extend(texts.map(form));
        args.extend(texts.map(|text| form(text.map(|text| change.shown(text)))));
    }
}

fn form(text: Option<&str>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| format!("={text}"))
}

/// The answer of `change_objects.lua`.
fn changed(answer: Value) -> Option<Changed> {
    let Value::Array(parts) = answer else {
        return None;
    };
    if let [one] = parts.as_slice() {
        return (one.as_u64()? == 1).then_some(Changed::All);
    }
    let [_, key, field, stands] = <[Value; 4]>::try_from(parts).ok()?;
    Some(Changed::Nothing {
        key: key.as_string()?,
        field: field.as_string().filter(|field| !field.is_empty()),
        stands: stands.as_string()?.strip_prefix('=').map(str::to_owned),
    })
}
