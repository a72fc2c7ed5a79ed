//! Holds the house in order: what lints cannot see about rooms, headers, sizes and documents.

#![expect(
    clippy::unwrap_used,
    clippy::string_slice,
    reason = "a panic fails the test, which is what is wanted"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which rooms of the library a room may name. `lib.rs` and `main.rs` are doors.
const DIRECTIONS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("policy", &["judge", "model"]),
    ("stats", &["model"]),
    ("shadow", &["model"]),
    ("judge", &["model"]),
    ("telemetry", &["model"]),
    ("access", &["model", "stats", "telemetry"]),
    (
        "trace",
        &["access", "model", "stats", "telemetry", "transport"],
    ),
    ("review", &["judge", "model", "shadow", "stats"]),
    (
        "settings",
        &["model", "telemetry", "access", "review", "top"],
    ),
    ("top", &["model", "stats"]),
    ("store", &["model", "policy", "stats"]),
    ("transport", &["model"]),
    ("broker", &["telemetry"]),
    ("inquiry", &["model", "policy"]),
    (
        "control",
        &[
            "broker",
            "judge",
            "model",
            "policy",
            "shadow",
            "stats",
            "store",
            "telemetry",
            "transport",
            "inquiry",
        ],
    ),
    (
        "proxy",
        &[
            "model",
            "policy",
            "shadow",
            "stats",
            "telemetry",
            "transport",
            "inquiry",
            "access",
            "trace",
        ],
    ),
    (
        "worker",
        &[
            "broker",
            "judge",
            "model",
            "policy",
            "review",
            "shadow",
            "stats",
            "store",
            "telemetry",
            "transport",
        ],
    ),
    (
        "admin",
        &[
            "model",
            "policy",
            "stats",
            "store",
            "control",
            "telemetry",
            "worker",
        ],
    ),
    (
        "app",
        &[
            "inquiry",
            "access",
            "model",
            "policy",
            "shadow",
            "stats",
            "store",
            "control",
            "proxy",
            "admin",
            "telemetry",
            "trace",
            "worker",
        ],
    ),
    (
        "cli",
        &[
            "access",
            "judge",
            "model",
            "policy",
            "shadow",
            "stats",
            "store",
            "control",
            "proxy",
            "admin",
            "telemetry",
            "trace",
            "app",
            "settings",
            "top",
            "review",
            "worker",
        ],
    ),
];

/// What the pure rooms never touch: clocks, sockets, tasks, the environment, chance.
const IMPURE: &[&str] = &[
    "Instant::now",
    "SystemTime",
    "Timestamp::now",
    "tokio::",
    "std::env::",
    "std::fs::",
    "std::net::Tcp",
    "std::thread",
    "RandomState",
];

/// What of tokio is a value and needs no runtime: who waits is remembered in the live facts, who
/// wakes and who sleeps stands outside.
const TOKIO_VALUES: &[&str] = &["tokio::sync::Notify"];

/// Lines of a source file, tests in it included; past that a second room wants to exist.
const LINES_MAX: usize = 500;

