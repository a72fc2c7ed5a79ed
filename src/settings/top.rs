//! Flags of `top`.

use std::time::Duration;

use clap::Args;

use super::{Redis, Secret, flag};
use crate::top::trouble::Sort;

/// Flags of `top`.
#[derive(Debug, Args)]
pub struct Top {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub redis: Redis,
    /// Another Redis for counts, as given to the gateways [default: that of --redis]
    #[arg(long, env = "SMARTLINK_STATS_REDIS", hide_env_values = true, value_name = "URL", value_parser = flag::redis_url)]
    pub stats_redis: Option<Secret>,
    /// How often everything on the screen is read again
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = flag::duration)]
    pub interval: Duration,
    /// What comes first: worst, rate, errors, p99, inflight or name
    #[arg(long, value_name = "ORDER", default_value = "worst", value_parser = flag::sort)]
    pub sort: Sort,
    /// Only services with this in their name or state
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub filter: String,
    /// Print one picture as plain text and end
    #[arg(long)]
    pub once: bool,
    /// Print one picture as a JSON object and end
    #[arg(long)]
    pub json: bool,
    /// No colours; also where the variable NO_COLOR is set
    #[arg(long)]
    pub no_color: bool,
}
