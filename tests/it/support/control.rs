//! The control plane alone, as the gateway runs it, and what it has made of the hashes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use smartlink::admin;
use smartlink::app::{Control, ControlOptions, Error};
use smartlink::control::{recorder, watcher};
use smartlink::model::keys::Keys;
use smartlink::model::table::Table;
use smartlink::stats::batch::Cut;
use smartlink::store;

use super::redis::Redis;
use super::{PATIENCE, eventually, secs};

/// Options for a control plane on that server.
pub fn options(redis: &Redis) -> ControlOptions {
    options_at(&redis.url(), "smartlink:")
}

/// Counts are told as by default.
pub fn recorder() -> recorder::Options {
    recorder::Options {
        interval: Duration::from_millis(100),
        cut: Cut {
            window: 10,
            keep: 3600,
        },
    }
}

/// Options for a control plane on that URL.
pub fn options_at(url: &str, prefix: &str) -> ControlOptions {
    let store = store::Options {
        url: url.to_owned(),
        user: None,
        password: None,
        keys: Keys::new(prefix),
        instance: "here".to_owned(),
    };
    ControlOptions {
        stats: store.clone(),
        shadow: store.clone(),
        kafka: None,
        store,
        recorder: recorder(),
        threads: 1,
        pilot: false,
        watcher: watcher::Options {
            reconcile: secs(5),
            instance: "here".to_owned(),
            address: "127.0.0.1:1".to_owned(),
            snapshot: None,
        },
        admin: Some(admin::Options {
            address: "127.0.0.1:0".parse().expect("an address"),
            token_file: None,
        }),
        secrets,
        unwatched: secs(30),
        meters: Arc::default(),
    }
}

/// The secrets of alerts: every variable that begins with `SECRET` holds `s3cret`.
pub fn secrets(name: &str) -> Option<String> {
    name.starts_with("SECRET").then(|| "s3cret".to_owned())
}

/// A control plane that runs.
pub struct Plane {
    pub control: Control,
}

impl Plane {
    /// Starts one on that server.
    pub fn start(redis: &Redis) -> Self {
        Self::start_with(options(redis)).expect("it starts")
    }

    /// Starts one that never compares by itself: it knows of nothing but what it hears.
    pub fn start_hearing(redis: &Redis) -> Self {
        let mut options = options(redis);
        options.watcher.reconcile = Duration::from_hours(1);
        Self::start_with(options).expect("it starts")
    }

    /// Starts one.
    pub fn start_with(options: ControlOptions) -> Result<Self, Error> {
        Control::start(options).map(|control| Self { control })
    }

    /// The table in force.
    pub fn table(&self) -> Arc<Table> {
        self.control.table.load_full()
    }

    /// The weights in force: `base 90 candidate 10`; nothing where there is no such service.
    pub fn weights(&self, service: &str) -> String {
        let table = self.table();
        let Some(service) = table.services.get(service) else {
            return String::new();
        };
        let versions = service.versions.iter();
        let weights = versions.map(|version| format!("{} {}", version.name, version.weight));
        weights.collect::<Vec<_>>().join(" ")
    }

    /// Waits until these weights are in force.
    #[track_caller]
    pub fn await_weights(&self, service: &str, wanted: &str) {
        let end = Instant::now() + PATIENCE;
        while self.weights(service) != wanted {
            let seen = self.weights(service);
            assert!(Instant::now() < end, "want {wanted:?}, got {seen:?}");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Waits until notifications are known to arrive.
    #[track_caller]
    pub fn await_proof(&self) {
        eventually("notifications arrive", || {
            let watch = self.control.status.watch();
            (watch == smartlink::control::status::Watch::Notifications).then_some(())
        });
    }

    /// A GET of the admin port: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        use std::io::{Read, Write};
        let address = self.control.admin.expect("an admin port");
        let mut stream = std::net::TcpStream::connect(address).expect("it accepts");
        let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let status = answer.get(9..12).and_then(|status| status.parse().ok());
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status.expect("a status"), body.to_owned())
    }
}
