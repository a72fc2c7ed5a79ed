//! Flags and environment, read once; no other room reads either.
//!
//! Every flag of `serve` is also a variable `SMARTLINK_<NAME>`; a flag wins over its variable.
//! Invariant: what holds a secret does not show it in `Debug`, `--help` or an error line.

#![expect(
    clippy::doc_markdown,
    reason = "doc comments on flags are shown by --help as they stand"
)]

mod clients;
mod demo;
mod flag;
mod hand;
mod log;
mod pilot;
mod refusal;
mod shadow;
#[cfg(test)]
mod tests;
mod token;
mod top;
mod worker;

use std::ffi::OsString;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

pub use self::clients::{Clients, ProxyProtocol};
pub use self::demo::{Demo, Dev, DevRollout};
pub use self::hand::{
    Backup, DeleteRoute, Diff, Explain, FileForm, History, Import, ListRoutes, RouteAction,
    RouteVerb, SetRoute, Shift, Standing, Undo, Wait,
};
pub use self::log::{AccessLog, Log, Otlp};
pub use self::pilot::{
    Pilot, Rollout, RolloutAction, RolloutHistory, RolloutOf, RolloutStatus, StartRollout,
};
pub use self::shadow::Shadow;
pub use self::token::{CreateToken, ListTokens, RevokeToken, Token, TokenAction};
pub use self::top::Top;
pub use self::worker::{Begin, Export, Label, Place, Report, ShadowVerb, Worker};
use crate::telemetry;

/// What the command line asks for.
#[derive(Debug, Parser)]
#[command(
    name = "smartlink",
    version,
    about,
    disable_help_subcommand = true,
    arg_required_else_help = false
)]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

/// One verb and its flags.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the gateway
    Serve(Box<Serve>),
    /// Read everything in Redis and print a line per mistake; exit 1 when there is any
    Check(Check),
    /// Bring up everything on a fresh machine: own Redis, two demo services, live traffic
    Dev(Dev),
    /// Watch services, versions, endpoints and gateways live, the worst first
    Top(Box<Top>),
    /// Divide the requests of a service between its versions: shift ner base=90 candidate=10
    Shift(Box<Shift>),
    /// Say what a gateway would do with a request, and why
    Explain(Box<Explain>),
    /// Take back the last change of the configuration
    Undo(Box<Undo>),
    /// Print the last changes of the configuration
    History(Box<History>),
    /// Wait until every gateway serves what stands in Redis
    Wait(Box<Wait>),
    /// List, write and delete routes
    Route(RouteVerb),
    /// Print the whole configuration as one file
    Export(Box<Backup>),
    /// Write a whole configuration from a file, all of it or nothing
    Import(Box<Import>),
    /// Print how a file differs from what stands in Redis; exit 1 where it does
    Diff(Box<Diff>),
    /// Make, list and revoke tokens that open services
    Token(Token),
    /// Compare candidates with base on recorded requests; report and export what came of it
    Shadow(Box<Worker>),
    /// Walk rollouts step by step, and take back a candidate that is proven bad
    Pilot(Box<Pilot>),
    /// Start, hold, end and explain the rollout of a service
    Rollout(Rollout),
    /// Judge pairs of answers without knowing whose they are
    Label(Label),
    /// Drop what vanished from Redis without being deleted by name, and is still served
    ForgetVanished(ForgetVanished),
    /// Run one demo service: an address in, coordinates out
    Demo(Demo),
}

/// Where the configuration lives: shared by all verbs that talk to Redis.
#[derive(Clone, Debug, Args)]
pub struct Redis {
    /// Redis with the configuration: redis://, rediss://, redis-sentinel://, redis-cluster:// or
    /// unix:///path. User and password also as SMARTLINK_REDIS_USERNAME and
    /// SMARTLINK_REDIS_PASSWORD
    #[arg(long = "redis", env = "SMARTLINK_REDIS", hide_env_values = true, value_name = "URL",
          default_value = "redis://127.0.0.1:6379/0", value_parser = flag::redis_url)]
    pub url: Secret,
    /// What all keys begin with, its closing colon included
    #[arg(long, env = "SMARTLINK_PREFIX", default_value = "smartlink:", value_parser = flag::prefix)]
    pub prefix: String,
    /// From `SMARTLINK_REDIS_USERNAME`; wins over the URL.
    #[arg(skip)]
    pub username: Option<String>,
    /// From `SMARTLINK_REDIS_PASSWORD`; wins over the URL.
    #[arg(skip)]
    pub password: Option<Secret>,
}

