//! A whole gateway on a private Redis, in this process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use smartlink::app::{self, App, Error};
use smartlink::model::keys::Keys;
use smartlink::{admin, proxy, store};
use tokio::sync::oneshot;

use super::load::{Answer, Caller};
use super::redis::Redis;
use super::{PATIENCE, eventually, secs};

/// A gateway that serves; stopped when dropped.
pub struct Site {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its admin port.
    pub admin: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

/// Two data threads on a free port, configured by that server.
pub fn options(redis: &Redis) -> app::Options {
    let loopback = "127.0.0.1:0".parse().expect("an address");
    let store = store::Options {
        url: redis.url(),
        user: None,
        password: None,
        keys: Keys::new("smartlink:"),
        instance: "here".to_owned(),
    };
    app::Options {
        proxy: proxy::Options {
            listen: vec![loopback],
            inherited: Vec::new(),
            threads: 2,
            entry: "/ai_server/".to_owned(),
            header_timeout: secs(10),
            idle_timeout: secs(75),
            entry_buffer: 128 << 20,
            trusted_proxies: Vec::new(),
            proxy_protocol: None,
            max_head: 64 << 10,
            max_headers: 100,
            drain_timeout: secs(5),
        },
        admin: Some(admin::Options {
            address: loopback,
            token_file: None,
        }),
        stats: store.clone(),
        shadow: store.clone(),
        kafka: None,
        store,
        recorder: super::control::recorder(),
        pilot: false,
        reconcile: secs(5),
        snapshot: None,
        secrets: super::control::secrets,
        access: None,
        trace: None,
    }
}

impl Site {
    /// A gateway configured by that server.
    pub fn start(redis: &Redis) -> Self {
        Self::start_with(options(redis))
    }

    /// The same, keeping a snapshot in that file.
    pub fn start_with_snapshot(redis: &Redis, file: PathBuf) -> Self {
        let mut options = options(redis);
        options.snapshot = Some(file);
        Self::start_with(options)
    }

    /// A gateway with these options.
    pub fn start_with(options: app::Options) -> Self {
        let bound = App::bind(options).expect("it starts");
        let address = *bound.public.first().expect("one address");
        let admin = bound.admin.expect("an admin port");
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || bound.run(async { drop(stopped.await) }));
        Self {
            address,
            admin,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// What this request is answered, over a connection of its own.
    #[track_caller]
    pub fn ask(&self, request: &[u8]) -> Answer {
        let mut caller = Caller::connect(self.address).expect("it accepts");
        caller.ask(request).expect("an answer")
    }

    /// What its admin port answers a GET of this path.
    #[track_caller]
    pub fn ask_admin(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let mut caller = Caller::connect(self.admin).expect("it accepts");
        let answer = caller.ask(request.as_bytes()).expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    /// Waits until the answer to this request is as wanted.
    #[track_caller]
    pub fn await_answer(&self, request: &[u8], wanted: impl Fn(&Answer) -> bool) {
        let mut last = None;
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(request);
            if wanted(&answer) {
                return;
            }
            assert!(std::time::Instant::now() < end, "not in time: {last:?}");
            last = Some(answer);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Tells it to stop, and returns while it drains.
    pub fn begin_drain(&mut self) {
        drop(self.stop.take());
    }

    /// Whether it is at its end.
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for its end, which must be a good one.
    #[track_caller]
    pub fn await_end(&mut self) {
        eventually("the gateway ends", || self.is_over().then_some(()));
        let thread = self.thread.take().expect("it ran");
        thread.join().expect("no panic").expect("a clean end");
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.begin_drain();
        if let Some(thread) = self.thread.take() {
            // A test that fails already must not hide why.
            let _ended = thread.join();
        }
    }
}

/// Waits until notifications are known to arrive at the gateway called `here`.
#[track_caller]
pub fn await_proof(redis: &Redis) {
    eventually("notifications arrive", || {
        let hash = redis.hash("smartlink:gateway:here");
        (hash.get("watch")? == "notifications").then_some(())
    });
}
