//! `history` and `undo`: the last changes of the configuration, and taking them back.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use super::write::{self, Row};
use super::{Error, redis_options};
use crate::model::change::{Change, HIDDEN, TOO_LONG};
use crate::model::keys::{Keys, Object, Parsed};
use crate::model::name::Name;
use crate::settings;
use crate::store::{self, Changed, HISTORY_MAX, HistoryEntry, Store, Wish};

/// Everything that changed at once.
#[derive(Debug, Serialize)]
struct Past {
    at_ms: u64,
    /// Who changed it, where that verb said so.
    who: Option<String>,
    /// The gateway that saw it, where no verb wrote it.
    gateway: Option<String>,
    /// That gateway's revision since then.
    revision: Option<u64>,
    fields: Vec<Row>,
    #[serde(skip)]
    name: String,
}

/// Prints the last changes.
pub(super) fn history(verb: &settings::History) -> Result<ExitCode, Error> {
    let options = redis_options(&verb.redis, &format!("history-{}", std::process::id()));
    let past = write::with_store(&options, async |store| read(store).await)?;
    let past = of_service(past, &options.keys, verb.service.as_ref());
    show(past, usize::from(verb.last), verb.json)?;
    Ok(ExitCode::SUCCESS)
}

fn show(mut past: Vec<Past>, last: usize, json: bool) -> Result<(), Error> {
    past.truncate(last);
    super::print(&if json {
        let json = serde_json::to_string_pretty(&past).expect("texts and numbers are JSON");
        format!("{json}\n")
    } else if past.is_empty() {
        "no changes\n".to_owned()
    } else {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let now_ms = u64::try_from(now_ms).unwrap_or_default();
        past.iter().map(|past| past.lines(now_ms)).collect()
    })
}

