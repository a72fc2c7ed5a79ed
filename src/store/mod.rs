//! All Redis I/O, and the snapshot file: the only room that knows which Redis client we use.
//!
//! Two connections: one asks and writes, one hears notifications. Neither fails for good: both
//! connect again by themselves, and `Event` says when.
//!
//! Invariant: nothing here waits longer than its time-out.

mod alerts;
mod changes;
mod comparisons;
mod health;
mod hearing;
mod ledger;
mod live;
mod load;
mod lookout;
mod options;
mod publish;
mod pulse;
mod quotas;
mod rollouts;
mod scan;
mod shadow;
mod snapshot;
mod tokens;
mod view;

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::{ClientLike, KeysInterface};
use fred::types::config::{
    ConnectionConfig, PerformanceConfig, ReconnectPolicy, UnresponsiveConfig,
};
use fred::types::scripts::Script;

pub use alerts::{EVENTS_AT_ONCE, LEASE as ALERTS_LEASE, LeadOrder, Led, StreamEntry};
pub use changes::{Changed, HISTORY_MAX, HistoryEntry, Report, Wish};
pub use comparisons::{
    Claimed, Comparisons, Finding, Letter, Log, LowMark, Mark, Numbered, Offer, Offered, Pick,
    Saved, Start, Taken, Verdicts,
};
pub use health::{EndpointHealth, Merged, ServiceHealth};
pub use hearing::{Change, Event, Events};
pub use ledger::{Ledger, Terms};
pub use live::LiveHashes;
pub use load::{CHUNK, Found, Loaded, read_all};
pub use options::Options;
pub use publish::{News, Note};
pub use pulse::{Flags, Pulse};
pub use quotas::{QUOTA_LEASE, QuotaWish};
pub use rollouts::{Move, Moved, PILOT_LEASE, Rollouts, Weigh};
pub use scan::Scan;
pub use shadow::{Part, ShadowStream, Shipment};
pub use snapshot::{load as load_snapshot, save as save_snapshot};
pub use view::View;

use crate::model::keys::Keys;

