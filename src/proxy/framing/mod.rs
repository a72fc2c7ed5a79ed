//! A strict check of request framing, in front of the HTTP codec.
//!
//! Every byte that a client sends passes here before hyper sees it. Whatever RFC 9112 says a
//! server must refuse, and that hyper or other implementations read with good will, is refused:
//! bare CR or LF, folded lines, repeated or odd `Content-Length`, `Transfer-Encoding` beside it or
//! other than `chunked`, a missing or second `Host`, sloppy chunk sizes.
//!
//! Invariant: no byte is changed, and nothing behind the first doubt is passed on.

mod field;
mod host;

use std::fmt;

use memchr::{memchr, memchr2};

use field::{hex, is_field, parse_length, value_of};
use host::is_host;

/// The most bytes of chunk extensions in one body; nobody uses them but attackers.
const EXTENSIONS_MAX: usize = 16 * 1024;
/// Empty lines tolerated before a request line (RFC 9112 section 2.2 asks for one).
const EMPTY_LINES_MAX: usize = 2;

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// The framing is malformed or ambiguous.
    Malformed(&'static str),
    /// Something is larger than it may be.
    TooLarge(Bound),
}

/// How large requests may be beside their bodies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The largest request head, and the largest trailer section, in bytes.
    pub(super) head: usize,
    /// The most header lines of a request, and trailer lines.
    pub(super) headers: usize,
}

/// What a request has too much of; the text names the flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// Bytes of its head or trailers.
    Head(usize),
    /// Lines of its head or trailers.
    Headers(usize),
    /// Bytes of chunk extensions.
    Extensions,
    /// Bytes of its target; seen by the codec.
    Target,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(most) => write!(f, "--max-head is {most} bytes"),
            Self::Headers(most) => write!(f, "--max-headers is {most}"),
            Self::Extensions => write!(f, "chunk extensions of more than {EXTENSIONS_MAX} bytes"),
            Self::Target => write!(f, "a target of more than 65534 bytes"),
        }
    }
}

/// Where in the stream of requests the next byte stands.
#[derive(Debug)]
enum At {
    /// Before or in a request line.
    Start,
    /// In the header lines.
    Headers,
    /// In a body of known length: bytes left.
    Body(u64),
    /// In the line of a chunk's size.
    ChunkSize,
    /// In a chunk: bytes left.
    Chunk(u64),
    /// In the line end after a chunk's data.
    ChunkEnd,
    /// In the trailer section.
    Trailers,
    /// After a request that asks for another protocol: whose bytes these are is not decided.
    Undecided,
}

/// What the header lines said about framing.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one fact about one header line"
)]
struct Head {
    http10: bool,
    length: Option<u64>,
    chunked: bool,
    hosts: u32,
    upgrade: bool,
    connection_upgrade: bool,
}

/// Follows one connection's requests.
#[derive(Debug)]
pub(super) struct Framing {
    at: At,
    head: Head,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// Bytes, lines and empty lines of this section so far.
    bytes: usize,
    lines: usize,
    empty_lines: usize,
    extensions: usize,
    /// Complete heads so far.
    heads: u64,
    bounds: Bounds,
}

