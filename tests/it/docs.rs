//! Runs every line that the README shows, against a private Redis, a gateway and two demo services,
//! and compares what it prints with what stands there.

#![expect(
    clippy::unwrap_used,
    clippy::string_slice,
    reason = "a panic fails the test, which is what is wanted"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::eventually;
use crate::support::port::Port;
use crate::support::redis::Redis;

/// How long a change may take until it shows in an answer, on a busy machine.
const SHOWS_WITHIN: Duration = Duration::from_secs(5);

/// A line after `$` in a console block, and what stands below it.
#[derive(Debug, PartialEq, Eq)]
struct Example {
    command: String,
    printed: String,
}

/// The examples of all console blocks of a document.
fn examples(document: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut inside = false;
    for line in document.lines() {
        match (inside, line.strip_prefix("$ ")) {
            (false, _) => inside = line == "```console",
            (true, _) if line == "```" => inside = false,
            (true, Some(command)) => examples.push(Example {
                command: command.to_owned(),
                printed: String::new(),
            }),
            (true, None) => {
                let last = examples.last_mut().expect("a block begins with a command");
                last.printed.push_str(line);
                last.printed.push('\n');
            }
        }
    }
    examples
}

/// What differs from run to run, made equal: durations and moments.
fn settled(text: &str) -> String {
    let mut settled = String::new();
    for line in text.lines() {
        let mut line = line.trim_end().to_owned();
        for before in ["\"duration\":", "\"duration\": ", "dur="] {
            line = without_number_after(&line, before);
        }
        if let Some(at) = line.find("(since ") {
            let end = line[at..].find(')').map_or(line.len(), |len| at + len);
            line.replace_range(at..end, "(since ...");
        }
        settled.push_str(&line);
        settled.push('\n');
    }
    settled
}

fn without_number_after(line: &str, before: &str) -> String {
    let Some(at) = line.find(before).map(|at| at + before.len()) else {
        return line.to_owned();
    };
    let (head, tail) = line.split_at(at);
    let rest = tail.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    if rest.len() == tail.len() {
        return line.to_owned();
    }
    format!("{head}N{rest}")
}

/// Whether two printed texts say the same. Counts of `uniq -c` may differ by 2, which is what the
/// gateway promises of shares.
fn same(printed: &str, shown: &str) -> bool {
    let (printed, shown) = (settled(printed), settled(shown));
    let lines = |text: &str| text.lines().map(counted).collect::<Vec<_>>();
    let (printed, shown) = (lines(&printed), lines(&shown));
    printed.len() == shown.len()
        && printed.iter().zip(&shown).all(|(a, b)| {
            a.1 == b.1 && (a.0 == b.0 || a.0.zip(b.0).is_some_and(|(a, b)| a.abs_diff(b) <= 2))
        })
}

/// A count in front of a line, as `uniq -c` writes it, and the rest.
fn counted(line: &str) -> (Option<u64>, String) {
    let (first, rest) = line.trim_start().split_once(' ').unwrap_or((line, ""));
    match first.parse() {
        Ok(count) if line.starts_with("  ") => (Some(count), rest.to_owned()),
        _ => (None, line.to_owned()),
    }
}

/// Processes of ours, killed when dropped.
struct Stage {
    children: Vec<Child>,
    redis: Redis,
    /// Address in the documents, and the one it stands for here.
    addresses: Vec<(&'static str, String)>,
    _ports: Vec<Port>,
}

impl Stage {
    fn set() -> Self {
        let redis = Redis::start();
        let addresses = [
            "127.0.0.1:9001",
            "127.0.0.1:9002",
            "127.0.0.1:8000",
            "127.0.0.1:8001",
            "127.0.0.1:8002",
        ];
        let ports: Vec<Port> = addresses.map(|_| Port::reserve()).into();
        let ours = ports.iter().map(|port| port.address().to_string());
        let addresses = addresses.into_iter().zip(ours).collect();
        let mut stage = Self {
            children: Vec::new(),
            redis,
            addresses,
            _ports: ports,
        };
        let [public, admin, base, candidate, next] = [
            "127.0.0.1:9001",
            "127.0.0.1:9002",
            "127.0.0.1:8000",
            "127.0.0.1:8001",
            "127.0.0.1:8002",
        ]
        .map(|address| stage.here(address));
        stage.run(&["demo", "--listen", &base, "--version", "base"]);
        stage.run(&["demo", "--listen", &candidate, "--version", "candidate"]);
        stage.run(&["demo", "--listen", &next, "--version", "next", "--faulty"]);
        let url = stage.redis.url();
        stage.run(&[
            "serve", "--listen", &public, "--admin", &admin, "--redis", &url,
        ]);
        stage.run(&["pilot", "--redis", &url]);
        stage.write_shim();
        eventually("the gateway is ready", || {
            let ready =
                stage.print("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:9002/readyz");
            (ready == "200").then_some(())
        });
        stage
    }

