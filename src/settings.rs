//! Flags and environment, read once; no other room reads either.
//!
//! Every flag of `serve` is also a variable `SMARTLINK_<NAME>`; a flag wins over its variable.
//! Invariant: what holds a secret does not show it in `Debug`, `--help` or an error line.

#![expect(
    clippy::doc_markdown,
    reason = "doc comments on flags are shown by --help as they stand"
)]

use std::ffi::OsString;
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use ipnet::IpNet;

use crate::model::value;
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
          default_value = "redis://127.0.0.1:6379/0", value_parser = redis_url)]
    pub url: Secret,
    /// What all keys begin with, its closing colon included
    #[arg(long, env = "SMARTLINK_PREFIX", default_value = "smartlink:", value_parser = prefix)]
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
          default_value = "0.0.0.0:9001", value_parser = address)]
    pub listen: Vec<SocketAddr>,
    /// Address of the admin port, or off; other than loopback only with --admin-token-file
    #[arg(long, env = "SMARTLINK_ADMIN", value_name = "ADDRESS", default_value = "127.0.0.1:9002",
          value_parser = address_or_off)]
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
    #[arg(long, env = "SMARTLINK_INSTANCE", value_name = "NAME", value_parser = instance)]
    pub instance: Option<String>,
    /// Path of the named entry
    #[arg(long, env = "SMARTLINK_ENTRY", value_name = "PATH", default_value = "/ai_server/", value_parser = entry)]
    pub entry: String,
    /// File that keeps the last good configuration for a start without Redis, or off
    #[arg(long, env = "SMARTLINK_SNAPSHOT", value_name = "FILE", default_value = "off", value_parser = file_or_off)]
    pub snapshot: OrOff<PathBuf>,
    /// How often everything is read again, whatever notifications said
    #[arg(long, env = "SMARTLINK_RECONCILE", value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub reconcile: Duration,
    /// How long a request head may take to arrive
    #[arg(long, env = "SMARTLINK_HEADER_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub header_timeout: Duration,
    /// How long a kept connection may be quiet between requests
    #[arg(long, env = "SMARTLINK_IDLE_TIMEOUT", value_name = "DURATION", default_value = "75s", value_parser = duration)]
    pub idle_timeout: Duration,
    /// Memory that all bodies of the named entry hold together until their service is known
    #[arg(long, env = "SMARTLINK_ENTRY_BUFFER", value_name = "SIZE", default_value = "128MiB", value_parser = size)]
    pub entry_buffer: u64,
    /// Proxies whose x-forwarded-* headers count: addresses or CIDRs, commas between [default: none]
    #[arg(long, env = "SMARTLINK_TRUSTED_PROXIES", value_name = "CIDRS", value_delimiter = ',', value_parser = network)]
    pub trusted_proxies: Vec<IpNet>,
    /// How long requests in flight may take to finish after SIGTERM or SIGINT
    #[arg(long, env = "SMARTLINK_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub drain_timeout: Duration,
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
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            entry_buffer: 128 << 20,
            trusted_proxies: Vec::new(),
            // Nobody waits for the demo's requests.
            drain_timeout: Duration::from_secs(2),
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
        self.instance.clone().unwrap_or_else(|| {
            // The standard library seeds each `RandomState` from the system's random source.
            let random = RandomState::new().build_hasher().finish() & 0xffff;
            format!("{}-{}-{random:04x}", hostname(), std::process::id())
        })
    }
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

/// How the log looks.
#[derive(Clone, Debug, Args)]
pub struct Log {
    /// Form of the log lines, which go to standard error
    #[arg(
        long = "log-format",
        env = "SMARTLINK_LOG_FORMAT",
        default_value = "text"
    )]
    pub format: telemetry::Format,
    /// What is logged: error, warn, info, debug, trace, or a filter such as info,smartlink::store=debug
    #[arg(
        long = "log",
        env = "SMARTLINK_LOG",
        value_name = "LEVEL",
        default_value = "info",
        value_parser = log_filter
    )]
    pub filter: String,
}

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

/// Flags of `dev`.
#[derive(Debug, Args)]
pub struct Dev {
    /// Address of the public port; the next free one where it is taken
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9001", value_parser = address)]
    pub listen: SocketAddr,
    /// Address of the admin port; the next free one where it is taken
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9002", value_parser = address)]
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
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub lasting: Option<Duration>,
    /// Do not install a Redis server where none is found
    #[arg(long)]
    pub no_install: bool,
}

