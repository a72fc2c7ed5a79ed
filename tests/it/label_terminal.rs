//! `smartlink label` in a real terminal: two answers side by side of which nobody says whose they
//! are, keys, and a terminal that is given back.

use std::collections::BTreeMap;

use crate::labels::stage;
use crate::support::eventually;
use crate::support::pane::Pane;
use crate::support::redis::Redis;

fn start(redis: &Redis, args: &str) -> Pane {
    let program = env!("CARGO_BIN_EXE_smartlink");
    let url = redis.url();
    Pane::run(&format!(
        "{program} label ner --redis {url} --reviewer ann {args}"
    ))
}

/// The row with both answers: the number of the request and whose is on the left.
fn shown(screen: &str) -> Option<(u64, &'static str)> {
    let row = screen
        .lines()
        .find(|row| row.contains("old ") && row.contains("new "))?;
    let (old, new) = (row.find("old ")?, row.find("new ")?);
    let digits = row.get(old + 4..)?.chars();
    let number: String = digits.take_while(char::is_ascii_digit).collect();
    let left = if old < new { "base" } else { "candidate" };
    Some((number.parse().ok()?, left))
}

fn label(redis: &Redis, n: u64) -> BTreeMap<String, String> {
    redis.hash(&format!("smartlink:label:ner:r-{n}:candidate"))
}

#[test]
fn each_key_says_what_it_stands_for() {
    if !Pane::is_possible() {
        return;
    }
    let redis = stage(9, 1);
    let pane = start(&redis, "");
    let mut last = 0;
    for (judged, key) in ["a", "b", "e", "x", "s", "a", "b"].into_iter().enumerate() {
        let progress = format!("{judged} judged");
        let screen = pane.await_screen("the next pair", |screen| {
            shown(screen).is_some_and(|(n, _)| n != last) && screen.contains(&progress)
        });
        let (n, left) = shown(&screen).expect("it was seen");
        last = n;
        for word in ["base", "candidate"] {
            assert!(!screen.contains(word), "nobody says whose it is:\n{screen}");
        }
        assert!(
            screen.lines().any(|row| row.trim() == n.to_string()),
            "the question:\n{screen}"
        );
        assert!(
            screen.contains("a left b right e equal x both bad s skip"),
            "{screen}"
        );
        let right = if left == "base" { "candidate" } else { "base" };
        let expected = match key {
            "a" => left,
            "b" => right,
            "e" => "tie",
            "x" => "both_bad",
            _ => "skip",
        };
        pane.press(&[key]);
        let choice = eventually("it is saved", || label(&redis, n).remove("choice.ann"));
        assert_eq!(choice, expected, "{key} of {n}");
        assert!(label(&redis, n).contains_key("ms.ann"));
    }
    // What is the same on both sides can be folded away; other keys do nothing.
    pane.press(&["z", "d"]);
    pane.await_screen("differences only", |screen| {
        shown(screen).is_some() && !screen.lines().any(|row| row.starts_with("[ "))
    });
    pane.press(&["d", "Down"]);
    pane.await_screen("one row down", |screen| shown(screen).is_some());
    pane.press(&["q"]);
    assert_eq!(pane.await_end(), "0");
    assert!(pane.screen().contains("7 judged"));
    // Whoever comes back is given what is left; then there is no more.
    let pane = start(&redis, "");
    for _ in 0..2 {
        let before = pane.await_screen("a pair", |screen| shown(screen).is_some());
        pane.press(&["e"]);
        pane.await_screen("the next", |screen| shown(screen) != shown(&before));
    }
    assert_eq!(pane.await_end(), "0");
}

#[test]
fn however_labelling_ends_the_terminal_is_given_back() {
    if !Pane::is_possible() {
        return;
    }
    let redis = stage(3, 1);
    for key in ["q", "Escape", "C-c"] {
        let pane = start(&redis, "--hold 1s");
        pane.await_screen("it draws", |screen| shown(screen).is_some());
        pane.tmux(&["resize-window", "-x", "40", "-y", "8"]);
        pane.await_screen("small", |screen| {
            shown(screen).is_some() && screen.lines().all(|row| row.chars().count() <= 40)
        });
        pane.press(&[key]);
        assert_eq!(pane.await_end(), "0", "{key}");
    }
    for signal in ["TERM", "HUP", "INT"] {
        let program = env!("CARGO_BIN_EXE_smartlink");
        let url = redis.url();
        // A child that stays in the foreground, and whose number is known.
        let pane = Pane::run(&format!(
            "sh -c 'echo $$ >&2; exec {program} label ner --redis {url} --reviewer ann'"
        ));
        pane.await_screen("it draws", |screen| shown(screen).is_some());
        let child = pane.await_child();
        let killed = std::process::Command::new("kill")
            .args(["-s", signal, &child])
            .status();
        assert!(killed.expect("kill runs").success());
        assert_eq!(pane.await_end(), "0", "{signal}");
    }
}
