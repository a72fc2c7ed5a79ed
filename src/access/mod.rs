//! The access log: one line for each request, written by a thread of its own.
//!
//! Invariant: telling a line never waits. What the writer does not keep up with is dropped and
//! counted.

mod line;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::Instant;

pub use line::{Format, Line, Rule, Why};

/// How many lines may wait for the writer.
const QUEUE_MAX: usize = 16 * 1024;
/// How long the writer may take for the last lines when the gateway stops.
const LEAVE: Duration = Duration::from_secs(1);

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Standard output.
    Stdout,
    /// A file, which is appended to, and opened anew where somebody moved it away.
    File(PathBuf),
}

/// How requests are logged.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to.
    pub place: Place,
    /// In which form.
    pub format: Format,
    /// Which share of the requests, from 0 to 1.
    pub sample: f64,
}

/// Takes lines; each thread has a clone.
#[derive(Clone, Debug)]
pub struct Log {
    lines: SyncSender<Box<Line>>,
    dropped: Arc<AtomicU64>,
    /// A random number below this is logged.
    below: u64,
}

impl Log {
    /// Whether the request that drew this random number is logged.
    #[must_use]
    pub fn wants(&self, random: u64) -> bool {
        random <= self.below
    }

    /// Hands a line to the writer, or drops it where that one is too far behind.
    pub fn tell(&self, line: Box<Line>) {
        if self.lines.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many lines were dropped, here or by the writer.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// The writer's thread.
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<()>,
}

/// Opens the log and starts its writer.
///
/// # Errors
/// Where the file cannot be opened or no thread can be started.
pub fn start(options: &Options) -> std::io::Result<(Log, Writer)> {
    let (lines, told) = sync_channel(QUEUE_MAX);
    let dropped: Arc<AtomicU64> = Arc::default();
    let mut file = writer::Out::open(&options.place)?;
    let (format, lost) = (options.format, Arc::clone(&dropped));
    let thread = std::thread::Builder::new()
        .name("access-log".to_owned())
        .spawn(move || write_all(&told, &mut file, format, &lost))?;
    let log = Log {
        lines,
        dropped,
        below: below(options.sample),
    };
    Ok((log, Writer { thread }))
}

impl Writer {
    /// Waits until the last lines are written, a second at most. All `Log`s must be gone.
    pub fn finish(self) {
        let end = Instant::now() + LEAVE;
        while !self.thread.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn below(sample: f64) -> u64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of all numbers; the cast stays within them"
    )]
    let below = (sample.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
    below
}

fn write_all(
    told: &Receiver<Box<Line>>,
    out: &mut writer::Out,
    format: Format,
    dropped: &AtomicU64,
) {
    while let Ok(first) = told.recv() {
        let mut lines = 0;
        let mut bytes = Vec::new();
        let mut next = Some(first);
        while let Some(line) = next.take() {
            line.write(format, &mut bytes);
            lines += 1;
            if bytes.len() < writer::WRITE_MAX {
                next = told.try_recv().ok();
            }
        }
        if !out.write(&bytes) {
            dropped.fetch_add(lines, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_a_share_of_all_numbers() {
        for (sample, number, wanted) in [
            (1.0, u64::MAX, true),
            (1.0, 0, true),
            (0.5, u64::MAX / 4, true),
            (0.5, u64::MAX / 4 * 3, false),
            (0.01, u64::MAX / 50, false),
            (0.01, u64::MAX / 200, true),
        ] {
            let (lines, _told) = sync_channel(1);
            let log = Log {
                lines,
                dropped: Arc::default(),
                below: below(sample),
            };
            assert_eq!(log.wants(number), wanted, "{sample} of {number}");
        }
    }
}
