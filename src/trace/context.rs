//! Who caused a request, as `traceparent` says it (W3C Trace Context, section 3.2).

/// 16 bytes as lower-case hex digits, never all zero.
pub type TraceId = [u8; 32];
/// 8 bytes as lower-case hex digits, never all zero.
pub type SpanId = [u8; 16];

/// A span, and whether it is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace it belongs to.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
    /// Whether it is recorded.
    pub sampled: bool,
}

impl Context {
    /// Reads a `traceparent`; `None` where it is none. Versions to come are read as far as they are
    /// known.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (head, rest) = text.split_at_checked(55)?;
        let version = head.get(..2)?;
        let ends = match version {
            b"00" => rest.is_empty(),
            b"ff" => false,
            _ => rest.first().is_none_or(|next| *next == b'-'),
        };
        let dashes = [2, 35, 52].iter().all(|at| head.get(*at) == Some(&b'-'));
        let trace: TraceId = head.get(3..35)?.try_into().ok()?;
        let span: SpanId = head.get(36..52)?.try_into().ok()?;
        let flags = head.get(53..55)?;
        let digits = [version, &trace, &span, flags];
        let fine = ends
            && dashes
            && digits.into_iter().flatten().copied().all(is_digit)
            && trace != [b'0'; 32]
            && span != [b'0'; 16];
        let last = char::from(*flags.last()?).to_digit(16)?;
        fine.then_some(Self {
            trace,
            span,
            sampled: last & 1 == 1,
        })
    }

    /// The same as `traceparent` says it.
    #[must_use]
    pub fn header(&self) -> [u8; 55] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let (head, flags) = text.split_at_mut(53);
        let (head, span) = head.split_at_mut(36);
        if let (Some(place), Some(own)) = (head.get_mut(3..35), span.get_mut(..16)) {
            place.copy_from_slice(&self.trace);
            own.copy_from_slice(&self.span);
        }
        if self.sampled {
            flags.copy_from_slice(b"01");
        }
        text
    }
}

fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn what_is_read_is_written_again() {
        let context = Context::parse(GOOD.as_bytes()).expect("it is one");
        assert!(context.sampled);
        assert_eq!(context.header(), GOOD.as_bytes());
        let quiet = Context {
            sampled: false,
            ..context
        };
        assert!(quiet.header().ends_with(b"3331-00"));
    }

    #[test]
    fn only_what_the_standard_allows_is_taken() {
        for (from, to, wanted) in [
            ("-01", "-00", Some(false)),
            ("-01", "-03", Some(true)),
            ("-01", "-0f", Some(true)),
            ("-01", "-01-more", None),
            ("00-0af", "cc-0af", Some(true)),
            ("00-0af", "ff-0af", None),
            ("00-0af", "0-0af", None),
            ("0af7", "0AF7", None),
            ("-01", "-0g", None),
            ("-01", "-1", None),
            ("-01", "", None),
            ("-b7", "_b7", None),
            ("b7ad6b7169203331", "0000000000000000", None),
            (
                "0af7651916cd43dd8448eb211c80319c",
                "00000000000000000000000000000000",
                None,
            ),
        ] {
            let text = GOOD.replacen(from, to, 1);
            let read = Context::parse(text.as_bytes());
            assert_eq!(read.map(|it| it.sampled), wanted, "{text}");
        }
        let future = format!("{}-more", GOOD.replacen("00-", "01-", 1));
        assert!(Context::parse(future.as_bytes()).is_some());
        assert!(Context::parse(b"").is_none());
    }
}
