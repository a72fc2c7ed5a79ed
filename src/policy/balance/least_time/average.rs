//! How long an endpoint takes to answer: an average that forgets with time.
//!
//! An exponentially weighted moving average over irregular times (Eckner 2012): a sample counts for
//! the time since the last one, as in Finagle's `PeakEwma`. What differs is what a single
//! answer may do: one slow answer of a healthy endpoint must not banish it (Traefik issue 12306), so it
//! counts as an outlier, and the first answers, slow for cold caches and handshakes, as the fastest of
//! them. A slowness that lasts is believed after a few answers, and meanwhile seen by the silence.

/// Answers until an average is one.
const WARM: u32 = 4;
/// Answers beyond which the count does not go: each new one counts for at least one in so many.
const COUNT_MAX: u32 = 31;
/// An average counts as so many answers more than made it: the first after `WARM` is one of eight.
const BEFORE: u64 = 4;
/// A slower answer counts as no more than so many averages.
const OUTLIER: f32 = 4.0;
/// The largest part of a new average that one slower answer is.
const SLOWER_MOST: f32 = 0.4;

/// An average, how many answers made it, and when the last of them came.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Average {
    us: f32,
    count: u32,
    stamp_ms: u32,
}

impl Average {
    /// The upper 24 bits of the average, 8 bits of the count, 32 of the stamp; 0 is unknown.
    pub(super) fn pack(self) -> u64 {
        let upper = (self.us.to_bits() & !0xFF) | self.count;
        (u64::from(upper) << 32) | u64::from(self.stamp_ms)
    }

    #[expect(clippy::cast_possible_truncation, reason = "halves of a word")]
    pub(super) fn unpack(word: u64) -> Self {
        let upper = (word >> 32) as u32;
        Self {
            us: f32::from_bits(upper & !0xFF),
            count: upper & 0xFF,
            stamp_ms: word as u32,
        }
    }

    /// The average in microseconds, where there was an answer.
    pub(super) fn known_us(self) -> Option<f32> {
        (self.count > 0).then_some(self.us)
    }

    /// Whether there were answers enough to go by.
    pub(super) fn is_warm(self) -> bool {
        self.count >= WARM
    }

    /// How long ago the last answer came, in time constants.
    pub(super) fn age(self, now_ms: u32) -> f32 {
        let age_ms = i32::try_from(now_ms.wrapping_sub(self.stamp_ms)).unwrap_or(0);
        float(age_ms.unsigned_abs().into()) / constant_ms(self.us)
    }

    /// After one more answer; 0 says nothing about its time.
    pub(super) fn fed(self, elapsed_us: u64, now_ms: u32) -> Self {
        if elapsed_us == 0 {
            return self;
        }
        let elapsed = float(elapsed_us);
        let us = if self.count == 0 {
            elapsed
        } else if self.count < WARM {
            self.us.min(elapsed)
        } else {
            let sample = elapsed.min(OUTLIER * self.us);
            let by_time = 1.0 - (-self.age(now_ms)).exp();
            let by_count = 1.0 / float(u64::from(self.count) + BEFORE);
            let most = if sample > self.us { SLOWER_MOST } else { 1.0 };
            self.us + by_time.max(by_count).min(most) * (sample - self.us)
        };
        Self {
            us,
            count: (self.count + 1).min(COUNT_MAX),
            stamp_ms: now_ms,
        }
    }

    /// After an answer that did not come, and would have taken at least so long.
    pub(super) fn raised(self, elapsed_us: u64, now_ms: u32) -> Self {
        let elapsed = float(elapsed_us);
        if self.count == 0 || elapsed <= self.us {
            return self;
        }
        Self {
            us: elapsed,
            stamp_ms: now_ms,
            ..self
        }
    }
}

/// What went before counts for 1/e after this time: longer for a service whose calls take seconds.
fn constant_ms(average_us: f32) -> f32 {
    (average_us * (4.0 / 1000.0)).clamp(1_000.0, 10_000.0)
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn float(number: u64) -> f32 {
    number as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An average after so many answers, each so many milliseconds after the one before.
    fn fed(answers: u32, us: u64, gap_ms: u32) -> Average {
        let samples = (1..=answers).map(|n| n * gap_ms);
        samples.fold(Average::default(), |average, at| average.fed(us, at))
    }

    #[test]
    fn what_is_packed_comes_out_again() {
        for average in [
            Average::default(),
            fed(1, 1, 1),
            fed(40, 123_456, 7),
            fed(3, u64::MAX, 1),
        ] {
            let again = Average::unpack(average.pack());
            assert!((again.us - average.us).abs() <= average.us / 10_000.0);
            assert_eq!(
                (again.count, again.stamp_ms),
                (average.count, average.stamp_ms)
            );
        }
        assert_eq!(Average::unpack(0).known_us(), None);
    }

    #[test]
    fn the_first_answers_count_as_the_fastest_of_them() {
        assert_eq!(Average::default().fed(0, 1), Average::default());
        let cold = Average::default()
            .fed(90_000, 1)
            .fed(2_000, 2)
            .fed(30_000, 3);
        assert_eq!((cold.known_us(), cold.is_warm()), (Some(2_000.0), false));
    }

    #[test]
    fn one_outlier_weighs_little_and_a_slowness_that_lasts_is_believed() {
        let us = |average: Average| average.known_us().expect("there were answers");
        for gap_ms in [0, 1, 10, 100] {
            let steady = fed(40, 10_000, gap_ms);
            let outlier = steady.fed(1_000_000, 40 * gap_ms + 10);
            assert!(us(outlier) < 13_000.0, "{outlier:?}");
        }
        let mut slow = fed(40, 10_000, 10);
        for n in 1..=30 {
            slow = slow.fed(80_000, 400 + n * 80);
        }
        assert!(us(slow) > 60_000.0, "{slow:?}");
    }

    #[test]
    fn after_a_long_pause_one_answer_is_enough_to_be_fast_again() {
        let recovered = fed(40, 480_000, 500).fed(60_000, 40_000);
        assert!(recovered.known_us() < Some(61_000.0), "{recovered:?}");
    }

    #[test]
    fn an_answer_that_did_not_come_raises_the_average_and_never_lowers_it() {
        let steady = fed(40, 10_000, 10);
        assert_eq!(steady.raised(9_000, 500), steady);
        assert_eq!(steady.raised(2_000_000, 500).known_us(), Some(2_000_000.0));
        assert_eq!(Average::default().raised(9_000, 500), Average::default());
    }

    #[test]
    fn age_is_in_response_times_within_bounds_and_survives_the_wrap_of_stamps() {
        for (us, age_ms, expected) in [
            (1_000, 500, 0.5),
            (500_000, 500, 0.25),
            (9_000_000, 5_000, 0.5),
        ] {
            let average = Average::default().fed(us, u32::MAX - 100);
            let age = average.age((u32::MAX - 100).wrapping_add(age_ms));
            assert!((age - expected).abs() < 0.001, "{age}");
        }
        // Another thread's clock was a little behind.
        assert!(fed(1, 1_000, 50).age(49).abs() < f32::EPSILON);
    }
}
