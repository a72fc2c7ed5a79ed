//! Flags of the verbs by which people change traffic and configuration by hand.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{Redis, flag};
use crate::model::name::Name;

/// Flags of `shift`.
#[derive(Debug, Args)]
pub struct Shift {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub redis: Redis,
    /// The service whose requests are divided
    #[arg(value_name = "SERVICE", value_parser = flag::name)]
    pub service: Name,
    /// The whole new split: base=90 candidate=10; a version that is not named is taken out
    #[arg(value_name = "VERSION=WEIGHT", required = true, value_parser = flag::pair)]
    pub weights: Vec<(String, String)>,
    /// Only where these weights stand now, commas between; versions of weight 0 may be left out, and
    /// none means that no weights stand
    #[arg(long = "if", value_name = "VERSION=WEIGHT,...", value_parser = flag::standing)]
    pub standing: Option<Standing>,
    /// Print one JSON object instead of lines
    #[arg(long)]
    pub json: bool,
}

/// What must stand: fields and texts; none for nothing at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing(pub Vec<(String, String)>);

/// Flags of `explain`.
#[derive(Debug, Args)]
pub struct Explain {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub redis: Redis,
    /// Method, target and body in one text: 'POST /ai_server/ {"server_name": "ner"}'
    #[arg(value_name = "REQUEST")]
    pub request: String,
    /// A header of the request: 'name: value'; may be given more than once
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    pub headers: Vec<String>,
    /// The client's address, as the gateway sees it through trusted proxies
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub client_ip: IpAddr,
    /// Path of the named entry, as given to the gateways
    #[arg(long, env = "SMARTLINK_ENTRY", value_name = "PATH", default_value = "/ai_server/", value_parser = flag::entry)]
    pub entry: String,
    /// Print one JSON object instead of lines
    #[arg(long)]
    pub json: bool,
}

/// Flags of `history`.
#[derive(Debug, Args)]
pub struct History {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub redis: Redis,
    /// Only changes of this service [default: all]
    #[arg(value_name = "SERVICE", value_parser = flag::name)]
    pub service: Option<Name>,
    /// How many changes are printed
    #[arg(long, value_name = "N", default_value = "10", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub last: u16,
    /// Print one JSON list instead of lines
    #[arg(long)]
    pub json: bool,
}

/// Flags of `undo`.
#[derive(Debug, Args)]
pub struct Undo {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub redis: Redis,
    /// Only changes of this service [default: all]
    #[arg(value_name = "SERVICE", value_parser = flag::name)]
    pub service: Option<Name>,
    /// How many of the last changes are taken back together
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub last: u16,
    /// Print what would be written and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the last changes and write nothing
    #[arg(long, conflicts_with = "dry_run")]
    pub list: bool,
    /// Print one JSON object instead of lines
    #[arg(long)]
    pub json: bool,
}

/// Flags of `export`.
#[derive(Debug, Args)]
pub struct Backup {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub redis: Redis,
    /// Form of the file
    #[arg(long, value_name = "FORM", default_value = "toml")]
    pub format: FileForm,
}

/// The form of a file with a whole configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FileForm {
    /// TOML
    Toml,
    /// JSON
    Json,
}

/// Flags of `import`.
#[derive(Debug, Args)]
pub struct Import {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub redis: Redis,
    /// A file as export prints it, or - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Print what would change and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Delete what stands in Redis and not in the file: whole hashes; the fields of a hash that is
    /// in the file are always those of the file
    #[arg(long)]
    pub prune: bool,
}

/// Flags of `diff`.
#[derive(Debug, Args)]
pub struct Diff {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub redis: Redis,
    /// A file as export prints it, or - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Flags of `wait`.
#[derive(Debug, Args)]
pub struct Wait {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub redis: Redis,
    /// How long gateways may take
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = flag::duration)]
    pub timeout: Duration,
    /// Print one JSON object instead of lines
    #[arg(long)]
    pub json: bool,
}

/// Flags of `route`.
#[derive(Debug, Args)]
pub struct RouteVerb {
    #[command(subcommand)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub action: RouteAction,
}

/// What is to be done about routes.
#[derive(Debug, Subcommand)]
pub enum RouteAction {
    /// Print what routes there are, in the order in which they are tried
    List(ListRoutes),
    /// Write fields of a route, where the whole is a good one then
    Set(SetRoute),
    /// Delete a route
    Delete(DeleteRoute),
}

impl RouteAction {
    pub(super) fn redis(&mut self) -> &mut Redis {
        match self {
            Self::List(list) => &mut list.redis,
            Self::Set(set) => &mut set.redis,
            Self::Delete(delete) => &mut delete.redis,
        }
    }
}

/// Flags of `route list`.
#[derive(Debug, Args)]
pub struct ListRoutes {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub redis: Redis,
    /// Print one JSON list instead of lines
    #[arg(long)]
    pub json: bool,
}

/// Flags of `route set`.
#[derive(Debug, Args)]
pub struct SetRoute {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub redis: Redis,
    /// The route's id
    #[arg(value_name = "ID", value_parser = flag::name)]
    pub id: Name,
    /// Fields of its hash: service=ner path=/ner/; others stay as they are, and path= takes one out
    #[arg(value_name = "FIELD=TEXT", required = true, value_parser = flag::pair)]
    pub fields: Vec<(String, String)>,
}

/// Flags of `route delete`.
#[derive(Debug, Args)]
pub struct DeleteRoute {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub redis: Redis,
    /// The route's id
    #[arg(value_name = "ID", value_parser = flag::name)]
    pub id: Name,
}
