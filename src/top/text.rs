//! Numbers and moments in a few characters, for columns.

use jiff::Timestamp;

use crate::model::visible::is_obeyed;

/// A rate or a count: `0`, `0.3`, `12.4`, `345`, `12.3k`, `1.2M`.
#[must_use]
pub fn number(value: f64) -> String {
    let value = value.max(0.0);
    let text = match value {
        v if v < 99.95 => format!("{v:.1}"),
        v if v < 9_999.5 => format!("{v:.0}"),
        v if v < 999_950.0 => format!("{:.1}k", v / 1e3),
        v if v < 999_950_000.0 => format!("{:.1}M", v / 1e6),
        v => format!("{:.1}G", v / 1e9),
    };
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// A count.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "shown in a few digits")]
pub fn count(value: u64) -> String {
    number(value as f64)
}

/// A share: `0%`, `<.01%`, `0.52%`, `5.2%`, `52%`.
#[must_use]
pub fn share(value: f64) -> String {
    let percent = value.max(0.0) * 100.0;
    match percent {
        p if p <= 0.0 => "0%".to_owned(),
        p if p < 0.01 => "<.01%".to_owned(),
        p if p < 0.995 => format!("{p:.2}%"),
        p if p < 9.95 => format!("{p:.1}%"),
        p => format!("{p:.0}%"),
    }
}

/// A latency in milliseconds: `0.25ms`, `12.3ms`, `345ms`, `1.23s`, `45.6s`, `3.4m`.
#[must_use]
pub fn millis(ms: f64) -> String {
    match ms.max(0.0) {
        v if v < 9.995 => format!("{v:.2}ms"),
        v if v < 99.95 => format!("{v:.1}ms"),
        v if v < 999.5 => format!("{v:.0}ms"),
        v if v < 9_995.0 => format!("{:.2}s", v / 1e3),
        v if v < 99_950.0 => format!("{:.1}s", v / 1e3),
        v => format!("{:.1}m", v / 6e4),
    }
}

/// A length of time: `0.4s`, `12s`, `3m`, `2h`, `5d`.
#[must_use]
pub fn age(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        10_000..120_000 => format!("{}s", ms / 1000),
        120_000..7_200_000 => format!("{}m", ms / 60_000),
        7_200_000..172_800_000 => format!("{}h", ms / 3_600_000),
        _ => format!("{}d", ms / 86_400_000),
    }
}

/// The time of day of a Unix millisecond, UTC.
#[must_use]
pub fn clock(ms: u64) -> String {
    let moment = i64::try_from(ms).ok();
    let moment = moment.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    moment.map_or_else(String::new, |moment| {
        moment.strftime("%H:%M:%S").to_string()
    })
}

/// A text cut to so many characters, its end marked where something is missing. What a terminal
/// would obey instead of showing is replaced.
#[must_use]
pub fn cut(text: &str, most: usize) -> String {
    let plain = |c: char| if is_obeyed(c) { '?' } else { c };
    if text.chars().count() <= most {
        return text.chars().map(plain).collect();
    }
    let kept = text.chars().take(most.saturating_sub(1));
    kept.map(plain).chain(['…']).collect()
}

/// A count and its noun.
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_their_columns() {
        for (value, text) in [
            (0.0, "0"),
            (0.34, "0.3"),
            (12.0, "12"),
            (99.96, "100"),
            (9_999.0, "9999"),
            (9_999.6, "10.0k"),
            (12_345.0, "12.3k"),
            (999_960.0, "1.0M"),
            (2e9, "2.0G"),
        ] {
            assert_eq!(number(value), text, "{value}");
        }
        for (value, text) in [
            (0.0, "0%"),
            (0.000_01, "<.01%"),
            (0.0052, "0.52%"),
            (0.009_96, "1.0%"),
            (0.0996, "10%"),
            (1.0, "100%"),
        ] {
            assert_eq!(share(value), text, "{value}");
        }
        for (value, text) in [
            (0.254, "0.25ms"),
            (9.996, "10.0ms"),
            (99.96, "100ms"),
            (999.6, "1.00s"),
            (12_340.0, "12.3s"),
            (180_000.0, "3.0m"),
        ] {
            assert_eq!(millis(value), text, "{value}");
        }
        for (value, text) in [
            (450, "0.4s"),
            (12_900, "12s"),
            (150_000, "2m"),
            (7_200_000, "2h"),
            (200_000_000, "2d"),
        ] {
            assert_eq!(age(value), text, "{value}");
        }
        assert_eq!(clock(43_384_000), "12:03:04");
    }

    #[test]
    fn a_cut_text_says_so_and_commands_no_terminal() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("\u{1b}[2Jx", 9), "?[2Jx");
    }
}
