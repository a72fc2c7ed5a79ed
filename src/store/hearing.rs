//! Hears Redis: notifications about configuration keys, our own rings, and the connection itself.
//!
//! Subscribes on every (re)connect by itself, in a Cluster on every primary. Ends when the reader
//! of the events is dropped.

use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::{ClientLike, ClusterInterface, EventInterface, FredResult, PubsubInterface};
use fred::types::cluster::ClusterRouting;
use fred::types::config::Server;
use fred::types::{ConnectHandle, KeyspaceEvent, Message, Value};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::{EVENTS_HELD, Error, Store};

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
    /// A connection broke or cannot be made, and why.
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
pub(super) fn listen(store: &Store, hearing: Client, database: u8) -> Events {
    let (tx, rx) = mpsc::channel(EVENTS_HELD);
    let (orders_tx, orders) = mpsc::channel(1);
    let space = format!("__keyspace@{database}__:");
    let ear = Ear {
        patterns: store
            .keys
            .patterns()
            .iter()
            .map(|pattern| format!("{space}{pattern}"))
            .collect(),
        channels: vec![
            format!("{space}{}", store.gateway),
            // Last, so that a ring that is heard proves the patterns in force.
            store.channel.to_string(),
        ],
        gateway: store.gateway.to_string(),
        channel: store.channel.to_string(),
        prefix: store.keys.prefix().to_owned(),
        keyspace: hearing.keyspace_event_rx(),
        messages: hearing.message_rx(),
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
    channels: Vec<String>,
    gateway: String,
    channel: String,
    prefix: String,
    keyspace: Receiver<KeyspaceEvent>,
    messages: Receiver<Message>,
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
            error = self.hearing_errors.recv() => self.lost(error).await,
            error = self.asking_errors.recv() => self.lost(error).await,
            event = self.keyspace.recv() => self.keyspace(event).await,
            message = self.messages.recv() => self.message(message).await,
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
        self.tx.send(event).await.map_err(|_| Unheard) // the event is of no use to anybody
    }

    async fn lost(
        &self,
        error: Result<(fred::error::Error, Option<Server>), RecvError>,
    ) -> Result<(), Unheard> {
        match error {
            Ok((error, _)) => self.send(Event::Lost(error.to_string())).await,
            Err(RecvError::Lagged(_)) => Ok(()),
            Err(RecvError::Closed) => Err(Unheard),
        }
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
        let change = match event.operation.as_str() {
            "del" | "expired" | "evicted" | "rename_from" | "move_from" => Change::Removed,
            _ => Change::Written,
        };
        self.send(Event::Key(key.to_owned(), change)).await
    }

    async fn message(&mut self, message: Result<Message, RecvError>) -> Result<(), Unheard> {
        let message = match message {
            Ok(message) => message,
            Err(RecvError::Lagged(_)) => return self.send(Event::Lagged).await,
            Err(RecvError::Closed) => return Err(Unheard),
        };
        if *message.channel != *self.channel || !self.rules(&message.server) {
            return Ok(());
        }
        let Some(token) = message.value.as_u64() else {
            return Ok(());
        };
        // Rings and notifications come on two queues: what came first goes first.
        while let Ok(event) = self.keyspace.try_recv() {
            self.keyspace(Ok(event)).await?;
        }
        self.send(Event::Ring(token)).await
    }

    /// Whether `server` holds our keys. In a Cluster a ring travels to all nodes, and only the one
    /// that also sends the notifications sends both in order.
    fn rules(&self, server: &Server) -> bool {
        let Some(cluster) = self.hearing.cached_cluster_state() else {
            return true;
        };
        let slot = ClusterRouting::hash_key(self.prefix.as_bytes());
        cluster.get_server(slot).is_none_or(|owner| owner == server)
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
        let nodes = match self.hearing.cached_cluster_state() {
            Some(cluster) => cluster.unique_primary_nodes(),
            None => self.hearing.active_connections(),
        };
        if nodes.is_empty() {
            return Err(Error::Away);
        }
        for node in nodes {
            self.subscribe_at_node(node)
                .await
                .map_err(Error::step("subscribe"))?;
        }
        Ok(())
    }

    async fn subscribe_at_node(&self, node: Server) -> FredResult<()> {
        let at = self.hearing.with_cluster_node(node);
        at.psubscribe(self.patterns.clone()).await?;
        at.subscribe(self.channels.clone()).await?;
        // Subscriptions are confirmed out of band, and a refusal comes as the answer to whatever
        // was sent next: the ping is answered well only when all of them are in force.
        at.ping::<Value>(None).await.map(drop)
    }
}

/// Runs the connection's task; some errors end it for good, and then it is begun again.
async fn keep_connected(client: Client) {
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
