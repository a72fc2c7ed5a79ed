//! One record: skipped, dead, or asked again of the candidate, and what that comes to.

use std::collections::BTreeMap;

use super::call::Replay;
use super::desk::Job;
use super::gate::Failure;
use super::lane::Lane;
use super::meter::Asked;
use super::scorer::Question;
use crate::judge::compare::{Ending, Pair, Verdict, compare};
use crate::model::name::Name;
use crate::review::{self, Chosen, Example, Heard, Skip, Times};
use crate::shadow::{ChosenBy, Record};
use crate::store::{Finding, Letter, Mark, Offer, Taken};

/// A record handed out more often than this kills who works on it.
const DELIVERIES_MAX: u64 = 3;
/// The most kinds an example is said to be one of.
const KINDS_MAX: usize = 32;

/// The answers to one request.
struct Answers {
    base: Heard,
    candidate: Heard,
    /// The second answer of `base`.
    again: Option<Heard>,
    /// Where the candidate was asked.
    url: String,
}

/// What a record comes to; `None` where the worker is to end before that is known, so that the
/// record stays pending.
pub(super) async fn examine(lane: &Lane, taken: &Taken) -> Option<Finding> {
    if taken.deliveries > DELIVERIES_MAX {
        return Some(dead(
            taken,
            "handed out again and again, and never counted".to_owned(),
        ));
    }
    let record: Record = match serde_json::from_slice(&taken.record) {
        Ok(record) => record,
        Err(error) => return Some(dead(taken, format!("no record: {error}"))),
    };
    let job = lane.job();
    let max_age = u64::try_from(job.policy.max_age.as_millis()).unwrap_or(u64::MAX);
    if let Some(skip) = review::skip(&record, lane.mode(), lane.now_ms(), max_age) {
        return Some(skipped(skip));
    }
    let Some(replay) = Replay::of(&record, &job.settings) else {
        return Some(dead(taken, "the record makes no request".to_owned()));
    };
    let answers = ask(lane, &record, &replay).await?;
    // The rules as they are now: an operator mends them while records are compared.
    let job = lane.job();
    Some(weigh(lane, &job, &record, &replay, &answers).await)
}

fn dead(taken: &Taken, reason: String) -> Finding {
    Finding {
        counts: vec![("dead".to_owned(), 1)],
        letter: Some(Letter {
            reason,
            deliveries: taken.deliveries,
            record: String::from_utf8_lossy(&taken.record).into_owned(),
        }),
        ..Finding::default()
    }
}

fn skipped(skip: Skip) -> Finding {
    Finding {
        counts: vec![(skip.name().to_owned(), 1)],
        ..Finding::default()
    }
}

/// Asks the candidate, and `base` again where that is wanted, in either order; `None` where the
/// worker is to end.
async fn ask(lane: &Lane, record: &Record, replay: &Replay) -> Option<Answers> {
    let base = Heard::recorded(record);
    let again = record.chosen_by == ChosenBy::Sample
        && base.ending == Ending::Whole
        && review::asks_base_again(&record.id, lane.triples());
    let candidate_first = !again || review::asks_candidate_first(&record.id);
    let mut second = None;
    if !candidate_first {
        second = Some(ask_base(lane, replay).await);
    }
    let (candidate, url) = ask_candidate(lane, replay).await?;
    if again && candidate_first {
        second = Some(ask_base(lane, replay).await);
    }
    Some(Answers {
        base,
        candidate,
        again: second,
        url,
    })
}

async fn ask_base(lane: &Lane, replay: &Replay) -> Heard {
    let job = lane.job();
    let base = Name::parse("base").expect("base is a name");
    let at = job.endpoints(&base);
    let heard = lane.caller().call(replay, &job, &at).await.heard;
    note(lane, Asked::Base, &heard);
    heard
}

fn note(lane: &Lane, asked: Asked, heard: &Heard) {
    let mut status = lane.status_mut();
    status.meter.call(asked, heard.ending, heard.took);
}

/// The candidate's answer and where it was asked; waits while the candidate is away, and for the
/// turn that rate and load allow.
async fn ask_candidate(lane: &Lane, replay: &Replay) -> Option<(Heard, String)> {
    loop {
        lane.may_call().await?;
        let job = lane.job();
        let at = job.endpoints(lane.candidate());
        if at.is_empty() {
            lane.gate().close();
            continue;
        }
        let called = lane.caller().call(replay, &job, &at).await;
        note(lane, Asked::Candidate, &called.heard);
        if called.heard.ending != Ending::Connect {
            lane.gate().reached();
            return Some((called.heard, called.url));
        }
        match lane.gate().failed() {
            Failure::Result | Failure::LastResult => return Some((called.heard, called.url)),
            Failure::Away => {}
        }
    }
}

