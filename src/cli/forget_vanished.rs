//! `forget-vanished`: orders every gateway to drop what vanished from Redis without being deleted
//! by name.

use std::process::ExitCode;

use super::{Error, random, redis_options};
use crate::settings;
use crate::store::Store;

/// Leaves the order in Redis; gateways follow it with their next sign of life.
pub(super) fn run(forget: &settings::ForgetVanished) -> Result<ExitCode, Error> {
    let options = redis_options(&forget.redis, &format!("forget-{}", std::process::id()));
    super::runtime()?
        .block_on(async {
            let (store, mut events) = Store::connect(&options)?;
            store.wait(&mut events).await?;
            // Gateways follow an order once: each has a name of its own.
            store.order_forget(&format!("{:016x}", random())).await
        })
        .map_err(|cause| Error::Redis {
            place: options.shown(),
            cause,
        })?;
    super::print("ordered: gateways drop what vanished within a second\n")?;
    Ok(ExitCode::SUCCESS)
}
