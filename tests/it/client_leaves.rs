//! A client that leaves takes its upstream request with it, in every phase.

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::support::client::{Client, post};
use crate::support::gateway::Gateway;
use crate::support::upstream::{Connection, Upstream};
use crate::support::{PATIENCE, eventually, secs};

/// What the test hears of its upstream.
enum News {
    /// The request is where the script wants it.
    Reached,
    /// The gateway closed the connection.
    Closed(Instant),
}

/// A gateway before an upstream that runs this script, then waits for the close.
fn scene(
    script: impl Fn(&mut Connection) + Send + Sync + 'static,
) -> (Gateway, Upstream, Receiver<News>) {
    let (news, heard) = channel();
    let upstream = Upstream::start(move |connection| {
        script(connection);
        let send = |what| news.send(what).expect("the test listens");
        send(News::Reached);
        connection.wait_for_close();
        send(News::Closed(Instant::now()));
    });
    let gateway = Gateway::start(&[
        ("endpoints:s", &upstream.url("/"), "base"),
        ("route:r", "service", "s"),
        ("route:r", "path", "/r/"),
    ]);
    (gateway, upstream, heard)
}

/// Lets the client leave once the script got there; the upstream must see it soon. Says when.
#[track_caller]
fn leaves(phase: &str, gateway: &Gateway, heard: &Receiver<News>, leave: impl FnOnce()) -> String {
    match heard.recv_timeout(PATIENCE) {
        Ok(News::Reached) => {}
        Ok(News::Closed(_)) => panic!("{phase}: closed too early"),
        Err(error) => panic!("{phase}: never reached: {error}"),
    }
    let left = Instant::now();
    leave();
    match heard.recv_timeout(PATIENCE) {
        Ok(News::Closed(at)) => {
            gateway.await_rest("s");
            format!("{phase}: {:?}", at - left)
        }
        Ok(News::Reached) => panic!("{phase}: asked again"),
        Err(error) => panic!("{phase}: not closed within {PATIENCE:?}: {error}"),
    }
}

/// A client that sent this.
fn client_that_sent(gateway: &Gateway, bytes: impl AsRef<[u8]>) -> Client {
    let mut client = gateway.connect();
    client.send(bytes);
    client
}

/// The head of an upload of this many bytes.
fn upload_head(target: &str, length: usize) -> String {
    format!("POST {target} HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n")
}

