//! Records on their way into topics: the library queues, batches and tries again on threads of its
//! own, and reports each record once.

use std::sync::Mutex;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer,
};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Error, Message, Reason, Refused, Report};
use crate::telemetry;

/// How long a record may wait for others to be sent with.
const LINGER_MS: &str = "20";
/// After how long a record that no broker took is given up.
const GIVE_UP_MS: &str = "120000";
/// The most that the library holds; the gateway's own room bounds it too.
const QUEUED_KBYTES_MAX: &str = "65536";
/// The largest record; brokers refuse earlier, at 1 MiB unless they are told otherwise.
const RECORD_MAX: &str = "16777216";
/// Between two complaints.
const COMPLAIN_EVERY: Duration = Duration::from_secs(30);

/// Sends records; each comes back in a report, with the ticket it was sent with.
pub struct Producer<T: Send + Sync + 'static> {
    /// Taken only by `drop`.
    inner: Option<ThreadedProducer<Reports<T>>>,
}

/// Where reports go.
struct Reports<T> {
    reports: mpsc::UnboundedSender<Report<T>>,
    complained: Mutex<Option<Instant>>,
}

impl<T: Send + Sync + 'static> std::fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Producer<T> {
    /// A producer that begins to connect to these brokers (`host:port`, commas between), and where
    /// its reports arrive. The records that are on their way bound the reports.
    pub fn start(servers: &str) -> Result<(Self, mpsc::UnboundedReceiver<Report<T>>), Error> {
        let (reports, reported) = mpsc::unbounded_channel();
        let context = Reports {
            reports,
            complained: Mutex::new(None),
        };
        let inner = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("client.id", "smartlink")
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", LINGER_MS)
            .set("message.timeout.ms", GIVE_UP_MS)
            .set("queue.buffering.max.kbytes", QUEUED_KBYTES_MAX)
            .set("message.max.bytes", RECORD_MAX)
            .create_with_context(context)
            .map_err(step("make a producer"))?;
        let producer = Self { inner: Some(inner) };
        Ok((producer, reported))
    }

    /// Puts a record on its way; never waits. The ticket comes back where it was not taken.
    pub fn send(&self, message: Message<'_>, ticket: T) -> Result<(), (Refused, T)> {
        let Some(inner) = &self.inner else {
            return Err((Refused::Full, ticket));
        };
        let room = OwnedHeaders::new_with_capacity(message.headers.len());
        let headers = message.headers.iter().fold(room, |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: Some(*value),
            })
        });
        let record = BaseRecord::with_opaque_to(message.topic, Box::new(ticket))
            .key(message.key)
            .payload(message.value)
            .headers(headers);
        inner.send(record).map_err(|(error, record)| {
            let full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
            let why = if full {
                Refused::Full
            } else {
                Refused::ForGood(step("send a record")(error))
            };
            (why, *record.delivery_opaque)
        })
    }

    /// Gives up whatever is on its way; each record is reported as not delivered.
    pub fn give_up(&self) {
        if let Some(inner) = &self.inner {
            inner.purge(PurgeConfig::default().queue().inflight());
        }
    }
}

impl<T: Send + Sync + 'static> Drop for Producer<T> {
    fn drop(&mut self) {
        // Taking leave of brokers that are away takes a while, and nobody is to wait for it.
        let inner = self.inner.take();
        let leave = std::thread::Builder::new().name("kafka-leave".to_owned());
        drop(leave.spawn(move || drop(inner)));
    }
}

impl<T: Send + Sync> ClientContext for Reports<T> {
    fn error(&self, error: KafkaError, reason: &str) {
        let now = Instant::now();
        let Ok(mut complained) = self.complained.lock() else {
            return;
        };
        if complained.is_none_or(|at| now >= at + COMPLAIN_EVERY) {
            *complained = Some(now);
            telemetry::kafka_lost(&format!("{error}: {reason}"));
        }
    }
}

impl<T: Send + Sync + 'static> ProducerContext for Reports<T> {
    type DeliveryOpaque = Box<T>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<T>) {
        let report = Report {
            ticket: *ticket,
            delivered: result.is_ok(),
        };
        // Whoever does not listen any more does not want to know.
        drop(self.reports.send(report));
    }
}

/// An error of this step.
pub(super) fn step(step: &'static str) -> impl FnOnce(KafkaError) -> Error {
    move |error| Error::Step {
        step,
        source: Reason(error.to_string()),
    }
}
