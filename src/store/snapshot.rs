//! The snapshot file: what is in force, kept for a start without Redis.
//!
//! One line with the format's version and the checksum of the rest, then JSON. Written beside and
//! renamed, so that whoever reads finds an old one or a new one, never a part.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Error;
use crate::model::config::Snapshot;

/// First word of the file; a later format gets another number.
const FORMAT: &str = "smartlink-snapshot-1";
/// The largest file that is read: far above 10,000 services, far below memory.
const SIZE_MAX: u64 = 1024 * 1024 * 1024;

/// Reads a snapshot; `None` where there is no file.
pub fn load(path: &Path) -> Result<Option<Snapshot>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(in_file(path)(error)),
    };
    let mut bytes = Vec::new();
    file.take(SIZE_MAX)
        .read_to_end(&mut bytes)
        .map_err(in_file(path))?;
    match decode(&bytes) {
        Ok(snapshot) => Ok(Some(snapshot)),
        Err(why) => Err(Error::Snapshot {
            path: path.to_owned(),
            why,
        }),
    }
}

/// Writes a snapshot, readable by its owner only. May take as long as the disk does.
pub fn save(path: &Path, snapshot: &Snapshot) -> Result<(), Error> {
    write(path, &encode(snapshot)).map_err(in_file(path))
}

fn in_file(path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File {
        path: path.clone(),
        source,
    }
}

fn encode(snapshot: &Snapshot) -> Vec<u8> {
    let body = serde_json::to_vec(snapshot).expect("a snapshot is maps of texts");
    let mut bytes = format!("{FORMAT} {:x}\n", Sha256::digest(&body)).into_bytes();
    bytes.extend(body);
    bytes
}

fn decode(bytes: &[u8]) -> Result<Snapshot, &'static str> {
    let end = memchr::memchr(b'\n', bytes).ok_or("has no first line")?;
    let (head, rest) = bytes.split_at(end);
    let body = rest.get(1..).unwrap_or_default();
    let head = std::str::from_utf8(head).map_err(|_at| "is no snapshot")?;
    let sum = head
        .strip_prefix(FORMAT)
        .and_then(|sum| sum.strip_prefix(' '))
        .ok_or("is no snapshot of this version")?;
    if sum != format!("{:x}", Sha256::digest(body)) {
        return Err("is damaged: its checksum does not fit");
    }
    serde_json::from_slice(body).map_err(|_at| "holds something else than a configuration")
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = beside(path);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside)?;
    file.write_all(bytes)?;
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

    #[test]
    fn every_damage_is_noticed() {
        let sound = encode(&snapshot());
        for at in 0..sound.len() {
            let mut damaged = sound.clone();
            damaged[at] ^= 0x10;
            assert!(decode(&damaged).is_err(), "byte {at}");
            assert!(decode(&sound[..at]).is_err(), "cut at {at}");
        }
    }
}
