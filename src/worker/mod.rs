//! The shadow worker: reads records, asks candidates the same, compares, counts.
//!
//! A candidate's failure is a result and never tried again; what never left the worker is. Each
//! candidate has a lane of its own, so that a slow one holds up nobody else.
//!
//! Invariant: a record is counted once, whatever dies in between; and never more calls at once, or in
//! a second, than the operator allows.

mod call;
mod desk;
mod feed;
mod gate;
mod lane;
mod lanes;
mod meter;
mod mirror;
mod outlook;
mod pace;
mod result;
mod scorer;
mod status;
mod usual;

use std::rc::Rc;
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::model::name::{ServiceName, VersionName};
use crate::model::settings::Rate;
use crate::review::Mode;
use crate::store::{Comparisons, Error, Options, Start, View};

use desk::Desk;
use feed::Feed;
use lanes::Lanes;
pub use meter::{Asked, Calls, Meter};
pub use mirror::Mirror;
pub use scorer::{BadKey, key as scorer_key};
pub use status::{Doing, Status};

/// How often the configuration is read.
const READ_EVERY: Duration = Duration::from_secs(1);
/// The most calls to a candidate at once, where nobody says otherwise: models are expensive.
const MAX_CONCURRENT: usize = 4;

/// The most calls to a candidate, where nobody says otherwise.
fn usual_rate() -> Rate {
    Rate {
        count: 10,
        per: Duration::from_secs(1),
    }
}

/// What was told last of each lane.
pub type Board = watch::Receiver<Vec<Status>>;

/// What a worker is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Redis with the configuration.
    pub config: Options,
    /// Redis with the records and results.
    pub records: Options,
    /// Brokers of Kafka to begin with, for services whose records are there.
    pub kafka: Option<String>,
    /// Whose records.
    pub services: Vec<ServiceName>,
    /// Which candidates; empty: those that the policies name.
    pub candidates: Vec<VersionName>,
    /// Where the group of a candidate begins that was never compared before.
    pub start: Start,
    /// How old records are treated.
    pub mode: Mode,
    /// The most calls to a candidate.
    pub max_rate: Option<Rate>,
    /// The most calls to a candidate at once.
    pub max_concurrent: usize,
    /// After how long a silent worker's records are taken over; `None`: twice the service's
    /// time-out and ten seconds.
    pub claim_after: Option<Duration>,
    /// End when everything was compared.
    pub once: bool,
    /// What models behind a scorer want to see as `authorization`.
    pub scorer_key: Option<HeaderValue>,
}

/// What all lanes share.
struct Shared {
    plan: Plan,
    comparisons: Comparisons,
    /// Where events are told, if not beside the records.
    herald: Option<Comparisons>,
    calls: call::Caller,
    scorer: scorer::Scorer,
}

impl Shared {
    fn new(plan: Plan, comparisons: Comparisons, herald: Option<Comparisons>) -> Self {
        Self {
            scorer: scorer::Scorer::new(plan.scorer_key.clone()),
            plan,
            comparisons,
            herald,
            calls: call::Caller::default(),
        }
    }
}

/// Works until `stop` says so, or everything is compared where that is enough; tells each second
/// how far every lane is. Needs a `LocalSet` around it.
pub async fn run(
    plan: Plan,
    mut stop: watch::Receiver<bool>,
    mut tell: impl FnMut(&[Status]),
) -> Result<Vec<Status>, Error> {
    let view = View::connect(&plan.config)?;
    let comparisons = Comparisons::connect(&plan.records)?;
    // Whoever looks for events, and raises alerts, looks where the configuration is.
    let apart = plan.records.url != plan.config.url;
    let herald = apart.then(|| Comparisons::connect(&plan.config));
    let herald = herald.transpose()?;
    view.wait().await?;
    comparisons.wait().await?;
    if let Some(herald) = &herald {
        herald.wait().await?;
    }
    let mut desk = Desk::new(view, plan.services.clone());
    desk.read().await?;
    let shared = Rc::new(Shared::new(plan, comparisons, herald));
    let mut lanes = Lanes::new(Rc::clone(&shared), stop.clone());
    let mut turns = interval(READ_EVERY);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        for (service, job) in desk.jobs() {
            for candidate in lanes.candidates(job).to_vec() {
                let names = (service.as_str(), candidate.as_str());
                lanes.give((service, &candidate), job, |place| {
                    Feed::at(place, &shared.plan, names)
                });
            }
        }
        if shared.plan.once && lanes.lead_nowhere() {
            break;
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            _ = turns.tick() => {
                tell(&lanes.statuses());
                // What was read last stays in force while Redis is away.
                if let Err(error) = desk.read().await {
                    crate::telemetry::redis_lost(&error.to_string());
                }
            }
            last = lanes.ended() => {
                if last && shared.plan.once {
                    break;
                }
            }
        }
    }
    lanes.all_ended().await;
    // Whatever is pending stays pending: somebody will claim it.
    drop(shared.comparisons.close().await);
    Ok(lanes.statuses())
}
