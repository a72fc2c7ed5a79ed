//! The users that the manual shows, against a real Redis: each row of its table.

use std::path::Path;

use super::support::redis::Redis;

fn manual() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/redis-acl.md");
    std::fs::read_to_string(path).expect("the manual")
}

/// The words of a command as a shell takes them, where quotes are around whole words.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in command.split('"').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

#[test]
fn every_user_of_the_manual_may_do_what_it_says_and_no_more() {
    let redis = Redis::start();
    let text = manual();
    let lines = text.lines().map(str::trim);
    for line in lines
        .clone()
        .filter(|line| line.starts_with("ACL SETUSER "))
    {
        redis.run(line);
    }
    let mut rows = [0, 0];
    for line in lines {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", user, command, may @ ("yes" | "no"), ""] = *cells else {
            continue;
        };
        let (user, command) = (user.trim_matches('`'), command.trim_matches('`'));
        let mut connection = redis.connect();
        connection.call(&["AUTH", user, "secret"]);
        let words = words(command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match (connection.try_call(&words), may) {
            (Ok(_), "yes") => rows[0] += 1,
            (Err(why), "no") if why.starts_with("NOPERM") => rows[1] += 1,
            (got, _) => panic!("{user}: {command}: {got:?}, not {may}"),
        }
    }
    assert!(rows.iter().all(|rows| *rows > 10), "{rows:?}");
}
