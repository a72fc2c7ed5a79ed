//! What every behaviour needs: private servers and waiting for a state with a deadline.

pub mod client;
pub mod control;
pub mod crowd;
pub mod exposition;
pub mod faulty;
pub mod gateway;
pub mod kafka;
pub mod load;
pub mod pane;
pub mod pilot;
pub mod port;
pub mod process;
pub mod receiver;
pub mod redis;
pub mod replay;
pub mod scene;
pub mod secure;
pub mod shadow;
pub mod signer;
pub mod site;
pub mod smtp;
pub mod table;
pub mod upstream;
pub mod verb;
pub mod wire;

use std::time::{Duration, Instant};

/// How long anything may take that must happen: what hangs fails, what is slow on a busy machine
/// does not.
pub const PATIENCE: Duration = secs(30);

/// Waits until `condition` yields a value; panics with `what` when it never does.
#[track_caller]
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Seconds, for deadlines.
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
