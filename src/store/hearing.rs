//! Hears Redis: notifications about configuration keys, our own rings, and the connection itself.
//!
//! Subscribes on every (re)connect by itself, in a Cluster on every primary. Ends when the reader
//! of the events is dropped.

use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::{ClientLike, ClusterInterface, EventInterface, FredResult, PubsubInterface};
use fred::types::cluster::ClusterRouting;
use fred::types::config::Server;
use fred::types::{ConnectHandle, KeyspaceEvent, Value};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::{EVENTS_HELD, Error, Reason, Store};

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It was written.
    Written,
    /// It was taken away: deleted, renamed, expired.
    Removed,
}

/// What was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A configuration key changed.
    Key(String, Change),
    /// Our own hash was written: proof that notifications arrive.
    Beat,
    /// A ring of ours: everything that happened before it was heard before it.
    Ring(u64),
    /// Subscribed, for the first time or again: what happened before may have been missed.
    Hearing,
    /// The asking connection is there, for the first time or again.
    Asking,
    /// The hearing connection broke or cannot be made.
    Deaf,
    /// The asking connection broke or cannot be made, and why.
    Lost(String),
    /// Redis refuses to let us subscribe, and why.
    Refused(String),
    /// More happened at once than could be held.
    Lagged,
}

/// The events, in their order.
#[derive(Debug)]
pub struct Events {
    events: mpsc::Receiver<Event>,
    orders: mpsc::Sender<Order>,
}

#[derive(Debug)]
enum Order {
    Reconnect,
}

impl Events {
    /// The next event; `None` when the ear is gone, which does not happen while the store runs.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// The next event, if it is there already.
    pub fn try_next(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// Drops the hearing connection and makes a new one; `Event::Hearing` follows.
    pub fn reconnect(&self) {
        // A full queue holds the same order already.
        drop(self.orders.try_send(Order::Reconnect));
    }
}

/// Starts both connections and the task that hears.
pub(super) fn listen(store: &Store, hearing: Client) -> Events {
    let (tx, rx) = mpsc::channel(EVENTS_HELD);
    let (orders_tx, orders) = mpsc::channel(1);
    let space = &store.space;
    let ear = Ear {
        ring: store.channel(),
        ring_key: store.ring_key(),
        patterns: store
            .keys
            .patterns()
            .iter()
            .map(|pattern| format!("{space}{pattern}"))
            .collect(),
        beat: format!("{space}{}", store.gateway),
        gateway: store.gateway.to_string(),
        prefix: store.keys.prefix().to_owned(),
        keyspace: hearing.keyspace_event_rx(),
        hearing_up: hearing.reconnect_rx(),
        hearing_errors: hearing.error_rx(),
        asking_up: store.client.reconnect_rx(),
        asking_errors: store.client.error_rx(),
        asking: store.client.clone(),
        hearing,
        tx,
        orders,
        subscribe_at: None,
    };
    tokio::spawn(ear.run());
    Events {
        events: rx,
        orders: orders_tx,
    }
}

struct Ear {
    hearing: Client,
    asking: Client,
    patterns: Vec<String>,
    /// The channel of our own life sign.
    beat: String,
    /// The channel of our own rings.
    ring: String,
    ring_key: String,
    gateway: String,
    prefix: String,
    keyspace: Receiver<KeyspaceEvent>,
    hearing_up: Receiver<Server>,
    hearing_errors: Receiver<(fred::error::Error, Option<Server>)>,
    asking_up: Receiver<Server>,
    asking_errors: Receiver<(fred::error::Error, Option<Server>)>,
    tx: mpsc::Sender<Event>,
    orders: mpsc::Receiver<Order>,
    /// When to subscribe (again).
    subscribe_at: Option<Instant>,
}

/// Nobody reads the events any more.
struct Unheard;

/// Between two tries of something that ended in an error.
const RETRY: Duration = Duration::from_millis(200);

impl Ear {
    async fn run(mut self) {
        let hearing_task = tokio::spawn(keep_connected(self.hearing.clone()));
        let asking_task = tokio::spawn(keep_connected(self.asking.clone()));
        while self.step().await.is_ok() {}
        hearing_task.abort();
        asking_task.abort();
        // The process is ending or starting over: there is nobody to tell.
        drop(self.hearing.quit().await);
        drop(self.asking.quit().await);
    }

