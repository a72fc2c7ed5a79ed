//! `smartlink token`: made, listed and revoked, and in force at once.

use std::process::{Command, Stdio};

use crate::support::eventually;
use crate::support::load::serving;
use crate::support::redis::Redis;
use crate::support::site::{Site, await_proof};

/// Runs `smartlink token`: exit code, standard output, standard error.
fn token(redis: &Redis, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_smartlink"))
        .arg("token")
        .args(args)
        .args(["--redis", &redis.url()])
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn status(site: &Site, token: &str) -> u16 {
    let body = r#"{"server_name": "s"}"#;
    let length = body.len();
    let request = format!(
        "POST /ai_server/ HTTP/1.1\r\nhost: h\r\nx-api-key: {token}\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    site.ask(request.as_bytes()).status
}

#[test]
fn a_token_that_was_made_opens_until_it_is_revoked() {
    let redis = Redis::start();
    let (upstream, _) = serving("ok");
    redis.call(&["HSET", "smartlink:endpoints:s", &upstream.url("/"), "base"]);
    redis.run("HSET smartlink:service:s auth token");
    let site = Site::start(&redis);
    await_proof(&redis);
    let make = |name: &str| {
        let args = [
            "create",
            "--name",
            name,
            "--services",
            "s, x-*",
            "--rate",
            "1000/s",
        ];
        let (code, made, told) = token(&redis, &args);
        assert_eq!(code, Some(0), "{told}");
        let made = made.trim_end().to_owned();
        assert!(made.starts_with("sl_") && made.len() == 46, "{made}");
        assert!(!told.contains(&made), "{told}");
        made
    };
    let (one, two) = (make("me"), make("me"));
    assert_ne!(one, two);
    for made in [&one, &two] {
        eventually("it opens", || (status(&site, made) == 200).then_some(()));
    }
    let (code, listed, _) = token(&redis, &["list"]);
    assert_eq!((code, listed.lines().count()), (Some(0), 3), "{listed}");
    assert!(!listed.contains(&one), "{listed}");
    let (code, _, told) = token(&redis, &["revoke", "me"]);
    assert_eq!(code, Some(1), "{told}");
    let digits = listed
        .lines()
        .nth(1)
        .and_then(|line| line.split_whitespace().nth(1));
    let (code, _, told) = token(&redis, &["revoke", digits.expect("digits")]);
    assert_eq!(code, Some(0), "{told}");
    eventually("one of them is dead", || {
        let dead = [&one, &two]
            .iter()
            .filter(|made| status(&site, made) == 401)
            .count();
        (dead == 1).then_some(())
    });
    assert_eq!(token(&redis, &["revoke", "me"]).0, Some(0));
    eventually("both are", || {
        (status(&site, &one) == 401 && status(&site, &two) == 401).then_some(())
    });
    for _ in 0..50 {
        assert_eq!((status(&site, &one), status(&site, &two)), (401, 401));
    }
    assert_eq!(token(&redis, &["list"]).1, "no tokens\n");
}

#[test]
fn a_slip_is_named_before_anything_is_written() {
    let redis = Redis::start();
    for (flag, value) in [
        ("--rate", "fast"),
        ("--expires", "soon"),
        ("--services", "a b"),
    ] {
        let mut args = vec!["create", "--name", "me", flag, value];
        if flag != "--services" {
            args.extend(["--services", "s"]);
        }
        let (code, _, told) = token(&redis, &args);
        assert_eq!(code, Some(2), "{told}");
        assert!(told.contains(flag), "{told}");
    }
    assert_eq!(token(&redis, &["revoke", "nobody"]).0, Some(1));
    assert_eq!(token(&redis, &["list", "--json"]).1, "[]\n");
}

#[test]
#[ignore = "measures: run it alone, on a quiet machine, in a release build"]
fn revocation_shows_within_milliseconds() {
    let redis = Redis::start();
    let (upstream, _) = serving("ok");
    redis.call(&["HSET", "smartlink:endpoints:s", &upstream.url("/"), "base"]);
    redis.run("HSET smartlink:service:s auth token");
    let site = Site::start(&redis);
    await_proof(&redis);
    let hash = |token: &str| {
        use sha2::Digest as _;
        let bytes = sha2::Sha256::digest(token);
        let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("smartlink:token:{}", digits.concat())
    };
    let mut times = Vec::new();
    for at in 0..200 {
        let token = format!("T{at}");
        redis.call(&["HSET", &hash(&token), "services", "*"]);
        eventually("it opens", || (status(&site, &token) == 200).then_some(()));
        let began = std::time::Instant::now();
        redis.call(&["DEL", &hash(&token)]);
        while status(&site, &token) != 401 {}
        times.push(began.elapsed());
    }
    times.sort();
    eprintln!("median {:?}, last {:?}", times[100], times[199]);
}
