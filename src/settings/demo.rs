//! Flags of the verbs that show smartlink on a fresh machine.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use super::flag;

/// Flags of `dev`.
#[derive(Debug, Args)]
pub struct Dev {
    /// Address of the public port; the next free one where it is taken
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9001", value_parser = flag::address)]
    pub listen: SocketAddr,
    /// Address of the admin port; the next free one where it is taken
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9002", value_parser = flag::address)]
    pub admin: SocketAddr,
    /// Port of the private Redis, on loopback [default: a free one]
    #[arg(long, value_name = "PORT")]
    pub redis_port: Option<u16>,
    /// Requests per second that the live traffic tries to send
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: u32,
    /// End after so many requests
    #[arg(long, value_name = "N")]
    pub requests: Option<u64>,
    /// End after this time
    #[arg(long = "for", value_name = "DURATION", value_parser = flag::duration)]
    pub lasting: Option<Duration>,
    /// Lead a candidate to all of the traffic, with short clocks: a good one, a bad one, or one that is
    /// bad only to users
    #[arg(long, value_name = "KIND", value_enum)]
    pub rollout: Option<DevRollout>,
    /// Do not install a Redis server where none is found
    #[arg(long)]
    pub no_install: bool,
}

/// Which candidate `dev --rollout` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DevRollout {
    /// One that is as good as base.
    Good,
    /// One that fails copies too: no user meets it.
    Bad,
    /// One that fails only users.
    Flaky,
}

/// Flags of `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Address to serve on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000", value_parser = flag::address)]
    pub listen: SocketAddr,
    /// What its answers say in the field version
    #[arg(long, value_name = "NAME", default_value = "base")]
    pub version: String,
    /// Be a version that is not ready: fail on streets, be wrong about some places
    #[arg(long)]
    pub faulty: bool,
}
