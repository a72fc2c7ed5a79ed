//! Shares of quotas that gateways count against together: `lua/lease_quota.lua`.

use std::time::Duration;

use fred::types::Value;

use super::{Error, Store};

/// A share that is not asked for again goes back after this long.
pub const QUOTA_LEASE: Duration = Duration::from_secs(1);

/// What a gateway asks of one quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaWish {
    /// The name of the quota.
    pub quota: String,
    /// What it could use, of the whole.
    pub want: u64,
    /// What it still holds.
    pub held: u64,
}

impl Store {
    /// Asks for shares of quotas whose whole is `whole`: a share for each, in their order.
    pub async fn lease_quotas(&self, wishes: &[QuotaWish], whole: u64) -> Result<Vec<u64>, Error> {
        const STEP: &str = "lease quotas";
        let client = self.here()?;
        let name = |wish: &QuotaWish| self.keys.internal(&format!("quota:{}", wish.quota));
        let keys: Vec<String> = wishes.iter().map(name).collect();
        let mut args = vec![
            self.gateway.to_string(),
            QUOTA_LEASE.as_millis().to_string(),
            whole.to_string(),
        ];
        for wish in wishes {
            args.extend([wish.want.to_string(), wish.held.to_string()]);
        }
        let answer: Value = self
            .scripts
            .lease_quota
            .evalsha_with_reload(client, keys, args)
            .await
            .map_err(Error::step(STEP))?;
        let shares = match answer {
            Value::Array(shares) => shares.iter().map(Value::as_u64).collect::<Option<Vec<_>>>(),
            _ => None,
        };
        shares
            .filter(|shares| shares.len() == wishes.len())
            .ok_or(Error::Answer(STEP))
    }
}
