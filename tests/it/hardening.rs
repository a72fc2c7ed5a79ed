//! What a hostile client, a careless one or an unlucky moment must not do.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::support::client::Client;
use super::support::gateway::{Field, Gateway};
use super::support::upstream::{Gate, Upstream};
use super::support::{PATIENCE, eventually, secs};

/// A clock of a service that runs out soon.
const SOON: &str = "400ms";

/// A gateway whose paths below `/e/` lead to this upstream, also by the name `s`.
fn led_to(upstream: &Upstream, more: &[Field<'_>]) -> Gateway {
    let url = upstream.url("/");
    let mut fields = vec![
        ("endpoints:s", url.as_str(), "base"),
        ("route:e", "service", "s"),
        ("route:e", "path", "/e/"),
    ];
    fields.extend(more);
    Gateway::start(&fields)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n")
}

fn lines_seen(upstream: &Upstream) -> Vec<String> {
    let seen = upstream.seen();
    seen.into_iter().map(|seen| seen.head.start).collect()
}

// Bytes behind a request to switch protocols.

const DECLINED: [&str; 2] = ["h2c", "websocket"];

fn upgrade(protocol: &str) -> String {
    format!("GET /e/x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n")
}

#[test]
fn nothing_is_smuggled_behind_a_declined_upgrade() {
    const SMUGGLED: &str = "POST /e/SMUG HTTP/1.1\r\nContent-Length: 5\r\n\
        Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    for protocol in DECLINED {
        let upstream = Upstream::saying("no");
        let gateway = led_to(&upstream, &[]);
        for behind in [
            SMUGGLED.to_owned(),
            SMUGGLED.replace(" HTTP/1.1\r\n", " HTTP/1.1\r\nHost: a\r\n"),
            SMUGGLED.replace(" HTTP/1.1\r\n", " HTTP/1.1\nHost: a\n"),
        ] {
            let mut client = gateway.connect();
            client.send(upgrade(protocol) + &behind);
            assert_eq!(client.read_answer().text(), "no", "{protocol} {behind:?}");
            client.read_answer().error(400, "bad_request");
            client.expect_close();
        }
        let seen = lines_seen(&upstream);
        assert_eq!(seen, ["GET /e/x HTTP/1.1"; 3], "{protocol}");
    }
}

#[test]
fn a_good_request_behind_a_declined_upgrade_is_answered() {
    for protocol in DECLINED {
        let upstream = Upstream::saying("no");
        let gateway = led_to(&upstream, &[]);
        let mut client = gateway.connect();
        let post = "POST /e/z HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nbody";
        client.send([&upgrade(protocol), &get("/e/y"), post, &get("/e/last")].concat());
        for _ in 0..4 {
            let answer = client.read_answer();
            assert_eq!(
                (answer.head.status, answer.text()),
                (200, "no"),
                "{protocol}"
            );
        }
        let seen = lines_seen(&upstream);
        assert_eq!(
            seen.last().map(String::as_str),
            Some("GET /e/last HTTP/1.1")
        );
        client.send(get("/e/later"));
        assert_eq!(client.read_answer().text(), "no");
    }
}

#[test]
fn bytes_sent_early_reach_the_upstream_of_an_accepted_upgrade() {
    let upstream = Upstream::start(|connection| {
        connection.read_request().expect("a request");
        // Early bytes have come by now, in pieces.
        std::thread::sleep(Duration::from_millis(200));
        connection.send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        );
        let early = connection.read_exactly(10).expect("early bytes");
        connection.send(early);
        connection.wait_for_close();
    });
    let gateway = led_to(&upstream, &[]);
    let mut client = gateway.connect();
    client.send(upgrade("websocket") + "GET /");
    std::thread::sleep(Duration::from_millis(50));
    client.send("\0\n\r\n\r");
    assert_eq!(client.read_head().status, 101);
    assert_eq!(client.read_exactly(10), b"GET /\0\n\r\n\r");
}

#[test]
fn an_upgrade_asked_for_over_http_1_0_is_ignored() {
    let upstream = Upstream::saying("no");
    let gateway = led_to(&upstream, &[]);
    let answer = gateway.ask(upgrade("websocket").replace("HTTP/1.1", "HTTP/1.0"));
    assert_eq!(answer.text(), "no");
    assert_eq!(upstream.only().head.value("upgrade"), None);
}

