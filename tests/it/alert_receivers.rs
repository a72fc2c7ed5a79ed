//! What each receiver of alerts is sent, tried out by `smartlink check --alert`.

use std::process::{Command, Output};
use std::sync::Arc;

use crate::support::receiver::Receiver;
use crate::support::redis::Redis;
use crate::support::secure::Authority;
use crate::support::smtp::{Smtp, Tls};

/// Runs `check --alert ops`: exit code and what it printed.
fn try_out(redis: &Redis, variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let url = redis.url();
    let Output { status, stdout, .. } = Command::new(env!("CARGO_BIN_EXE_smartlink"))
        .args(["check", "--redis", &url, "--alert", "ops"])
        .envs(variables.iter().copied())
        .output()
        .expect("it runs");
    (status.code(), String::from_utf8(stdout).expect("text"))
}

#[test]
fn each_web_hook_gets_the_form_that_it_documents() {
    let redis = Redis::start();
    let hook = Receiver::start();
    let url = format!("http://{}/robot?access_token=t0ken123", hook.address);
    for (n, format) in ["json", "slack", "dingtalk", "feishu", "wecom"]
        .iter()
        .enumerate()
    {
        redis.run("DEL smartlink:alert:ops");
        redis.run(&format!(
            "HSET smartlink:alert:ops url {url} format {format} secret_env HOOK_SECRET"
        ));
        let (code, printed) = try_out(&redis, &[("HOOK_SECRET", "s3cret")]);
        assert_eq!(code, Some(0), "{format}: {printed}");
        assert!(
            printed.starts_with("smartlink:alert:ops: the receiver took it: 200"),
            "{printed}"
        );
        let received = hook.await_nth(n);
        let body = received.json();
        let (text, signed) = match *format {
            "json" => (
                &body["why"],
                received.head.contains("x-smartlink-signature: sha256="),
            ),
            "slack" => (&body["text"], true),
            "feishu" => (
                &body["content"]["text"],
                body["sign"].as_str().is_some_and(|sign| sign.len() == 44)
                    && body["timestamp"].as_str().is_some_and(|at| at.len() == 10),
            ),
            "dingtalk" => (
                &body["text"]["content"],
                received.target.contains("&timestamp=") && received.target.contains("&sign="),
            ),
            _ => (&body["text"]["content"], true),
        };
        assert!(
            received.target.starts_with("/robot?access_token=t0ken123"),
            "{received:?}"
        );
        let text = text.as_str().expect("a text");
        assert!(text.contains("this is a test: nothing is wrong"), "{text}");
        assert!(signed, "{received:?}");
        assert!(
            received.head.contains("content-type: application/json"),
            "{received:?}"
        );
    }
}

#[test]
fn what_a_receiver_says_no_to_is_printed_without_secrets() {
    let redis = Redis::start();
    let receiver = Receiver::start();
    receiver.answer(
        200,
        "{\"errcode\":310000,\"errmsg\":\"bad token t0ken123\"}",
    );
    let url = format!("http://{}/robot?access_token=t0ken123", receiver.address);
    redis.run(&format!(
        "HSET smartlink:alert:ops url {url} format dingtalk"
    ));
    let (code, printed) = try_out(&redis, &[]);
    assert_eq!(code, Some(1));
    assert!(printed.contains("310000"), "{printed}");
    assert!(!printed.contains("t0ken123"), "{printed}");
    redis.run("DEL smartlink:alert:ops");
    let (code, printed) = try_out(&redis, &[]);
    assert_eq!(
        (code, printed.as_str()),
        (Some(1), "smartlink:alert:ops: there is no such alert\n")
    );
}

/// Sends a test mail by that server and returns what the server heard.
fn mail(redis: &Redis, url: &str, server: &Smtp, variables: &[(&str, &str)]) -> Vec<String> {
    redis.run("DEL smartlink:alert:ops");
    redis.run(&format!(
        "HSET smartlink:alert:ops format email to ops@example.com,boss@example.com url {url} \
         secret_env MAIL_SECRET"
    ));
    let (code, printed) = try_out(redis, variables);
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("250 "), "{printed}");
    server.said()
}

#[test]
fn mail_is_handed_in_with_and_without_tls() {
    let redis = Redis::start();
    let authority = Authority::new();
    let config = Arc::new(authority.vouch("localhost", &[]));
    for (tls, scheme, mark) in [
        (Tls::Never, "smtp", ""),
        (Tls::Start(Arc::clone(&config)), "smtp", "(tls) "),
        (Tls::Always(config), "smtps", "(tls) "),
    ] {
        let server = Smtp::start(tls);
        let url = format!("{scheme}://alerts@localhost:{}", server.port);
        let said = mail(
            &redis,
            &url,
            &server,
            &[
                ("MAIL_SECRET", "s3cret"),
                ("SSL_CERT_FILE", authority.path()),
            ],
        );
        let heard = |line: &str| {
            let line = format!("{mark}{line}");
            assert!(
                said.iter().any(|it| it.starts_with(&line)),
                "{line} in {said:#?}"
            );
        };
        // user alerts, password s3cret
        heard("AUTH PLAIN AGFsZXJ0cwBzM2NyZXQ=");
        heard("MAIL FROM:<alerts@localhost>");
        heard("RCPT TO:<ops@example.com>");
        heard("RCPT TO:<boss@example.com>");
        heard("Subject: smartlink FIRING endpoint_down: test");
        heard("this is a test: nothing is wrong");
    }
}