impl Framing {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            at: At::Start,
            head: Head::default(),
            line: Vec::new(),
            bytes: 0,
            lines: 0,
            empty_lines: 0,
            extensions: 0,
            heads: 0,
        }
    }

    /// Whether a request is complete and no byte of a next one has come.
    pub(super) fn between_requests(&self) -> bool {
        matches!(self.at, At::Start) && self.bytes == 0
    }

    /// Whether a head began and is not complete.
    pub(super) fn in_head(&self) -> bool {
        match self.at {
            At::Start => self.bytes > 0,
            At::Headers => true,
            _ => false,
        }
    }

    /// Whether a body is still to come.
    pub(super) fn in_body(&self) -> bool {
        !matches!(self.at, At::Start | At::Headers | At::Undecided)
    }

    /// Whether the last request asked for another protocol and the answer decides.
    pub(super) fn is_undecided(&self) -> bool {
        matches!(self.at, At::Undecided)
    }

    /// The upgrade was declined: what comes now are requests again.
    pub(super) fn decline_upgrade(&mut self) {
        self.begin();
    }

    /// How many heads were complete so far.
    pub(super) fn heads(&self) -> u64 {
        self.heads
    }

    /// Checks the next bytes; how many may be passed on. All, unless the protocol may be switched:
    /// then those behind the head that asked wait for the answer. In case of a violation those that
    /// belong to complete requests before may still be passed on.
    pub(super) fn check(&mut self, bytes: &[u8]) -> Result<usize, (usize, Violation)> {
        let mut rest = bytes;
        let mut passed = 0;
        while !rest.is_empty() && !self.is_undecided() {
            let taken = self.step(rest).map_err(|violation| (passed, violation))?;
            rest = rest.get(taken..).unwrap_or_default();
            if self.between_requests() {
                passed = bytes.len() - rest.len();
            }
        }
        Ok(bytes.len() - rest.len())
    }

    fn step(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        match &mut self.at {
            At::Undecided => Ok(0),
            At::Body(left) => {
                let taken = take(left, bytes.len());
                if *left == 0 {
                    self.begin();
                }
                Ok(taken)
            }
            At::Chunk(left) => {
                let taken = take(left, bytes.len());
                if *left == 0 {
                    self.at = At::ChunkEnd;
                }
                Ok(taken)
            }
            At::Start | At::Headers | At::ChunkSize | At::ChunkEnd | At::Trailers => {
                self.take_line(bytes)
            }
        }
    }

    /// Takes bytes up to the end of a line, or all of them into the buffer.
    fn take_line(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let end = memchr2(b'\r', b'\n', bytes);
        let Some(end) = end else {
            return self.keep(bytes);
        };
        if bytes.get(end) == Some(&b'\n') {
            // Only a CR that ended the bytes before may stand in front of this LF.
            if end == 0 && self.line.last() == Some(&b'\r') {
                let mut line = std::mem::take(&mut self.line);
                line.pop();
                self.count(1)?;
                self.on_line(&line)?;
                line.clear();
                self.line = line;
                return Ok(1);
            }
            return Err(Violation::Malformed("a line ends in a bare LF"));
        }
        if self.line.last() == Some(&b'\r') {
            return Err(Violation::Malformed("a bare CR"));
        }
        match bytes.get(end + 1) {
            None => self.keep(bytes),
            Some(b'\n') => {
                self.count(end + 2)?;
                let last = bytes.get(..end).unwrap_or_default();
                if self.line.is_empty() {
                    self.on_line(last)?;
                } else {
                    let mut line = std::mem::take(&mut self.line);
                    line.extend_from_slice(last);
                    self.on_line(&line)?;
                    line.clear();
                    self.line = line;
                }
                Ok(end + 2)
            }
            Some(_) => Err(Violation::Malformed("a bare CR")),
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        if self.line.last() == Some(&b'\r') {
            return Err(Violation::Malformed("a bare CR"));
        }
        self.count(bytes.len())?;
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn count(&mut self, bytes: usize) -> Result<(), Violation> {
        self.bytes += bytes;
        let (most, bound) = if matches!(self.at, At::ChunkSize | At::ChunkEnd) {
            (EXTENSIONS_MAX, Bound::Extensions)
        } else {
            (self.bounds.head, Bound::Head(self.bounds.head))
        };
        if self.bytes > most {
            return Err(Violation::TooLarge(bound));
        }
        Ok(())
    }

    fn on_line(&mut self, line: &[u8]) -> Result<(), Violation> {
        match self.at {
            At::Start => self.on_request_line(line),
            At::Headers => self.on_header(line),
            At::ChunkSize => self.on_chunk_size(line),
            At::ChunkEnd if line.is_empty() => {
                self.expect_chunk();
                Ok(())
            }
            At::ChunkEnd => Err(Violation::Malformed("a chunk is longer than its size")),
            At::Trailers => self.on_trailer(line),
            At::Body(_) | At::Chunk(_) | At::Undecided => Ok(()),
        }
    }

    fn on_request_line(&mut self, line: &[u8]) -> Result<(), Violation> {
        if line.is_empty() {
            self.empty_lines += 1;
            self.bytes = 0;
            if self.empty_lines > EMPTY_LINES_MAX {
                return Err(Violation::Malformed("empty lines instead of a request"));
            }
            return Ok(());
        }
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(Violation::Malformed("white space before the request line"));
        }
        // A target has no fragment; the codec would drop it and what follows.
        let target = memchr(b' ', line).and_then(|end| line.get(end..));
        if target.is_some_and(|target| memchr(b'#', target).is_some()) {
            return Err(Violation::Malformed("a fragment in the target"));
        }
        self.head = Head {
            http10: line.ends_with(b" HTTP/1.0"),
            ..Head::default()
        };
        self.at = At::Headers;
        Ok(())
    }

    fn on_header(&mut self, line: &[u8]) -> Result<(), Violation> {
        if line.is_empty() {
            return self.on_head_end();
        }
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(Violation::Malformed("a folded header line"));
        }
        self.count_line()?;
        // Only five names matter; all others are left to the codec.
        match line.first().map(u8::to_ascii_lowercase) {
            Some(b'h') => self.on_host(line),
            Some(b'c') => self.on_length_or_connection(line),
            Some(b't') => self.on_transfer_encoding(line),
            Some(b'u') => {
                self.head.upgrade |= value_of(line, b"upgrade").is_some();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn on_host(&mut self, line: &[u8]) -> Result<(), Violation> {
        let Some(value) = value_of(line, b"host") else {
            return Ok(());
        };
        self.head.hosts += 1;
        if is_host(value) {
            Ok(())
        } else {
            Err(Violation::Malformed("an invalid Host"))
        }
    }

    fn on_length_or_connection(&mut self, line: &[u8]) -> Result<(), Violation> {
        if let Some(value) = value_of(line, b"content-length") {
            if self.head.length.is_some() {
                return Err(Violation::Malformed("Content-Length twice"));
            }
            self.head.length = Some(parse_length(value)?);
        } else if let Some(value) = value_of(line, b"connection") {
            self.head.connection_upgrade |= value
                .split(|b| *b == b',')
                .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
        }
        Ok(())
    }

    fn on_transfer_encoding(&mut self, line: &[u8]) -> Result<(), Violation> {
        let Some(value) = value_of(line, b"transfer-encoding") else {
            return Ok(());
        };
        if self.head.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Violation::Malformed(
                "a Transfer-Encoding other than chunked",
            ));
        }
        self.head.chunked = true;
        Ok(())
    }

    fn on_head_end(&mut self) -> Result<(), Violation> {
        let head = std::mem::take(&mut self.head);
        self.heads += 1;
        if head.hosts > 1 {
            return Err(Violation::Malformed("Host twice"));
        }
        if head.hosts == 0 && !head.http10 {
            return Err(Violation::Malformed("no Host"));
        }
        if head.chunked && head.http10 {
            return Err(Violation::Malformed("Transfer-Encoding in HTTP/1.0"));
        }
        if head.chunked && head.length.is_some() {
            return Err(Violation::Malformed(
                "Content-Length with Transfer-Encoding",
            ));
        }
        self.begin();
        if head.chunked {
            self.expect_chunk();
        } else if let Some(length @ 1..) = head.length {
            self.at = At::Body(length);
        } else if head.upgrade && head.connection_upgrade && !head.http10 {
            self.at = At::Undecided;
        }
        Ok(())
    }

    fn on_chunk_size(&mut self, line: &[u8]) -> Result<(), Violation> {
        let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        let (size, extension) = line.split_at(digits);
        if digits == 0 || digits > 15 {
            return Err(Violation::Malformed("a chunk size that is not a number"));
        }
        if !extension.is_empty() {
            if extension.trim_ascii_start().first() != Some(&b';')
                || extension
                    .iter()
                    .any(|b| b.is_ascii_control() && *b != b'\t')
            {
                return Err(Violation::Malformed("a chunk size that is not a number"));
            }
            self.extensions += extension.len();
            if self.extensions > EXTENSIONS_MAX {
                return Err(Violation::TooLarge(Bound::Extensions));
            }
        }
        let size = size
            .iter()
            .fold(0_u64, |sum, digit| sum << 4 | u64::from(hex(*digit)));
        self.bytes = 0;
        self.at = if size == 0 {
            At::Trailers
        } else {
            At::Chunk(size)
        };
        Ok(())
    }

    fn on_trailer(&mut self, line: &[u8]) -> Result<(), Violation> {
        if line.is_empty() {
            self.begin();
            return Ok(());
        }
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(Violation::Malformed("a folded trailer line"));
        }
        if !is_field(line) {
            return Err(Violation::Malformed("a malformed trailer line"));
        }
        self.count_line()
    }

    fn count_line(&mut self) -> Result<(), Violation> {
        self.lines += 1;
        if self.lines > self.bounds.headers {
            return Err(Violation::TooLarge(Bound::Headers(self.bounds.headers)));
        }
        Ok(())
    }

    fn begin(&mut self) {
        self.at = At::Start;
        (self.bytes, self.lines, self.empty_lines, self.extensions) = (0, 0, 0, 0);
        if self.line.capacity() > 1024 {
            self.line = Vec::new();
        }
    }

    fn expect_chunk(&mut self) {
        self.at = At::ChunkSize;
        self.bytes = 0;
    }
}

/// Takes at most `available` off `left`; how many that are.
fn take(left: &mut u64, available: usize) -> usize {
    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(available);
    *left -= taken as u64;
    taken
}

#[cfg(test)]
mod tests;
