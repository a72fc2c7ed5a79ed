//! The counters of a candidate as a picture: what was compared, what came of it, where it differs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::count::STEPS;
use super::{Example, Findings, Skip};
use crate::judge::ebh;
use crate::judge::tally::{Marks, Tally};
use crate::model::decode::Fields;
use crate::stats::histogram;

/// What a report says of a candidate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Picture {
    /// The service.
    pub service: String,
    /// The candidate.
    pub candidate: String,
    /// What the worker is doing: `comparing`, or `waiting_for_candidate`; empty: there is none yet.
    pub state: String,
    /// What became of every record.
    pub books: Books,
    /// Pairs by which sides were bad.
    pub pairs: BTreeMap<String, u64>,
    /// What the candidate's answers came to.
    pub classes: BTreeMap<String, u64>,
    /// What the answers of `base` came to.
    pub base_classes: BTreeMap<String, u64>,
    /// Pairs whose answers were compared.
    pub compared: u64,
    /// Of these, pairs without a difference.
    pub equal: u64,
    /// The share of pairs without a difference.
    pub match_rate: Option<f64>,
    /// Pairs for which `base` was asked again.
    pub triples: u64,
    /// How much more often the candidate differs from `base` than `base` from itself, -1 to 1.
    pub excess_mismatch: Option<f64>,
    /// Where answers differ, the worst first.
    pub paths: Vec<PathRow>,
    /// How long both took, in milliseconds.
    pub latency: Option<Latency>,
    /// Pairs by how much better the scorer finds the candidate, -1 to 1; `unscored` beside them.
    pub scores: BTreeMap<String, u64>,
    /// What people said.
    pub labels: BTreeMap<String, u64>,
    /// How far reviewers agree beyond chance, each two of them; the scorer is one.
    pub agreement: Vec<Agreement>,
    /// What all this proves by now.
    pub findings: Findings,
    /// Examples, the newest first.
    pub examples: Vec<Example>,
    /// What became of the records on their way to the sink, as the gateways say.
    pub shipped: BTreeMap<String, u64>,
}

/// What became of every record: `read = counted + skipped + dead + trimmed + pending`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Books {
    /// Records that were read.
    pub read: u64,
    /// Records that were compared and counted.
    pub counted: u64,
    /// Of these, records that were kept for how they went, and are in no statistic.
    pub kept: u64,
    /// Records that were skipped, by why.
    pub skipped: BTreeMap<String, u64>,
    /// Records that could not be compared.
    pub dead: u64,
    /// Records that were trimmed while a worker had them.
    pub trimmed_pending: u64,
    /// Records that a worker has now.
    pub pending: u64,
    /// Records that nobody has had yet, where Redis can tell.
    pub waiting: Option<u64>,
    /// Records that were trimmed before anybody had them.
    pub lost_unread: u64,
}

/// A path at which answers differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PathRow {
    /// The path.
    pub path: String,
    /// In how many triples only the candidate's answer differs there.
    pub candidate_only: u64,
    /// In how many only the second answer of `base`.
    pub noise_only: u64,
    /// In how many both.
    pub both: u64,
    /// Whether that is the candidate's doing, as far as can be said with 95 % of all such findings
    /// being right.
    pub flagged: bool,
}

/// How far two reviewers agree.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// The one.
    pub one: String,
    /// The other.
    pub other: String,
    /// Cohen's kappa: 1 for always, 0 for as often as chance would have it.
    pub kappa: f64,
    /// Over so many pairs.
    pub pairs: usize,
}

/// How long both took over the same requests, in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Requests that both were asked.
    pub pairs: u64,
    /// The candidate's p50, p90 and p99.
    pub candidate_ms: [f64; 3],
    /// Those of `base`.
    pub base_ms: [f64; 3],
    /// The middle one of all ratios: how many times as long the candidate takes.
    pub ratio: f64,
}

impl Books {
    /// Whether they balance.
    #[must_use]
    pub fn balance(&self) -> bool {
        let skipped: u64 = self.skipped.values().sum();
        self.read == self.counted + skipped + self.dead + self.trimmed_pending + self.pending
    }
}

