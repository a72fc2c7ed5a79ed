//! Numbers with and without units.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::model::decode::Wanted;
use crate::model::settings::Rate;

const NANOS: u128 = 1_000_000_000;

/// Units of time in nanoseconds; a plain number is seconds.
const TIMES: &[(&str, u128)] = &[
    ("", NANOS),
    ("ms", NANOS / 1000),
    ("s", NANOS),
    ("m", 60 * NANOS),
    ("h", 3600 * NANOS),
];

/// Units of size in bytes; a plain number is bytes.
const SIZES: &[(&str, u128)] = &[
    ("", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// What a rate counts by.
const PERIODS: &[(&str, u64)] = &[("s", 1), ("m", 60), ("h", 3600)];

/// Ten years: longer than any process runs, far from every overflow of a clock.
const DURATION_MAX: Duration = Duration::from_hours(87_600);

/// 1024 GiB: more than any body, small enough for every sum of sizes.
const SIZE_MAX: u64 = 1 << 40;

/// More than any gateway serves in an hour.
const RATE_MAX: u64 = 1_000_000_000_000;

/// A duration, also 0.
pub fn duration(text: &str) -> Result<Duration, Wanted> {
    time(text).ok_or_else(|| format!("{DURATION_FORM}, at most 87600h (10 years)"))
}

/// A duration long enough to be waited for.
pub fn nonzero_duration(text: &str) -> Result<Duration, Wanted> {
    time(text)
        .filter(|time| *time >= Duration::from_millis(1))
        .ok_or_else(|| format!("{DURATION_FORM}, at least 1ms, at most 87600h (10 years)"))
}

const DURATION_FORM: &str = "a duration such as 250ms, 30s, 5m or 1h";

fn time(text: &str) -> Option<Duration> {
    let nanos = quantity(text, TIMES)?;
    let seconds = u64::try_from(nanos / NANOS).ok()?;
    let rest = u32::try_from(nanos % NANOS).ok()?;
    Some(Duration::new(seconds, rest)).filter(|time| *time <= DURATION_MAX)
}

/// A size in bytes, also 0.
pub fn size(text: &str) -> Result<u64, Wanted> {
    sized(text, 0)
}

/// A size of at least one byte.
pub fn nonzero_size(text: &str) -> Result<u64, Wanted> {
    sized(text, 1)
}

fn sized(text: &str, least: u64) -> Result<u64, Wanted> {
    quantity(text, SIZES)
        .and_then(|bytes| u64::try_from(bytes).ok())
        .filter(|bytes| (least..=SIZE_MAX).contains(bytes))
        .ok_or_else(|| {
            format!("a size such as 65536, 64KiB, 1MiB or 2GiB, at least {least}, at most 1024GiB")
        })
}

/// A rate above 0.
pub fn rate(text: &str) -> Result<Rate, Wanted> {
    let parse = || {
        let (count, unit) = text.split_once('/')?;
        let count = digits(count).filter(|count| (1..=RATE_MAX).contains(count))?;
        let (_, seconds) = PERIODS.iter().find(|(name, _)| *name == unit)?;
        let per = Duration::from_secs(*seconds);
        Some(Rate { count, per })
    };
    parse().ok_or_else(|| {
        "a rate such as 100/s, 6000/m or 50000/h, with a whole number above 0".to_owned()
    })
}

/// A text that `rate` reads as this rate, which it made.
pub fn rate_text(rate: Rate) -> String {
    let mut periods = PERIODS.iter();
    let unit = periods.find(|(_, seconds)| *seconds == rate.per.as_secs());
    format!("{}/{}", rate.count, unit.map_or("s", |(name, _)| name))
}

/// A share of a whole, 0 to 1.
pub fn share(text: &str) -> Result<f64, Wanted> {
    parse_share(text).ok_or_else(|| format!("{SHARE_FORM}, at most 100%"))
}

/// A share between these bounds.
pub fn share_within(range: RangeInclusive<f64>) -> impl Fn(&str) -> Result<f64, Wanted> {
    move |text| {
        let percent = |bound: &f64| bound * 100.0;
        parse_share(text)
            .filter(|share| range.contains(share))
            .ok_or_else(|| {
                let (least, most) = (percent(range.start()), percent(range.end()));
                format!("{SHARE_FORM}, from {least}% to {most}%")
            })
    }
}

const SHARE_FORM: &str = "a share such as 10% or 0.1";

fn parse_share(text: &str) -> Option<f64> {
    let (number, whole) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    let share = decimal(number)? / whole;
    (share <= 1.0).then_some(share)
}

/// A part of the traffic above 0, in percent with or without the sign: in thousandths.
pub fn percent(text: &str) -> Result<u16, Wanted> {
    let number = text.strip_suffix('%').unwrap_or(text);
    let tenths = split_decimal(number).is_some_and(|(_, fraction)| fraction.len() <= 1);
    quantity(number, &[("", 10)])
        .and_then(|thousandths| u16::try_from(thousandths).ok())
        .filter(|thousandths| tenths && (1..=1000).contains(thousandths))
        .ok_or_else(|| "a percentage such as 5 or 0.5%, above 0, at most 100".to_owned())
}

/// A plain decimal number such as `1.2`, between these bounds.
pub fn number(range: RangeInclusive<f64>) -> impl Fn(&str) -> Result<f64, Wanted> {
    move |text| {
        decimal(text)
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("a number from {} to {}", range.start(), range.end()))
    }
}

/// A whole number between these bounds.
pub fn whole<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, Wanted>
where
    T: FromStr + PartialOrd + Display,
{
    move |text| {
        let plain = text.strip_prefix('-').unwrap_or(text);
        plain
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse().ok())
            .flatten()
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("a whole number from {} to {}", range.start(), range.end()))
    }
}

