//! When the snapshot file is read and written.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::{Watcher, chain, seed};
use crate::store::{self, load_snapshot, save_snapshot};
use crate::telemetry;

/// Changes within this time are written together.
const GATHER: Duration = Duration::from_millis(400);

/// The pause between two writings is at least so many times as long as a writing took: with a
/// million tokens each takes seconds, and changes must not keep a core at it.
const PAUSE: u32 = 10;

/// After a failure it is tried again, for the disk may have got room.
const RETRY: Duration = Duration::from_secs(5);

/// What is to be written when.
#[derive(Debug, Default)]
pub(super) struct State {
    due: Option<Instant>,
    began: Option<Instant>,
    not_before: Option<Instant>,
    writing: Option<JoinHandle<Result<(), store::Error>>>,
    failing: bool,
}

impl State {
    /// Something changed.
    pub(super) fn wanted_if(&mut self, wanted: bool) {
        if wanted && self.due.is_none() {
            let due = Instant::now() + GATHER;
            self.due = Some(self.not_before.map_or(due, |rested| rested.max(due)));
        }
    }

    /// Waits until there is something to do.
    pub(super) async fn turn(&mut self) -> Turn {
        if let Some(writing) = &mut self.writing {
            let written = writing.await;
            self.writing = None;
            return Turn::Written(match written {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(chain(&error)),
                Err(error) => Some(error.to_string()),
            });
        }
        match self.due {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
        Turn::Due
    }
}

/// What there is to do.
#[derive(Debug)]
pub(super) enum Turn {
    /// It is time to write.
    Due,
    /// A writing ended, and why where it failed.
    Written(Option<String>),
}

impl Watcher {
    /// Takes what an earlier run left.
    pub(super) fn restore(&mut self) {
        let Some(path) = &self.options.snapshot else {
            return;
        };
        match load_snapshot(path) {
            Ok(None) => {}
            Ok(Some(snapshot)) => {
                let applied = self.config.restore(snapshot, seed());
                self.take(applied);
            }
            Err(error) => telemetry::snapshot_failed(&chain(&error)),
        }
    }

    /// Takes one turn.
    pub(super) fn keep_snapshot(&mut self, turn: Turn) {
        match turn {
            Turn::Due => self.write_snapshot(),
            Turn::Written(failed) => self.snapshot_written(failed),
        }
    }

    /// Writes what is in force, on a thread that may wait for the disk.
    fn write_snapshot(&mut self) {
        self.snapshot.due = None;
        self.snapshot.began = Some(Instant::now());
        let Some(path) = self.options.snapshot.clone() else {
            return;
        };
        let snapshot = self.config.snapshot();
        self.snapshot.writing = Some(tokio::task::spawn_blocking(move || {
            save_snapshot(&path, &snapshot)
        }));
    }

    fn snapshot_written(&mut self, failed: Option<String>) {
        let took = self.snapshot.began.map(|began| began.elapsed());
        let rested = took.map(|took| Instant::now() + PAUSE * took);
        self.snapshot.not_before = rested;
        if let (Some(due), Some(rested)) = (self.snapshot.due, rested) {
            self.snapshot.due = Some(due.max(rested));
        }
        let was_failing = std::mem::replace(&mut self.snapshot.failing, failed.is_some());
        if let Some(why) = failed {
            self.snapshot.due = Some(Instant::now() + RETRY);
            if !was_failing {
                telemetry::snapshot_failed(&why);
            }
        }
    }

    /// Writes once more before the process ends, where something was ever loaded.
    pub(super) async fn write_last_snapshot(&mut self) {
        if self.snapshot.writing.is_some() {
            let turn = self.snapshot.turn().await;
            self.keep_snapshot(turn);
        }
        if !self.shared.table.load().loaded {
            return;
        }
        self.write_snapshot();
        if self.snapshot.writing.is_some() {
            let turn = self.snapshot.turn().await;
            self.keep_snapshot(turn);
        }
    }
}