#[test]
fn a_protocol_that_is_switched_while_the_gateway_stops_is_switched() {
    let gate = Gate::default();
    let upstream = Upstream::start({
        let gate = gate.clone();
        move |connection| {
            connection.read_request().expect("a request");
            gate.pass();
            connection.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
            connection.wait_for_close();
        }
    });
    let gateway = led_to(&upstream, &[]);
    let address = gateway.address;
    let mut client = gateway.connect();
    client.send(upgrade("websocket"));
    eventually("it asked", || (upstream.seen().len() == 1).then_some(()));
    drop(gateway);
    eventually("nobody is accepted", || {
        TcpStream::connect(address).is_err().then_some(())
    });
    gate.open();
    let head = client.read_head();
    assert_eq!(head.status, 101);
    assert_eq!(head.value("connection"), Some("upgrade"), "{head:?}");
}

// Clients that pause.

#[test]
fn a_client_that_pauses_in_a_routed_body_is_ended_by_stall() {
    let (news, heard) = channel();
    let upstream = Upstream::start(move |connection| {
        connection.read_head().expect("a head");
        connection.wait_for_close();
        news.send(()).expect("the test listens");
    });
    let gateway = led_to(&upstream, &[("service:s", "stall", SOON)]);
    for head in [
        "POST /e/ HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\nbegin",
        "POST /e/ HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegin\r\n",
        "POST /e/ HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\n",
    ] {
        let begun = Instant::now();
        let mut client = gateway.connect();
        client.send(head);
        let msg = client.read_answer().error(504, "upstream_timeout");
        assert!(msg.contains("stall"), "{msg}");
        heard.recv_timeout(PATIENCE).expect("the upstream is free");
        assert!(begun.elapsed() < PATIENCE, "{head:?}");
    }
}

#[test]
fn a_client_that_pauses_in_a_named_body_is_ended_and_its_room_is_free() {
    let upstream = Upstream::saying("ok");
    let url = upstream.url("/");
    let fields = [
        ("endpoints:s", url.as_str(), "base"),
        ("defaults", "stall", SOON),
    ];
    let gateway = Gateway::start_with(&fields, |options| options.entry_buffer = 150_000);
    let start = r#"{"a": ""#.to_owned() + &"x".repeat(100_000);
    let whole = start.clone() + r#"", "server_name": "s"}"#;
    let head = "POST /ai_server/ HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000\r\n\r\n";
    for _ in 0..2 {
        let begun = Instant::now();
        let mut client = gateway.connect();
        client.send(head.to_owned() + &start);
        let msg = client.read_answer().error(408, "bad_request");
        assert!(msg.contains("stall"), "{msg}");
        client.expect_close();
        assert!(begun.elapsed() < PATIENCE);
        assert_eq!(gateway.post(&whole).text(), "ok");
    }
    // Also before the first byte.
    let mut client = gateway.connect();
    client.send(head);
    client.read_answer().error(408, "bad_request");
}

#[test]
fn a_client_that_moves_slowly_is_not_taken_for_one_that_pauses() {
    let upstream = Upstream::saying("ok");
    let gateway = led_to(&upstream, &[("defaults", "stall", "1s")]);
    let body = r#"{"server_name": "s"}"#;
    for target in ["/e/", "/ai_server/"] {
        let mut client = gateway.connect();
        client.send(format!(
            "POST {target} HTTP/1.1\r\nhost: h\r\ncontent-length: 20\r\n\r\n"
        ));
        for piece in body.as_bytes().chunks(4) {
            std::thread::sleep(Duration::from_millis(300));
            client.send(piece);
        }
        assert_eq!(client.read_answer().text(), "ok", "{target}");
    }
}

#[test]
fn stall_does_not_cut_an_answer_whose_request_is_still_on_its_way() {
    let upstream = Upstream::start(|connection| {
        let head = connection.read_head().expect("a head");
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf");
        if connection.read_body(&head).is_some() {
            connection.send("rest");
        }
        connection.wait_for_close();
    });
    let gateway = led_to(&upstream, &[("service:s", "stall", "3s")]);
    let mut client = gateway.connect();
    client.send("POST /e/ HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\n");
    // Longer than `stall` in all, and each pause far below it.
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(400));
        client.send("x");
    }
    assert_eq!(client.read_answer().text(), "halfrest");
}

