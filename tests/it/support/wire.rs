//! Just enough of HTTP/1.1 for both ends of a test.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

/// A start line and header lines, in order and as written but for the case of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The first line.
    pub start: String,
    /// The status of an answer; 0 in a request.
    pub status: u16,
    /// The header lines, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// Takes the text of a head apart.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let start = lines.next().expect("a first line").to_owned();
        let status = start
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5));
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').expect("a header line");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Self {
            status: status.map_or(0, |status| status.parse().expect("a status")),
            headers: headers.collect(),
            start,
        }
    }

    /// The value of a header; panics where it stands there twice.
    #[track_caller]
    pub fn value(&self, name: &str) -> Option<&str> {
        let values = self.values(name);
        assert!(values.len() <= 1, "{name} twice: {self:?}");
        values.first().copied()
    }

    /// All values of a header.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let lines = self.headers.iter().filter(|(known, _)| known == name);
        lines.map(|(_, value)| value.as_str()).collect()
    }

    /// Whether the header has this value.
    pub fn has(&self, name: &str, value: &str) -> bool {
        self.values(name).contains(&value)
    }
}

/// Sends this over and over until the socket took nothing for that long, or broke.
pub fn send_until_blocked(stream: &mut TcpStream, bytes: &[u8], time: Duration) {
    stream.set_write_timeout(Some(time)).expect("a timeout");
    while stream.write(bytes).is_ok() {}
    stream.set_write_timeout(None).expect("no timeout");
}

/// Where these bytes begin.
pub fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, wanted)
}
