//! What the parts of the scanner find wrong, in one byte: it is returned for every byte of a body.

use super::ScanError;

/// A mistake whose place is known to whoever counts the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    NoObject,
    NoKey,
    NoColon,
    NoValue,
    NoNext,
    NoLiteral,
    NoDigit,
    NoEscape,
    NoHexDigit,
    HalfPair,
    Control,
    After,
    TooDeep,
    NameNotText,
    DuplicateName,
}

impl Wrong {
    /// The error, seen at this offset of the body.
    pub(super) fn at(self, offset: u64) -> ScanError {
        let what = match self {
            Self::NoObject => "no object",
            Self::NoKey => "no key",
            Self::NoColon => "no colon after a key",
            Self::NoValue => "no value",
            Self::NoNext => "neither a comma nor an end",
            Self::NoLiteral => "no such literal",
            Self::NoDigit => "a number lacks a digit",
            Self::NoEscape => "no such escape",
            Self::NoHexDigit => "no hexadecimal digit",
            Self::HalfPair => "half a surrogate pair",
            Self::Control => "a control character in a text",
            Self::After => "more after the object",
            Self::TooDeep => return ScanError::TooDeep,
            Self::NameNotText => return ScanError::NameNotText,
            Self::DuplicateName => return ScanError::DuplicateName,
        };
        ScanError::InvalidJson(what, offset)
    }
}
