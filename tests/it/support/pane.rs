//! A real pseudo-terminal, as tmux gives it: a screen that can be read, keys that can be pressed.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::eventually;

/// A terminal of its own server; killed when dropped.
pub struct Pane {
    folder: TempDir,
}

impl Pane {
    /// Whether tmux is there; says so where it is not.
    pub fn is_possible() -> bool {
        let there = Command::new("tmux")
            .arg("-V")
            .stdout(Stdio::null())
            .status();
        let there = there.is_ok_and(|status| status.success());
        if !there {
            eprintln!("skipped: tmux is not on PATH, so there is no terminal to press keys in");
        }
        there
    }

    /// A terminal of 80 columns and 24 lines that runs `line` in a shell, and prints what its
    /// settings were before and after and how it ended.
    pub fn run(line: &str) -> Self {
        let pane = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        let file = |name| pane.file(name).display().to_string();
        let script = format!(
            "stty -g > {}; {line}; echo \"ended with $?\"; stty -g > {}; exec cat",
            file("before"),
            file("after")
        );
        // A server of its own does not know the environment of another.
        let size = ["-x", "80", "-y", "24"];
        pane.tmux(
            &[
                &["-f", "/dev/null", "new-session", "-d"][..],
                &size,
                &[&script],
            ]
            .concat(),
        );
        pane
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A tmux command; what it prints.
    #[track_caller]
    pub fn tmux(&self, args: &[&str]) -> String {
        let output = Command::new("tmux")
            .arg("-S")
            .arg(self.file("socket"))
            .args(args)
            .env_remove("TMUX")
            .env("LC_ALL", "C.UTF-8")
            .output()
            .expect("tmux runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tmux {args:?}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Presses keys, by tmux's names for them.
    #[track_caller]
    pub fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"][..], keys].concat());
    }

    /// What is on the screen.
    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits until the screen is as wanted.
    #[track_caller]
    pub fn await_screen(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(what, || {
                std::thread::sleep(std::time::Duration::from_millis(30));
                last = self.screen();
                wanted(&last).then(|| last.clone())
            })
        }));
        seen.unwrap_or_else(|_| panic!("never seen: {what}, but:\n{last}"))
    }

    /// The number of the program that the shell of the terminal started.
    #[track_caller]
    pub fn await_child(&self) -> String {
        let shell = self.tmux(&["display", "-p", "#{pane_pid}"]);
        let shell = shell.trim();
        eventually("its child is known", || {
            let children = format!("/proc/{shell}/task/{shell}/children");
            let children = std::fs::read_to_string(children).ok()?;
            children.split_whitespace().next().map(str::to_owned)
        })
    }

    /// Waits until it ended, and asserts that the terminal is as it was; the exit code.
    #[track_caller]
    pub fn await_end(&self) -> String {
        let screen = self.await_screen("it ended", |screen| screen.contains("ended with "));
        let after = eventually("the settings are written", || {
            let after = std::fs::read_to_string(self.file("after")).ok()?;
            after.ends_with('\n').then_some(after)
        });
        let before = std::fs::read_to_string(self.file("before")).expect("it was written first");
        assert_eq!(after, before, "settings of the terminal");
        let flags = self.tmux(&["display", "-p", "#{alternate_on} #{cursor_flag}"]);
        assert_eq!(flags.trim(), "0 1", "other page off, cursor on");
        let (_, code) = screen.rsplit_once("ended with ").expect("it was seen");
        code.split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned()
    }
}

impl Drop for Pane {
    fn drop(&mut self) {
        // Its programs are told that their terminal is gone.
        drop(
            Command::new("tmux")
                .arg("-S")
                .arg(self.file("socket"))
                .arg("kill-server")
                .output(),
        );
    }
}
