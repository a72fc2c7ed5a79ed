//! The program itself, run to its end.

use std::path::Path;
use std::process::{Command, Stdio};

use super::redis::Redis;

/// How a verb ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The exit code.
    pub code: i32,
    /// What it printed.
    pub out: String,
    /// What it said on standard error.
    pub told: String,
}

/// Runs `smartlink` with these arguments and that Redis.
#[track_caller]
pub fn run(redis: &Redis, args: &[&str]) -> Ended {
    run_in(redis, redis.folder(), args)
}

/// The same in a folder.
#[track_caller]
pub fn run_in(redis: &Redis, folder: &Path, args: &[&str]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_smartlink"))
        .args(args)
        .env("SMARTLINK_REDIS", redis.url())
        .env("USER", "tester")
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Ended {
        code: output.status.code().expect("no signal"),
        out: text(output.stdout),
        told: text(output.stderr),
    }
}

/// Runs it, wants exit code 0, and gives what it printed.
#[track_caller]
pub fn good(redis: &Redis, args: &[&str]) -> String {
    let ended = run(redis, args);
    assert_eq!(ended.code, 0, "{args:?}: {ended:?}");
    ended.out
}

/// Runs it, wants exit code 1, and gives what it said on standard error.
#[track_caller]
pub fn bad(redis: &Redis, args: &[&str]) -> String {
    let ended = run(redis, args);
    assert_eq!(ended.code, 1, "{args:?}: {ended:?}");
    ended.told
}
