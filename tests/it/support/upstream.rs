//! Upstreams that answer by script, byte for byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::wire::{self, Head};
use super::{eventually, secs};

/// A request as it reached an upstream.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Request line and headers.
    pub head: Head,
    /// The body, its coding taken off.
    pub body: Vec<u8>,
    /// Trailer lines.
    pub trailers: Vec<String>,
}

#[derive(Default)]
struct Log {
    connections: usize,
    requests: Vec<Seen>,
}

/// A listening upstream; each connection runs the script on a thread of its own.
pub struct Upstream {
    address: SocketAddr,
    log: Arc<Mutex<Log>>,
    closing: Arc<AtomicBool>,
}

/// One connection of an upstream.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    number: usize,
    log: Arc<Mutex<Log>>,
}

impl Upstream {
    /// An upstream whose connections run this script.
    pub fn start(script: impl Fn(&mut Connection) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        Self::start_on(listener, script)
    }

    /// The same on this socket.
    pub fn start_on(
        listener: TcpListener,
        script: impl Fn(&mut Connection) + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("an address");
        let log: Arc<Mutex<Log>> = Arc::default();
        let script = Arc::new(script);
        let closing: Arc<AtomicBool> = Arc::default();
        let upstream = Self {
            address,
            log: Arc::clone(&log),
            closing: Arc::clone(&closing),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if closing.load(Ordering::SeqCst) {
                    break;
                }
                let stream = stream.expect("a connection");
                stream.set_nodelay(true).expect("no delay");
                stream.set_read_timeout(Some(secs(20))).expect("a timeout");
                let number = {
                    let mut log = log.lock().expect("no panic");
                    log.connections += 1;
                    log.connections - 1
                };
                let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                std::thread::spawn(move || {
                    script(&mut Connection {
                        stream,
                        buffer: Vec::new(),
                        number,
                        log,
                    });
                });
            }
        });
        upstream
    }

    /// An upstream that answers every request with these bytes and keeps connections open.
    pub fn answering(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::start(move |connection| {
            while connection.read_request().is_some() {
                connection.send(&bytes);
            }
        })
    }

    /// An upstream that answers `200` with this body.
    pub fn saying(body: &str) -> Self {
        Self::answering(format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    /// An upstream that answers each request with these bytes and closes.
    pub fn closing(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::start(move |connection| {
            if connection.read_request().is_some() {
                connection.send(&bytes);
            }
        })
    }

    /// Listens no more; what is connected goes on.
    pub fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        eventually("nobody listens", || TcpStream::connect(self.address).err());
    }

    /// A URL on it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Host and port.
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// The whole requests that reached it.
    pub fn seen(&self) -> Vec<Seen> {
        self.log.lock().expect("no panic").requests.clone()
    }

    /// The only request that reached it.
    #[track_caller]
    pub fn only(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }

    /// How many connections were made to it.
    pub fn connections(&self) -> usize {
        self.log.lock().expect("no panic").connections
    }
}

impl Connection {
    /// The number of this connection, from 0.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Reads one whole request; `None` where the connection ends before it is complete.
    pub fn read_request(&mut self) -> Option<Seen> {
        let head = self.read_head()?;
        let (body, trailers) = self.read_body(&head)?;
        let seen = Seen {
            head,
            body,
            trailers,
        };
        self.log
            .lock()
            .expect("no panic")
            .requests
            .push(seen.clone());
        Some(seen)
    }

    /// Reads the head of a request.
    pub fn read_head(&mut self) -> Option<Head> {
        let text = self.read_until("\r\n\r\n")?;
        Some(Head::parse(&text))
    }

    /// Reads the body that belongs to a head, and trailer lines.
    pub fn read_body(&mut self, head: &Head) -> Option<(Vec<u8>, Vec<String>)> {
        if let Some(length) = head.value("content-length") {
            let body = self.read_exactly(length.parse().expect("a length"))?;
            return Some((body, Vec::new()));
        }
        if !head.has("transfer-encoding", "chunked") {
            return Some((Vec::new(), Vec::new()));
        }
        let mut body = Vec::new();
        loop {
            let line = self.read_until("\r\n")?;
            let size = usize::from_str_radix(line.trim_end(), 16).expect("a chunk size");
            if size == 0 {
                break;
            }
            body.extend(self.read_exactly(size)?);
            assert_eq!(self.read_exactly(2)?, b"\r\n");
        }
        let mut trailers = Vec::new();
        loop {
            let line = self.read_until("\r\n")?;
            match line.trim_end() {
                "" => return Some((body, trailers)),
                line => trailers.push(line.to_owned()),
            }
        }
    }

    /// Bytes up to and with these.
    pub fn read_until(&mut self, end: &str) -> Option<String> {
        loop {
            if let Some(at) = wire::find(&self.buffer, end.as_bytes()) {
                let taken: Vec<u8> = self.buffer.drain(..at + end.len()).collect();
                return Some(String::from_utf8_lossy(&taken).into_owned());
            }
            self.fill()?;
        }
    }

    /// Exactly this many bytes.
    pub fn read_exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            self.fill()?;
        }
        Some(self.buffer.drain(..count).collect())
    }

    /// Sends bytes; a gateway that left is no concern of the script.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _left = self.stream.write_all(bytes.as_ref());
    }

    /// Sends this over and over until nothing was taken for that long.
    pub fn send_until_blocked(&mut self, bytes: &[u8], time: Duration) {
        wire::send_until_blocked(&mut self.stream, bytes, time);
    }

    /// Closes both directions.
    pub fn close(&mut self) {
        let _left = self.stream.shutdown(Shutdown::Both);
    }

    /// Waits until the gateway closes; how long that took is up to the caller to measure.
    pub fn wait_for_close(&mut self) {
        while self.fill().is_some() {}
    }

    fn fill(&mut self) -> Option<()> {
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => None,
            Ok(read) => {
                self.buffer.extend(piece.iter().take(read));
                Some(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Some(()),
            Err(_) => None,
        }
    }
}

/// A gate that a script waits at until the test opens it.
#[derive(Clone, Default)]
pub struct Gate(Arc<Mutex<bool>>);

impl Gate {
    /// Lets the script go on.
    pub fn open(&self) {
        *self.0.lock().expect("no panic") = true;
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        *self.0.lock().expect("no panic")
    }

    /// Waits until it is open.
    #[track_caller]
    pub fn pass(&self) {
        eventually("the gate opens", || self.is_open().then_some(()));
    }
}
