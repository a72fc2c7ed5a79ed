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
