//! What flags are taken, and what is said about those that are not.

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
    assert_eq!(serve.stats_interval, Duration::from_millis(100));
    assert_eq!(serve.stats_window, Duration::from_secs(10));
    assert_eq!(serve.stats_keep, Duration::from_hours(1));
    assert_eq!(serve.stats_redis, None);
    assert_eq!(serve.clients.header_timeout, Duration::from_secs(10));
    assert_eq!(serve.clients.idle_timeout, Duration::from_secs(75));
    assert_eq!(serve.clients.entry_buffer, 128 << 20);
    assert_eq!(serve.clients.max_head, 64 << 10);
    assert_eq!(serve.clients.proxy_protocol, ProxyProtocol::Off);
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
    assert_eq!(serve.clients.entry_buffer, 64 << 10);
    assert_eq!(serve.clients.trusted_proxies.len(), 2);
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
        ("serve --stats-window 1500ms", "want whole seconds"),
        ("serve --stats-keep 0", "want a duration"),
        ("serve --stats-redis localhost", "want a URL"),
        ("serve --entry-buffer 5MB", "want a size"),
        ("serve --max-head 100", "want a size from 1KiB to 1MiB"),
        ("serve --max-headers 1", "1 is not in 10..=1000"),
        ("serve --proxy-protocol v3", "v1, v2, any"),
        ("serve --proxy-protocol v2", "name them"),
        ("serve --entry ai", "want a path"),
        ("serve --entry /a/../b", "want a path"),
        ("serve --prefix smartlink", "ends in a colon"),
        ("serve --redis localhost", "want a URL"),
        ("serve --threads 0", "--threads"),
        ("serve --instance a:b", "want a name"),
        ("serve --trusted-proxies x", "want "),
        ("serve --log-format xml", "text, json"),
        ("serve --access-log-format xml", "json, combined"),
        ("serve --access-log-sample 2", "want a number from 0 to 1"),
        ("serve --log inof", "want error, warn, info"),
        ("serve --admin 0.0.0.0:9002", "needs --admin-token-file"),
        ("serve extra", "unexpected argument 'extra'"),
        (
            "shift a base=5 base=6",
            "base: named twice, want each name once",
        ),
        ("shift a base=5 --if base=1,base=2", "base: named twice"),
        ("route set r path=/a path=/b", "path: named twice"),
        ("rollout start a mode=guard mode=walk", "mode: named twice"),
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
