//! `dev`: everything on a fresh machine: a private Redis, two demo services, the gateway, and live
//! traffic that moves when a weight is written.
//!
//! Invariant: whatever ends it, no process and no folder of its own stays behind.

mod redis;
mod rollout;
mod traffic;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep};

use super::demo::Faults;
use super::{demo, serve, signal};
use crate::app::{self, App};
use crate::model::keys::Keys;
use crate::model::name::Name;
use crate::review::Mode;
use crate::{settings, store, worker};
use redis::{Install, Redis};
use traffic::Plan;

/// Why `dev` could not bring everything up.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot look for a Redis server")]
    FindRedis(#[source] io::Error),
    #[error("no Redis server: put redis-server or valkey-server on PATH")]
    NoRedis,
    #[error("cannot start the private Redis")]
    StartRedis(#[source] io::Error),
    #[error("the private Redis does not answer: {0}")]
    RedisSilent(String),
    #[error("cannot write to the private Redis")]
    AskRedis(#[source] io::Error),
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        cause: io::Error,
    },
    #[error("cannot start the gateway's thread")]
    Thread(#[source] io::Error),
    #[error("the gateway does not serve test_server")]
    NotServing,
}

/// How many ports above a taken one are tried.
const PORTS_TRIED: u16 = 100;

/// How long the gateway may take to serve what was written.
const READY_MAX: Duration = Duration::from_secs(10);

/// Runs until a signal, or until `--requests` or `--for` is reached.
pub(super) fn run(dev: &settings::Dev) -> Result<ExitCode, super::Error> {
    super::runtime()?.block_on(LocalSet::new().run_until(async {
        let mut stop = signal::Stop::listen()?;
        // Dropping the play, whichever way it ends, takes everything down again.
        tokio::select! {
            end = play(dev) => end,
            () = stop.wait() => Ok(ExitCode::SUCCESS),
        }
    }))
}

async fn play(dev: &settings::Dev) -> Result<ExitCode, super::Error> {
    let install = if dev.no_install {
        Install::Forbidden
    } else {
        Install::Allowed
    };
    let server = redis::find(install).await?;
    let redis = Redis::start(&server, dev.redis_port).await?;
    let mut services = JoinSet::new();
    let base = spawn_demo(&mut services, "base", Faults::None).await?;
    if let Some(kind) = dev.rollout {
        let candidate = spawn_demo(&mut services, "candidate", rollout::faults(kind)).await?;
        return rollout::play(dev, &redis, [base, candidate]).await;
    }
    let candidate = spawn_demo(&mut services, "candidate", Faults::None).await?;
    let next = spawn_demo(&mut services, "next", Faults::All).await?;
    for command in [
        format!(
            "HSET smartlink:endpoints:test_server http://{base}/get_lng_lat/ base \
             http://{candidate}/get_lng_lat/ candidate http://{next}/get_lng_lat/ next"
        ),
        "HSET smartlink:shadow:test_server candidate next ignore /version".to_owned(),
        "HSET smartlink:weights:test_server base 90 candidate 10".to_owned(),
    ] {
        redis.send(&command).await?;
    }
    let gateway = Gateway::start(dev, redis.address()).await?;
    ready(gateway.public).await?;
    super::print(&introduction(
        &gateway,
        redis.address(),
        [base, candidate, next],
    ))?;
    // How it ends shows in its report.
    let worker = tokio::task::spawn_local(compare(redis.address()));
    let plan = Plan {
        gateway: gateway.public,
        rate: dev.rate,
        requests: dev.requests,
        lasting: dev.lasting,
    };
    let tally = traffic::drive(plan, super::print).await?;
    worker.abort();
    super::print(&tally.summary())?;
    Ok(match tally.errors() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Starts a demo service on a free loopback port.
async fn spawn_demo(
    services: &mut JoinSet<std::convert::Infallible>,
    version: &str,
    faults: Faults,
) -> Result<SocketAddr, super::Error> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = demo::listen(any).await?;
    let address = listener.local_addr().map_err(|cause| Error::Listen {
        address: any,
        cause,
    })?;
    let role = demo::Role {
        version: version.to_owned(),
        faults,
    };
    services.spawn(demo::serve(listener, role));
    Ok(address)
}

/// Where the private Redis is.
fn place(redis: SocketAddr) -> store::Options {
    store::Options {
        url: format!("redis://{redis}/0"),
        user: None,
        password: None,
        keys: Keys::new("smartlink:"),
        instance: "dev".to_owned(),
    }
}

/// Compares what no user sees yet with `base` on everything that is asked.
async fn compare(redis: SocketAddr) {
    if let Err(error) = try_compare(redis).await {
        eprintln!("smartlink: {}", super::chain(&error));
    }
}

async fn try_compare(redis: SocketAddr) -> Result<(), super::Error> {
    let options = place(redis);
    let plan = worker::Plan {
        config: options.clone(),
        records: options,
        kafka: None,
        services: Name::parse("test_server").into_iter().collect(),
        candidates: Vec::new(),
        start: store::Start::Oldest,
        mode: Mode::Live,
        max_rate: None,
        max_concurrent: 4,
        claim_after: None,
        once: false,
        scorer_key: worker::scorer_key(settings::secret)?,
    };
    // It lasts as long as the play.
    let (_say, stop) = watch::channel(false);
    let done = worker::run(plan, stop, |_| {}).await;
    done.map_err(app::Error::from)?;
    Ok(())
}

/// Waits until the gateway has read its table and a service answers.
async fn ready(gateway: SocketAddr) -> Result<(), Error> {
    let deadline = Instant::now() + READY_MAX;
    while !traffic::try_once(gateway).await {
        if Instant::now() > deadline {
            return Err(Error::NotServing);
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// What there is, and the lines to try.
fn introduction(
    gateway: &Gateway,
    redis: SocketAddr,
    [base, candidate, next]: [SocketAddr; 3],
) -> String {
    let (public, body, port) = (gateway.public, traffic::body(0), redis.port());
    let admin = gateway.admin;
    let shift = redis::typed(
        port,
        "HSET smartlink:weights:test_server base 50 candidate 50",
    );
    let mistake = redis::typed(port, "HSET smartlink:weights:test_server candidate lots");
    let errors = redis::typed(port, "HGETALL smartlink:errors");
    format!(
        "
gateway    http://{public}   admin http://{admin}
redis      127.0.0.1:{port} (private, gone when this ends)
services   base http://{base}/get_lng_lat/   candidate http://{candidate}/get_lng_lat/
           next http://{next}/get_lng_lat/ (no user sees it: it gets a copy of every request)

Ask (in another terminal):
  curl -s http://{public}/ai_server/ -d '{body}'
Shift traffic, and watch it move below:
  {shift}
Write something wrong, and read what it is:
  {mistake}
  {errors}
See what is wrong with next, before any user does:
  smartlink shadow report test_server --redis redis://{redis}
Ctrl-C ends everything.

"
    )
}

/// The gateway, on a thread of its own; drained and gone when dropped.
struct Gateway {
    public: SocketAddr,
    admin: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Gateway {
    async fn start(dev: &settings::Dev, redis: SocketAddr) -> Result<Self, super::Error> {
        let wanted = (dev.listen, dev.admin);
        let (stop, stopped) = oneshot::channel::<()>();
        let (started, start) = oneshot::channel();
        let run = move || match bind(wanted, redis) {
            Err(error) => drop(started.send(Err(error))),
            Ok((bound, addresses)) => {
                drop(started.send(Ok(addresses)));
                // A sender that is gone means the same as a word from it.
                let stopped = async { drop(stopped.await) };
                if let Err(error) = bound.run(stopped) {
                    eprintln!("smartlink: {}", super::chain(&error));
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("gateway".to_owned())
            .spawn(run)
            .map_err(Error::Thread)?;
        let (public, admin) = start.await.map_err(|_gone| Error::NotServing)??;
        Ok(Self {
            public,
            admin,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // What it had to say it said itself.
            drop(thread.join());
        }
    }
}

/// Opens the gateway on the wanted addresses, or above them where somebody else listens, also where
/// that one was faster by a moment.
fn bind(
    (listen, admin): (SocketAddr, SocketAddr),
    redis: SocketAddr,
) -> Result<(app::Bound, (SocketAddr, SocketAddr)), super::Error> {
    let mut races = 0;
    loop {
        let public = next_free(listen, None)?;
        let addresses = (public, next_free(admin, Some(public))?);
        let serve = settings::Serve::for_dev(addresses.0, addresses.1, redis);
        match App::bind(serve::options(&serve)) {
            Ok(bound) => return Ok((bound, addresses)),
            Err(error) if is_taken(&error) && races < PORTS_TRIED => races += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether an address is in use, somewhere down the causes.
fn is_taken(error: &app::Error) -> bool {
    let first: &dyn std::error::Error = error;
    let mut causes = std::iter::successors(Some(first), |error| error.source());
    causes.any(|cause| {
        let cause = cause.downcast_ref::<io::Error>();
        cause.is_some_and(|cause| cause.kind() == io::ErrorKind::AddrInUse)
    })
}

/// `wanted`, or the next port above it that nobody listens on and that is not spoken for.
fn next_free(wanted: SocketAddr, spoken_for: Option<SocketAddr>) -> Result<SocketAddr, Error> {
    let mut address = wanted;
    for port in wanted.port()..=wanted.port().saturating_add(PORTS_TRIED) {
        address.set_port(port);
        if Some(address) == spoken_for {
            continue;
        }
        match TcpListener::bind(address).and_then(|listener| listener.local_addr()) {
            Err(cause) if cause.kind() == io::ErrorKind::AddrInUse => {}
            free => return free.map_err(|cause| Error::Listen { address, cause }),
        }
    }
    Err(Error::Listen {
        address: wanted,
        cause: io::ErrorKind::AddrInUse.into(),
    })
}