    fn run(&mut self, args: &[&str]) {
        let child = Command::new(env!("CARGO_BIN_EXE_smartlink"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("smartlink starts");
        self.children.push(child);
    }

    /// `redis-cli` as the documents have it: our port, and answers as a terminal shows them; and
    /// `smartlink` with the same Redis.
    fn write_shim(&self) {
        let cli = ["redis-cli", "valkey-cli"].into_iter().find_map(on_path);
        let cli = cli.expect("redis-cli or valkey-cli on PATH");
        let shim = self.redis.folder().join("redis-cli");
        let url = self.redis.url();
        let (_, port) = url.rsplit_once(':').unwrap();
        fs::write(
            &shim,
            format!("#!/bin/sh\nexec {cli} -p {port} --no-raw \"$@\"\n"),
        )
        .unwrap();
        let own = self.redis.folder().join("smartlink");
        let program = env!("CARGO_BIN_EXE_smartlink");
        fs::write(
            &own,
            format!("#!/bin/sh\nSMARTLINK_REDIS={url} exec {program} \"$@\"\n"),
        )
        .unwrap();
        for shim in [shim, own] {
            fs::set_permissions(&shim, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    /// A text of a document with the addresses of this stage.
    fn here(&self, text: &str) -> String {
        let replace = |text: String, (shown, here): &(&str, String)| text.replace(shown, here);
        self.addresses.iter().fold(text.to_owned(), replace)
    }

    /// A text of this stage with the addresses of the documents.
    fn shown(&self, text: &str) -> String {
        let replace = |text: String, (shown, here): &(&str, String)| text.replace(here, shown);
        self.addresses.iter().fold(text.to_owned(), replace)
    }

    fn print(&self, command: &str) -> String {
        let path = std::env::var("PATH").unwrap();
        let output = Command::new("sh")
            .args(["-c", &self.here(command)])
            .env("PATH", format!("{}:{path}", self.redis.folder().display()))
            .output()
            .expect("sh runs");
        self.shown(&String::from_utf8_lossy(&output.stdout))
    }

    /// Runs an example; what only reads is tried again until the change before it shows.
    #[track_caller]
    fn play(&self, example: &Example) {
        let Example { command, printed } = example;
        let writes = [
            "redis-cli HSET",
            "redis-cli DEL",
            "smartlink shift",
            "smartlink undo",
            "smartlink route",
        ];
        let writes = writes.iter().any(|w| command.starts_with(w));
        let end = Instant::now() + SHOWS_WITHIN;
        loop {
            let got = self.print(command);
            if same(&got, printed) {
                return;
            }
            assert!(
                !writes && Instant::now() < end,
                "$ {command}\n--- shown\n{printed}--- printed\n{got}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended by itself, which the test has noticed by then.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn on_path(program: &str) -> Option<String> {
    let path = std::env::var("PATH").ok()?;
    let found = path
        .split(':')
        .map(|folder| Path::new(folder).join(program))
        .find(|p| p.is_file());
    found.map(|path| path.display().to_string())
}

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn what_the_readme_shows_is_what_is_printed() {
    if on_path("curl").is_none() {
        eprintln!("curl is not on PATH: the lines of the README were not run");
        return;
    }
    let stage = Stage::set();
    let examples = examples(&document("README.md"));
    assert!(examples.len() > 30, "only {} examples", examples.len());
    for example in &examples {
        stage.play(example);
    }
}

#[test]
fn what_the_manual_of_alerts_shows_is_what_is_printed() {
    let stage = Stage::set();
    let examples = examples(&document("docs/alerts.md"));
    assert!(examples.len() > 5, "only {} examples", examples.len());
    for example in &examples {
        stage.play(example);
    }
}

#[test]
fn what_the_manual_of_limits_shows_is_what_is_printed() {
    if on_path("curl").is_none() {
        eprintln!("curl is not on PATH: the lines of the manual were not run");
        return;
    }
    let stage = Stage::set();
    let examples = examples(&document("docs/limits.md"));
    assert!(examples.len() > 5, "only {} examples", examples.len());
    for example in &examples {
        stage.play(example);
    }
}

#[test]
fn what_the_manual_of_callers_shows_is_what_is_printed() {
    if on_path("curl").is_none() {
        eprintln!("curl is not on PATH: the lines of the manual were not run");
        return;
    }
    let stage = Stage::set();
    let examples = examples(&document("docs/auth.md"));
    assert!(examples.len() > 8, "only {} examples", examples.len());
    for example in &examples {
        stage.play(example);
    }
}

#[test]
fn what_the_manual_of_shadows_shows_is_what_is_printed() {
    if on_path("curl").is_none() {
        eprintln!("curl is not on PATH: the lines of the manual were not run");
        return;
    }
    let stage = Stage::set();
    let examples = examples(&document("docs/shadow.md"));
    assert!(examples.len() > 5, "only {} examples", examples.len());
    for example in &examples {
        stage.play(example);
    }
}

#[test]
fn what_the_manual_of_verbs_shows_is_what_is_printed() {
    let stage = Stage::set();
    let examples = examples(&document("docs/by-hand.md"));
    assert!(examples.len() > 15, "only {} examples", examples.len());
    for example in &examples {
        stage.play(example);
    }
}

#[test]
fn both_readmes_show_the_same_lines() {
    assert_eq!(
        examples(&document("README.md")),
        examples(&document("README.zh-CN.md"))
    );
}

#[test]
fn answers_are_compared_without_what_differs_from_run_to_run() {
    assert!(!same("{\"duration\":17}\n", "{\"duration\": 0}\n"));
    assert!(same("{\"duration\":17}\n", "{\"duration\":0}\n"));
    assert!(same(
        "a (since 2026-01-02T03:04:05.1Z)\"\n",
        "a (since then)\"\n"
    ));
    assert!(same("     89 x\n     11 y\n", "     90 x\n     10 y\n"));
    assert!(!same("     87 x\n     13 y\n", "     90 x\n     10 y\n"));
    assert!(!same("(integer) 1\n", "(integer) 2\n"));
    assert!(!same("x\n", "x\ny\n"));
}
