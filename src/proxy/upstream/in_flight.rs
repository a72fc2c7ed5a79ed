//! One request in flight on an endpoint, and the place it takes.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use crate::model::live::Crowd;
use crate::model::table::{Endpoint, Version};

/// One more request in flight on an endpoint, for as long as this lives.
pub(in crate::proxy) struct InFlight {
    endpoint: Arc<Endpoint>,
    /// Who waits for the place, where places are limited.
    crowd: Option<Arc<Crowd>>,
}

impl InFlight {
    /// A place on an endpoint of this version; `None` where `max_conns` are taken. Exact over all
    /// threads.
    pub(in crate::proxy) fn take(version: &Version, endpoint: &Arc<Endpoint>) -> Option<Self> {
        let inflight = &endpoint.live.inflight;
        let crowd = match endpoint.spec.max_conns {
            None => {
                inflight.fetch_add(1, Ordering::Relaxed);
                None
            }
            Some(most) => {
                let more = |now: u32| (now < most).then(|| now + 1);
                let relaxed = Ordering::Relaxed;
                inflight.fetch_update(relaxed, relaxed, more).ok()?;
                Some(Arc::clone(&version.crowd))
            }
        };
        Some(Self {
            endpoint: Arc::clone(endpoint),
            crowd,
        })
    }

    /// The endpoint.
    pub(in crate::proxy) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.live.inflight.fetch_sub(1, Ordering::Relaxed);
        if let Some(crowd) = &self.crowd {
            // Either this sees who waits, or who waits sees the place: both fence in between.
            fence(Ordering::SeqCst);
            if crowd.queued.load(Ordering::Relaxed) > 0 {
                crowd.freed.notify_one();
            }
        }
    }
}