/// Flags of `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Address to serve on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000", value_parser = address)]
    pub listen: SocketAddr,
    /// What its answers say in the field version
    #[arg(long, value_name = "NAME", default_value = "base")]
    pub version: String,
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
        .map_err(|error| refusal(&error))?;
    let mut verb = CommandLine::from_arg_matches(&matches)
        .map_err(|error| refusal(&error))?
        .verb;
    match &mut verb {
        Verb::Serve(serve) => {
            check_admin(serve)?;
            add_credentials(&mut serve.redis)?;
        }
        Verb::Check(check) => add_credentials(&mut check.redis)?,
        Verb::ForgetVanished(forget) => add_credentials(&mut forget.redis)?,
        Verb::Dev(_) | Verb::Demo(_) => {}
    }
    Ok(verb)
}

/// The admin port shows names and addresses: it is open to others only with a token.
fn check_admin(serve: &Serve) -> Result<(), Refusal> {
    match serve.admin.as_option() {
        Some(admin) if !admin.ip().is_loopback() && serve.admin_token_file.is_none() => {
            Err(Refusal::Wrong(format!(
                "--admin {admin} is not a loopback address: that needs --admin-token-file"
            )))
        }
        _ => Ok(()),
    }
}

fn add_credentials(redis: &mut Redis) -> Result<(), Refusal> {
    redis.username = variable("SMARTLINK_REDIS_USERNAME")?;
    redis.password = variable("SMARTLINK_REDIS_PASSWORD")?.map(Secret);
    Ok(())
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

/// Clap's report, as the text that was asked for or as one line.
fn refusal(error: &clap::Error) -> Refusal {
    let text = error.render().to_string();
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        return Refusal::Asked(text);
    }
    let parts: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .filter(|line| !line.is_empty())
        .collect();
    let line = parts.join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    match error.get(ContextKind::InvalidArg) {
        // The value may hold a password.
        Some(ContextValue::String(flag)) if flag.starts_with("--redis <") => {
            let value = error
                .get(ContextKind::InvalidValue)
                .map(ToString::to_string);
            Refusal::Wrong(line.replace(&value.unwrap_or_default(), "..."))
        }
        _ => Refusal::Wrong(line.to_owned()),
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_ignored| "want ADDRESS:PORT, such as 0.0.0.0:9001 or [::]:9001".to_owned())
}

fn address_or_off(text: &str) -> Result<OrOff<SocketAddr>, String> {
    match text {
        "off" => Ok(OrOff::Off),
        text => address(text).map(OrOff::On),
    }
}

fn file_or_off(text: &str) -> Result<OrOff<PathBuf>, String> {
    match text {
        "" => Err("want a file, or off".to_owned()),
        "off" => Ok(OrOff::Off),
        text => Ok(OrOff::On(text.into())),
    }
}

fn redis_url(text: &str) -> Result<Secret, String> {
    const SCHEMES: [&str; 11] = [
        "redis",
        "rediss",
        "valkey",
        "valkeys",
        "redis-sentinel",
        "rediss-sentinel",
        "redis-cluster",
        "rediss-cluster",
        "redis+unix",
        "valkey+unix",
        "unix",
    ];
    match text.split_once("://") {
        Some((scheme, rest)) if SCHEMES.contains(&scheme) && !rest.is_empty() => {
            Ok(Secret(text.to_owned()))
        }
        _ => Err("want a URL such as redis://127.0.0.1:6379/0".to_owned()),
    }
}

fn prefix(text: &str) -> Result<String, String> {
    let fine = text.len() > 1 && text.ends_with(':') && text.bytes().all(|b| b.is_ascii_graphic());
    fine.then(|| text.to_owned())
        .ok_or_else(|| "want a word that ends in a colon, such as smartlink:".to_owned())
}

fn instance(text: &str) -> Result<String, String> {
    value::name(text)
        .map(|name| name.to_string())
        .map_err(|wanted| want(&wanted))
}

/// The path of the named entry, with its closing slash.
fn entry(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&b);
    let dots = |segment: &str| matches!(segment, "." | "..");
    let fine = text.starts_with('/')
        && text.bytes().all(plain)
        && !text.contains("//")
        && !text.split('/').any(dots);
    if !fine {
        return Err("want a path such as /ai_server/, without query or escapes".to_owned());
    }
    let closing = if text.ends_with('/') { "" } else { "/" };
    Ok(format!("{text}{closing}"))
}

fn network(text: &str) -> Result<IpNet, String> {
    value::network(text.trim()).map_err(|wanted| want(&wanted))
}

fn log_filter(text: &str) -> Result<String, String> {
    telemetry::parse_filter(text)
        .map(|_filter| text.to_owned())
        .map_err(|error| error.to_string())
}

/// Parsers of the model say what they want as the end of a sentence.
fn want(wanted: &str) -> String {
    format!("want {wanted}")
}

fn duration(text: &str) -> Result<Duration, String> {
    value::nonzero_duration(text).map_err(|wanted| want(&wanted))
}

