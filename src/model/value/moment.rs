//! Points in time.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::model::decode::Wanted;

/// An RFC 3339 time, or a date that means its first moment in UTC: Unix milliseconds.
pub fn moment(text: &str) -> Result<i64, Wanted> {
    let parse = || {
        if is_date(text) {
            let date: Date = text.parse().ok()?;
            let midnight = date.to_zoned(TimeZone::UTC).ok()?;
            return Some(midnight.timestamp().as_millisecond());
        }
        // RFC 9557 adds bracketed annotations, which may contradict the offset.
        let plain = text.contains(['T', 't']) && !text.contains('[');
        let timestamp: Timestamp = text.parse().ok().filter(|_| plain)?;
        Some(timestamp.as_millisecond())
    };
    parse().ok_or_else(|| "a date such as 2027-01-31 or a time such as 2027-01-31T18:00:00Z or 2027-01-31T18:00:00+08:00".to_owned())
}

/// A time that `moment` reads as these Unix milliseconds; `None` beyond what can be said so.
pub fn moment_text(ms: i64) -> Option<String> {
    Some(Timestamp::from_millisecond(ms).ok()?.to_string())
}

fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(at, byte)| match at {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_its_first_moment_in_utc() {
        for (text, wanted) in [
            ("1970-01-02", Some(86_400_000)),
            ("1970-01-02T00:00:00Z", Some(86_400_000)),
            ("1970-01-02t08:00:00.5+08:00", Some(86_400_500)),
            ("2024-02-29", Some(1_709_164_800_000)),
            ("2023-02-29", None),
            ("1970-01-02T00:00:00", None),
            ("1970-01-02T00:00:00+08:00[Asia/Shanghai]", None),
            ("19700102", None),
            ("1970-1-2", None),
            ("86400", None),
            ("", None),
        ] {
            assert_eq!(moment(text).ok(), wanted, "{text}");
        }
    }
}
