//! The load that a profile-guided build learns from; `build-pgo.sh` compiles and runs it.
//!
//! `pgo-load ADDRESS SECONDS TOKEN`: small posts to the named entry, the same with a token to a service
//! with a limit, small answers by route, answers of 64 KiB, uploads of almost 1 MiB, all at once over
//! kept connections. Fails where a request does.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

/// One kind of request, and over how many connections it is sent.
struct Kind {
    name: &'static str,
    connections: usize,
    request: Vec<u8>,
}

fn request(line: &str, body: &str) -> Vec<u8> {
    request_with("", line, body)
}

/// The same with more header lines.
fn request_with(lines: &str, line: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{line} HTTP/1.1\r\nHost: gateway.example:9001\r\nUser-Agent: pgo-load/1.0\r\nAccept: */*\r\n{lines}"
    );
    match length {
        0 => format!("{head}\r\n").into_bytes(),
        _ => format!(
            "{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes(),
    }
}

fn kinds(token: &str) -> Vec<Kind> {
    let guarded = r#"{"server_name": "guarded_server", "params": {}, "data": ["上海九六广场"]}"#;
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let guarded = request_with(&bearer, "POST /ai_server/", guarded);
    let small = r#"{"server_name": "test_server", "params": {}, "data": ["上海九六广场"]}"#;
    // The demo service answers with the addresses it is asked for.
    let echo = format!(r#"{{"data": ["{}"]}}"#, "x".repeat(64 * 1024));
    let upload = format!(
        r#"{{"server_name": "test_server", "params": {{"note": "{}"}}, "data": ["Berlin"]}}"#,
        "lorem ipsum ".repeat(80_000)
    );
    let kind = |name, connections, request| Kind {
        name,
        connections,
        request,
    };
    vec![
        kind("small posts", 8, request("POST /ai_server/", small)),
        kind("small posts with a token", 4, guarded),
        kind("small answers", 8, request("GET /hello?from=here", "")),
        kind("long answers", 2, request("POST /echo", &echo)),
        kind("uploads", 1, request("POST /ai_server/", &upload)),
    ]
}

/// Sends the request over one connection until `end`; how often that was.
fn send(address: &str, request: &[u8], end: Instant) -> io::Result<u64> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut answers = BufReader::new(stream.try_clone()?);
    let mut sent = 0;
    while Instant::now() < end {
        stream.write_all(request)?;
        read_answer(&mut answers)?;
        sent += 1;
    }
    Ok(sent)
}

fn read_answer(answers: &mut impl BufRead) -> io::Result<()> {
    let wrong = |line: &str| io::Error::other(format!("answered with {line:?}"));
    let mut line = String::new();
    answers.read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 200 ") {
        return Err(wrong(&line));
    }
    let mut length = None;
    while line != "\r\n" {
        line.clear();
        answers.read_line(&mut line)?;
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok();
        }
        if line.is_empty() {
            return Err(wrong("half a head"));
        }
    }
    let length: u64 = length.ok_or_else(|| wrong("no length"))?;
    let read = io::copy(&mut answers.take(length), &mut io::sink())?;
    if read == length {
        Ok(())
    } else {
        Err(wrong("half a body"))
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(seconds), Some(token)) = (
        arguments.next(),
        arguments.next().and_then(|text| text.parse().ok()),
        arguments.next(),
    ) else {
        eprintln!("usage: pgo-load ADDRESS SECONDS TOKEN");
        return ExitCode::from(2);
    };
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut whole = true;
    thread::scope(|scope| {
        let kinds = kinds(&token);
        let kinds = kinds.into_iter().map(|kind| {
            let connections: Vec<_> = (0..kind.connections)
                .map(|_| {
                    let (address, request) = (address.clone(), kind.request.clone());
                    scope.spawn(move || send(&address, &request, end))
                })
                .collect();
            (kind.name, connections)
        });
        // All begin before the first is waited for.
        for (name, connections) in kinds.collect::<Vec<_>>() {
            let mut sum = 0;
            for connection in connections {
                match connection.join().expect("no thread panics") {
                    Ok(sent) => sum += sent,
                    Err(error) => {
                        eprintln!("pgo-load: {name}: {error}");
                        whole = false;
                    }
                }
            }
            whole &= sum > 0;
            println!("{sum} {name}");
        }
    });
    if whole {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
