//! Which service a body of the named entry asks for, found while it streams by; and a value in it,
//! where a setting asks for one.
//!
//! A strict reader of JSON (RFC 8259) that keeps nothing but the top-level `server_name`. Where a
//! body has several mistakes the first byte that is wrong decides, so the answer does not depend on
//! how the body was cut into pieces. Half of a surrogate pair is a mistake in the name only: in
//! texts that are passed over the grammar allows it.
//!
//! Invariant: memory is bounded whatever arrives, and no byte is held back or changed.

mod nesting;
mod number;
mod pointer;
mod text;
mod utf8;
mod wrong;

use std::borrow::Cow;

use nesting::{Nest, Nesting};
use number::Number;
pub use pointer::value_at;
use text::{Role, Text};
use utf8::Utf8;
use wrong::Wrong;

/// What is wrong with a body of the named entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// Not one JSON object: what is wrong, and the offset of the byte where it shows.
    #[error("{0} at byte {1}")]
    InvalidJson(&'static str, u64),
    /// Nested deeper than anybody means.
    #[error("nested too deep")]
    TooDeep,
    /// No `server_name` at the top level.
    #[error("server_name is missing")]
    MissingName,
    /// The `server_name` is not a text.
    #[error("server_name must be a text")]
    NameNotText,
    /// A second `server_name` at the top level.
    #[error("server_name is there twice")]
    DuplicateName,
}

impl ScanError {
    /// Whether the body is not JSON, as opposed to JSON that says the wrong thing.
    #[must_use]
    pub fn is_syntax(self) -> bool {
        matches!(self, Self::InvalidJson(..) | Self::TooDeep)
    }
}

/// The name in a whole body; the same answer as a [`Scanner`] fed with it in any pieces.
pub fn name_of(body: &[u8]) -> Result<Cow<'_, str>, ScanError> {
    let mut scanner = Scanner::new();
    scanner.feed(body)?;
    scanner.finish()?;
    match scanner.name {
        Name::Known(name) => Ok(Cow::Owned(name)),
        Name::Unseen | Name::Announced => Err(ScanError::MissingName),
    }
}

/// Read at once: what the first look brought near is still there at the second.
const NEAR: usize = 16 * 1024;

/// Reads one body piece by piece.
#[derive(Debug)]
pub struct Scanner {
    /// Bytes before the piece at hand.
    seen: u64,
    step: Step,
    text: Text,
    nesting: Nesting,
    utf8: Utf8,
    name: Name,
    failed: Option<ScanError>,
}

/// What may come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The opening brace.
    Start,
    /// A key or the end of an object.
    FirstKey,
    /// A key.
    Key,
    Colon,
    Value,
    /// A value or the end of an array.
    FirstValue,
    /// A comma or the end of what is open.
    Next,
    /// Nothing but white space.
    End,
    /// The inside of a text.
    Text,
    Number(Number),
    /// The rest of `true`, `false` or `null`, its next byte lowest.
    Literal(u32),
}

/// How far the name is known.
#[derive(Debug)]
enum Name {
    Unseen,
    /// Its key was read.
    Announced,
    Known(String),
}

impl Default for Scanner {
    fn default() -> Self {
        Self::new()
    }
}

impl Scanner {
    /// A scanner before the first byte.
    #[must_use]
    pub fn new() -> Self {
        Self {
            seen: 0,
            step: Step::Start,
            text: Text::default(),
            nesting: Nesting::default(),
            utf8: Utf8::default(),
            name: Name::Unseen,
            failed: None,
        }
    }

