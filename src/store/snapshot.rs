//! The snapshot file: what is in force, kept for a start without Redis.
//!
//! One line with the format's version and the checksum of the rest, then JSON. Written beside and
//! renamed, so that whoever reads finds an old one or a new one, never a part. Neither side ever
//! holds the file in memory, for with a million tokens it is large.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Error;
use crate::model::config::Snapshot;

/// First word of the file; a later format gets another number.
const FORMAT: &str = "smartlink-snapshot-2";
/// The format before, in which tokens stand among the other objects.
const FORMAT_BEFORE: &str = "smartlink-snapshot-1";
/// The length of the first line: a format, a space, a checksum in hex and the line's end.
const HEAD: usize = FORMAT.len() + 1 + 64 + 1;
/// The largest file that is read: far above 10,000 services and two million tokens.
const SIZE_MAX: u64 = 1024 * 1024 * 1024;
/// What is read or written at once.
const BUFFER: usize = 256 * 1024;

/// Reads a snapshot; `None` where there is no file.
pub fn load(path: &Path) -> Result<Option<Snapshot>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(in_file(path)(error)),
    };
    match decode(file).map_err(in_file(path))? {
        Ok(snapshot) => Ok(Some(snapshot)),
        Err(why) => Err(Error::Snapshot {
            path: path.to_owned(),
            why,
        }),
    }
}

/// Writes a snapshot, readable by its owner only. May take as long as the disk does.
pub fn save(path: &Path, snapshot: &Snapshot) -> Result<(), Error> {
    write(path, snapshot).map_err(in_file(path))
}

fn in_file(path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File {
        path: path.clone(),
        source,
    }
}

/// Writes all of a file that is empty; the head comes last, when the checksum is known.
fn encode(snapshot: &Snapshot, file: impl Write + Seek) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(BUFFER, file);
    file.write_all(&[b' '; HEAD])?;
    let mut summing = Summing {
        file,
        sum: Sha256::new(),
    };
    serde_json::to_writer(&mut summing, snapshot)?;
    let Summing { mut file, sum } = summing;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{FORMAT} {:x}", sum.finalize())?;
    file.flush()
}

/// Reads a whole file twice: its checksum, and then what it holds; or why it holds nothing.
fn decode(mut file: impl Read + Seek) -> io::Result<Result<Snapshot, &'static str>> {
    let mut head = Vec::new();
    file.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    let sum = std::str::from_utf8(&head).ok().and_then(|head| {
        let (format, sum) = head.strip_suffix('\n')?.split_once(' ')?;
        [FORMAT, FORMAT_BEFORE].contains(&format).then_some(sum)
    });
    let Some(sum) = sum else {
        return Ok(Err("is no snapshot of this version"));
    };
    let mut summing = Summing {
        file: io::sink(),
        sum: Sha256::new(),
    };
    let body = BufReader::with_capacity(BUFFER, file.by_ref());
    io::copy(&mut body.take(SIZE_MAX), &mut summing)?;
    if sum != format!("{:x}", summing.sum.finalize()) {
        return Ok(Err("is damaged: its checksum does not fit"));
    }
    file.seek(SeekFrom::Start(HEAD as u64))?;
    let body = BufReader::with_capacity(BUFFER, file);
    let snapshot = serde_json::from_reader(body);
    Ok(snapshot.map_err(|_at| "holds something else than a configuration"))
}

/// Takes the sum of what passes.
struct Summing<W> {
    file: W,
    sum: Sha256,
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sum.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn write(path: &Path, snapshot: &Snapshot) -> io::Result<()> {
    let beside = beside(path);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside)?;
    encode(snapshot, &mut file)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// A name of our own, so that two gateways with one path by mistake never mix their bytes.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let mut snapshot = Snapshot::default();
        let fields = [(
            "http://127.0.0.1:1/".to_owned(),
            "base \u{1f600}".to_owned(),
        )];
        snapshot
            .objects
            .insert("smartlink:endpoints:a".to_owned(), fields.into());
        snapshot
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("snapshot");
        assert_eq!(load(&path).expect("absent is fine"), None);
        save(&path, &snapshot()).expect("saved");
        save(&path, &snapshot()).expect("saved over the old one");
        assert_eq!(load(&path).expect("sound"), Some(snapshot()));
        let left = std::fs::read_dir(folder.path()).expect("readable").count();
        assert_eq!(left, 1);
    }

    #[cfg(unix)]
    #[test]
    fn only_its_owner_reads_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("snapshot");
        save(&path, &snapshot()).expect("saved");
        let mode = std::fs::metadata(&path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    fn decoded(bytes: &[u8]) -> Result<Snapshot, &'static str> {
        decode(io::Cursor::new(bytes)).expect("memory is readable")
    }

    #[test]
    fn every_damage_is_noticed() {
        let mut sound = Vec::new();
        encode(&snapshot(), io::Cursor::new(&mut sound)).expect("memory is writable");
        assert_eq!(decoded(&sound), Ok(snapshot()));
        for at in 0..sound.len() {
            let mut damaged = sound.clone();
            damaged[at] ^= 0x10;
            assert!(decoded(&damaged).is_err(), "byte {at}");
            assert!(decoded(&sound[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_snapshot_of_the_format_before_is_read() {
        let key = format!("smartlink:token:{}", "ab".repeat(32));
        let body =
            format!(r#"{{"objects":{{"{key}":{{"services":"*"}}}},"closed":{{}},"vanished":[]}}"#);
        let sum = Sha256::digest(&body);
        let snapshot = decoded(format!("{FORMAT_BEFORE} {sum:x}\n{body}").as_bytes());
        assert!(snapshot.is_ok_and(|snapshot| snapshot.objects.contains_key(&key)));
    }
}
