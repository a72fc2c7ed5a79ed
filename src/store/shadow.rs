//! Shadow records on their way into Redis Streams, and the books about them:
//! `lua/ship_records.lua`.
//!
//! A connection of its own, so that records may go to another Redis and never delay the
//! configuration.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::Value;
use fred::types::scripts::Script;
use tokio::task::JoinHandle;

use super::hearing::keep_connected;
use super::{Error, Options, new_client};
use crate::model::keys::Keys;
use crate::model::name::ServiceName;

/// For how many seconds the number of the last batch is kept.
const NUMBER_LIFE_S: u32 = 86_400;

const STEP: &str = "ship shadow records";

/// Where records are written; a gateway that starts again begins a new life.
#[derive(Debug)]
pub struct ShadowStream {
    client: Client,
    keys: Keys,
    /// The key of the number of our last batch.
    last: String,
    ship: Script,
    connection: OnceLock<JoinHandle<()>>,
}

/// What one script call writes. It never changes once it has a number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shipment {
    /// Counts the shipments of this life, from 1.
    pub number: u64,
    /// One part for each service.
    pub parts: Vec<Part>,
}

/// What is written of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The service.
    pub service: ServiceName,
    /// How many records its stream shall hold, roughly.
    pub maxlen: u64,
    /// Its records, each in JSON.
    pub records: Vec<Vec<u8>>,
    /// What else is added to its books, by field.
    pub counts: Vec<(&'static str, u64)>,
}

impl ShadowStream {
    /// Not connected yet. Each call begins a new life, whose shipments are numbered from 1.
    pub fn new(options: &Options) -> Result<Self, Error> {
        // The standard library seeds each `RandomState` from the system's random source.
        let life = RandomState::new().build_hasher().finish();
        let client = new_client(options.config()?, 32);
        let keys = options.keys.clone();
        Ok(Self {
            client,
            last: keys.internal(&format!("shadow:{}:{life:016x}", options.instance)),
            keys,
            ship: Script::from_lua(include_str!("../../lua/ship_records.lua")),
            connection: OnceLock::new(),
        })
    }

    /// Begins to connect, and to connect again whenever the connection breaks; once, however often
    /// it is called. Needs a runtime.
    pub fn open(&self) {
        (self.connection).get_or_init(|| tokio::spawn(keep_connected(self.client.clone())));
    }

    /// Whether commands can be sent right now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.is_connected()
    }

    /// Writes the shipment, exactly once however often it is sent. How many records of each part
    /// the stream took; the others are in the books as dropped.
    pub async fn ship(&self, shipment: &Shipment) -> Result<Vec<u64>, Error> {
        if !self.client.is_connected() {
            return Err(Error::Away);
        }
        let mut keys = vec![self.last.clone()];
        let number = |number: u64| Value::from(number.to_string());
        let mut args = vec![number(shipment.number), number(NUMBER_LIFE_S.into())];
        for part in &shipment.parts {
            keys.push(self.keys.shadow_stream(&part.service));
            keys.push(self.keys.shadow_counts(&part.service));
            args.push(number(part.maxlen));
            args.push(number(part.records.len() as u64));
            args.extend(
                part.records
                    .iter()
                    .map(|record| Value::Bytes(record.clone().into())),
            );
            args.push(number(part.counts.len() as u64));
            for (field, count) in &part.counts {
                args.extend([Value::from(*field), number(*count)]);
            }
        }
        let answer: Value = self
            .ship
            .evalsha_with_reload(&self.client, keys, args)
            .await
            .map_err(Error::step(STEP))?;
        decode(answer).ok_or(Error::Answer(STEP))
    }

    /// Closes the connection.
    pub async fn close(&self) -> Result<(), Error> {
        self.client.quit().await.map_err(Error::step("leave"))
    }
}

impl Drop for ShadowStream {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.get() {
            connection.abort();
        }
    }
}

fn decode(answer: Value) -> Option<Vec<u64>> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let [_word, taken] = <[Value; 2]>::try_from(parts).ok()?;
    let Value::Array(taken) = taken else {
        return None;
    };
    taken.iter().map(Value::as_u64).collect()
}
