//! The access log of a whole gateway.

use std::fs;
use std::path::Path;

use serde_json::Value;
use smartlink::access::{Format, Options, Place};

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::load::{Load, get, named, serving};
use crate::support::redis::Redis;
use crate::support::site::{Site, await_proof, options};
use crate::support::upstream::Upstream;

fn site(redis: &Redis, file: &Path, format: Format) -> Site {
    let mut options = options(redis);
    options.access = Some(Options {
        place: Place::File(file.to_path_buf()),
        format,
        sample: 1.0,
    });
    redis.run("HSET smartlink:route:r service a path /r/");
    let site = Site::start_with(options);
    await_proof(redis);
    site
}

fn lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn await_lines(file: &Path, count: usize) -> Vec<String> {
    eventually("the lines are written", || {
        let lines = lines(file);
        (lines.len() >= count).then_some(lines)
    })
}

#[test]
fn every_request_gets_a_line_that_says_what_it_was() {
    let redis = Redis::start();
    let (one, _) = serving("hello");
    redis.call(&["HSET", "smartlink:endpoints:a", &one.url("/"), "base"]);
    let file = redis.folder().join("access.log");
    let site = site(&redis, &file, Format::Json);
    assert_eq!(site.ask(&named("a")).status, 200);
    let mut client = Client::connect(site.address);
    client.send("GET /r/x?y=1 HTTP/1.1\r\nhost: h\r\nuser-agent: me\r\nx-request-id: abc\r\n\r\n");
    client.read_answer();
    assert_eq!(site.ask(&get("/nowhere")).status, 404);
    assert_eq!(site.ask(&named("nobody")).status, 400);
    let lines = await_lines(&file, 4);
    let lines: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let [named, routed, nowhere, nobody] = &lines[..] else {
        panic!("{lines:?}");
    };
    for (line, field, wanted) in [
        (named, "rule", "named"),
        (named, "service", "a"),
        (named, "version", "base"),
        (named, "why", "weight"),
        (named, "endpoint", &one.url("/")),
        (named, "target", "/ai_server/"),
        (routed, "rule", "r"),
        (routed, "id", "abc"),
        (routed, "target", "/r/x?y=1"),
        (routed, "user_agent", "me"),
        (routed, "client", "127.0.0.1"),
        (nowhere, "error", "no_route"),
        (nobody, "error", "no_such_service"),
    ] {
        assert_eq!(line[field], wanted, "{field} of {line}");
    }
    assert_eq!(named["status"], 200);
    assert_eq!(named["bytes_out"], 5);
    assert_eq!(named["attempts"], 1);
    assert_eq!(
        nobody.get("service"),
        None,
        "nothing that is not configured"
    );
    assert!(named["total_ms"].as_f64() >= named["first_byte_ms"].as_f64());
}

