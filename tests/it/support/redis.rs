//! A private Redis: on its own free port, in its own folder, killed when dropped.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::port::Port;
use super::{eventually, secs};

/// A private Redis server.
pub struct Redis {
    folder: TempDir,
    port: Port,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Redis {
    /// A server with no data, no persistence and default settings.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// As `start`, with more command-line arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        let mut redis = Self {
            folder: tempfile::tempdir().expect("a folder"),
            port: Port::reserve(),
            arguments: arguments.iter().map(|&text| text.to_owned()).collect(),
            child: None,
        };
        redis.restart();
        redis
    }

    /// A node of a Cluster, which knows of no other yet.
    pub fn start_node() -> Self {
        let mut node = Self {
            folder: tempfile::tempdir().expect("a folder"),
            // Nodes speak to each other 10,000 ports higher.
            port: Port::reserve_below(65_535 - 10_000),
            // A node that has met no other does not know its own address.
            arguments: [
                "--cluster-enabled",
                "yes",
                "--cluster-announce-ip",
                "127.0.0.1",
            ]
            .map(str::to_owned)
            .into(),
            child: None,
        };
        node.restart();
        node
    }

    /// Starts it (again), empty, on the same port and socket.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "kill it first");
        let child = Command::new(binary())
            .args([
                "--port",
                &self.port.number().to_string(),
                "--bind",
                "127.0.0.1",
            ])
            .args(["--save", "", "--appendonly", "no", "--loglevel", "warning"])
            // Only DEBUG fills a server with keys quickly; versions before 7 always allow it.
            .args(["--enable-debug-command", "local"])
            .arg("--unixsocket")
            .arg(self.socket())
            .args(&self.arguments)
            .current_dir(self.folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server or valkey-server runs");
        self.child = Some(child);
        eventually("redis answers", || {
            let mut connection = Connection::open(self.port.number()).ok()?;
            match connection.try_call(&["PING"]) {
                Ok(_) => Some(()),
                Err(error) => error.starts_with("NOAUTH").then_some(()),
            }
        });
    }

    /// Ends it without a chance to say goodbye.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it runs");
            child.wait().expect("it ends");
        }
    }

    /// Freezes it: connections stay open, nothing is answered.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        let done = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(done.expect("kill runs").success());
    }

    /// The number of its port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Where it is, by TCP.
    pub fn url(&self) -> String {
        format!("redis://{}", self.port.address())
    }

    /// Its unix socket.
    pub fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// A folder that lives as long as the server.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// A connection of its own.
    pub fn connect(&self) -> Connection {
        Connection::open(self.port.number()).expect("redis accepts")
    }

    /// One command on a connection of its own; panics on an error reply.
    #[track_caller]
    pub fn call(&self, words: &[&str]) -> Reply {
        self.connect().call(words)
    }

    /// One command as a person would type it, words separated by spaces.
    #[track_caller]
    pub fn run(&self, line: &str) -> Reply {
        self.call(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// The fields of a hash.
    #[track_caller]
    pub fn hash(&self, key: &str) -> std::collections::BTreeMap<String, String> {
        let texts = self.call(&["HGETALL", key]).texts();
        texts
            .chunks_exact(2)
            .filter_map(|pair| Some((pair.first()?.clone(), pair.last()?.clone())))
            .collect()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.thaw();
            self.kill();
        }
    }
}

/// The server program that is there.
pub fn binary() -> &'static str {
    let there = |name: &&str| {
        Command::new(name)
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .is_ok()
    };
    ["redis-server", "valkey-server"]
        .into_iter()
        .find(there)
        .expect("redis-server or valkey-server on PATH")
}

/// An answer of Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing.
    Nil,
    /// A number.
    Number(i64),
    /// A text, or a status.
    Text(String),
    /// Several answers.
    Many(Vec<Reply>),
}

impl Reply {
    /// The number; panics where it is none.
    #[track_caller]
    pub fn number(self) -> i64 {
        match self {
            Self::Number(number) => number,
            other => panic!("no number: {other:?}"),
        }
    }

    /// All texts, those in answers within answers too.
    pub fn texts(self) -> Vec<String> {
        match self {
            Self::Nil => Vec::new(),
            Self::Number(number) => vec![number.to_string()],
            Self::Text(text) => vec![text],
            Self::Many(replies) => replies.into_iter().flat_map(Self::texts).collect(),
        }
    }
}

/// A plain RESP2 connection, so that tests speak to Redis by other code than ours.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// A connection to the server on that port of this machine.
    pub fn open(port: u16) -> std::io::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, secs(1))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends a command and reads its answer; panics on an error reply.
    #[track_caller]
    pub fn call(&mut self, words: &[&str]) -> Reply {
        self.try_call(words)
            .unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// As `call`, words separated by spaces.
    #[track_caller]
    pub fn run(&mut self, line: &str) -> Reply {
        self.call(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Sends a command and reads its answer.
    pub fn try_call(&mut self, words: &[&str]) -> Result<Reply, String> {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.send(&words).map_err(|error| error.to_string())?;
        self.read()
    }

    /// Sends a command without reading its answer.
    pub fn send(&mut self, words: &[&[u8]]) -> std::io::Result<()> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend(format!("${}\r\n", word.len()).into_bytes());
            bytes.extend(*word);
            bytes.extend(b"\r\n");
        }
        self.stream.get_mut().write_all(&bytes)
    }

    /// Reads one answer.
    pub fn read(&mut self) -> Result<Reply, String> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line);
        read.map_err(|error| error.to_string())?;
        let line = line.trim_end();
        if line.is_empty() {
            return Err("closed".to_owned());
        }
        let (kind, rest) = line.split_at(1);
        let number = || rest.parse::<i64>().map_err(|error| error.to_string());
        match kind {
            "+" => Ok(Reply::Text(rest.to_owned())),
            "-" => Err(rest.to_owned()),
            ":" => number().map(Reply::Number),
            "$" => match usize::try_from(number()?) {
                Ok(len) => self.bulk(len),
                Err(_) => Ok(Reply::Nil),
            },
            "*" => match usize::try_from(number()?) {
                Ok(len) => (0..len)
                    .map(|_| self.read())
                    .collect::<Result<_, _>>()
                    .map(Reply::Many),
                Err(_) => Ok(Reply::Nil),
            },
            _ => Err(format!("not RESP2: {line}")),
        }
    }

    fn bulk(&mut self, len: usize) -> Result<Reply, String> {
        let mut bytes = vec![0; len + 2];
        self.stream
            .read_exact(&mut bytes)
            .map_err(|error| error.to_string())?;
        bytes.truncate(len);
        Ok(Reply::Text(String::from_utf8_lossy(&bytes).into_owned()))
    }
}
