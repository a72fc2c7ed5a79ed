//! Where lines end up: opened anew when somebody moved the file away, and never given up.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::Place;
use crate::telemetry;

/// What is written at once.
pub(super) const WRITE_MAX: usize = 64 * 1024;
/// Between two looks whether the file is still the one of its name.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two complaints.
const COMPLAIN_EVERY: Duration = Duration::from_mins(1);

/// An open log.
#[derive(Debug)]
pub(super) struct Out {
    kind: Kind,
    looked: Instant,
    complained: Option<Instant>,
}

#[derive(Debug)]
enum Kind {
    Stdout,
    File { path: PathBuf, file: File },
}

impl Out {
    pub(super) fn open(place: &Place) -> io::Result<Self> {
        let kind = match place {
            Place::Stdout => Kind::Stdout,
            Place::File(path) => Kind::File {
                file: append(path)?,
                path: path.clone(),
            },
        };
        Ok(Self {
            kind,
            looked: Instant::now(),
            complained: None,
        })
    }

    /// Writes whole lines; false where they are lost.
    pub(super) fn write(&mut self, lines: &[u8]) -> bool {
        let now = Instant::now();
        if now.duration_since(self.looked) >= LOOK_EVERY {
            self.looked = now;
            self.follow();
        }
        let written = match &mut self.kind {
            Kind::Stdout => io::stdout()
                .write_all(lines)
                .and_then(|()| io::stdout().flush()),
            Kind::File { file, .. } => file.write_all(lines),
        };
        if let Err(error) = &written
            && self
                .complained
                .is_none_or(|at| now.duration_since(at) >= COMPLAIN_EVERY)
        {
            self.complained = Some(now);
            telemetry::access_log_lost(error);
        }
        written.is_ok()
    }

    /// Opens the file anew where another one, or none, has its name: it was rotated.
    fn follow(&mut self) {
        let Kind::File { path, file } = &mut self.kind else {
            return;
        };
        let same = match (std::fs::metadata(&*path), file.metadata()) {
            (Ok(named), Ok(open)) => named.dev() == open.dev() && named.ino() == open.ino(),
            _ => false,
        };
        if !same && let Ok(new) = append(path) {
            *file = new;
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("access.log");
        let mut out = Out::open(&Place::File(path.clone())).expect("it opens");
        assert!(out.write(b"one\n"));
        let moved = folder.path().join("access.log.1");
        std::fs::rename(&path, &moved).expect("it is there");
        out.looked = Instant::now()
            .checked_sub(LOOK_EVERY)
            .expect("long after the start");
        assert!(out.write(b"two\n"));
        let read = |path| std::fs::read_to_string(path).expect("it is there");
        assert_eq!(
            (read(&moved), read(&path)),
            ("one\n".into(), "two\n".into())
        );
    }

    #[test]
    fn a_full_disk_loses_lines_and_nothing_else() {
        let place = Place::File("/dev/full".into());
        let Ok(mut out) = Out::open(&place) else {
            return;
        };
        assert!(!out.write(b"lost\n"));
    }
}