/// What the answers come to.
async fn weigh(
    lane: &Lane,
    job: &Job,
    record: &Record,
    replay: &Replay,
    answers: &Answers,
) -> Finding {
    let base = answers.base.side();
    let verdict = compare(&job.rules, &base, &answers.candidate.side());
    let noise = answers.again.as_ref();
    let noise = noise.map(|again| compare(&job.rules, &base, &again.side()));
    let mut finding = Finding {
        counts: vec![("counted".to_owned(), 1)],
        ..Finding::default()
    };
    if record.chosen_by == ChosenBy::Sample {
        let times = answers
            .again
            .as_ref()
            .and_then(|again| times(answers, again));
        finding
            .counts
            .extend(review::counts(&verdict, noise.as_ref(), times));
        let marks = review::marks(&verdict, noise.as_ref()).into_iter();
        finding.marks = marks
            .map(|it| {
                let mark = match (it.candidate, it.noise) {
                    (true, true) => Mark::Both,
                    (true, false) => Mark::CandidateOnly,
                    (false, _) => Mark::NoiseOnly,
                };
                (it.path, mark)
            })
            .collect();
    } else {
        // What was chosen by how it went is no fair picture of anything.
        finding.counts.push(("kept".to_owned(), 1));
    }
    finding.example = example(lane, job, record, replay, answers, &verdict, noise.as_ref());
    let score = score(lane, job, record, answers, &verdict).await;
    if record.chosen_by == ChosenBy::Sample {
        finding.counts.extend(score.as_ref().map(|score| {
            let counter = score.as_ref().map(|score| review::scored(*score));
            (counter.unwrap_or_else(|_| "unscored".to_owned()), 1)
        }));
    }
    let score = score.and_then(Result::ok);
    finding.offer = offer(lane, job, record, (answers, &verdict, score));
    finding
}

/// Both times, where both ended well.
fn times(answers: &Answers, again: &Heard) -> Option<Times> {
    let whole = [&answers.candidate, again].map(|it| it.ending) == [Ending::Whole; 2];
    whole.then_some(Times {
        candidate: answers.candidate.took,
        base: again.took,
    })
}

/// An example of what is wrong with the candidate here, where anything is.
fn example(
    lane: &Lane,
    job: &Job,
    record: &Record,
    replay: &Replay,
    answers: &Answers,
    verdict: &Verdict,
    noise: Option<&Verdict>,
) -> (Vec<String>, Vec<(&'static str, String)>) {
    let mut kinds = Vec::new();
    if verdict.pair == Pair::CandidateBadOnly {
        kinds.push(format!("class.{}", verdict.candidate.name()));
    }
    let own = noise.and_then(|noise| noise.differences.as_ref());
    let paths = verdict.differences.iter().flat_map(|it| it.keys());
    let paths = paths.filter(|path| own.is_none_or(|own| !own.contains_key(*path)));
    kinds.extend(paths.take(KINDS_MAX).map(|path| format!("path.{path}")));
    if kinds.is_empty() {
        return (kinds, Vec::new());
    }
    let base = Name::parse("base").expect("base is a name");
    let at = job.endpoints(&base);
    let url = at.first().map(|spec| replay.url_at(&spec.target));
    let fields = Example::fields(
        record,
        lane.now_ms(),
        &kinds,
        verdict.differences.as_ref(),
        (&answers.base, &answers.candidate),
        (&url.unwrap_or_default(), &answers.url),
    );
    (kinds, fields)
}

/// By how much the scorer finds the candidate's answer better, -1 to 1; `None` where it is not asked:
/// bad answers need no judge, and what was chosen by how it went is in no counter.
async fn score(
    lane: &Lane,
    job: &Job,
    record: &Record,
    answers: &Answers,
    verdict: &Verdict,
) -> Option<Result<f64, String>> {
    let scorer = job.policy.scorer.as_ref()?;
    if verdict.pair != Pair::BothOk || record.chosen_by != ChosenBy::Sample {
        return None;
    }
    let question = Question {
        record,
        base: &answers.base,
        candidate: &answers.candidate,
    };
    let judge = lane.scorer();
    let said = judge.score(lane.caller(), lane.service(), scorer, question);
    let said = said.await;
    if let Err(why) = &said {
        lane.complain_of_scorer(why);
    }
    Some(said)
}

/// The pair for people, where it is one of those that they are asked about: of good answers only,
/// since bad ones need no judge.
fn offer(
    lane: &Lane,
    job: &Job,
    record: &Record,
    (answers, verdict, score): (&Answers, &Verdict, Option<f64>),
) -> Option<Offer> {
    if verdict.pair != Pair::BothOk {
        return None;
    }
    let share = job.policy.label;
    let paths = verdict.differences.as_ref().map_or(0, BTreeMap::len);
    let is_extreme = paths > 0 && lane.is_extreme(&record.id, paths, share);
    let sampled = record.chosen_by == ChosenBy::Sample;
    let chosen = if sampled && review::is_offered(&record.id, share) {
        Chosen::Random
    } else if is_extreme {
        Chosen::Disagreement
    } else {
        return None;
    };
    let name = format!("{}:{}", record.id, lane.candidate());
    let (base, candidate) = (&answers.base, &answers.candidate);
    let mut pair = review::Pair::of(record, chosen, lane.candidate(), base, candidate);
    pair.score = score;
    Some(Offer {
        fields: pair.fields(&name),
        name,
    })
}
