//! `shadow report`: reads the counters and prints the picture.

use std::process::ExitCode;

use super::{candidates, places};
use crate::cli::{Error, print, runtime};
use crate::review::{self, Example, Picture};
use crate::settings;
use crate::store::Comparisons;

/// Prints the picture of each candidate.
pub(super) fn run(report: &settings::Report) -> Result<ExitCode, Error> {
    let name = format!("report-{}", std::process::id());
    let (config, records) = places(&report.place, &name);
    let text = runtime()?.block_on(async {
        let failed = |cause| Error::Redis {
            place: records.shown(),
            cause,
        };
        let versions = candidates(&config, &report.service, &report.candidate).await?;
        let comparisons = Comparisons::connect(&records).map_err(failed)?;
        comparisons.wait().await.map_err(failed)?;
        let mut texts = Vec::new();
        for candidate in &versions {
            let read = comparisons.results(&report.service, candidate).await;
            let (results, shipped, examples) = read.map_err(failed)?;
            let backlog = comparisons.backlog(&report.service, candidate).await;
            let picture = Picture::of(
                (report.service.as_str(), candidate.as_str()),
                &results,
                &shipped,
                backlog.map_err(failed)?,
                examples.iter().filter_map(Example::parse).collect(),
            );
            texts.push(if report.json {
                let json = serde_json::to_string(&picture);
                json.expect("texts and numbers are JSON") + "\n"
            } else {
                review::lines(&picture)
            });
        }
        Ok::<_, Error>(texts.join(if report.json { "" } else { "\n" }))
    })?;
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
