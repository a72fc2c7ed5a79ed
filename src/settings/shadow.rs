//! Where shadow records go.

use clap::Args;

use super::{Secret, flag};

/// Flags about shadow records.
#[derive(Debug, Args)]
pub struct Shadow {
    /// Another Redis for shadow records, credentials in its URL [default: that of --redis]
    #[arg(long, env = "SMARTLINK_SHADOW_REDIS", hide_env_values = true, value_name = "URL", value_parser = flag::redis_url)]
    pub shadow_redis: Option<Secret>,
    /// Brokers of Kafka, for services whose shadow goes there; commas between
    #[arg(long, env = "SMARTLINK_KAFKA", value_name = "HOST:PORT", value_parser = flag::brokers)]
    pub kafka: Option<String>,
}

impl Shadow {
    /// Nothing but what `--redis` says.
    pub(super) const OFF: Self = Self {
        shadow_redis: None,
        kafka: None,
    };
}
