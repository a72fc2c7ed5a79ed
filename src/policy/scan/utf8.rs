//! UTF-8, checked piece by piece.

/// Where a piece stops being UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken {
    /// How much of the piece stands before the byte at fault.
    pub(super) good_until: usize,
    /// How many bytes earlier, in former pieces, the broken character began.
    pub(super) began_before: u64,
}

/// A character that a piece left unfinished.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    begun: [u8; 4],
    len: usize,
}

impl Utf8 {
    /// Looks at the next piece.
    pub(super) fn check(&mut self, piece: &[u8]) -> Result<(), Broken> {
        if self.len == 0 && piece.is_ascii() {
            return Ok(());
        }
        let mut rest = piece;
        while self.len > 0
            && let Some((&byte, tail)) = rest.split_first()
        {
            let held = self.len as u64;
            if let Some(slot) = self.begun.get_mut(self.len) {
                *slot = byte;
                self.len += 1;
            }
            let begun = self.begun.get(..self.len).unwrap_or_default();
            match std::str::from_utf8(begun).map_err(|error| error.error_len()) {
                Ok(_) => self.len = 0,
                Err(None) => {}
                Err(Some(_)) => {
                    let fed = (piece.len() - rest.len()) as u64;
                    return Err(Broken {
                        good_until: 0,
                        began_before: held - fed,
                    });
                }
            }
            rest = tail;
        }
        let Err(error) = std::str::from_utf8(rest) else {
            return Ok(());
        };
        let good = piece.len() - rest.len() + error.valid_up_to();
        if error.error_len().is_some() {
            return Err(Broken {
                good_until: good,
                began_before: 0,
            });
        }
        let left = piece.get(good..).unwrap_or_default();
        for (slot, byte) in self.begun.iter_mut().zip(left) {
            *slot = *byte;
        }
        self.len = left.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The offset of the first broken character when fed in pieces of `size`.
    fn broken_at(bytes: &[u8], size: usize) -> Option<u64> {
        let mut utf8 = Utf8::default();
        let mut seen = 0;
        for piece in bytes.chunks(size) {
            if let Err(broken) = utf8.check(piece) {
                return Some(seen + broken.good_until as u64 - broken.began_before);
            }
            seen += piece.len() as u64;
        }
        None
    }

    #[test]
    fn a_broken_character_is_found_at_its_beginning_however_it_is_cut() {
        for (bytes, want) in [
            (&b"plain"[..], None),
            (
                "zwei Stra\u{df}en, \u{5730}\u{5740}, \u{1f600}".as_bytes(),
                None,
            ),
            (b"\xff", Some(0)),
            (b"ab\xe4\xb8", None),
            (b"ab\xe4\xb8\"", Some(2)),
            (b"ab\xe4\"", Some(2)),
            (b"ab\xf0\x9f\x98x", Some(2)),
            (b"\xed\xa0\x80", Some(0)),
            (b"a\xc0\xaf", Some(1)),
            (b"\xe4\xb8\xad\xe4\xb8\xe4", Some(3)),
        ] {
            for size in 1..=bytes.len() {
                assert_eq!(broken_at(bytes, size), want, "{bytes:?} by {size}");
            }
        }
    }
}
