//! The chunked coding of an answer's body (RFC 9112 section 7.1), decoded strictly.

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use memchr::memchr;

use super::Broken;
use crate::proxy::headers;

/// The longest line of a chunk's size, extensions included.
const LINE_MAX: usize = 4 * 1024;
/// The largest trailer section, and the most lines in it.
const TRAILERS_MAX: usize = 16 * 1024;
const TRAILER_LINES_MAX: usize = 64;

/// Where in the coding the next byte stands.
#[derive(Debug)]
pub(super) enum Chunks {
    /// Before the line of a chunk's size.
    Size,
    /// In a chunk: bytes left.
    Data(u64),
    /// Before the line end behind a chunk's data.
    End,
    /// Before the trailer section.
    Trailers,
    /// Behind everything.
    Done,
}

impl Chunks {
    /// The next frame that is here, or `None` where more bytes are needed or the body ended.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame<Bytes>>, Broken> {
        loop {
            match self {
                Self::Size => {
                    let Some(line) = take_line(buffer, LINE_MAX)? else {
                        return Ok(None);
                    };
                    *self = match parse_size(&line)? {
                        0 => Self::Trailers,
                        size => Self::Data(size),
                    };
                }
                Self::Data(_) if buffer.is_empty() => return Ok(None),
                Self::Data(left) => {
                    let here = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(buffer.len());
                    *left -= here as u64;
                    if *left == 0 {
                        *self = Self::End;
                    }
                    return Ok(Some(Frame::data(buffer.split_to(here).freeze())));
                }
                Self::End => {
                    let Some(line) = take_line(buffer, 2)? else {
                        return Ok(None);
                    };
                    if !line.is_empty() {
                        return Err(Broken::Protocol);
                    }
                    *self = Self::Size;
                }
                Self::Trailers => {
                    let Some(trailers) = take_trailers(buffer)? else {
                        return Ok(None);
                    };
                    *self = Self::Done;
                    return Ok((!trailers.is_empty()).then(|| Frame::trailers(trailers)));
                }
                Self::Done => return Ok(None),
            }
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }
}

/// Takes a line off the buffer, without its CRLF.
fn take_line(buffer: &mut BytesMut, longest: usize) -> Result<Option<BytesMut>, Broken> {
    let Some(end) = memchr(b'\n', buffer) else {
        return if buffer.len() > longest {
            Err(Broken::Protocol)
        } else {
            Ok(None)
        };
    };
    let mut line = buffer.split_to(end);
    buffer.advance(1);
    if line.last() != Some(&b'\r') {
        return Err(Broken::Protocol);
    }
    line.truncate(end - 1);
    Ok(Some(line))
}

fn parse_size(line: &[u8]) -> Result<u64, Broken> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let (size, rest) = line.split_at(digits);
    let extension = rest.trim_ascii_start();
    if !(1..=15).contains(&digits) || !(rest.is_empty() || extension.first() == Some(&b';')) {
        return Err(Broken::Protocol);
    }
    let text = std::str::from_utf8(size).map_err(|_malformed| Broken::Protocol)?;
    u64::from_str_radix(text, 16).map_err(|_malformed| Broken::Protocol)
}

fn take_trailers(buffer: &mut BytesMut) -> Result<Option<HeaderMap>, Broken> {
    let mut lines = [httparse::EMPTY_HEADER; TRAILER_LINES_MAX];
    match httparse::parse_headers(buffer, &mut lines) {
        Ok(httparse::Status::Partial) if buffer.len() <= TRAILERS_MAX => Ok(None),
        Ok(httparse::Status::Partial) | Err(_) => Err(Broken::Protocol),
        Ok(httparse::Status::Complete((taken, lines))) => {
            let mut trailers = HeaderMap::new();
            for line in lines {
                let name = HeaderName::from_bytes(line.name.as_bytes())
                    .map_err(|_malformed| Broken::Protocol)?;
                let value =
                    HeaderValue::from_bytes(line.value).map_err(|_malformed| Broken::Protocol)?;
                if headers::may_trail(&name) {
                    trailers.append(name, value);
                }
            }
            buffer.advance(taken);
            Ok(Some(trailers))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes a body that arrives in pieces of `piece` bytes.
    fn decode(coded: &[u8], piece: usize) -> Result<(Vec<u8>, usize, bool), Broken> {
        let (mut chunks, mut buffer) = (Chunks::Size, BytesMut::new());
        let (mut body, mut trailers) = (Vec::new(), 0);
        for piece in coded.chunks(piece) {
            buffer.extend_from_slice(piece);
            while let Some(frame) = chunks.next(&mut buffer)? {
                match frame.into_data() {
                    Ok(data) => body.extend_from_slice(&data),
                    Err(frame) => {
                        trailers += frame.into_trailers().expect("data or trailers").len();
                    }
                }
            }
        }
        Ok((body, trailers, chunks.is_done()))
    }

    #[test]
    fn chunks_decode_however_they_are_cut() {
        let coded = b"5\r\nhello\r\nA;x=\"y\"\r\n0123456789\r\n0\r\ndigest: abc\r\n\r\n";
        for piece in 1..=coded.len() {
            assert_eq!(
                decode(coded, piece).expect("valid"),
                (b"hello0123456789".to_vec(), 1, true),
                "{piece}"
            );
        }
        assert_eq!(
            decode(b"0\r\n\r\n", 1).expect("valid"),
            (Vec::new(), 0, true)
        );
        assert!(!decode(b"5\r\nhell", 64).expect("valid so far").2);
    }

    #[test]
    fn sloppy_chunks_are_refused() {
        for coded in [
            &b"5\nhello\r\n0\r\n\r\n"[..],
            b"5\r\nhelloX\r\n",
            b"5\r\nhello\n0\r\n",
            b"x\r\n",
            b"\r\n",
            b" 5\r\nhello\r\n",
            b"5 x\r\nhello\r\n",
            b"-1\r\n",
            b"0x5\r\nhello\r\n",
            b"ffffffffffffffff\r\n",
            b"0\r\nno colon\r\n\r\n",
        ] {
            assert!(
                decode(coded, 64).is_err(),
                "{}",
                String::from_utf8_lossy(coded)
            );
        }
    }
}
