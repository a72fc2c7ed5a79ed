//! Opaque tokens that only their issuer knows (RFC 7662): asked once, remembered good or bad.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::eventually;
use crate::support::load::{Answer, serving};
use crate::support::redis::Redis;
use crate::support::site::{Site, await_proof};
use crate::support::upstream::Upstream;

/// An issuer that knows one token, a gateway before a service, and how often the issuer was asked.
struct House {
    site: Site,
    asked: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
    _kept: (Redis, Upstream, Upstream),
}

fn start(status: u16) -> House {
    let asked: Arc<AtomicUsize> = Arc::default();
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let (count, said) = (Arc::clone(&asked), Arc::clone(&heads));
    let issuer = Upstream::start(move |connection| {
        while let Some(seen) = connection.read_request() {
            count.fetch_add(1, Ordering::SeqCst);
            let bearer = seen.head.value("authorization").unwrap_or_default();
            said.lock().expect("no panic").push(bearer.to_owned());
            // Long enough that others come meanwhile.
            std::thread::sleep(Duration::from_millis(100));
            let form = String::from_utf8_lossy(&seen.body).into_owned();
            let good = form.starts_with("token=good&");
            let body = format!(
                r#"{{"active": {good}, "sub": "alice", "scope": "read write", "services": "s"}}"#
            );
            let length = body.len();
            connection.send(format!(
                "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n{body}"
            ));
        }
    });
    let (upstream, _) = serving("ok");
    let redis = Redis::start();
    for service in ["s", "t"] {
        let key = format!("smartlink:endpoints:{service}");
        redis.call(&["HSET", &key, &upstream.url("/"), "base"]);
    }
    redis.run("HSET smartlink:defaults auth jwt:corp");
    redis.call(&[
        "HSET",
        "smartlink:issuer:corp",
        "introspection_url",
        &issuer.url("/introspect"),
        "client_id",
        "gate",
        "client_secret_env",
        "SECRET",
        "require",
        "scope=read",
        "services_claim",
        "services",
    ]);
    let site = Site::start(&redis);
    await_proof(&redis);
    House {
        site,
        asked,
        heads,
        _kept: (redis, upstream, issuer),
    }
}

impl House {
    fn ask(&self, service: &str, token: &str) -> Answer {
        let body = format!(r#"{{"server_name": "{service}"}}"#);
        let length = body.len();
        self.site.ask(
            format!(
                "POST /ai_server/ HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {token}\r\n\
                 content-length: {length}\r\n\r\n{body}"
            )
            .as_bytes(),
        )
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[test]
fn an_issuer_is_asked_once_about_a_token_whoever_presents_it() {
    let house = start(200);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert_eq!(house.ask("s", "good").status, 200));
        }
    });
    assert_eq!(house.ask("t", "good").status, 403);
    assert_eq!(house.asked(), 1);
    // gate:s3cret
    let heads = house.heads.lock().expect("no panic").clone();
    assert_eq!(heads, ["Basic Z2F0ZTpzM2NyZXQ="]);
    for _ in 0..5 {
        assert_eq!(house.ask("s", "bad").status, 401);
        assert_eq!(house.ask("nobody", "bad").status, 401);
    }
    assert_eq!(house.asked(), 2);
    assert_eq!(house.ask("s", "good&token=good").status, 401);
}

#[test]
fn while_an_issuer_is_away_nobody_is_called_bad() {
    let house = start(500);
    let answer = house.ask("s", "good");
    assert_eq!((answer.status, answer.code()), (503, "overloaded"));
    // It is asked again.
    eventually("asked anew", || {
        house.ask("s", "good");
        (house.asked() >= 3).then_some(())
    });
}
