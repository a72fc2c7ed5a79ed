//! The data plane on a free port, configured by hashes as an operator writes them, without Redis.

use std::collections::BTreeMap;
use std::hash::RandomState;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use smartlink::model::config::{Config, Extent, Reading, Sight};
use smartlink::model::decode::Raw;
use smartlink::model::keys::{Keys, Object, Parsed};
use smartlink::model::table::Table;
use smartlink::proxy::{self, Options, Running};
use smartlink::stats;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::client::{Answer, Client};

/// One field of a hash: key behind the prefix, field, value.
pub type Field<'f> = (&'f str, &'f str, &'f str);

/// A gateway with one thread; it stops accepting when dropped.
pub struct Gateway {
    /// Where it listens.
    pub address: SocketAddr,
    config: Config,
    table: Arc<ArcSwap<Table>>,
    _running: Running,
}

impl Gateway {
    /// A gateway that serves these hashes.
    pub fn start(fields: &[Field<'_>]) -> Self {
        Self::start_with(fields, |_| {})
    }

    /// As `start`, with other flags.
    pub fn start_with(fields: &[Field<'_>], change: impl FnOnce(&mut Options)) -> Self {
        let mut config = Config::new(Keys::new("smartlink:"));
        let table = apply(&mut config, fields, Extent::All).expect("the first table");
        Self::run(config, table, change)
    }

    /// A gateway that was never told anything.
    pub fn start_empty() -> Self {
        Self::run(Config::new(Keys::new("smartlink:")), Arc::default(), |_| {})
    }

    fn run(config: Config, table: Arc<Table>, change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options {
            listen: vec!["127.0.0.1:0".parse().expect("an address")],
            inherited: Vec::new(),
            threads: 1,
            entry: "/ai_server/".to_owned(),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            entry_buffer: 128 << 20,
            trusted_proxies: Vec::new(),
            proxy_protocol: None,
            max_head: 64 << 10,
            max_headers: 100,
            drain_timeout: Duration::from_secs(1),
        };
        change(&mut options);
        // Nobody asks what they count.
        let (counters, _collector) = stats::counters(options.threads.max(1));
        let bound = proxy::bind(options).expect("a free port");
        let address = *bound.addresses().first().expect("one address");
        let table = Arc::new(ArcSwap::new(table));
        // Nobody probes here: an endpoint that is down stays down.
        let (reports, _unread) = mpsc::channel(1);
        let links = proxy::Links {
            epoch: Instant::now(),
            reports,
            meters: Arc::default(),
            access: None,
            quotas: Arc::default(),
            seed: RandomState::new(),
            // Nobody leases shares here.
            demands: mpsc::channel(1).0,
            tracer: None,
            issuers: smartlink::inquiry::desk().0,
            copier: None,
        };
        let running = bound.start(&table, &links, counters).expect("threads");
        Self {
            address,
            config,
            table,
            _running: running,
        }
    }

    /// Writes hashes, each whole, as if they had changed in Redis.
    pub fn write(&mut self, fields: &[Field<'_>]) {
        if let Some(table) = apply(&mut self.config, fields, Extent::Part) {
            self.table.store(table);
        }
    }

    /// Deletes a hash, as if `DEL` had been typed.
    pub fn delete(&mut self, key: &str) {
        let reading = Reading {
            object: object(key),
            raw: Raw::Absent,
            sight: Sight::Named,
        };
        // What this is a mistake for (a route without its service) is not the question here.
        let applied = self.config.apply(vec![reading], Extent::Part, 1);
        self.table
            .store(applied.table.expect("something was there"));
    }

    /// How many requests of this service are in flight upstream.
    pub fn in_flight(&self, service: &str) -> u32 {
        let table = self.table.load();
        let service = table.services.get(service).expect("it is served");
        let endpoints = service.versions.iter().flat_map(|v| v.endpoints.iter());
        let loads = endpoints.map(|endpoint| endpoint.live.inflight.load(Ordering::SeqCst));
        loads.sum()
    }

    /// How many requests of this service wait for a place.
    pub fn queued(&self, service: &str) -> u32 {
        let table = self.table.load();
        let service = table.services.get(service).expect("it is served");
        service.live.waiting.load(Ordering::SeqCst)
    }

    /// How many requests of this service have slots, and how many wait for one.
    pub fn slots(&self, service: &str) -> (u32, u32) {
        let table = self.table.load();
        let service = table.services.get(service).expect("it is served");
        (service.live.gate.running(), service.live.gate.waiting())
    }

    /// Waits until no request of this service is in flight, waits for a place or for a head.
    #[track_caller]
    pub fn await_rest(&self, service: &str) {
        super::eventually("nothing goes on", || {
            let table = self.table.load();
            let served = table.services.get(service).expect("it is served");
            let endpoints = served.versions.iter().flat_map(|v| v.endpoints.iter());
            let mut pending = endpoints.map(|endpoint| &endpoint.live.pace.waiting);
            let idle = pending.all(|pending| pending.load(Ordering::SeqCst) == 0);
            (idle && self.in_flight(service) == 0 && self.queued(service) == 0).then_some(())
        });
    }

    /// Opens a connection.
    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// What these bytes are answered, over a connection of their own.
    #[track_caller]
    pub fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut client = self.connect();
        client.send(request);
        client.read_answer()
    }

    /// What a body posted to the named entry is answered.
    #[track_caller]
    pub fn post(&self, body: impl AsRef<[u8]>) -> Answer {
        self.ask(super::client::post(body.as_ref()))
    }
}

fn apply(config: &mut Config, fields: &[Field<'_>], extent: Extent) -> Option<Arc<Table>> {
    let mut hashes: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
    for (key, field, value) in fields {
        let hash = hashes.entry(key).or_default();
        hash.insert((*field).to_owned(), (*value).to_owned());
    }
    let readings = hashes.into_iter().map(|(key, hash)| Reading {
        object: object(key),
        raw: Raw::Hash(hash),
        sight: Sight::Named,
    });
    let applied = config.apply(readings.collect(), extent, 1);
    assert_eq!(applied.errors_new, [], "{fields:?}");
    applied.table
}

fn object(key: &str) -> Object {
    match Keys::new("smartlink:").parse(&format!("smartlink:{key}")) {
        Parsed::Object(object) => object,
        other => panic!("{key} is no configuration key: {other:?}"),
    }
}
