//! Shadow records: what a request becomes when its service has a shadow.

use smartlink::shadow::{ChosenBy, Encoding, Outcome, Record};

use crate::support::client::{Client, post};
use crate::support::load::{Caller, get, named};
use crate::support::redis::Redis;
use crate::support::shadow::{await_book, await_records, await_shadow, books, texts};
use crate::support::site::Site;
use crate::support::upstream::{Gate, Upstream};

/// A gateway with service `s`, on the named entry and below `/s/`, with a shadow.
struct Scene {
    redis: Redis,
    site: Site,
}

impl Scene {
    fn start(url: &str, shadow: &[(&str, &str)]) -> Self {
        let redis = Redis::start();
        redis.call(&["HSET", "smartlink:endpoints:s", url, "base"]);
        redis.run("HSET smartlink:route:r service s path /s/ strip_prefix on");
        redis.run("HSET smartlink:service:s retries 0");
        let site = Site::start(&redis);
        for (field, value) in shadow {
            await_shadow(&redis, &site, "s", field, value);
        }
        Self { redis, site }
    }

    /// What the one request so far became.
    #[track_caller]
    fn only(&self) -> Record {
        await_records(&self.redis, "s", 1).pop().expect("one")
    }
}

fn answering(head: &str, body: &[u8]) -> Upstream {
    let head = format!(
        "HTTP/1.1 200 OK\r\n{head}content-length: {}\r\n\r\n",
        body.len()
    );
    Upstream::answering([head.as_bytes(), body].concat())
}

#[test]
fn a_hash_makes_the_next_request_a_record_with_its_books() {
    let upstream = answering("content-type: text/plain\r\n", b"fine");
    let scene = Scene::start(&upstream.url("/"), &[]);
    scene.site.ask(&named("s"));
    await_shadow(&scene.redis, &scene.site, "s", "sample", "100%");
    let answer = scene.site.ask(&named("s"));
    let record = scene.only();
    assert_eq!(record.id, answer.header("x-request-id"));
    assert_eq!((&*record.gateway, record.sequence), ("here", 1));
    assert_eq!((&*record.service, &*record.version), ("s", "base"));
    assert_eq!(record.share, [("base".to_owned(), 1)].into());
    assert_eq!(record.chosen_by, ChosenBy::Sample);
    assert_eq!((record.outcome, record.attempts), (Outcome::Ok, 1));
    assert!(record.replayable && record.total_us >= record.first_byte_us.expect("a head"));
    assert_eq!(
        (&*record.request.method, &*record.request.target),
        ("POST", "/ai_server/")
    );
    assert_eq!(record.request.path, None);
    assert_eq!(
        record.request.headers.get("host").map(String::as_str),
        Some("h")
    );
    assert!(
        record
            .request
            .body
            .body
            .starts_with(r#"{"server_name": "s""#)
    );
    let given = record.answer.expect("an answer");
    assert_eq!((given.status, &*given.body.body), (200, "fine"));
    let kind = given.headers.get("content-type").map(String::as_str);
    assert_eq!(kind, Some("text/plain"));
    assert!(!given.headers.contains_key("x-smartlink-version"));
    let books = await_book(&scene.redis, "s", "delivered", 1);
    for field in [
        "dropped_queue",
        "dropped_memory",
        "dropped_sink",
        "dropped_age",
    ] {
        assert_eq!(books.get(field), Some(&0), "{field}");
    }
}

#[test]
fn a_deleted_hash_ends_the_records() {
    let upstream = answering("", b"fine");
    let scene = Scene::start(&upstream.url("/"), &[("sample", "100%")]);
    scene.site.ask(&named("s"));
    scene.only();
    scene.redis.run("DEL smartlink:shadow:s");
    crate::support::shadow::await_applied(&scene.redis, &scene.site);
    scene.site.ask(&named("s"));
    await_shadow(&scene.redis, &scene.site, "s", "sample", "100%");
    scene.site.ask(&named("s"));
    let records = await_records(&scene.redis, "s", 2);
    let sequences: Vec<u64> = records.iter().map(|record| record.sequence).collect();
    assert_eq!(sequences, [1, 2]);
}

/// Answers each body with itself.
fn echoing() -> Upstream {
    Upstream::start(|connection| {
        while let Some(seen) = connection.read_request() {
            let length = seen.body.len();
            connection.send(format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n"
            ));
            connection.send(&seen.body);
        }
    })
}

