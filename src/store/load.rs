//! Reading configuration objects: `lua/load_objects.lua`.

use fred::types::Value;

use super::{Error, Events, Options, Scan, Store};
use crate::model::decode::{FIELDS_MAX, Fields, Raw};

/// The most bytes of one field or value.
const VALUE_MAX: usize = 64 * 1024;
/// The most bytes of one hash: as much as 10,000 endpoints with long URLs need.
const HASH_MAX: usize = 8 * 1024 * 1024;
/// Keys in one script call: a few milliseconds of Redis's time.
pub const CHUNK: usize = 200;

/// What one reading found.
#[derive(Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What stands under each key, in the order asked.
    pub raws: Vec<Raw>,
    /// Whether the ring was sent: `Event::Ring` follows.
    pub rung: bool,
}

/// A key and what stands there.
pub type Found = (String, Raw);

impl Store {
    /// Reads all `keys` at one moment, and rings `ring` afterwards.
    pub async fn load(&self, keys: &[String], ring: Option<u64>) -> Result<Loaded, Error> {
        const STEP: &str = "read the configuration";
        let client = self.here()?;
        let args = vec![
            FIELDS_MAX.to_string(),
            VALUE_MAX.to_string(),
            HASH_MAX.to_string(),
            self.channel(),
            ring.map(|ring| ring.to_string()).unwrap_or_default(),
        ];
        let answer: Value = self
            .scripts
            .load_objects
            .evalsha_with_reload(client, keys.to_vec(), args)
            .await
            .map_err(Error::step(STEP))?;
        decode(answer)
            .filter(|loaded| loaded.raws.len() == keys.len())
            .ok_or(Error::Answer(STEP))
    }
}

/// Reads every configuration key once, for one-shot use; names that break the form included.
///
/// Waits a few seconds at most for Redis to be there.
pub async fn read_all(options: &Options) -> Result<Vec<Found>, Error> {
    let (store, mut events) = Store::connect(options)?;
    let found = tokio::time::timeout(READ_ALL_TIMEOUT, store.read_all(&mut events))
        .await
        .unwrap_or(Err(Error::Away));
    drop(events);
    found
}

const READ_ALL_TIMEOUT: std::time::Duration = std::time::Duration::from_mins(1);

impl Store {
    /// Waits until commands can be sent; the reason of the last failure after some seconds.
    pub async fn wait(&self, events: &mut Events) -> Result<(), Error> {
        let mut why = None;
        let there = async {
            while !self.is_connected() {
                match events.next().await {
                    Some(super::Event::Lost(text)) => why = Some(text),
                    Some(_) => {}
                    None => break,
                }
            }
        };
        let timed_out = tokio::time::timeout(3 * super::COMMAND_TIMEOUT, there)
            .await
            .is_err();
        match why {
            Some(why) if timed_out => Err(Error::Unreachable(why)),
            _ if timed_out => Err(Error::Away),
            _ => Ok(()),
        }
    }

    async fn read_all(&self, events: &mut Events) -> Result<Vec<Found>, Error> {
        self.wait(events).await?;
        let mut scan = Scan::default();
        let mut keys = Vec::new();
        while {
            keys.extend(self.scan(&mut scan).await?);
            !scan.is_at_start()
        } {}
        keys.sort_unstable();
        keys.dedup();
        let mut found = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(CHUNK) {
            let loaded = self.load(chunk, None).await?;
            found.extend(chunk.iter().cloned().zip(loaded.raws));
        }
        found.retain(|(_, raw)| *raw != Raw::Absent);
        Ok(found)
    }
}

/// The answer of `load_objects.lua`.
fn decode(answer: Value) -> Option<Loaded> {
    let Value::Array(mut entries) = answer else {
        return None;
    };
    let rung = entries.pop()?.as_u64()? == 1;
    let raws = entries.into_iter().map(raw).collect::<Option<_>>()?;
    Some(Loaded { raws, rung })
}

fn raw(entry: Value) -> Option<Raw> {
    match entry {
        Value::Null => Some(Raw::Absent),
        Value::String(why) => Some(Raw::Unreadable(why.to_string())),
        Value::Array(texts) => Some(fields(texts)),
        _ => None,
    }
}

fn fields(texts: Vec<Value>) -> Raw {
    let mut fields = Fields::new();
    let mut texts = texts.into_iter();
    while let (Some(field), Some(value)) = (texts.next(), texts.next()) {
        let (Value::String(field), Value::String(value)) = (&field, &value) else {
            return Raw::Unreadable(match field.as_str() {
                Some(field) => format!("the value of {field:?} is not UTF-8 text"),
                None => "a field's name is not UTF-8 text".to_owned(),
            });
        };
        fields.insert(field.to_string(), value.to_string());
    }
    Raw::Hash(fields)
}
