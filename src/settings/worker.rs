//! Flags of the verbs about shadows: the worker, its report, the export, and labels.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Log, OrOff, Redis, Secret, flag, hostname};
use crate::model::name::{ServiceName, VersionName};
use crate::model::settings::Rate;
use crate::review::Format;

/// Flags of `shadow`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true
)]
pub struct Worker {
    /// What else than to work.
    #[command(subcommand)]
    pub verb: Option<ShadowVerb>,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub place: Place,
    /// Brokers of Kafka, for services whose shadow goes there; commas between
    #[arg(long, env = "SMARTLINK_KAFKA", value_name = "HOST:PORT", value_parser = flag::brokers)]
    pub kafka: Option<String>,
    /// The services whose records are compared
    #[arg(value_name = "SERVICE", required = true, value_parser = flag::name)]
    pub services: Vec<ServiceName>,
    /// The candidates, commas between [default: those of smartlink:shadow:<SERVICE>]
    #[arg(long, value_name = "VERSION", value_delimiter = ',', value_parser = flag::candidate)]
    pub candidate: Vec<VersionName>,
    /// Where a candidate begins that was never compared: new (behind the records that stand there),
    /// oldest, or the id of an entry of the stream
    #[arg(long, value_name = "WHERE", default_value = "new", value_parser = flag::start)]
    pub from: Begin,
    /// Compare records however old they are [default: with --from oldest or an id]
    #[arg(long)]
    pub history: bool,
    /// The most calls to a candidate: such as 10/s, or off
    #[arg(long, value_name = "RATE", default_value = "10/s", value_parser = flag::rate_or_off)]
    pub max_rate: RateOrOff,
    /// The most calls to a candidate at once
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub max_concurrent: u16,
    /// After how long the records of a silent worker are taken over [default: twice the service's
    /// timeout and 10s; of Kafka 10s]
    #[arg(long, value_name = "DURATION", value_parser = flag::duration)]
    pub claim_after: Option<Duration>,
    /// End when all records are compared
    #[arg(long)]
    pub once: bool,
    /// Address of an admin port with /healthz and /metrics, or off; other than loopback only with
    /// --admin-token-file
    #[arg(long, env = "SMARTLINK_SHADOW_ADMIN", value_name = "ADDRESS", default_value = "off", value_parser = flag::address_or_off)]
    pub admin: OrOff<SocketAddr>,
    /// File with the token that the admin port asks for; without it the port is loopback only
    #[arg(long, env = "SMARTLINK_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub log: Log,
}

/// Where configuration and records are.
#[derive(Clone, Debug, Args)]
pub struct Place {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub redis: Redis,
    /// Another Redis for shadow records and results, with its user and password in the URL, as given
    /// to the gateways [default: that of --redis]
    #[arg(long, env = "SMARTLINK_SHADOW_REDIS", hide_env_values = true, value_name = "URL", value_parser = flag::redis_url)]
    pub shadow_redis: Option<Secret>,
}

/// What `shadow` does beside working.
#[derive(Debug, Subcommand)]
pub enum ShadowVerb {
    /// Print what the comparisons of a service came to
    Report(Report),
    /// Print labelled pairs, one JSON object a line
    Export(Export),
}

/// Flags of `shadow report`.
#[derive(Debug, Args)]
pub struct Report {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub place: Place,
    /// The service
    #[arg(value_name = "SERVICE", value_parser = flag::name)]
    pub service: ServiceName,
    /// The candidates, commas between [default: those of smartlink:shadow:<SERVICE>]
    #[arg(long, value_name = "VERSION", value_delimiter = ',', value_parser = flag::candidate)]
    pub candidate: Vec<VersionName>,
    /// Print one JSON object a candidate instead of lines
    #[arg(long)]
    pub json: bool,
}

/// Flags of `shadow export`.
#[derive(Debug, Args)]
pub struct Export {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub place: Place,
    /// The service
    #[arg(value_name = "SERVICE", value_parser = flag::name)]
    pub service: ServiceName,
    /// The form of the lines
    #[arg(long, value_name = "FORM", default_value = "dpo", value_enum)]
    pub format: Format,
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Where a request says what it asks [default: /messages, /data, /prompt or all of it]
    #[arg(long, value_name = "POINTER")]
    pub prompt_pointer: Option<String>,
    /// Where an answer says what it says [default: /choices/0/message/content, /data or all of it]
    #[arg(long, value_name = "POINTER")]
    pub answer_pointer: Option<String>,
    /// Prompt and answers as lists of messages
    #[arg(long)]
    pub conversational: bool,
    /// Also pairs of which a part was cut or left out
    #[arg(long)]
    pub partial: bool,
}

/// Flags of `label`.
#[derive(Debug, Args)]
pub struct Label {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub place: Place,
    /// The service
    #[arg(value_name = "SERVICE", value_parser = flag::name)]
    pub service: ServiceName,
    /// Your name among the reviewers
    #[arg(long, env = "SMARTLINK_REVIEWER", value_name = "NAME", default_value = "reviewer", value_parser = flag::instance)]
    pub reviewer: String,
    /// For how long a pair is yours before others may get it
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = flag::duration)]
    pub hold: Duration,
    /// Print who judged how many pairs, and how far they agree, and end
    #[arg(long)]
    pub agreement: bool,
}

/// Where a candidate begins that was never compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Behind the records that stand there.
    New,
    /// At the first of them.
    Oldest,
    /// Behind this entry.
    Entry(String),
}

/// A rate, or none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateOrOff(pub Option<Rate>);

impl Worker {
    /// A name for our consumer that nobody else has.
    #[must_use]
    pub fn consumer(&self, started_ms: u64) -> String {
        format!("{}-{}:{started_ms}", hostname(), std::process::id())
    }
}