#[test]
fn a_line_names_the_clock_that_ran_out_before_and_in_the_middle_of_an_answer() {
    let redis = Redis::start();
    let silent = Upstream::start(|connection| {
        connection.read_request();
        connection.wait_for_close();
    });
    let pausing = Upstream::start(|connection| {
        connection.read_request();
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello");
        connection.wait_for_close();
    });
    let cases = [
        (&silent, "timeout", 504),
        (&silent, "total", 504),
        (&pausing, "stall", 200),
        (&pausing, "total", 200),
    ];
    for (number, (upstream, clock, _)) in cases.iter().enumerate() {
        let key = format!("smartlink:endpoints:s{number}");
        redis.call(&["HSET", &key, &upstream.url("/"), "base"]);
        redis.run(&format!("HSET smartlink:service:s{number} {clock} 200ms"));
    }
    redis.call(&["HSET", "smartlink:endpoints:a", &silent.url("/"), "base"]);
    let file = redis.folder().join("access.log");
    let site = site(&redis, &file, Format::Json);
    for number in 0..cases.len() {
        let body = format!(r#"{{"server_name": "s{number}"}}"#);
        let mut client = Client::connect(site.address);
        client.send(format!(
            "POST /ai_server/ HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ));
        client.read_to_end().expect("an end");
    }
    let mut lines: Vec<Value> = (await_lines(&file, cases.len()).iter())
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    lines.sort_by_key(|line| line["service"].to_string());
    for (line, (_, clock, status)) in lines.iter().zip(cases) {
        assert_eq!(line["clock"], clock, "{line}");
        assert_eq!(line["error"], "upstream_timeout", "{line}");
        assert_eq!(line["status"], status, "{line}");
    }
}

#[test]
fn a_file_that_is_moved_away_is_made_anew() {
    let redis = Redis::start();
    let (one, _) = serving("hello");
    redis.call(&["HSET", "smartlink:endpoints:a", &one.url("/"), "base"]);
    let file = redis.folder().join("access.log");
    let site = site(&redis, &file, Format::Combined);
    assert_eq!(site.ask(&named("a")).status, 200);
    await_lines(&file, 1);
    fs::rename(&file, redis.folder().join("access.log.1")).expect("it is there");
    eventually("the new file gets lines", || {
        assert_eq!(site.ask(&get("/r/new")).status, 200);
        let lines = lines(&file);
        lines
            .iter()
            .any(|line| line.contains("\"GET /r/new HTTP/1.1\" 200 5"))
            .then_some(())
    });
}

#[test]
fn a_reader_that_reads_nothing_costs_lines_and_no_request() {
    let redis = Redis::start();
    let (one, _) = serving("hello");
    redis.call(&["HSET", "smartlink:endpoints:a", &one.url("/"), "base"]);
    let pipe = redis.folder().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo runs").success());
    // Opened for both, so that neither side waits for the other.
    let reader = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&pipe)
        .expect("a pipe");
    let site = site(&redis, &pipe, Format::Json);
    let load = Load::start(site.address, vec![named("a"); 2], |answer| {
        (answer.status == 200).then_some(()).ok_or(String::new())
    });
    // More than the pipe takes, and it goes on.
    load.await_more(2_000);
    load.expect_all_good();
    drop(site);
    drop(reader);
}

#[test]
fn a_full_disk_costs_lines_and_no_request() {
    let full = Path::new("/dev/full");
    if !full.exists() {
        eprintln!("there is no /dev/full here: a full disk was not tried");
        return;
    }
    let redis = Redis::start();
    let (one, _) = serving("hello");
    redis.call(&["HSET", "smartlink:endpoints:a", &one.url("/"), "base"]);
    let site = site(&redis, full, Format::Json);
    for _ in 0..50 {
        assert_eq!(site.ask(&named("a")).status, 200);
    }
    eventually("they are counted", || {
        let page = site.ask_admin("/metrics");
        let dropped = "\nsmartlink_access_log_dropped_total 50\n";
        page.contains(dropped).then_some(())
    });
}

#[test]
fn a_tunnel_gets_its_line_at_its_end_with_the_bytes_of_both_directions() {
    let redis = Redis::start();
    let upstream = Upstream::start(|connection| {
        connection.read_head().expect("a head");
        connection.send(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello",
        );
        while connection.read_exactly(4).is_some() {
            connection.send("pong and more");
        }
    });
    redis.call(&["HSET", "smartlink:endpoints:a", &upstream.url("/"), "base"]);
    let file = redis.folder().join("access.log");
    let site = site(&redis, &file, Format::Json);
    let mut client = Client::connect(site.address);
    client.send(
        "GET /r/x HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nping",
    );
    assert_eq!(client.read_head().status, 101);
    client.read_until("hellopong and more");
    client.send("ping");
    client.read_until("pong and more");
    let counted = |field: &str| {
        let hash = redis.hash("smartlink:stats:a:base");
        hash.get(field).cloned().unwrap_or_default()
    };
    // While it is open.
    eventually("all bytes are counted", || {
        let bytes = [counted("bytes_in"), counted("bytes_out")];
        (bytes == ["8", "31"]).then_some(())
    });
    assert_eq!(
        (counted("requests"), counted("status_101")),
        ("1".into(), "1".into())
    );
    assert_eq!(lines(&file), [""; 0]);
    drop(client);
    let line = await_lines(&file, 1).remove(0);
    let line: Value = serde_json::from_str(&line).expect("JSON");
    for (field, wanted) in [("status", 101), ("bytes_in", 8), ("bytes_out", 31)] {
        assert_eq!(line[field], wanted, "{field} of {line}");
    }
    assert_eq!(line["version"], "base", "{line}");
    assert!(line.get("error").is_none(), "{line}");
}
