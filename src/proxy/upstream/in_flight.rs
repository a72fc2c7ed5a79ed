//! One attempt in flight on an endpoint, and the place it takes.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::model::table::Endpoint;
use crate::proxy::worker::Worker;
use crate::stats::Attempt;

/// One more attempt in flight on an endpoint, for as long as this lives; counted when it is over.
pub(in crate::proxy) struct InFlight {
    endpoint: Arc<Endpoint>,
    worker: Rc<Worker>,
    since_us: u64,
    attempt: Cell<Attempt>,
}

impl InFlight {
    /// A place on an endpoint; `None` where `max_conns` are taken. Exact over all threads.
    pub(in crate::proxy) fn take(
        endpoint: &Arc<Endpoint>,
        worker: &Rc<Worker>,
        now_us: u64,
    ) -> Option<Self> {
        let inflight = &endpoint.live.inflight;
        let relaxed = Ordering::Relaxed;
        match endpoint.spec.max_conns {
            None => drop(inflight.fetch_add(1, relaxed)),
            Some(most) => {
                let more = |now: u32| (now < most).then(|| now + 1);
                inflight.fetch_update(relaxed, relaxed, more).ok()?;
            }
        }
        Some(Self {
            endpoint: Arc::clone(endpoint),
            worker: Rc::clone(worker),
            since_us: now_us,
            attempt: Cell::new(Attempt::Fine),
        })
    }

    /// The endpoint.
    pub(in crate::proxy) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The endpoint answers for how it ended.
    pub(in crate::proxy) fn failed(&self) {
        self.attempt.set(Attempt::Failed);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let endpoint = &self.endpoint;
        // Either this sees who waits, or who waits sees the place: it fences in between.
        endpoint.live.inflight.fetch_sub(1, Ordering::SeqCst);
        if endpoint.crowd.queued.load(Ordering::SeqCst) > 0 {
            endpoint.crowd.freed.notify_one();
        }
        let took_us = self.worker.now_us() - self.since_us;
        let counter = &self.worker.counter;
        counter.attempted(endpoint, self.attempt.get(), took_us);
    }
}
