//! How far the worker is: a line that is written anew each second on a terminal, else one line a
//! minute in the log.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _, stderr};
use std::time::Duration;

use tokio::time::Instant;

use crate::telemetry;
use crate::worker::{Doing, Status};

/// Between two lines in the log.
const LOG_EVERY: Duration = Duration::from_mins(1);

/// Shows how far the worker is.
#[derive(Debug)]
pub(super) struct Progress {
    terminal: bool,
    began: Instant,
    logged: Instant,
    counted: u64,
    drawn: usize,
}

impl Progress {
    pub(super) fn begin() -> Self {
        let now = Instant::now();
        Self {
            terminal: stderr().is_terminal(),
            began: now,
            logged: now,
            counted: 0,
            drawn: 0,
        }
    }

    pub(super) fn show(&mut self, statuses: &[Status]) {
        let elapsed = self.logged.elapsed();
        if !self.terminal && elapsed < LOG_EVERY {
            return;
        }
        let counted: u64 = statuses.iter().map(|status| status.counted).sum();
        let since = if self.terminal {
            self.began.elapsed()
        } else {
            elapsed
        };
        let more = if self.terminal {
            counted
        } else {
            counted - self.counted
        };
        let text = line(statuses, more, since);
        (self.logged, self.counted) = (Instant::now(), counted);
        if self.terminal {
            let room = " ".repeat(self.drawn.saturating_sub(text.chars().count()));
            self.drawn = text.chars().count();
            // A terminal that is gone is no reason to stop working.
            drop(write!(stderr(), "\r{text}{room}"));
        } else {
            telemetry::worker_progress(&text);
        }
    }

    pub(super) fn end(&mut self) {
        if self.terminal && self.drawn > 0 {
            drop(writeln!(stderr()));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn line(statuses: &[Status], counted: u64, since: Duration) -> String {
    let rate = counted as f64 / since.as_secs_f64().max(0.001);
    let mut text = String::new();
    for status in statuses {
        // Writing to a text cannot fail.
        let _written = write!(text, "{}  ", one(status));
    }
    format!("{text}{rate:.1}/s")
}

fn one(status: &Status) -> String {
    let Status {
        service, candidate, ..
    } = status;
    let mut text = format!(
        "{service} {candidate}: {} compared, {} differ, {} bad",
        status.counted, status.differing, status.bad
    );
    for (count, what) in [(status.skipped, "skipped"), (status.dead, "dead")] {
        if count > 0 {
            let _written = write!(text, ", {count} {what}");
        }
    }
    if status.doing == Doing::Waiting {
        text.push_str(", waiting for the candidate");
    } else if status.yielding {
        text.push_str(", users come first");
    }
    text
}

/// What this worker did, a line a candidate.
pub(super) fn summary(statuses: &[Status]) -> String {
    statuses.iter().map(|status| one(status) + "\n").collect()
}