impl Picture {
    /// The picture that these hashes give: results, and counts of the gateways; and what Redis says
    /// of the group: how many records nobody has had, how many are pending.
    #[must_use]
    pub fn of(
        (service, candidate): (&str, &str),
        results: &Fields,
        shipped: &Fields,
        (waiting, pending): (Option<u64>, u64),
        examples: Vec<Example>,
    ) -> Self {
        let counter = |name: &str| number(results.get(name));
        let below = |prefix: &str| -> BTreeMap<String, u64> {
            let fields = results.iter();
            let fields = fields.filter_map(|(field, value)| {
                let name = field.strip_prefix(prefix)?;
                Some((name.to_owned(), value.parse().ok()?))
            });
            fields.collect()
        };
        let named = |names: &[&str]| -> BTreeMap<String, u64> {
            let names = names.iter().map(|&name| (name.to_owned(), counter(name)));
            names.collect()
        };
        let skips = Skip::ALL.map(Skip::name);
        let (compared, equal, triples) =
            (counter("compared"), counter("equal"), counter("triples"));
        let mut paths = paths(results);
        flag(&mut paths, triples);
        paths.sort_by_key(|row| {
            let excess = i128::from(row.candidate_only) - i128::from(row.noise_only);
            (!row.flagged, -excess, row.path.clone())
        });
        let mut scores = below("score.");
        if counter("unscored") > 0 {
            scores.insert("unscored".to_owned(), counter("unscored"));
        }
        let answers = |mark: &str| counter(&format!("answers.{mark}"));
        let excess = share(answers("candidate_only"), triples)
            .zip(share(answers("noise_only"), triples))
            .map(|(candidate, noise)| candidate - noise);
        Self {
            service: service.to_owned(),
            candidate: candidate.to_owned(),
            state: results.get("state").cloned().unwrap_or_default(),
            books: Books {
                read: counter("read"),
                counted: counter("counted"),
                kept: counter("kept"),
                skipped: named(&skips)
                    .into_iter()
                    .filter(|(_, count)| *count > 0)
                    .collect(),
                dead: counter("dead"),
                trimmed_pending: counter("trimmed_pending"),
                pending,
                waiting,
                lost_unread: lost(results),
            },
            pairs: named(&["both_ok", "candidate_bad_only", "base_bad_only", "both_bad"]),
            classes: below("class."),
            base_classes: below("base_class."),
            compared,
            equal,
            match_rate: share(equal, compared),
            triples,
            excess_mismatch: excess,
            paths,
            latency: latency(results),
            scores,
            labels: below("label."),
            agreement: Vec::new(),
            findings: Findings::of(results),
            examples,
            shipped: shipped
                .iter()
                .filter_map(|(field, value)| Some((field.clone(), value.parse().ok()?)))
                .collect(),
        }
    }
}

