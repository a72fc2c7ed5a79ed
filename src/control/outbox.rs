//! News on its way to Redis: what cannot be written now is kept, merged and bounded, and written
//! when Redis is back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::store::{Error, News, Note, Store};

/// Events kept while Redis is away; older ones are dropped first.
const NOTES_HELD: usize = 1000;
/// Reports for the history kept while Redis is away, likewise.
const REPORTS_HELD: usize = 1000;
/// Between two tries while Redis is away.
const RETRY: Duration = Duration::from_millis(500);

/// Where news is dropped; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    news: Mutex<News>,
    added: Notify,
}

impl Outbox {
    /// Adds news; never waits.
    pub fn add(&self, news: News) {
        if news.is_empty() {
            return;
        }
        self.with(|waiting| merge(waiting, news));
        self.shared.added.notify_one();
    }

    /// Adds one event.
    pub fn note(&self, note: Note) {
        self.add(News {
            notes: vec![note],
            ..News::default()
        });
    }

    /// Writes what is added, for as long as the process runs.
    pub async fn run(self, store: Store) {
        loop {
            self.shared.added.notified().await;
            while !self.flush(&store).await {
                sleep(RETRY).await;
            }
        }
    }

    /// Tries once; whether nothing is left to try again.
    pub async fn flush(&self, store: &Store) -> bool {
        let news = self.with(std::mem::take);
        if news.is_empty() {
            return true;
        }
        if let Err(error) = store.publish(news.clone()).await
            && !told_off(&error)
        {
            return self.put_back(news);
        }
        let mut left = News::default();
        for report in news.reports {
            // Those behind one that was not taken keep their order.
            if !left.reports.is_empty() {
                left.reports.push(report);
            } else if let Err(error) = store.record(&report).await
                && !told_off(&error)
            {
                left.reports.push(report);
            }
        }
        self.put_back(left)
    }

    /// Keeps what is left to try again; whether nothing is.
    fn put_back(&self, left: News) -> bool {
        let done = left.is_empty();
        if !done {
            // What came in meanwhile is newer and goes on top.
            self.with(|waiting| {
                let newer = std::mem::replace(waiting, left);
                merge(waiting, newer);
            });
        }
        done
    }

    fn with<T>(&self, act: impl FnOnce(&mut News) -> T) -> T {
        act(&mut self
            .shared
            .news
            .lock()
            .unwrap_or_else(PoisonError::into_inner))
    }
}

/// Whether Redis said no: trying again changes nothing.
fn told_off(error: &Error) -> bool {
    if error.is_refused() {
        tracing::debug!(error = error as &dyn std::error::Error, "news refused");
    }
    error.is_refused()
}

/// Puts newer news on top: the last word about a place counts.
fn merge(news: &mut News, newer: News) {
    for place in newer.mended {
        news.errors.remove(&place);
        news.mended.insert(place);
    }
    for (place, error) in newer.errors {
        news.mended.remove(&place);
        news.errors.insert(place, error);
    }
    news.notes.extend(newer.notes);
    let over = news.notes.len().saturating_sub(NOTES_HELD);
    news.notes.drain(..over);
    news.reports.extend(newer.reports);
    let over = news.reports.len().saturating_sub(REPORTS_HELD);
    news.reports.drain(..over);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(place: &str, message: &str) -> News {
        News {
            errors: [(place.to_owned(), (message.to_owned(), String::new()))].into(),
            ..News::default()
        }
    }

    fn mended(place: &str) -> News {
        News {
            mended: [place.to_owned()].into(),
            ..News::default()
        }
    }

    #[test]
    fn the_last_word_about_a_place_counts() {
        let mut news = error("a", "bad");
        merge(&mut news, mended("a"));
        assert_eq!(news, mended("a"));
        merge(&mut news, mended("a"));
        assert_eq!(news, mended("a"));
        merge(&mut news, error("a", "worse"));
        assert_eq!(news, error("a", "worse"));
    }

    #[test]
    fn old_events_go_first() {
        let mut news = News::default();
        let note = |i: usize| News {
            notes: vec![vec![("kind", i.to_string())]],
            ..News::default()
        };
        for i in 0..NOTES_HELD + 5 {
            merge(&mut news, note(i));
        }
        assert_eq!(news.notes.len(), NOTES_HELD);
        assert_eq!(news.notes.first(), note(5).notes.first());
    }
}
