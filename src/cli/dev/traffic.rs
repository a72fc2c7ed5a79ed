//! The live traffic of `dev`: a steady rate of requests, and a picture of it once a second.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};

/// What is asked for, in turn.
const ADDRESSES: [&str; 12] = [
    "Alexanderplatz, Berlin",
    "The Bund, Shanghai",
    "Place de la Concorde, Paris",
    "Circular Quay, Sydney",
    "West Lake, Hangzhou",
    "Shibuya, Tokyo",
    "Baker Street, London",
    "Times Square, New York",
    "Lombard, San Francisco",
    "Uhuru Park, Nairobi",
    "Civic Centre, Shenzhen",
    "Temple of Heaven, Beijing",
];

/// The body of a request, by its number: the standard input form.
pub(super) fn body(number: usize) -> String {
    let address = ADDRESSES.get(number % ADDRESSES.len()).unwrap_or(&"");
    format!(r#"{{"server_name": "test_server", "params": {{}}, "data": ["{address}"]}}"#)
}

/// The most requests under way at once; while so many wait, none is added.
const INFLIGHT_MAX: usize = 256;

/// A request that takes longer counts as an error.
const REQUEST_MAX: Duration = Duration::from_secs(5);

type Connection = SendRequest<Full<Bytes>>;

/// What the traffic should be like, and when it ends by itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// The gateway.
    pub(super) gateway: SocketAddr,
    /// Requests per second.
    pub(super) rate: u32,
    /// The most requests.
    pub(super) requests: Option<u64>,
    /// The longest time.
    pub(super) lasting: Option<Duration>,
}

/// What came back: counts by version, errors, response times.
#[derive(Debug, Default)]
pub(super) struct Tally {
    versions: BTreeMap<String, u64>,
    errors: u64,
    times: Vec<Duration>,
}

/// The end of one request: the version that served it, or `None` where it failed.
#[derive(Debug)]
struct Sample {
    version: Option<String>,
    time: Duration,
    connection: Option<Connection>,
}

impl Tally {
    /// Requests that failed.
    pub(super) fn errors(&self) -> u64 {
        self.errors
    }

    /// `120 requests: base 108  candidate 12, 0 errors`
    pub(super) fn summary(&self) -> String {
        let (requests, counts) = (self.requests(), self.counts());
        format!("{requests} requests: {counts}, {} errors\n", self.errors)
    }

    /// `base 18  candidate 2  | 20 req/s, p50 1.2 ms, 0 errors`
    fn picture(&mut self) -> String {
        self.times.sort_unstable();
        let p50 = self.times.get(self.times.len() / 2);
        let p50 = p50.copied().unwrap_or_default().as_secs_f64() * 1000.0;
        let (requests, counts) = (self.requests(), self.counts());
        let errors = self.errors;
        format!("{counts}  | {requests} req/s, p50 {p50:.1} ms, {errors} errors\n")
    }

    fn requests(&self) -> u64 {
        self.versions.values().sum::<u64>() + self.errors
    }

    fn counts(&self) -> String {
        let counts: Vec<String> = self
            .versions
            .iter()
            .map(|(version, count)| format!("{version} {count}"))
            .collect();
        counts.join("  ")
    }

    fn count(&mut self, version: Option<String>, time: Duration) {
        match version {
            Some(version) => *self.versions.entry(version).or_default() += 1,
            None => self.errors += 1,
        }
        self.times.push(time);
    }

    fn add(&mut self, other: Self) {
        for (version, count) in other.versions {
            *self.versions.entry(version).or_default() += count;
        }
        self.errors += other.errors;
    }
}

/// Sends one request; whether a version served it.
pub(super) async fn try_once(gateway: SocketAddr) -> bool {
    request(gateway, None, 0).await.version.is_some()
}

