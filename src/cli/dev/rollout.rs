//! `dev --rollout`: a candidate on its way, with short clocks: to everything, or back.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::sleep;

use super::redis::{Redis, typed};
use super::traffic::{self, Plan};
use super::{Gateway, compare, place, ready};
use crate::cli::demo::Faults;
use crate::cli::{Error, print};
use crate::control::pilot::{Options, Pilot, TICK};
use crate::policy::rollout::{Memory, shares};
use crate::settings::{self, DevRollout};
use crate::store::View;

/// Requests per second at least, so that it takes a minute or two.
const RATE_MIN: u32 = 50;

/// What is wrong with the candidate.
pub(super) fn faults(kind: DevRollout) -> Faults {
    match kind {
        DevRollout::Good => Faults::None,
        DevRollout::Bad => Faults::All,
        DevRollout::Flaky => Faults::OfUsers,
    }
}

/// Runs a rollout under live traffic.
pub(super) async fn play(
    dev: &settings::Dev,
    redis: &Redis,
    [base, candidate]: [SocketAddr; 2],
) -> Result<ExitCode, Error> {
    for command in [
        format!(
            "HSET smartlink:endpoints:test_server http://{base}/get_lng_lat/ base \
             http://{candidate}/get_lng_lat/ candidate"
        ),
        "HSET smartlink:shadow:test_server candidate candidate ignore /version".to_owned(),
        "HSET smartlink:rollout:test_server candidate candidate steps 5,25,50 step_min_time 5s \
         step_min_requests 20 bake 10s"
            .to_owned(),
    ] {
        redis.send(&command).await?;
    }
    let gateway = Gateway::start(dev, redis.address()).await?;
    ready(gateway.public).await?;
    print(&introduction(&gateway, redis.address()))?;
    let options = place(redis.address());
    let failed = |cause| Error::Redis {
        place: options.shown(),
        cause,
    };
    let pilot = Pilot::new(Options {
        config: options.clone(),
        stats: options.clone(),
        shadow: options.clone(),
        services: Vec::new(),
        tick: TICK,
    });
    let pilot = tokio::task::spawn_local(pilot.map_err(failed)?.run(std::future::pending()));
    let view = View::connect(&options).map_err(failed)?;
    let watch = tokio::task::spawn_local(tell(view));
    // How it ends shows in its report.
    let worker = tokio::task::spawn_local(compare(redis.address()));
    let plan = Plan {
        gateway: gateway.public,
        rate: dev.rate.max(RATE_MIN),
        requests: dev.requests,
        lasting: dev.lasting,
    };
    let tally = traffic::drive(plan, print).await?;
    for task in [worker, watch, pilot] {
        task.abort();
    }
    print(&tally.summary())?;
    Ok(ExitCode::SUCCESS)
}

/// Says each second what changed about the rollout.
async fn tell(view: View) {
    let key = crate::model::name::Name::parse("test_server").map(|name| view.keys().pilot(&name));
    let keys: Vec<String> = key.into_iter().collect();
    let mut last = String::new();
    loop {
        sleep(Duration::from_millis(500)).await;
        let Ok(hashes) = view.hashes(&keys).await else {
            continue;
        };
        let Some(memory) = hashes.first().and_then(Memory::from_fields) else {
            continue;
        };
        let share = shares::percent(memory.share);
        let now = format!("{} at {share}: {}", memory.state.name(), memory.reason);
        if now != last && print(&format!("rollout: {now}\n")).is_err() {
            return;
        }
        last = now;
    }
}

/// What there is, and the lines to try.
fn introduction(gateway: &Gateway, redis: SocketAddr) -> String {
    let (public, admin, port) = (gateway.public, gateway.admin, redis.port());
    let hold = typed(port, "HSET smartlink:rollout:test_server state paused");
    let go = typed(port, "HSET smartlink:rollout:test_server state running");
    let take = typed(
        port,
        "HSET smartlink:weights:test_server base 80 candidate 20",
    );
    format!(
        "
gateway    http://{public}   admin http://{admin}
redis      127.0.0.1:{port} (private, gone when this ends)
rollout    of test_server: copies first, then 5, 25, 50 % of the traffic, then everything; the clocks are short

See how far it is, and why (in another terminal):
  smartlink rollout status test_server --redis redis://{redis}
  smartlink rollout explain test_server --redis redis://{redis}
Hold it, and let it go on:
  {hold}
  {go}
Take the weights over: the pilot pauses and says so:
  {take}
Ctrl-C ends everything.

"
    )
}
