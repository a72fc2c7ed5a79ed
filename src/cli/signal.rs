//! The signals that end a verb.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::Error;

/// SIGTERM, SIGINT and SIGHUP, caught from the moment `listen` returns.
#[derive(Debug)]
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Stop {
    /// Takes the signals over; needs a runtime around it.
    pub(super) fn listen() -> Result<Self, Error> {
        let take = |kind| signal(kind).map_err(Error::Signal);
        Ok(Self {
            terminate: take(SignalKind::terminate())?,
            interrupt: take(SignalKind::interrupt())?,
            hang_up: take(SignalKind::hangup())?,
        })
    }

    /// Waits for the first of them.
    pub(super) async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

/// Catches the signals on a thread of its own, from now on: the receiver hears of the first.
pub(super) fn on_thread() -> Result<oneshot::Receiver<()>, Error> {
    let runtime = super::runtime()?;
    let mut stop = {
        let _inside = runtime.enter();
        Stop::listen()?
    };
    let (heard, stopped) = oneshot::channel();
    let wait = move || {
        runtime.block_on(stop.wait());
        // Nobody listens any more where the process is ending already.
        heard.send(()).ok();
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(wait)
        .map_err(Error::Signal)?;
    Ok(stopped)
}