/// Flags of `serve`.
#[derive(Debug, Args)]
pub struct Serve {
    /// Address of the public port; may be given more than once (in the variable: commas)
    #[arg(long, env = "SMARTLINK_LISTEN", value_name = "ADDRESS", value_delimiter = ',',
          default_value = "0.0.0.0:9001", value_parser = flag::address)]
    pub listen: Vec<SocketAddr>,
    /// Address of the admin port, or off; other than loopback only with --admin-token-file
    #[arg(long, env = "SMARTLINK_ADMIN", value_name = "ADDRESS", default_value = "127.0.0.1:9002",
          value_parser = flag::address_or_off)]
    pub admin: OrOff<SocketAddr>,
    /// File with the token that the admin port asks for; without it the port is loopback only
    #[arg(long, env = "SMARTLINK_ADMIN_TOKEN_FILE", value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub redis: Redis,
    /// Threads of the data plane [default: the number of cores]
    #[arg(long, env = "SMARTLINK_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Name of this gateway among its peers [default: <hostname>-<pid>-<4 random hex>]
    #[arg(long, env = "SMARTLINK_INSTANCE", value_name = "NAME", value_parser = flag::instance)]
    pub instance: Option<String>,
    /// Path of the named entry
    #[arg(long, env = "SMARTLINK_ENTRY", value_name = "PATH", default_value = "/ai_server/", value_parser = flag::entry)]
    pub entry: String,
    /// File that keeps the last good configuration for a start without Redis, or off
    #[arg(long, env = "SMARTLINK_SNAPSHOT", value_name = "FILE", default_value = "off", value_parser = flag::file_or_off)]
    pub snapshot: OrOff<PathBuf>,
    /// How often everything is read again, whatever notifications said
    #[arg(long, env = "SMARTLINK_RECONCILE", value_name = "DURATION", default_value = "5s", value_parser = flag::duration)]
    pub reconcile: Duration,
    /// How often what was counted is told to Redis
    #[arg(long, env = "SMARTLINK_STATS_INTERVAL", value_name = "DURATION", default_value = "100ms", value_parser = flag::duration)]
    pub stats_interval: Duration,
    /// Length of a window of counts, in whole seconds
    #[arg(long, env = "SMARTLINK_STATS_WINDOW", value_name = "DURATION", default_value = "10s", value_parser = flag::whole_seconds)]
    pub stats_window: Duration,
    /// How long Redis keeps a window of counts
    #[arg(long, env = "SMARTLINK_STATS_KEEP", value_name = "DURATION", default_value = "1h", value_parser = flag::whole_seconds)]
    pub stats_keep: Duration,
    /// Another Redis for counts, with its user and password in the URL [default: that of --redis]
    #[arg(long, env = "SMARTLINK_STATS_REDIS", hide_env_values = true, value_name = "URL", value_parser = flag::redis_url)]
    pub stats_redis: Option<Secret>,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub shadow: Shadow,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub clients: Clients,
    /// Walk rollouts too, as smartlink pilot does
    #[arg(long, env = "SMARTLINK_PILOT", value_parser = clap::builder::BoolishValueParser::new())]
    pub pilot: bool,
    /// How long requests in flight may take to finish after SIGTERM or SIGINT
    #[arg(long, env = "SMARTLINK_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = flag::duration)]
    pub drain_timeout: Duration,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub access_log: AccessLog,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub otlp: Otlp,
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub log: Log,
}

