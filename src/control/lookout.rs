//! Looks whether somebody watches each rollout that runs: a candidate with a share of the traffic
//! and without a pilot is taken back by nobody.
//!
//! Invariant: a gateway without rollouts sends no command.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::chain;
use super::watcher::{Shared, now_ms};
use crate::model::name::ServiceName;
use crate::model::rollout::{Mode, Order, Rollout};
use crate::model::table::Service;
use crate::store::{Error, Store};
use crate::telemetry;

/// How long a rollout may be without a pilot before people are told.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Looks in that time.
const LOOKS: u32 = 6;
/// Leases that one command asks for.
const AT_ONCE: usize = 100;

/// What a pilot writes that has nothing more to do.
const OVER: [&str; 2] = ["done", "aborted"];
/// The same where the candidate was taken back for good.
const TAKEN_BACK: &str = "rolled_back";

/// Looks at rollouts.
#[derive(Debug)]
pub struct Lookout {
    store: Store,
    instance: String,
    shared: Shared,
    patience: Duration,
    alone: BTreeMap<ServiceName, Alone>,
}

/// A rollout without a pilot.
#[derive(Debug)]
struct Alone {
    since: Instant,
    told: bool,
}

impl Lookout {
    /// A task that has not begun.
    #[must_use]
    pub fn new(store: Store, instance: String, patience: Duration, shared: &Shared) -> Self {
        Self {
            store,
            instance,
            shared: shared.clone(),
            patience,
            alone: BTreeMap::new(),
        }
    }

    /// Looks for as long as the process runs.
    pub async fn run(mut self) {
        loop {
            sleep(self.patience / LOOKS).await;
            if let Err(error) = self.look().await {
                tracing::debug!(error = chain(&error), "pilots are not looked for");
                // Where Redis is away, pilots cannot hold a lease either. What was told is still to
                // be taken back.
                self.alone.retain(|_, alone| alone.told);
            }
        }
    }

    async fn look(&mut self) -> Result<(), Error> {
        let table = self.shared.table.load_full();
        let running: Vec<&Arc<Service>> = table.services.iter().filter(|it| is_run(it)).collect();
        let names: Vec<ServiceName> = running.iter().map(|it| it.name.clone()).collect();
        self.alone.retain(|service, _| names.contains(service));
        for (services, names) in running.chunks(AT_ONCE).zip(names.chunks(AT_ONCE)) {
            let piloted = self.store.piloted(names).await?;
            for (service, piloted) in services.iter().zip(piloted) {
                self.see(service, piloted).await?;
            }
        }
        Ok(())
    }

    async fn see(&mut self, service: &Service, piloted: bool) -> Result<(), Error> {
        let name = &service.name;
        if piloted {
            if self.alone.get(name).is_some_and(|alone| alone.told) {
                self.store.is_watched(name).await?;
            }
            self.alone.remove(name);
            return Ok(());
        }
        let now = Instant::now();
        let entry = self.alone.entry(name.clone());
        let alone = entry.or_insert(Alone {
            since: now,
            told: false,
        });
        let (Some(rollout), false) = (&service.rollout, alone.told) else {
            return Ok(());
        };
        if now.saturating_duration_since(alone.since) < self.patience {
            return Ok(());
        }
        let state = self.store.pilot_state(name).await?.unwrap_or_default();
        if is_over(rollout, &state) {
            return Ok(());
        }
        alone.told = true;
        if self.store.says_unwatched(name).await? {
            self.tell(service, rollout);
        }
        Ok(())
    }

    fn tell(&self, service: &Service, rollout: &Rollout) {
        let share = percent(service, rollout);
        let why = format!(
            "nobody is watching {} at {share} %: no pilot for {} s",
            rollout.candidate,
            self.patience.as_secs()
        );
        telemetry::rollout_unwatched(service.name.as_str(), &why);
        self.shared.outbox.note(vec![
            ("at_ms", now_ms().to_string()),
            ("kind", "rollout".to_owned()),
            ("service", service.name.to_string()),
            ("version", rollout.candidate.to_string()),
            ("gateway", self.instance.clone()),
            ("why", why),
        ]);
    }
}

/// Whether a pilot is to watch it.
fn is_run(service: &Service) -> bool {
    let rollout = service.rollout.as_ref();
    rollout.is_some_and(|it| it.state == Order::Running && it.mode != Mode::Advise)
}

/// Whether the pilot has nothing more to do. One that guards keeps a candidate away that was taken
/// back.
fn is_over(rollout: &Rollout, state: &str) -> bool {
    OVER.contains(&state) || (state == TAKEN_BACK && rollout.mode == Mode::Drive)
}

/// The candidate's share in percent.
fn percent(service: &Service, rollout: &Rollout) -> String {
    let weights = service.versions.iter().map(|it| u64::from(it.weight));
    let mut versions = service.versions.iter();
    let candidate = versions.find(|it| it.name == rollout.candidate);
    let weight = candidate.map_or(0, |it| u64::from(it.weight));
    let tenths = (weight * 1000).checked_div(weights.sum()).unwrap_or(0);
    match tenths % 10 {
        0 => (tenths / 10).to_string(),
        rest => format!("{}.{rest}", tenths / 10),
    }
}