/// Drives the traffic until the plan ends, showing a picture each second; the sum of it all.
pub(super) async fn drive<E>(plan: Plan, show: impl Fn(&str) -> Result<(), E>) -> Result<Tally, E> {
    let (done, mut samples) = mpsc::channel::<Sample>(INFLIGHT_MAX);
    let (mut sum, mut second) = (Tally::default(), Tally::default());
    let mut idle: Vec<Connection> = Vec::new();
    let mut running = JoinSet::new();
    let mut sent = 0_u64;
    let ends = plan.lasting.map(|lasting| Instant::now() + lasting);
    let mut next = ticker(Duration::from_secs(1) / plan.rate.max(1));
    let mut pictures = ticker(Duration::from_secs(1));
    pictures.tick().await;
    loop {
        let over = ends.is_some_and(|ends| Instant::now() >= ends)
            || plan.requests.is_some_and(|requests| sent >= requests);
        if over && running.is_empty() && samples.is_empty() {
            break;
        }
        tokio::select! {
            _ = next.tick(), if !over && running.len() < INFLIGHT_MAX => {
                let number = usize::try_from(sent).unwrap_or(0);
                sent += 1;
                let (done, connection) = (done.clone(), idle.pop());
                running.spawn(async move {
                    // There is room for every request under way, and the receiver outlives them.
                    drop(done.send(request(plan.gateway, connection, number).await).await);
                });
            }
            Some(sample) = samples.recv() => {
                second.count(sample.version, sample.time);
                idle.extend(sample.connection);
            }
            Some(_ended) = running.join_next() => {}
            _ = pictures.tick() => {
                show(&second.picture())?;
                sum.add(std::mem::take(&mut second));
            }
        }
    }
    sum.add(second);
    Ok(sum)
}

fn ticker(period: Duration) -> Interval {
    let mut ticker = interval(period);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticker
}

async fn request(gateway: SocketAddr, connection: Option<Connection>, number: usize) -> Sample {
    let began = Instant::now();
    let outcome = timeout(REQUEST_MAX, exchange(gateway, connection, number)).await;
    let (version, connection) = outcome.ok().flatten().unzip();
    Sample {
        version: version.flatten(),
        time: began.elapsed(),
        connection,
    }
}

/// The version that answered, where the answer is a success, and the connection for the next one.
async fn exchange(
    gateway: SocketAddr,
    connection: Option<Connection>,
    number: usize,
) -> Option<(Option<String>, Connection)> {
    let mut connection = match connection.filter(|connection| !connection.is_closed()) {
        Some(connection) => connection,
        None => connect(gateway).await?,
    };
    connection.ready().await.ok()?;
    let req = Request::post("/ai_server/")
        .header(header::HOST, gateway.to_string())
        .header(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        )
        .body(Full::from(body(number)))
        .ok()?;
    let resp = connection.send_request(req).await.ok()?;
    let success = resp.status().is_success();
    let version = resp.headers().get("x-smartlink-version").cloned();
    resp.into_body().collect().await.ok()?;
    let version = version
        .filter(|_| success)
        .and_then(|version| version.to_str().ok().map(str::to_owned));
    Some((version, connection))
}

async fn connect(gateway: SocketAddr) -> Option<Connection> {
    let stream = TcpStream::connect(gateway).await.ok()?;
    let (connection, driver) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    // How the connection ends shows in the requests on it.
    tokio::spawn(async move { drop(driver.await) });
    Some(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_is_one_line() {
        let mut tally = Tally::default();
        for n in 0..20_u32 {
            let version = if n % 10 == 0 { "candidate" } else { "base" };
            tally.count(Some(version.to_owned()), Duration::from_micros(1200));
        }
        let line = "base 18  candidate 2  | 20 req/s, p50 1.2 ms, 0 errors\n";
        assert_eq!(tally.picture(), line);
        tally.count(None, Duration::from_secs(5));
        let line = "21 requests: base 18  candidate 2, 1 errors\n";
        assert_eq!(tally.summary(), line);
    }
}
