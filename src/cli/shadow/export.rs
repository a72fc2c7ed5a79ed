//! `shadow export`: labelled pairs, one JSON object a line.

use std::fs::File;
use std::io::{BufWriter, Write, stdout};
use std::process::ExitCode;

use super::places;
use crate::cli::{Error, runtime};
use crate::review::{self, Line, Pair};
use crate::settings;
use crate::store::Comparisons;

/// Pairs that are read at once.
const AT_ONCE: u64 = 100;

/// Writes all pairs that make lines.
pub(super) fn run(export: &settings::Export) -> Result<ExitCode, Error> {
    let name = format!("export-{}", std::process::id());
    let (_, records) = places(&export.place, &name);
    let path = export
        .output
        .as_ref()
        .map(|path| path.display().to_string());
    let failed = |cause| match &path {
        Some(path) => Error::Write {
            path: path.clone(),
            cause,
        },
        None => Error::Print(cause),
    };
    let out: Box<dyn Write> = match &export.output {
        Some(path) => Box::new(File::create(path).map_err(failed)?),
        None => Box::new(stdout()),
    };
    let mut out = BufWriter::new(out);
    let line = Line {
        format: export.format,
        prompt_pointer: export.prompt_pointer.clone(),
        answer_pointer: export.answer_pointer.clone(),
        conversational: export.conversational,
        partial: export.partial,
    };
    runtime()?.block_on(async {
        let away = |cause| Error::Redis {
            place: records.shown(),
            cause,
        };
        let comparisons = Comparisons::connect(&records).map_err(away)?;
        comparisons.wait().await.map_err(away)?;
        let mut behind = "0".to_owned();
        loop {
            let read = comparisons.labelled(&export.service, &behind, AT_ONCE);
            let verdicts = read.await.map_err(away)?;
            let Some(last) = verdicts.last() else {
                return Ok::<_, Error>(());
            };
            behind.clone_from(&last.entry);
            for verdict in &verdicts {
                let Some(pair) = Pair::parse(&verdict.fields) else {
                    continue;
                };
                let name = verdict.fields.get("pair").map_or("", String::as_str);
                let reviews = review::reviews(&verdict.labels);
                for json in review::export(&line, name, &pair, &reviews) {
                    writeln!(out, "{json}").map_err(failed)?;
                }
            }
        }
    })?;
    out.flush().map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}
