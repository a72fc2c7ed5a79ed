//! Rates and latencies of all gateways together: reads each second of each version at work once,
//! when it is complete, and judges by each alert's window.

use std::time::Duration;

use crate::model::alert::{Alert, Kind};
use crate::model::name::{Name, ServiceName, VersionName};
use crate::model::table::Table;
use crate::policy::alert::condition::{self, Measured, Scene};
use crate::policy::alert::{Book, Sighting};
use crate::stats::live::EndpointGauge;
use crate::stats::past::{LONGEST_S, Past};
use crate::store::{Error, Ledger};

/// A second is complete after so many more: every gateway has told its counts.
const COMPLETE_S: u64 = 2;
/// As much of the past as stands in Redis for whoever begins.
const BEGIN_S: u64 = 26;
/// By how much that may be short of a window.
const BEGUN_SHORT_S: u64 = 5;
/// Whoever did nothing for so many seconds is not asked about.
const AT_WORK_S: u64 = 15;
/// For how many versions at a time the worst endpoint is looked up.
const WORST_MAX: usize = 20;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Rates {
    past: Past,
    /// The first second that was read, and the one to read next.
    covered: Option<(u64, u64)>,
}

/// What is judged at one look.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) sightings: Vec<Sighting>,
    /// Whether all windows were covered, so that what was not seen is over.
    pub(super) covered: bool,
}

impl Rates {
    /// Reads what is new and judges it.
    pub(super) async fn look(
        &mut self,
        scene: Scene<'_>,
        ledger: &Ledger,
        book: &Book,
    ) -> Result<Judged, Error> {
        let watched: Vec<(&Name, &Alert)> = scene
            .table
            .alerts
            .iter()
            .map(|(id, alert)| (id, &**alert))
            .filter(|(_, alert)| tells_rates(alert))
            .collect();
        if watched.is_empty() {
            *self = Self::default();
            return Ok(Judged {
                covered: true,
                ..Judged::default()
            });
        }
        let longest = watched.iter().map(|(_, alert)| seconds(alert.window));
        let longest = longest.max().unwrap_or(0);
        let now_s = ledger.now_ms() / 1000;
        self.read(scene.table, &watched, ledger, now_s).await?;
        self.past.settle(now_s, longest);
        let (first, next) = self.covered.unwrap_or((now_s, now_s));
        let sightings = self.judge(scene, &watched, ledger, book, next).await;
        Ok(Judged {
            sightings,
            covered: next.saturating_sub(first) + BEGUN_SHORT_S >= longest,
        })
    }

    /// Reads the seconds that were not read yet.
    async fn read(
        &mut self,
        table: &Table,
        watched: &[(&Name, &Alert)],
        ledger: &Ledger,
        now_s: u64,
    ) -> Result<(), Error> {
        let end = now_s.saturating_sub(COMPLETE_S);
        let oldest = end.saturating_sub(BEGIN_S);
        let (first, next) = self.covered.unwrap_or((oldest, oldest));
        // After a long break the gap is not covered.
        let (first, begin) = if next < oldest {
            (oldest, oldest)
        } else {
            (first, next)
        };
        let mut wanted: Vec<(ServiceName, VersionName, u64)> = Vec::new();
        let at_work = ledger
            .active_services(now_s.saturating_sub(AT_WORK_S))
            .await?;
        for service in at_work {
            let covered = watched.iter().any(|(_, alert)| covers(alert, &service));
            let known = table.services.get(service.as_str()).filter(|_| covered);
            for version in known.into_iter().flat_map(|known| &known.versions) {
                let seconds = begin..end;
                wanted.extend(seconds.map(|s| (service.clone(), version.name.clone(), s)));
            }
        }
        let read = ledger.fine(&wanted).await?;
        for ((service, version, second), fine) in wanted.into_iter().zip(read) {
            self.past.add(&service, &version, second, fine);
        }
        self.covered = Some((first, end.max(begin)));
        Ok(())
    }

    async fn judge(
        &self,
        scene: Scene<'_>,
        watched: &[(&Name, &Alert)],
        ledger: &Ledger,
        book: &Book,
        next: u64,
    ) -> Vec<Sighting> {
        let mut sightings = Vec::new();
        let mut asked = 0;
        for (service, version) in self.past.versions() {
            for (id, alert) in watched {
                if !covers(alert, service) {
                    continue;
                }
                let measured = self.measure(alert, service, version, next);
                let of = |worst: Option<&str>| {
                    let place = (service, version);
                    let fires = |key: &_| book.is_firing(key);
                    condition::rates(scene, (id, alert), place, measured, worst, fires)
                };
                let mut seen = of(None);
                if !seen.is_empty() && asked < WORST_MAX {
                    asked += 1;
                    let worst = worst(ledger, service, version).await;
                    seen = of(worst.as_deref());
                }
                sightings.extend(seen);
            }
        }
        sightings
    }

    fn measure(
        &self,
        alert: &Alert,
        service: &ServiceName,
        version: &VersionName,
        next: u64,
    ) -> Measured {
        let from_s = next.saturating_sub(seconds(alert.window));
        let (sum, newest) = self.past.since(service, version, from_s, next);
        let limit_us = alert.latency_p99.map(|limit| limit.as_micros());
        let limit_us = limit_us.map_or(u64::MAX, |us| u64::try_from(us).unwrap_or(u64::MAX));
        Measured {
            requests: sum.requests(),
            errors: sum.errors(),
            slow: sum.slower_than(limit_us),
            p99_ms: sum.quantile_us(0.99).map(|us| us / 1000.0),
            newest: (newest.errors(), newest.slower_than(limit_us)),
        }
    }
}

/// The endpoint of a version that fails most, else the slowest, where there are several.
async fn worst(ledger: &Ledger, service: &ServiceName, version: &VersionName) -> Option<String> {
    // Without it the relief is another one.
    let gauges = ledger.live_endpoints(service).await.ok()?;
    let gauges = gauges
        .into_iter()
        .filter(|(_, it)| it.version == version.as_str() && it.requests > 0);
    let gauges: Vec<(String, EndpointGauge)> = gauges.collect();
    let badness = |it: &EndpointGauge| (it.errors, it.ewma_ms.unwrap_or(0.0));
    let worst = gauges.iter().max_by(|(_, a), (_, b)| {
        let ((a_errors, a_ms), (b_errors, b_ms)) = (badness(a), badness(b));
        a_errors.cmp(&b_errors).then(a_ms.total_cmp(&b_ms))
    });
    worst
        .filter(|_| gauges.len() > 1)
        .map(|(url, _)| url.clone())
}

fn tells_rates(alert: &Alert) -> bool {
    alert.on.contains(&Kind::ErrorRate) || alert.on.contains(&Kind::Latency)
}

fn covers(alert: &Alert, service: &ServiceName) -> bool {
    let kinds = [Kind::ErrorRate, Kind::Latency];
    kinds
        .into_iter()
        .any(|kind| alert.covers(kind, service.as_str()))
}

/// A window in whole seconds, one at least.
fn seconds(window: Duration) -> u64 {
    let whole = window.as_secs() + u64::from(window.subsec_nanos() > 0);
    whole.clamp(1, LONGEST_S)
}
