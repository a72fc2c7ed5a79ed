//! Looking on: plain commands that read and never write, so that a view needs no more rights than
//! to read. One connection, nothing is subscribed.

use std::collections::HashMap;

use fred::clients::Client;
use fred::interfaces::{
    ClientLike, EventInterface, FredResult, HashesInterface, KeysInterface, StreamsInterface,
};
use fred::types::{CustomCommand, Value};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::health::index as health_index;
use super::hearing::keep_connected;
use super::live::{read_hashes, read_if_hashes};
use super::scan::decode as decode_scan;
use super::{COMMAND_TIMEOUT, Error, Options, Reason, Scan, new_client};
use crate::model::decode::Fields;
use crate::model::keys::Keys;
use crate::model::name::{ServiceName, VersionName};

/// A way to Redis that reads only. It connects again by itself.
#[derive(Debug)]
pub struct View {
    client: Client,
    keys: Keys,
    /// Why the last connection failed.
    why: watch::Receiver<String>,
    tasks: [JoinHandle<()>; 2],
}

impl View {
    /// Begins to connect. Needs a runtime.
    pub fn connect(options: &Options) -> Result<Self, Error> {
        let client = new_client(options.config()?, 32);
        let (tell, why) = watch::channel(String::new());
        let mut errors = client.error_rx();
        let listen = async move {
            use tokio::sync::broadcast::error::RecvError::Closed;
            loop {
                match errors.recv().await {
                    Ok((error, _)) => drop(tell.send_replace(Reason::from(error).to_string())),
                    Err(Closed) => return,
                    Err(_) => {}
                }
            }
        };
        let tasks = [
            tokio::spawn(listen),
            tokio::spawn(keep_connected(client.clone())),
        ];
        Ok(Self {
            client,
            keys: options.keys.clone(),
            why,
            tasks,
        })
    }

