//! Whether somebody watches the rollouts of services, and which gateway says that nobody does.

use std::time::Duration;

use fred::interfaces::{HashesInterface, KeysInterface};
use fred::types::{Expiration, SetOptions};

use super::{Error, Store};
use crate::model::name::ServiceName;

/// For how long no other gateway says the same of a service.
const SAID: Duration = Duration::from_mins(10);

const STEP: &str = "look for pilots";

impl Store {
    /// Which of these services have a pilot that holds its lease, in their order.
    pub async fn piloted(&self, services: &[ServiceName]) -> Result<Vec<bool>, Error> {
        let keys: Vec<String> = (services.iter())
            .map(|service| self.keys.pilot_lease(service))
            .collect();
        let client = self.here()?;
        let holders: Vec<Option<String>> = client.mget(keys).await.map_err(Error::step(STEP))?;
        Ok(holders.iter().map(Option::is_some).collect())
    }

    /// The state that the pilot of a service wrote last; none where it wrote none.
    pub async fn pilot_state(&self, service: &ServiceName) -> Result<Option<String>, Error> {
        let client = self.here()?;
        (client.hget(self.keys.pilot(service), "state").await).map_err(Error::step(STEP))
    }

    /// Whether this gateway is the one to say that nobody watches the rollout of this service.
    pub async fn says_unwatched(&self, service: &ServiceName) -> Result<bool, Error> {
        let client = self.here()?;
        let life = i64::try_from(SAID.as_millis()).unwrap_or(i64::MAX);
        let (life, only_new) = (Some(Expiration::PX(life)), Some(SetOptions::NX));
        let said: Option<String> = client
            .set(self.keys.unwatched(service), "1", life, only_new, false)
            .await
            .map_err(Error::step(STEP))?;
        Ok(said.is_some())
    }

    /// Somebody watches it again: the next time that nobody does is to be said anew.
    pub async fn is_watched(&self, service: &ServiceName) -> Result<(), Error> {
        let client = self.here()?;
        let _removed: i64 =
            (client.del(self.keys.unwatched(service)).await).map_err(Error::step(STEP))?;
        Ok(())
    }
}
