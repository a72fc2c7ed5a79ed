//! Who gets what from the admin port.

use std::sync::LazyLock;

use futures_util::FutureExt;
use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::control::recorder;
use crate::model::keys::Keys;
use crate::store::{self, Ledger};

/// A look at a Redis that nobody connects to: this runtime never runs.
fn nowhere() -> Look {
    static STILL: LazyLock<Runtime> = LazyLock::new(|| {
        let runtime = Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime")
    });
    let _inside = STILL.enter();
    let options = store::Options {
        url: "redis://127.0.0.1:1".to_owned(),
        user: None,
        password: None,
        keys: Keys::new("smartlink:"),
        instance: "test".to_owned(),
    };
    Look::new(Arc::new(Ledger::connect(&options).expect("a URL")))
}

fn admin(address: &str, token: Option<&str>) -> Admin {
    let (table, status): (Arc<ArcSwap<Table>>, Arc<Status>) = <_>::default();
    let health = Board::new(tokio::time::Instant::now());
    let (reader, _gone) = recorder::reader();
    let (_, lanes) = tokio::sync::watch::channel(Vec::new());
    Admin {
        metrics: Metrics::new(
            table.clone(),
            status.clone(),
            health.clone(),
            Arc::default(),
            reader,
            lanes,
        ),
        table,
        status,
        health,
        live: nowhere(),
        door: Door::new(address.parse().expect("an address"), token),
    }
}

fn status(admin: &Admin, method: &Method, path: &str, headers: &[(&str, &str)]) -> u16 {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(
            http::HeaderName::from_bytes(name.as_bytes()).expect("a name"),
            HeaderValue::from_str(value).expect("a value"),
        );
    }
    let answer = admin.answer(method, path, &map).now_or_never();
    let answer = answer.expect("nothing is waited for");
    answer.status().as_u16()
}

#[test]
fn only_own_names_are_answered() {
    let admin = admin("127.0.0.1:9002", None);
    for host in [
        "127.0.0.1:9002",
        "127.0.0.1",
        "localhost:9002",
        "LOCALHOST",
        "[::1]:9002",
        "127.8.8.8",
    ] {
        let got = status(&admin, &Method::GET, "/api/v1/table", &[("host", host)]);
        assert_eq!(got, 200, "{host}");
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "",
        "[",
        "127.0.0.1.evil:1",
    ] {
        let got = status(&admin, &Method::GET, "/api/v1/table", &[("host", host)]);
        assert_eq!(got, 403, "{host}");
        let got = status(&admin, &Method::GET, "/metrics", &[("host", host)]);
        assert_eq!(got, 403, "{host}");
    }
    let twice = [("host", "localhost"), ("host", "evil.example")];
    assert_eq!(status(&admin, &Method::GET, "/api/v1/table", &twice), 403);
    assert_eq!(status(&admin, &Method::GET, "/api/v1/errors", &[]), 403);
}

#[test]
fn the_token_is_asked_for() {
    let admin = admin("10.0.0.1:9002", Some("right"));
    let get = |value: &str| {
        let headers = [("host", "gateway.example"), ("authorization", value)];
        status(&admin, &Method::GET, "/api/v1/table", &headers)
    };
    assert_eq!(get("Bearer right"), 200);
    assert_eq!(get("bearer right"), 200);
    for wrong in [
        "Bearer wrong",
        "Bearer ",
        "Basic right",
        "right",
        "Bearer right2",
    ] {
        assert_eq!(get(wrong), 401, "{wrong}");
    }
    let own = [("host", "localhost")];
    assert_eq!(status(&admin, &Method::GET, "/api/v1/table", &own), 401);
    assert_eq!(status(&admin, &Method::GET, "/metrics", &own), 401);
    assert_eq!(status(&admin, &Method::GET, "/healthz", &[]), 200);
}

#[test]
fn only_reading_is_known() {
    let admin = admin("127.0.0.1:9002", None);
    let host = [("host", "localhost")];
    assert_eq!(status(&admin, &Method::HEAD, "/healthz", &host), 200);
    assert_eq!(status(&admin, &Method::POST, "/healthz", &host), 405);
    assert_eq!(status(&admin, &Method::DELETE, "/api/v1/table", &host), 405);
    assert_eq!(status(&admin, &Method::GET, "/api/v1/tables", &host), 404);
    assert_eq!(status(&admin, &Method::POST, "/", &host), 404);
    assert_eq!(status(&admin, &Method::POST, "/metrics", &host), 405);
    assert_eq!(status(&admin, &Method::GET, "/metrics", &host), 503);
}

#[test]
fn readiness_follows_the_table_and_the_drain() {
    let admin = admin("127.0.0.1:9002", None);
    let ready = || status(&admin, &Method::GET, "/readyz", &[]);
    assert_eq!(ready(), 503);
    admin.table.store(Arc::new(Table {
        loaded: true,
        ..Table::default()
    }));
    assert_eq!(ready(), 200);
    admin.status.set_draining();
    assert_eq!(ready(), 503);
}