    /// The keys we speak of.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Waits a few seconds at most until commands can be sent.
    pub async fn wait(&self) -> Result<(), Error> {
        let there = self.client.wait_for_connect();
        match tokio::time::timeout(3 * COMMAND_TIMEOUT, there).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => self.here().map(drop),
        }
    }

    fn here(&self) -> Result<&Client, Error> {
        if self.client.is_connected() {
            return Ok(&self.client);
        }
        let why = self.why.borrow().clone();
        Err(if why.is_empty() {
            Error::Away
        } else {
            Error::Unreachable(why)
        })
    }

    /// Redis's clock, Unix milliseconds; ours where an access list forbids to ask.
    pub async fn now_ms(&self) -> Result<u64, Error> {
        let time = CustomCommand::new_static("TIME", None::<u16>, false);
        let asked: FredResult<(u64, u64)> = self.here()?.custom(time, Vec::<String>::new()).await;
        match asked.map_err(Error::step("read the time")) {
            Ok((seconds, micros)) => Ok(seconds * 1000 + micros / 1000),
            Err(error) if error.is_refused() => {
                let ours = jiff::Timestamp::now().as_millisecond();
                Ok(u64::try_from(ours).unwrap_or_default())
            }
            Err(error) => Err(error),
        }
    }

    /// The hashes under these keys, in their order, sent together; empty where none stands or an
    /// access list forbids to look.
    pub async fn hashes(&self, keys: &[String]) -> Result<Vec<Fields>, Error> {
        let hashes = read_hashes(self.here()?, keys).await?;
        Ok(hashes.into_iter().map(Fields::from_iter).collect())
    }

    /// The same; `None` where something stands that is no hash.
    pub async fn if_hashes(&self, keys: &[String]) -> Result<Vec<Option<Fields>>, Error> {
        let found = read_if_hashes(self.here()?, keys).await?.into_iter();
        Ok(found.map(|hash| hash.map(Fields::from_iter)).collect())
    }

    /// Why Redis does not let us read this hash; `None` where it does.
    pub async fn refusal(&self, key: &str) -> Result<Option<String>, Error> {
        let read: FredResult<u64> = self.here()?.hlen(key).await;
        match read.map_err(Error::step("read")) {
            Err(Error::Step {
                refused: true,
                source,
                ..
            }) => Ok(Some(source.to_string())),
            Err(error) => Err(error),
            Ok(_) => Ok(None),
        }
    }

    /// Takes one step through all keys whose rest behind the prefix matches a glob pattern.
    pub async fn keys_like(&self, scan: &mut Scan, rest: &str) -> Result<Vec<String>, Error> {
        const STEP: &str = "look for keys";
        let pattern = self.keys.pattern(rest);
        let answer: Value = self
            .here()?
            .scan_page(scan.cursor.clone(), pattern, Some(scan.count), None)
            .await
            .map_err(Error::step(STEP))?;
        let (cursor, keys) = decode_scan(answer).ok_or(Error::Answer(STEP))?;
        scan.cursor = cursor;
        Ok(keys)
    }

    /// The hashes of the gateways that live.
    pub async fn gateways(&self) -> Result<Vec<Fields>, Error> {
        let range = CustomCommand::new_static("ZRANGE", None::<u16>, false);
        let fleet = self.keys.internal("fleet");
        let args = vec![fleet, "0".to_owned(), "-1".to_owned()];
        let keys: FredResult<Vec<String>> = self.here()?.custom(range, args).await;
        let keys = match keys.map_err(Error::step("look for gateways")) {
            Err(error) if error.is_refused() => return Ok(Vec::new()),
            keys => keys?,
        };
        let mut hashes = self.hashes(&keys).await?;
        // Who is gone for good may still stand in the list.
        hashes.retain(|fields| !fields.is_empty());
        Ok(hashes)
    }

    /// For how long nothing was heard of any worker that compares a candidate, in milliseconds;
    /// `None` where there never was one.
    pub async fn worker_idle_ms(
        &self,
        service: &ServiceName,
        candidate: &VersionName,
    ) -> Result<Option<u64>, Error> {
        let info = CustomCommand::new_static("XINFO", None::<u16>, false);
        let args = vec![
            "CONSUMERS".to_owned(),
            self.keys.shadow_stream(service),
            super::comparisons::group(candidate),
        ];
        let consumers: FredResult<Value> = self.here()?.custom(info, args).await;
        let consumers = match consumers.map_err(Error::step("look for workers")) {
            // There is no stream, or no group.
            Err(error) if error.is_refused() => return Ok(None),
            consumers => consumers?,
        };
        let facts = consumers.into_array().into_iter();
        let idle = facts.filter_map(|facts| {
            let facts = super::comparisons::pairs_of(facts);
            facts.iter().find(|(name, _)| name == "idle")?.1.as_u64()
        });
        Ok(idle.min())
    }

    /// The newest entries of a stream, the newest first.
    pub async fn entries(&self, key: &str, most: u64) -> Result<Vec<Fields>, Error> {
        type Entries = Vec<(String, HashMap<String, String>)>;
        let read: FredResult<Entries> = self
            .here()?
            .xrevrange_values(key, "+", "-", Some(most))
            .await;
        let entries = read.map_err(Error::step("read a stream"))?.into_iter();
        Ok(entries
            .map(|(_, fields)| Fields::from_iter(fields))
            .collect())
    }

    /// The services of which the gateways wrote a health; none where an access list forbids to ask.
    pub async fn services_with_health(&self) -> Result<Vec<String>, Error> {
        let read: FredResult<Vec<String>> = self.here()?.hkeys(health_index(&self.keys)).await;
        match read.map_err(Error::step("read which services have a health")) {
            Err(error) if error.is_refused() => Ok(Vec::new()),
            read => read,
        }
    }

    /// The newest events, the newest first; none where an access list forbids to look.
    pub async fn events(&self, most: u64) -> Result<Vec<Fields>, Error> {
        type Entries = Vec<(String, HashMap<String, String>)>;
        let read: FredResult<Entries> = self
            .here()?
            .xrevrange_values(self.keys.events(), "+", "-", Some(most))
            .await;
        match read.map_err(Error::step("read the events")) {
            Ok(entries) => {
                let fields = entries
                    .into_iter()
                    .map(|(_, fields)| Fields::from_iter(fields));
                Ok(fields.collect())
            }
            Err(error) if error.is_refused() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}