impl Serve {
    /// The flags under which `dev` runs its gateway: nothing from the environment.
    #[must_use]
    pub fn for_dev(listen: SocketAddr, admin: SocketAddr, redis: SocketAddr) -> Self {
        Self {
            listen: vec![listen],
            admin: OrOff::On(admin),
            admin_token_file: None,
            redis: Redis {
                url: Secret(format!("redis://{redis}/0")),
                prefix: "smartlink:".to_owned(),
                username: None,
                password: None,
            },
            threads: None,
            instance: None,
            entry: "/ai_server/".to_owned(),
            snapshot: OrOff::Off,
            reconcile: Duration::from_secs(5),
            stats_interval: Duration::from_millis(100),
            stats_window: Duration::from_secs(10),
            stats_keep: Duration::from_hours(1),
            stats_redis: None,
            shadow: Shadow::OFF,
            clients: Clients::USUAL,
            pilot: false,
            // Nobody waits for the demo's requests.
            drain_timeout: Duration::from_secs(2),
            access_log: AccessLog::OFF,
            otlp: Otlp::OFF,
            log: Log {
                format: telemetry::Format::Text,
                filter: "warn".to_owned(),
            },
        }
    }

    /// The number of data-plane threads: as asked, or one per core.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads.map_or_else(
            || std::thread::available_parallelism().map_or(1, usize::from),
            usize::from,
        )
    }

    /// The name of this gateway: as asked, or `<hostname>-<pid>-<4 random hex>`, new at each call.
    #[must_use]
    pub fn instance(&self) -> String {
        self.instance.clone().unwrap_or_else(unique_name)
    }
}

/// A name for this process, `<hostname>-<pid>-<4 random hex>`, new at each call.
#[must_use]
pub fn unique_name() -> String {
    // The standard library seeds each `RandomState` from the system's random source.
    let random = RandomState::new().build_hasher().finish() & 0xffff;
    format!("{}-{}-{random:04x}", hostname(), std::process::id())
}

/// Who runs this, for the history: user and machine.
#[must_use]
pub fn who() -> String {
    const LONGEST: usize = 64;
    let user = ["USER", "LOGNAME"]
        .iter()
        .find_map(|name| variable(name).ok().flatten());
    let user = user.unwrap_or_else(|| "somebody".to_owned());
    let plain = user.chars().filter(|c| !c.is_control()).take(LONGEST);
    format!("{}@{}", plain.collect::<String>(), hostname())
}

/// The machine's name, as far as it fits into a name of ours.
fn hostname() -> String {
    let from_kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let from_system = from_kernel
        .or_else(|| std::env::var("HOSTNAME").ok())
        .or_else(|| std::fs::read_to_string("/etc/hostname").ok())
        .unwrap_or_default();
    let name: String = from_system
        .trim()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
        .take(HOSTNAME_MAX)
        .collect();
    let name = name.trim_start_matches(['-', '.']);
    if name.is_empty() { "gateway" } else { name }.to_owned()
}

/// Leaves room in a name for the process id and the random digits.
const HOSTNAME_MAX: usize = 64;

/// Flags of `check`.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub redis: Redis,
    /// Print one JSON object instead of lines
    #[arg(long)]
    pub json: bool,
    /// Send a test message by smartlink:alert:<ID> and print what its receiver answers; the secret
    /// is taken from the environment of this command
    #[arg(long, value_name = "ID", conflicts_with = "json")]
    pub alert: Option<String>,
}

/// Flags of `forget-vanished`.
#[derive(Debug, Args)]
pub struct ForgetVanished {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "the type says it, and a comment would be shown by --help"
    )]
    pub redis: Redis,
}

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A value, or the word `off`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrOff<T> {
    /// Not wanted.
    Off,
    /// Wanted, this.
    On(T),
}

impl<T> OrOff<T> {
    /// The value, where it is wanted.
    #[must_use]
    pub fn as_option(&self) -> Option<&T> {
        match self {
            Self::Off => None,
            Self::On(value) => Some(value),
        }
    }
}

/// Why there is no verb to run.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `--help` or `--version` was asked for: this text answers it.
    Asked(String),
    /// A flag, a variable or the verb is wrong: one line that says which and how.
    Wrong(String),
}