    /// Reads the next piece; after a mistake every further call repeats it.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), ScanError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        for part in piece.chunks(NEAR) {
            let result = self.read(part);
            self.seen += part.len() as u64;
            self.failed = result.err();
            result?;
        }
        Ok(())
    }

    /// Says that the body is over.
    pub fn finish(&mut self) -> Result<(), ScanError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = match (self.step, &self.name) {
            (Step::End, Name::Known(_)) => Ok(()),
            (Step::End, _) => Err(ScanError::MissingName),
            (Step::Start, _) => Err(ScanError::InvalidJson("no object", self.seen)),
            _ => Err(ScanError::InvalidJson("ends too early", self.seen)),
        };
        self.failed = result.err();
        result
    }

    /// The name, as soon as its text was read; one of more than 1024 bytes is cut.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        match &self.name {
            Name::Known(name) => Some(name),
            Name::Unseen | Name::Announced => None,
        }
    }

    fn read(&mut self, piece: &[u8]) -> Result<(), ScanError> {
        let Err(broken) = self.utf8.check(piece) else {
            return self.walk(piece);
        };
        // What stands before the broken character may be wrong already, and so may its first byte
        // where no text is open.
        let until = match broken.began_before {
            0 => broken.good_until + 1,
            _ => 0,
        };
        self.walk(piece.get(..until).unwrap_or(piece))?;
        let offset = self.seen + broken.good_until as u64 - broken.began_before;
        Err(ScanError::InvalidJson("not UTF-8", offset))
    }

    fn walk(&mut self, piece: &[u8]) -> Result<(), ScanError> {
        let mut rest = piece;
        while let Some((&byte, tail)) = rest.split_first() {
            let result = match self.step {
                Step::Text => self.inside_text(&mut rest),
                Step::Number(number) => number
                    .read(&mut rest)
                    .map(|number| self.step = number.map_or(Step::Next, Step::Number)),
                Step::Literal(to_come) => self.inside_literal(to_come, byte).map(|()| rest = tail),
                Step::Value | Step::FirstValue => self.value(byte).map(|()| rest = tail),
                _ => self.punctuation(byte).map(|()| rest = tail),
            };
            if let Err(wrong) = result {
                return Err(wrong.at(self.seen + (piece.len() - rest.len()) as u64));
            }
        }
        Ok(())
    }

    fn inside_text(&mut self, rest: &mut &[u8]) -> Result<(), Wrong> {
        if !self.text.read(rest)? {
            return Ok(());
        }
        self.step = match self.text.role {
            Role::Value => Step::Next,
            Role::Key => Step::Colon,
            Role::TopKey if !self.text.is_the_key() => Step::Colon,
            Role::TopKey => match self.name {
                Name::Unseen => {
                    self.name = Name::Announced;
                    Step::Colon
                }
                Name::Announced | Name::Known(_) => return Err(Wrong::DuplicateName),
            },
            Role::Name => {
                self.name = Name::Known(self.text.take_name());
                Step::Next
            }
        };
        Ok(())
    }

    fn inside_literal(&mut self, to_come: u32, byte: u8) -> Result<(), Wrong> {
        if to_come & 0xff != u32::from(byte) {
            return Err(Wrong::NoLiteral);
        }
        self.step = match to_come >> 8 {
            0 => Step::Next,
            more => Step::Literal(more),
        };
        Ok(())
    }

    fn value(&mut self, byte: u8) -> Result<(), Wrong> {
        if is_space(byte) {
            return Ok(());
        }
        if matches!(self.name, Name::Announced) {
            return match byte {
                b'"' => {
                    self.open_text(Role::Name);
                    Ok(())
                }
                _ if begins_value(byte) => Err(Wrong::NameNotText),
                _ => Err(Wrong::NoValue),
            };
        }
        match byte {
            b'"' => self.open_text(Role::Value),
            b'{' => return self.open(Nest::Object),
            b'[' => return self.open(Nest::Array),
            b']' if self.step == Step::FirstValue => self.close(),
            b't' => self.step = Step::Literal(u32::from_le_bytes(*b"rue\0")),
            b'f' => self.step = Step::Literal(u32::from_le_bytes(*b"alse")),
            b'n' => self.step = Step::Literal(u32::from_le_bytes(*b"ull\0")),
            _ => match Number::begin(byte) {
                Some(number) => self.step = Step::Number(number),
                None => return Err(Wrong::NoValue),
            },
        }
        Ok(())
    }

    fn punctuation(&mut self, byte: u8) -> Result<(), Wrong> {
        match (self.step, byte) {
            (_, byte) if is_space(byte) => {}
            (Step::FirstKey | Step::Key, b'"') => {
                self.open_text(match self.nesting.depth() {
                    1 => Role::TopKey,
                    _ => Role::Key,
                });
            }
            (Step::Colon, b':') => self.step = Step::Value,
            (Step::Next, b',') => {
                self.step = match self.nesting.innermost() {
                    Nest::Object => Step::Key,
                    Nest::Array => Step::Value,
                }
            }
            (Step::FirstKey, b'}') => self.close(),
            (Step::Next, b'}') if self.nesting.innermost() == Nest::Object => self.close(),
            (Step::Next, b']') if self.nesting.innermost() == Nest::Array => self.close(),
            (Step::Start, b'{') => return self.open(Nest::Object),
            (Step::Start, _) => return Err(Wrong::NoObject),
            (Step::FirstKey | Step::Key, _) => return Err(Wrong::NoKey),
            (Step::Colon, _) => return Err(Wrong::NoColon),
            (Step::End, _) => return Err(Wrong::After),
            _ => return Err(Wrong::NoNext),
        }
        Ok(())
    }

    fn open_text(&mut self, role: Role) {
        self.text.open(role);
        self.step = Step::Text;
    }

    fn open(&mut self, nest: Nest) -> Result<(), Wrong> {
        self.nesting.open(nest)?;
        self.step = match nest {
            Nest::Object => Step::FirstKey,
            Nest::Array => Step::FirstValue,
        };
        Ok(())
    }

    fn close(&mut self) {
        self.nesting.close();
        self.step = match self.nesting.depth() {
            0 => Step::End,
            _ => Step::Next,
        };
    }
}

#[inline]
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

fn begins_value(byte: u8) -> bool {
    matches!(byte, b'{' | b'[' | b't' | b'f' | b'n') || Number::begin(byte).is_some()
}

#[cfg(test)]
mod tests;
