//! Numbers of JSON, byte by byte.

use super::wrong::Wrong;

/// Where in a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    Exponent,
    Sign,
    Power,
}

impl Number {
    /// The beginning of a number with this byte, where one can begin with it.
    pub(super) fn begin(byte: u8) -> Option<Self> {
        match byte {
            b'-' => Some(Self::Minus),
            b'0' => Some(Self::Zero),
            b'1'..=b'9' => Some(Self::Whole),
            _ => None,
        }
    }

    /// Reads on; `None` means that the number ended before what is left.
    pub(super) fn read(mut self, rest: &mut &[u8]) -> Result<Option<Self>, Wrong> {
        while let Some((&byte, tail)) = rest.split_first() {
            self = match (self, byte) {
                (Self::Minus, b'0') => Self::Zero,
                (Self::Minus, b'1'..=b'9') | (Self::Whole, b'0'..=b'9') => Self::Whole,
                (Self::Zero | Self::Whole, b'.') => Self::Point,
                (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
                (Self::Zero | Self::Whole | Self::Fraction, b'e' | b'E') => Self::Exponent,
                (Self::Exponent, b'+' | b'-') => Self::Sign,
                (Self::Exponent | Self::Sign | Self::Power, b'0'..=b'9') => Self::Power,
                (Self::Minus | Self::Point | Self::Exponent | Self::Sign, _) => {
                    return Err(Wrong::NoDigit);
                }
                (Self::Zero | Self::Whole | Self::Fraction | Self::Power, _) => return Ok(None),
            };
            // A run of digits stays where it is.
            *rest = match self {
                Self::Whole | Self::Fraction | Self::Power => after_digits(tail),
                _ => tail,
            };
        }
        Ok(Some(self))
    }
}

fn after_digits(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit());
    bytes.get(end.unwrap_or(bytes.len())..).unwrap_or_default()
}