/// What can go wrong between us and Redis or the snapshot file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL does not say where Redis is.
    #[error("bad Redis URL: {0}")]
    Url(String),
    /// A Cluster would spread the keys of one script over several nodes.
    #[error("a Redis Cluster needs a prefix with a hash tag, such as {{smartlink}}:, got {0}")]
    NoHashTag(String),
    /// Redis could not be reached, and why.
    #[error("cannot reach Redis: {0}")]
    Unreachable(String),
    /// There is no connection at this moment.
    #[error("no connection to Redis")]
    Away,
    /// A step failed.
    #[error("cannot {step}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// Whether Redis itself said no; otherwise it did not answer.
        refused: bool,
        /// Why it failed.
        source: Reason,
    },
    /// More fields than one script call takes.
    #[error("{0} fields at once are too many: {1} at most")]
    TooMuch(usize, usize),
    /// A script answered something else than its header says.
    #[error("unexpected answer when trying to {0}")]
    Answer(&'static str),
    /// The snapshot file cannot be read or written.
    #[error("snapshot file {path}")]
    File {
        /// Its path.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The snapshot file holds something else.
    #[error("snapshot file {path} {why}")]
    Snapshot {
        /// Its path.
        path: std::path::PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Error {
    /// Whether Redis is there and said no: trying again changes nothing.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Step { refused: true, .. })
    }

    /// Whether something of another type stands there than the command is for.
    #[must_use]
    pub fn is_of_another_type(&self) -> bool {
        matches!(self, Self::Step { refused: true, source: Reason(words), .. } if words.contains("WRONGTYPE"))
    }

    /// Whether Redis runs commands and no scripts: an access list or a provider forbids them.
    #[must_use]
    pub fn is_script_refused(&self) -> bool {
        let Self::Step {
            refused: true,
            source: Reason(words),
            ..
        } = self
        else {
            return false;
        };
        let words = words.to_ascii_lowercase();
        let forbidden = words.contains("noperm") || words.contains("unknown command");
        let inside = words.contains("user executing the script");
        inside || (forbidden && (words.contains("evalsha") || words.contains("script")))
    }

    fn step(step: &'static str) -> impl FnOnce(fred::error::Error) -> Self {
        use fred::error::ErrorKind;
        move |source| {
            // What Redis refuses comes back in its own words, which begin with a word in capitals.
            let refused = !matches!(
                source.kind(),
                ErrorKind::IO
                    | ErrorKind::Timeout
                    | ErrorKind::Canceled
                    | ErrorKind::Routing
                    | ErrorKind::Backpressure
            );
            Self::Step {
                step,
                refused,
                source: Reason::from(source),
            }
        }
    }
}

/// Why a command failed: Redis's own words where it answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Reason(String);

impl From<fred::error::Error> for Reason {
    fn from(error: fred::error::Error) -> Self {
        match error.kind() {
            // fred's name for whatever Redis says.
            fred::error::ErrorKind::Unknown => Self(error.details().to_owned()),
            // The system's words stand inside what fred makes of them.
            fred::error::ErrorKind::IO => {
                let words = error.details().split_once("message: \"");
                let words = words.and_then(|(_, rest)| rest.split_once('"'));
                Self(
                    words
                        .map_or(error.details(), |(words, _)| words)
                        .to_lowercase(),
                )
            }
            _ => Self(error.to_string()),
        }
    }
}

/// The most that one command may take.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(1);

/// Notifications held between the connection and the watcher; more at once means reading all.
const EVENTS_HELD: usize = 4096;

/// The way to Redis; cheap to clone.
#[derive(Clone)]
pub struct Store {
    client: Client,
    keys: Keys,
    /// What comes before the key in the channel of a notification.
    space: Arc<str>,
    ring: Arc<str>,
    gateway: Arc<str>,
    scripts: Arc<Scripts>,
}

struct Scripts {
    load_objects: Script,
    beat: Script,
    publish_changes: Script,
    merge_health: Script,
    lead_alerts: Script,
    lease_quota: Script,
    change_objects: Script,
    record_changes: Script,
    await_all: Script,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("gateway", &self.gateway)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Begins to connect, and to connect again whenever a connection breaks. Needs a runtime.
    ///
    /// Fails only where no waiting would help: a bad URL, a Cluster without a hash tag.
    pub fn connect(options: &Options) -> Result<(Self, Events), Error> {
        let config = options.config()?;
        let database = config.database.unwrap_or(0);
        let client = new_client(config.clone(), 32);
        let hearing = new_client(config, EVENTS_HELD);
        let keys = options.keys.clone();
        let store = Self {
            client,
            ring: format!("ring:{}", options.instance).into(),
            space: format!("__keyspace@{database}__:").into(),
            gateway: keys.gateway(&options.instance).into(),
            keys,
            scripts: Arc::new(Scripts {
                load_objects: Script::from_lua(include_str!("../../lua/load_objects.lua")),
                beat: Script::from_lua(include_str!("../../lua/beat.lua")),
                publish_changes: Script::from_lua(include_str!("../../lua/publish_changes.lua")),
                merge_health: Script::from_lua(include_str!("../../lua/merge_health.lua")),
                lead_alerts: Script::from_lua(include_str!("../../lua/lead_alerts.lua")),
                lease_quota: Script::from_lua(include_str!("../../lua/lease_quota.lua")),
                change_objects: Script::from_lua(include_str!("../../lua/change_objects.lua")),
                record_changes: Script::from_lua(include_str!("../../lua/record_changes.lua")),
                await_all: Script::from_lua(include_str!("../../lua/await_all.lua")),
            }),
        };
        let events = hearing::listen(&store, hearing);
        Ok((store, events))
    }

    /// Whether commands can be sent right now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.is_connected()
    }

    /// The keys we speak of.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// What our rings seem to be notifications of.
    fn ring_key(&self) -> String {
        self.keys.internal(&self.ring)
    }

    /// Our own channel, which scripts ring. It looks like a notification because the client queues
    /// those apart from other messages, and what comes in order must stay in order.
    fn channel(&self) -> String {
        format!("{}{}", self.space, self.ring_key())
    }

    /// The connection, or `Away`: commands must not queue up while there is none.
    fn here(&self) -> Result<&Client, Error> {
        if self.client.is_connected() {
            Ok(&self.client)
        } else {
            Err(Error::Away)
        }
    }

    /// Takes our hash away and closes the connection that asks.
    pub async fn resign(&self) -> Result<(), Error> {
        let client = self.here()?;
        let gone: Result<(), _> = client.del(&*self.gateway).await;
        let closed = client.quit().await;
        gone.and(closed).map_err(Error::step("take our hash away"))
    }
}

fn new_client(config: fred::types::config::Config, events_held: usize) -> Client {
    let performance = PerformanceConfig {
        default_command_timeout: COMMAND_TIMEOUT,
        broadcast_channel_capacity: events_held,
        ..PerformanceConfig::default()
    };
    let connection = ConnectionConfig {
        connection_timeout: Duration::from_secs(2),
        internal_command_timeout: Duration::from_secs(2),
        // A script is never sent twice on its own; who called it decides.
        max_command_attempts: 1,
        unresponsive: UnresponsiveConfig {
            max_timeout: Some(Duration::from_millis(2500)),
            interval: Duration::from_millis(500),
        },
        ..ConnectionConfig::default()
    };
    let mut policy = ReconnectPolicy::new_exponential(0, 20, 1000, 2);
    policy.set_jitter(30);
    Client::new(config, Some(performance), Some(connection), Some(policy))
}
