//! Flags of the verbs about rollouts: the pilot, and typed help with its hashes.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Log, Redis, Secret, flag};
use crate::model::name::ServiceName;

/// Flags of `pilot`.
#[derive(Debug, Args)]
pub struct Pilot {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub redis: Redis,
    /// Another Redis for counts, as given to the gateways [default: that of --redis]
    #[arg(long, env = "SMARTLINK_STATS_REDIS", hide_env_values = true, value_name = "URL", value_parser = flag::redis_url)]
    pub stats_redis: Option<Secret>,
    /// Another Redis for results of comparisons, as given to the gateways [default: that of --redis]
    #[arg(long, env = "SMARTLINK_SHADOW_REDIS", hide_env_values = true, value_name = "URL", value_parser = flag::redis_url)]
    pub shadow_redis: Option<Secret>,
    /// The services whose rollouts are walked [default: all that have a smartlink:rollout:<SERVICE>]
    #[arg(value_name = "SERVICE", value_parser = flag::name)]
    pub services: Vec<ServiceName>,
    /// How often a rollout is looked at while its counts change
    #[arg(long, value_name = "DURATION", default_value = "250ms", value_parser = flag::duration)]
    pub tick: Duration,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub log: Log,
}

/// Flags of `rollout`.
#[derive(Debug, Args)]
pub struct Rollout {
    #[command(subcommand)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub action: RolloutAction,
}

/// What is to be done about a rollout.
#[derive(Debug, Subcommand)]
pub enum RolloutAction {
    /// Write the fields of a rollout: the pilot begins, or goes on
    Start(StartRollout),
    /// Hold: the weights stay as they are
    Pause(RolloutOf),
    /// Go on from the weights as they are now
    Resume(RolloutOf),
    /// Go back to base, and end
    Abort(RolloutOf),
    /// Print how far it is
    Status(RolloutStatus),
    /// Print every decision as sentences, with its evidence
    Explain(RolloutHistory),
    /// Print every decision, one line each
    History(RolloutHistory),
}

/// One rollout.
#[derive(Debug, Args)]
pub struct RolloutOf {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub redis: Redis,
    /// The service
    #[arg(value_name = "SERVICE", value_parser = flag::name)]
    pub service: ServiceName,
}

/// Flags of `rollout start`.
#[derive(Debug, Args)]
pub struct StartRollout {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub of: RolloutOf,
    /// Fields of smartlink:rollout:<SERVICE>, such as candidate=v2 steps=1,10,50 bake=1h; the others
    /// stay as they are
    #[arg(value_name = "FIELD=VALUE", value_parser = flag::field)]
    pub fields: Vec<(String, String)>,
}

/// Flags of `rollout status`.
#[derive(Debug, Args)]
pub struct RolloutStatus {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub of: RolloutOf,
    /// Print one JSON object instead of lines
    #[arg(long)]
    pub json: bool,
}

/// Flags of `rollout explain` and `rollout history`.
#[derive(Debug, Args)]
pub struct RolloutHistory {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub of: RolloutOf,
    /// The most decisions, the newest of them
    #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub last: u64,
    /// Print the entries of smartlink:audit:<SERVICE> instead, one JSON object a line
    #[arg(long)]
    pub json: bool,
}

impl RolloutAction {
    pub(super) fn redis(&mut self) -> &mut Redis {
        match self {
            Self::Start(start) => &mut start.of.redis,
            Self::Pause(of) | Self::Resume(of) | Self::Abort(of) => &mut of.redis,
            Self::Status(status) => &mut status.of.redis,
            Self::Explain(history) | Self::History(history) => &mut history.of.redis,
        }
    }
}
