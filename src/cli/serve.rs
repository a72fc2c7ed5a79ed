//! `serve`: runs the gateway until SIGTERM or SIGINT.

use std::net::TcpListener;
use std::process::ExitCode;

use listenfd::ListenFd;

use super::{Error, redis_options, signal};
use crate::app::{self, App};
use crate::control::recorder;
use crate::settings::ProxyProtocol;
use crate::stats::batch::Cut;
use crate::{access, admin, proxy, settings, store, telemetry, trace};

/// Serves, drains, and returns when all is done.
pub(super) fn run(serve: &settings::Serve) -> Result<ExitCode, Error> {
    let filter = telemetry::parse_filter(&serve.log.filter).map_err(Error::Log)?;
    telemetry::init(serve.log.format, filter).map_err(Error::Log)?;
    // First, so that a signal during the start drains too.
    let stopped = signal::on_thread()?;
    let mut options = options(serve);
    options.proxy.inherited = inherited()?;
    App::bind(options)?.run(async {
        // A sender that is gone means the same as a word from it.
        stopped.await.ok();
    })?;
    Ok(ExitCode::SUCCESS)
}

/// This Redis, or another one.
pub(super) fn or_other(store: &store::Options, url: Option<&settings::Secret>) -> store::Options {
    let Some(url) = url else {
        return store.clone();
    };
    store::Options {
        url: url.reveal().to_owned(),
        user: None,
        password: None,
        ..store.clone()
    }
}

/// What the flags mean to the application.
pub(super) fn options(serve: &settings::Serve) -> app::Options {
    let instance = serve.instance();
    let store = redis_options(&serve.redis, &instance);
    let clients = &serve.clients;
    let stats = or_other(&store, serve.stats_redis.as_ref());
    let shadow = or_other(&store, serve.shadow.shadow_redis.as_ref());
    app::Options {
        proxy: proxy::Options {
            listen: serve.listen.clone(),
            inherited: Vec::new(),
            threads: serve.threads(),
            entry: serve.entry.clone(),
            header_timeout: clients.header_timeout,
            idle_timeout: clients.idle_timeout,
            entry_buffer: clients.entry_buffer,
            trusted_proxies: clients.trusted_proxies.clone(),
            proxy_protocol: match clients.proxy_protocol {
                ProxyProtocol::Off => None,
                ProxyProtocol::V1 => Some(proxy::ProxyProtocol::V1),
                ProxyProtocol::V2 => Some(proxy::ProxyProtocol::V2),
                ProxyProtocol::Any => Some(proxy::ProxyProtocol::Any),
            },
            max_head: clients.max_head,
            max_headers: clients.max_headers.into(),
            drain_timeout: serve.drain_timeout,
        },
        admin: serve.admin.as_option().map(|address| admin::Options {
            address: *address,
            token_file: serve.admin_token_file.clone(),
        }),
        store,
        stats,
        shadow,
        kafka: serve.shadow.kafka.clone(),
        recorder: recorder::Options {
            interval: serve.stats_interval,
            cut: Cut {
                window: serve.stats_window.as_secs(),
                keep: serve.stats_keep.as_secs(),
            },
        },
        pilot: serve.pilot,
        reconcile: serve.reconcile,
        snapshot: serve.snapshot.as_option().cloned(),
        secrets: settings::secret,
        access: serve
            .access_log
            .file
            .as_option()
            .map(|file| access::Options {
                place: match file.to_str() {
                    Some("-") => access::Place::Stdout,
                    _ => access::Place::File(file.clone()),
                },
                format: serve.access_log.format,
                sample: serve.access_log.sample,
            }),
        trace: serve
            .otlp
            .endpoint
            .as_option()
            .map(|collector| trace::Options {
                collector: collector.clone(),
                sample: serve.otlp.sample,
                instance,
            }),
    }
}

/// Sockets handed over by systemd or the like (`LISTEN_FDS`); they are used instead of `--listen`.
fn inherited() -> Result<Vec<TcpListener>, Error> {
    let mut handed = ListenFd::from_env();
    (0..handed.len())
        .filter_map(|at| handed.take_tcp_listener(at).transpose())
        .collect::<Result<_, _>>()
        .map_err(Error::Inherited)
}