/// Reads `args` (the program's name first) and the environment.
pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Verb, Refusal> {
    let matches = CommandLine::command()
        .mut_subcommands(|verb| verb.disable_version_flag(true))
        .try_get_matches_from(args)
        .map_err(|error| refusal::of(&error))?;
    let mut verb = CommandLine::from_arg_matches(&matches)
        .map_err(|error| refusal::of(&error))?
        .verb;
    match &mut verb {
        Verb::Serve(serve) => {
            check_admin(&serve.admin, serve.admin_token_file.as_deref())?;
            serve.clients.check()?;
            add_credentials(&mut serve.redis)?;
        }
        Verb::Check(check) => add_credentials(&mut check.redis)?,
        Verb::Top(top) => {
            add_credentials(&mut top.redis)?;
            top.no_color |= variable("NO_COLOR")?.is_some();
        }
        Verb::Token(token) => add_credentials(token.action.redis())?,
        Verb::Shift(verb) => {
            flag::each_once(&verb.weights).map_err(Refusal::Wrong)?;
            add_credentials(&mut verb.redis)?;
        }
        Verb::Explain(verb) => add_credentials(&mut verb.redis)?,
        Verb::Undo(verb) => add_credentials(&mut verb.redis)?,
        Verb::History(verb) => add_credentials(&mut verb.redis)?,
        Verb::Wait(verb) => add_credentials(&mut verb.redis)?,
        Verb::Route(verb) => {
            if let RouteAction::Set(set) = &verb.action {
                flag::each_once(&set.fields).map_err(Refusal::Wrong)?;
            }
            add_credentials(verb.action.redis())?;
        }
        Verb::Export(verb) => add_credentials(&mut verb.redis)?,
        Verb::Import(verb) => add_credentials(&mut verb.redis)?,
        Verb::Diff(verb) => add_credentials(&mut verb.redis)?,
        Verb::Shadow(shadow) => {
            check_admin(&shadow.admin, shadow.admin_token_file.as_deref())?;
            add_credentials(match &mut shadow.verb {
                None => &mut shadow.place.redis,
                Some(ShadowVerb::Report(report)) => &mut report.place.redis,
                Some(ShadowVerb::Export(export)) => &mut export.place.redis,
            })?;
        }
        Verb::Pilot(pilot) => add_credentials(&mut pilot.redis)?,
        Verb::Rollout(rollout) => {
            if let RolloutAction::Start(start) = &rollout.action {
                flag::each_once(&start.fields).map_err(Refusal::Wrong)?;
            }
            add_credentials(rollout.action.redis())?;
        }
        Verb::Label(label) => add_credentials(&mut label.place.redis)?,
        Verb::ForgetVanished(forget) => add_credentials(&mut forget.redis)?,
        Verb::Dev(_) | Verb::Demo(_) => {}
    }
    Ok(verb)
}

/// The admin port shows names and addresses: it is open to others only with a token.
fn check_admin(admin: &OrOff<SocketAddr>, token_file: Option<&Path>) -> Result<(), Refusal> {
    match admin.as_option() {
        Some(admin) if !admin.ip().is_loopback() && token_file.is_none() => Err(Refusal::Wrong(
            format!("--admin {admin} is not a loopback address: that needs --admin-token-file"),
        )),
        _ => Ok(()),
    }
}

fn add_credentials(redis: &mut Redis) -> Result<(), Refusal> {
    redis.username = variable("SMARTLINK_REDIS_USERNAME")?;
    redis.password = variable("SMARTLINK_REDIS_PASSWORD")?.map(Secret);
    Ok(())
}

/// A secret: the text of the variable of that name, or of the file that the variable
/// `<name>_FILE` names, without the line's end.
#[must_use]
pub fn secret(name: &str) -> Option<String> {
    if let Some(text) = variable(name).ok().flatten() {
        return Some(text);
    }
    let path = variable(&format!("{name}_FILE")).ok().flatten()?;
    let text = std::fs::read_to_string(path).ok()?;
    let text = text.trim_end_matches(['\r', '\n']);
    (!text.is_empty()).then(|| text.to_owned())
}

/// A variable's text; an empty one counts as absent.
fn variable(name: &str) -> Result<Option<String>, Refusal> {
    match std::env::var(name) {
        Ok(text) => Ok(Some(text).filter(|text| !text.is_empty())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Refusal::Wrong(format!("{name} is not valid UTF-8")))
        }
    }
}
