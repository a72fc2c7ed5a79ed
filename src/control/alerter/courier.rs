//! The way to each receiver: one message at a time, and a growing wait where it takes none.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Options, now_ms, post};
use crate::control::complaint::{Complaint, no_secret};
use crate::control::outbox::Outbox;
use crate::control::status::Told;
use crate::model::alert::Alert;
use crate::model::decode::ConfigError;
use crate::model::keys::{Keys, Object};
use crate::model::name::Name;
use crate::model::table::Alerts;
use crate::policy::alert::Parcel;
use crate::policy::alert::condition::UNDELIVERED;
use crate::telemetry;
use crate::transport::TlsConfigs;

/// The first wait after a message was not taken; each next one is twice as long.
const WAIT: Duration = Duration::from_secs(1);
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_mins(1);
/// After so many tries, about an hour, a message is given up.
const ATTEMPTS_MAX: u32 = 60;
/// The field that names the secret.
const SECRET: &str = "secret_env";

/// Whose incident a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Of all gateways.
    Shared,
    /// Of this one alone.
    Own,
}

/// How a delivery went.
#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) alert: Name,
    pub(super) source: Source,
    pub(super) parcel: Parcel,
    result: Result<String, String>,
}

/// The ways to all receivers.
#[derive(Debug)]
pub(super) struct Couriers {
    options: Options,
    outbox: Outbox,
    ways: BTreeMap<Name, Way>,
}

#[derive(Debug)]
struct Way {
    /// What the alert says; another text begins anew.
    alert: Arc<Alert>,
    busy: bool,
    failures: u32,
    next: Instant,
    told: Told,
    /// What keeps messages from their receiver.
    complaint: Complaint,
}

impl Couriers {
    pub(super) fn new(options: Options, outbox: Outbox) -> Self {
        Self {
            options,
            outbox,
            ways: BTreeMap::new(),
        }
    }

    /// Forgets receivers that nobody wants to tell any more.
    pub(super) fn keep(&mut self, alerts: &Alerts) {
        let outbox = &self.outbox;
        self.ways.retain(|id, way| {
            let kept = way.busy || alerts.contains_key(id);
            if !kept {
                way.complaint.mend(outbox);
            }
            kept
        });
    }

    /// Whether the receiver may be told something now.
    pub(super) fn is_free(&mut self, id: &Name, alert: &Arc<Alert>, now: Instant) -> bool {
        let way = self.ways.entry(id.clone()).or_insert_with(|| Way {
            alert: Arc::clone(alert),
            busy: false,
            failures: 0,
            next: now,
            told: Told::default(),
            complaint: Complaint::default(),
        });
        if !Arc::ptr_eq(&way.alert, alert) && way.alert != *alert {
            (way.failures, way.next) = (0, now);
        }
        way.alert = Arc::clone(alert);
        !way.busy && way.next <= now
    }

    /// How messages went, by alert.
    pub(super) fn told(&self) -> BTreeMap<Name, Told> {
        let ways = self.ways.iter();
        ways.map(|(id, way)| (id.clone(), way.told)).collect()
    }

    /// Sends in a task of its own.
    pub(super) fn send(
        &mut self,
        id: &Name,
        alert: &Arc<Alert>,
        source: Source,
        parcel: Parcel,
        tls: &Rc<TlsConfigs>,
        done: &mpsc::UnboundedSender<Delivered>,
    ) {
        if let Some(way) = self.ways.get_mut(id) {
            way.busy = true;
        }
        let (alert, tls, done) = (Arc::clone(alert), Rc::clone(tls), done.clone());
        let (id, secrets) = (id.clone(), self.options.secrets);
        tokio::task::spawn_local(async move {
            let result = post::deliver(&alert, secrets, &parcel.message, &tls, now_ms()).await;
            let delivered = Delivered {
                alert: id,
                source,
                parcel,
                result,
            };
            // Nobody takes it only where the process ends.
            done.send(delivered).ok();
        });
    }

    /// Takes note of how a delivery went; whether the message is done with.
    pub(super) fn take(&mut self, done: Delivered, keys: &Keys) -> bool {
        let Some(way) = self.ways.get_mut(&done.alert) else {
            return true;
        };
        way.busy = false;
        let id = done.alert.as_str();
        let message = &done.parcel.message;
        match done.result {
            Ok(_) => {
                let state = match message.state {
                    crate::policy::alert::Tell::Firing => "firing",
                    crate::policy::alert::Tell::Over => "over",
                };
                telemetry::alert_sent(id, message.kind.as_str(), &message.service, state);
                way.failures = 0;
                way.told.sent += 1;
                way.complaint.mend(&self.outbox);
                true
            }
            Err(why) => {
                way.failures += 1;
                way.next = Instant::now() + wait_after(way.failures, random());
                let error = ConfigError {
                    key: keys.object(&Object::Alert(done.alert.clone())),
                    field: Some("url".to_owned()),
                    message: format!("{UNDELIVERED}: {why}"),
                };
                if way.failures >= ATTEMPTS_MAX {
                    telemetry::alert_lost(id, way.failures, &why);
                    way.failures = 0;
                    way.told.lost += 1;
                    way.complaint.name(&self.outbox, error, Instant::now());
                    return true;
                }
                way.told.failed += 1;
                telemetry::alert_failed(id, way.failures, &why);
                way.complaint.name(&self.outbox, error, Instant::now());
                false
            }
        }
    }

    /// Names secrets that are not there before they are needed, and reminds of what stands.
    pub(super) fn name_missing_secrets(&mut self, alerts: &Alerts, keys: &Keys, now: Instant) {
        for (id, alert) in alerts {
            let Some(way) = self.ways.get_mut(id) else {
                continue;
            };
            let name = alert.secret_env.as_deref();
            let missing = name.filter(|name| (self.options.secrets)(name).is_none());
            if let Some(name) = missing {
                let error = ConfigError {
                    key: keys.object(&Object::Alert(id.clone())),
                    field: Some(SECRET.to_owned()),
                    message: no_secret(name),
                };
                way.complaint.name(&self.outbox, error, now);
            } else if way.complaint.field() == Some(SECRET) {
                way.complaint.mend(&self.outbox);
            } else {
                way.complaint.remind(&self.outbox, now);
            }
        }
    }
}

/// Twice as long after each failure, with up to a quarter more so that gateways do not meet.
fn wait_after(failures: u32, random: u64) -> Duration {
    let doubled = WAIT.saturating_mul(1 << failures.saturating_sub(1).min(10));
    let wait = doubled.min(WAIT_MAX);
    #[expect(clippy::cast_precision_loss, reason = "a random share")]
    let share = (random >> 11) as f64 / (1_u64 << 53) as f64;
    wait.mul_f64(1.0 + share / 4.0)
}

fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute() {
        for (failures, seconds) in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (60, 60)] {
            let least = Duration::from_secs(seconds);
            assert_eq!(wait_after(failures, 0), least);
            let most = wait_after(failures, u64::MAX);
            assert!(most > least && most <= least.mul_f64(1.25), "{most:?}");
        }
    }
}
