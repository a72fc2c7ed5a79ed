//! Records of a Redis Stream, which a group shares out: what is handed to us is pending until it is
//! counted, and taken over by others when we are not heard of.

use std::time::Duration;

use tokio::time::Instant;

use super::Error;
use crate::store::Taken;
use crate::worker::lane::Lane;

/// Between two looks for records of workers that died.
const CLAIM_EVERY: Duration = Duration::from_secs(5);

/// When records of dead workers are looked for, and where.
pub(in crate::worker) struct Stream {
    claim: Instant,
    cursor: String,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            claim: Instant::now(),
            cursor: "0-0".to_owned(),
        }
    }
}

impl Stream {
    /// Makes the group.
    pub(super) async fn open(&mut self, lane: &Lane) -> Result<(), Error> {
        let (comparisons, plan) = (lane.comparisons(), lane.plan());
        comparisons
            .open(lane.service(), lane.candidate(), &plan.start)
            .await?;
        Ok(())
    }

    /// Those of workers that died first, now and then.
    pub(super) async fn next(&mut self, lane: &Lane, most: usize) -> Result<Vec<Taken>, Error> {
        let (service, candidate) = (lane.service(), lane.candidate());
        let comparisons = lane.comparisons();
        let now = Instant::now();
        let mut found = Ok(Vec::new());
        if now >= self.claim {
            let silence = u64::try_from(lane.silence().as_millis()).unwrap_or(u64::MAX);
            let claimed = comparisons.claim(service, candidate, silence, most, &self.cursor);
            found = claimed.await.map(|claimed| {
                if claimed.cursor == "0-0" {
                    self.claim = now + CLAIM_EVERY.min(lane.silence() / 2);
                }
                self.cursor = claimed.cursor;
                claimed.taken
            });
        }
        if found.as_ref().is_ok_and(Vec::is_empty) {
            found = comparisons.read(service, candidate, most).await;
        }
        match found {
            Err(error) if error.is_refused() => {
                // The stream was deleted, and its groups with it.
                self.open(lane).await.map(|()| Vec::new())
            }
            found => Ok(found?),
        }
    }
}

/// Keeps what we work on from being taken over.
pub(super) async fn touch(lane: &Lane) -> Result<(), Error> {
    let entries = lane.entries();
    let comparisons = lane.comparisons();
    let touched = comparisons.touch(lane.service(), lane.candidate(), &entries);
    Ok(touched.await?)
}

/// Whether the group has had all records, and none is pending.
pub(super) async fn is_empty(lane: &Lane) -> Result<bool, Error> {
    let backlog = lane.comparisons().backlog(lane.service(), lane.candidate());
    Ok(matches!(backlog.await?, (None | Some(0), 0)))
}

/// Leaves the group, unless something of ours is still pending.
pub(super) async fn leave(lane: &Lane) -> Result<(), Error> {
    if !lane.entries().is_empty() {
        return Ok(());
    }
    let left = lane.comparisons().leave(lane.service(), lane.candidate());
    Ok(left.await?)
}
