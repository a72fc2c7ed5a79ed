//! `wait`: until every gateway serves what stands in Redis now.
//!
//! The moment is written beside the configuration. With its next sign of life each gateway sees it,
//! reads everything, and says in its own hash from when on what stood is in force: so what it serves
//! then is at least as new, whatever notifications were lost.

use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::{Error, redis_options, write};
use crate::model::decode::Fields;
use crate::settings;
use crate::store::{self, Store};

/// How often gateways are looked at.
const LOOK: Duration = Duration::from_millis(50);

/// How gateways stand.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether there is one, and all serve what stood when this began.
    served: bool,
    gateways: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    served: bool,
    revision: u64,
    digest: String,
}

/// Waits; exit 1 where a gateway did not say so in time, or none lives.
pub(super) fn run(verb: &settings::Wait) -> Result<ExitCode, Error> {
    let options = redis_options(&verb.redis, &format!("wait-{}", std::process::id()));
    let report = write::with_store(&options, async |store| watch(store, verb.timeout).await)?;
    super::vanished::warn(&options)?;
    if verb.json {
        let json = serde_json::to_string_pretty(&report).expect("texts and numbers are JSON");
        super::print(&format!("{json}\n"))?;
    } else if report.served {
        super::print(&report.lines())?;
    } else {
        eprintln!("smartlink: {}", report.why(verb.timeout));
    }
    Ok(if report.served {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn watch(store: &Store, patience: Duration) -> Result<Report, store::Error> {
    let end = Instant::now() + patience;
    let moment = store.await_all().await?;
    loop {
        let report = Report::of(store.gateways().await?, moment);
        if report.served || Instant::now() >= end {
            return Ok(report);
        }
        sleep(LOOK).await;
    }
}

impl Report {
    fn of(gateways: Vec<(String, Fields)>, moment: u64) -> Self {
        let row = |(name, fields): (String, Fields)| {
            let field = |field: &str| fields.get(field).cloned().unwrap_or_default();
            Row {
                served: field("read_ms")
                    .parse()
                    .is_ok_and(|read: u64| read >= moment),
                revision: field("revision").parse().unwrap_or_default(),
                digest: field("digest"),
                name,
            }
        };
        let gateways: Vec<Row> = gateways.into_iter().map(row).collect();
        Self {
            served: !gateways.is_empty() && gateways.iter().all(|row| row.served),
            gateways,
        }
    }

    fn lines(&self) -> String {
        let line = |row: &Row| {
            let Row { name, revision, .. } = row;
            format!("{name} serves what stands, by revision {revision}\n")
        };
        self.gateways.iter().map(line).collect()
    }

    fn why(&self, patience: Duration) -> String {
        let late = self.gateways.iter().filter(|row| !row.served);
        let names: Vec<&str> = late.map(|row| row.name.as_str()).collect();
        if names.is_empty() {
            return format!("no gateway gave a sign of life within {patience:?}");
        }
        let names = names.join(", ");
        format!("not within {patience:?}: {names}")
    }
}