/// Takes back the last changes, where what they wrote still stands.
pub(super) fn undo(verb: &settings::Undo) -> Result<ExitCode, Error> {
    let options = redis_options(&verb.redis, &format!("undo-{}", std::process::id()));
    let past = write::with_store(&options, async |store| read(store).await)?;
    let mut past = of_service(past, &options.keys, verb.service.as_ref());
    if verb.list {
        show(past, usize::from(verb.last).max(10), verb.json)?;
        return Ok(ExitCode::SUCCESS);
    }
    past.truncate(usize::from(verb.last));
    let done = write::with_store(&options, async |store| take_back(store, &past, verb).await)?;
    let (rows, why) = match done {
        Ok(rows) => (rows, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    if verb.json {
        let written = why.is_none() && !verb.dry_run;
        let json = serde_json::json!({"written": written, "why": why, "fields": rows});
        super::print(&format!("{json:#}\n"))?;
    } else {
        super::print(&rows.iter().map(Row::line).collect::<String>())?;
    }
    if let Some(why) = &why {
        eprintln!("smartlink: {why}");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// What was written, or why nothing was.
async fn take_back(
    store: &Store,
    past: &[Past],
    verb: &settings::Undo,
) -> Result<Result<Vec<Row>, String>, store::Error> {
    let keys = store.keys();
    let tokens = if past.iter().any(|it| it.fields.iter().any(Row::is_of_token)) {
        tokens(store).await?
    } else {
        Vec::new()
    };
    let wishes = match backwards(keys, past, &tokens) {
        Ok(wishes) => wishes,
        Err(why) => return Ok(Err(why)),
    };
    if let Some(why) = refused(store, &wishes).await? {
        return Ok(Err(why));
    }
    let changes = wishes.iter().flat_map(|wish| &wish.changes);
    let rows = changes.map(|change| Row::of(keys, change)).collect();
    if verb.dry_run {
        return Ok(Ok(rows));
    }
    Ok(match write::write(store, &wishes).await? {
        Changed::All => Ok(rows),
        Changed::Nothing { key, field, stands } => {
            let other = write::other(keys, &key, field.as_deref(), stands.as_deref());
            Err(format!(
                "{other}, not what that change wrote: nothing is written"
            ))
        }
    })
}

/// Why it must not be written: a gateway would refuse it, or something else stands there already.
async fn refused(store: &Store, wishes: &[Wish]) -> Result<Option<String>, store::Error> {
    let of: BTreeSet<Object> = wishes.iter().map(|wish| wish.object.clone()).collect();
    let objects: Vec<Object> = of.iter().cloned().collect();
    let mut all = match write::read(store, &objects).await? {
        Ok(all) => all,
        Err(why) => return Ok(Some(why)),
    };
    for Change {
        object,
        field,
        old,
        new,
    } in wishes.iter().flat_map(|wish| &wish.changes)
    {
        let fields = all.entry(object.clone()).or_default();
        if fields.get(field) != old.as_ref() {
            let key = store.keys().object(object);
            let stands = fields.get(field).map(String::as_str);
            let other = write::other(store.keys(), &key, Some(field), stands);
            return Ok(Some(format!(
                "{other}, not what that change wrote: nothing is written"
            )));
        }
        match new {
            Some(text) => drop(fields.insert(field.clone(), text.clone())),
            None => drop(fields.remove(field)),
        }
    }
    all.retain(|_, fields| !fields.is_empty());
    match write::read(store, &write::beside(&of, &all)).await? {
        Ok(beside) => all.extend(beside),
        Err(why) => return Ok(Some(why)),
    }
    let mistakes = write::mistakes(store.keys(), &all, &of);
    let first = mistakes.first();
    Ok(first.map(|mistake| format!("a gateway would refuse it: {mistake}")))
}

/// A text of the history.
type Text<'p> = Option<&'p str>;

/// The wishes that lead back to before these changes, the newest of which comes first.
fn backwards(keys: &Keys, past: &[Past], tokens: &[Object]) -> Result<Vec<Wish>, String> {
    if past.is_empty() {
        return Err("there is no change to take back".to_owned());
    }
    // By field: what must stand, and what is to stand.
    let mut fields: BTreeMap<(Object, &str), (Text<'_>, Text<'_>)> = BTreeMap::new();
    for row in past.iter().flat_map(|past| past.fields.iter().rev()) {
        if row.key == "*" {
            return Err("a change of so many fields is not kept whole: it stays".to_owned());
        }
        let object = object(keys, row, tokens)?;
        let (old, new) = (row.old.as_deref(), row.new.as_deref());
        if [old, new]
            .iter()
            .any(|it| matches!(it, Some(HIDDEN | TOO_LONG)))
        {
            let Row { key, field, .. } = row;
            return Err(format!(
                "{key} {field}: the history does not keep this text, so it cannot write it back: \
                 nothing is written"
            ));
        }
        fields
            .entry((object, &row.field))
            .and_modify(|(_, back)| *back = old)
            .or_insert((new, old));
    }
    let mut wishes: Vec<Wish> = Vec::new();
    for ((object, field), (old, new)) in fields {
        if old == new {
            continue;
        }
        let change = Change {
            object: object.clone(),
            field: field.to_owned(),
            old: old.map(str::to_owned),
            new: new.map(str::to_owned),
        };
        match wishes.last_mut().filter(|wish| wish.object == object) {
            Some(wish) => wish.changes.push(change),
            None => wishes.push(Wish {
                object,
                fields: None,
                changes: vec![change],
            }),
        }
    }
    match wishes.iter().find(|wish| gives_back(wish)) {
        Some(wish) => Err(format!(
            "{}: an undo takes a token away that was made, and never gives back what one may do: \
             nothing is written",
            keys.shown(&wish.object)
        )),
        None => Ok(wishes),
    }
}

/// Whether a wish is about a token and leaves it there: what a change took from it may have been
/// revoked. A token without services is none.
fn gives_back(wish: &Wish) -> bool {
    let goes = |change: &Change| change.field == "services" && change.new.is_none();
    matches!(wish.object, Object::Token(_)) && !wish.changes.iter().any(goes)
}

/// The object that a row is about; of a token, whose key is cut short, among those that stand.
fn object(keys: &Keys, row: &Row, tokens: &[Object]) -> Result<Object, String> {
    if let Parsed::Object(object) = keys.parse(&row.key) {
        return Ok(object);
    }
    let mut fitting = tokens.iter().filter(|it| keys.shown(it) == row.key);
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Ok(only.clone()),
        _ => Err(format!(
            "{}: no token stands there, and an undo gives none back: the history keeps the first \
             digits of its hash only: nothing is written",
            row.key
        )),
    }
}

/// The tokens that stand.
async fn tokens(store: &Store) -> Result<Vec<Object>, store::Error> {
    let mut scan = store::Scan::default();
    let mut found = BTreeSet::new();
    loop {
        for key in store.scan(&mut scan).await? {
            if let Parsed::Object(object @ Object::Token(_)) = store.keys().parse(&key) {
                found.insert(object);
            }
        }
        if scan.is_at_start() {
            return Ok(found.into_iter().collect());
        }
    }
}

/// All changes that are kept, the newest first.
async fn read(store: &Store) -> Result<Vec<Past>, store::Error> {
    let entries = store.history(u64::from(HISTORY_MAX)).await?;
    Ok(group(entries))
}

fn group(entries: Vec<HistoryEntry>) -> Vec<Past> {
    let is_full = entries.len() >= usize::try_from(HISTORY_MAX).unwrap_or(usize::MAX);
    let mut past: Vec<Past> = Vec::new();
    for mut entry in entries {
        let mut take = |field: &str| entry.remove(field);
        let name = take("change").unwrap_or_default();
        let row = Row {
            key: take("key").unwrap_or_default(),
            field: take("field").unwrap_or_default(),
            old: take("old"),
            new: take("new"),
        };
        match past.last_mut().filter(|last| last.name == name) {
            Some(last) => last.fields.insert(0, row),
            None => past.push(Past {
                at_ms: take("at_ms")
                    .and_then(|text| text.parse().ok())
                    .unwrap_or_default(),
                who: take("who"),
                gateway: take("gateway"),
                revision: take("revision").and_then(|text| text.parse().ok()),
                fields: vec![row],
                name,
            }),
        }
    }
    // Of the oldest a part may be gone.
    if is_full {
        past.pop();
    }
    past
}

fn of_service(mut past: Vec<Past>, keys: &Keys, service: Option<&Name>) -> Vec<Past> {
    if let Some(service) = service {
        let touches = |row: &Row| match keys.parse(&row.key) {
            Parsed::Object(object) => write::service_of(&object) == Some(service.clone()),
            _ => false,
        };
        past.retain(|past| past.fields.iter().any(touches));
    }
    past
}

impl Row {
    fn is_of_token(&self) -> bool {
        self.key.ends_with('…')
    }
}

impl Past {
    fn lines(&self, now_ms: u64) -> String {
        let age = age(now_ms.saturating_sub(self.at_ms));
        let by = match (&self.who, &self.gateway) {
            (Some(who), _) => format!("by {who}"),
            (None, Some(gateway)) => {
                let revision = self.revision.unwrap_or_default();
                format!("seen by {gateway}, revision {revision}")
            }
            (None, None) => "by somebody".to_owned(),
        };
        let mut lines = format!("{age} ago, {by}\n");
        for row in &self.fields {
            if row.key == "*" {
                lines.push_str("  and more that is not kept\n");
            } else {
                // Writing into a text cannot fail.
                let _written = write!(lines, "  {}", row.line());
            }
        }
        lines
    }
}

/// A time in the largest unit of which there is one.
fn age(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, field: &str, old: Option<&str>, new: Option<&str>) -> Row {
        Row {
            key: format!("smartlink:{key}"),
            field: field.to_owned(),
            old: old.map(str::to_owned),
            new: new.map(str::to_owned),
        }
    }

    fn past(fields: Vec<Row>) -> Past {
        Past {
            at_ms: 0,
            who: None,
            gateway: None,
            revision: None,
            fields,
            name: String::new(),
        }
    }

    fn back(past: &[Past]) -> Result<Vec<String>, String> {
        let keys = Keys::new("smartlink:");
        let wishes = backwards(&keys, past, &[])?;
        let changes = wishes.iter().flat_map(|wish| &wish.changes);
        Ok(changes
            .map(|change| Row::of(&keys, change).line())
            .collect())
    }

    #[test]
    fn several_changes_are_taken_back_to_before_the_oldest() {
        let newest = past(vec![row("weights:a", "base", Some("80"), Some("70"))]);
        let older = past(vec![
            row("weights:a", "base", Some("90"), Some("80")),
            row("weights:a", "v", None, Some("1")),
        ]);
        assert_eq!(
            back(&[newest, older]).expect("it can be"),
            [
                "~ smartlink:weights:a base: \"70\" -> \"90\"\n",
                "- smartlink:weights:a v: \"1\"\n",
            ]
        );
        // There and back again is nothing.
        let there = past(vec![row("weights:a", "v", Some("1"), Some("2"))]);
        let again = past(vec![row("weights:a", "v", Some("2"), Some("1"))]);
        assert_eq!(back(&[again, there]), Ok(Vec::new()));
    }

    #[test]
    fn what_is_not_kept_is_not_written() {
        for (fields, part) in [
            (
                row("alert:a", "url", Some(HIDDEN), Some(HIDDEN)),
                "does not keep",
            ),
            (
                row("route:a", "path_regex", None, Some(TOO_LONG)),
                "does not keep",
            ),
            (
                row("token:12345678…", "name", None, Some("a")),
                "first digits",
            ),
        ] {
            let why = back(&[past(vec![fields])]).expect_err(part);
            assert!(why.contains(part), "{why}");
        }
        assert!(back(&[]).is_err());
        let mut many = row("", "", None, None);
        many.key = "*".to_owned();
        assert!(back(&[past(vec![many])]).is_err());
    }

    #[test]
    fn what_a_token_may_do_is_never_given_back() {
        let keys = Keys::new("smartlink:");
        let token = Object::Token("12345678".repeat(8).into());
        let back = |rows: Vec<Row>| backwards(&keys, &[past(rows)], std::slice::from_ref(&token));
        let row = |field, old, new| row("token:12345678…", field, old, new);
        let made = vec![
            row("name", None, Some("a")),
            row("services", None, Some("*")),
        ];
        assert_eq!(back(made).expect("it goes").len(), 1);
        for changed in [
            row("enabled", None, Some("off")),
            row("expires", Some("2027-01-31"), Some("2026-01-31")),
            row("services", Some("*"), Some("ocr")),
            row("services", Some("*"), None),
        ] {
            let why = back(vec![changed]).expect_err("it stays");
            assert!(why.contains("never gives back"), "{why}");
        }
    }

    #[test]
    fn entries_of_one_change_are_one() {
        let entry = |change: &str, field: &str| -> HistoryEntry {
            [("change", change), ("field", field), ("at_ms", "5")]
                .map(|(name, text)| (name.to_owned(), text.to_owned()))
                .into()
        };
        // The newest first, as Redis gives them.
        let past = group(vec![entry("b", "z"), entry("a", "y"), entry("a", "x")]);
        let fields: Vec<Vec<&str>> = past
            .iter()
            .map(|it| it.fields.iter().map(|row| row.field.as_str()).collect())
            .collect();
        assert_eq!(fields, [vec!["z"], vec!["x", "y"]]);
        assert_eq!(past[0].at_ms, 5);
    }
}