#[test]
fn empty_lines_behind_a_request_do_not_keep_an_idle_connection() {
    let upstream = Upstream::saying("ok");
    let url = upstream.url("/");
    let fields = [
        ("endpoints:s", url.as_str(), "base"),
        ("route:e", "service", "s"),
        ("route:e", "path", "/e/"),
    ];
    let gateway = Gateway::start_with(&fields, |options| {
        options.idle_timeout = Duration::from_millis(700);
    });
    for (at_once, later) in [("\r\n", ""), ("", "\r\n"), ("", "")] {
        let mut client = gateway.connect();
        client.send(get("/e/") + at_once);
        assert_eq!(client.read_answer().text(), "ok");
        client.send(later);
        let begun = Instant::now();
        client.expect_close();
        assert!(begun.elapsed() < PATIENCE, "{at_once:?} {later:?}");
    }
}

// Clients that leave.

#[test]
fn a_client_that_leaves_is_noticed_behind_bytes_that_nobody_read() {
    let named = r#"{"server_name": "s"}"#;
    let named =
        format!("POST /ai_server/ HTTP/1.1\r\nhost: h\r\ncontent-length: 20\r\n\r\n{named}");
    for request in [get("/e/"), named, upgrade("websocket")] {
        for behind in [
            get("/e/second"),
            "\r\n".to_owned(),
            get("/e/").repeat(10_000),
        ] {
            let ((news, heard), (closed, ended)) = (channel(), channel());
            let upstream = Upstream::start(move |connection| {
                connection.read_request().expect("a request");
                news.send(()).expect("the test listens");
                connection.wait_for_close();
                closed.send(()).expect("the test listens");
            });
            let gateway = led_to(&upstream, &[]);
            let mut client = gateway.connect();
            // More than all buffers hold is not waited for.
            let sent = request.clone() + behind.get(..behind.len().min(60_000)).expect("text");
            client.send(sent);
            heard.recv_timeout(PATIENCE).expect("it asked");
            std::thread::sleep(Duration::from_millis(50));
            drop(client);
            let shown = behind.get(..20).unwrap_or(&behind);
            let noticed = ended.recv_timeout(PATIENCE);
            assert!(
                noticed.is_ok(),
                "{request:?} then {shown:?}: not within {PATIENCE:?}"
            );
        }
    }
}

// The end of the gateway.

#[test]
fn nobody_in_the_accept_queue_is_lost_when_the_gateway_stops() {
    let upstream = Upstream::saying("ok");
    let url = upstream.url("/");
    let fields = [
        ("endpoints:s", url.as_str(), "base"),
        ("route:e", "service", "s"),
        ("route:e", "path", "/e/"),
    ];
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&free.into()).expect("a free port");
    socket.listen(1_000).expect("it listens");
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().expect("an address");
    let mut clients: Vec<Client> = (0..300)
        .map(|_| {
            let mut client = Client::connect(address);
            client.send(get("/e/"));
            client
        })
        .collect();
    // Dropping it is the order to stop.
    drop(Gateway::start_with(&fields, |options| {
        options.inherited = vec![listener];
        options.drain_timeout = secs(20);
    }));
    for client in &mut clients {
        let answer = client.read_answer();
        assert_eq!(
            (answer.head.status, answer.text()),
            (200, "ok"),
            "{answer:?}"
        );
    }
}

// Answers and requests behind others.

#[test]
fn a_204_that_announces_a_body_never_poisons_the_next_answer() {
    const EVIL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    for coding in ["content-length: 42", "transfer-encoding: chunked"] {
        // The body comes with its head, or when the next request may be there already.
        for wait in [0, 200] {
            let upstream = Upstream::start(move |connection| {
                connection.read_head().expect("a head");
                if connection.number() > 0 {
                    connection.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine");
                    return;
                }
                connection.send(format!("HTTP/1.1 204 No Content\r\n{coding}\r\n\r\n"));
                std::thread::sleep(Duration::from_millis(wait));
                connection.send(EVIL);
                connection.wait_for_close();
            });
            let gateway = led_to(&upstream, &[]);
            let mut client = gateway.connect();
            client.send(get("/e/") + &get("/e/"));
            assert_eq!(client.read_head().status, 204);
            assert_eq!(client.read_answer().text(), "fine", "{coding} {wait}");
            assert_eq!(upstream.connections(), 2, "{coding} {wait}");
        }
    }
}

