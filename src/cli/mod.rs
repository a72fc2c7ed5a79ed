//! One verb a file; here, how each ends: exit code 0, 1 for a failure, 2 for bad flags.

mod backup;
mod check;
mod demo;
mod dev;
mod explain;
mod forget_vanished;
mod history;
mod label;
mod pilot;
mod rollout;
mod route;
mod serve;
mod shadow;
mod shift;
mod signal;
mod token;
mod top;
mod vanished;
mod wait;
mod write;

use std::ffi::OsString;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use crate::model::keys::Keys;
use crate::model::visible;
use crate::settings::{self, Refusal, Secret, Verb};
use crate::{app, store, telemetry};

/// The exit code for flags, variables or verbs that are wrong.
const BAD_FLAGS: u8 = 2;

/// Why a verb failed; the message names what, the source why.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        cause: io::Error,
    },
    #[error("cannot start a runtime")]
    Runtime(#[source] io::Error),
    #[error("cannot catch signals")]
    Signal(#[source] io::Error),
    #[error("cannot write to standard output")]
    Print(#[source] io::Error),
    #[error("cannot use the terminal")]
    Terminal(#[source] io::Error),
    #[error("standard output is no terminal: --once prints one picture")]
    NoTerminal,
    #[error("the system has no random numbers: {0}")]
    Random(String),
    #[error("cannot read {path}")]
    Read {
        path: String,
        #[source]
        cause: io::Error,
    },
    #[error("cannot write to {path}")]
    Write {
        path: String,
        #[source]
        cause: io::Error,
    },
    #[error("{0}")]
    NoShadow(String),
    #[error(transparent)]
    ScorerKey(#[from] crate::worker::BadKey),
    #[error("cannot set up the log")]
    Log(#[source] telemetry::Error),
    #[error("cannot take the inherited sockets")]
    Inherited(#[source] io::Error),
    #[error(transparent)]
    App(#[from] app::Error),
    #[error(transparent)]
    Dev(#[from] dev::Error),
    #[error("{place}")]
    Redis {
        /// The URL without user and password.
        place: String,
        #[source]
        cause: store::Error,
    },
}

/// Runs the verb that `args` (the program's name first) ask for.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let outcome = match settings::read(args) {
        Ok(verb) => run_verb(verb),
        Err(Refusal::Asked(text)) => print(&text).map(|()| ExitCode::SUCCESS),
        Err(Refusal::Wrong(line)) => {
            eprintln!("smartlink: {line}");
            return ExitCode::from(BAD_FLAGS);
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("smartlink: {}", chain(&error));
        ExitCode::FAILURE
    })
}

fn run_verb(verb: Verb) -> Result<ExitCode, Error> {
    match verb {
        Verb::Serve(serve) => serve::run(&serve),
        Verb::Check(check) => check::run(&check),
        Verb::Dev(dev) => dev::run(&dev),
        Verb::Top(top) => top::run(&top),
        Verb::Shift(shift) => shift::run(&shift),
        Verb::Explain(verb) => explain::run(&verb),
        Verb::Undo(verb) => history::undo(&verb),
        Verb::History(verb) => history::history(&verb),
        Verb::Wait(verb) => wait::run(&verb),
        Verb::Route(verb) => route::run(&verb),
        Verb::Export(verb) => backup::export(&verb),
        Verb::Import(verb) => backup::import(&verb),
        Verb::Diff(verb) => backup::diff(&verb),
        Verb::Token(token) => token::run(&token),
        Verb::Shadow(shadow) => shadow::run(&shadow),
        Verb::Pilot(pilot) => pilot::run(&pilot),
        Verb::Rollout(rollout) => rollout::run(&rollout),
        Verb::Label(label) => label::run(&label),
        Verb::ForgetVanished(forget) => forget_vanished::run(&forget),
        Verb::Demo(demo) => demo::run(&demo),
    }
}

/// The error and everything that led to it, on one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = plain(error);
    let mut next = error.source();
    while let Some(cause) = next {
        line.push_str(": ");
        line.push_str(&plain(cause));
        next = cause.source();
    }
    line.replace(['\r', '\n'], " ")
}

/// The message, in words of ours for what the system says most often when a start fails.
fn plain(error: &(dyn std::error::Error + 'static)) -> String {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, ConnectionRefused, PermissionDenied};
    match error.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(kind @ (AddrInUse | AddrNotAvailable | ConnectionRefused | PermissionDenied)) => {
            kind.to_string()
        }
        _ => error.to_string(),
    }
}

/// A small runtime for verbs that are not the gateway.
fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)
}

/// Writes to standard output; a reader that left (`smartlink check | head`) is no failure. Names and
/// texts come from Redis, where others write them: what a terminal would obey is shown instead.
fn print(text: &str) -> Result<(), Error> {
    let text = visible::escaped(text, &['\n', '\t']);
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(cause) if cause.kind() != io::ErrorKind::BrokenPipe => Err(Error::Print(cause)),
        _ => Ok(()),
    }
}

/// What the store needs to know, from the flags.
fn redis_options(redis: &settings::Redis, instance: &str) -> store::Options {
    store::Options {
        url: redis.url.reveal().to_owned(),
        user: redis.username.clone(),
        password: redis
            .password
            .as_ref()
            .map(|p: &Secret| p.reveal().to_owned()),
        keys: Keys::new(&redis.prefix),
        instance: instance.to_owned(),
    }
}

/// A number from the system's random source, by which the standard library seeds its hashers.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
