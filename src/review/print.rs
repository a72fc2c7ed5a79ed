//! The picture as lines for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Example, Picture, verdict};

/// Paths that are printed.
const PATHS_SHOWN: usize = 10;
/// Examples of a kind that are printed.
const EXAMPLES_SHOWN: usize = 1;

/// The lines of a report.
#[must_use]
pub fn lines(picture: &Picture) -> String {
    let mut text = String::new();
    // Writing to a text cannot fail.
    let _written = write(picture, &mut text);
    text
}

fn write(picture: &Picture, out: &mut String) -> std::fmt::Result {
    let Picture {
        service, candidate, ..
    } = picture;
    writeln!(out, "{service}: {candidate} against base")?;
    let state = match picture.state.as_str() {
        "" => "no worker has looked at it yet",
        "waiting_for_candidate" => "waiting: the candidate cannot be reached",
        _ => "",
    };
    if !state.is_empty() {
        writeln!(out, "  {state}")?;
    }
    write_books(picture, out)?;
    write_pairs(picture, out)?;
    if let Some(latency) = &picture.latency {
        let [base, candidate] = [latency.base_ms, latency.candidate_ms];
        writeln!(
            out,
            "  latency       {:.2} times that of base (p50 {:.1} ms against {:.1}, p99 {:.1} against {:.1}; {} pairs)",
            latency.ratio, candidate[0], base[0], candidate[2], base[2], latency.pairs
        )?;
    }
    if !picture.scores.is_empty() {
        writeln!(out, "  scores        {}", counts(&picture.scores))?;
    }
    if !picture.labels.is_empty() {
        writeln!(out, "  labels        {}", counts(&picture.labels))?;
    }
    for it in &picture.agreement {
        let (one, other, kappa, pairs) = (&it.one, &it.other, it.kappa, it.pairs);
        writeln!(
            out,
            "  agreement     {one} and {other}: kappa {kappa:.2} over {pairs} pairs"
        )?;
    }
    let proven = verdict::line(picture);
    if !proven.is_empty() {
        writeln!(out, "  proven        {proven}")?;
    }
    write_paths(picture, out)?;
    write_failures(picture, out)
}

fn write_books(picture: &Picture, out: &mut String) -> std::fmt::Result {
    let books = &picture.books;
    write!(
        out,
        "  records       {} read, {} counted",
        books.read, books.counted
    )?;
    let more = [
        ("dead", books.dead),
        ("pending", books.pending),
        ("trimmed at work", books.trimmed_pending),
        ("lost unread", books.lost_unread),
        ("waiting", books.waiting.unwrap_or(0)),
        ("kept for how they went", books.kept),
    ];
    for (name, count) in more {
        if count > 0 {
            write!(out, ", {count} {name}")?;
        }
    }
    writeln!(out)?;
    if !books.skipped.is_empty() {
        let skipped = books.skipped.iter();
        let skipped = skipped.map(|(why, n)| (why.trim_start_matches("skipped_").to_owned(), *n));
        writeln!(out, "  skipped       {}", counts(&skipped.collect()))?;
    }
    let dropped: BTreeMap<String, u64> = (picture.shipped.iter())
        .filter(|(field, count)| field.starts_with("dropped_") && **count > 0)
        .map(|(field, count)| (field.clone(), *count))
        .collect();
    if !dropped.is_empty() {
        writeln!(out, "  gateways      {}", counts(&dropped))?;
    }
    Ok(())
}

fn write_pairs(picture: &Picture, out: &mut String) -> std::fmt::Result {
    let pair = |name: &str| picture.pairs.get(name).copied().unwrap_or(0);
    writeln!(
        out,
        "  pairs         {} both good, {} only the candidate bad, {} only base bad, {} both bad",
        pair("both_ok"),
        pair("candidate_bad_only"),
        pair("base_bad_only"),
        pair("both_bad")
    )?;
    let bad: BTreeMap<String, u64> = (picture.classes.iter())
        .filter(|(class, count)| *class != "ok" && **count > 0)
        .map(|(class, count)| (class.clone(), *count))
        .collect();
    if !bad.is_empty() {
        writeln!(out, "  candidate     {}", counts(&bad))?;
    }
    if let Some(rate) = picture.match_rate {
        let (equal, compared) = (picture.equal, picture.compared);
        write!(
            out,
            "  equal         {equal} of {compared} ({:.1} %)",
            rate * 100.0
        )?;
        match picture.excess_mismatch {
            Some(excess) => writeln!(
                out,
                "; differs {:+.1} points more often than base from itself",
                excess * 100.0
            )?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}

fn write_paths(picture: &Picture, out: &mut String) -> std::fmt::Result {
    let paths = picture
        .paths
        .iter()
        .filter(|row| row.candidate_only > 0 || row.flagged);
    for row in paths.take(PATHS_SHOWN) {
        let mark = if row.flagged { "!" } else { " " };
        writeln!(
            out,
            "\n{mark} {}  {} of {} only in the candidate, {} only in base, {} in both",
            row.path, row.candidate_only, picture.triples, row.noise_only, row.both
        )?;
        let kind = format!("path.{}", row.path);
        for example in of_kind(picture, &kind) {
            let place = example
                .differences
                .iter()
                .find(|place| place.path == row.path);
            if let Some(place) = place {
                writeln!(
                    out,
                    "    {}: {} -> {}",
                    place.kind, place.base, place.candidate
                )?;
            }
            write_example(example, out)?;
        }
    }
    Ok(())
}

fn write_failures(picture: &Picture, out: &mut String) -> std::fmt::Result {
    for (class, count) in &picture.classes {
        let kind = format!("class.{class}");
        let mut examples = of_kind(picture, &kind).peekable();
        if examples.peek().is_some() {
            writeln!(out, "\n! {class}  {count} answers of the candidate")?;
            for example in examples {
                write_example(example, out)?;
            }
        }
    }
    Ok(())
}

fn of_kind<'p>(picture: &'p Picture, kind: &'p str) -> impl Iterator<Item = &'p Example> {
    let examples = picture.examples.iter();
    let examples = examples.filter(move |it| it.kinds.iter().any(|it| it == kind));
    examples.take(EXAMPLES_SHOWN)
}

fn write_example(example: &Example, out: &mut String) -> std::fmt::Result {
    writeln!(out, "    {}", example.curl)
}

fn counts(counts: &BTreeMap<String, u64>) -> String {
    let counts: Vec<String> = counts
        .iter()
        .map(|(name, n)| format!("{n} {name}"))
        .collect();
    counts.join(", ")
}
