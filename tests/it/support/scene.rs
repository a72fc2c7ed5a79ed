//! A service on hosts of its own behind a whole gateway, and clients that ask for it.

use std::time::Duration;

use serde_json::Value;

use super::crowd::{Crowd, Plan, Want};
use super::faulty::{Home, Host, Manner, Pool};
use super::redis::Redis;
use super::site::Site;

/// A host that answers well after so many milliseconds.
pub fn well(ms: u64) -> Manner {
    Manner::Well(Duration::from_millis(ms))
}

/// A service and its hosts.
pub struct Scene {
    /// The hosts.
    pub pool: Pool,
    /// Its name, and the first segment of its route.
    pub service: String,
}

impl Scene {
    /// Starts hosts that behave so, and writes the hashes of a service on them; `settings` as a
    /// person would type them behind `HSET`.
    pub fn prepare(redis: &Redis, service: &str, manners: &[Manner], settings: &str) -> Self {
        Self::prepare_at(Home::Here, redis, service, manners, settings)
    }

    /// The same, with a choice where the hosts live.
    pub fn prepare_at(
        home: Home,
        redis: &Redis,
        service: &str,
        manners: &[Manner],
        settings: &str,
    ) -> Self {
        let pool = Pool::start(home, manners);
        let pair = |host: &Host| format!("{} base", host.url());
        let pairs: Vec<String> = pool.hosts.iter().map(pair).collect();
        redis.run(&format!(
            "HSET smartlink:endpoints:{service} {}",
            pairs.join(" ")
        ));
        if !settings.is_empty() {
            redis.run(&format!("HSET smartlink:service:{service} {settings}"));
        }
        redis.run(&format!(
            "HSET smartlink:route:{service} service {service} path /{service}/"
        ));
        Self {
            pool,
            service: service.to_owned(),
        }
    }

    /// Sends clients to it.
    pub fn crowd(&self, site: &Site, wants: &[Want], pause: Duration) -> Crowd {
        Crowd::start(&Plan {
            address: site.address,
            service: self.service.clone(),
            wants: wants.to_vec(),
            pause,
        })
    }

    /// The first host.
    pub fn first(&self) -> &Host {
        self.pool.hosts.first().expect("a host")
    }

    /// Writes what the gateway is to know of a host.
    pub fn write(&self, redis: &Redis, host: &Host, words: &str) {
        let key = format!("smartlink:endpoints:{}", self.service);
        redis.call(&["HSET", &key, &host.url(), words]);
    }

    /// What the admin port says about a host: its duty, and the requests in flight there.
    pub fn standing(&self, site: &Site, host: &Host) -> Option<(String, u64)> {
        let table: Value = serde_json::from_str(&site.ask_admin("/api/v1/table")).expect("JSON");
        let endpoints = format!("/services/{}/versions/base/endpoints", self.service);
        let endpoint = table.pointer(&endpoints)?.get(host.url())?;
        let duty = endpoint.get("duty")?.as_str()?.to_owned();
        Some((duty, endpoint.get("inflight")?.as_u64()?))
    }
}