fn size(text: &str) -> Result<u64, String> {
    value::nonzero_size(text).map_err(|wanted| want(&wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::Name;

    fn line(args: &str) -> Result<Verb, Refusal> {
        read(
            std::iter::once("smartlink")
                .chain(args.split_whitespace())
                .map(OsString::from),
        )
    }

    fn serve(args: &str) -> Serve {
        match line(&format!("serve {args}")) {
            Ok(Verb::Serve(serve)) => *serve,
            other => panic!("{args}: {other:?}"),
        }
    }

    #[test]
    fn serve_needs_no_flag() {
        let serve = serve("");
        assert_eq!(serve.listen, vec!["0.0.0.0:9001".parse().unwrap()]);
        assert_eq!(serve.admin, OrOff::On("127.0.0.1:9002".parse().unwrap()));
        assert_eq!(serve.redis.url.reveal(), "redis://127.0.0.1:6379/0");
        assert_eq!(serve.redis.prefix, "smartlink:");
        assert_eq!(serve.entry, "/ai_server/");
        assert_eq!(serve.snapshot, OrOff::Off);
        assert_eq!(serve.reconcile, Duration::from_secs(5));
        assert_eq!(serve.header_timeout, Duration::from_secs(10));
        assert_eq!(serve.idle_timeout, Duration::from_secs(75));
        assert_eq!(serve.entry_buffer, 128 << 20);
        assert_eq!(serve.drain_timeout, Duration::from_secs(30));
        assert_eq!(serve.log.format, telemetry::Format::Text);
        assert!(serve.threads() > 0);
        assert!(Name::parse(&serve.instance()).is_some());
        assert_ne!(serve.instance(), serve.instance());
    }

    #[test]
    fn flags_are_taken_in_our_own_forms() {
        let serve = serve(
            "--listen 127.0.0.1:1 --listen [::1]:2 --admin off --entry /x --snapshot /tmp/s \
             --reconcile 250ms --entry-buffer 64KiB --trusted-proxies 10.0.0.0/8,192.168.1.1 \
             --log-format json --threads 3 --redis unix:///run/redis.sock --prefix {a}:",
        );
        assert_eq!(serve.listen.len(), 2);
        assert_eq!(serve.admin, OrOff::Off);
        assert_eq!(serve.entry, "/x/");
        assert_eq!(serve.snapshot, OrOff::On("/tmp/s".into()));
        assert_eq!(serve.reconcile, Duration::from_millis(250));
        assert_eq!(serve.entry_buffer, 64 << 10);
        assert_eq!(serve.trusted_proxies.len(), 2);
        assert_eq!(serve.threads(), 3);
        assert_eq!(serve.redis.url.reveal(), "unix:///run/redis.sock");
    }

    #[test]
    fn a_wrong_flag_is_one_line_that_names_it() {
        for (args, part) in [
            ("", "requires a subcommand"),
            ("fly", "unrecognized subcommand 'fly'"),
            ("serve --lisen 1", "a similar argument exists: '--listen'"),
            ("serve --listen 9001", "want ADDRESS:PORT"),
            ("serve --reconcile 0s", "want a duration"),
            ("serve --reconcile 5x", "want a duration"),
            ("serve --entry-buffer 5MB", "want a size"),
            ("serve --entry ai", "want a path"),
            ("serve --entry /a/../b", "want a path"),
            ("serve --prefix smartlink", "ends in a colon"),
            ("serve --redis localhost", "want a URL"),
            ("serve --threads 0", "--threads"),
            ("serve --instance a:b", "want a name"),
            ("serve --trusted-proxies x", "want "),
            ("serve --log-format xml", "text, json"),
            ("serve --log inof", "want error, warn, info"),
            ("serve --admin 0.0.0.0:9002", "needs --admin-token-file"),
            ("serve extra", "unexpected argument 'extra'"),
        ] {
            match line(args) {
                Err(Refusal::Wrong(text)) => {
                    assert!(text.contains(part), "{args}: {text}");
                    assert!(!text.contains('\n'), "{args}: {text}");
                }
                other => panic!("{args}: {other:?}"),
            }
        }
    }

    #[test]
    fn help_names_every_flag_with_its_default() {
        let Err(Refusal::Asked(help)) = line("serve --help") else {
            panic!("no help");
        };
        for part in [
            "--listen",
            "0.0.0.0:9001",
            "--admin-token-file",
            "SMARTLINK_REDIS_PASSWORD",
            "number of cores",
            "4 random hex",
            "/ai_server/",
            "128MiB",
            "SMARTLINK_DRAIN_TIMEOUT",
        ] {
            assert!(help.contains(part), "{part} is not in:\n{help}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let serve = serve("--redis redis://u:geheim@127.0.0.1:1/0");
        assert!(!format!("{serve:?}").contains("geheim"));
        let Err(Refusal::Wrong(text)) = line("serve --redis tcp://u:geheim@127.0.0.1:1/0") else {
            panic!("taken");
        };
        assert!(!text.contains("geheim"), "{text}");
    }
}