fn decimal(text: &str) -> Option<f64> {
    split_decimal(text)?;
    text.parse().ok()
}

fn quantity(text: &str, units: &[(&str, u128)]) -> Option<u128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = split_decimal(number)?;
    let mut sum = u128::from(digits(whole)?) * scale;
    if !fraction.is_empty() {
        let tenths = fraction.bytes().fold(1, |tenths, _| tenths * 10);
        sum += u128::from(digits(fraction)?) * scale / tenths;
    }
    Some(sum)
}

/// The digits before and after the point; no sign, no exponent, at most 15 and 9 of them.
fn split_decimal(text: &str) -> Option<(&str, &str)> {
    let (whole, fraction) = match text.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (text, ""),
    };
    let plain = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    let fits = (1..=15).contains(&whole.len()) && fraction.len() <= 9;
    (fits && plain(whole) && plain(fraction)).then_some((whole, fraction))
}

fn digits(text: &str) -> Option<u64> {
    let (whole, fraction) = split_decimal(text)?;
    fraction.is_empty().then(|| whole.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_bounds() {
        let ms = Duration::from_millis;
        for (text, wanted) in [
            ("0", Some(ms(0))),
            ("250ms", Some(ms(250))),
            ("1.5s", Some(ms(1500))),
            ("2", Some(ms(2000))),
            ("0.25", Some(ms(250))),
            ("5m", Some(ms(300_000))),
            ("0.5h", Some(ms(1_800_000))),
            ("0.000000001s", Some(Duration::from_nanos(1))),
            ("87600h", Some(DURATION_MAX)),
            ("87600.1h", None),
            ("999999999999999h", None),
            ("9999999999999999", None),
        ] {
            assert_eq!(duration(text).ok(), wanted, "{text}");
        }
        for bad in [
            "",
            " ",
            "s",
            ".5s",
            "1.s",
            "1..2",
            "+1s",
            "-1s",
            "1e3",
            "1S",
            "1 s",
            "1s ",
            "1ms2",
            "1d",
            "inf",
            "١s",
            "1.0000000001s",
        ] {
            assert_eq!(duration(bad).ok(), None, "{bad:?}");
        }
        assert!(nonzero_duration("0.0001ms").is_err());
        assert!(nonzero_duration("1ms").is_ok());
    }

    #[test]
    fn sizes_are_powers_of_two_or_plain_bytes() {
        for (text, wanted) in [
            ("0", Some(0)),
            ("65536", Some(65536)),
            ("64KiB", Some(65536)),
            ("1.5MiB", Some(1_572_864)),
            ("1024GiB", Some(SIZE_MAX)),
            ("1024.1GiB", None),
            ("64KB", None),
            ("64kib", None),
            ("64K", None),
        ] {
            assert_eq!(size(text).ok(), wanted, "{text}");
        }
    }

    #[test]
    fn rates_count_whole_events() {
        let per = |count, seconds| Rate {
            count,
            per: Duration::from_secs(seconds),
        };
        for (text, wanted) in [
            ("100/s", Some(per(100, 1))),
            ("6000/m", Some(per(6000, 60))),
            ("50000/h", Some(per(50_000, 3600))),
            ("1.5/s", None),
            ("1/", None),
            ("/s", None),
            ("1/s/s", None),
            ("1000000000001/s", None),
        ] {
            assert_eq!(rate(text).ok(), wanted, "{text}");
        }
    }

    #[test]
    fn shares_lie_between_nothing_and_all() {
        for (text, wanted) in [
            ("0", Some(0.0)),
            ("1", Some(1.0)),
            ("0.1", Some(0.1)),
            ("10%", Some(0.1)),
            ("0.1%", Some(0.001)),
            ("100%", Some(1.0)),
            ("100.1%", None),
            ("10", None),
            ("-1%", None),
            ("nan", None),
            ("1e-1", None),
            ("%", None),
        ] {
            assert_eq!(share(text).ok(), wanted, "{text}");
        }
        for (text, wanted) in [
            ("1", Some(10)),
            ("0.5%", Some(5)),
            ("100", Some(1000)),
            ("0", None),
            ("100.1", None),
            ("0.25", None),
        ] {
            assert_eq!(percent(text).ok(), wanted, "{text}");
        }
    }

    #[test]
    fn whole_numbers_stay_in_their_range() {
        assert_eq!(whole(-5..=5)("-5"), Ok(-5));
        assert_eq!(whole(0..=5_u32)("05"), Ok(5));
        for bad in ["", "-", "+1", "6", "--1", "1.0", "99999999999999999999"] {
            assert!(whole(-5..=5)(bad).is_err(), "{bad}");
        }
    }
}
