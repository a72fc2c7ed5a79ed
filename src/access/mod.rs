//! The access log: one line for each request, written by a thread of its own.
//!
//! Invariant: telling a line never waits. What the writer does not keep up with is dropped and
//! counted.

mod line;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::Instant;

pub use line::{Format, Line, Rule, Why, cut};

use crate::stats::Meters;

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
    meters: Arc<Meters>,
    sample: Sample,
}

/// Which requests are looked at more closely: those whose random number is among a share of all.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The highest of these numbers.
    highest: u64,
}

impl Sample {
    /// A share of all requests, from 0 to 1; 0 takes none.
    #[must_use]
    pub fn new(share: f64) -> Self {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of all numbers; the cast stays within them"
        )]
        let highest = (share.clamp(0.0, 1.0) * u64::MAX as f64) as u64;
        Self { highest }
    }

    /// Whether the request that drew this random number is among them.
    #[must_use]
    pub fn takes(self, random: u64) -> bool {
        self.highest > 0 && random <= self.highest
    }
}

impl Log {
    /// Whether the request that drew this random number is logged.
    #[must_use]
    pub fn wants(&self, random: u64) -> bool {
        self.sample.takes(random)
    }

    /// Hands a line to the writer, or drops it where that one is too far behind.
    pub fn tell(&self, line: Box<Line>) {
        if self.lines.try_send(line).is_err() {
            self.meters.lines_dropped.add(1);
        }
    }
}

/// The writer's thread.
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<()>,
}

/// Opens the log and starts its writer; lines that are lost, here or by the writer, are counted in
/// `meters`.
///
/// # Errors
/// Where the file cannot be opened or no thread can be started.
pub fn start(options: &Options, meters: &Arc<Meters>) -> std::io::Result<(Log, Writer)> {
    let (lines, told) = sync_channel(QUEUE_MAX);
    let mut file = writer::Out::open(&options.place)?;
    let (format, lost) = (options.format, Arc::clone(meters));
    let thread = std::thread::Builder::new()
        .name("access-log".to_owned())
        .spawn(move || write_all(&told, &mut file, format, &lost))?;
    let log = Log {
        lines,
        meters: Arc::clone(meters),
        sample: Sample::new(options.sample),
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

fn write_all(told: &Receiver<Box<Line>>, out: &mut writer::Out, format: Format, meters: &Meters) {
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
            meters.lines_dropped.add(lines);
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
            (0.0, 0, false),
            (0.5, u64::MAX / 4, true),
            (0.5, u64::MAX / 4 * 3, false),
            (0.01, u64::MAX / 50, false),
            (0.01, u64::MAX / 200, true),
        ] {
            let sample_of = Sample::new(sample);
            assert_eq!(sample_of.takes(number), wanted, "{sample} of {number}");
        }
    }
}
