//! How many requests at once: the caller's own `concurrency`, then the service's, with its line.
//!
//! Invariant: what a request holds is an object that goes with it, so that nothing leaks whatever
//! dies: the client, the upstream, or a thread in a panic.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Caller, rate};
use crate::model::gate::{Joined, Stand, Turn, Way, Wish};
use crate::model::live::ServiceLive;
use crate::model::table::Service;
use crate::proxy::error::Error;
use crate::proxy::handler::Exchange;
use crate::proxy::micros;
use crate::proxy::worker::{View, Worker};

/// How often those that wait look whether the table changed.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a request holds until the end of its answer.
#[derive(Default)]
pub(in crate::proxy) struct Holding {
    slot: Option<Slot>,
    busy: Option<Busy>,
}

/// A slot of a service.
struct Slot {
    live: Arc<ServiceLive>,
    worker: Rc<Worker>,
    caller: u64,
    way: Way,
    since_us: u64,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let now_us = self.worker.now_us();
        let held_us = now_us.saturating_sub(self.since_us);
        let gate = &self.live.gate;
        gate.release(self.caller, self.way, held_us, now_us);
    }
}

/// One of the requests that a caller may have in flight.
struct Busy {
    worker: Rc<Worker>,
    place: usize,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.worker.quotas.end(self.place);
    }
}

/// A request in line, which it leaves when this is dropped.
struct InLine {
    live: Arc<ServiceLive>,
    worker: Rc<Worker>,
    turn: Arc<Turn>,
    over: bool,
}

impl Drop for InLine {
    fn drop(&mut self) {
        if !self.over {
            self.live.gate.leave(&self.turn, self.worker.now_us());
        }
    }
}

/// Takes what the request needs, where something is limited; the table, where it waited and that
/// changed.
pub(super) async fn enter(
    exchange: &Exchange,
    service: &Arc<Service>,
    caller: &Caller,
) -> Result<Option<Rc<View>>, Error> {
    let own = (caller.credential.as_ref()).and_then(|who| Some((who.id, who.concurrency?)));
    let limit = service.settings.concurrency;
    if own.is_none() && limit.is_none() {
        return Ok(None);
    }
    let worker = &exchange.worker;
    let mut holding = Box::new(Holding::default());
    let number = rate::caller_number(worker, caller);
    if let Some((_, most)) = own {
        let place = worker.quotas.begin(number, most).ok_or(Error::CallerBusy)?;
        holding.busy = Some(Busy {
            worker: Rc::clone(worker),
            place,
        });
    }
    let mut newer = None;
    if let Some(limit) = limit {
        let mut way = Way::AtOnce;
        if !service.live.gate.enter(limit) {
            way = Way::InLine;
            // Boxed: most requests never wait.
            newer = Box::pin(wait(exchange, service, number)).await?;
        }
        holding.slot = Some(Slot {
            live: Arc::clone(&service.live),
            worker: Rc::clone(worker),
            caller: number,
            way,
            since_us: worker.now_us(),
        });
    }
    exchange.state.holding.set(Some(holding));
    Ok(newer)
}

/// Stands in line for a slot.
async fn wait(
    exchange: &Exchange,
    service: &Arc<Service>,
    caller: u64,
) -> Result<Option<Rc<View>>, Error> {
    let worker = &exchange.worker;
    let settings = &service.settings;
    let begun_us = worker.now_us();
    let end_us = begun_us + micros(settings.queue_timeout);
    let total_us = (settings.total).map(|total| worker.micros(exchange.started + total));
    let until_us = total_us.map_or(end_us, |total_us| total_us.min(end_us));
    let late = || match settings.total.filter(|_| until_us < end_us) {
        Some(total) => Error::UpstreamTimeout("total", total),
        None => Error::Overloaded("queue_timeout"),
    };
    let full = if settings.queue == 0 {
        "concurrency"
    } else {
        "queue"
    };
    exchange.state.record.of_service(service);
    let joined = service.live.gate.join(Wish {
        caller,
        queue: settings.queue,
        patience_us: until_us.saturating_sub(begun_us),
        now_us: begun_us,
    });
    let turn = match joined {
        Joined::Slot => return Ok(None),
        Joined::Full => return Err(Error::Overloaded(full)),
        Joined::Hopeless => return Err(Error::Overloaded("queue_timeout")),
        Joined::Waits(turn) => turn,
    };
    let mut line = InLine {
        live: Arc::clone(&service.live),
        worker: Rc::clone(worker),
        turn,
        over: false,
    };
    let stands = stand(exchange, service, &line, until_us).await;
    (exchange.state.record).note(|line| line.wait_us += worker.now_us() - begun_us);
    match stands {
        Stand::Has => {
            line.over = true;
            Ok(Some(worker.table()))
        }
        Stand::Out => Err(Error::Overloaded(full)),
        Stand::Waits => Err(late()),
    }
}

/// How it ends: with a slot, pushed out, or still waiting at the end of its time.
async fn stand(exchange: &Exchange, service: &Service, line: &InLine, until_us: u64) -> Stand {
    let worker = &exchange.worker;
    let (gate, turn) = (&line.live.gate, &line.turn);
    let until = worker.moment(until_us);
    loop {
        let stands = turn.stand();
        if stands != Stand::Waits || Instant::now() >= until {
            return stands;
        }
        let look_us = turn.look_us();
        if look_us <= worker.now_us() {
            turn.looked(look_us);
            gate.look(worker.now_us());
            continue;
        }
        // Who is told to look soon does; all others see now and then whether the limit changed.
        let later = Instant::now() + LOOK_EVERY;
        let soon = if look_us == u64::MAX {
            later
        } else {
            worker.moment(look_us).min(later)
        };
        tokio::select! {
            () = turn.wake.notified() => {}
            () = line.live.changed.notified() => adopt(worker, service),
            () = sleep_until(until.min(soon)) => adopt(worker, service),
        }
    }
}

/// Those in line wait for as many slots as there are by the table of now.
fn adopt(worker: &Worker, service: &Service) {
    let view = worker.table();
    let now = view.services.get(service.name.as_str());
    let limit = now.and_then(|now| now.settings.concurrency);
    let gate = &service.live.gate;
    if gate.set(limit.unwrap_or(u32::MAX)) {
        gate.look(worker.now_us());
    }
}