/// Files that are longer, and by how much they may be: numbers here only go down.
const LONGER: &[(&str, usize)] = &[];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` whose name ends in `ending`, as paths relative to the repository.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The room a source file stands in: `src/store/load.rs` in `store`, `src/app.rs` in `app`.
fn room(path: &Path) -> String {
    let name = path.components().nth(1).unwrap().as_os_str();
    name.to_string_lossy().trim_end_matches(".rs").to_owned()
}

/// The code of a file without its comments and its tests at the end.
fn code(text: &str) -> String {
    text.lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

fn is_test(path: &Path) -> bool {
    let path = path.to_string_lossy();
    path.ends_with("tests.rs") || path.contains("/tests/")
}

/// Rooms that a text names: `crate::store::...`, also in `use crate::{model, store}`.
fn rooms_named(code: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let list = match rest.strip_prefix('{') {
            Some(list) => &list[..=list.find("};").expect("a use list ends")],
            None => rest,
        };
        let mut depth = 0;
        let mut expects_name = true;
        for token in list.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            let (word, mark) = token.split_at(token.len() - 1);
            if expects_name && depth == 0 && !word.is_empty() {
                named.insert(word.to_owned());
                expects_name = false;
            }
            match mark {
                "{" => depth += 1,
                "}" => depth -= 1,
                "," if depth == 0 => expects_name = true,
                _ => {}
            }
            if !rest.starts_with('{') {
                break;
            }
        }
    }
    named
}

#[test]
fn imports_go_down_or_sideways_never_up() {
    for path in files("src", ".rs") {
        let here = room(&path);
        if here == "lib" || here == "main" || is_test(&path) {
            continue;
        }
        let (_, allowed) = DIRECTIONS
            .iter()
            .find(|(room, _)| *room == here)
            .unwrap_or_else(|| panic!("{}: a new room needs its directions", path.display()));
        for named in rooms_named(&code(&read(&path))) {
            let known = DIRECTIONS.iter().any(|(room, _)| *room == named);
            assert!(
                !known || named == here || allowed.contains(&named.as_str()),
                "{} names {named}, which {here} may not",
                path.display()
            );
        }
    }
}

#[test]
fn the_clients_of_redis_and_kafka_are_named_in_one_room_each() {
    for path in files("src", ".rs") {
        for (client, home) in [("fred::", "store"), ("rdkafka::", "broker")] {
            let names_it = code(&read(&path)).contains(client);
            assert!(!names_it || room(&path) == home, "{}", path.display());
        }
    }
}

#[test]
fn pure_rooms_touch_no_clock_socket_task_environment_or_chance() {
    for path in files("src/model", ".rs")
        .into_iter()
        .chain(files("src/policy", ".rs"))
        .chain(files("src/stats", ".rs"))
        .chain(files("src/top", ".rs"))
        .chain(files("src/shadow", ".rs"))
        .chain(files("src/review", ".rs"))
        .chain(files("src/judge", ".rs"))
    {
        if is_test(&path) {
            continue;
        }
        let mut code = code(&read(&path));
        for value in TOKIO_VALUES {
            code = code.replace(value, "");
        }
        for impure in IMPURE {
            assert!(!code.contains(impure), "{} has {impure}", path.display());
        }
    }
}

#[test]
fn clocks_are_tokios_so_that_tests_can_turn_them() {
    for path in files("src", ".rs") {
        let code = code(&read(&path));
        assert!(!code.contains("std::time::Instant"), "{}", path.display());
        let list = code.lines().find(|line| line.contains("std::time::{"));
        assert!(
            !list.is_some_and(|line| line.contains("Instant")),
            "{}",
            path.display()
        );
    }
}

#[test]
fn every_file_opens_with_what_it_is() {
    for folder in ["src", "tests", "benches"] {
        for path in files(folder, ".rs") {
            assert!(read(&path).starts_with("//! "), "{}", path.display());
        }
    }
}

#[test]
fn every_script_opens_with_its_contract() {
    for path in files("lua", ".lua") {
        let text = read(&path);
        let header: Vec<&str> = text
            .lines()
            .take_while(|line| line.starts_with("--"))
            .collect();
        for part in ["-- KEYS", "-- ARGV", "-- Returns", "-- Called by"] {
            assert!(
                header.iter().any(|line| line.starts_with(part)),
                "{} has no {part}",
                path.display()
            );
        }
    }
    for path in files("scripts", ".sh") {
        let text = read(&path);
        let mut lines = text.lines();
        assert!(
            lines.next().is_some_and(|line| line.starts_with("#!")),
            "{}",
            path.display()
        );
        assert!(
            lines.next().is_some_and(|line| line.starts_with("# ")),
            "{}",
            path.display()
        );
        assert!(text.contains("\nset -eu"), "{}", path.display());
    }
}

#[test]
fn no_file_outgrows_a_look() {
    for path in files("src", ".rs") {
        let lines = read(&path).lines().count();
        let longer = LONGER.iter().find(|(longer, _)| path == Path::new(longer));
        let most = longer.map_or(LINES_MAX, |(_, most)| *most);
        assert!(lines <= most, "{} has {lines} lines", path.display());
    }
}

#[test]
fn no_room_is_a_drawer() {
    for path in files("src", ".rs") {
        for part in path.components() {
            let name = part.as_os_str().to_string_lossy();
            let name = name.trim_end_matches(".rs");
            let drawers = [
                "util",
                "utils",
                "helper",
                "helpers",
                "common",
                "misc",
                "constants",
                "core",
            ];
            assert!(!drawers.contains(&name), "{}", path.display());
        }
    }
}

#[test]
fn the_code_map_names_every_room() {
    let map = read("ARCHITECTURE.md");
    for path in files("src", ".rs") {
        let here = room(&path);
        let named = [format!("`src/{here}/`"), format!("`src/{here}.rs`")];
        assert!(
            here == "lib" || named.iter().any(|name| map.contains(name)),
            "{here}"
        );
    }
}

#[test]
fn what_the_code_map_names_is_there() {
    let map = read("ARCHITECTURE.md");
    let mut named = 0;
    for path in map.split('`').skip(1).step_by(2) {
        let is_path = ["src/", "tests/", "lua/", "schemas/", "deploy/"]
            .iter()
            .any(|room| path.starts_with(room));
        if is_path {
            named += 1;
            assert!(root().join(path).exists(), "{path} is not there");
        }
    }
    assert!(named > 20, "only {named} paths found");
}

#[test]
fn the_manual_names_every_flag_with_its_default() {
    let help = Command::new(env!("CARGO_BIN_EXE_smartlink"))
        .args(["serve", "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let manual = read("docs/operations.md");
    let mut flag = String::new();
    for line in help.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("--") {
            flag = format!("--{}", rest.split(' ').next().unwrap());
            assert!(
                manual.contains(&format!("| `{flag}` |")),
                "{flag} is not in the manual"
            );
        }
        if let Some(default) = line.strip_prefix("[default: ") {
            let default = default.trim_end_matches(']');
            let row = manual
                .lines()
                .find(|row| row.starts_with(&format!("| `{flag}` |")));
            let row = row.unwrap_or_else(|| panic!("{flag} is not in the manual"));
            let agrees = row.contains(&format!("`{default}`"));
            assert!(agrees, "{flag}: the manual does not say {default}");
        }
    }
}

#[test]
fn the_manual_names_every_error_code() {
    let manual = read("docs/http.md");
    let source = read("src/proxy/error.rs");
    let mut codes = 0;
    for (at, _) in source.match_indices('"') {
        // A code stands behind its status: `(503, "draining", ...)`.
        let before = source[..at].trim_end().strip_suffix(',');
        if before.is_some_and(|before| before.ends_with(|c: char| c.is_ascii_digit())) {
            let code: String = source[at + 1..].chars().take_while(|c| *c != '"').collect();
            codes += 1;
            assert!(manual.contains(&format!("`{code}`")), "{code}");
        }
    }
    assert!(
        codes > 10,
        "the codes of proxy::Error were not found: {codes}"
    );
}

#[test]
fn rooms_are_found_in_every_form_of_use() {
    let named = rooms_named("use crate::store::Store; use crate::{app, model::{a, b}, settings};");
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    assert_eq!(named, ["app", "model", "settings", "store"]);
}
