//! When server-sent events arrived: an event ends with an empty line (WHATWG HTML, 9.2.6).

/// The most events whose arrival is noted.
pub const EVENTS_MAX: usize = 1_000;

/// Follows a stream of events.
#[derive(Debug, Default)]
pub struct Events {
    at_ms: Vec<u64>,
    /// The line so far has bytes.
    in_line: bool,
    /// The event so far has lines.
    in_event: bool,
    /// The byte before was a carriage return, which with a line feed is one line's end.
    returned: bool,
}

impl Events {
    /// These bytes arrived now.
    pub fn feed(&mut self, bytes: &[u8], now_ms: u64) {
        if self.at_ms.len() >= EVENTS_MAX {
            return;
        }
        for byte in bytes {
            let follows = std::mem::replace(&mut self.returned, *byte == b'\r');
            match byte {
                b'\n' if follows => {}
                b'\n' | b'\r' => self.line_ends(now_ms),
                _ => self.in_line = true,
            }
        }
    }

    fn line_ends(&mut self, now_ms: u64) {
        if std::mem::take(&mut self.in_line) {
            self.in_event = true;
        } else if std::mem::take(&mut self.in_event) && self.at_ms.len() < EVENTS_MAX {
            self.at_ms.push(now_ms);
        }
    }

    /// When each event was here.
    #[must_use]
    pub fn into_times(self) -> Vec<u64> {
        self.at_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_end_with_an_empty_line_however_it_is_cut() {
        for (pieces, wanted) in [
            (&["data: 1\n\n", "data: 2\n\n"][..], &[0, 1][..]),
            (&["data: 1\n", "\n"], &[1]),
            (&["data: 1\r\n\r", "\ndata: 2\r\n\r\n"], &[0, 1]),
            (&["data: 1\r\rdata: 2\n\r"], &[0, 0]),
            (&["\n\n\n", ": keep\n\n"], &[1]),
            (&["data: 1", "\n"], &[]),
            (&[], &[]),
        ] {
            let mut events = Events::default();
            for (at_ms, piece) in (0..).zip(pieces) {
                events.feed(piece.as_bytes(), at_ms);
            }
            assert_eq!(events.into_times(), wanted, "{pieces:?}");
        }
    }

    #[test]
    fn only_the_first_thousand_are_noted() {
        let mut events = Events::default();
        events.feed(&b"data\n\n".repeat(5_000), 7);
        assert_eq!(events.into_times(), [7; EVENTS_MAX]);
    }
}
