//! `shift`: divides the requests of a service between its versions, where what stands is what was
//! seen, and says how to undo it.

use std::collections::BTreeSet;
use std::process::ExitCode;

use serde::Serialize;

use super::{Error, redis_options, write};
use crate::model::change;
use crate::model::decode::{ConfigError, Fields};
use crate::model::keys::Object;
use crate::model::shell::word;
use crate::settings::{self, Standing};
use crate::store::{self, Changed, Store, Wish};

/// What came of it.
enum Outcome {
    /// What stood, if it did, and what stands.
    Written(Option<Fields>, Fields),
    /// What stands is not what `--if` says.
    Other(Option<Fields>),
    /// A gateway would refuse it.
    Refused(Vec<ConfigError>),
    /// It cannot be read, and why.
    Unreadable(String),
    /// Somebody else was faster, again and again.
    Raced,
}

/// Reads, judges and writes; exit 1 where nothing was written.
pub(super) fn run(shift: &settings::Shift) -> Result<ExitCode, Error> {
    let options = redis_options(&shift.redis, &format!("shift-{}", std::process::id()));
    let outcome = write::with_store(&options, async |store| attempt(store, shift).await)?;
    let key = options.keys.object(&Object::Weights(shift.service.clone()));
    let report = Report::of(&key, &outcome);
    if shift.json {
        let json = serde_json::to_string_pretty(&report).expect("texts are JSON");
        super::print(&format!("{json}\n"))?;
    }
    match &outcome {
        Outcome::Written(..) if !shift.json => super::print(&report.lines())?,
        Outcome::Other(stands) if !shift.json => {
            eprintln!(
                "smartlink: {key}: not as --if says: {} stands there",
                shown(stands.as_ref())
            );
        }
        Outcome::Refused(mistakes) => write::complain(mistakes),
        Outcome::Unreadable(why) => eprintln!("smartlink: {why}"),
        Outcome::Raced => eprintln!("smartlink: {}", raced(&key)),
        _ => {}
    }
    Ok(match outcome {
        Outcome::Written(..) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

async fn attempt(store: &Store, shift: &settings::Shift) -> Result<Outcome, store::Error> {
    let name = &shift.service;
    let weights = Object::Weights(name.clone());
    let objects = [
        weights.clone(),
        Object::Endpoints(name.clone()),
        Object::Service(name.clone()),
        Object::Defaults,
    ];
    let new: Fields = shift.weights.iter().cloned().collect();
    for _ in 0..write::RACES_MAX {
        let mut all = match write::read(store, &objects).await? {
            Ok(all) => all,
            Err(why) => return Ok(Outcome::Unreadable(why)),
        };
        let old = all.insert(weights.clone(), new.clone());
        if !(shift.standing.as_ref()).is_none_or(|wanted| stands(wanted, old.as_ref())) {
            return Ok(Outcome::Other(old));
        }
        let of = BTreeSet::from([weights.clone()]);
        let mistakes = write::mistakes(store.keys(), &all, &of);
        if !mistakes.is_empty() {
            return Ok(Outcome::Refused(mistakes));
        }
        let before = old.clone().unwrap_or_default();
        let wish = Wish {
            object: weights.clone(),
            fields: Some(before.len()),
            changes: change::difference(&weights, &before, &new),
        };
        // Also where nothing changes, what stands is looked at in the script.
        if let Changed::All = write::write(store, &[wish]).await? {
            return Ok(Outcome::Written(old, new));
        }
    }
    Ok(Outcome::Raced)
}

/// Whether these weights stand, those of 0 left out on both sides.
fn stands(wanted: &Standing, standing: Option<&Fields>) -> bool {
    let Some(standing) = standing else {
        return wanted.0.is_empty();
    };
    let weight = |text: &str| text.trim().parse().unwrap_or(u64::MAX);
    let positive = |pairs: Vec<(&str, &str)>| -> BTreeSet<(String, u64)> {
        let pairs = pairs
            .into_iter()
            .map(|(v, text)| (v.to_owned(), weight(text)));
        pairs.filter(|(_, weight)| *weight > 0).collect()
    };
    let wanted: Vec<(&str, &str)> = wanted.0.iter().map(|(v, w)| (&**v, &**w)).collect();
    let standing = standing.iter().map(|(v, w)| (&**v, &**w)).collect();
    !wanted.is_empty() && positive(wanted) == positive(standing)
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report<'o> {
    key: &'o str,
    written: bool,
    old: Option<&'o Fields>,
    new: Option<&'o Fields>,
    undo: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mistakes: Vec<String>,
}

impl<'o> Report<'o> {
    fn of(key: &'o str, outcome: &'o Outcome) -> Self {
        let mut report = Self {
            key,
            written: false,
            old: None,
            new: None,
            undo: None,
            mistakes: Vec::new(),
        };
        match outcome {
            Outcome::Written(old, new) => {
                report.written = true;
                report.old = old.as_ref();
                report.new = Some(new);
                report.undo = Some(undo(key, old.as_ref(), new));
            }
            Outcome::Other(stands) => report.old = stands.as_ref(),
            Outcome::Refused(mistakes) => {
                report.mistakes = mistakes.iter().map(ToString::to_string).collect();
            }
            Outcome::Unreadable(why) => report.mistakes.push(why.clone()),
            Outcome::Raced => report.mistakes.push(raced(key)),
        }
        report
    }

    fn lines(&self) -> String {
        format!(
            "{}: {} -> {}\nundo: {}\n",
            self.key,
            shown(self.old),
            shown(self.new),
            self.undo.as_deref().unwrap_or_default()
        )
    }
}

fn raced(key: &str) -> String {
    format!("{key}: somebody writes it all the time")
}

/// Weights as a person would type them.
fn shown(weights: Option<&Fields>) -> String {
    let Some(weights) = weights.filter(|weights| !weights.is_empty()) else {
        return "nothing".to_owned();
    };
    let pairs: Vec<String> = weights.iter().map(|(v, w)| format!("{v} {w}")).collect();
    pairs.join(" ")
}

/// The command that divides requests as before.
fn undo(key: &str, old: Option<&Fields>, new: &Fields) -> String {
    let Some(old) = old else {
        return format!("redis-cli DEL {}", word(key));
    };
    let mut words = vec!["redis-cli".to_owned(), "HSET".to_owned(), word(key)];
    // What stood may be any text: somebody wrote it past every check.
    words.extend(old.iter().flat_map(|(v, w)| [word(v), word(w)]));
    let added = new.keys().filter(|version| !old.contains_key(*version));
    words.extend(added.flat_map(|version| [word(version), "0".to_owned()]));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        let words: Vec<&str> = text.split_whitespace().collect();
        let pairs = words.chunks(2);
        pairs
            .map(|pair| (pair[0].to_owned(), pair[1].to_owned()))
            .collect()
    }

    #[test]
    fn what_stands_is_compared_without_weights_of_0() {
        for (wanted, standing, equal) in [
            ("base 100", Some("base 100"), true),
            ("base 100", Some("base 100 candidate 0"), true),
            ("base 100 candidate 0", Some("base 100"), true),
            ("base 100", Some("base 90 candidate 10"), false),
            ("base 90", Some("base 9 candidate 1"), false),
            ("base 100", None, false),
            ("", None, true),
            ("", Some("base 1"), false),
            ("base 1", Some("base lots"), false),
        ] {
            let wanted = Standing(fields(wanted).into_iter().collect());
            let standing = standing.map(fields);
            assert_eq!(stands(&wanted, standing.as_ref()), equal, "{wanted:?}");
        }
    }

    #[test]
    fn the_line_that_undoes_divides_as_before() {
        let key = "smartlink:weights:a";
        for (old, new, line) in [
            (
                Some("base 100"),
                "base 90 candidate 10",
                "redis-cli HSET smartlink:weights:a base 100 candidate 0",
            ),
            (
                Some("base 90 candidate 10"),
                "base 1",
                "redis-cli HSET smartlink:weights:a base 90 candidate 10",
            ),
            (None, "base 1", "redis-cli DEL smartlink:weights:a"),
        ] {
            let old = old.map(fields);
            assert_eq!(undo(key, old.as_ref(), &fields(new)), line);
        }
        let old: Fields = [("base".to_owned(), "1; touch /tmp/x #".to_owned())].into();
        assert_eq!(
            undo("{it's}:weights:a", Some(&old), &fields("base 3")),
            r"redis-cli HSET '{it'\''s}:weights:a' base '1; touch /tmp/x #'"
        );
    }
}
