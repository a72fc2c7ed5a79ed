//! Texts of JSON: passed over quickly, kept only where they matter.

use memchr::memchr2;

use super::wrong::Wrong;

/// The key whose value names the service.
const KEY: &[u8] = b"server_name";

/// Texts longer than this are passed over with vector instructions.
const LONG: usize = 32;

/// The most bytes of a name that are kept; a longer one is no service's anyway.
const NAME_KEPT: usize = 1024;

/// What a text is to us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Role {
    /// A value that is passed over.
    #[default]
    Value,
    /// A key below the top level.
    Key,
    /// A key of the top level.
    TopKey,
    /// The name of the service.
    Name,
}

/// Where in an escape.
#[derive(Clone, Copy, Debug, Default)]
enum Inside {
    #[default]
    Plain,
    /// After a backslash.
    Escape,
    /// After `\u`, with so many digits to come.
    Hex(u8),
}

/// A text being read, from behind its opening quote.
#[derive(Debug, Default)]
pub(super) struct Text {
    pub(super) role: Role,
    inside: Inside,
    /// The digits after `\u` so far.
    unit: u16,
    /// The first half of a surrogate pair whose second half must follow.
    high: Option<u16>,
    /// How much of `KEY` a key has shown so far; `None`: it is another one.
    shown: Option<usize>,
    /// The name, as far as it is kept.
    kept: Vec<u8>,
}

impl Text {
    /// Begins anew, behind an opening quote.
    pub(super) fn open(&mut self, role: Role) {
        self.role = role;
        self.inside = Inside::Plain;
        self.shown = Some(0);
    }

    /// Whether the key that ended is the one that names the service.
    pub(super) fn is_the_key(&self) -> bool {
        self.shown == Some(KEY.len())
    }

    /// The name that ended, cut before a character that would not fit.
    pub(super) fn take_name(&mut self) -> String {
        let kept = std::mem::take(&mut self.kept);
        String::from_utf8(kept).unwrap_or_else(|error| {
            let cut = error.utf8_error().valid_up_to();
            let whole = error.as_bytes().get(..cut).unwrap_or_default();
            String::from_utf8_lossy(whole).into_owned()
        })
    }

    /// Reads on; true once the closing quote was read.
    pub(super) fn read(&mut self, rest: &mut &[u8]) -> Result<bool, Wrong> {
        while let Some((&byte, tail)) = rest.split_first() {
            match self.inside {
                Inside::Plain if byte == b'"' => {
                    self.refuse_half_pair()?;
                    *rest = tail;
                    return Ok(true);
                }
                Inside::Plain if byte == b'\\' => self.inside = Inside::Escape,
                Inside::Plain if byte < 0x20 => return Err(Wrong::Control),
                Inside::Plain => {
                    self.refuse_half_pair()?;
                    let (plain, after) = rest.split_at(plain_len(rest));
                    self.keep(plain);
                    *rest = after;
                    continue;
                }
                Inside::Escape => self.escape(byte)?,
                Inside::Hex(left) => self.hex(byte, left)?,
            }
            *rest = tail;
        }
        Ok(false)
    }

    fn escape(&mut self, byte: u8) -> Result<(), Wrong> {
        let meant = match byte {
            b'u' => {
                self.inside = Inside::Hex(4);
                self.unit = 0;
                return Ok(());
            }
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            _ => return Err(Wrong::NoEscape),
        };
        self.refuse_half_pair()?;
        self.keep(&[meant]);
        self.inside = Inside::Plain;
        Ok(())
    }

