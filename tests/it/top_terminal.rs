//! `smartlink top` in a real terminal: keys, sizes, a Redis that goes and comes, and a terminal
//! that is given back.

use crate::support::eventually;
use crate::support::pane::Pane;
use crate::support::redis::Redis;
use crate::top::{calls, fill, write_services};

fn top(url: &str, args: &str) -> Pane {
    let program = env!("CARGO_BIN_EXE_smartlink");
    Pane::run(&format!("{program} top --redis {url} {args}"))
}

/// The service of the first row.
fn first(screen: &str) -> Option<&str> {
    let row = screen.lines().find(|line| line.contains(['▾', '▸']))?;
    row.split(['▾', '▸']).nth(1)?.split_whitespace().next()
}

#[test]
fn keys_do_what_the_help_says() {
    if !Pane::is_possible() {
        return;
    }
    let redis = Redis::start();
    write_services(&redis);
    let pane = top(&redis.url(), "");
    let screen = pane.await_screen("the worst first", |s| first(s) == Some("lonely"));
    assert!(
        screen.lines().all(|line| line.chars().count() <= 80),
        "{screen}"
    );
    assert!(
        screen.contains("127.0.0.1:3/get/"),
        "few are open unasked:\n{screen}"
    );
    pane.press(&["a"]);
    pane.await_screen("all are closed", |s| !s.contains("127.0.0.1:3/get/"));
    pane.press(&["Down", "Enter"]);
    pane.await_screen("one is open", |s| {
        s.contains("127.0.0.1:3/get/") && s.contains("▸ fine")
    });
    pane.press(&["Down", "Down"]);
    pane.await_screen("about an endpoint", |s| {
        s.contains("http://127.0.0.1:2/get/ up")
    });
    pane.press(&["Left"]);
    pane.await_screen("closed from within", |s| !s.contains("127.0.0.1:3/get/"));
    pane.press(&["Home", "n"]);
    pane.await_screen("by name", |s| {
        first(s) == Some("failing") && s.contains("sort name")
    });
    pane.press(&["r"]);
    pane.await_screen("by rate", |s| {
        s.contains("sort rate") && first(s) != Some("lonely")
    });
    pane.press(&["/", "l", "o", "n"]);
    pane.await_screen("filtered", |s| {
        s.contains("filter: lon_") && !s.contains("fine")
    });
    pane.press(&["Enter"]);
    pane.await_screen("kept", |s| {
        s.contains("filter: lon ") && first(s) == Some("lonely")
    });
    pane.press(&["Escape"]);
    pane.await_screen("all again", |s| s.contains("fine"));
    pane.press(&["!"]);
    pane.await_screen("trouble only", |s| {
        s.contains("lonely") && !s.contains("fine")
    });
    pane.press(&["!", "g"]);
    pane.await_screen("gateways", |s| {
        s.contains("GATEWAY") && s.contains("127.0.0.1:9001")
    });
    pane.press(&["?"]);
    pane.await_screen("help", |s| s.contains("open or close a service"));
    pane.press(&["?", "p"]);
    pane.await_screen("held", |s| s.contains("PAUSED"));
    redis.run("DEL smartlink:endpoints:fine smartlink:live:fine smartlink:health:fine");
    pane.press(&["Down", "Up"]);
    pane.await_screen("still there", |s| s.contains("fine"));
    pane.press(&["p"]);
    pane.await_screen("gone", |s| !s.contains("fine"));
    pane.press(&["q"]);
    assert_eq!(pane.await_end(), "0");
}

#[test]
fn however_it_ends_the_terminal_is_given_back() {
    if !Pane::is_possible() {
        return;
    }
    let redis = Redis::start();
    write_services(&redis);
    let pane = top(&redis.url(), "");
    pane.await_screen("it draws", |s| s.contains("lonely"));
    pane.press(&["C-c"]);
    assert_eq!(pane.await_end(), "0");
    for signal in ["TERM", "HUP", "INT"] {
        let program = env!("CARGO_BIN_EXE_smartlink");
        let url = redis.url();
        // A child that stays in the foreground, and whose number is known.
        let line = format!("sh -c 'echo $$ >&2; exec {program} top --redis {url}'");
        let pane = Pane::run(&line);
        pane.await_screen("it draws", |s| s.contains("lonely"));
        let child = pane.await_child();
        let killed = std::process::Command::new("kill")
            .args(["-s", signal, &child])
            .status();
        assert!(killed.expect("kill runs").success());
        assert_eq!(pane.await_end(), "0", "{signal}");
    }
}

