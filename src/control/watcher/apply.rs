//! From what was read to the table in force, and to what is said about it.

use crate::model::config::{Applied, Extent, History, Reading};
use crate::model::decode::{ConfigError, Raw};
use crate::model::keys::{Object, Parsed};
use crate::store::{News, Note, Report};
use crate::telemetry;

use super::read::Found;
use super::{Standing, Watcher, chain, now_ms, now_text, seed};

impl Watcher {
    /// Applies one batch: what is in it takes effect at once or not at all.
    pub(super) fn apply(&mut self, found: Found, extent: Extent) {
        let mut readings = Vec::with_capacity(found.len());
        for (key, (raw, sight)) in found {
            match self.store.keys().parse(&key) {
                Parsed::Object(object) => readings.push(Reading { object, raw, sight }),
                Parsed::BadName => {
                    let applied = match raw {
                        Raw::Absent => self.config.clear_bad_name(&key),
                        _ => self.config.note_bad_name(&key),
                    };
                    self.take(applied);
                }
                Parsed::Other => {}
            }
        }
        let applied = self.config.apply(readings, extent, seed());
        self.take(applied);
    }

    /// Puts into force and says what a batch led to.
    pub(super) fn take(&mut self, applied: Applied) {
        if let Some(table) = applied.table {
            let revision = table.revision;
            self.shared.table.store(table);
            self.shared.status.set_applied_ms(now_ms());
            self.shared.revision.send_replace(revision);
            telemetry::config_applied(revision, &applied.changed);
            let mut note = self.note("config_applied");
            note.push(("revision", revision.to_string()));
            note.push(("why", summary(&applied.changed)));
            self.shared.outbox.note(note);
        }
        self.report(applied.history);
        if let Some(vanished) = applied.vanished {
            self.vanished(vanished);
        }
        self.snapshot
            .wanted_if(!applied.changed.is_empty() || applied.vanished.is_some());
        self.publish_errors(applied.errors_new, applied.errors_gone);
        self.full |= applied.suspicious;
    }

    /// Tells the history what was seen to change. What changed while nobody watched is no news.
    fn report(&self, history: History) {
        if !self.has_read_all || history.changes.is_empty() {
            return;
        }
        let gateway = self.options.instance.clone();
        self.shared.outbox.add(News {
            reports: vec![Report {
                name: format!("{gateway}-{:016x}", seed()),
                gateway,
                revision: self.shared.table.load().revision,
                history,
            }],
            ..News::default()
        });
    }

    fn vanished(&self, vanished: bool) {
        self.shared.status.set_vanished(vanished);
        let mut note = self.note("config_vanished");
        if vanished {
            let objects = self.config.known_count();
            telemetry::config_vanished(objects);
            note.push((
                "why",
                format!("all {objects} known keys are gone without being deleted by name"),
            ));
        } else {
            telemetry::config_vanished_over();
            note.push(("why", "over".to_owned()));
        }
        self.shared.outbox.note(note);
    }

    fn publish_errors(&mut self, found: Vec<ConfigError>, gone: Vec<String>) {
        if found.is_empty() && gone.is_empty() {
            return;
        }
        let mut news = News::default();
        let since = now_text();
        for place in gone {
            if self.standing.remove(&place).is_some() {
                telemetry::config_mended(&place);
            }
            news.mended.insert(place);
        }
        for error in found {
            telemetry::config_error(&error);
            let place = error.place();
            let mut note = self.note("config_error");
            if let Some(service) = self.service_of(&error.key) {
                note.push(("service", service));
            }
            note.push(("why", error.to_string()));
            news.notes.push(note);
            news.mended.remove(&place);
            news.errors
                .insert(place.clone(), (error.message.clone(), since.clone()));
            let since = since.clone();
            self.standing.insert(place, Standing { error, since });
        }
        self.shared.outbox.add(news);
        self.show_errors();
    }

    fn show_errors(&self) {
        let errors = self.standing.values().cloned().collect();
        self.shared.status.set_errors(errors);
    }

    /// Makes `smartlink:errors` hold exactly what stands, whatever it held before.
    pub(super) async fn publish_all_errors(&mut self) {
        let published = match self.store.published_errors().await {
            Ok(places) => places,
            Err(error) => {
                tracing::debug!(error = chain(&error), "errors unread");
                // Where we may not look, we can still write.
                self.errors_unsure &= !error.is_refused();
                return;
            }
        };
        self.errors_unsure = false;
        let prefix = self.store.keys().prefix();
        let stale = |place: &String| {
            place.starts_with(prefix) && !self.standing.contains_key(place.as_str())
        };
        let errors = self.standing.iter().map(|(place, standing)| {
            let told = (standing.error.message.clone(), standing.since.clone());
            (place.clone(), told)
        });
        self.shared.outbox.add(News {
            errors: errors.collect(),
            mended: published.into_iter().filter(stale).collect(),
            ..News::default()
        });
    }

    /// The beginning of every event of ours.
    pub(super) fn note(&self, kind: &str) -> Note {
        vec![
            ("at_ms", now_ms().to_string()),
            ("kind", kind.to_owned()),
            ("gateway", self.options.instance.clone()),
        ]
    }

    fn service_of(&self, key: &str) -> Option<String> {
        match self.store.keys().parse(key) {
            Parsed::Object(
                Object::Endpoints(name)
                | Object::Weights(name)
                | Object::Service(name)
                | Object::Shadow(name)
                | Object::Rollout(name)
                | Object::Pilot(name),
            ) => Some(name.to_string()),
            _ => None,
        }
    }
}

/// What changed, in a line of bounded length.
fn summary(changed: &[String]) -> String {
    const NAMED: usize = 20;
    let named = changed.get(..NAMED).unwrap_or(changed).join(", ");
    match changed.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