    fn hex(&mut self, byte: u8, left: u8) -> Result<(), Wrong> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => return Err(Wrong::NoHexDigit),
        };
        self.unit = self.unit << 4 | u16::from(digit);
        self.inside = if left > 1 {
            Inside::Hex(left - 1)
        } else {
            self.end_unit()?;
            Inside::Plain
        };
        Ok(())
    }

    /// Takes a unit of UTF-16, which may be half a character.
    fn end_unit(&mut self) -> Result<(), Wrong> {
        match self.role {
            Role::Value | Role::Key => return Ok(()),
            Role::TopKey | Role::Name => {}
        }
        let units = self.high.take().into_iter().chain([self.unit]);
        for unit in char::decode_utf16(units) {
            match unit {
                Ok(char) => self.keep(char.encode_utf8(&mut [0; 4]).as_bytes()),
                // Our key has no such characters, so this is another key.
                Err(_) if self.role == Role::TopKey => self.shown = None,
                Err(half)
                    if half.unpaired_surrogate() < 0xdc00
                        && self.unit == half.unpaired_surrogate() =>
                {
                    self.high = Some(self.unit);
                }
                Err(_) => return Err(Wrong::HalfPair),
            }
        }
        Ok(())
    }

    fn refuse_half_pair(&self) -> Result<(), Wrong> {
        match self.high {
            Some(_) => Err(Wrong::HalfPair),
            None => Ok(()),
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        match self.role {
            Role::Value | Role::Key => {}
            Role::TopKey => {
                self.shown = self
                    .shown
                    .filter(|shown| KEY.get(*shown..).is_some_and(|k| k.starts_with(bytes)))
                    .map(|shown| shown + bytes.len());
            }
            Role::Name => {
                let room = NAME_KEPT.saturating_sub(self.kept.len());
                let fits = bytes.get(..room).unwrap_or(bytes);
                self.kept.extend_from_slice(fits);
            }
        }
    }
}

/// How many bytes at the beginning are neither a quote nor a backslash nor a control character.
pub(super) fn plain_len(bytes: &[u8]) -> usize {
    let short = plain_words(bytes.get(..LONG).unwrap_or(bytes));
    if short < LONG {
        return short;
    }
    short + plain_run(bytes.get(LONG..).unwrap_or_default())
}

/// The same word by word: quick to begin with.
fn plain_words(bytes: &[u8]) -> usize {
    let (words, rest) = bytes.as_chunks();
    for (at, word) in words.iter().enumerate() {
        let ends = ends(u64::from_le_bytes(*word));
        if ends != 0 {
            return at * 8 + ends.trailing_zeros() as usize / 8;
        }
    }
    let plain = rest.iter().take_while(|byte| !is_special(**byte));
    words.len() * 8 + plain.count()
}

/// The same for long texts: two loops of vector instructions, no branch for a byte.
fn plain_run(bytes: &[u8]) -> usize {
    let end = memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
    let run = bytes.get(..end).unwrap_or(bytes);
    if run.iter().fold(u8::MAX, |least, byte| least.min(*byte)) >= 0x20 {
        return end;
    }
    let control = run.iter().position(|byte| *byte < 0x20);
    control.unwrap_or(end)
}

fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..0x20)
}

/// Eight bytes at a time: the lowest bit set is the top bit of the first byte that ends a run of
/// plain ones. Borrows may set bits of later bytes, never of earlier ones.
fn ends(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x80 * ONES;
    let is_zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let quote = is_zero(word ^ (ONES * u64::from(b'"')));
    let backslash = is_zero(word ^ (ONES * u64::from(b'\\')));
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (quote | backslash | control) & TOPS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_plain_bytes_ends_at_the_first_special_one_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            let special = byte < 0x20 || byte == b'"' || byte == b'\\';
            for len in (0..40).chain([95, 200]) {
                for at in 0..len {
                    let mut bytes = vec![b'!'; len];
                    bytes[at] = byte;
                    if at % 3 == 0 {
                        bytes[len - 1] = b'"';
                    }
                    let by_hand = |b: &u8| *b < 0x20 || *b == b'"' || *b == b'\\';
                    let want = bytes.iter().position(by_hand).unwrap_or(len);
                    assert_eq!(plain_len(&bytes), want, "{bytes:?}");
                    assert!(special || at % 3 == 0 || want == len);
                }
            }
        }
    }
}
