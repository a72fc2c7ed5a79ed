//! What a million tokens cost: to start with, to keep, to look up, to change one.

use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use smartlink::model::config::{Config, Extent, Reading, Sight};
use smartlink::model::decode::Raw;
use smartlink::model::keys::{Keys, Object};
use smartlink::model::tokens::{self, TokenHash};

use crate::support::control::{Plane, options};
use crate::support::eventually;
use crate::support::redis::{Connection, Redis};

const TOKENS: usize = 1_000_000;
/// How many are written to Redis before answers are read.
const CHUNK: usize = 10_000;

fn hash(at: usize) -> TokenHash {
    Sha256::digest(format!("token {at}")).into()
}

fn key(at: usize) -> String {
    let digits: Vec<String> = hash(at).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("smartlink:token:{}", digits.concat())
}

fn write(redis: &mut Connection, from: usize) {
    for at in from..from + CHUNK {
        let (key, name) = (key(at), format!("team {at}"));
        let words = [
            "HSET",
            &key,
            "name",
            &name,
            "services",
            "ner-*, ocr",
            "rate",
            "100/s",
        ];
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        redis.send(&words).expect("it takes it");
    }
    for _ in 0..CHUNK {
        redis.read().expect("it is written");
    }
}

/// Memory of this process in MiB: `VmRSS` now, `VmHWM` the most it ever was.
fn memory(which: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with(which));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.and_then(|kib| kib.parse::<u64>().ok())
        .expect("a number")
        / 1024
}

#[test]
#[ignore = "measures, and takes a minute: run it alone"]
fn a_million_tokens() {
    let redis = Redis::start();
    let mut connection = redis.connect();
    for from in (0..TOKENS).step_by(CHUNK) {
        write(&mut connection, from);
    }
    let before = memory("VmRSS");
    let file = redis.folder().join("snapshot");
    let with_snapshot = || {
        let mut options = options(&redis);
        options.watcher.snapshot = Some(file.clone());
        options
    };
    let began = Instant::now();
    let plane = Plane::start_with(with_snapshot()).expect("it starts");
    while plane.table().tokens.len() < TOKENS {
        assert!(began.elapsed() < Duration::from_mins(5), "it loads");
        std::thread::sleep(Duration::from_millis(10));
    }
    eprintln!("start: {:?}", began.elapsed());
    let (now, most) = (memory("VmRSS"), memory("VmHWM"));
    eprintln!(
        "memory: {} MiB more for {TOKENS}; {now} in all, {most} at most",
        now - before
    );
    let table = plane.table();
    let hashes: Vec<TokenHash> = (0..TOKENS).step_by(7).map(hash).collect();
    let began = Instant::now();
    let found = hashes
        .iter()
        .filter(|hash| table.tokens.get(hash).is_some())
        .count();
    assert_eq!(found, hashes.len());
    let each = began.elapsed() / u32::try_from(found).expect("a few");
    eprintln!("look-up, without the SHA-256: {each:?}");
    plane.await_proof();
    let mut times = Vec::new();
    for at in 0..200 {
        let (key, hash) = (key(at), hash(at));
        let began = Instant::now();
        redis.call(&["DEL", &key]);
        while plane.table().tokens.get(&hash).is_some() {}
        times.push(began.elapsed());
    }
    times.sort();
    eprintln!("one change: median {:?}, last {:?}", times[100], times[199]);
    let written = eventually("the snapshot is written", || std::fs::metadata(&file).ok());
    eprintln!("snapshot: {} MiB", written.len() >> 20);
    let began = Instant::now();
    drop(plane);
    eprintln!("stop, with the snapshot: {:?}", began.elapsed());
    eprintln!("memory: {} MiB at most", memory("VmHWM"));
    let began = Instant::now();
    let plane = Plane::start_with(with_snapshot()).expect("it starts");
    assert_eq!(plane.table().tokens.len(), TOKENS - 200);
    eprintln!("start with the snapshot: {:?}", began.elapsed());
    plane.await_proof();
    eprintln!("memory: {} MiB at most", memory("VmHWM"));
    the_book_alone(&plane);
}

/// What a change costs beside all that Redis does.
fn the_book_alone(plane: &Plane) {
    let mut book = Config::new(Keys::new("smartlink:"));
    let table = plane.table();
    for (hash, token) in table.tokens.iter() {
        let digits = tokens::digits(hash);
        let raw = Raw::Hash(token.fields(&digits));
        assert_eq!(book.note(&Object::Token(digits.into()), raw), None);
    }
    drop(book.apply(Vec::new(), Extent::All, 1));
    let mut took = Duration::ZERO;
    for at in 200..1200 {
        let digits = tokens::digits(&hash(at));
        let services = ("services".to_owned(), "other".to_owned());
        let reading = Reading {
            object: Object::Token(digits.into()),
            raw: Raw::Hash([services].into()),
            sight: Sight::Named,
        };
        let began = Instant::now();
        let applied = book.apply(vec![reading], Extent::Part, 1);
        took += began.elapsed();
        assert!(applied.table.is_some());
    }
    eprintln!("one change in the book: {:?}", took / 1000);
}
