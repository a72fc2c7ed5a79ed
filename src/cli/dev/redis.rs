//! The private Redis of `dev`: found or installed, on a loopback port, in a folder of its own.
//!
//! Invariant: it never outlives this process. A shell stands between the two and reads a pipe that
//! only this process holds; when the pipe closes, however that came about, the shell ends Redis and
//! removes the folder.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Error;

/// Finds a server, or installs one; the last line it prints is the path.
const FIND: &str = include_str!("../../../scripts/install-redis.sh");

/// Runs the server until standard input closes. It was started for this process alone and holds
/// nothing worth keeping, so it is killed outright: that also ends one that was stopped.
const KEEP: &str = r#"dir=$1; shift
"$@" >"$dir/log" 2>&1 & server=$!
cat >/dev/null
kill -9 "$server"
wait "$server"
rm -rf "$dir""#;

/// How long a start may take on a busy machine.
const START_MAX: Duration = Duration::from_secs(15);

/// Whether a missing server may be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Install {
    /// Yes.
    Allowed,
    /// No: only one that is there is used.
    Forbidden,
}

/// A running server; ends when dropped.
#[derive(Debug)]
pub(super) struct Redis {
    keeper: Child,
    address: SocketAddr,
}

/// The path of a Redis server on this machine.
pub(super) async fn find(install: Install) -> Result<PathBuf, Error> {
    let mut command = tokio::process::Command::new("sh");
    command.arg("-c").arg(FIND).arg("install-redis.sh");
    if install == Install::Forbidden {
        command.arg("--find-only");
    }
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(Error::FindRedis)?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().last() {
        Some(path) if output.status.success() => Ok(path.into()),
        _ => Err(Error::NoRedis),
    }
}

impl Redis {
    /// Starts the server at `program` on loopback and waits until it answers.
    pub(super) async fn start(program: &Path, port: Option<u16>) -> Result<Self, Error> {
        let address = free_port(port)?;
        let dir = folder(address);
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .map_err(Error::StartRedis)?;
        let keeper = Command::new("sh")
            .args(["-c", KEEP, "keep-redis"])
            .arg(&dir)
            .arg(program)
            .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
            .args([
                "--save",
                "",
                "--appendonly",
                "no",
                "--daemonize",
                "no",
                "--dir",
            ])
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C in a terminal reaches the whole group: this one ends by its pipe instead.
            .process_group(0)
            .spawn()
            .map_err(Error::StartRedis)?;
        let redis = Self { keeper, address };
        match timeout(START_MAX, redis.answers()).await {
            Ok(()) => Ok(redis),
            Err(_late) => Err(Error::RedisSilent(last_line(&dir.join("log")))),
        }
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends one command, written as after `redis-cli`; the first line of the answer.
    pub(super) async fn send(&self, command: &str) -> Result<String, Error> {
        let reply = self.exchange(command).await.map_err(Error::AskRedis)?;
        match reply.strip_prefix('-') {
            Some(refused) => Err(Error::AskRedis(io::Error::other(refused.to_owned()))),
            None => Ok(reply),
        }
    }

    /// Redis takes commands as plain lines ("inline"), which needs no client.
    async fn exchange(&self, command: &str) -> io::Result<String> {
        let mut stream = BufReader::new(TcpStream::connect(self.address).await?);
        stream.write_all(command.as_bytes()).await?;
        stream.write_all(b"\r\n").await?;
        let mut reply = String::new();
        stream.read_line(&mut reply).await?;
        Ok(reply.trim_end().to_owned())
    }

    async fn answers(&self) {
        while !matches!(self.exchange("PING").await.as_deref(), Ok("+PONG")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // Its folder is gone once the shell has ended; a failure leaves nobody to tell.
        drop(self.keeper.wait());
    }
}

/// The line to type for a command: with the client of this machine, else by the plain protocol.
pub(super) fn typed(port: u16, command: &str) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |client: &&str| std::env::split_paths(&path).any(|dir| dir.join(client).is_file());
    match ["redis-cli", "valkey-cli"].into_iter().find(there) {
        Some(client) => format!("{client} -p {port} {command}"),
        None => format!(r"printf '{command}\r\nQUIT\r\n' | nc 127.0.0.1 {port}"),
    }
}

/// A loopback address that nobody listens on: the port asked for, or any.
fn free_port(port: Option<u16>) -> Result<SocketAddr, Error> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(0)));
    TcpListener::bind(address)
        .and_then(|listener| listener.local_addr())
        .map_err(|cause| Error::Listen { address, cause })
}

/// The folder of the server at `address`: its log, nothing else.
fn folder(address: SocketAddr) -> PathBuf {
    let (pid, port) = (std::process::id(), address.port());
    std::env::temp_dir().join(format!("smartlink-dev-{pid}-{port}"))
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let last = text.lines().rfind(|line| !line.trim().is_empty());
    last.unwrap_or("its log is empty").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_private_redis_leaves_nothing_behind() {
        let server = find(Install::Forbidden).await.expect("a Redis server");
        let redis = Redis::start(&server, None).await.unwrap();
        let address = redis.address();
        assert_eq!(redis.send("HSET k f v").await.unwrap(), ":1");
        assert!(redis.send("HSET k").await.is_err());
        assert!(folder(address).exists());
        drop(redis);
        assert!(TcpStream::connect(address).await.is_err());
        assert!(!folder(address).exists());
    }
}
