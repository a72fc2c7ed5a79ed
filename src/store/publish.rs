//! Telling what a change led to: `smartlink:errors` and `smartlink:events`.

use std::collections::{BTreeMap, BTreeSet};

use fred::interfaces::HashesInterface;
use fred::types::Value;

use super::{Error, Report, Store};

/// The most events kept.
const EVENTS_MAX: u32 = 10_000;

/// One entry of the stream of events: field and value.
pub type Note = Vec<(&'static str, String)>;

/// What is to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Place to what is wrong there and since when (RFC 3339).
    pub errors: BTreeMap<String, (String, String)>,
    /// Places whose errors are gone.
    pub mended: BTreeSet<String>,
    /// Events, oldest first.
    pub notes: Vec<Note>,
    /// What the history is to be told, oldest first.
    pub reports: Vec<Report>,
}

impl News {
    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.is_published() && self.reports.is_empty()
    }

    /// Whether nothing but reports is left to tell.
    fn is_published(&self) -> bool {
        self.errors.is_empty() && self.mended.is_empty() && self.notes.is_empty()
    }

    fn into_args(self) -> Vec<String> {
        let mut args = vec![EVENTS_MAX.to_string(), self.errors.len().to_string()];
        for (place, (message, since)) in self.errors {
            args.extend([place, message, since]);
        }
        args.push(self.mended.len().to_string());
        args.extend(self.mended);
        args.push(self.notes.len().to_string());
        for note in self.notes {
            args.push((2 * note.len()).to_string());
            for (field, value) in note {
                args.extend([field.to_owned(), value]);
            }
        }
        args
    }
}

impl Store {
    /// Writes the news but its reports in one go.
    pub async fn publish(&self, news: News) -> Result<(), Error> {
        const STEP: &str = "publish config errors and events";
        if news.is_published() {
            return Ok(());
        }
        let client = self.here()?;
        let keys = vec![self.keys.errors(), self.keys.events()];
        let answer: Value = self
            .scripts
            .publish_changes
            .evalsha_with_reload(client, keys, news.into_args())
            .await
            .map_err(Error::step(STEP))?;
        answer.as_u64().map(drop).ok_or(Error::Answer(STEP))
    }

    /// The places that stand in `smartlink:errors` now.
    pub async fn published_errors(&self) -> Result<Vec<String>, Error> {
        let client = self.here()?;
        client
            .hkeys(self.keys.errors())
            .await
            .map_err(Error::step("read the published config errors"))
    }
}
