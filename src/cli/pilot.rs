//! `pilot`: walks rollouts until it is told to stop.

use std::process::ExitCode;

use super::serve::or_other;
use super::{Error, redis_options, runtime, signal::Stop};
use crate::control::pilot::{Options, Pilot};
use crate::{settings, telemetry};

/// Walks.
pub(super) fn run(pilot: &settings::Pilot) -> Result<ExitCode, Error> {
    let filter = telemetry::parse_filter(&pilot.log.filter).map_err(Error::Log)?;
    telemetry::init(pilot.log.format, filter).map_err(Error::Log)?;
    let name = settings::unique_name();
    let config = redis_options(&pilot.redis, &name);
    let place = config.shown();
    let options = Options {
        stats: or_other(&config, pilot.stats_redis.as_ref()),
        shadow: or_other(&config, pilot.shadow_redis.as_ref()),
        config,
        services: pilot.services.clone(),
        tick: pilot.tick,
    };
    runtime()?.block_on(async {
        let mut stop = Stop::listen()?;
        let failed = |cause| Error::Redis {
            place: place.clone(),
            cause,
        };
        let pilot = Pilot::new(options).map_err(failed)?;
        pilot.wait().await.map_err(failed)?;
        pilot.run(stop.wait()).await;
        Ok::<_, Error>(())
    })?;
    Ok(ExitCode::SUCCESS)
}
