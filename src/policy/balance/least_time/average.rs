//! How long an endpoint takes to answer: an average that forgets with time.
//!
//! An exponentially weighted moving average over irregular times (Eckner 2012): a sample counts for
//! the time since the last one, as in Finagle's `PeakEwma`. What differs is what single answers may
//! do: one slow answer of a healthy endpoint must not banish it (Traefik issue 12306), so a sample
//! counts for no more than `OUTLIER` averages, and the first answers, slow for cold caches and
//! handshakes, count as the fastest of them.

/// Answers until an average is one.
const WARM: u32 = 4;
/// Answers beyond which each new one still counts for at least one in so many.
const COUNT_MAX: u32 = 31;
/// A slower answer counts as so many averages.
const OUTLIER: f32 = 4.0;

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

    /// After one more answer.
    pub(super) fn fed(self, elapsed_us: u64, now_ms: u32) -> Self {
        let elapsed = float(elapsed_us).max(1.0);
        let us = if self.count == 0 {
            elapsed
        } else if self.count < WARM {
            self.us.min(elapsed)
        } else {
            let sample = elapsed.min(OUTLIER * self.us);
            let by_time = 1.0 - (-self.age(now_ms)).exp();
            let part = by_time.max(1.0 / float(u64::from(self.count) + 1));
            self.us + part * (sample - self.us)
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
