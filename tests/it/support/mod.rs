//! What every behaviour needs: private servers and waiting for a state with a deadline.

pub mod client;
pub mod control;
pub mod crowd;
pub mod faulty;
pub mod gateway;
pub mod load;
pub mod redis;
pub mod scene;
pub mod secure;
pub mod site;
pub mod upstream;
pub mod wire;

use std::time::{Duration, Instant};

/// Waits until `condition` yields a value; panics with `what` when it has not within `limit`.
#[track_caller]
pub fn eventually<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Seconds, for deadlines.
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
