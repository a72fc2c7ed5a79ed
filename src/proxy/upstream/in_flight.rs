//! One request in flight on an endpoint, and the place it takes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::model::table::Endpoint;

/// One more request in flight on an endpoint, for as long as this lives.
pub(in crate::proxy) struct InFlight(Arc<Endpoint>);

impl InFlight {
    /// A place on an endpoint; `None` where `max_conns` are taken. Exact over all threads.
    pub(in crate::proxy) fn take(endpoint: &Arc<Endpoint>) -> Option<Self> {
        let inflight = &endpoint.live.inflight;
        let relaxed = Ordering::Relaxed;
        match endpoint.spec.max_conns {
            None => drop(inflight.fetch_add(1, relaxed)),
            Some(most) => {
                let more = |now: u32| (now < most).then(|| now + 1);
                inflight.fetch_update(relaxed, relaxed, more).ok()?;
            }
        }
        Some(Self(Arc::clone(endpoint)))
    }

    /// The endpoint.
    pub(in crate::proxy) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // Either this sees who waits, or who waits sees the place: it fences in between.
        self.0.live.inflight.fetch_sub(1, Ordering::SeqCst);
        if self.0.crowd.queued.load(Ordering::SeqCst) > 0 {
            self.0.crowd.freed.notify_one();
        }
    }
}
