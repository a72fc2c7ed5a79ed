//! A client that sends exactly the bytes it is told to, and sees exactly what comes back.

use super::PATIENCE;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::LazyLock;
use std::time::Duration;

use super::wire::{self, Head};

/// One connection.
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status line and headers.
    pub head: Head,
    /// The body, its coding taken off.
    pub body: Vec<u8>,
    /// Trailer lines.
    pub trailers: Vec<(String, String)>,
}

/// A POST of this body to the named entry.
pub fn post(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /ai_server/ HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

impl Client {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the gateway listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Waits this long for what is read from here on.
    pub fn patient(&self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).expect("a timeout");
    }

    /// Sends these bytes. A gateway that closed meanwhile is seen when reading.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _closed_is_seen_when_reading = self.stream.write_all(bytes.as_ref());
    }

    /// Sends this over and over until nothing was taken for that long.
    pub fn send_until_blocked(&mut self, bytes: &[u8], time: Duration) {
        wire::send_until_blocked(&mut self.stream, bytes, time);
    }

    /// Says that nothing more will be sent.
    pub fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("it is open");
    }

    /// Leaves by a reset, at once, whatever is still on its way.
    pub fn reset(self) {
        let linger = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        linger.expect("it is open");
    }

    /// Exactly this many bytes.
    #[track_caller]
    pub fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(self.fill(), "closed after {:?}", self.buffer.as_slice());
        }
        self.buffer.drain(..count).collect()
    }

    /// Bytes up to and with these; panics when the connection ends before.
    #[track_caller]
    pub fn read_until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = wire::find(&self.buffer, end.as_bytes()) {
                let taken: Vec<u8> = self.buffer.drain(..at + end.len()).collect();
                return String::from_utf8(taken).expect("text");
            }
            assert!(
                self.fill(),
                "closed after {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        }
    }

    /// The next head, also an interim one.
    #[track_caller]
    pub fn read_head(&mut self) -> Head {
        Head::parse(&self.read_until("\r\n\r\n"))
    }

    /// The answer to a request that was not HEAD.
    #[track_caller]
    pub fn read_answer(&mut self) -> Answer {
        let head = self.read_head();
        self.read_body(head)
    }

    /// The body that belongs to a head.
    #[track_caller]
    pub fn read_body(&mut self, head: Head) -> Answer {
        let mut trailers = Vec::new();
        let body = if head.has("transfer-encoding", "chunked") {
            let mut body = Vec::new();
            loop {
                let line = self.read_until("\r\n");
                let size = usize::from_str_radix(line.trim_end(), 16).expect("a chunk size");
                if size == 0 {
                    break;
                }
                body.extend(self.read_exactly(size));
                assert_eq!(self.read_exactly(2), b"\r\n");
            }
            loop {
                let line = self.read_until("\r\n");
                match line.trim_end().split_once(": ") {
                    Some((name, value)) => trailers.push((name.to_owned(), value.to_owned())),
                    None => break,
                }
            }
            body
        } else if let Some(length) = head.value("content-length") {
            self.read_exactly(length.parse().expect("a length"))
        } else if matches!(head.status, 100..200 | 204 | 304) {
            Vec::new()
        } else {
            self.read_to_end().expect("a close")
        };
        Answer {
            head,
            body,
            trailers,
        }
    }

    /// All bytes until an orderly close; an error where the connection was reset.
    pub fn read_to_end(&mut self) -> Result<Vec<u8>, ErrorKind> {
        let mut rest = std::mem::take(&mut self.buffer);
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => Ok(rest),
            Err(error) => Err(error.kind()),
        }
    }

    /// Nothing more comes and the connection ends.
    #[track_caller]
    pub fn expect_close(&mut self) {
        match self.read_to_end() {
            Ok(rest) => assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest)),
            Err(kind) => assert_eq!(kind, ErrorKind::ConnectionReset, "still open"),
        }
    }

    /// Nothing comes within this time, and the connection stays open.
    #[track_caller]
    pub fn expect_silence(&mut self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).expect("a timeout");
        let read = self.stream.read(&mut [0; 1]).map_err(|error| error.kind());
        assert!(
            matches!(read, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)),
            "{read:?}"
        );
        self.stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout");
    }

    #[track_caller]
    fn fill(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        let read = self.stream.read(&mut piece).expect("bytes in time");
        self.buffer.extend(piece.iter().take(read));
        read > 0
    }
}

impl Answer {
    /// The body as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// The value of a header that stands there once.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.value(name)
    }

    /// An answer in the standard output form with this status and code; gives its `msg`.
    #[track_caller]
    pub fn error(&self, status: u16, code: &str) -> String {
        let said = (self.head.status, self.header("x-smartlink-error"));
        assert_eq!(said, (status, Some(code)), "{self:?}");
        let json: serde_json::Value = serde_json::from_slice(&self.body).expect("JSON");
        assert!(STANDARD_OUTPUT.is_valid(&json), "{json}");
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert!(self.header("x-request-id").is_some(), "{self:?}");
        if status == 503 || status == 429 {
            assert!(self.header("retry-after").is_some(), "{self:?}");
        }
        let msg = json.get("msg").and_then(serde_json::Value::as_str);
        msg.expect("a text").to_owned()
    }
}

static STANDARD_OUTPUT: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/standard_output.json");
    let schema = std::fs::read_to_string(path).expect("the schema");
    let schema = serde_json::from_str(&schema).expect("JSON");
    jsonschema::validator_for(&schema).expect("a schema")
});