#[test]
fn bodies_are_kept_byte_by_byte_up_to_their_bound() {
    const MAX: usize = 1_000;
    let upstream = echoing();
    let scene = Scene::start(&upstream.url("/"), &[("max_body", "1000")]);
    let noise = |length: usize| -> Vec<u8> {
        (0..length)
            .map(|at| u8::try_from(at * 7 % 251).expect("a byte"))
            .collect()
    };
    let bodies = [
        Vec::new(),
        vec![b'x'],
        noise(10),
        noise(MAX - 1),
        noise(MAX),
        noise(MAX + 1),
        noise(300_000),
        vec![b'y'; MAX + 1],
        "é".repeat(MAX / 2).into_bytes(),
        // Cut in the middle of a letter.
        format!("x{}", "é".repeat(MAX)).into_bytes(),
    ];
    for (at, body) in bodies.iter().enumerate() {
        let mut client = Client::connect(scene.site.address);
        let chunked = at % 2 == 1;
        let framing = if chunked {
            "transfer-encoding: chunked".to_owned()
        } else {
            format!("content-length: {}", body.len())
        };
        client.send(format!(
            "PUT /s/a?b=1 HTTP/1.1\r\nhost: h\r\n{framing}\r\n\r\n"
        ));
        if chunked {
            for piece in body.chunks(333) {
                client.send(format!("{:x}\r\n", piece.len()));
                client.send(piece);
                client.send("\r\n");
            }
            client.send("0\r\n\r\n");
        } else {
            client.send(body);
        }
        assert_eq!(&client.read_answer().body, body);
    }
    let records = await_records(&scene.redis, "s", bodies.len());
    for (record, body) in records.iter().zip(&bodies) {
        let answer = record.answer.as_ref().expect("an answer");
        for kept in [&record.request.body, &answer.body] {
            let bytes = kept.to_bytes().expect("it is encoded");
            assert_eq!(bytes, body.get(..MAX).unwrap_or(body));
            assert_eq!(kept.bytes, body.len() as u64);
            assert_eq!(kept.kept, bytes.len() as u64);
            assert_eq!(kept.truncated, body.len() > MAX);
            assert_eq!(
                kept.encoding == Encoding::Utf8,
                std::str::from_utf8(&bytes).is_ok()
            );
        }
        assert_eq!(record.replayable, body.len() <= MAX);
        assert_eq!(record.request.target, "/s/a?b=1");
        assert_eq!(record.request.path.as_deref(), Some("/a?b=1"));
    }
    let books = await_book(&scene.redis, "s", "truncated", 4);
    assert_eq!(books.get("not_replayable"), Some(&4));
}

#[test]
fn a_large_body_of_the_named_entry_is_kept_from_its_beginning() {
    let upstream = answering("", b"fine");
    let scene = Scene::start(&upstream.url("/"), &[("max_body", "1MiB")]);
    let body = format!(
        r#"{{"server_name": "s", "data": ["{}"]}}"#,
        "x".repeat(300_000)
    );
    let mut client = Client::connect(scene.site.address);
    client.send(post(body.as_bytes()));
    assert_eq!(client.read_answer().head.status, 200);
    let record = scene.only();
    assert!(record.request.body.body == body && record.replayable);
}

