//! OpenTelemetry spans of sampled requests, sent over OTLP/HTTP by a thread of their own.
//!
//! Invariant: telling a span never waits. What the sender does not keep up with is dropped and
//! counted; a collector that is away, hangs or refuses costs spans and nothing else.

mod context;
mod form;
mod request;
mod sender;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use tokio::time::Instant;

pub use context::{Context, SpanId, TraceId};
pub use request::{Attempt, Request, Trace};

use crate::access::Sample;
use crate::model::endpoint::Target;
use crate::stats::Meters;
use crate::telemetry;

/// How many requests may wait for the sender.
const QUEUE_MAX: usize = 4_096;
/// How long the sender may take for the last spans when the gateway stops.
const LEAVE: Duration = Duration::from_secs(1);

/// Where spans go, and which.
#[derive(Clone, Debug)]
pub struct Options {
    /// The collector; `/v1/traces` stands behind its path.
    pub collector: Target,
    /// Which share of the requests that no caller decided on, from 0 to 1.
    pub sample: f64,
    /// Our name among the gateways.
    pub instance: String,
}

/// Takes requests that are over; each thread has a clone.
#[derive(Clone, Debug)]
pub struct Tap {
    requests: mpsc::Sender<Box<Request>>,
    meters: Arc<Meters>,
    sample: Sample,
}

impl Tap {
    /// Whether a request is recorded: as its caller decided, else by this random number.
    #[must_use]
    pub fn wants(&self, caller: Option<&Context>, random: u64) -> bool {
        caller.map_or_else(|| self.sample.takes(random), |caller| caller.sampled)
    }

    /// Hands a request to the sender, or drops it where that one is too far behind.
    pub fn tell(&self, request: Box<Request>) {
        if let Err(refused) = self.requests.try_send(request) {
            let spans = refused.into_inner().spans();
            self.meters.spans_dropped.add(spans);
        }
    }
}

/// The sender's thread.
#[derive(Debug)]
pub struct Sender {
    thread: JoinHandle<()>,
}

/// Starts the sender; what becomes of spans is counted in `meters`.
///
/// # Errors
/// Where no thread can be started.
pub fn start(options: Options, meters: &Arc<Meters>) -> std::io::Result<(Tap, Sender)> {
    let (requests, told) = mpsc::channel(QUEUE_MAX);
    let tap = Tap {
        requests,
        meters: Arc::clone(meters),
        sample: Sample::new(options.sample),
    };
    let counts = Arc::clone(meters);
    let thread = std::thread::Builder::new()
        .name("spans".to_owned())
        .spawn(move || {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(1)
                .build_local(LocalOptions::default());
            match runtime {
                Ok(runtime) => {
                    runtime.block_on(sender::run(&options, told, &counts));
                    // Look-ups of names may hang in the system's resolver: nobody waits for them.
                    runtime.shutdown_background();
                }
                Err(error) => telemetry::spans_lost(&error.to_string()),
            }
        })?;
    Ok((tap, Sender { thread }))
}

impl Sender {
    /// Waits until the last spans are sent, a second at most. All `Tap`s must be gone.
    pub fn finish(self) {
        let end = Instant::now() + LEAVE;
        while !self.thread.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::access::Line;

    fn request(attempts: usize) -> Box<Request> {
        let own = Context {
            trace: [b'1'; 32],
            span: [b'2'; 16],
            sampled: true,
        };
        let attempt = Attempt {
            span: [b'3'; 16],
            version: "base".into(),
            endpoint: "http://h/".into(),
            url: "http://h/".to_owned(),
            server: ("h".into(), 80),
            begun_us: 0,
            ended_us: None,
            status: None,
            error: None,
        };
        Box::new(Request {
            line: Line::new(SystemTime::UNIX_EPOCH, "127.0.0.1".parse().expect("one")),
            trace: Trace {
                own,
                parent: None,
                state: None,
                peer: "127.0.0.1:1".parse().expect("one"),
                attempts: vec![attempt; attempts],
            },
        })
    }

    #[test]
    fn what_has_no_room_is_dropped_and_counted_span_by_span() {
        let (requests, mut told) = mpsc::channel(2);
        let tap = Tap {
            requests,
            meters: Arc::default(),
            sample: Sample::new(1.0),
        };
        for attempts in [0, 1, 2, 3] {
            tap.tell(request(attempts));
        }
        assert_eq!(tap.meters.spans_dropped.get(), 3 + 4);
        assert_eq!(told.try_recv().expect("the first").spans(), 1);
    }

    #[test]
    fn a_caller_decides_before_chance_does() {
        let (requests, _told) = mpsc::channel(1);
        let tap = |share| Tap {
            requests: requests.clone(),
            meters: Arc::default(),
            sample: Sample::new(share),
        };
        let caller = |sampled| Context {
            trace: [b'1'; 32],
            span: [b'2'; 16],
            sampled,
        };
        for (share, caller, wanted) in [
            (0.0, None, false),
            (1.0, None, true),
            (0.0, Some(caller(true)), true),
            (1.0, Some(caller(false)), false),
        ] {
            assert_eq!(tap(share).wants(caller.as_ref(), 7), wanted, "{share}");
        }
    }
}
