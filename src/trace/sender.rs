//! The way to the collector: batches over one kept connection, a few tries each.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Request as HttpRequest, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Options, Request, form};
use crate::model::settings::Transport;
use crate::stats::Meters;
use crate::telemetry;
use crate::transport::{self, TlsConfigs};

/// The most requests of one batch.
const BATCH_MAX: usize = 512;
/// How long a request waits for others of its batch.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// How long the collector may take over one batch.
const LIMIT: Duration = Duration::from_secs(10);
/// How often a batch is tried, and the wait after the first time; each next one is twice as long.
const TRIES: u32 = 3;
const WAIT: Duration = Duration::from_secs(1);
/// The most of an answer that is read.
const ANSWER_MAX: usize = 64 << 10;
/// Between two complaints.
const COMPLAIN_EVERY: Duration = Duration::from_mins(1);

/// Sends until all taps are gone.
pub(super) async fn run(
    options: &Options,
    mut told: mpsc::Receiver<Box<Request>>,
    meters: &Meters,
) {
    let mut way = Way::new(options);
    let mut complained: Option<Instant> = None;
    while let Some(batch) = gather(&mut told).await {
        let all: u64 = batch.iter().map(|request| request.spans()).sum();
        let body = Bytes::from(form::export(&options.instance, &batch));
        drop(batch);
        match way.deliver(&body).await {
            Ok(rejected) => {
                let rejected = rejected.min(all);
                meters.spans_sent.add(all - rejected);
                meters.spans_failed.add(rejected);
            }
            Err(why) => {
                meters.spans_failed.add(all);
                if complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
                    complained = Some(Instant::now());
                    telemetry::spans_lost(&why.to_string());
                }
            }
        }
    }
}

/// The next batch; `None` where no more are to come.
async fn gather(told: &mut mpsc::Receiver<Box<Request>>) -> Option<Vec<Box<Request>>> {
    let mut batch = vec![told.recv().await?];
    let end = Instant::now() + BATCH_WAIT;
    while batch.len() < BATCH_MAX {
        let room = BATCH_MAX - batch.len();
        match timeout_at(end, told.recv_many(&mut batch, room)).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => break,
        }
    }
    Some(batch)
}

/// A connection to the collector, kept while it works.
struct Way<'o> {
    options: &'o Options,
    path: String,
    tls: TlsConfigs,
    began: Instant,
    kept: Option<SendRequest<Full<Bytes>>>,
}

/// How a try ended that may do better the next time.
enum Setback {
    Again(io::Error),
    Never(io::Error),
}

/// What a collector says of a batch it did not take as a whole.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Answer {
    partial_success: Partial,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Partial {
    /// A 64-bit number, which this encoding writes as text and readers take as either.
    rejected_spans: Count,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Count {
    Number(u64),
    Text(String),
}

impl Default for Count {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl<'o> Way<'o> {
    fn new(options: &'o Options) -> Self {
        let base = options.collector.path.trim_end_matches('/');
        Self {
            options,
            path: format!("{base}/v1/traces"),
            tls: TlsConfigs::default(),
            began: Instant::now(),
            kept: None,
        }
    }

    /// Brings a batch to the collector; how many of its spans that one rejected.
    async fn deliver(&mut self, body: &Bytes) -> io::Result<u64> {
        let mut wait = WAIT;
        for left in (0..TRIES).rev() {
            let tried = timeout(LIMIT, self.attempt(body.clone())).await;
            let late = |_elapsed| Err(Setback::Again(io::ErrorKind::TimedOut.into()));
            let error = match tried.unwrap_or_else(late) {
                Ok(rejected) => return Ok(rejected),
                Err(Setback::Again(error)) if left > 0 => error,
                Err(Setback::Again(error) | Setback::Never(error)) => {
                    self.kept = None;
                    return Err(error);
                }
            };
            tracing::debug!(%error, "spans are sent again");
            self.kept = None;
            sleep(wait).await;
            wait *= 2;
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    async fn attempt(&mut self, body: Bytes) -> Result<u64, Setback> {
        let again = |error: hyper::Error| Setback::Again(io::Error::other(error));
        let kept = self.kept.take();
        let mut sender = match kept.filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => self.connect().await.map_err(Setback::Again)?,
        };
        sender.ready().await.map_err(again)?;
        let request = HttpRequest::post(&self.path)
            .header(header::HOST, &*self.options.collector.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, "smartlink")
            .body(Full::new(body))
            .map_err(|error| Setback::Never(io::Error::other(error)))?;
        let answer = sender.send_request(request).await.map_err(again)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        let body = body.map_err(|error| Setback::Again(io::Error::other(error)))?;
        self.kept = Some(sender);
        if status.is_success() {
            // An answer in another form says that all is well, as far as one can know.
            let answer: Answer = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
            return Ok(match answer.partial_success.rejected_spans {
                Count::Number(count) => count,
                Count::Text(text) => text.parse().unwrap_or(0),
            });
        }
        let error = io::Error::other(format!("the collector answers {status}"));
        // As the protocol has it: these may be tried again, no others.
        Err(match status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Setback::Again(error),
            _ => Setback::Never(error),
        })
    }

    async fn connect(&self) -> io::Result<SendRequest<Full<Bytes>>> {
        let target = &self.options.collector;
        let addresses = tokio::net::lookup_host((&*target.host, target.port)).await?;
        let addresses: Vec<_> = addresses.collect();
        let (tcp, _) = transport::connect(&addresses, LIMIT / 2).await?;
        let transport = Transport::default();
        let age_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let io = transport::speak(tcp, target, &transport, &self.tls, age_ms).await?;
        let (sender, connection) = http1::handshake(io).await.map_err(io::Error::other)?;
        tokio::task::spawn_local(async move {
            // However it ends is seen by who sends next.
            connection.await.ok();
        });
        Ok(sender)
    }
}