#[test]
fn a_doubt_in_a_pipelined_request_leaves_those_before_it_their_answers() {
    for bad in [
        "POST /e/bad HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\nx\r\n",
        "POST /e/bad HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        "GET /e/bad HTTP/1.1\r\nhost: h\r\na : b\r\n\r\n",
        "GET /e/bad HTTP/1.1\r\nhost: h\r\ncontent-length: x\r\n\r\n",
        "\0\0\0\0\r\n\r\n",
    ] {
        // The answer comes at once, or when the doubt is known for long.
        for wait in [0, 150] {
            let upstream = Upstream::start(move |connection| {
                while connection.read_request().is_some() {
                    std::thread::sleep(Duration::from_millis(wait));
                    connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
                }
            });
            let gateway = led_to(&upstream, &[]);
            let mut client = gateway.connect();
            client.send(get("/e/good") + bad);
            assert_eq!(client.read_answer().text(), "ok", "{bad:?} after {wait}");
            client.read_answer().error(400, "bad_request");
            client.expect_close();
            assert_eq!(lines_seen(&upstream), ["GET /e/good HTTP/1.1"], "{bad:?}");
        }
    }
}

#[test]
fn a_client_of_http_1_0_sees_a_reset_where_its_answer_breaks_off() {
    for chunk in ["", "x\r\n"] {
        let upstream = Upstream::closing(format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n{chunk}"
        ));
        let gateway = led_to(&upstream, &[]);
        let mut client = gateway.connect();
        client.send("GET /e/ HTTP/1.0\r\nhost: h\r\n\r\n");
        assert_eq!(
            client.read_to_end(),
            Err(ErrorKind::ConnectionReset),
            "{chunk:?}"
        );
    }
}

// Bounds.

#[test]
fn bodies_with_the_name_last_hold_their_room_until_they_are_answered() {
    let gate = Gate::default();
    let upstream = Upstream::start({
        let gate = gate.clone();
        move |connection| {
            while connection.read_request().is_some() {
                gate.pass();
                connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            }
        }
    });
    let url = upstream.url("/");
    let fields = [("endpoints:s", url.as_str(), "base")];
    let gateway = Gateway::start_with(&fields, |options| options.entry_buffer = 1_050_000);
    let body = format!(r#"{{"a": "{}", "server_name": "s"}}"#, "x".repeat(100_000));
    let post = super::support::client::post(body.as_bytes());
    let mut clients: Vec<Client> = (0..10).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        client.send(&post);
    }
    eventually("all ten wait", || {
        (upstream.seen().len() == 10).then_some(())
    });
    gateway.post(&body).error(503, "overloaded");
    gate.open();
    for client in &mut clients {
        assert_eq!(client.read_answer().text(), "ok");
    }
    for _ in 0..3 {
        assert_eq!(gateway.post(&body).text(), "ok", "there is room again");
    }
}

#[test]
fn total_bounds_connecting_too() {
    // A listener whose queue is full lets nobody in and says nothing.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&free.into()).expect("a free port");
    socket.listen(0).expect("it listens");
    let address = socket
        .local_addr()
        .ok()
        .and_then(|address| address.as_socket());
    let address = address.expect("an address");
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        queue.push(stream);
        assert!(queue.len() < 100, "the queue never fills");
    }
    let url = format!("http://{address}/");
    let gateway = Gateway::start(&[
        ("endpoints:s", &url, "base"),
        ("service:s", "total", SOON),
        ("service:s", "connect_timeout", "30s"),
    ]);
    let begun = Instant::now();
    let msg = gateway
        .post(r#"{"server_name": "s"}"#)
        .error(504, "upstream_timeout");
    assert!(msg.contains("total"), "{msg}");
    assert!(begun.elapsed() < PATIENCE);
    drop(queue);
}

// Headers.