fn number(text: Option<&String>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn paths(results: &Fields) -> Vec<PathRow> {
    let rows = results.keys().filter_map(|field| {
        let path = field.strip_prefix("path.")?.strip_suffix(".both")?;
        let mark = |mark: &str| number(results.get(&format!("path.{path}.{mark}")));
        Some(PathRow {
            path: path.to_owned(),
            candidate_only: mark("candidate_only"),
            noise_only: mark("noise_only"),
            both: mark("both"),
            flagged: false,
        })
    });
    rows.collect()
}

/// Says which differences are the candidate's doing.
fn flag(rows: &mut [PathRow], triples: u64) {
    let paths = rows.iter().map(|row| {
        let marks = Marks {
            candidate_only: row.candidate_only,
            noise_only: row.noise_only,
            both: row.both,
        };
        (row.path.as_str().into(), marks)
    });
    let tally = Tally {
        triples,
        paths: paths.collect(),
        ..Tally::default()
    };
    let suspects = ebh::suspects(&tally);
    for row in rows {
        row.flagged = suspects.iter().any(|suspect| *suspect.path == *row.path);
    }
}

/// Records that were trimmed before anybody read them: numbers that were counted and never seen,
/// over all lives of gateways.
#[must_use]
pub fn lost(results: &Fields) -> u64 {
    let lives = results.keys().filter_map(|field| {
        let life = field.strip_prefix("gateway.")?.strip_suffix(".high")?;
        let of = |what: &str| number(results.get(&format!("gateway.{life}.{what}")));
        Some(
            (of("high") + 1)
                .saturating_sub(of("low"))
                .saturating_sub(of("seen")),
        )
    });
    lives.sum()
}

fn latency(results: &Fields) -> Option<Latency> {
    let buckets = |version: &str| -> Vec<(u16, u64)> {
        let prefix = format!("time.{version}.");
        let buckets = results.iter().filter_map(|(field, value)| {
            let bucket = field.strip_prefix(&prefix)?.parse().ok()?;
            Some((bucket, value.parse().ok()?))
        });
        let mut buckets: Vec<_> = buckets.collect();
        buckets.sort_unstable();
        buckets
    };
    let quantiles = |buckets: &[(u16, u64)]| -> Option<[f64; 3]> {
        let at = |q: f64| histogram::quantile(buckets, q).map(|us| us / 1000.0);
        Some([at(0.5)?, at(0.9)?, at(0.99)?])
    };
    let mut ratios: Vec<(i32, u64)> = (results.iter())
        .filter_map(|(field, value)| {
            let step = field.strip_prefix("ratio.")?.parse().ok()?;
            Some((step, value.parse().ok()?))
        })
        .collect();
    ratios.sort_unstable();
    let pairs: u64 = ratios.iter().map(|(_, count)| count).sum();
    let mut below = 0;
    let middle = ratios.iter().find(|(_, count)| {
        below += count;
        2 * below >= pairs
    })?;
    Some(Latency {
        pairs,
        candidate_ms: quantiles(&buckets("candidate"))?,
        base_ms: quantiles(&buckets("base"))?,
        ratio: (f64::from(middle.0) / STEPS).exp2(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(fields: &[(&str, &str)]) -> Picture {
        let fields = fields
            .iter()
            .map(|(f, v)| ((*f).to_owned(), (*v).to_owned()));
        let none = Fields::new();
        Picture::of(
            ("ner", "v2"),
            &fields.collect(),
            &none,
            (None, 2),
            Vec::new(),
        )
    }

    #[test]
    fn books_say_what_became_of_every_record() {
        let books = picture(&[
            ("read", "20"),
            ("counted", "10"),
            ("skipped_age", "5"),
            ("dead", "2"),
            ("trimmed_pending", "1"),
            ("gateway.g-1.7.low", "1"),
            ("gateway.g-1.7.high", "30"),
            ("gateway.g-1.7.seen", "20"),
            ("gateway.g.x.8.low", "41"),
            ("gateway.g.x.8.high", "40"),
            ("gateway.g.x.8.seen", "0"),
        ])
        .books;
        assert!(books.balance(), "{books:?}");
        assert_eq!(books.lost_unread, 10);
        assert_eq!(books.skipped.len(), 1);
    }

    #[test]
    fn the_worst_path_comes_first() {
        let picture = picture(&[
            ("triples", "200"),
            ("path./a.candidate_only", "30"),
            ("path./a.noise_only", "28"),
            ("path./a.both", "0"),
            ("path./b.c.candidate_only", "20"),
            ("path./b.c.noise_only", "0"),
            ("path./b.c.both", "1"),
        ]);
        let paths: Vec<_> = picture
            .paths
            .iter()
            .map(|row| (row.path.as_str(), row.flagged))
            .collect();
        assert_eq!(paths, [("/b.c", true), ("/a", false)]);
    }

    #[test]
    fn the_middle_of_all_ratios_is_told() {
        let picture = picture(&[
            ("time.candidate.16", "3"),
            ("time.base.0", "3"),
            ("ratio.16", "2"),
            ("ratio.-3", "1"),
        ]);
        let latency = picture.latency.expect("pairs");
        assert_eq!((latency.pairs, latency.ratio), (3, 2.0));
        assert!(latency.candidate_ms[0] > latency.base_ms[0]);
    }
}
