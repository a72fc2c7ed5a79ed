//! `shadow report`: reads the counters and prints the picture.

use std::process::ExitCode;

use super::{candidates, places};
use crate::cli::{Error, print, runtime};
use crate::model::name::ServiceName;
use crate::review::{self, Example, Pair, Picture, Reviews, SCORER};
use crate::settings;
use crate::store::{self, Comparisons};

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
        let judged = judged(&comparisons, &report.service).await;
        let judged = judged.map_err(failed)?;
        for candidate in &versions {
            let read = comparisons.results(&report.service, candidate).await;
            let (results, shipped, examples) = read.map_err(failed)?;
            let backlog = comparisons.backlog(&report.service, candidate).await;
            let mut picture = Picture::of(
                (report.service.as_str(), candidate.as_str()),
                &results,
                &shipped,
                backlog.map_err(failed)?,
                examples.iter().filter_map(Example::parse).collect(),
            );
            let of_candidate = judged.iter().filter(|(of, _)| of == candidate.as_str());
            let reviews: Vec<Reviews> = of_candidate.map(|(_, it)| it.clone()).collect();
            picture.agreement = review::agreements(&reviews);
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

/// Pairs that are read at once.
const AT_ONCE: u64 = 200;

/// What reviewers, and the scorer, said of each pair, and of which candidate it is.
pub(in crate::cli) async fn judged(
    comparisons: &Comparisons,
    service: &ServiceName,
) -> Result<Vec<(String, Reviews)>, store::Error> {
    let mut all = Vec::new();
    let mut behind = "0".to_owned();
    loop {
        let verdicts = comparisons.labelled(service, &behind, AT_ONCE).await?;
        let Some(last) = verdicts.last() else {
            return Ok(all);
        };
        behind.clone_from(&last.entry);
        for verdict in &verdicts {
            let Some(pair) = Pair::parse(&verdict.fields) else {
                continue;
            };
            let mut reviews = review::reviews(&verdict.labels);
            let scored = pair.scored().map(|choice| (SCORER.to_owned(), choice));
            reviews.extend(scored);
            all.push((pair.candidate, reviews));
        }
    }
}
