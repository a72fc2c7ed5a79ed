//! `concurrency`: slots of a service and of a token, and the line of those who wait for one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::support::client::Client;
use super::support::eventually;
use super::support::gateway::{Field, Gateway};
use super::support::upstream::Upstream;

const FINE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine";

/// The key of a token's hash.
fn token(text: &str) -> String {
    let hash = Sha256::digest(text);
    let digits: Vec<String> = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("token:{}", digits.concat())
}

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

fn gateway(upstream: &Upstream, fields: &[Field<'_>], threads: usize) -> Gateway {
    let url = upstream.url("/");
    let mut all: Vec<Field<'_>> = vec![("endpoints:s", &url, "base")];
    all.extend(fields);
    Gateway::start_with(&all, |options| options.threads = threads)
}

/// The request of whoever has this token.
fn request(token: &str) -> String {
    let body = r#"{"server_name": "s"}"#;
    format!(
        "POST /ai_server/ HTTP/1.1\r\nhost: h\r\nx-api-key: {token}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A client whose request is on its way.
fn asking(gateway: &Gateway, token: &str) -> Client {
    let mut client = gateway.connect();
    client.send(request(token));
    client
}

/// Waits until so many have slots, and so many stand in line.
#[track_caller]
fn await_gate(gateway: &Gateway, slots: u32, line: u32) {
    eventually("so many slots and waiting", || {
        (gateway.slots("s") == (slots, line)).then_some(())
    });
}

#[test]
fn slots_are_exact_under_many_clients_and_threads() {
    const MOST: usize = 3;
    let (now, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (running, highest) = (Arc::clone(&now), Arc::clone(&peak));
    let upstream = Upstream::start(move |connection| {
        while connection.read_request().is_some() {
            let running_now = running.fetch_add(1, Ordering::SeqCst) + 1;
            highest.fetch_max(running_now, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(2));
            running.fetch_sub(1, Ordering::SeqCst);
            connection.send(FINE);
        }
    });
    let fields = [
        ("service:s", "concurrency", "3"),
        ("service:s", "queue", "100"),
        ("service:s", "queue_timeout", "60s"),
    ];
    let gateway = gateway(&upstream, &fields, 2);
    std::thread::scope(|scope| {
        for _ in 0..32 {
            let gateway = &gateway;
            scope.spawn(move || {
                for _ in 0..5 {
                    assert_eq!(asking(gateway, "").read_answer().text(), "fine");
                }
            });
        }
    });
    assert_eq!(upstream.seen().len(), 160);
    assert_eq!(peak.load(Ordering::SeqCst), MOST);
    await_gate(&gateway, 0, 0);
}

#[test]
fn who_finds_no_slot_is_told_which_bound_it_met() {
    let (upstream, go) = on_command();
    for (queue, bound) in [("0", "concurrency"), ("1", "queue_timeout")] {
        let fields = [
            ("service:s", "concurrency", "1"),
            ("service:s", "queue", queue),
            ("service:s", "queue_timeout", "100ms"),
        ];
        let gateway = gateway(&upstream, &fields, 1);
        let mut first = asking(&gateway, "");
        await_gate(&gateway, 1, 0);
        let msg = asking(&gateway, "").read_answer().error(503, "overloaded");
        assert!(msg.contains(&format!(" {bound} ")), "{msg}");
        assert_eq!(gateway.slots("s"), (1, 0));
        go.send(()).expect("the upstream waits");
        assert_eq!(first.read_answer().text(), "fine");
    }
}

#[test]
fn a_token_has_only_so_many_requests_in_flight() {
    let (upstream, go) = on_command();
    let (one, two) = (token("T1"), token("T2"));
    let fields = [
        ("service:s", "auth", "token"),
        (one.as_str(), "services", "*"),
        (one.as_str(), "concurrency", "2"),
        (two.as_str(), "services", "*"),
    ];
    let gateway = gateway(&upstream, &fields, 2);
    let in_flight = |count| {
        eventually("so many in flight", || {
            (gateway.in_flight("s") == count).then_some(())
        });
    };
    let gone = asking(&gateway, "T1");
    let mut clients = vec![asking(&gateway, "T1")];
    in_flight(2);
    let refused = asking(&gateway, "T1").read_answer();
    let msg = refused.error(429, "rate_limited");
    assert!(msg.contains("concurrency of the token"), "{msg}");
    clients.push(asking(&gateway, "T2"));
    in_flight(3);
    drop(gone);
    in_flight(2);
    clients.push(asking(&gateway, "T1"));
    in_flight(3);
    // One word for the request that nobody waits for any more.
    for _ in 0..4 {
        go.send(()).expect("the upstream waits");
    }
    for mut client in clients {
        assert_eq!(client.read_answer().text(), "fine");
    }
}

#[test]
fn clients_that_leave_give_back_their_slot_and_their_turn() {
    let (upstream, go) = on_command();
    let fields = [
        ("service:s", "concurrency", "1"),
        ("service:s", "queue", "10"),
        ("service:s", "queue_timeout", "60s"),
    ];
    let gateway = gateway(&upstream, &fields, 2);
    let first = asking(&gateway, "");
    await_gate(&gateway, 1, 0);
    let gone = asking(&gateway, "");
    await_gate(&gateway, 1, 1);
    let mut last = asking(&gateway, "");
    await_gate(&gateway, 1, 2);
    drop(gone);
    await_gate(&gateway, 1, 1);
    drop(first);
    eventually("the last is sent", || {
        (upstream.seen().len() == 2).then_some(())
    });
    // One word for the request that nobody waits for any more.
    for _ in 0..2 {
        go.send(()).expect("the upstream waits");
    }
    assert_eq!(last.read_answer().text(), "fine");
    await_gate(&gateway, 0, 0);
}

#[test]
fn a_slot_is_held_to_the_end_of_a_streamed_answer_or_a_tunnel_however_it_ends() {
    let (more, told) = channel::<()>();
    let told = Mutex::new(told);
    let upstream = Upstream::start(move |connection| {
        while let Some(seen) = connection.read_request() {
            if seen.head.value("upgrade").is_some() {
                connection.send(
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
                );
                // Until the other side is gone.
                while connection.read_request().is_some() {}
                return;
            }
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf");
            if told.lock().expect("no panic").recv().is_err() {
                return;
            }
            connection.send("full");
        }
    });
    let fields = [
        ("service:s", "concurrency", "2"),
        ("route:r", "service", "s"),
        ("route:r", "path", "/s/"),
    ];
    let gateway = gateway(&upstream, &fields, 1);
    let mut streamed = asking(&gateway, "");
    streamed.read_until("half");
    let gone = asking(&gateway, "");
    await_gate(&gateway, 2, 0);
    drop(gone);
    await_gate(&gateway, 1, 0);
    for _ in 0..2 {
        more.send(()).expect("the upstream waits");
    }
    streamed.read_until("full");
    await_gate(&gateway, 0, 0);
    let mut tunnel = gateway.connect();
    tunnel.send("GET /s/ HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    assert_eq!(tunnel.read_head().status, 101);
    await_gate(&gateway, 1, 0);
    drop(tunnel);
    await_gate(&gateway, 0, 0);
}

#[test]
fn more_slots_let_those_in_line_in_and_none_too() {
    let (upstream, go) = on_command();
    let settings = |slots| {
        [
            ("service:s", "concurrency", slots),
            ("service:s", "queue", "10"),
            ("service:s", "queue_timeout", "60s"),
        ]
    };
    let mut gateway = gateway(&upstream, &settings("1"), 2);
    let mut clients = vec![asking(&gateway, "")];
    await_gate(&gateway, 1, 0);
    for line in 1..=3 {
        clients.push(asking(&gateway, ""));
        await_gate(&gateway, 1, line);
    }
    gateway.write(&settings("2"));
    await_gate(&gateway, 2, 2);
    gateway.write(&settings("off"));
    await_gate(&gateway, 4, 0);
    for _ in &clients {
        go.send(()).expect("the upstream waits");
    }
    for mut client in clients {
        assert_eq!(client.read_answer().text(), "fine");
    }
    await_gate(&gateway, 0, 0);
}

#[test]
fn a_flood_that_fills_the_line_does_not_keep_a_trickle_out() {
    let (upstream, go) = on_command();
    let (flood, trickle) = (token("F"), token("T"));
    let fields = [
        ("service:s", "auth", "token"),
        ("service:s", "concurrency", "1"),
        ("service:s", "queue", "3"),
        ("service:s", "queue_timeout", "60s"),
        (flood.as_str(), "services", "*"),
        (trickle.as_str(), "services", "*"),
    ];
    let gateway = gateway(&upstream, &fields, 1);
    let mut clients = vec![asking(&gateway, "F")];
    await_gate(&gateway, 1, 0);
    for line in 1..=3 {
        clients.push(asking(&gateway, "F"));
        await_gate(&gateway, 1, line);
    }
    let msg = asking(&gateway, "F").read_answer().error(503, "overloaded");
    assert!(msg.contains(" queue "), "{msg}");
    let mut few = asking(&gateway, "T");
    let msg = clients.pop().expect("a client").read_answer();
    let msg = msg.error(503, "overloaded");
    assert!(msg.contains(" queue "), "the flood's last: {msg}");
    assert_eq!(gateway.slots("s"), (1, 3));
    for _ in 0..2 {
        go.send(()).expect("the upstream waits");
    }
    assert_eq!(few.read_answer().text(), "fine", "before the flood's rest");
    for mut client in clients {
        // Those that are over already have no use for this word.
        go.send(()).expect("the upstream waits");
        assert_eq!(client.read_answer().text(), "fine");
    }
}

#[test]
fn a_hundred_connections_leave_one_its_share() {
    let upstream = Upstream::start(|connection| {
        while connection.read_request().is_some() {
            std::thread::sleep(Duration::from_millis(80));
            connection.send(FINE);
        }
    });
    let (flood, trickle) = (token("F"), token("T"));
    let fields = [
        ("service:s", "auth", "token"),
        ("service:s", "concurrency", "4"),
        ("service:s", "queue", "200"),
        ("service:s", "queue_timeout", "60s"),
        (flood.as_str(), "services", "*"),
        (trickle.as_str(), "services", "*"),
    ];
    let gateway = gateway(&upstream, &fields, 2);
    let stop = AtomicBool::new(false);
    let (by_many, by_few) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (many, few) = std::thread::scope(|scope| {
        let ask = |token: &'static str, done: &'static str| {
            let (gateway, stop) = (&gateway, &stop);
            let counter = if done == "many" { &by_many } else { &by_few };
            scope.spawn(move || {
                let mut client = gateway.connect();
                while !stop.load(Ordering::Relaxed) {
                    client.send(request(token));
                    assert_eq!(client.read_answer().text(), "fine");
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        };
        for _ in 0..100 {
            ask("F", "many");
        }
        await_gate(&gateway, 4, 96);
        by_many.store(0, Ordering::Relaxed);
        ask("T", "few");
        let done = eventually("enough is done", || {
            let done = (
                by_many.load(Ordering::Relaxed),
                by_few.load(Ordering::Relaxed),
            );
            (done.0 + done.1 >= 300).then_some(done)
        });
        stop.store(true, Ordering::Relaxed);
        done
    });
    // One connection can use one slot of four. On a busy machine it is on its way for longer than a
    // slot is kept for it; simulated time shows the part to the percent.
    let part = few * 100 / (many + few);
    assert!((17..=28).contains(&part), "{few} of {}", many + few);
}
