//! Gateways in processes of their own, which can be killed.

use std::process::{Child, Command, Stdio};

use super::redis::Redis;

/// A gateway in a process of its own, killed when dropped.
pub struct Process(Child);

impl Process {
    /// A gateway of one thread, on free ports.
    pub fn start(redis: &Redis, instance: &str) -> Self {
        Self::start_with(redis, instance, |command| command)
    }

    /// The same with other flags or variables.
    pub fn start_with(
        redis: &Redis,
        instance: &str,
        change: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_smartlink"));
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--threads", "1", "--redis", &redis.url()])
            .args(["--instance", instance])
            .stderr(Stdio::null());
        Self(change(&mut command).spawn().expect("it starts"))
    }

    /// Its resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number
            .and_then(|text| text.parse::<u64>().ok())
            .expect("a number")
            * 1_024
    }

    /// Ends it without a chance to say goodbye.
    pub fn kill(&mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Some tests killed it already.
        let _over = self.0.kill();
        let _over = self.0.wait();
    }
}