#[test]
fn every_size_of_terminal_is_drawn_in() {
    if !Pane::is_possible() {
        return;
    }
    let redis = Redis::start();
    write_services(&redis);
    let pane = top(&redis.url(), "--no-color --interval 200ms");
    pane.await_screen("it draws", |s| s.contains("lonely"));
    for (width, height) in [(40, 10), (20, 4), (200, 50), (1, 1), (80, 24)] {
        let (width, height) = (width.to_string(), height.to_string());
        pane.tmux(&["resize-window", "-x", &width, "-y", &height]);
    }
    pane.await_screen("as before", |s| {
        s.contains("127.0.0.1:3/get/") && s.contains("q quit")
    });
    pane.tmux(&["resize-window", "-x", "40", "-y", "10"]);
    // The state has room always.
    pane.await_screen("small", |s| {
        s.lines().count() <= 10 && s.contains("lonely") && s.contains("DOWN")
    });
    pane.press(&["q"]);
    assert_eq!(pane.await_end(), "0");
}

#[test]
fn a_lost_redis_is_a_line_and_it_goes_on_when_it_is_back() {
    if !Pane::is_possible() {
        return;
    }
    let mut redis = Redis::start();
    write_services(&redis);
    let pane = top(&redis.url(), "--interval 200ms");
    pane.await_screen("it draws", |s| s.contains("lonely"));
    redis.kill();
    let screen = pane.await_screen("it says so", |s| s.contains("Redis is away for"));
    assert!(
        screen.contains("lonely"),
        "the last picture stays:\n{screen}"
    );
    pane.press(&["/", "f", "i", "n", "Enter"]);
    pane.await_screen("keys work", |s| !s.contains("lonely") && s.contains("fine"));
    redis.restart();
    write_services(&redis);
    pane.await_screen("it goes on", |s| {
        !s.contains("Redis is away") && s.contains("fine")
    });
    pane.press(&["q"]);
    assert_eq!(pane.await_end(), "0");
}

#[test]
fn started_without_redis_it_waits_for_it() {
    if !Pane::is_possible() {
        return;
    }
    let mut redis = Redis::start();
    redis.kill();
    let pane = top(&redis.url(), "--interval 200ms");
    pane.await_screen("it says so", |s| s.contains("Redis is away for"));
    redis.restart();
    write_services(&redis);
    pane.await_screen("it goes on", |s| s.contains("lonely"));
    pane.press(&["q"]);
    assert_eq!(pane.await_end(), "0");
}

#[test]
fn ten_thousand_services_cost_a_screenful_and_a_slow_turn() {
    if !Pane::is_possible() {
        return;
    }
    let redis = Redis::start();
    fill(&redis, 10_000);
    redis.run(
        "HSET smartlink:live:s07777 base.rps 50 base.error_rate 0.4 base.inflight 0 base.share 1",
    );
    let pane = top(&redis.url(), "--interval 200ms");
    pane.await_screen("the worst is found", |s| first(s) == Some("s07777"));
    pane.press(&["a", "End"]);
    pane.await_screen("the last one", |s| {
        s.contains("10000 services") && !s.contains("s07777")
    });
    redis.run("CONFIG RESETSTAT");
    eventually("some readings", || {
        (calls(&redis, "time") >= 6).then_some(())
    });
    let (hashes, readings) = (calls(&redis, "hgetall"), calls(&redis, "time"));
    // Three of each service in the slow turn, five of each on the screen.
    let most = (3 * 300 + 5 * 24 + 5) * (readings + 1);
    assert!(hashes <= most, "{hashes} hashes in {readings} readings");
    assert!(calls(&redis, "scan") <= 4 * (readings + 1));
    pane.press(&["q"]);
    assert_eq!(pane.await_end(), "0");
}
