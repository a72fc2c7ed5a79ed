//! What is asked again and what is not; counts at the upstreams prove it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::support::PATIENCE;
use super::support::client::{Client, post};
use super::support::gateway::{Field, Gateway};
use super::support::port::Port;
use super::support::upstream::{Connection, Upstream};

const GET: &str = "GET /x HTTP/1.1\r\nhost: h\r\n\r\n";
const BODY: &str = r#"{"server_name": "s", "data": [1, 2, 3]}"#;
const EVERYTHING: &str = "connect,reset,timeout,502,503,504";

/// An answer with this status and body.
fn saying(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// An upstream that reads requests whole and closes without an answer.
fn closing() -> Upstream {
    Upstream::start(|connection| drop(connection.read_request()))
}

/// An upstream that reads requests whole and never answers.
fn silent() -> Upstream {
    Upstream::start(|connection| {
        drop(connection.read_request());
        connection.wait_for_close();
    })
}

/// An upstream whose first request ends so; every other one is answered `fine`.
fn once(script: impl Fn(&mut Connection) + Send + Sync + 'static) -> Upstream {
    let asked = AtomicUsize::new(0);
    Upstream::start(move |connection| {
        while connection.read_request().is_some() {
            if asked.fetch_add(1, Ordering::SeqCst) == 0 {
                return script(connection);
            }
            connection.send(saying("200 OK", "fine"));
        }
    })
}

/// A gateway before these endpoints, reached by name and by route.
fn before(upstreams: &[&Upstream], settings: &[(&str, &str)]) -> Gateway {
    let urls: Vec<String> = upstreams.iter().map(|upstream| upstream.url("/")).collect();
    let mut fields: Vec<Field<'_>> = vec![("route:r", "service", "s"), ("route:r", "path", "/")];
    fields.extend(urls.iter().map(|url| ("endpoints:s", url.as_str(), "base")));
    fields.extend((settings.iter()).map(|(field, value)| ("service:s", *field, *value)));
    Gateway::start(&fields)
}

/// How many requests reached these upstreams.
fn seen(upstreams: &[&Upstream]) -> usize {
    upstreams.iter().map(|upstream| upstream.seen().len()).sum()
}

/// A POST to the named entry with one more header line.
fn post_with(line: &str) -> String {
    let length = BODY.len();
    format!(
        "POST /ai_server/ HTTP/1.1\r\nhost: h\r\n{line}\r\ncontent-length: {length}\r\n\r\n{BODY}"
    )
}

#[test]
fn a_post_that_may_have_arrived_is_not_sent_twice() {
    for (make, code) in [
        (closing as fn() -> Upstream, 502),
        (silent, 504),
        (|| Upstream::answering(saying("502 Bad Gateway", "")), 502),
        (
            || Upstream::answering(saying("503 Service Unavailable", "")),
            503,
        ),
    ] {
        let both = [make(), make()];
        let both = [&both[0], &both[1]];
        let gateway = before(&both, &[("retry_on", EVERYTHING), ("timeout", "200ms")]);
        assert_eq!(gateway.post(BODY).head.status, code);
        assert_eq!(seen(&both), 1);
        gateway.await_rest("s");
    }
}

#[test]
fn a_post_is_repeated_whole_where_its_sender_or_the_operator_allows_it() {
    for (settings, request) in [
        (
            &[("retry_on", "reset")][..],
            post_with("idempotency-key: 7"),
        ),
        (
            &[("retry_on", "reset"), ("retry_unsafe", "on")],
            post_with("x-a: b"),
        ),
    ] {
        let broken = once(Connection::close);
        let gateway = before(&[&broken], settings);
        assert_eq!(gateway.ask(&request).text(), "fine");
        let bodies: Vec<Vec<u8>> = broken.seen().into_iter().map(|seen| seen.body).collect();
        assert_eq!(bodies, [BODY.as_bytes(), BODY.as_bytes()]);
    }
}

#[test]
fn a_get_is_repeated_for_what_retry_on_lists_and_for_nothing_else() {
    type Fault = (&'static str, fn() -> Upstream, u16);
    let faults: [Fault; 4] = [
        ("reset", || once(Connection::close), 502),
        ("timeout", || once(Connection::wait_for_close), 504),
        (
            "502",
            || once(|connection| connection.send(saying("502 Bad Gateway", "bad"))),
            502,
        ),
        (
            "503",
            || once(|connection| connection.send(saying("503 Service Unavailable", "bad"))),
            503,
        ),
    ];
    for (name, make, code) in faults {
        for (listed, expected, requests) in [(name, 200, 2), ("connect", code, 1)] {
            let upstream = make();
            let gateway = before(&[&upstream], &[("retry_on", listed), ("timeout", "300ms")]);
            let answer = gateway.ask(GET);
            assert_eq!(answer.head.status, expected, "{name}, {listed}: {answer:?}");
            assert_eq!(upstream.seen().len(), requests, "{name}, {listed}");
            gateway.await_rest("s");
        }
    }
}

#[test]
fn the_last_answer_is_passed_on_as_it_came() {
    let bad = saying("503 Service Unavailable\r\nx-why: full", "try later");
    let both = [Upstream::answering(bad.clone()), Upstream::answering(bad)];
    let both = [&both[0], &both[1]];
    let gateway = before(&both, &[("retry_on", "503"), ("retries", "3")]);
    let answer = gateway.ask(GET);
    assert_eq!(answer.head.status, 503);
    assert_eq!(answer.header("x-why"), Some("full"));
    assert_eq!(answer.header("x-smartlink-error"), None);
    assert_eq!(answer.text(), "try later");
    // Each endpoint in turn, then again.
    assert_eq!(both.map(|upstream| upstream.seen().len()), [2, 2]);
    gateway.await_rest("s");
}

#[test]
fn a_dropped_answer_that_is_here_whole_leaves_its_connection_usable() {
    let upstream = once(|connection| {
        connection.send(saying("503 Service Unavailable", "bad"));
        connection.read_request().expect("on the same connection");
        connection.send(saying("200 OK", "fine"));
    });
    let gateway = before(&[&upstream], &[("retry_on", "503")]);
    assert_eq!(gateway.ask(GET).text(), "fine");
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn another_endpoint_is_asked_first() {
    let pair = [closing(), Upstream::saying("fine")];
    let gateway = before(&[&pair[0], &pair[1]], &[("retry_on", "reset")]);
    for _ in 0..10 {
        assert_eq!(gateway.ask(GET).text(), "fine");
    }
    assert_eq!(pair[1].seen().len(), 10);
}

#[test]
fn retries_bounds_the_repeats() {
    for (retries, expected) in [("0", 1), ("1", 2), ("4", 5)] {
        let upstream = closing();
        let settings = [
            ("retry_on", "reset"),
            ("retries", retries),
            ("eject_5xx", "off"),
        ];
        let gateway = before(&[&upstream], &settings);
        gateway.ask(GET).error(502, "upstream_reset");
        assert_eq!(upstream.seen().len(), expected, "retries {retries}");
    }
}

#[test]
fn an_upload_that_began_is_not_repeated() {
    let both = [closing(), closing()];
    let both = [&both[0], &both[1]];
    let gateway = before(&both, &[("retry_on", EVERYTHING)]);
    let put = "PUT /x HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nbody";
    gateway.ask(put).error(502, "upstream_reset");
    assert_eq!(seen(&both), 1);
}

#[test]
fn an_upload_that_nobody_took_goes_to_another_endpoint() {
    let upstream = Upstream::saying("fine");
    let closed = Port::reserve();
    let gateway = Gateway::start(&[
        ("endpoints:s", &closed.url(), "base"),
        ("endpoints:s", &upstream.url("/"), "base"),
        ("service:s", "fall", "1000"),
        ("route:r", "service", "s"),
        ("route:r", "path", "/"),
    ]);
    for _ in 0..8 {
        let request = "POST /x HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nbody";
        assert_eq!(gateway.ask(request).text(), "fine");
        assert_eq!(gateway.post(BODY).text(), "fine");
    }
    assert!(upstream.seen().iter().all(|seen| !seen.body.is_empty()));
    assert_eq!(upstream.seen().len(), 16);
}

#[test]
fn a_repeat_stays_in_its_version() {
    let base = Upstream::answering(saying("503 Service Unavailable", "bad"));
    let candidate = Upstream::saying("fine");
    let gateway = Gateway::start(&[
        ("endpoints:s", &base.url("/"), "base"),
        ("endpoints:s", &candidate.url("/"), "candidate"),
        ("weights:s", "base", "1"),
        ("weights:s", "candidate", "1"),
        ("service:s", "retry_on", "503"),
        ("service:s", "retries", "1"),
        ("service:s", "eject_5xx", "off"),
        ("route:r", "service", "s"),
        ("route:r", "path", "/"),
    ]);
    let mut good = 0;
    for _ in 0..10 {
        let answer = gateway.ask(GET);
        let version = answer.header("x-smartlink-version");
        match answer.head.status {
            200 => assert_eq!(version, Some("candidate")),
            503 => assert_eq!(version, Some("base")),
            other => panic!("{other}"),
        }
        good += usize::from(answer.head.status == 200);
    }
    assert_eq!(candidate.seen().len(), good);
    assert_eq!(base.seen().len(), (10 - good) * 2);
}

#[test]
fn an_outage_is_not_multiplied() {
    const REQUESTS: usize = 300;
    const CLIENTS: usize = 4;
    let both = [(); 2].map(|()| Upstream::answering(saying("503 Service Unavailable", "bad")));
    let both = [&both[0], &both[1]];
    let settings = [("retry_on", "503"), ("retries", "5"), ("eject_5xx", "off")];
    let gateway = before(&both, &settings);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client: Client = gateway.connect();
                for _ in 0..REQUESTS / CLIENTS {
                    client.send(GET);
                    assert_eq!(client.read_answer().head.status, 503);
                }
            });
        }
    });
    // A second that began counts as one.
    let seconds = begun.elapsed().as_secs_f64().ceil() + 1.0;
    let repeats = seen(&both) - REQUESTS;
    println!("{REQUESTS} requests in {seconds} s: {repeats} repeats");
    assert!(repeats >= 10, "{repeats}");
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let most = 0.2 * REQUESTS as f64 + 10.0 * seconds;
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    let repeats = repeats as f64;
    assert!(repeats <= most, "{repeats} of {most}");
}