#[test]
fn what_strangers_say_about_proxies_before_us_is_dropped() {
    let upstream = Upstream::saying("ok");
    let gateway = led_to(&upstream, &[]);
    let names = ["port", "prefix", "server", "ssl", "anything"];
    let lines = names
        .map(|name| format!("X-Forwarded-{name}: evil\r\n"))
        .concat();
    gateway.ask(format!("GET /e/ HTTP/1.1\r\nhost: h\r\n{lines}\r\n"));
    let head = upstream.only().head;
    for name in names {
        assert_eq!(head.value(&format!("x-forwarded-{name}")), None, "{head:?}");
    }
}

const THEIRS: &str = "HTTP/1.1 200 OK\r\naccess-control-allow-origin: https://theirs.example\r\n\
    access-control-allow-credentials: true\r\naccess-control-allow-methods: DELETE\r\n\
    access-control-allow-headers: x-theirs\r\naccess-control-max-age: 86400\r\n\
    access-control-expose-headers: x-theirs\r\naccess-control-allow-private-network: true\r\n\
    content-length: 2\r\n\r\nok";

/// Asks by the route and by name, as a browser of this origin.
fn ask_from(gateway: &Gateway, origin: &str) -> [super::support::client::Answer; 2] {
    let body = r#"{"server_name": "s"}"#;
    ["/e/", "/ai_server/"].map(|target| {
        gateway.ask(format!(
            "POST {target} HTTP/1.1\r\nhost: h\r\norigin: {origin}\r\ncontent-length: 20\r\n\r\n{body}"
        ))
    })
}

#[test]
fn nothing_the_upstream_says_of_origins_survives_where_cors_is_on() {
    let upstream = Upstream::answering(THEIRS);
    for cors in ["*", "https://ours.example"] {
        let gateway = led_to(&upstream, &[("service:s", "cors", cors)]);
        for origin in ["https://ours.example", "https://evil.example"] {
            for answer in ask_from(&gateway, origin) {
                let allowed = answer.header("access-control-allow-origin");
                assert_ne!(allowed, Some("https://theirs.example"));
                assert_ne!(
                    answer.header("access-control-expose-headers"),
                    Some("x-theirs")
                );
                for kind in [
                    "allow-credentials",
                    "allow-methods",
                    "allow-headers",
                    "max-age",
                    "allow-private-network",
                ] {
                    let left = answer.header(&format!("access-control-{kind}"));
                    assert_eq!(left, None, "{cors} {origin} {answer:?}");
                }
            }
        }
    }
}

#[test]
fn errors_of_a_service_are_marked_as_its_cors_says() {
    let upstream = Upstream::answering("nonsense\r\n\r\n");
    let more = [
        ("service:s", "cors", "https://ours.example"),
        ("defaults", "cors", "https://default.example"),
    ];
    let gateway = led_to(&upstream, &more);
    for answer in ask_from(&gateway, "https://ours.example") {
        answer.error(502, "bad_response");
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed, Some("https://ours.example"), "{answer:?}");
        assert!(answer.head.has("vary", "Origin"), "{answer:?}");
    }
    for answer in ask_from(&gateway, "https://default.example") {
        answer.error(502, "bad_response");
        let allowed = answer.header("access-control-allow-origin");
        assert_ne!(allowed, Some("https://default.example"), "{answer:?}");
    }
}

#[test]
fn an_endpoint_can_be_a_name() {
    let upstream = Upstream::saying("ok");
    let port = upstream
        .authority()
        .split_once(':')
        .map(|(_, port)| port.to_owned());
    let authority = format!("localhost:{}", port.expect("a port"));
    let url = format!("http://{authority}/");
    let gateway = Gateway::start(&[("endpoints:s", &url, "base")]);
    for _ in 0..2 {
        assert_eq!(gateway.post(r#"{"server_name": "s"}"#).text(), "ok");
    }
    let seen = upstream.seen();
    assert!(
        seen.iter().all(|seen| seen.head.has("host", &authority)),
        "{seen:?}"
    );
    let nowhere = [("endpoints:s", "http://nowhere.invalid/", "base")];
    let gateway = Gateway::start(&nowhere);
    gateway
        .post(r#"{"server_name": "s"}"#)
        .error(502, "connect_failed");
}