#[test]
fn while_the_head_of_the_answer_is_waited_for() {
    let small = post(br#"{"server_name": "s"}"#);
    let large = format!(
        r#"{{"server_name": "s", "data": "{}"}}"#,
        "x".repeat(300_000)
    );
    let routed = "GET /r/ HTTP/1.1\r\nhost: h\r\n\r\n".as_bytes().to_vec();
    let upload = format!("{}body", upload_head("/r/", 4)).into_bytes();
    for (phase, request) in [
        ("small body", small),
        ("large body", post(large.as_bytes())),
        ("route", routed),
        ("upload", upload),
    ] {
        let (gateway, _upstream, heard) = scene(|connection| {
            let head = connection.read_head().expect("a head");
            connection.read_body(&head).expect("a body");
        });
        let client = client_that_sent(&gateway, &request);
        println!(
            "{}",
            leaves(&format!("{phase}: waiting"), &gateway, &heard, || drop(
                client
            ))
        );
        let mut client = client_that_sent(&gateway, &request);
        let half_close = || client.half_close();
        println!(
            "{}",
            leaves(
                &format!("{phase}: half-closed"),
                &gateway,
                &heard,
                half_close
            )
        );
    }
}

#[test]
fn while_a_quiet_answer_streams() {
    let request = "GET /r/ HTTP/1.1\r\nhost: h\r\n\r\n";
    let (gateway, _upstream, heard) = scene(|connection| {
        connection.read_head().expect("a head");
        connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n");
    });
    let mut client = client_that_sent(&gateway, request);
    client.read_until("abc");
    println!("{}", leaves("streaming", &gateway, &heard, || drop(client)));
    let mut client = client_that_sent(&gateway, request);
    client.read_until("abc");
    let half_close = || client.half_close();
    println!(
        "{}",
        leaves("streaming, half-closed", &gateway, &heard, half_close)
    );
}

#[test]
fn while_the_answer_is_held_up_by_a_client_that_does_not_read() {
    let (gateway, _upstream, heard) = scene(|connection| {
        connection.read_head().expect("a head");
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n");
        let piece = vec![b'x'; 64 * 1024];
        // More than all buffers between hold is not taken any more.
        connection.send_until_blocked(&piece, Duration::from_millis(300));
    });
    let mut client = client_that_sent(&gateway, "GET /r/ HTTP/1.1\r\nhost: h\r\n\r\n");
    client.read_head();
    println!(
        "{}",
        leaves("streaming, held up", &gateway, &heard, || drop(client))
    );
    // A client that said it sends no more has left too, though its answer waits.
    let mut client = client_that_sent(&gateway, "GET /r/ HTTP/1.1\r\nhost: h\r\n\r\n");
    client.read_head();
    let half_close = || client.half_close();
    println!(
        "{}",
        leaves("held up, half-closed", &gateway, &heard, half_close)
    );
}

#[test]
fn in_the_middle_of_an_upload() {
    let begin = r#"{"server_name": "s", "data": ""#.to_owned() + &"x".repeat(100_000);
    for target in ["/r/", "/ai_server/"] {
        let (gateway, _upstream, heard) = scene(|connection| {
            connection.read_head().expect("a head");
            connection.read_exactly(100_000).expect("the beginning");
        });
        let request = upload_head(target, 1_000_000) + &begin;
        let client = client_that_sent(&gateway, request);
        println!(
            "{}",
            leaves(&format!("{target}: uploading"), &gateway, &heard, || drop(
                client
            ))
        );
    }
}

/// A gateway before an upstream that takes the head of a request and nothing more.
fn deaf_scene() -> (Gateway, Upstream) {
    let upstream = Upstream::start(|connection| {
        connection.read_head().expect("a head");
        std::thread::sleep(secs(5));
    });
    let gateway = Gateway::start(&[
        ("endpoints:s", &upstream.url("/"), "base"),
        ("route:r", "service", "s"),
        ("route:r", "path", "/r/"),
    ]);
    (gateway, upstream)
}

/// Waits until nothing is in flight any more; says how long that took.
#[track_caller]
fn is_given_up(phase: &str, gateway: &Gateway, left: Instant) -> String {
    eventually("the request is given up", || {
        (gateway.in_flight("s") == 0).then_some(())
    });
    format!("{phase}: {:?}", left.elapsed())
}

#[test]
fn by_a_reset_in_the_middle_of_an_upload_that_the_upstream_does_not_take() {
    let (gateway, _upstream) = deaf_scene();
    let mut client = client_that_sent(&gateway, upload_head("/r/", 1_000_000_000));
    client.send_until_blocked(&[b'x'; 16 * 1024], Duration::from_millis(300));
    assert_eq!(gateway.in_flight("s"), 1);
    let left = Instant::now();
    client.reset();
    println!("{}", is_given_up("uploading, held up", &gateway, left));
}

#[test]
fn behind_a_second_request_that_waits_for_the_first() {
    let request = "GET /r/ HTTP/1.1\r\nhost: h\r\n\r\n";
    for together in [true, false] {
        let (gateway, _upstream) = deaf_scene();
        let first = if together {
            request.repeat(2)
        } else {
            request.to_owned()
        };
        let mut client = client_that_sent(&gateway, first);
        eventually("it is in flight", || {
            (gateway.in_flight("s") == 1).then_some(())
        });
        if !together {
            client.send(request);
        }
        let left = Instant::now();
        drop(client);
        println!("{}", is_given_up("pipelined", &gateway, left));
    }
}

#[test]
fn in_a_tunnel() {
    let (gateway, _upstream, heard) = scene(|connection| {
        connection.read_head().expect("a head");
        connection.send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        );
    });
    let request =
        "GET /r/ HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let mut client = client_that_sent(&gateway, request);
    assert_eq!(client.read_head().status, 101);
    println!("{}", leaves("tunnel", &gateway, &heard, || drop(client)));
}