#[test]
fn events_of_a_stream_have_times() {
    let gate = Gate::default();
    let waits = gate.clone();
    let upstream = Upstream::start(move |connection| {
        while connection.read_request().is_some() {
            connection.send(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                 transfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n",
            );
            waits.pass();
            connection.send("9\r\ndata: 2\n\n\r\n0\r\n\r\n");
        }
    });
    let scene = Scene::start(&upstream.url("/"), &[("sample", "100%")]);
    let mut client = Client::connect(scene.site.address);
    client.send(get("/s/"));
    std::thread::sleep(std::time::Duration::from_millis(30));
    gate.open();
    client.read_answer();
    let answer = scene.only().answer.expect("an answer");
    assert_eq!(answer.body.body, "data: 1\n\ndata: 2\n\n");
    let times = answer.events_ms;
    assert!(
        matches!(*times, [first, second] if second > first),
        "{times:?}"
    );
}

#[test]
fn every_way_to_end_has_its_outcome() {
    let short = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
    let silent = Upstream::start(|connection| {
        connection.read_request();
        connection.wait_for_close();
    });
    let stalls = Upstream::start(move |connection| {
        connection.read_request();
        connection.send(short);
        connection.wait_for_close();
    });
    let failing = Upstream::answering("HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno");
    let closing = Upstream::start(|connection| drop(connection.read_request()));
    let cutting = Upstream::closing(short);
    let garbage = Upstream::closing("what?\r\n\r\n");
    let cases = [
        (failing.url("/"), Outcome::Status, 500, "no", false),
        (
            "http://127.0.0.1:1/".to_owned(),
            Outcome::Connect,
            502,
            "connect_failed",
            false,
        ),
        (
            silent.url("/"),
            Outcome::Timeout,
            504,
            "upstream_timeout",
            false,
        ),
        (stalls.url("/"), Outcome::Stall, 200, "half", true),
        (
            closing.url("/"),
            Outcome::Reset,
            502,
            "upstream_reset",
            false,
        ),
        (garbage.url("/"), Outcome::Reset, 502, "bad_response", false),
        (cutting.url("/"), Outcome::Cut, 200, "half", true),
    ];
    let scene = Scene::start("http://127.0.0.1:1/", &[("sample", "100%")]);
    scene
        .redis
        .run("HSET smartlink:service:s timeout 300ms stall 300ms retry_on connect");
    for (at, (url, outcome, status, text, truncated)) in cases.iter().enumerate() {
        scene.redis.run("DEL smartlink:endpoints:s");
        scene
            .redis
            .call(&["HSET", "smartlink:endpoints:s", url, "base"]);
        crate::support::shadow::await_applied(&scene.redis, &scene.site);
        let mut caller = Caller::connect(scene.site.address).expect("it accepts");
        // Where the answer is cut there is none.
        drop(caller.ask(&named("s")));
        let record = await_records(&scene.redis, "s", at + 1).pop().expect("one");
        assert_eq!(record.outcome, *outcome, "{record:?}");
        assert!(record.replayable, "{record:?}");
        let answer = record.answer.expect("an answer");
        assert_eq!(answer.status, *status, "{outcome:?}");
        let code = answer.headers.get("x-smartlink-error").map(String::as_str);
        assert!(
            answer.body.body == *text || code == Some(text),
            "{answer:?}"
        );
        assert_eq!(answer.body.truncated, *truncated, "{outcome:?}");
    }
}

#[test]
fn a_client_that_leaves_is_a_record_too() {
    let upstream = Upstream::start(|connection| {
        connection.read_request();
        connection.wait_for_close();
    });
    let scene = Scene::start(&upstream.url("/"), &[("sample", "100%")]);
    let mut client = Client::connect(scene.site.address);
    client.send(named("s"));
    crate::support::eventually("it arrives", || (!upstream.seen().is_empty()).then_some(()));
    client.reset();
    let record = scene.only();
    assert_eq!((record.outcome, record.answer), (Outcome::ClientLeft, None));
    assert!(record.replayable);
}

