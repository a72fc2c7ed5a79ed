//! Brings endpoints back that are down, and judges which are to be ejected.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::outbox::Outbox;
use super::watcher::Shared;
use crate::model::live::{Health, State};
use crate::model::table::Table;
use crate::policy::health::{Finding, Report};

/// Between two probes of an endpoint that is down.
const RETRY: Duration = Duration::from_millis(200);

/// What the prober needs to know.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the clock of `model::live` starts.
    pub epoch: Instant,
    /// Our own name.
    pub instance: String,
}

/// Watches over the health of all endpoints.
#[derive(Debug)]
pub struct Prober {
    options: Options,
    table: Arc<ArcSwap<Table>>,
    outbox: Outbox,
    reports: mpsc::Receiver<Report>,
}

impl Prober {
    /// A prober that has not begun; `reports` come from the data plane.
    #[must_use]
    pub fn new(options: Options, shared: &Shared, reports: mpsc::Receiver<Report>) -> Self {
        Self {
            options,
            table: Arc::clone(&shared.table),
            outbox: shared.outbox.clone(),
            reports,
        }
    }

    /// Probes for as long as the process runs.
    pub async fn run(mut self) {
        while let Some(report) = self.reports.recv().await {
            if report.finding == Finding::Down {
                tokio::spawn(bring_back(report, self.options.epoch));
            }
        }
    }
}

async fn bring_back(report: Report, epoch: Instant) {
    let target = &report.endpoint.spec.target;
    loop {
        sleep(RETRY).await;
        let connect = TcpStream::connect((&*target.host, target.port));
        if let Ok(Ok(_connected)) = timeout(Duration::from_secs(1), connect).await {
            break;
        }
    }
    let condition = &report.endpoint.live.condition;
    let seen = condition.health();
    if seen.state == State::Down {
        let since_ms = u64::try_from(epoch.elapsed().as_millis()).unwrap_or(u64::MAX / 8);
        let up = Health {
            state: State::Up,
            since_ms,
        };
        condition.turn(seen, up);
        report.endpoint.group.changed.notify_waiters();
    }
}
