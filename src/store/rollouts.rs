//! The way of a pilot to Redis: who leads a rollout, and what it decided, written all at once or not
//! at all.
//!
//! Invariant: whatever is written here is checked in the same script against the lease and against
//! what people wrote in the meantime.

use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::{ClientLike, HashesInterface};
use fred::types::Value;
use fred::types::scripts::Script;
use tokio::task::JoinHandle;

use super::hearing::keep_connected;
use super::{COMMAND_TIMEOUT, Error, Options, new_client};
use crate::model::keys::{Keys, Object};
use crate::model::name::{ServiceName, VersionName};
use crate::model::weights::Weights;

/// A pilot that is silent for this long does not lead any more.
pub const PILOT_LEASE: Duration = Duration::from_secs(5);
/// The most audit entries kept.
const AUDIT_MAX: u32 = 10_000;
/// The most events kept.
const EVENTS_MAX: u32 = 10_000;

/// Redis as a pilot writes it. It connects again by itself.
#[derive(Debug)]
pub struct Rollouts {
    client: Client,
    keys: Keys,
    lead: Script,
    write: Script,
    connection: JoinHandle<()>,
}

/// What is to be done about the weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Weigh {
    /// They stay as they are.
    Keep,
    /// They become these if they are still those: `version=weight`, commas between.
    Own(Weights, String),
    /// They become these.
    Force(Weights),
}

/// What was decided.
#[derive(Clone, Debug)]
pub struct Move {
    /// Who decided.
    pub token: String,
    /// The turn on which it was decided; `None` where there was none.
    pub turn: Option<u64>,
    /// The person's order on which it was decided.
    pub order: String,
    /// The weights.
    pub weigh: Weigh,
    /// The version whose endpoints become those of `base`.
    pub promoted: Option<VersionName>,
    /// Fields of the pilot's hash; empty ones are removed.
    pub fields: Vec<(&'static str, String)>,
    /// The audit entry; empty: none.
    pub audit: Vec<(&'static str, String)>,
    /// The event; empty: none.
    pub event: Vec<(&'static str, String)>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It is written.
    Done,
    /// Nothing is: another pilot leads.
    Lease,
    /// Nothing is: something else was decided.
    Turn,
    /// Nothing is: a person ordered something else.
    Order,
    /// Nothing is: somebody else wrote the weights.
    Weights,
}

impl Rollouts {
    /// Begins to connect. Needs a runtime.
    pub fn connect(options: &Options) -> Result<Self, Error> {
        let client = new_client(options.config()?, 32);
        let connection = tokio::spawn(keep_connected(client.clone()));
        Ok(Self {
            client,
            keys: options.keys.clone(),
            lead: Script::from_lua(include_str!("../../lua/lead_rollout.lua")),
            write: Script::from_lua(include_str!("../../lua/move_rollout.lua")),
            connection,
        })
    }

    /// Waits a few seconds at most until commands can be sent.
    pub async fn wait(&self) -> Result<(), Error> {
        let there = self.client.wait_for_connect();
        // Which of the two it was shows in what is there now.
        drop(tokio::time::timeout(3 * COMMAND_TIMEOUT, there).await);
        self.here().map(drop)
    }

    fn here(&self) -> Result<&Client, Error> {
        if self.client.is_connected() {
            Ok(&self.client)
        } else {
            Err(Error::Away)
        }
    }

    /// Takes or keeps the lease of a rollout for `PILOT_LEASE`; whether it is ours.
    pub async fn lead(&self, service: &ServiceName, token: &str) -> Result<bool, Error> {
        self.hold(service, token, PILOT_LEASE).await
    }

    /// Gives the lease back, so that another pilot need not wait.
    pub async fn leave(&self, service: &ServiceName, token: &str) -> Result<(), Error> {
        self.hold(service, token, Duration::ZERO).await.map(drop)
    }

    async fn hold(
        &self,
        service: &ServiceName,
        token: &str,
        life: Duration,
    ) -> Result<bool, Error> {
        const STEP: &str = "lead a rollout";
        let args = vec![token.to_owned(), life.as_millis().to_string()];
        let answer: Value = (self.lead)
            .evalsha_with_reload(self.here()?, vec![self.keys.pilot_lease(service)], args)
            .await
            .map_err(Error::step(STEP))?;
        let answer = answer.as_u64().ok_or(Error::Answer(STEP))?;
        Ok(answer == 1)
    }

    /// Writes what was decided, unless something came in between.
    pub async fn write(&self, service: &ServiceName, decided: &Move) -> Result<Moved, Error> {
        const STEP: &str = "write a decision about a rollout";
        let keys = vec![
            self.keys.pilot_lease(service),
            self.keys.pilot(service),
            self.keys.object(&Object::Rollout(service.clone())),
            self.keys.object(&Object::Weights(service.clone())),
            self.keys.object(&Object::Endpoints(service.clone())),
            self.keys.audit(service),
            self.keys.events(),
        ];
        let answer: Value = (self.write)
            .evalsha_with_reload(self.here()?, keys, decided.args())
            .await
            .map_err(Error::step(STEP))?;
        let word = answer.as_string().unwrap_or_default();
        Ok(match word.as_str() {
            "done" => Moved::Done,
            "lease" => Moved::Lease,
            "turn" => Moved::Turn,
            "order" => Moved::Order,
            "weights" => Moved::Weights,
            _ => return Err(Error::Answer(STEP)),
        })
    }

    /// Writes fields of the rollout's hash, as a person would.
    pub async fn order(
        &self,
        service: &ServiceName,
        fields: Vec<(String, String)>,
    ) -> Result<(), Error> {
        let key = self.keys.object(&Object::Rollout(service.clone()));
        let written: Result<Value, _> = self.here()?.hset(key, fields).await;
        written.map(drop).map_err(Error::step("write a rollout"))
    }

    /// Removes the order from the rollout's hash: running is what it means then.
    pub async fn let_go(&self, service: &ServiceName) -> Result<(), Error> {
        let key = self.keys.object(&Object::Rollout(service.clone()));
        let gone: Result<Value, _> = self.here()?.hdel(key, "state").await;
        gone.map(drop).map_err(Error::step("write a rollout"))
    }

    /// Closes the connection.
    pub async fn close(&self) -> Result<(), Error> {
        self.client.quit().await.map_err(Error::step("leave"))
    }
}

impl Drop for Rollouts {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Move {
    fn args(&self) -> Vec<String> {
        let none = Weights::new();
        let (manner, weights, expected) = match &self.weigh {
            Weigh::Keep => ("keep", &none, ""),
            Weigh::Own(weights, expected) => ("own", weights, expected.as_str()),
            Weigh::Force(weights) => ("force", weights, ""),
        };
        let mut args = vec![
            self.token.clone(),
            self.turn.map_or(String::new(), |turn| turn.to_string()),
            self.order.clone(),
            manner.to_owned(),
            expected.to_owned(),
            (self.promoted.as_ref()).map_or(String::new(), ToString::to_string),
            weights.len().to_string(),
        ];
        for (version, weight) in weights {
            args.extend([version.to_string(), weight.to_string()]);
        }
        args.push(self.fields.len().to_string());
        for (field, text) in &self.fields {
            args.extend([(*field).to_owned(), text.clone()]);
        }
        for (most, texts) in [(AUDIT_MAX, &self.audit), (EVENTS_MAX, &self.event)] {
            args.extend([most.to_string(), (2 * texts.len()).to_string()]);
            for (field, text) in texts {
                args.extend([(*field).to_owned(), text.clone()]);
            }
        }
        args
    }
}