#[test]
fn mistakes_of_clients_and_switched_protocols_are_no_records() {
    let upstream = Upstream::start(|connection| {
        while let Some(seen) = connection.read_request() {
            if seen.head.value("upgrade").is_some() {
                connection.send(
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                     upgrade: websocket\r\n\r\n",
                );
                connection.wait_for_close();
            } else {
                connection.send("HTTP/1.1 204 No Content\r\n\r\n");
            }
        }
    });
    let scene = Scene::start(&upstream.url("/"), &[("sample", "100%")]);
    scene.redis.run("HSET smartlink:service:s max_stream 5");
    crate::support::shadow::await_applied(&scene.redis, &scene.site);
    let mut client = Client::connect(scene.site.address);
    client.send("GET /s/ HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    client.read_until("\r\n\r\n");
    drop(client);
    let mut client = Client::connect(scene.site.address);
    client.send("PUT /s/ HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n8\r\nlong too\r\n0\r\n\r\n");
    assert_eq!(client.read_answer().head.status, 413);
    assert_eq!(scene.site.ask(&named("nowhere")).status, 400);
    let mut client = Client::connect(scene.site.address);
    client.send(get("/s/"));
    assert_eq!(client.read_answer().head.status, 204);
    let record = scene.only();
    let answer = record.answer.expect("an answer");
    assert_eq!(
        (answer.status, answer.body.bytes, answer.body.truncated),
        (204, 0, false)
    );
    await_book(&scene.redis, "s", "not_sampled", 2);
}

#[test]
fn head_has_an_answer_without_a_body() {
    let upstream = Upstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n");
    let scene = Scene::start(&upstream.url("/"), &[("sample", "100%")]);
    let mut client = Client::connect(scene.site.address);
    client.send("HEAD /s/ HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(client.read_head().status, 200);
    let answer = scene.only().answer.expect("an answer");
    assert_eq!(
        answer.headers.get("content-length").map(String::as_str),
        Some("7")
    );
    assert_eq!((answer.body.bytes, answer.body.truncated), (0, false));
}

#[test]
fn failures_and_slow_ones_are_kept_beside_the_sample() {
    let upstream = Upstream::start(|connection| {
        while let Some(seen) = connection.read_request() {
            let status = if seen.head.start.contains("bad") {
                503
            } else {
                200
            };
            if seen.head.start.contains("slow") {
                std::thread::sleep(std::time::Duration::from_millis(60));
            }
            connection.send(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n"));
        }
    });
    let shadow = [
        ("sample", "0%"),
        ("keep", "failures, slow 50ms"),
        ("methods", "GET"),
    ];
    let scene = Scene::start(&upstream.url("/"), &shadow);
    for path in ["/s/fine", "/s/bad", "/s/slow"] {
        scene.site.ask(&get(path));
    }
    scene
        .site
        .ask(b"POST /s/bad HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n");
    let records = await_records(&scene.redis, "s", 2);
    let why: Vec<ChosenBy> = records.iter().map(|record| record.chosen_by).collect();
    assert_eq!(why, [ChosenBy::Failure, ChosenBy::Slow]);
    await_book(&scene.redis, "s", "not_sampled", 2);
}

#[test]
fn max_rate_bounds_the_records() {
    let upstream = answering("", b"fine");
    let scene = Scene::start(&upstream.url("/"), &[("max_rate", "3/h")]);
    let mut caller = Caller::connect(scene.site.address).expect("it accepts");
    for _ in 0..10 {
        caller.ask(&named("s")).expect("an answer");
    }
    let books = await_book(&scene.redis, "s", "not_sampled", 9);
    assert_eq!(books.get("sampled"), Some(&1));
}

#[test]
fn both_writes_the_request_before_its_answer() {
    let gate = Gate::default();
    let waits = gate.clone();
    let upstream = Upstream::start(move |connection| {
        while connection.read_request().is_some() {
            waits.pass();
            connection.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine");
        }
    });
    let scene = Scene::start(&upstream.url("/"), &[("records", "both")]);
    let mut client = Client::connect(scene.site.address);
    client.send(named("s"));
    let begun = scene.only();
    assert_eq!((begun.outcome, &begun.answer), (Outcome::Begun, &None));
    gate.open();
    client.read_answer();
    let records = await_records(&scene.redis, "s", 2);
    let ended = records.last().expect("two");
    assert_eq!((ended.outcome, ended.sequence), (Outcome::Ok, 2));
    assert_eq!((&ended.id, &ended.request), (&begun.id, &begun.request));
}

/// What must stand in no record.
const SECRET: &str = "s3cr3t-marker";

/// Answers with secrets, in the form that is asked for.
fn telling() -> Upstream {
    Upstream::start(|connection| {
        while let Some(seen) = connection.read_request() {
            let body = match seen.head.value("x-kind") {
                Some("events") => format!("data: {{\"token\": \"{SECRET}\"}}\n\n"),
                Some("cut") => format!("{{\"token\": \"{SECRET}\"{}", " ".repeat(2_000)),
                Some("plain") => format!("token {SECRET}"),
                _ => format!("{{\"fine\": 1, \"token\": \"{SECRET}\"}}"),
            };
            let kind = match seen.head.value("x-kind") {
                Some("events") => "text/event-stream",
                _ => "application/json",
            };
            connection.send(format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nset-cookie: a={SECRET}\r\n\
                 x-secret: {SECRET}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ));
        }
    })
}

#[test]
fn nothing_secret_leaves_the_gateway() {
    let upstream = telling();
    let shadow = [
        ("redact_headers", "x-secret"),
        ("redact_json", "/token, /params/*/card"),
        ("max_body", "1500"),
        ("records", "both"),
    ];
    let scene = Scene::start(&upstream.url("/"), &shadow);
    let body = format!(
        r#"{{"server_name": "s", "params": [{{"card": "{SECRET}"}}, {{"card": "other"}}]}}"#
    );
    let kinds = ["json", "events", "cut", "plain"];
    for kind in kinds {
        let mut client = Client::connect(scene.site.address);
        client.send(format!(
            "POST /ai_server/ HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {SECRET}\r\n\
             x-api-key: {SECRET}\r\ncookie: a={SECRET}\r\nproxy-authorization: {SECRET}\r\n\
             x-secret: {SECRET}\r\nx-kind: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ));
        client.read_answer();
    }
    let records = await_records(&scene.redis, "s", 2 * kinds.len());
    for text in texts(&scene.redis, "s") {
        assert!(!text.contains(SECRET), "{text}");
    }
    let ended: Vec<&Record> = records
        .iter()
        .filter(|it| it.outcome == Outcome::Ok)
        .collect();
    for record in &ended {
        assert!(!record.replayable);
        for word in [
            "header authorization",
            "header x-api-key",
            "header cookie",
            "header set-cookie",
            "header x-secret",
            "/params/*/card",
        ] {
            assert!(
                record.redacted.iter().any(|it| it == word),
                "{word}: {record:?}"
            );
        }
        let body = &record.request.body.body;
        let hashes: Vec<&str> = body.split("[redacted:").skip(1).collect();
        assert!(
            matches!(*hashes, [a, b] if a.get(..8) != b.get(..8)),
            "{body}"
        );
    }
    let given = |at: usize| {
        ended
            .get(at)
            .and_then(|it| it.answer.as_ref())
            .expect("an answer")
    };
    assert!(
        given(0)
            .body
            .body
            .starts_with(r#"{"fine": 1, "token": "[redacted:"#)
    );
    assert!(
        given(1)
            .body
            .body
            .starts_with(r#"data: {"token": "[redacted:"#)
    );
    assert_eq!((given(2).body.kept, given(2).body.truncated), (0, true));
    assert_eq!((given(3).body.kept, given(3).body.truncated), (0, true));
    let first = given(0)
        .body
        .body
        .split("[redacted:")
        .nth(1)
        .and_then(|it| it.get(..8));
    let card = ended
        .first()
        .expect("one")
        .request
        .body
        .body
        .split("[redacted:")
        .nth(1);
    assert_eq!(
        first,
        card.and_then(|it| it.get(..8)),
        "equal values stay equal"
    );
    books(&scene.redis, "s");
}
