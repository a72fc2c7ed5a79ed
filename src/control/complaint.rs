//! What stands in `smartlink:errors` of one object, and cannot be found by reading the configuration:
//! a secret that this gateway has not, a receiver that takes nothing.

use std::time::Duration;

use tokio::time::Instant;

use super::outbox::Outbox;
use crate::model::decode::ConfigError;
use crate::store::News;

/// How often what stands there is written again: flushes take it away.
const REMIND: Duration = Duration::from_secs(15);

/// Says that a secret is not where its setting says it is.
pub(super) fn no_secret(name: &str) -> String {
    format!("neither the variable {name} of this gateway nor {name}_FILE holds a secret")
}

/// At most one mistake, as it was written.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    standing: Option<Standing>,
}

#[derive(Debug)]
struct Standing {
    error: ConfigError,
    since: String,
    written: Instant,
}

impl Complaint {
    /// The field that it is about.
    pub(super) fn field(&self) -> Option<&str> {
        self.standing.as_ref()?.error.field.as_deref()
    }

    /// Names a mistake in place of the one before.
    pub(super) fn name(&mut self, outbox: &Outbox, error: ConfigError, now: Instant) {
        let recent = |standing: &Standing| {
            standing.error == error && now.duration_since(standing.written) < REMIND
        };
        if self.standing.as_ref().is_some_and(recent) {
            return;
        }
        let mut news = News::default();
        let mut since = jiff::Timestamp::now().to_string();
        if let Some(before) = self.standing.take() {
            if before.error.place() == error.place() {
                since = before.since;
            } else {
                news.mended.insert(before.error.place());
            }
        }
        let told = (error.message.clone(), since.clone());
        news.errors.insert(error.place(), told);
        outbox.add(news);
        self.standing = Some(Standing {
            error,
            since,
            written: now,
        });
    }

    /// Writes what stands once more, where that was long ago.
    pub(super) fn remind(&mut self, outbox: &Outbox, now: Instant) {
        let error = self.standing.as_ref();
        if let Some(error) = error.map(|standing| standing.error.clone()) {
            self.name(outbox, error, now);
        }
    }

    /// Takes it away.
    pub(super) fn mend(&mut self, outbox: &Outbox) {
        if let Some(standing) = self.standing.take() {
            outbox.add(News {
                mended: [standing.error.place()].into(),
                ..News::default()
            });
        }
    }
}