#[test]
fn a_kept_connection_that_died_costs_no_get_and_no_second_post() {
    // Each connection answers one request, then takes another and closes without a word.
    let upstream = Upstream::start(|connection| {
        if connection.read_request().is_some() {
            connection.send(saying("200 OK", "fine"));
            drop(connection.read_request());
        }
    });
    let gateway = before(&[&upstream], &[]);
    let mut client = gateway.connect();
    for _ in 0..6 {
        client.send(GET);
        assert_eq!(client.read_answer().text(), "fine");
    }
    let posted = |upstream: &Upstream| {
        let all = upstream.seen();
        all.iter().filter(|seen| !seen.body.is_empty()).count()
    };
    let mut failed = 0;
    for _ in 0..6 {
        client.send(post(BODY.as_bytes()));
        let answer = client.read_answer();
        failed += usize::from(answer.head.status == 502);
    }
    assert!(failed > 0, "no POST met a dead connection");
    assert_eq!(posted(&upstream), 6);
}

#[test]
fn total_bounds_all_attempts_together() {
    let upstream = silent();
    let settings = [
        ("retry_on", "timeout"),
        ("retries", "50"),
        ("timeout", "100ms"),
        ("total", "700ms"),
        ("eject_5xx", "off"),
    ];
    let gateway = before(&[&upstream], &settings);
    let begun = Instant::now();
    let msg = gateway.ask(GET).error(504, "upstream_timeout");
    assert!(msg.contains("total"), "{msg}");
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    assert!(upstream.seen().len() > 1);
}

#[test]
fn concurrent_repeats_send_no_post_twice() {
    let refused = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    // Half of the requests are read and dropped.
    let flaky = Upstream::start(move |connection| {
        while connection.read_request().is_some() {
            if count.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
                return;
            }
            connection.send(saying("200 OK", "fine"));
        }
    });
    let settings = [("retry_on", EVERYTHING), ("eject_5xx", "off")];
    let gateway = before(&[&flaky], &settings);
    std::thread::scope(|scope| {
        for client in 0..8 {
            let gateway = &gateway;
            scope.spawn(move || {
                for number in 0..20 {
                    let body = format!(r#"{{"server_name": "s", "id": "{client}-{number}"}}"#);
                    gateway.post(body);
                }
            });
        }
    });
    let mut bodies: Vec<Vec<u8>> = flaky.seen().into_iter().map(|seen| seen.body).collect();
    bodies.sort();
    let all = bodies.len();
    bodies.dedup();
    gateway.await_rest("s");
    assert_eq!(all, bodies.len(), "a POST ran twice");
    assert!(all >= 150, "{all}");
}