    async fn step(&mut self) -> Result<(), Unheard> {
        let subscribe_at = self.subscribe_at;
        let subscribe = async {
            match subscribe_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            up = self.hearing_up.recv() => {
                if up.is_ok() {
                    self.subscribe_at = Some(Instant::now());
                }
                Ok(())
            }
            () = subscribe => self.subscribe().await,
            up = self.asking_up.recv() => match up {
                Ok(_) | Err(RecvError::Lagged(_)) => self.send(Event::Asking).await,
                Err(RecvError::Closed) => Err(Unheard),
            },
            error = self.hearing_errors.recv() => match error {
                Ok(_) | Err(RecvError::Lagged(_)) => self.send(Event::Deaf).await,
                Err(RecvError::Closed) => Err(Unheard),
            },
            error = self.asking_errors.recv() => match error {
                Ok((error, _)) => self.send(Event::Lost(Reason::from(error).to_string())).await,
                Err(RecvError::Lagged(_)) => Ok(()),
                Err(RecvError::Closed) => Err(Unheard),
            },
            event = self.keyspace.recv() => self.keyspace(event).await,
            order = self.orders.recv() => match order {
                Some(Order::Reconnect) => {
                    let hearing = self.hearing.clone();
                    // Not awaited: while Redis is away this takes as long as that does.
                    tokio::spawn(async move { hearing.force_reconnection().await });
                    Ok(())
                }
                None => Err(Unheard),
            },
            () = self.tx.closed() => Err(Unheard),
        }
    }

    async fn send(&self, event: Event) -> Result<(), Unheard> {
        self.tx.send(event).await.map_err(|_unsent| Unheard)
    }

    async fn keyspace(&self, event: Result<KeyspaceEvent, RecvError>) -> Result<(), Unheard> {
        let event = match event {
            Ok(event) => event,
            Err(RecvError::Lagged(_)) => return self.send(Event::Lagged).await,
            Err(RecvError::Closed) => return Err(Unheard),
        };
        let Some(key) = event.key.as_str() else {
            return Ok(());
        };
        if key == self.gateway {
            return match event.operation.as_str() {
                "hset" => self.send(Event::Beat).await,
                _ => Ok(()),
            };
        }
        if key == self.ring_key {
            return match event.operation.parse() {
                Ok(ring) => self.send(Event::Ring(ring)).await,
                // Somebody else's joke.
                Err(_) => Ok(()),
            };
        }
        let change = match event.operation.as_str() {
            "del" | "expired" | "evicted" | "rename_from" | "move_from" => Change::Removed,
            _ => Change::Written,
        };
        self.send(Event::Key(key.to_owned(), change)).await
    }

    async fn subscribe(&mut self) -> Result<(), Unheard> {
        while self.hearing_up.try_recv().is_ok() {}
        self.subscribe_at = None;
        match self.try_subscribe().await {
            Ok(()) => self.send(Event::Hearing).await,
            Err(error) => {
                self.subscribe_at = Some(Instant::now() + RETRY);
                let refused = error.is_refused();
                let Error::Step { source, .. } = error else {
                    return Ok(());
                };
                if refused {
                    // A refusal may be lifted, but not within milliseconds.
                    self.subscribe_at = Some(Instant::now() + 10 * RETRY);
                    return self.send(Event::Refused(source.to_string())).await;
                }
                Ok(())
            }
        }
    }

    async fn try_subscribe(&self) -> Result<(), Error> {
        let cluster = self.hearing.cached_cluster_state();
        let nodes = match &cluster {
            Some(cluster) => cluster.unique_primary_nodes(),
            None => self.hearing.active_connections(),
        };
        if nodes.is_empty() {
            return Err(Error::Away);
        }
        let slot = ClusterRouting::hash_key(self.prefix.as_bytes());
        let owner = cluster.and_then(|cluster| cluster.get_server(slot).cloned());
        for node in nodes {
            let rings = owner.as_ref().is_none_or(|owner| *owner == node);
            self.subscribe_at(node, rings)
                .await
                .map_err(Error::step("subscribe"))?;
        }
        Ok(())
    }

    /// In a Cluster a ring travels to all nodes, and only from the one that holds our keys it
    /// comes in order with the notifications: it is heard there only.
    async fn subscribe_at(&self, node: Server, rings: bool) -> FredResult<()> {
        let at = self.hearing.with_cluster_node(node);
        at.psubscribe(self.patterns.clone()).await?;
        at.subscribe(self.beat.clone()).await?;
        if rings {
            at.subscribe(self.ring.clone()).await?;
        } else {
            at.unsubscribe(self.ring.clone()).await?;
        }
        // Subscriptions are confirmed out of band, and a refusal comes as the answer to whatever
        // was sent next: the ping is answered well only when all of them are in force.
        at.ping::<Value>(None).await.map(drop)
    }
}

/// Runs the connection's task; some errors end it for good, and then it is begun again.
pub(super) async fn keep_connected(client: Client) {
    loop {
        let task: ConnectHandle = client.connect();
        let guard = AbortOnDrop(task);
        guard.ended().await;
        tokio::time::sleep(RETRY).await;
    }
}

struct AbortOnDrop(ConnectHandle);

impl AbortOnDrop {
    async fn ended(mut self) {
        // However it ended, it is begun again.
        drop((&mut self.0).await);
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
