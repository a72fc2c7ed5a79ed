//! `max_conns`, and the queue of those that wait for a place.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::support::client::{Client, post};
use super::support::eventually;
use super::support::gateway::{Field, Gateway};
use super::support::upstream::Upstream;

const FINE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine";

/// An upstream that answers one request for each word it is given.
fn on_command() -> (Upstream, Sender<()>) {
    let (go, told) = channel();
    let told: Arc<Mutex<Receiver<()>>> = Arc::new(Mutex::new(told));
    let upstream = Upstream::start(move |connection| {
        while connection.read_request().is_some() {
            if told.lock().expect("no panic").recv().is_err() {
                return;
            }
            connection.send(FINE);
        }
    });
    (upstream, go)
}

fn gateway(endpoints: &[(&str, &str)], settings: &[(&str, &str)], threads: usize) -> Gateway {
    let mut fields: Vec<Field<'_>> = Vec::new();
    fields.extend((endpoints.iter()).map(|(url, says)| ("endpoints:s", *url, *says)));
    fields.extend((settings.iter()).map(|(field, value)| ("service:s", *field, *value)));
    Gateway::start_with(&fields, |options| options.threads = threads)
}

/// A client whose request with this id is on its way.
fn asking(gateway: &Gateway, id: usize) -> Client {
    let mut client = gateway.connect();
    client.send(post(
        format!(r#"{{"server_name": "s", "id": {id}}}"#).as_bytes(),
    ));
    client
}

#[track_caller]
fn await_in_flight(gateway: &Gateway, count: u32) {
    eventually("so many in flight", || {
        (gateway.in_flight("s") == count).then_some(())
    });
}

#[track_caller]
fn await_queued(gateway: &Gateway, count: u32) {
    eventually("so many queued", || {
        (gateway.queued("s") == count).then_some(())
    });
}

#[track_caller]
fn await_seen(upstream: &Upstream, count: usize) {
    eventually("so many arrived", || {
        (upstream.seen().len() == count).then_some(())
    });
}

#[test]
fn max_conns_is_exact_under_many_clients_and_threads() {
    const MOST: usize = 3;
    let now = Arc::new(AtomicUsize::new(0));
    let peak = Arc::new(AtomicUsize::new(0));
    let (running, highest) = (Arc::clone(&now), Arc::clone(&peak));
    let upstream = Upstream::start(move |connection| {
        while connection.read_request().is_some() {
            let running_now = running.fetch_add(1, Ordering::SeqCst) + 1;
            highest.fetch_max(running_now, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(2));
            running.fetch_sub(1, Ordering::SeqCst);
            connection.send(FINE);
        }
    });
    let url = upstream.url("/");
    let settings = [("queue", "100"), ("queue_timeout", "60s")];
    let gateway = gateway(&[(&url, "base max_conns=3")], &settings, 2);
    std::thread::scope(|scope| {
        for id in 0..64 {
            let gateway = &gateway;
            scope.spawn(move || {
                for _ in 0..5 {
                    let mut client = asking(gateway, id);
                    assert_eq!(client.read_answer().text(), "fine");
                }
            });
        }
    });
    assert_eq!(upstream.seen().len(), 320);
    assert_eq!(peak.load(Ordering::SeqCst), MOST);
    gateway.await_rest("s");
}

#[test]
fn who_waits_longest_is_served_first() {
    let (upstream, go) = on_command();
    let url = upstream.url("/");
    let settings = [("queue", "10"), ("queue_timeout", "60s")];
    let gateway = gateway(&[(&url, "base max_conns=1")], &settings, 2);
    let mut clients = vec![asking(&gateway, 0)];
    await_in_flight(&gateway, 1);
    for (id, waiting) in (1..=6).zip(1..) {
        clients.push(asking(&gateway, id));
        await_queued(&gateway, waiting);
    }
    for (answered, client) in clients.iter_mut().enumerate() {
        await_seen(&upstream, answered + 1);
        go.send(()).expect("the upstream waits");
        assert_eq!(client.read_answer().text(), "fine");
    }
    let ids = upstream.seen().into_iter().map(|seen| {
        let body: serde_json::Value = serde_json::from_slice(&seen.body).expect("JSON");
        body.get("id").and_then(serde_json::Value::as_u64)
    });
    assert_eq!(
        ids.collect::<Vec<_>>(),
        (0..=6).map(Some).collect::<Vec<_>>()
    );
}

#[test]
fn who_finds_no_place_is_told_which_bound_it_met() {
    let (upstream, go) = on_command();
    let url = upstream.url("/");
    for (settings, bound) in [
        (&[][..], "max_conns"),
        (
            &[("queue", "1"), ("queue_timeout", "100ms")],
            "queue_timeout",
        ),
    ] {
        let gateway = gateway(&[(&url, "base max_conns=1")], settings, 1);
        let mut first = asking(&gateway, 0);
        await_in_flight(&gateway, 1);
        let answer = asking(&gateway, 1).read_answer();
        let msg = answer.error(503, "overloaded");
        assert!(msg.contains(&format!(" {bound} ")), "{msg}");
        assert_eq!(gateway.queued("s"), 0);
        go.send(()).expect("the upstream waits");
        assert_eq!(first.read_answer().text(), "fine");
    }
}

#[test]
fn a_queue_that_is_full_takes_nobody() {
    let (upstream, go) = on_command();
    let url = upstream.url("/");
    let settings = [("queue", "2"), ("queue_timeout", "60s")];
    let gateway = gateway(&[(&url, "base max_conns=1")], &settings, 2);
    let mut clients = vec![asking(&gateway, 0)];
    await_in_flight(&gateway, 1);
    for waiting in [1, 2] {
        clients.push(asking(&gateway, 3));
        await_queued(&gateway, waiting);
    }
    let msg = asking(&gateway, 4).read_answer().error(503, "overloaded");
    assert!(msg.contains(" queue "), "{msg}");
    for mut client in clients {
        go.send(()).expect("the upstream waits");
        assert_eq!(client.read_answer().text(), "fine");
    }
    assert_eq!(upstream.seen().len(), 3);
}

#[test]
fn a_full_version_does_not_spill() {
    let (upstream, _go) = on_command();
    let other = Upstream::saying("other");
    let (url, spare) = (upstream.url("/"), other.url("/"));
    let gateway = Gateway::start(&[
        ("endpoints:s", &url, "base max_conns=1"),
        ("endpoints:s", &spare, "candidate"),
        ("weights:s", "base", "1000000"),
        ("weights:s", "candidate", "1"),
    ]);
    let _first = asking(&gateway, 0);
    await_in_flight(&gateway, 1);
    let answer = asking(&gateway, 1).read_answer();
    answer.error(503, "overloaded");
    assert_eq!(other.connections(), 0);
}

#[test]
fn a_client_that_leaves_the_queue_takes_no_place() {
    let (upstream, go) = on_command();
    let url = upstream.url("/");
    let settings = [("queue", "10"), ("queue_timeout", "60s")];
    let gateway = gateway(&[(&url, "base max_conns=1")], &settings, 1);
    let mut first = asking(&gateway, 0);
    await_in_flight(&gateway, 1);
    let gone = asking(&gateway, 1);
    await_queued(&gateway, 1);
    let mut last = asking(&gateway, 2);
    await_queued(&gateway, 2);
    drop(gone);
    await_queued(&gateway, 1);
    for client in [&mut first, &mut last] {
        go.send(()).expect("the upstream waits");
        assert_eq!(client.read_answer().text(), "fine");
    }
    assert_eq!(upstream.seen().len(), 2);
    gateway.await_rest("s");
}

#[test]
fn a_client_that_leaves_its_place_gives_it_to_the_next() {
    let (upstream, go) = on_command();
    let url = upstream.url("/");
    let settings = [("queue", "10"), ("queue_timeout", "60s")];
    let gateway = gateway(&[(&url, "base max_conns=1")], &settings, 2);
    let first = asking(&gateway, 0);
    await_in_flight(&gateway, 1);
    let mut next = asking(&gateway, 1);
    await_queued(&gateway, 1);
    drop(first);
    await_seen(&upstream, 2);
    // One word for the request that nobody waits for any more.
    go.send(()).expect("the upstream waits");
    go.send(()).expect("the upstream waits");
    assert_eq!(next.read_answer().text(), "fine");
}

#[test]
fn a_place_on_an_endpoint_added_meanwhile_is_taken() {
    let (upstream, _go) = on_command();
    let other = Upstream::saying("other");
    let (url, more) = (upstream.url("/"), other.url("/"));
    let settings = [("queue", "10"), ("queue_timeout", "60s")];
    let mut gateway = gateway(&[(&url, "base max_conns=1")], &settings, 1);
    let _first = asking(&gateway, 0);
    await_in_flight(&gateway, 1);
    let mut next = asking(&gateway, 1);
    await_queued(&gateway, 1);
    gateway.write(&[
        ("endpoints:s", &url, "base max_conns=1"),
        ("endpoints:s", &more, "base max_conns=1"),
    ]);
    assert_eq!(next.read_answer().text(), "other");
}

#[test]
fn a_limit_set_meanwhile_counts_those_who_came_before_it() {
    let (upstream, go) = on_command();
    let url = upstream.url("/");
    let settings = [("queue", "10"), ("queue_timeout", "60s")];
    let mut gateway = gateway(&[(&url, "base")], &settings, 1);
    let mut first = asking(&gateway, 0);
    await_in_flight(&gateway, 1);
    gateway.write(&[("endpoints:s", &url, "base max_conns=1")]);
    let mut next = asking(&gateway, 1);
    await_queued(&gateway, 1);
    for client in [&mut first, &mut next] {
        go.send(()).expect("the upstream waits");
        assert_eq!(client.read_answer().text(), "fine");
    }
    gateway.await_rest("s");
}
