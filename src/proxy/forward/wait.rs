//! Waiting, before anything is sent: for a place (`queue`) or for an endpoint (`hold`).
//!
//! Invariant: a place that is free while somebody waits for it has somebody on the way to it.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::Journey;
use super::reach::Run;
use super::seat::{Seat, Shortage, Standing};
use crate::model::live::{Crowd, ServiceLive};
use crate::model::table::{Service, Version};
use crate::policy::balance::Picked;
use crate::policy::version;
use crate::proxy::error::Error;
use crate::proxy::worker::View;

/// How often those that wait look whether the table changed.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a request waits with.
struct Waiting<'w> {
    /// The version that was chosen; none could be where no version takes requests.
    version: Option<Arc<Version>>,
    view: Rc<View>,
    run: &'w mut Run,
}

/// One more request in a queue, for as long as this lives.
struct Line<'l> {
    all: &'l AtomicU32,
    crowd: &'l Crowd,
    /// Nobody stood there before.
    first: bool,
}

impl<'l> Line<'l> {
    /// The end of the queue; `None` where it has `most` already, over all versions of the service.
    fn join(live: &'l ServiceLive, crowd: &'l Crowd, most: u32) -> Option<Self> {
        let relaxed = Ordering::Relaxed;
        let more = |now: u32| (now < most).then(|| now + 1);
        live.waiting.fetch_update(relaxed, relaxed, more).ok()?;
        let first = crowd.queued.fetch_add(1, Ordering::SeqCst) == 0;
        // Either who leaves a place sees this, or this sees the place.
        fence(Ordering::SeqCst);
        Some(Self {
            all: &live.waiting,
            crowd,
            first,
        })
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.crowd.queued.fetch_sub(1, Ordering::Relaxed);
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Journey<'_> {
    /// Waits for a place on an endpoint; `newer` becomes the table it is in, where that changed.
    pub(super) async fn wait(
        &self,
        version: Option<&Arc<Version>>,
        run: &mut Run,
        newer: &mut Option<Rc<View>>,
        mut shortage: Shortage,
    ) -> Result<Seat, Error> {
        let view = newer
            .take()
            .unwrap_or_else(|| Rc::clone(&self.exchange.table));
        let mut waiting = Waiting {
            version: version.cloned(),
            view,
            run,
        };
        let record = &self.exchange.state.record;
        loop {
            match (&shortage, &waiting.version) {
                (Shortage::Nobody, Some(chosen)) => record.of_version(Arc::clone(chosen)),
                _ => record.of_service(self.service),
            }
            let seat = match shortage {
                Shortage::Full(version) => self.queue(&mut waiting, version).await?,
                Shortage::Nobody => self.hold(&mut waiting).await?,
            };
            match seat {
                Ok(seat) => {
                    *newer = Some(waiting.view);
                    return Ok(seat);
                }
                Err(other) => shortage = other,
            }
        }
    }

    /// Stands in line for a place in this version. `Ok(Err(..))`: it is something else that is
    /// short now.
    async fn queue(
        &self,
        waiting: &mut Waiting<'_>,
        version: Arc<Version>,
    ) -> Result<Result<Seat, Shortage>, Error> {
        let service = self.current(Some(&waiting.view));
        let (live, settings) = (Arc::clone(&service.live), Arc::clone(&service.settings));
        let crowd = Arc::clone(&version.crowd);
        let full = if settings.queue == 0 {
            "max_conns"
        } else {
            "queue"
        };
        // Before standing in line: a place that gets free from here on wakes this request or
        // somebody else in the line.
        let mut freed = pin!(crowd.freed.notified());
        freed.as_mut().enable();
        let turn = Line::join(&live, &crowd, settings.queue).ok_or(Error::Overloaded(full))?;
        let end = || Instant::now() + settings.queue_timeout;
        let until = *waiting.run.queue_until.get_or_insert_with(end);
        let (mut look, begun) = (turn.first, Rc::clone(&waiting.view));
        loop {
            let mut changed = pin!(live.changed.notified());
            changed.as_mut().enable();
            if look {
                match self.look(waiting) {
                    Ok(seat) => {
                        drop(turn);
                        self.pass_on(waiting, &seat.version);
                        return Ok(Ok(seat));
                    }
                    Err(Shortage::Full(still)) if Arc::ptr_eq(&still.crowd, &crowd) => {}
                    Err(other) => return Ok(Err(other)),
                }
            }
            look = true;
            tokio::select! {
                () = freed.as_mut() => {
                    freed.set(crowd.freed.notified());
                    freed.as_mut().enable();
                }
                () = changed => {}
                () = sleep(LOOK_EVERY) => look = self.is_moved(&begun),
                () = self.end(until) => {
                    return Err(self.late(until, Error::Overloaded("queue_timeout")));
                }
            }
        }
    }

    /// Whether the table changed since it stands in line: who waits elsewhere may be woken for the
    /// places that count here. Otherwise nobody looks out of turn.
    fn is_moved(&self, begun: &Rc<View>) -> bool {
        !Rc::ptr_eq(begun, &self.exchange.worker.table())
    }

    /// Who took a place out of the line looks whether there is another for the next.
    fn pass_on(&self, waiting: &Waiting<'_>, version: &Version) {
        fence(Ordering::SeqCst);
        if version.crowd.queued.load(Ordering::Relaxed) == 0 {
            return;
        }
        let service = self.current(Some(&waiting.view));
        let now_us = self.exchange.worker.now_us();
        let picked = self.pick(service, version, &[], now_us);
        if matches!(picked, Picked::Endpoint(_)) {
            version.crowd.freed.notify_one();
        }
    }

    /// Waits for an endpoint to be up.
    async fn hold(&self, waiting: &mut Waiting<'_>) -> Result<Result<Seat, Shortage>, Error> {
        let service = self.current(Some(&waiting.view));
        let (live, hold) = (Arc::clone(&service.live), service.settings.hold);
        if hold.is_zero() {
            return Err(waiting.run.last.take().unwrap_or(Error::NoEndpoint));
        }
        let until = *(waiting.run.hold_until).get_or_insert_with(|| Instant::now() + hold);
        waiting.run.tried.clear();
        loop {
            let mut changed = pin!(live.changed.notified());
            changed.as_mut().enable();
            match self.look(waiting) {
                Err(Shortage::Nobody) => {}
                other => return Ok(other),
            }
            tokio::select! {
                () = changed => {}
                () = sleep(LOOK_EVERY) => {}
                () = self.end(until) => return Err(self.late(until, Error::NoEndpoint)),
            }
        }
    }

    /// Looks for a place in the table that is in force now. The version stays the chosen one by
    /// name.
    fn look(&self, waiting: &mut Waiting<'_>) -> Result<Seat, Shortage> {
        waiting.view = self.exchange.worker.table();
        let service = self.standing(&waiting.view).ok_or(Shortage::Nobody)?;
        let chosen = match &waiting.version {
            Some(wanted) => version::named(service, wanted.name.as_str()),
            None => None,
        };
        // What was sent already stays in its version.
        let draws = chosen.is_none() && !waiting.run.sent;
        if draws && waiting.version.is_some() {
            self.exchange.state.record.goes_elsewhere();
        }
        let chosen = if draws { self.choose(service) } else { chosen };
        let chosen = chosen.ok_or(Shortage::Nobody)?;
        waiting.version = Some(Arc::clone(chosen));
        self.seat(service, chosen, waiting.run, Standing::Waiting)
    }

    /// The service in this table, if it may still be asked.
    fn standing<'v>(&self, view: &'v View) -> Option<&'v Arc<Service>> {
        let service = view.services.get(self.service.name.as_str())?;
        let serves = service.settings.enabled && service.misconfigured.is_none();
        serves.then_some(service)
    }

    /// The end of a wait, or of the whole request.
    async fn end(&self, until: Instant) {
        let end = self.deadline.map_or(until, |(end, _)| end.min(until));
        sleep_until(end).await;
    }

    /// What the client is told at that end.
    fn late(&self, until: Instant, error: Error) -> Error {
        match self.deadline {
            Some((end, total)) if end <= until => Error::UpstreamTimeout("total", total),
            _ => error,
        }
    }
}
