//! What part of an endpoint's answers are failures: counted by answers, forgotten with time.

use std::ops::RangeInclusive;

/// One answer more counts for one in so many.
const ANSWERS: f32 = 8.0;
/// More is not remembered: the way back would be too long.
const MOST: f32 = 0.3;
/// Less is nothing.
const LEAST: f32 = 1.0 / 256.0;
/// Half of it is forgotten in so many milliseconds, or in ten response times.
const HALF_MS: RangeInclusive<f32> = 2_000.0..=5_000.0;

/// A part of failures, and when it was so.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Failing {
    part: f32,
    half_ms: f32,
    stamp_ms: u32,
}

impl Failing {
    /// 16 bits of the part, 16 of the half-life, 32 of the stamp; 0 is none.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "both are small and positive"
    )]
    pub(super) fn pack(self) -> u64 {
        if self.part < LEAST {
            return 0;
        }
        let part = (self.part * 65_535.0) as u64;
        (part << 48) | ((self.half_ms as u64) << 32) | u64::from(self.stamp_ms)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "parts of a word"
    )]
    pub(super) fn unpack(word: u64) -> Self {
        Self {
            part: (word >> 48) as f32 / 65_535.0,
            half_ms: ((word >> 32) & 0xFFFF) as f32,
            stamp_ms: word as u32,
        }
    }

    /// The part at this time; none where the endpoint was brought back since.
    #[expect(clippy::cast_possible_truncation, reason = "stamps wrap")]
    pub(super) fn part(self, up_since_ms: u64, now_ms: u32) -> f32 {
        let after_ms = (up_since_ms as u32).wrapping_sub(self.stamp_ms);
        if up_since_ms > 0 && i32::try_from(after_ms).is_ok_and(|ms| ms > 0) {
            0.0
        } else {
            self.left(now_ms)
        }
    }

    fn left(self, now_ms: u32) -> f32 {
        let age_ms = i32::try_from(now_ms.wrapping_sub(self.stamp_ms)).unwrap_or(0);
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let age_ms = age_ms.max(0) as f32;
        if self.part == 0.0 {
            0.0
        } else {
            self.part * (-age_ms / self.half_ms).exp2()
        }
    }

    /// After one failure more, where answers typically take so long.
    pub(super) fn charged(self, typical_us: f32, now_ms: u32) -> Self {
        let before = self.left(now_ms);
        Self {
            part: (before + (1.0 - before) / ANSWERS).min(MOST),
            half_ms: (typical_us / 100.0).clamp(*HALF_MS.start(), *HALF_MS.end()),
            stamp_ms: now_ms,
        }
    }

    /// After one good answer more.
    pub(super) fn forgiven(self, now_ms: u32) -> Self {
        Self {
            part: self.left(now_ms) * (1.0 - 1.0 / ANSWERS),
            stamp_ms: now_ms,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charged(times: u32, now_ms: u32) -> Failing {
        let charge = |failing: Failing, _| failing.charged(60_000.0, now_ms);
        (0..times).fold(Failing::default(), charge)
    }

    #[test]
    fn failures_add_up_to_a_bound_and_are_forgotten_by_half() {
        for (times, age_ms, expected) in [
            (0, 0, 0.0),
            (1, 0, 0.125),
            (2, 0, 0.234),
            (20, 0, 0.3),
            (20, 2_000, 0.15),
            (20, 6_000, 0.0375),
        ] {
            let failing = Failing::unpack(charged(times, 5_000).pack());
            let part = failing.part(0, 5_000 + age_ms);
            assert!((part - expected).abs() < 0.001, "{part} for {expected}");
        }
    }

    #[test]
    fn good_answers_forgive_until_nothing_is_left() {
        let mut failing = charged(3, 5_000);
        for answers in 0_u32.. {
            if failing.pack() == 0 {
                assert!((20..40).contains(&answers), "{answers}");
                break;
            }
            failing = failing.forgiven(5_000);
        }
    }

    #[test]
    fn who_was_brought_back_since_begins_anew() {
        let failing = charged(3, 5_000);
        assert!(failing.part(4_000, 5_000) > 0.29);
        assert!(failing.part(5_001, 5_002).abs() < f32::EPSILON);
    }

    #[test]
    fn slow_services_forget_more_slowly_within_bounds() {
        for (typical_us, half_ms) in [(1_000.0, 2_000), (300_000.0, 3_000), (9e6, 5_000)] {
            let failing = Failing::default().charged(typical_us, 0);
            let part = failing.part(0, half_ms);
            assert!((part - 0.0625).abs() < 0.001, "{part} after {half_ms} ms");
        }
    }
}
